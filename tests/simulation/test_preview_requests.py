"""Previews of plans, of purges and of what is asked of jobs: what then happens is what was said."""

import sqlite3
from collections.abc import AsyncIterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from service_hub.domain.errors import (
    ConflictError,
    InvalidRequestError,
    JobRequestRefusedError,
    NotFoundError,
)
from service_hub.domain.jobs import Job, JobState
from service_hub.domain.plans import PlanGroup, PlanRequest
from service_hub.domain.preview import Action, Course
from service_hub.domain.protection import Operation, ProtectionState
from service_hub.domain.records import Alert
from service_hub.looker_parts import LookerParts
from service_hub.looker_ports import Preview
from tests.support.hub_stories import paired
from tests.support.hub_world import HubWorld
from tests.support.looking_world import LEASE, looking
from tests.support.many_items import Sites, an_item, furnish, item_id, stored_item
from wire_contract.events import Assignment
from wire_contract.reports import ProviderError
from wire_contract.vocabulary import Side

FORWARD = {"failover_direction": "PrimaryToRecovery"}
SETTLED = 50


@pytest.fixture
async def both(tmp_path: Path) -> AsyncIterator[tuple[HubWorld, LookerParts]]:
    async with looking(tmp_path) as (world, parts):
        await furnish(world, *(an_item(number) for number in (1, 2, 3)))
        yield world, parts


def content(folder: Path) -> list[str]:
    with closing(sqlite3.connect(folder / "hub.db")) as connection:
        return list(connection.iterdump())


async def told(world: HubWorld, parts: LookerParts, action: str, target: str) -> Preview:
    """Preview what is asked of a job or a server."""
    return await parts.previews.preview(world.vault, action, target, {})


async def planned(world: HubWorld) -> Job:
    asked = Operation.PLANNED_FAILOVER.value
    return await world.protection.request(world.vault, item_id(1), asked, FORWARD, world.identity())


def refusing(verb: str, number: int = 1) -> Any:
    def answer(assignment: Assignment) -> ProviderError | None:
        fails = (assignment.verb, assignment.item) == (verb, item_id(number))
        return ProviderError(code=32768, message="no") if fails else None

    return answer


def courses(preview: Preview) -> Mapping[str, Course]:
    return {each.task.task_id: each.task.course for each in preview.tasks}


# --------------------------------------------------------------------------------- single jobs


async def test_a_cancellation_is_foreseen_as_it_then_happens(
    both: tuple[HubWorld, LookerParts],
) -> None:
    world, parts = both
    sites, job = Sites(world), await planned(world)
    await sites.until(job.id, lambda each: each.tasks[4].attempt > 0)
    preview = await told(world, parts, "Cancel", job.id)
    assert (preview.refusal, preview.operation) == (None, "Cancel")
    undone = [each.task for each in preview.tasks if each.task.course is Course.TAKEN_BACK]
    assert [each.task_id for each in undone] == [
        "StartVmOnSecondary!undo",
        "FailoverTask!undo",
        "PrepareForFailoverTask!undo",
        "ShutdownVmOnPrimary!undo",
    ]
    assert courses(preview)["StartVmOnSecondary"] is Course.STOPPED
    assert courses(preview)["ShutdownVmOnPrimary"] is Course.DONE_BEFORE
    assert [(each.action, each.side) for each in preview.effects] == [
        (Action.STOPPED, Side.RECOVERY),
        (Action.DISCARDED, Side.RECOVERY),
        (Action.STARTED, Side.PRIMARY),
    ]
    assert preview.loss.seconds is None
    assert "at the recovery side" in preview.loss.words
    await world.jobs.cancel(world.vault, job.id, world.identity())
    done = await sites.ended(job.id)
    assert done.state is JobState.CANCELLED
    happened = [(f"{step.task_id}!undo", step.verb, (step.side,)) for step in done.undo]
    assert happened == [(each.task_id, each.verb, each.sides) for each in undone]


async def test_a_restart_is_foreseen_as_it_then_happens(
    both: tuple[HubWorld, LookerParts],
) -> None:
    world, parts = both
    sites, job = Sites(world), await planned(world)
    await sites.ended(job.id, refusing("start"))
    preview = await told(world, parts, "restart", job.id)
    assert preview.refusal is None
    assert [each for each, course in courses(preview).items() if course is Course.RUNS] == [
        "StartVmOnSecondary"
    ]
    assert [each.action for each in preview.effects] == [Action.STARTED]
    sites.done.clear()
    await world.jobs.restart(world.vault, job.id, world.identity())
    assert (await sites.ended(job.id)).state is JobState.SUCCEEDED
    assert sites.done == ["osaka start 1"]


