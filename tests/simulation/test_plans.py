"""Plans through the real engine: locks on all items, groups in order, requests, kills."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from service_hub.domain.errors import (
    InvalidRequestError,
    JobRequestRefusedError,
    SignatureRequiredError,
)
from service_hub.domain.jobs import Job, JobState, TaskState
from service_hub.domain.plans import PlanGroup, PlanRequest, members_of
from service_hub.domain.protection import Operation, ProtectionState
from tests.support.hub_world import HubWorld, hub_world
from tests.support.many_items import Answer, Sites, an_item, furnish, item_id, stored_item, well
from wire_contract.events import Assignment
from wire_contract.reports import ProviderError

ITEMS = (1, 2, 3)
FORWARD = {"failover_direction": "PrimaryToRecovery"}


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[HubWorld]:
    async with hub_world(tmp_path) as world:
        await furnish(world, *(an_item(number) for number in ITEMS))
        yield world


def group(*numbers: int, action: str | None = None, go_on: bool = False) -> PlanGroup:
    """Return a group of these items."""
    members = tuple(item_id(number) for number in numbers)
    return PlanGroup(f"Group {numbers[0]}", members, action, go_on)


def request(*groups: PlanGroup, operation: Operation = Operation.PLANNED_FAILOVER) -> PlanRequest:
    """Return a request for a plan."""
    arguments = FORWARD if operation is Operation.PLANNED_FAILOVER else {}
    return PlanRequest("plan-id", "Payroll", operation, groups, arguments)


async def begun(world: HubWorld, *groups: PlanGroup) -> Job:
    """Begin a planned failover of these groups."""
    return await world.plans.start_plan(world.vault, request(*groups), world.identity())


async def held(world: HubWorld) -> set[int]:
    """Return which items a plan holds."""
    return {number for number in ITEMS if (await stored_item(world, number)).plan is not None}


async def until_free(world: HubWorld) -> None:
    """Return once no plan holds an item."""
    for _ in range(200):
        if not await held(world):
            return
        await world.committer.until_next()
    pytest.fail("the plan does not let its items go")


def failing(verb: str, number: int) -> Answer:
    """Return answers that fail at one verb on one item."""

    def answer(assignment: Assignment) -> ProviderError | None:
        fails = (assignment.verb, assignment.item) == (verb, item_id(number))
        return ProviderError(code=32768, message="no") if fails else None

    return answer


async def test_groups_run_in_order_and_their_items_are_held_until_the_end(
    world: HubWorld,
) -> None:
    sites, job = Sites(world), await begun(world, group(1, 2), group(3))
    assert await held(world) == {1, 2, 3}
    refused = await world.protection.request(
        world.vault, item_id(3), Operation.TEST_FAILOVER.value, FORWARD, world.identity()
    )
    assert [error.code for error in refused.errors] == ["532"]
    again = await begun(world, group(3))
    assert [error.code for error in again.errors] == ["532"]
    done = await sites.ended(job.id)
    assert (done.state, done.scenario.target_type) == (JobState.SUCCEEDED, "RecoveryPlan")
    starts = [each for each in sites.done if each.startswith("osaka start")]
    assert set(starts[:2]) == {"osaka start 1", "osaka start 2"}
    assert sites.done.index("tokyo shut_down 3") > max(map(sites.done.index, starts[:2]))
    await until_free(world)
    for number in ITEMS:
        item = await stored_item(world, number)
        assert (item.state, item.current) == (ProtectionState.PLANNED_FAILED_OVER, None)
    children = await world.jobs.children(world.vault, done)
    assert {each.item_id for each in children} == set(members_of(done))
    assert {each.state for each in children} == {JobState.SUCCEEDED}
    listed = [each.id for each in (await world.jobs.list(world.vault, {}, None, 100)).jobs]
    assert set(listed) == {job.id, refused.id, again.id}


async def test_one_busy_item_stops_the_whole_plan_before_it_begins(world: HubWorld) -> None:
    busy = await world.protection.request(
        world.vault, item_id(2), Operation.PLANNED_FAILOVER.value, FORWARD, world.identity()
    )
    job = await begun(world, group(1), group(2))
    assert (job.state, [error.code for error in job.errors]) == (JobState.FAILED, ["532"])
    assert {task.state for task in job.tasks} == {TaskState.SKIPPED}
    assert await held(world) == set()
    assert not busy.finished


@pytest.mark.parametrize(
    ("operation", "state", "code"),
    [
        (Operation.PLANNED_FAILOVER, ProtectionState.PLANNED_FAILED_OVER, "25014"),
        (Operation.COMMIT, ProtectionState.PROTECTED, "25009"),
        (Operation.REVERSE_REPLICATE, ProtectionState.PROTECTED, "25010"),
        (Operation.TEST_FAILOVER, ProtectionState.TEST_OPEN, "90010"),
    ],
)
async def test_items_that_are_not_ready_stop_the_plan_in_its_prerequisites(
    world: HubWorld, operation: Operation, state: ProtectionState, code: str
) -> None:
    await furnish(world, an_item(2, state))
    plan = request(group(1, 2), operation=operation)
    job = await world.plans.start_plan(world.vault, plan, world.identity())
    (error,) = job.errors
    assert (error.code, error.task_id) == (code, job.tasks[0].task_id)
    assert "web02" in error.possible_causes
    assert [task.state for task in job.tasks] == [TaskState.FAILED, TaskState.SKIPPED]
    assert await held(world) == set()


@pytest.mark.parametrize("groups", [(), (group(1), group(1)), (PlanGroup("Group 1", ()),)])
async def test_a_plan_names_each_machine_once(
    world: HubWorld, groups: tuple[PlanGroup, ...]
) -> None:
    with pytest.raises(InvalidRequestError):
        await begun(world, *groups)


async def test_a_vault_that_wants_signatures_starts_no_plan(world: HubWorld) -> None:
    strict = world.vault.model_copy(update={"requires_operator_signature": True})
    with pytest.raises(SignatureRequiredError):
        await world.plans.start_plan(strict, request(group(1)), world.identity())


async def test_the_same_plan_requested_again_runs_once(world: HubWorld) -> None:
    identity = world.identity("plan-once")
    job = await world.plans.start_plan(world.vault, request(group(1)), identity)
    await Sites(world).ended(job.id)
    again = await world.plans.start_plan(world.vault, request(group(1)), identity)
    assert again.id == job.id


async def test_a_failed_plan_goes_on_with_those_that_failed(world: HubWorld) -> None:
    sites, job = Sites(world), await begun(world, group(1, 2), group(3))
    failed = await sites.ended(job.id, failing("start", 2))
    assert (failed.state, failed.errors[-1].code) == (JobState.FAILED, "90018")
    await until_free(world)
    sites.done.clear()
    world.clock.time += world.clock.time.resolution
    restarted = await world.jobs.restart(world.vault, job.id, world.identity())
    assert restarted.state is JobState.IN_PROGRESS
    assert await held(world) == {1, 2, 3}
    done = await sites.ended(job.id)
    assert done.state is JobState.SUCCEEDED
    assert [each for each in sites.done if each.endswith((" 1", " 2"))] == ["osaka start 2"]
    await until_free(world)
    states = {(await stored_item(world, number)).state for number in ITEMS}
    assert states == {ProtectionState.PLANNED_FAILED_OVER}


async def test_a_plan_is_not_restarted_while_another_operation_holds_an_item(
    world: HubWorld,
) -> None:
    sites, job = Sites(world), await begun(world, group(1), group(3))
    await sites.ended(job.id, failing("shut_down", 1))
    await until_free(world)
    await world.protection.request(
        world.vault, item_id(3), Operation.PLANNED_FAILOVER.value, FORWARD, world.identity()
    )
    with pytest.raises(JobRequestRefusedError) as refused:
        await world.jobs.restart(world.vault, job.id, world.identity())
    assert refused.value.code == "532"
    assert await held(world) == set()


async def test_a_group_may_go_on_past_errors(world: HubWorld) -> None:
    sites, job = Sites(world), await begun(world, group(1, 2, go_on=True), group(3))
    done = await sites.ended(job.id, failing("shut_down", 1))
    assert done.state is JobState.FAILED
    assert "osaka start 3" in sites.done
    run = done.run("Group1Task")
    assert run is not None
    assert (run.succeeded_count, run.failed_count, run.failed_items) == (1, 1, (item_id(1),))


async def test_a_cancelled_plan_cancels_its_jobs_and_frees_its_items(world: HubWorld) -> None:
    sites, job = Sites(world), await begun(world, group(1, 2), group(3))
    await sites.until(job.id, lambda _: "tokyo shut_down 1" in sites.done)
    await world.jobs.cancel(world.vault, job.id, world.identity())
    done = await sites.ended(job.id)
    assert done.state is JobState.CANCELLED
    assert not [each for each in sites.done if each.endswith(" 3")]
    await until_free(world)
    assert {(await stored_item(world, number)).state for number in ITEMS} == {
        ProtectionState.PROTECTED
    }
    with pytest.raises(JobRequestRefusedError):
        await world.jobs.restart(world.vault, job.id, world.identity())


async def test_a_manual_action_waits_for_a_person_and_keeps_the_comments(world: HubWorld) -> None:
    sites = Sites(world)
    job = await begun(world, group(1), group(3, action="Look at the door."))
    waiting = await sites.until(job.id, lambda each: each.state is JobState.SUSPENDED)
    assert waiting.allowed_actions == ("Cancel", "Resume")
    assert "Look at the door." in (waiting.waiting_for or "")
    assert await held(world) == {1, 3}
    identity = world.identity("resume-once")
    await world.jobs.resume(world.vault, job.id, "it is locked", identity)
    done = await sites.ended(job.id)
    run = done.run("Group2ManualActionTask")
    assert (done.state, run and run.comments) == (JobState.SUCCEEDED, "it is locked")
    again = await world.jobs.resume(world.vault, job.id, "it is locked", identity)
    assert [each.action for each in again.requests] == ["Resume"]


@pytest.mark.parametrize("stops", [1, 4, 8])
async def test_a_hub_that_stops_in_the_middle_finishes_the_plan(tmp_path: Path, stops: int) -> None:
    async with hub_world(tmp_path) as world:
        await furnish(world, *(an_item(number) for number in ITEMS))
        job = await begun(world, group(1, 2), group(3))
        sites = Sites(world)
        await sites.until(job.id, lambda _: len(sites.done) >= stops, well)
    async with hub_world(tmp_path) as world:
        done = await Sites(world).ended(job.id)
        assert done.state is JobState.SUCCEEDED
        await until_free(world)
        states = {(await stored_item(world, number)).state for number in ITEMS}
        assert states == {ProtectionState.PLANNED_FAILED_OVER}
        assert len(await world.jobs.children(world.vault, done)) == len(ITEMS)
