"""Steps that the stories of jobs are told in: providers answered for, items brought to a state."""

from collections.abc import Callable

import pytest
from pydantic import JsonValue

from service_hub.domain.jobs import JobState
from service_hub.domain.protection import Operation, ProtectionState
from tests.support.hub_world import MACHINE_ID, HubWorld, machine, replication
from wire_contract.events import Assignment
from wire_contract.reports import MachineObserved, ProviderError, ReportBatch
from wire_contract.vocabulary import ReplicationMode, ReplicationState, Side

Answer = Callable[[Assignment], ProviderError | None]
STEPS_MAX = 2000


def well(_assignment: Assignment) -> ProviderError | None:
    """Answer that all went well."""
    return None


async def until_done(world: HubWorld, job_id: str, answer: Answer = well) -> list[str]:
    """Answer assignments as they come until the job has ended; return who did what, in order."""
    done: list[str] = []
    answered: set[str] = set()
    for _ in range(STEPS_MAX):
        job = await world.job(job_id)
        if job.finished:
            return done
        waiting = [
            (site, assignment)
            for site in ("tokyo", "osaka")
            for assignment in await world.assignments(site)
            if assignment.job == job_id and assignment.command_id not in answered
        ]
        for site, assignment in waiting[:1]:
            answered.add(assignment.command_id)
            done.append(f"{site} {assignment.verb} e{assignment.epoch}")
            await world.outcome(site, assignment, answer(assignment))
        if not waiting:
            await world.committer.until_next()
    pytest.fail(f"the job did not end: {job}")


async def ended(world: HubWorld, job_id: str) -> JobState:
    """Let a job end and return its state."""
    await until_done(world, job_id)
    return (await world.job(job_id)).state


async def observe(world: HubWorld, site: str, state: ReplicationState) -> None:
    """Report the item's copy at a site as being in this state."""
    item = await world.item()
    side = Side.PRIMARY if site == "tokyo" else Side.RECOVERY
    mode = ReplicationMode.PRIMARY if item.active_location is side else ReplicationMode.REPLICA
    view = machine(item.machine_at(side), site, replication(state, mode))
    report = MachineObserved(
        report_id=world.clock.new_id(), observed_at=world.clock.now(), machine=view
    )
    await world.reports.reports(
        world.providers[site], ReportBatch(journal_id="j", reports=(report,))
    )


async def paired(world: HubWorld) -> None:
    """Make a policy and pair the two clouds."""
    job = await world.policies.create(
        world.vault,
        "p",
        {"provider_type": "HyperVReplica2012R2", "replication_frequency_seconds": 30},
        world.identity(),
    )
    assert await ended(world, job.id) is JobState.SUCCEEDED
    job = await world.pairing.pair(
        world.vault,
        name="m",
        primary=("tokyo-fabric", "tokyo-cloud"),
        recovery=("osaka-fabric", "osaka-cloud"),
        policy_name="p",
        identity=world.identity(),
    )
    assert await ended(world, job.id) is JobState.SUCCEEDED


async def protected(world: HubWorld) -> None:
    """Bring the machine to Protected, in the recorded order."""
    await paired(world)
    job = await world.protection.enable(
        world.vault,
        container=("tokyo-fabric", "tokyo-cloud"),
        item_name=MACHINE_ID,
        machine_id=MACHINE_ID,
        policy_name="p",
        identity=world.identity(),
    )
    assert await until_done(world, job.id) == [
        "osaka place_replica e1",
        "tokyo enable_replication e1",
        "tokyo start_initial_replication e1",
        "tokyo update_protection e1",
        "osaka update_protection e1",
    ]
    await completed(world)


async def completed(world: HubWorld) -> None:
    """Let initial replication be observed to have ended, and both completions run."""
    assert (await world.item()).state is ProtectionState.INITIAL_REPLICATION
    await observe(world, "osaka", ReplicationState.REPLICATING)
    await observe(world, "tokyo", ReplicationState.REPLICATING)
    for _ in range(STEPS_MAX):
        item = await world.item()
        if item.current is not None:
            await until_done(world, item.current.job_id)
        if item.state is ProtectionState.PROTECTED:
            return
        if item.current is None:
            await world.committer.until_next()
    pytest.fail("the item did not become protected")


async def ask(world: HubWorld, operation: Operation, **arguments: JsonValue) -> str:
    """Ask for an operation and return its job's id."""
    job = await world.protection.request(
        world.vault, MACHINE_ID, operation.value, arguments, world.identity()
    )
    return job.id