@pytest.mark.parametrize("action", ["Cancel", "Restart", "Resume"])
async def test_a_request_that_would_be_refused_has_its_code_and_words(
    both: tuple[HubWorld, LookerParts], action: str
) -> None:
    world, parts = both
    sites, job = Sites(world), await planned(world)
    await sites.ended(job.id)
    preview = await told(world, parts, action, job.id)
    requests = {
        "Cancel": world.jobs.cancel(world.vault, job.id, world.identity()),
        "Restart": world.jobs.restart(world.vault, job.id, world.identity()),
        "Resume": world.jobs.resume(world.vault, job.id, "", world.identity()),
    }
    request = requests.pop(action)
    for each in requests.values():
        each.close()
    with pytest.raises(JobRequestRefusedError) as refused:
        await request
    assert preview.refusal is not None
    assert (preview.refusal.code, preview.refusal.message) == (
        refused.value.code,
        str(refused.value),
    )
    assert (preview.effects, preview.duration.words) == ((), "nothing runs")


async def test_a_restart_is_refused_while_another_job_holds_the_machine(
    both: tuple[HubWorld, LookerParts],
) -> None:
    world, parts = both
    sites, job = Sites(world), await planned(world)
    await sites.ended(job.id, refusing("prepare_failover"))
    await planned(world)
    preview = await told(world, parts, "Restart", job.id)
    assert preview.refusal is not None
    assert preview.refusal.code == "532"
    with pytest.raises(NotFoundError):
        await told(world, parts, "Restart", "nothing")


async def test_nothing_is_changed_by_looking(tmp_path: Path) -> None:
    async with looking(tmp_path) as (world, parts):
        await furnish(world, *(an_item(number) for number in (1, 2, 3)))
        sites, job = Sites(world), await planned(world)
        await sites.until(job.id, lambda each: each.tasks[1].attempt > 0)
        before = content(tmp_path)
        for action in ("Cancel", "Restart", "Resume"):
            await told(world, parts, action, job.id)
        await told(world, parts, "PurgeServer", "osaka-fabric")
        await preview_of(world, parts, group(2), group(3))
        assert content(tmp_path) == before


# --------------------------------------------------------------------------------------- plans


def group(*numbers: int, action: str | None = None) -> PlanGroup:
    members = tuple(item_id(number) for number in numbers)
    return PlanGroup(f"Group {numbers[0]}", members, action)


async def preview_of(world: HubWorld, parts: LookerParts, *groups: PlanGroup) -> Preview:
    asked = Operation.PLANNED_FAILOVER.value
    return await parts.previews.preview_plan(world.vault, asked, "Payroll", groups, FORWARD)


async def begun(world: HubWorld, *groups: PlanGroup) -> Job:
    plan = PlanRequest("Payroll", "Payroll", Operation.PLANNED_FAILOVER, groups, FORWARD)
    return await world.plans.start_plan(world.vault, plan, world.identity())


async def test_a_plan_is_foreseen_with_all_its_machines(
    both: tuple[HubWorld, LookerParts],
) -> None:
    world, parts = both
    groups = (group(1, 2), group(3, action="Look at the door."))
    preview = await preview_of(world, parts, *groups)
    assert (preview.refusal, preview.loss.seconds) == (None, 0)
    assert list(courses(preview).values()) == [
        Course.CHECKED,
        Course.GROUP,
        Course.PERSON,
        Course.GROUP,
    ]
    assert [each.target_name for each in preview.members] == ["web01", "web02", "web03"]
    assert [each.words.partition(":")[0] for each in preview.effects][::3] == [
        "web01",
        "web02",
        "web03",
    ]
    assert "as long as people take" in preview.duration.words
    assert any("stays" in each for each in preview.notes)
    job = await begun(world, *groups)
    assert [each.task.task_id for each in preview.tasks] == [each.task_id for each in job.tasks]


