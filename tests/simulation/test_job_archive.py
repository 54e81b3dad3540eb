"""Old jobs leave for the archive: none is lost, none is there twice, whatever dies in between."""

import fcntl
import json
import stat
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from service_hub.domain.jobs import Job, JobState
from service_hub.domain.looker_records import ArchiveTurn, TaskReceipt
from service_hub.domain.records import Vault
from service_hub.engine.committer import GroupCommitter
from service_hub.job_archive import FileArchive
from service_hub.looker_ports import (
    ArchiveBusyError,
    ArchivedJob,
    ArchiveUnusableError,
    ExportFilter,
)
from service_hub.ports.changes import NEW, Change, LogEntry, Save
from service_hub.services.retention import ExportService, Retention
from service_hub.store.database import open_store
from service_hub.store.record_store import RecordStore
from tests.support.hub_world import NoOutbox, TickingClock
from wire_contract.vocabulary import Side

NOW = datetime(2026, 7, 15, tzinfo=UTC)
KEPT = timedelta(days=30)


@dataclass
class World:
    """A store with jobs, and who archives them."""

    store: RecordStore
    committer: GroupCommitter
    clock: TickingClock
    folder: Path

    def retention(self, archive: "FileArchive | BrokenArchive | None" = None) -> Retention:
        """Return another process that archives."""
        return Retention(
            reader=self.store,
            committer=self.committer,
            clock=self.clock,
            archive=archive or FileArchive(self.folder),
            kept=KEPT,
        )

    async def keep(self, *jobs: Job) -> None:
        """Store jobs, each with a log and a receipt."""
        changes = []
        for each in jobs:
            receipt = TaskReceipt(
                id=f"{each.id}/t/Primary/1",
                vault_id="v",
                job_id=each.id,
                task_id="t",
                side=Side.PRIMARY,
                attempt=1,
                succeeded=True,
                observed={},
                observed_at=NOW,
                provider_id="p",
                boot_id="b",
                received_at=NOW,
            )
            entry = LogEntry(each.id, 0, NOW, '{"v": 1, "type": "made"}')
            changes.append(Change(saves=(Save(each, NEW), Save(receipt, NEW)), log=(entry,)))
        await self.committer.commit_all(changes)

    async def left(self) -> set[str]:
        """Return the jobs that are in the database."""
        return {each.record.id for each in await self.store.find(Job)}

    def archived(self) -> list[str]:
        """Return the jobs of all files, as often as they are there."""
        return [line["job_id"] for line in self.lines()]

    def lines(self) -> list[Any]:
        """Return all lines."""
        files = sorted(self.folder.glob("jobs-*.jsonl"))
        return [json.loads(line) for file in files for line in file.read_text().splitlines()]


@dataclass
class BrokenArchive:
    """An archive that dies once: before it writes, or after."""

    archive: FileArchive
    writes: bool
    broken: bool = False

    async def append(self, jobs: Sequence[ArchivedJob]) -> None:
        """Write, or not; then die."""
        if self.writes:
            await self.archive.append(jobs)
        if not self.broken:
            self.broken = True
            raise ConnectionAbortedError


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[World]:
    clock = TickingClock()
    clock.time = NOW
    async with open_store(folder / "hub.db") as store:
        committer = GroupCommitter(store, NoOutbox())
        async with committer.running():
            yield World(store, committer, clock, folder / "archive")


def job(name: str, days_ago: float | None, parent: str | None = None) -> Job:
    ended = None if days_ago is None else NOW - timedelta(days=days_ago)
    return Job(
        id=name,
        vault_id="v",
        scenario_key="commit",
        operation=None,
        state=JobState.IN_PROGRESS if ended is None else JobState.SUCCEEDED,
        target_object_id="o",
        target_object_name="=cmd()",
        activity_id="a",
        tasks=(),
        created_at=NOW - timedelta(days=100),
        started_at=NOW - timedelta(days=days_ago or 0),
        ended_at=ended,
        parent_id=parent,
    )


async def test_old_jobs_go_by_month_with_log_and_receipts(tmp_path: Path) -> None:
    async with opened(tmp_path) as world:
        await world.keep(job("old", 40), job("older", 70), job("new", 29), job("runs", None))
        assert await world.retention().round() == 2
        assert await world.left() == {"new", "runs"}
        assert sorted(path.name for path in world.folder.glob("*.jsonl")) == [
            "jobs-2026-05.jsonl",
            "jobs-2026-06.jsonl",
        ]
        (older, old) = world.lines()
        assert (older["job_id"], old["job_id"]) == ("older", "old")
        assert Job.model_validate_json(json.dumps(old["job"])) == job("old", 40)
        assert old["log"][0]["event"] == {"v": 1, "type": "made"}
        assert len(old["receipts"]) == 1
        assert await world.store.find(TaskReceipt, job_id="old") == []
        assert await world.store.log_of("old") == []
        assert stat.S_IMODE(world.folder.stat().st_mode) == 0o700
        assert {stat.S_IMODE(path.stat().st_mode) for path in world.folder.iterdir()} == {0o600}


@pytest.mark.parametrize("writes", [False, True], ids=["before writing", "before deleting"])
async def test_a_kill_loses_no_job_and_doubles_none(tmp_path: Path, writes: bool) -> None:
    async with opened(tmp_path) as world:
        names = {f"job-{index}" for index in range(120)}
        await world.keep(*(job(each, 40) for each in sorted(names)))
        with pytest.raises(ConnectionAbortedError):
            await world.retention(BrokenArchive(FileArchive(world.folder), writes)).round()
        assert await world.left() == names
        # Another process, with nothing in memory; the turn of the dead one has run out.
        world.clock.time += timedelta(hours=1)
        assert await world.retention().round() == len(names)
        assert await world.left() == set()
        assert sorted(world.archived()) == sorted(names)


