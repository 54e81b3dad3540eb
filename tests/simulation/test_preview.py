"""A preview says what the real job then does, and changes nothing."""

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from service_hub.domain.errors import InvalidRequestError, NotFoundError
from service_hub.domain.jobs import Job, JobState, TaskState
from service_hub.domain.preview import Action, Course
from service_hub.domain.protection import Operation, ProtectionState
from service_hub.domain.records import CurrentScenario, ProtectedItem
from service_hub.looker_parts import LookerParts
from service_hub.looker_ports import Preview
from service_hub.ports.changes import Change, Save
from tests.support.hub_stories import ask, completed, observe, paired, protected, until_done
from tests.support.hub_world import (
    MACHINE_ID,
    HubWorld,
    inventory,
    machine,
    replication,
)
from tests.support.looking_world import LEASE, looking
from wire_contract.reports import MachineObserved, ReportBatch
from wire_contract.vocabulary import ReplicationMode, ReplicationState, Side

TRIES_MAX = 20
AWAY, BACK = "PrimaryToRecovery", "RecoveryToPrimary"

STATES: Mapping[Course, TaskState] = {
    Course.RUNS: TaskState.SUCCEEDED,
    Course.CHECKED: TaskState.SUCCEEDED,
    Course.AT_ONCE: TaskState.SUCCEEDED,
    Course.SKIPPED: TaskState.SKIPPED,
    Course.REFUSED: TaskState.FAILED,
}


def content(folder: Path) -> list[str]:
    """Return all that the database holds."""
    with closing(sqlite3.connect(folder / "hub.db")) as connection:
        return list(connection.iterdump())


async def foreseen(
    folder: Path, parts: LookerParts, world: HubWorld, operation: Operation, **arguments: Any
) -> Preview:
    """Preview an operation; the database is the same before and after.

    What follows from an earlier job's end may still be stored meanwhile: then it is asked again.
    """
    for _ in range(TRIES_MAX):
        before = content(folder)
        preview = await parts.previews.preview(world.vault, operation.value, MACHINE_ID, arguments)
        if content(folder) == before:
            return preview
    pytest.fail("the database changes with every preview")


def as_job(preview: Preview) -> list[tuple[str, TaskState, tuple[Side, ...]]]:
    return [
        (each.task.task_id, STATES[each.task.course], each.task.sides) for each in preview.tasks
    ]


def as_done(job: Job) -> list[tuple[str, TaskState, tuple[Side, ...]]]:
    return [(run.task_id, run.state, tuple(part.side for part in run.parts)) for run in job.tasks]


async def agree(folder: Path, parts: LookerParts, world: HubWorld, asked: Any, **more: Any) -> Job:
    """Preview an operation, then really do it: both have the same tasks on the same ends."""
    preview = await foreseen(folder, parts, world, asked, **more)
    assert preview.refusal is None
    job_id = await ask(world, asked, **more)
    await until_done(world, job_id)
    job = await world.job(job_id)
    assert job.state is JobState.SUCCEEDED
    assert as_job(preview) == as_done(job)
    assert preview.scenario == job.scenario.name
    assert preview.direction == job.direction.value
    return job


