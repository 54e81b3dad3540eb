"""Cancelled at every command, before and after its effect, both sites are as they were before.

Real hub, agents and simulated sites in one process: what the tables call the undo of a task must
be one for the fabrics too, and the same operation must succeed afterwards.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from service_hub.domain.jobs import Job, JobState
from service_hub.domain.protection import Operation, ProtectionState
from service_hub.domain.records import ProtectedItem
from service_hub.domain.scenarios import SCENARIOS, scenario_key
from tests.support.hub_world import HubWorld
from tests.support.kill_matrix import matrix_folder, quiet_logs
from tests.support.kill_programs import Trap
from tests.support.kill_stories import QUICK_WATCH_SECONDS, stories
from tests.support.kill_world import SITES, KillWorld, kill_world
from tests.support.simulator_estate import MACHINE
from wire_contract.vocabulary import RunState

UNTIL_PROTECTED = ("create_policy", "pair_clouds", "EnableProtection of Unprotected")
POINTS = ("agent.before_verb", "agent.after_verb")
CANCELLED = (Operation.PLANNED_FAILOVER, Operation.UNPLANNED_FAILOVER, Operation.TEST_FAILOVER)


class Gate:
    """Holds an agent at the nth command of an operation until it is opened."""

    def __init__(self) -> None:
        self._point, self._left = "", 0
        self.reached, self.opened = asyncio.Event(), asyncio.Event()

    def arm(self, point: str, nth: int) -> None:
        """Hold the agent that reaches this point for the nth time from now on."""
        self._point, self._left = point, nth
        self.reached, self.opened = asyncio.Event(), asyncio.Event()

    async def pass_by(self, program: str, name: str) -> None:
        """Wait here, if it is the place."""
        if program not in SITES or name != self._point:
            return
        self._left -= 1
        if self._left == 0:
            self.reached.set()
            await self.opened.wait()


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Gate:
    """A gate at every failpoint of both agents."""
    made = Gate()

    async def reach(trap: Trap, name: str) -> None:
        trap.reach_now(name)
        await made.pass_by(trap._program, name)

    monkeypatch.setattr(Trap, "reach", reach)
    return made


@asynccontextmanager
async def protected_machine() -> AsyncIterator[KillWorld]:
    """Run everything up to a protected machine."""
    with quiet_logs(), matrix_folder() as folder:
        async with kill_world(folder / "world", watch_seconds=QUICK_WATCH_SECONDS) as world:
            for name in UNTIL_PROTECTED:
                await stories()[name].ask(world)
                await world.settled(stories()[name].over)
            yield world


def commands_of(operation: Operation) -> int:
    """Return how many commands an operation sends when all goes well."""
    scenario = SCENARIOS[scenario_key(operation, unplanned=False)]
    return sum(len(spec.sides) for spec in scenario.tasks if spec.verb is not None)


async def newest_job(hub: HubWorld) -> Job:
    return [each.record for each in await hub.store.find(Job)][-1]


async def item_of(hub: HubWorld) -> ProtectedItem:
    found = await hub.store.get(ProtectedItem, MACHINE)
    assert found is not None
    return found.record


async def running_copies(world: KillWorld) -> list[str]:
    """Return where the machine, or a test of it, runs."""
    return [
        name
        for name, site in world.sites.items()
        for machine in site.fabric.store.machines.values()
        if site.fabric.host_of(machine).guests.run_state(machine) is RunState.RUNNING
        and (machine.hyperv_id == MACHINE or machine.test_machine_of is not None)
    ]


async def ended(world: KillWorld, job_id: str) -> Job:
    """Return the job once it has ended."""
    found: Job | None = None

    async def holds() -> bool:
        nonlocal found
        present = await world.call(lambda hub: hub.store.get(Job, job_id))
        found = present.record
        return bool(found.finished)

    await world.until(holds, f"job {job_id} has ended")
    assert found is not None
    return found


async def cancel_at(
    world: KillWorld, gate: Gate, operation: Operation, place: tuple[str, int]
) -> Job:
    """Ask for an operation and cancel it when an agent has reached a place."""
    gate.arm(*place)
    await stories()[f"{operation.value} of Protected"].ask(world)
    await asyncio.wait_for(gate.reached.wait(), 30)
    job = await world.call(newest_job)
    identity = world.identity()
    await world.call(lambda hub: hub.jobs.cancel(hub.vault, job.id, identity))
    gate.opened.set()
    return await ended(world, job.id)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("operation", CANCELLED)
async def test_a_cancelled_operation_leaves_both_sites_as_they_were(
    gate: Gate, operation: Operation
) -> None:
    async with protected_machine() as world:
        before = await running_copies(world)
        assert before == ["tokyo"]
        for point in POINTS:
            for nth in range(1, commands_of(operation) + 1):
                job = await cancel_at(world, gate, operation, (point, nth))
                words = f"{point} {nth}: {[error.provider_message for error in job.errors]}"
                assert job.state is JobState.CANCELLED, words
                assert not job.undo_incomplete, words
                item = await world.call(item_of)
                assert (item.state, item.current) == (ProtectionState.PROTECTED, None), words
                assert item.authority is item.active_location, words
                assert await running_copies(world) == before, words
        story = stories()[f"{operation.value} of Protected"]
        await story.ask(world)
        done = await ended(world, (await world.call(newest_job)).id)
        assert done.state is JobState.SUCCEEDED, done.errors


@pytest.mark.timeout(240)
async def test_a_cancelled_clean_up_leaves_a_test_that_can_be_cleaned_up(gate: Gate) -> None:
    async with protected_machine() as world:
        await stories()["TestFailover of Protected"].ask(world)
        await ended(world, (await world.call(newest_job)).id)
        for nth in (1, 2):
            gate.arm("agent.before_verb", nth)
            await stories()["TestFailoverCleanup of TestFailoverOpen"].ask(world)
            await asyncio.wait_for(gate.reached.wait(), 30)
            job = await world.call(newest_job)
            identity = world.identity()
            await world.call(
                lambda hub, job=job, identity=identity: hub.jobs.cancel(hub.vault, job.id, identity)
            )
            gate.opened.set()
            job = await ended(world, job.id)
            item = await world.call(item_of)
            if job.state is JobState.SUCCEEDED:  # cancelled too late: the machine was removed
                assert (nth, item.state) == (2, ProtectionState.PROTECTED)
                return
            assert item.state is ProtectionState.TEST_OPEN
        await stories()["TestFailoverCleanup of TestFailoverOpen"].ask(world)
        job = await ended(world, (await world.call(newest_job)).id)
        assert job.state is JobState.SUCCEEDED
