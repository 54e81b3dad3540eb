"""What the hub keeps for whoever looks on: receipts, figures, durations."""

from datetime import datetime, timedelta
from pathlib import Path

import pytest

from service_hub.domain.errors import NotFoundError
from service_hub.domain.jobs import Job, TaskState
from service_hub.domain.liveness import Stamp
from service_hub.domain.looker_records import FigureChunk, LearningPlace, UsualDuration
from service_hub.domain.protection import Operation
from service_hub.domain.rollups import Figure, Metric, Resolution
from service_hub.hub_api.looker_bodies import progress_body
from service_hub.looker_parts import LookerParts
from service_hub.ports.changes import Change, Delete
from service_hub.services.waiting import WaitingService
from tests.support.hub_stories import ask, observe, protected, until_done
from tests.support.hub_world import (
    MACHINE_ID,
    HubWorld,
    inventory,
    machine,
    replication,
)
from tests.support.looking_world import booted, looking
from wire_contract.events import Assignment, assignment_task
from wire_contract.reports import (
    MachineObserved,
    ProviderError,
    ReportBatch,
    TaskOutcome,
    TaskProgress,
)
from wire_contract.vmm_interface import MachineView
from wire_contract.vocabulary import ReplicationMode, ReplicationState, Side

ANY_TIME = (None, None)


async def replica_view(world: HubWorld, taken: datetime) -> MachineView:
    item = await world.item()
    view = replication(ReplicationState.REPLICATING, ReplicationMode.REPLICA)
    return machine(
        item.recovery_machine_id, "osaka", view.model_copy(update={"last_replication_at": taken})
    )


async def report(
    world: HubWorld, site: str, *reports: MachineObserved | TaskOutcome | TaskProgress
) -> None:
    await world.reports.reports(
        world.providers[site], ReportBatch(journal_id="j", reports=tuple(reports))
    )


def seen_by(world: HubWorld, view: MachineView) -> MachineObserved:
    return MachineObserved(
        report_id=world.clock.new_id(), observed_at=world.clock.now(), machine=view
    )


async def rpo(world: HubWorld, parts: LookerParts, resolution: Resolution) -> list[Figure]:
    metric = Metric.RPO_SECONDS
    seen = await parts.figures.figures(world.vault, MACHINE_ID, metric, resolution, ANY_TIME)
    return list(seen.figures)


# --------------------------------------------------------------------------------------- receipts


async def test_each_task_keeps_what_was_read_back_and_by_whom(tmp_path: Path) -> None:
    async with looking(tmp_path) as (world, parts):
        await protected(world)
        await booted(world, "tokyo", "boot-7")
        job_id = await ask(world, Operation.PLANNED_FAILOVER)
        await until_done(world, job_id)
        receipts = await parts.observations.receipts(world.vault, job_id, None)
        assert [(each.receipt.task_id, each.receipt.side) for each in receipts] == [
            ("ShutdownVmOnPrimary", Side.PRIMARY),
            ("PrepareForFailoverTask", Side.PRIMARY),
            ("FailoverTask", Side.RECOVERY),
            ("StartVmOnSecondary", Side.RECOVERY),
        ]
        first = receipts[0].receipt
        assert (first.provider_id, first.boot_id) == ("tokyo-provider", "boot-7")
        assert first.observed_at == world.clock.now()
        one = await parts.observations.receipts(world.vault, job_id, "FailoverTask")
        assert [each.receipt.task_id for each in one] == ["FailoverTask"]
        with pytest.raises(NotFoundError):
            await parts.observations.receipts(world.vault, job_id, "NoTask")
        with pytest.raises(NotFoundError):
            await parts.observations.receipts(world.vault, "no-job", None)


async def test_a_repeated_or_foreign_outcome_changes_no_receipt(tmp_path: Path) -> None:
    async with looking(tmp_path) as (world, parts):
        await protected(world)
        job_id = await ask(world, Operation.PLANNED_FAILOVER)
        answered: list[Assignment] = []

        def answer(assignment: Assignment) -> ProviderError | None:
            answered.append(assignment)
            return None

        await until_done(world, job_id, answer)
        before = await parts.observations.receipts(world.vault, job_id, None)
        told = answered[0]
        for task, attempt in ((told.task, told.attempt), (told.task, 99), ("NoTask@Primary", 1)):
            lie = TaskOutcome(
                report_id=world.clock.new_id(),
                job=job_id,
                task=task,
                attempt=attempt,
                succeeded=False,
                observed={"lie": True},
                observed_at=world.clock.now(),
            )
            await report(world, "tokyo", lie)
            await report(world, "osaka", lie)
        assert await parts.observations.receipts(world.vault, job_id, None) == before