async def test_every_operation_is_foreseen_as_it_then_happens(tmp_path: Path) -> None:
    done: list[Operation] = []
    async with looking(tmp_path) as (world, parts):
        await paired(world)
        preview = await foreseen(tmp_path, parts, world, Operation.ENABLE)
        job = await world.protection.enable(
            world.vault,
            container=("tokyo-fabric", "tokyo-cloud"),
            item_name=MACHINE_ID,
            machine_id=MACHINE_ID,
            policy_name="p",
            identity=world.identity(),
        )
        await until_done(world, job.id)
        assert as_job(preview) == as_done(await world.job(job.id))
        done.append(Operation.ENABLE)
        await completions(tmp_path, parts, world)
        done += [Operation.COMPLETE_PRIMARY, Operation.COMPLETE_RECOVERY]
        for operation, more in (
            (Operation.UPDATE_NETWORKS, {}),
            (Operation.TEST_FAILOVER, {"failover_direction": AWAY}),
            (Operation.TEST_FAILOVER_CLEANUP, {}),
            (Operation.PLANNED_FAILOVER, {"failover_direction": AWAY}),
            (Operation.COMMIT, {}),
            (Operation.REVERSE_REPLICATE, {"failover_direction": BACK}),
        ):
            await agree(tmp_path, parts, world, operation, **more)
            done.append(operation)
        await observe(world, "tokyo", ReplicationState.REPLICATING)
        await agree(tmp_path, parts, world, Operation.UNPLANNED_FAILOVER, failover_direction=BACK)
        done.append(Operation.UNPLANNED_FAILOVER)
        for operation in (Operation.CHANGE_RECOVERY_POINT, Operation.CANCEL_FAILOVER):
            await agree(tmp_path, parts, world, operation)
            done.append(operation)
        for site in ("tokyo", "osaka"):
            await observe(world, site, ReplicationState.REPLICATING)
        for _ in range(2):
            await agree(
                tmp_path, parts, world, Operation.UNPLANNED_FAILOVER, failover_direction=BACK
            )
            if Operation.OVERRIDE_FENCE in done:
                break
            await agree(tmp_path, parts, world, Operation.OVERRIDE_FENCE, comments="needed")
            done.append(Operation.OVERRIDE_FENCE)
        await agree(tmp_path, parts, world, Operation.REVERSE_REPLICATE, failover_direction=AWAY)
        await completed(world)
        await observe(world, "tokyo", ReplicationState.CRITICAL)
        forced = await foreseen(tmp_path, parts, world, Operation.PURGE)
        assert forced.refusal is not None, "both servers are there"
        done.append(Operation.PURGE)
        for operation in (Operation.REPAIR, Operation.DISABLE):
            await agree(tmp_path, parts, world, operation)
            done.append(operation)
    assert set(done) == set(Operation), "every operation is previewed here"


async def completions(folder: Path, parts: LookerParts, world: HubWorld) -> None:
    """Preview both completions, which the hub begins by itself, then let them happen."""
    primary = await foreseen(folder, parts, world, Operation.COMPLETE_PRIMARY)
    item = await world.store.get(ProtectedItem, MACHINE_ID)
    assert item is not None
    await completed(world)
    jobs = [each.record for each in await world.store.find(Job, item_id=MACHINE_ID)]
    by_operation = {job.operation: job for job in jobs}
    assert as_job(primary) == as_done(by_operation[Operation.COMPLETE_PRIMARY])
    # The second one follows the first at once: its preview is made from the item as it was then.
    between = item.record.model_copy(update={"state": ProtectionState.PRIMARY_COMPLETED})
    after = await world.store.get(ProtectedItem, MACHINE_ID)
    assert after is not None
    await world.committer.commit(Change(saves=(Save(between, after.version),)))
    recovery = await foreseen(folder, parts, world, Operation.COMPLETE_RECOVERY)
    await world.committer.commit(Change(saves=(Save(after.record, None),)))
    assert as_job(recovery) == as_done(by_operation[Operation.COMPLETE_RECOVERY])


async def test_a_refusal_has_the_code_and_the_words_of_the_job(tmp_path: Path) -> None:
    async with looking(tmp_path) as (world, parts):
        await protected(world)
        for operation, more in (
            (Operation.COMMIT, {}),
            (Operation.REVERSE_REPLICATE, {}),
            (Operation.TEST_FAILOVER_CLEANUP, {}),
            (Operation.PLANNED_FAILOVER, {"failover_direction": BACK}),
        ):
            await refused_alike(tmp_path, parts, world, operation, **more)
        await world.committer.commit(Change(saves=(Save(await busy(world), None),)))
        await refused_alike(tmp_path, parts, world, Operation.PLANNED_FAILOVER)


