"""Cancelled at every command, before and after its effect, both sites are as they were before.

Real hub, agents and simulated sites in one process: what the tables call the undo of a task must
be one for the fabrics too, and the same operation must succeed afterwards.
"""

import pytest

from service_hub.domain.jobs import JobState
from service_hub.domain.protection import Operation, ProtectionState
from service_hub.domain.scenarios import SCENARIOS, scenario_key
from tests.support.gated_world import (
    Gate,
    ask,
    cancel_at,
    ended,
    gates,
    item_of,
    newest_job,
    protected_machine,
    request,
    restart,
    running_copies,
)
from tests.support.kill_world import KillWorld
from tests.support.simulator_estate import MACHINE
from wire_contract.faults import Fault
from wire_contract.vocabulary import Verb

POINTS = ("agent.before_verb", "agent.after_verb")
CANCELLED = (Operation.PLANNED_FAILOVER, Operation.UNPLANNED_FAILOVER, Operation.TEST_FAILOVER)


def commands_of(operation: Operation) -> int:
    """Return how many commands an operation sends when all goes well."""
    scenario = SCENARIOS[scenario_key(operation, unplanned=False)]
    return sum(len(spec.sides) for spec in scenario.tasks if spec.verb is not None)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("operation", CANCELLED)
async def test_a_cancelled_operation_leaves_both_sites_as_they_were(operation: Operation) -> None:
    with gates() as gate:
        async with protected_machine() as world:
            assert await running_copies(world) == ["tokyo"]
            for point in POINTS:
                for nth in range(1, commands_of(operation) + 1):
                    await _cancel_and_look(world, gate, operation, (point, nth))
            await ask(world, operation)
            done = await ended(world, (await world.call(newest_job)).id)
            assert done.state is JobState.SUCCEEDED, done.errors


async def _cancel_and_look(
    world: KillWorld, gate: Gate, operation: Operation, place: tuple[str, int]
) -> None:
    job = await cancel_at(world, gate, operation, place)
    words = f"{place}: {[error.provider_message for error in job.errors]}"
    assert job.state is JobState.CANCELLED, words
    assert not job.undo_incomplete, words
    item = await world.call(item_of)
    assert (item.state, item.current) == (ProtectionState.PROTECTED, None), words
    assert item.authority is item.active_location, words
    assert await running_copies(world) == ["tokyo"], words


@pytest.mark.timeout(240)
async def test_a_cancelled_clean_up_leaves_a_test_that_can_be_cleaned_up() -> None:
    cleanup, state = Operation.TEST_FAILOVER_CLEANUP, ProtectionState.TEST_OPEN
    with gates() as gate:
        async with protected_machine() as world:
            await ask(world, Operation.TEST_FAILOVER)
            await ended(world, (await world.call(newest_job)).id)
            job = await cancel_at(world, gate, cleanup, ("agent.before_verb", 1), state)
            assert job.state is JobState.CANCELLED
            assert (await world.call(item_of)).state is state
            # Once the removal may have begun there is no way back: done, or to be done again.
            job = await cancel_at(world, gate, cleanup, ("agent.before_verb", 2), state)
            if job.state is JobState.CANCELLED:
                assert (await world.call(item_of)).state is state
                await ask(world, cleanup, state)
                job = await ended(world, (await world.call(newest_job)).id)
            assert job.state is JobState.SUCCEEDED
            assert (await world.call(item_of)).state is ProtectionState.PROTECTED


@pytest.mark.timeout(240)
async def test_what_could_not_be_taken_back_is_taken_back_by_a_restart_that_is_cancelled() -> None:
    with gates() as gate:
        async with protected_machine() as world:
            job_id = await _half_taken_back(world, gate)
            gate.arm("agent.before_verb", 1)
            await restart(world, job_id)
            job = await cancel_at(world, gate, None, ("agent.before_verb", 1))
            assert (job.id, job.state) == (job_id, JobState.CANCELLED)
            assert not job.undo_incomplete, job.errors
            assert await running_copies(world) == ["tokyo"]
            await ask(world, Operation.PLANNED_FAILOVER)
            job = await ended(world, (await world.call(newest_job)).id)
            assert job.state is JobState.SUCCEEDED, job.errors


@pytest.mark.timeout(240)
async def test_an_unplanned_failover_leads_on_from_what_could_not_be_taken_back() -> None:
    with gates() as gate:
        async with protected_machine() as world:
            await _half_taken_back(world, gate)
            await ask(world, Operation.UNPLANNED_FAILOVER)
            job = await ended(world, (await world.call(newest_job)).id)
            assert job.state is JobState.SUCCEEDED, job.errors
            item = await world.call(item_of)
            assert item.state is ProtectionState.UNPLANNED_FAILED_OVER
            assert await running_copies(world) == ["osaka"]


@pytest.mark.timeout(240)
async def test_a_planned_failover_leads_on_from_what_could_not_be_taken_back() -> None:
    planned, state = Operation.PLANNED_FAILOVER, ProtectionState.PLANNED_UNDO_FAILED
    with gates() as gate:
        async with protected_machine() as world:
            await _half_taken_back(world, gate)
            # Cancelled once the earlier failover is taken back: all is as before both of them.
            gate.arm("agent.before_verb", 3)
            await request(world, planned)
            job = await cancel_at(world, gate, None, ("agent.before_verb", 3), state)
            assert (job.state, job.undo_incomplete) == (JobState.CANCELLED, False), job.errors
            assert (await world.call(item_of)).state is ProtectionState.PROTECTED
            assert await running_copies(world) == ["tokyo"]
            await _half_taken_back(world, gate)
            await request(world, planned)
            job = await ended(world, (await world.call(newest_job)).id)
            assert job.state is JobState.SUCCEEDED, job.errors
            assert (await world.call(item_of)).state is ProtectionState.PLANNED_FAILED_OVER
            assert await running_copies(world) == ["osaka"]


async def _half_taken_back(world: KillWorld, gate: Gate) -> str:
    """Cancel a planned failover where the recovery site refuses to take it back."""
    refusal = Fault.model_validate(
        {"verb": Verb.CANCEL_FAILOVER, "kind": "refuse", "code": 32775, "times": 1}
    )
    world.sites["osaka"].faults.replace([refusal])
    job = await cancel_at(world, gate, Operation.PLANNED_FAILOVER, ("agent.before_verb", 4))
    assert (job.state, job.undo_incomplete) == (JobState.CANCELLED, True)
    item = await world.call(item_of)
    assert item.state is ProtectionState.PLANNED_UNDO_FAILED
    assert item.machine_at(item.authority) == MACHINE
    assert await running_copies(world) == ["tokyo"]
    return job.id
