"""First copies by a medium and at a time: hub, agents and sites are real, but for the wires."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import chdir
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from service_hub.domain.jobs import Job, JobState
from service_hub.domain.protection import Operation
from service_hub.domain.records import ContainerMapping
from tests.support.kill_first_copies import (
    AT_A_TIME,
    BY_MEDIUM,
    MEDIUM,
    POLICY,
    first_copy_stories,
)
from tests.support.kill_matrix import quiet_logs
from tests.support.kill_programs import clock_of
from tests.support.kill_stories import (
    QUICK_WATCH_SECONDS,
    WATCH_SECONDS,
    asking,
    create_policy,
    no_job_runs,
    pair,
)
from tests.support.kill_world import DISK_BYTES, KillWorld, kill_world, light_world
from tests.support.played_network import NetworkLoop, played_network
from tests.support.simulator_estate import MACHINE
from vmm_simulator.vmm.inventory import Edit, Inventory
from vmm_simulator.vmm.records import MachineRecord
from wire_contract.vocabulary import ReplicationMode, ReplicationState


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[KillWorld]:
    with light_world():
        async with kill_world(tmp_path, watch_seconds=QUICK_WATCH_SECONDS) as running:
            yield running


def copy_at(world: KillWorld, site: str, mode: ReplicationMode) -> MachineRecord:
    """Return the copy of this role at a site."""
    machines = world.sites[site].fabric.store.machines.values()
    (found,) = (each for each in machines if each.mode is mode)
    return found


def content(machine: MachineRecord) -> list[bytes]:
    """Return what is on the disks of a copy."""
    return [Path(disk.path).read_bytes() for disk in machine.disks]


def lies_there(folder: str) -> bool:
    """Return whether something is in a folder."""
    return any(Path(folder).iterdir())


async def test_a_copy_that_travels_is_brought_in_and_crosses_no_network(world: KillWorld) -> None:
    known = {story.name: story for story in first_copy_stories()}
    story = known[BY_MEDIUM]
    assert story.after is not None
    await known[story.after].ask(world)
    await world.settled(known[story.after].over)
    await story.ask(world)

    async def is_brought_in() -> bool:
        copies = world.sites["osaka"].fabric.store.machines.values()
        return any(each.state is ReplicationState.REPLICATING for each in copies)

    # Its primary hears of it with the next cycle, half a minute later.
    await world.until(is_brought_in, "the replica has the copy")
    primary = copy_at(world, "tokyo", ReplicationMode.PRIMARY)
    replica = copy_at(world, "osaka", ReplicationMode.REPLICA)
    assert content(primary) == content(replica)
    relationship = primary.relationship
    assert relationship is not None
    assert relationship.transferred_bytes < sum(DISK_BYTES) // 8, "half of it does not shrink"
    assert relationship.exported_to is not None
    assert lies_there(relationship.exported_to), "the medium has the copy"


async def test_a_pairing_waits_for_a_folder_that_is_fit(world: KillWorld) -> None:
    """The importing site's VMM service account may not write: both are told, nothing is paired."""
    store, identity = world.sites["osaka"].fabric.store, world.identity()

    def may_write(accounts: tuple[str, ...]) -> Any:
        def change(inventory: Inventory) -> Edit:
            shares = tuple(
                each.model_copy(update={"share_full_control": accounts})
                for each in inventory.fabric.file_shares
            )
            return Edit(put=(inventory.fabric.model_copy(update={"file_shares": shares}),))

        return change

    await store.edit(may_write(()))
    settings = POLICY | MEDIUM
    await world.call(lambda hub: hub.policies.create(hub.vault, "p", settings, identity))
    await world.settled(no_job_runs)
    await pair(world)
    job = await ended(world, "pair_clouds")
    assert job.state is JobState.FAILED
    (error,) = job.errors
    assert error.provider_code == 91012
    assert "full control of the share" in str(error.provider_message)
    assert await mapping_state(world) == "PairingFailed"
    await store.edit(may_write(("vmm-service",)))
    again = world.identity()
    await world.call(lambda hub: hub.jobs.restart(hub.vault, job.id, again))
    await world.settled(no_job_runs)
    assert await mapping_state(world) == "Paired"


async def test_a_copy_waits_for_the_time_of_its_policy(world: KillWorld) -> None:
    for ask in (create_policy, pair):
        await ask(world)
        await world.settled(no_job_runs)
    at, identity = datetime.now(UTC) + timedelta(hours=2), world.identity()
    settings = {"online_start_time": f"{at:%H:%M:%S}"}
    await world.call(lambda hub: hub.policies.change(hub.vault, "p", settings, identity))
    await world.settled(no_job_runs)
    await asking(Operation.ENABLE)(world)
    await world.settled(no_job_runs)
    relationship = world.sites["tokyo"].fabric.store.machines[MACHINE].relationship
    assert relationship is not None
    assert relationship.scheduled_at == at.replace(microsecond=0)
    assert (relationship.state, relationship.transferred_bytes) == (ReplicationState.READY, 0)


def test_a_copy_begins_at_its_time_and_not_before(tmp_path: Path) -> None:
    """Hub, agents and hosts by a played clock: nothing moves until then, and all is done after."""
    known = {story.name: story for story in first_copy_stories()}
    story, begin = known[AT_A_TIME], datetime.now(UTC)
    with quiet_logs(), played_network(), chdir(tmp_path):

        async def told() -> None:
            async with kill_world(Path("world"), watch_seconds=WATCH_SECONDS) as world:
                for ask in (create_policy, pair):
                    await ask(world)
                    await world.settled(no_job_runs)
                await story.ask(world)
                store = world.sites["tokyo"].fabric.store
                at: datetime | None = None

                async def has_its_time() -> bool:
                    nonlocal at
                    present = store.machines[MACHINE].relationship
                    at = None if present is None else present.scheduled_at
                    return at is not None

                await world.until(has_its_time, "the copy has its time")
                assert at is not None
                now = clock_of("a test").now
                assert now() < at
                seen = 0

                async def has_begun() -> bool:
                    nonlocal seen
                    before = now()
                    relationship = store.machines[MACHINE].relationship
                    assert relationship is not None
                    moved = relationship.state is not ReplicationState.READY
                    assert not moved or before >= at, "it began before its time"
                    seen += not moved
                    return moved

                await world.until(has_begun, "the copy has begun")
                assert seen, "it was seen to wait"
                await world.settled(story.over)
                source = copy_at(world, "tokyo", ReplicationMode.PRIMARY)
                assert source.state is ReplicationState.REPLICATING
                assert content(source) == content(copy_at(world, "osaka", ReplicationMode.REPLICA))

        with asyncio.Runner(loop_factory=lambda: NetworkLoop(begin, story.name)) as runner:
            runner.run(told())


async def ended(world: KillWorld, key: str) -> Job:
    """Return the one job of this scenario once it has ended."""

    async def found() -> Job | None:
        jobs: Any = await world.call(lambda hub: hub.store.find(Job))
        mine = [each.record for each in jobs if each.record.scenario_key == key]
        return mine[0] if mine and mine[0].finished else None

    async def holds() -> bool:
        return await found() is not None

    await world.until(holds, f"{key} has ended")
    job = await found()
    assert job is not None
    return job


async def mapping_state(world: KillWorld) -> str:
    """Return how the one pairing stands."""
    (found,) = await world.call(lambda hub: hub.store.find(ContainerMapping))
    return str(found.record.mapping_state)