async def test_a_failed_attempt_and_its_undo_keep_receipts_too(tmp_path: Path) -> None:
    def answer(assignment: Assignment) -> ProviderError | None:
        fails = assignment.verb == "fail_over"
        return ProviderError(code=32768, message="no") if fails else None

    async with looking(tmp_path) as (world, parts):
        await protected(world)
        job_id = await ask(world, Operation.PLANNED_FAILOVER)
        await until_done(world, job_id, answer)
        receipts = [
            each.receipt for each in await parts.observations.receipts(world.vault, job_id, None)
        ]
        assert [each.task_id for each in receipts if not each.succeeded] == ["FailoverTask"]
        undone = [each.task_id for each in receipts if each.task_id.endswith("!undo")]
        assert "PrepareForFailoverTask!undo" in undone


# ---------------------------------------------------------------------------------- facts of sites


async def test_every_fact_says_by_whom_when_and_whether_it_is_stale(tmp_path: Path) -> None:
    async with looking(tmp_path) as (world, parts):
        await protected(world)
        await booted(world, "tokyo", "boot-8")
        await world.reports.inventory(
            world.providers["tokyo"], inventory("tokyo", (machine(MACHINE_ID, "tokyo"),))
        )
        await observe(world, "osaka", ReplicationState.REPLICATING)
        servers = {each.provider_id: each for each in await parts.observations.servers(world.vault)}
        tokyo = servers["tokyo-provider"]
        assert (tokyo.stamp.boot_id, tokyo.freshness.stale) == ("boot-8", False)
        item = await parts.observations.item(world.vault, MACHINE_ID)
        copy = item.copies[Side.PRIMARY]
        assert copy is not None
        assert (copy.stamp.provider_id, copy.stamp.boot_id) == ("tokyo-provider", "boot-8")
        world.clock.time += timedelta(minutes=10)
        await observe(world, "osaka", ReplicationState.REPLICATING)
        (again,) = await parts.observations.items(world.vault)
        stale = {side: seen and seen.freshness.stale for side, seen in again.copies.items()}
        assert stale == {Side.PRIMARY: True, Side.RECOVERY: False}
        machines = {
            each.stamp.provider_id for each in await parts.observations.machines(world.vault)
        }
        assert machines == {"tokyo-provider", "osaka-provider"}
        with pytest.raises(NotFoundError):
            await parts.observations.item(world.vault, "nobody")


# ----------------------------------------------------------------------------------------- figures


async def test_figures_roll_up_and_a_repeated_report_counts_once(tmp_path: Path) -> None:
    async with looking(tmp_path) as (world, parts):
        await protected(world)
        assert await rpo(world, parts, Resolution.MINUTE) == []
        taken = world.clock.now()
        for _ in range(3):
            world.clock.time += timedelta(seconds=20)
            observed = seen_by(world, await replica_view(world, taken))
            await report(world, "osaka", observed, observed)
            await report(world, "osaka", observed)
        minutes = await rpo(world, parts, Resolution.MINUTE)
        assert [(each.lowest, each.highest, each.count) for each in minutes] == [
            (20, 40, 2),
            (60, 60, 1),
        ]
        for resolution in (Resolution.HOUR, Resolution.DAY):
            (whole,) = await rpo(world, parts, resolution)
            assert (whole.lowest, whole.highest, whole.mean) == (20, 60, 40)
            assert (whole.last, whole.count) == (60, 3)
        backlog = await parts.figures.figures(
            world.vault, MACHINE_ID, Metric.BACKLOG_BYTES, Resolution.DAY, ANY_TIME
        )
        assert [each.last for each in backlog.figures] == [0], "said when it was protected"
        assert [stamp.provider_id for stamp, _ in backlog.observed] == ["tokyo-provider"]
        with pytest.raises(NotFoundError):
            await parts.figures.figures(
                world.vault, "nobody", Metric.RPO_SECONDS, Resolution.DAY, ANY_TIME
            )


async def test_a_server_makes_no_figures_of_machines_that_are_not_its_own(tmp_path: Path) -> None:
    async with looking(tmp_path) as (world, parts):
        await protected(world)
        view = await replica_view(world, world.clock.now())
        forged = view.model_copy(update={"protected_item": MACHINE_ID})
        await report(world, "tokyo", seen_by(world, forged))
        assert await rpo(world, parts, Resolution.MINUTE) == []


async def test_old_figures_go_while_new_ones_come(tmp_path: Path) -> None:
    async with looking(tmp_path) as (world, parts):
        await protected(world)
        chunks = []
        for _ in range(14):
            world.clock.time += timedelta(hours=3)
            await report(
                world, "osaka", seen_by(world, await replica_view(world, world.clock.now()))
            )
            series = f"{MACHINE_ID}/rpo_seconds/minute"
            chunks.append(len(await world.store.find(FigureChunk, series=series)))
        assert max(chunks) == chunks[-1] == 9, "a day of hours, and the one that has begun"
        assert len(await rpo(world, parts, Resolution.HOUR)) == 14
        # What comes so late that its minutes are gone cannot be told from a repetition.
        late = seen_by(world, await replica_view(world, world.clock.now()))
        old = late.model_copy(update={"observed_at": world.clock.now() - timedelta(days=2)})
        await report(world, "osaka", old)
        assert len(await rpo(world, parts, Resolution.HOUR)) == 14


