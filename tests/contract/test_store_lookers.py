"""What is kept for whoever looks on, in whichever database the hub has."""

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from service_hub.domain.jobs import Job, JobState, TaskRun, TaskState
from service_hub.domain.looker_records import FigureChunk, TaskReceipt, UsualDuration
from service_hub.domain.protection import Operation, ProtectionState
from service_hub.domain.records import ProtectedItem
from service_hub.domain.rollups import Metric, Resolution, Sample
from service_hub.engine.committer import GroupCommitter
from service_hub.job_archive import FileArchive
from service_hub.looker_ports import ExportFilter
from service_hub.ports.changes import NEW, Change, LogEntry, Save
from service_hub.services.changes import ChangeService
from service_hub.services.durations import DurationService, Learning
from service_hub.services.retention import ExportService, Retention
from service_hub.services.rollups import RollUpService
from service_hub.store.record_store import RecordStore
from tests.support.hub_world import NoOutbox, TickingClock
from tests.support.store_world import BOTH, NOW, VAULT_ID, opened_store, vault
from wire_contract.vocabulary import Side

JOBS = 5
ANY_TIME = (None, None)


@pytest.fixture(params=BOTH)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[RecordStore]:
    async with opened_store(request, tmp_path) as opened:
        yield opened


def item() -> ProtectedItem:
    return ProtectedItem(
        id="item",
        vault_id=VAULT_ID,
        friendly_name="web01",
        mapping_id="m",
        policy_id="p",
        primary_provider_id="a",
        primary_cloud_id="ac",
        primary_machine_id="item",
        primary_host="h",
        recovery_provider_id="b",
        recovery_cloud_id="bc",
        recovery_machine_id="copy",
        relationship_id="r",
        state=ProtectionState.PROTECTED,
    )


def failover(number: int) -> Job:
    ended = NOW - timedelta(days=40, minutes=-10 * number)
    began = ended - timedelta(seconds=40)
    run = TaskRun(
        task_id="FailoverTask",
        state=TaskState.SUCCEEDED,
        attempt=1,
        started_at=began,
        ended_at=ended,
    )
    return Job(
        id=f"job-{number}",
        vault_id=VAULT_ID,
        scenario_key="planned_failover",
        operation=Operation.PLANNED_FAILOVER,
        state=JobState.SUCCEEDED,
        item_id="item",
        target_object_id="item",
        target_object_name="\u0000 web01 \U0001f5a5",
        activity_id="a",
        tasks=(run,),
        created_at=began,
        started_at=began,
        ended_at=ended,
    )


def kept(job: Job) -> Change:
    receipt = TaskReceipt(
        id=f"{job.id}/FailoverTask/Recovery/1",
        vault_id=VAULT_ID,
        job_id=job.id,
        task_id="FailoverTask",
        side=Side.RECOVERY,
        attempt=1,
        succeeded=True,
        observed={"text": "\u0000"},
        observed_at=NOW,
        provider_id="b",
        boot_id="",
        received_at=NOW,
    )
    entry = LogEntry(job.id, 0, NOW, json.dumps({"v": 1, "type": "made"}))
    return Change(saves=(Save(job, NEW), Save(receipt, NEW)), log=(entry,))


async def test_jobs_are_learnt_from_exported_and_archived(
    store: RecordStore, tmp_path: Path
) -> None:
    clock = TickingClock()
    clock.time = NOW - timedelta(days=39, hours=23)
    committer = GroupCommitter(store, NoOutbox())
    async with committer.running():
        figures = RollUpService(reader=store, committer=committer, clock=clock)
        learning = Learning(reader=store, committer=committer, rollups=figures)
        await committer.commit(Change(saves=(Save(vault(), NEW), Save(item(), NEW))))
        await committer.commit_all([kept(failover(number)) for number in range(JOBS)])
        assert await learning.look() == JOBS
        assert await learning.look() == 0
        durations = DurationService(reader=store)
        usual = await durations.usual(VAULT_ID, "planned_failover", "FailoverTask")
        assert usual is not None
        assert (usual.count, usual.median_seconds) == (JOBS, 40)
        seen = await figures.figures(
            vault(), "item", Metric.RECOVERY_SECONDS, Resolution.DAY, ANY_TIME
        )
        (took,) = seen.figures
        assert seen.observed == [], "the hub itself timed its jobs"
        assert (took.count, took.mean) == (JOBS, 40)
        exported = [
            each.id async for each in ExportService(reader=store).jobs(vault(), ExportFilter())
        ]
        assert sorted(exported) == [f"job-{number}" for number in range(JOBS)]
        number = await store.last_number()
        clock.time = NOW
        retention = Retention(
            reader=store,
            committer=committer,
            clock=clock,
            archive=FileArchive(tmp_path / "archive"),
            kept=timedelta(days=30),
        )
        assert await retention.round() == JOBS
        assert await store.find(Job) == []
        assert await store.find(TaskReceipt) == []
        gone = await ChangeService(reader=store).since(VAULT_ID, number, limit=100, wait_seconds=0)
        assert {(row.kind, row.deleted) for row in gone.changes} == {("job", True)}
        assert len(gone.changes) == JOBS
        lines = [
            json.loads(line)
            for file in (tmp_path / "archive").glob("*.jsonl")
            for line in file.read_text().splitlines()
        ]
        assert sorted(line["job_id"] for line in lines) == sorted(exported)
        assert all(len(line["log"]) == len(line["receipts"]) == 1 for line in lines)
        assert len(await store.find(UsualDuration)) == 1, "what was learnt stays"


async def test_samples_that_come_at_one_moment_all_count(store: RecordStore) -> None:
    clock = TickingClock()
    clock.time = datetime(2026, 5, 1, tzinfo=UTC)
    committer = GroupCommitter(store, NoOutbox())
    async with committer.running():
        figures = RollUpService(reader=store, committer=committer, clock=clock)
        others = RollUpService(reader=store, committer=committer, clock=clock)
        await committer.commit(Change(saves=(Save(vault(), NEW), Save(item(), NEW))))
        for second in range(10):
            at = clock.time + timedelta(seconds=second)
            for each, source in ((figures, "a"), (others, "b")):
                sample = Sample(Metric.RPO_SECONDS, at, float(second), source)
                await each.count([(item(), sample)])
                await each.count([(item(), sample)])
        seen = await figures.figures(
            vault(), "item", Metric.RPO_SECONDS, Resolution.MINUTE, ANY_TIME
        )
        (minute,) = seen.figures
        assert [stamp.provider_id for stamp, _ in seen.observed] == ["a", "b"]
        assert (minute.count, minute.lowest, minute.highest) == (20, 0, 9)
        assert len(await store.find(FigureChunk, series="item/rpo_seconds/minute")) == 1
