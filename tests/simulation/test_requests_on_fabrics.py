"""Cancel and restart where everything is real but the wires: hub, agents, journals, simulated VMM.

What was taken back must hold in the fabrics, and an operation must lead on from there.
"""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from service_hub.domain.jobs import Job, JobState, TaskState
from service_hub.domain.protection import Operation, ProtectionState
from service_hub.domain.records import ProtectedItem
from tests.support.hub_world import HubWorld
from tests.support.kill_stories import QUICK_WATCH_SECONDS, stories
from tests.support.kill_world import KillWorld, kill_world, light_world
from tests.support.simulator_estate import MACHINE
from wire_contract.faults import Fault
from wire_contract.vocabulary import RunState, Side, Verb

BEFORE = ("create_policy", "pair_clouds")
ENABLE = f"{Operation.ENABLE.value} of {ProtectionState.UNPROTECTED.value}"
FAILOVER_VERBS = (Verb.SHUT_DOWN, Verb.PREPARE_FAILOVER, Verb.FAIL_OVER, Verb.START)
SLOW_SECONDS = 0.2


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[KillWorld]:
    """Run everything, with a protected machine."""
    known = stories()
    with light_world():
        async with kill_world(tmp_path, watch_seconds=QUICK_WATCH_SECONDS) as running:
            for name in (*BEFORE, ENABLE):
                await known[name].ask(running)
                await running.settled(known[name].over)
            yield running


async def begun(world: KillWorld, operation: Operation) -> str:
    """Ask for an operation away from where the item runs; return its job's id."""
    identity = world.identity()
    item = await the_item(world)
    ahead = item.active_location is Side.PRIMARY
    direction = "PrimaryToRecovery" if ahead else "RecoveryToPrimary"

    async def ask(hub: HubWorld) -> Job:
        arguments = {"failover_direction": direction}
        return await hub.protection.request(
            hub.vault, MACHINE, operation.value, arguments, identity
        )

    job: Job = await world.call(ask)
    return job.id


async def the_item(world: KillWorld) -> ProtectedItem:
    """Return the item as it is stored."""
    found: Any = await world.call(lambda hub: hub.store.get(ProtectedItem, MACHINE))
    item: ProtectedItem = found.record
    return item


async def reaches(world: KillWorld, job_id: str, task: int) -> None:
    """Return once this task of a job has begun, or the job has ended."""

    async def holds() -> bool:
        job = await the_job(world, job_id)
        return job.finished or job.tasks[task].state is not TaskState.NOT_STARTED

    await world.until(holds, f"task {task} of the job has begun")


async def the_job(world: KillWorld, job_id: str) -> Job:
    """Return a job as it is stored."""
    job: Job = await world.call(lambda hub: hub.job(job_id))
    return job


async def ended(world: KillWorld, job_id: str) -> Job:
    """Return a job once it has ended."""

    async def holds() -> bool:
        return (await the_job(world, job_id)).finished

    await world.until(holds, "the job has ended")
    return await the_job(world, job_id)


def runs_at(world: KillWorld) -> list[str]:
    """Return the sites where a copy of the machine runs."""
    return [
        name
        for name, site in world.sites.items()
        for machine in site.fabric.store.machines.values()
        if site.fabric.host_of(machine).guests.run_state(machine) is RunState.RUNNING
    ]


async def test_cancelled_at_any_task_all_is_as_before_and_can_be_done_again(
    world: KillWorld,
) -> None:
    # First a test failover: its machine is gone again.
    machines = machine_count(world)
    slowed(world, Verb.PREPARE_TEST_MACHINE)
    assert (await cancelled(world, Operation.TEST_FAILOVER, 2)).state is JobState.CANCELLED
    await as_before(world)
    assert machine_count(world) == machines
    # Then a failover, at each task that a provider does.
    for task, verb in enumerate(FAILOVER_VERBS, start=1):
        slowed(world, verb)
        job = await cancelled(world, Operation.PLANNED_FAILOVER, task)
        assert (job.state, job.undo_incomplete, job.errors) == (JobState.CANCELLED, False, ())
        await as_before(world)
    # One that fails is restarted from the task that failed, once the cause is gone.
    faults = [Fault(kind="refuse", verb=Verb.START, code=32775)]
    world.sites["osaka"].faults.replace(faults)
    job_id = await begun(world, Operation.PLANNED_FAILOVER)
    assert (await ended(world, job_id)).state is JobState.FAILED
    assert runs_at(world) == []
    for site in world.sites.values():
        site.faults.replace([])
    identity = world.identity()
    await world.call(lambda hub: hub.jobs.restart(hub.vault, job_id, identity))
    job = await ended(world, job_id)
    assert (job.state, [task.attempt for task in job.tasks[:4]]) == (JobState.SUCCEEDED, [1] * 4)
    assert runs_at(world) == ["osaka"]
    item = await the_item(world)
    assert (item.state, item.epoch) == (ProtectionState.PLANNED_FAILED_OVER, job.epoch)


def slowed(world: KillWorld, verb: Verb) -> None:
    """Have one verb take so long everywhere that a request comes while it is done."""
    for site in world.sites.values():
        site.faults.replace([Fault(kind="slow", verb=verb, seconds=SLOW_SECONDS)])


async def cancelled(world: KillWorld, operation: Operation, task: int) -> Job:
    """Begin an operation and cancel it while this task of it is done; return its job's end."""
    job_id, identity = await begun(world, operation), world.identity()
    await reaches(world, job_id, task)
    await world.call(lambda hub: hub.jobs.cancel(hub.vault, job_id, identity))
    return await ended(world, job_id)


async def as_before(world: KillWorld) -> None:
    """Assert that the machine is protected and runs where it ran."""
    item = await the_item(world)
    assert (item.state, item.current, item.authority) == (
        ProtectionState.PROTECTED,
        None,
        Side.PRIMARY,
    )
    assert runs_at(world) == ["tokyo"]


def machine_count(world: KillWorld) -> int:
    """Return how many machines there are, copies and test machines too."""
    return sum(len(site.fabric.store.machines) for site in world.sites.values())