async def test_a_line_that_a_kill_cut_off_is_cut_away(tmp_path: Path) -> None:
    async with opened(tmp_path) as world:
        await world.keep(job("one", 40))
        await world.retention().round()
        (path,) = world.folder.glob("*.jsonl")
        with path.open("ab") as file:
            file.write(b'{"v": 1, "job_id": "two", "ended_at": "2026-0')
        world.clock.time += timedelta(hours=1)
        await world.keep(job("two", 40))
        assert await world.retention().round() == 1
        assert world.archived() == ["one", "two"]


async def test_a_job_that_is_restarted_meanwhile_stays(tmp_path: Path) -> None:
    async with opened(tmp_path) as world:
        await world.keep(job("restarted", 40), job("done", 40))

        class Restarting(FileArchive):
            async def append(self, jobs: Sequence[ArchivedJob]) -> None:
                await super().append(jobs)
                present = await world.store.get(Job, "restarted")
                assert present is not None
                again = present.record.model_copy(
                    update={"state": JobState.IN_PROGRESS, "ended_at": None}
                )
                change = Change(saves=(Save(again, present.version),))
                await world.committer.commit(change)

        assert await world.retention(Restarting(world.folder)).round() == 1
        assert await world.left() == {"restarted"}
        # When it has ended again it is another run: both are in the archive.
        present = await world.store.get(Job, "restarted")
        assert present is not None
        await world.committer.commit(Change(saves=(Save(job("restarted", 35), present.version),)))
        world.clock.time += timedelta(hours=1)
        assert await world.retention().round() == 1
        assert sorted(world.archived()) == ["done", "restarted", "restarted"]


async def test_jobs_of_a_group_stay_as_long_as_their_parent_runs(tmp_path: Path) -> None:
    async with opened(tmp_path) as world:
        await world.keep(job("plan", None), job("child", 40, parent="plan"), job("other", 40))
        assert await world.retention().round() == 1
        assert await world.left() == {"plan", "child"}


async def test_one_hub_archives_at_a_time(tmp_path: Path) -> None:
    async with opened(tmp_path) as world:
        await world.keep(job("one", 40))
        turn = ArchiveTurn(
            id="archive", vault_id="", holder="another", until=NOW + timedelta(minutes=5)
        )
        await world.committer.commit(Change(saves=(Save(turn, NEW),)))
        assert await world.retention().round() == 0
        world.clock.time += timedelta(minutes=6)
        assert await world.retention().round() == 1
        # A turn that a wrong clock took far ahead holds nobody up.
        far = turn.model_copy(update={"until": NOW + timedelta(days=900)})
        await world.committer.commit(Change(saves=(Save(far, None),)))
        await world.keep(job("two", 40))
        assert await world.retention().round() == 1


async def test_a_folder_that_cannot_be_written_keeps_the_jobs(tmp_path: Path) -> None:
    async with opened(tmp_path) as world:
        await world.keep(job("one", 40))
        (tmp_path / "archive").write_text("a file")
        with pytest.raises(ArchiveUnusableError, match=r"jobs\.archive_directory"):
            await FileArchive(world.folder).append([ArchivedJob("one", NOW, {})])
        assert await world.retention().round() == 0
        assert await world.left() == {"one"}


async def test_an_archive_that_another_process_writes_is_left_alone(tmp_path: Path) -> None:
    archive = FileArchive(tmp_path)
    with (tmp_path / ".lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(ArchiveBusyError):
            await archive.append([ArchivedJob("one", NOW, {})])
    await archive.append([ArchivedJob("one", NOW, {})])
    await archive.append([ArchivedJob("one", NOW, {})])
    assert len((tmp_path / "jobs-2026-07.jsonl").read_text().splitlines()) == 1
    # Taken away by an operator: what comes next begins a new file.
    (tmp_path / "jobs-2026-07.jsonl").rename(tmp_path / "taken")
    await archive.append([ArchivedJob("two", NOW, {})])
    assert "two" in (tmp_path / "jobs-2026-07.jsonl").read_text()


async def test_lines_of_others_in_the_archive_do_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "jobs-2026-07.jsonl"
    path.write_bytes(b"\x00\xff nonsense\n[]\n" + b"x" * 100_000 + b"\n")
    await FileArchive(tmp_path).append([ArchivedJob("one", NOW, {})])
    assert path.read_bytes().count(b"\n") == 4


async def test_an_export_gives_each_wanted_job_once(tmp_path: Path) -> None:
    async with opened(tmp_path) as world:
        vault = Vault(
            id="v",
            vault_id="v",
            subscription_id="s",
            resource_group="g",
            name="v",
            location="l",
            resource_number=1,
            created_at=NOW,
        )
        await world.keep(*(job(f"job-{index}", index) for index in range(1, 31)))
        await world.keep(job("runs", None))
        export = ExportService(reader=world.store)
        every = [each.id async for each in export.jobs(vault, ExportFilter())]
        assert sorted(every) == sorted(await world.left())
        state = ExportFilter(state="InProgress")
        assert [each.id async for each in export.jobs(vault, state)] == ["runs"]
        week = ExportFilter(NOW - timedelta(days=7), NOW - timedelta(days=3))
        found = {each.id async for each in export.jobs(vault, week)}
        assert found == {"job-4", "job-5", "job-6", "job-7"}
        # One that changes while it is read is given once.
        seen = []
        async for each in export.jobs(vault, ExportFilter()):
            seen.append(each.id)
            if len(seen) == 3:
                present = await world.store.get(Job, "job-30")
                assert present is not None
                change = Change(saves=(Save(present.record, present.version),))
                await world.committer.commit(change)
        assert sorted(seen) == sorted(every)