async def test_a_server_that_is_away_is_found_before_the_job_is(tmp_path: Path) -> None:
    async with looking(tmp_path) as (world, parts):
        await protected(world)
        world.clock.time += 2 * LEASE
        await refused_alike(tmp_path, parts, world, Operation.PLANNED_FAILOVER)


async def busy(world: HubWorld) -> ProtectedItem:
    held = CurrentScenario(
        scenario_name="TestFailover", job_id="another", started_at=world.clock.now()
    )
    return (await world.item()).model_copy(update={"current": held})


async def refused_alike(
    folder: Path, parts: LookerParts, world: HubWorld, operation: Operation, **more: Any
) -> None:
    preview = await foreseen(folder, parts, world, operation, **more)
    job_id = await ask(world, operation, **more)
    await until_done(world, job_id)
    job = await world.job(job_id)
    assert job.state is JobState.FAILED
    assert preview.refusal == job.errors[0]
    assert as_job(preview) == as_done(job)
    assert preview.effects == ()
    assert preview.duration.words == "nothing runs" or preview.duration.unknown


async def test_what_is_asked_of_servers_is_foreseen_too(tmp_path: Path) -> None:
    async with looking(tmp_path) as (world, parts):
        servers = ("UnregisterFabric", "osaka-provider"), ("RefreshProvider", "osaka-fabric")
        for operation, target in servers:
            before = content(tmp_path)
            preview = await parts.previews.preview(world.vault, operation, target, {})
            assert content(tmp_path) == before
            assert (preview.refusal, preview.effects) == (None, ())
            assert (preview.operation, preview.scenario) == (operation, operation)
            if operation == "UnregisterFabric":
                continue
            job = await world.servers.refresh(world.vault, "osaka-fabric", world.identity())
            while not await world.refreshes("osaka"):
                await world.committer.until_next()
            await world.reports.inventory(world.providers["osaka"], inventory("osaka"))
            await until_done(world, job.id)
            assert as_job(preview) == as_done(await world.job(job.id))
        preview = await parts.previews.preview(world.vault, *servers[0], {})
        job = await world.servers.remove(world.vault, "osaka-fabric", world.identity())
        while not await world.assignments("osaka"):
            await world.committer.until_next()
        busy = await parts.previews.preview(world.vault, "RefreshProvider", "OSAKA-VMM", {})
        assert busy.refusal is not None
        assert busy.refusal.code == "532"
        await until_done(world, job.id)
        assert as_job(preview) == as_done(await world.job(job.id))
        with pytest.raises(NotFoundError):
            await parts.previews.preview(world.vault, "RefreshProvider", "osaka-fabric", {})


async def test_a_server_that_is_used_or_away_is_not_deleted(tmp_path: Path) -> None:
    async with looking(tmp_path) as (world, parts):
        await paired(world)
        for _ in range(2):
            preview = await parts.previews.preview(
                world.vault, "UnregisterFabric", "osaka-fabric", {}
            )
            job = await world.servers.remove(world.vault, "osaka-fabric", world.identity())
            await until_done(world, job.id)
            ended = await world.job(job.id)
            assert preview.refusal is not None
            assert [preview.refusal.code] == [error.code for error in ended.errors]
            assert as_job(preview) == as_done(ended)
            world.clock.time += 2 * LEASE


async def test_what_is_stopped_started_and_disconnected_is_named(tmp_path: Path) -> None:
    async with looking(tmp_path) as (world, parts):
        await protected(world)
        item = await world.item()
        preview = await foreseen(tmp_path, parts, world, Operation.PLANNED_FAILOVER)
        assert [(each.action, each.side, each.machine_id) for each in preview.effects] == [
            (Action.STOPPED, Side.PRIMARY, item.primary_machine_id),
            (Action.DISCONNECTED, Side.RECOVERY, item.recovery_machine_id),
            (Action.STARTED, Side.RECOVERY, item.recovery_machine_id),
        ]
        assert preview.loss.seconds == 0
        alone = await foreseen(tmp_path, parts, world, Operation.UNPLANNED_FAILOVER)
        assert Action.STOPPED not in {each.action for each in alone.effects}
        test = await foreseen(tmp_path, parts, world, Operation.TEST_FAILOVER)
        assert [each.action for each in test.effects] == [
            Action.CREATED,
            Action.STARTED,
            Action.DISCONNECTED,
        ]
        assert "the network is not tested" in test.effects[-1].words
        made = await foreseen(
            tmp_path, parts, world, Operation.TEST_FAILOVER, drill={"networks": [], "nics": []}
        )
        assert Action.DISCONNECTED not in {each.action for each in made.effects}
        wired = await foreseen(tmp_path, parts, world, Operation.TEST_FAILOVER, network_id="n")
        assert Action.DISCONNECTED not in {each.action for each in wired.effects}


