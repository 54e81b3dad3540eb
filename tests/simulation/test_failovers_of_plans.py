"""What a plan does when a machine fails, by the kind of failover; and one machine out of a plan.

Planned failovers and tests stop at the group in which something fails, an unplanned one goes on
(behaviour.md, 2.7); an open test keeps every failover away, of the machine and of its plan.
"""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from service_hub.domain.jobs import Job, JobState, TaskState
from service_hub.domain.plan_runs import run_request
from service_hub.domain.protection import Operation, ProtectionState
from service_hub.domain.recovery_plans import GroupType, RecoveryGroup, RecoveryPlan, arranged
from service_hub.ports.changes import NEW, Change, Save
from tests.support.hub_world import HubWorld, hub_world
from tests.support.many_items import Answer, Sites, an_item, furnish, item_id, stored_item
from wire_contract.events import Assignment
from wire_contract.reports import ProviderError
from wire_contract.vocabulary import Direction

O, S = Operation, ProtectionState  # noqa: E741 -- one letter, as in the table itself
AHEAD = {"failover_direction": "PrimaryToRecovery"}
PLAN = RecoveryPlan(
    id="plan",
    vault_id="vault",
    name="Payroll",
    primary_provider_id="tokyo-provider",
    recovery_provider_id="osaka-provider",
    groups=arranged(
        [
            RecoveryGroup(group_type=GroupType.BOOT, members=(item_id(1), item_id(2))),
            RecoveryGroup(group_type=GroupType.BOOT, members=(item_id(3),)),
        ]
    ),
)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[HubWorld]:
    async with hub_world(tmp_path) as world:
        await furnish(world, *(an_item(number) for number in (1, 2, 3)))
        yield world


async def begun(world: HubWorld, operation: Operation) -> Job:
    """Begin an operation on the plan, as a request for it does."""
    items = {item_id(number): await stored_item(world, number) for number in (1, 2, 3)}
    request = run_request(PLAN, operation, AHEAD, Direction.PRIMARY_TO_RECOVERY, items)
    return await world.plans.start_plan(world.vault, request, world.identity())


async def asked(world: HubWorld, operation: Operation, number: int) -> Job:
    """Ask for an operation on one machine."""
    return await world.protection.request(
        world.vault, item_id(number), operation.value, AHEAD, world.identity()
    )


def failing_for(number: int) -> Answer:
    """Return answers that refuse to fail over, or to make, the copy of one machine."""

    def answer(assignment: Assignment) -> ProviderError | None:
        verbs = {"fail_over", "create_test_machine"}
        fails = assignment.verb in verbs and assignment.item == item_id(number)
        return ProviderError(code=32768, message="no") if fails else None

    return answer


@pytest.mark.parametrize(
    ("operation", "goes_on", "left", "reached"),
    [
        (O.PLANNED_FAILOVER, False, S.PROTECTED, S.PLANNED_FAILED_OVER),
        (O.TEST_FAILOVER, False, S.PROTECTED, S.TEST_OPEN),
        (O.UNPLANNED_FAILOVER, True, S.PROTECTED, S.UNPLANNED_FAILED_OVER),
    ],
)
async def test_an_unplanned_failover_goes_on_past_errors_and_the_others_stop(
    world: HubWorld,
    operation: Operation,
    left: ProtectionState,
    reached: ProtectionState,
    *,
    goes_on: bool,
) -> None:
    sites, job = Sites(world), await begun(world, operation)
    done = await sites.ended(job.id, failing_for(1))
    assert done.state is JobState.FAILED
    runs = [task for task in done.tasks if done.spec(task.task_id).group is not None]
    second = TaskState.SUCCEEDED if goes_on else TaskState.SKIPPED
    assert [task.state for task in runs] == [TaskState.FAILED, second]
    states = [(await stored_item(world, number)).state for number in (1, 2, 3)]
    assert states == [left, reached, reached if goes_on else S.PROTECTED]
    assert "Restart" in done.allowed_actions


@pytest.mark.parametrize("operation", [O.PLANNED_FAILOVER, O.TEST_FAILOVER])
async def test_a_plan_that_stopped_is_restarted_from_what_failed(
    world: HubWorld, operation: Operation
) -> None:
    sites, job = Sites(world), await begun(world, operation)
    await sites.ended(job.id, failing_for(1))
    before = list(sites.done)
    await world.jobs.restart(world.vault, job.id, world.identity())
    done = await sites.ended(job.id)
    assert done.state is JobState.SUCCEEDED
    assert not any(each.endswith(" 2") for each in sites.done[len(before) :]), "it had succeeded"
    assert any(each.endswith(" 3") for each in sites.done[len(before) :])


async def test_one_machine_is_failed_over_out_of_its_plan(world: HubWorld) -> None:
    await world.committer.commit(Change(saves=[Save(PLAN, NEW)]))
    sites, job = Sites(world), await asked(world, O.PLANNED_FAILOVER, 2)
    done = await sites.ended(job.id)
    assert done.state is JobState.SUCCEEDED
    states = [(await stored_item(world, number)).state for number in (1, 2, 3)]
    assert states == [S.PROTECTED, S.PLANNED_FAILED_OVER, S.PROTECTED]
    refused = await begun(world, O.PLANNED_FAILOVER)
    assert "web02" in refused.errors[0].possible_causes
    assert [(await stored_item(world, each)).plan for each in (1, 2, 3)] == [None] * 3


@pytest.mark.parametrize("operation", [O.PLANNED_FAILOVER, O.UNPLANNED_FAILOVER])
async def test_an_open_test_keeps_every_failover_away(
    world: HubWorld, operation: Operation
) -> None:
    sites = Sites(world)
    tested = await sites.ended((await asked(world, O.TEST_FAILOVER, 1)).id)
    assert tested.state is JobState.SUCCEEDED
    for job in (await asked(world, operation, 1), await begun(world, operation)):
        assert job.state is JobState.FAILED
        assert "Cleanup test failover pending" in job.errors[0].possible_causes
        assert job.tasks[0].state is TaskState.FAILED
    ended = await sites.ended((await asked(world, O.TEST_FAILOVER_CLEANUP, 1)).id)
    assert ended.state is JobState.SUCCEEDED
    over = await sites.ended((await asked(world, operation, 1)).id)
    assert over.state is JobState.SUCCEEDED