async def test_a_plan_that_would_be_refused_names_the_machines_that_are_not_ready(
    both: tuple[HubWorld, LookerParts],
) -> None:
    world, parts = both
    await furnish(world, an_item(2, ProtectionState.PLANNED_FAILED_OVER))
    preview = await preview_of(world, parts, group(1, 2))
    job = await begun(world, group(1, 2))
    assert preview.refusal == job.errors[0]
    assert [each.refusal is None for each in preview.members] == [True, False]
    assert preview.effects == []
    with pytest.raises(InvalidRequestError):
        await preview_of(world, parts, group(1), group(1))
    with pytest.raises(NotFoundError):
        await preview_of(world, parts, group(9))


async def test_a_cancelled_plan_leaves_what_has_ended_as_its_preview_says(
    both: tuple[HubWorld, LookerParts],
) -> None:
    world, parts = both
    sites, job = Sites(world), await begun(world, group(1), group(2), group(3))
    await sites.until(job.id, lambda each: each.tasks[2].attempt > 0)
    assert (await stored_item(world, 1)).state is ProtectionState.PLANNED_FAILED_OVER
    for _ in range(SETTLED):
        children = await world.jobs.children(world.vault, await world.job(job.id))
        if len(children) == 2:
            break
        await world.committer.until_next()
    preview = await told(world, parts, "Cancel", job.id)
    assert [each.target_name for each in preview.members] == ["web02"]
    assert {each.words.partition(":")[0] for each in preview.effects} <= {"web02"}
    assert any(
        each.startswith("web01 stays PlannedFailoverCommitRequired") for each in preview.notes
    )
    cancelling = await world.jobs.cancel(world.vault, job.id, world.identity())
    assert "machines whose jobs have ended stay" in str(cancelling.waiting_for)
    done = await sites.ended(job.id)
    assert done.state is JobState.CANCELLED
    states = [(await stored_item(world, number)).state for number in (1, 2, 3)]
    assert states == [
        ProtectionState.PLANNED_FAILED_OVER,
        ProtectionState.PROTECTED,
        ProtectionState.PROTECTED,
    ]


async def test_a_restarted_plan_goes_on_with_those_that_are_not_done(
    both: tuple[HubWorld, LookerParts],
) -> None:
    world, parts = both
    sites, job = Sites(world), await begun(world, group(1, 2), group(3))
    await sites.ended(job.id, refusing("start", 2))
    preview = await told(world, parts, "Restart", job.id)
    assert preview.refusal is None
    assert [(each.operation, each.target_name) for each in preview.members] == [
        ("Restart", "web02"),
        ("PlannedFailover", "web03"),
    ]
    assert {each.words.partition(":")[0] for each in preview.effects} == {"web02", "web03"}


# --------------------------------------------------------------------------------------- purge


async def test_a_purge_is_foreseen_with_what_it_leaves_to_the_partner(tmp_path: Path) -> None:
    async with looking(tmp_path) as (world, parts):
        await paired(world)
        refused = await told(world, parts, "PurgeServer", "osaka-fabric")
        with pytest.raises(ConflictError) as conflict:
            await world.servers.purge(world.vault, "osaka-fabric")
        assert refused.refusal is not None
        assert refused.refusal.message == str(conflict.value)
        assert refused.effects == []
        world.clock.time += 2 * LEASE
        await world.heard_of("tokyo")
        preview = await told(world, parts, "purgeserver", "OSAKA-vmm")
        assert preview.refusal is None
        assert [each.action for each in preview.effects] == [
            Action.REVOKED,
            Action.REMOVED,
            Action.REMOVED,
        ]
        assert [each.target_name for each in preview.members] == ["tokyo"]
        await world.servers.purge(world.vault, "osaka-fabric")
        (job,) = [
            each.record
            for each in await world.store.find(Job)
            if each.record.scenario_key == "tidy_partner"
        ]
        (member,) = preview.members
        assert [each.task.task_id for each in member.tasks] == [each.task_id for each in job.tasks]
        assert len(await world.store.find(Alert)) == 1


async def test_a_purge_with_protected_machines_is_refused_alike(
    both: tuple[HubWorld, LookerParts],
) -> None:
    world, parts = both
    world.clock.time += 2 * LEASE
    preview = await told(world, parts, "PurgeServer", "osaka-fabric")
    with pytest.raises(ConflictError) as conflict:
        await world.servers.purge(world.vault, "osaka-fabric")
    assert preview.refusal is not None
    assert preview.refusal.message == str(conflict.value)