# --------------------------------------------------------------------------------------- learning


async def test_durations_and_recovery_times_are_learnt_once(tmp_path: Path) -> None:
    async with looking(tmp_path) as (world, parts):
        await protected(world)
        job_id = await ask(world, Operation.PLANNED_FAILOVER)

        def slowly(assignment: Assignment) -> ProviderError | None:
            world.clock.time += timedelta(seconds=40 if assignment.verb == "shut_down" else 5)
            return None

        await until_done(world, job_id, slowly)
        assert await parts.learning.look() > 0
        # As after a kill before the place was stored: the same jobs are gone through again.
        await world.committer.commit(Change(deletes=(Delete(LearningPlace, world.vault.id),)))
        assert await parts.learning.look() > 0
        assert await parts.learning.look() == 0
        place = f"{world.vault.id}/planned_failover/ShutdownVmOnPrimary"
        found = await world.store.get(UsualDuration, place)
        assert found is not None
        assert (found.record.count, found.record.samples[0].seconds) == (1, 40)
        seen = await parts.figures.figures(
            world.vault, MACHINE_ID, Metric.RECOVERY_SECONDS, Resolution.DAY, ANY_TIME
        )
        (recovery,) = seen.figures
        assert (recovery.count, recovery.last) == (1, 55)


def is_running(job: Job, task_id: str) -> bool:
    run = job.run(task_id)
    return run is not None and run.state is TaskState.IN_PROGRESS


async def test_a_running_task_says_how_long_it_usually_takes(tmp_path: Path) -> None:
    async with looking(tmp_path) as (world, parts):
        await protected(world)
        for operation in (Operation.PLANNED_FAILOVER, Operation.REVERSE_REPLICATE):

            def slowly(_assignment: Assignment) -> ProviderError | None:
                world.clock.time += timedelta(seconds=40)
                return None

            await until_done(world, await ask(world, operation), slowly)
        await parts.learning.look()
        await observe(world, "tokyo", ReplicationState.REPLICATING)
        job_id = await ask(world, Operation.PLANNED_FAILOVER)
        while not is_running(await world.job(job_id), "ShutdownVmOnPrimary"):
            await world.committer.until_next()
        await booted(world, "osaka", "osaka-boot")
        told_at = world.clock.time
        told = TaskProgress(
            report_id=world.clock.new_id(),
            job=job_id,
            task=assignment_task("ShutdownVmOnPrimary", Side.RECOVERY),
            attempt=1,
            percent=40.0,
            detail="40 of 100",
        )
        await report(world, "osaka", told)
        world.clock.time += timedelta(seconds=12)
        progress = await parts.observations.progress(world.vault, job_id)
        (seen,) = [each for each in progress.tasks if each.percent is not None]
        assert (seen.task_id, seen.percent) == ("ShutdownVmOnPrimary", 40.0)
        assert seen.percent_seen is not None
        stamp, fresh = seen.percent_seen
        assert stamp == Stamp(told_at, world.providers["osaka"].id, "osaka-boot")
        assert (fresh.age_seconds, fresh.stale) == (12.0, False)
        bodies = {each["task_id"]: each for each in progress_body(progress, "r")["tasks"]}
        shown, unseen = bodies["ShutdownVmOnPrimary"], bodies["FailoverTask"]
        assert (shown["percent"], shown["observed_at"]) == (40.0, told_at.isoformat())
        assert shown["observed_by"] == {"provider_id": stamp.provider_id, "boot_id": "osaka-boot"}
        assert (unseen["percent"], unseen["observed_at"], unseen["stale"]) == (None, None, None)
        words = {each.task_id: each.words for each in progress.tasks}
        assert words["ShutdownVmOnPrimary"] == "usually 40 s, running for 12 s"
        assert words["FailoverTask"] == "usually 40 s"
        assert words["PlannedFailoverPreflightChecksTask"] is None, "it has ended"
        assert progress.remaining_seconds == 4 * 40 - 12
        service = WaitingService(
            reader=world.store,
            liveness=world.fabrics,
            clock=world.clock,
            standing_still=dict,
            new_root=lambda: None,
        )
        (waits,) = [each for each in await service.list(world.vault) if each.id == job_id]
        assert waits.words.endswith("; usually 40 s")
        await until_done(world, job_id)
        assert (await parts.observations.progress(world.vault, job_id)).remaining_seconds is None
