"""A replica that somebody removed at its own site keeps nobody from ending the protection."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from service_hub.domain.jobs import Job, JobState
from service_hub.domain.protection import Operation, ProtectionState
from service_hub.domain.records import ProtectedItem
from service_shell.clock import SystemClock
from tests.support.kill_stories import QUICK_WATCH_SECONDS, stories
from tests.support.kill_world import KillWorld, kill_world, light_world
from tests.support.simulator_estate import MACHINE
from wire_contract.faults import Fault
from wire_contract.vmm_interface import Command, VerbRequest
from wire_contract.vocabulary import ReplicationMode, Verb

BEFORE = (
    "create_policy",
    "pair_clouds",
    f"{Operation.ENABLE.value} of {ProtectionState.UNPROTECTED.value}",
)


async def removed_at_osaka(world: KillWorld) -> None:
    """End the replica's relationship there, as an administrator does, and delete the machine."""
    site = world.sites["osaka"]
    (replica,) = (
        each for each in site.fabric.store.machines.values() if each.mode is ReplicationMode.REPLICA
    )
    command = Command(
        id="console/by-hand/1",
        fence=1,
        epoch=replica.epoch,
        deadline=SystemClock().now() + timedelta(minutes=5),
    )
    request = VerbRequest(command=command, arguments={"delete_replica": True})
    await site.commands.run(Verb.DISABLE_REPLICATION, replica.machine_id, request)
    assert replica.machine_id not in site.fabric.store.machines


async def ended(world: KillWorld, operation: Operation) -> Job:
    """Ask for an operation; return its job once it has ended."""
    identity = world.identity()
    job: Job = await world.call(
        lambda hub: hub.protection.request(hub.vault, MACHINE, operation.value, {}, identity)
    )
    found: Callable[[Any], Any] = lambda hub: hub.job(job.id)  # noqa: E731 -- read twice

    async def holds() -> bool:
        present: Job = await world.call(found)
        return present.finished

    await world.until(holds, f"{operation.value} has ended")
    return await world.call(found)  # type: ignore[no-any-return]


@pytest.mark.parametrize("by_force", [False, True])
async def test_a_replica_removed_by_hand_does_not_hold_the_item(
    tmp_path: Path, by_force: bool
) -> None:
    known = stories()
    with light_world():
        async with kill_world(tmp_path, watch_seconds=QUICK_WATCH_SECONDS) as world:
            for name in BEFORE:
                await known[name].ask(world)
                await world.settled(known[name].over)
            await removed_at_osaka(world)
            if by_force:
                refusing = [Fault(kind="refuse", verb=Verb.DISABLE_REPLICATION, code=32769)]
                world.sites["osaka"].faults.replace(refusing)
                assert (await ended(world, Operation.DISABLE)).state is JobState.FAILED
                job = await ended(world, Operation.PURGE)
                assert {each.code for each in job.errors} == {"28020"}
            else:
                job = await ended(world, Operation.DISABLE)
                assert job.errors == ()
            assert job.state is JobState.SUCCEEDED
            assert await world.call(lambda hub: hub.store.get(ProtectedItem, MACHINE)) is None
            source = world.sites["tokyo"].fabric.store.machine(MACHINE)
            assert source.relationship is None