async def test_the_expected_loss_is_what_was_observed_last_or_unknown(tmp_path: Path) -> None:
    async with looking(tmp_path) as (world, parts):
        await protected(world)
        unknown = await foreseen(tmp_path, parts, world, Operation.UNPLANNED_FAILOVER)
        assert unknown.loss.seconds is None
        assert unknown.loss.words.startswith("unknown")
        await replica_seen(world, world.clock.now() - timedelta(seconds=40))
        world.clock.time += timedelta(seconds=20)
        known = await foreseen(tmp_path, parts, world, Operation.UNPLANNED_FAILOVER)
        assert known.loss.seconds == 60
        assert known.loss_freshness is not None
        assert (known.loss_freshness.age_seconds, known.loss_freshness.stale) == (20, False)
        world.clock.time += timedelta(minutes=10)
        old = await foreseen(tmp_path, parts, world, Operation.UNPLANNED_FAILOVER)
        assert old.loss_freshness is not None
        assert old.loss_freshness.stale


async def replica_seen(world: HubWorld, taken: Any) -> None:
    item = await world.item()
    view = replication(ReplicationState.REPLICATING, ReplicationMode.REPLICA)
    copy = machine(
        item.recovery_machine_id, "osaka", view.model_copy(update={"last_replication_at": taken})
    )
    report = MachineObserved(
        report_id=world.clock.new_id(), observed_at=world.clock.now(), machine=copy
    )
    await world.reports.reports(
        world.providers["osaka"], ReportBatch(journal_id="j", reports=(report,))
    )


async def test_the_duration_is_unknown_until_it_was_learnt(tmp_path: Path) -> None:
    async with looking(tmp_path) as (world, parts):
        await protected(world)
        unknown = await foreseen(tmp_path, parts, world, Operation.COMMIT)
        assert unknown.refusal is not None
        fresh = await foreseen(tmp_path, parts, world, Operation.PLANNED_FAILOVER)
        assert fresh.duration.median_seconds is None
        assert "FailoverTask" in fresh.duration.unknown
        assert fresh.duration.words == "unknown"
        await agree(tmp_path, parts, world, Operation.PLANNED_FAILOVER)
        await agree(tmp_path, parts, world, Operation.REVERSE_REPLICATE)
        await observe(world, "tokyo", ReplicationState.REPLICATING)
        assert await parts.learning.look() > 0
        learnt = await foreseen(tmp_path, parts, world, Operation.PLANNED_FAILOVER)
        assert learnt.duration.median_seconds is not None
        assert learnt.duration.unknown == ()


@pytest.mark.parametrize(
    ("operation", "target", "error"),
    [
        ("Explode", MACHINE_ID, InvalidRequestError),
        ("Commit", "nobody", NotFoundError),
        ("EnableProtection", "nobody", NotFoundError),
        # Not paired: enabling has nowhere to go.
        ("EnableProtection", MACHINE_ID, InvalidRequestError),
    ],
)
async def test_what_cannot_be_previewed_says_why(
    tmp_path: Path, operation: str, target: str, error: type[Exception]
) -> None:
    async with looking(tmp_path) as (world, parts):
        with pytest.raises(error):
            await parts.previews.preview(world.vault, operation, target, {})
