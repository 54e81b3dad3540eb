"""Finished jobs leave the database for the archive when they are old; and jobs are exported."""

import json
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any, Final

import structlog

from service_hub.domain.errors import StaleVersionError
from service_hub.domain.jobs import Job
from service_hub.domain.looker_records import ArchiveTurn, TaskReceipt
from service_hub.domain.records import Vault
from service_hub.looker_ports import (
    ArchiveBusyError,
    ArchivedJob,
    ArchiveUnusableError,
    ExportFilter,
    JobArchive,
)
from service_hub.ports.changes import NEW, Change, Delete, Save, Versioned
from service_hub.ports.stores import Committer, WideReader
from service_hub.ports.surroundings import Clock

BATCH_MAX: Final = 50
"""Jobs that are archived together."""

BATCHES_MAX: Final = 200
"""Batches of one round; what is left is found by the next."""

TURN: Final = timedelta(minutes=10)
"""Longest that a hub which died in its turn keeps the others from archiving."""

TURN_ID: Final = "archive"

PAGE_MAX: Final = 200
PASSES_MAX: Final = 10
"""How often an export looks for jobs that moved on while it read."""

log = structlog.get_logger(__name__)


class Retention:
    """Archives finished jobs; one hub of a database at a time."""

    def __init__(
        self,
        *,
        reader: WideReader,
        committer: Committer,
        clock: Clock,
        archive: JobArchive,
        kept: timedelta,
    ) -> None:
        self._reader = reader
        self._committer = committer
        self._clock = clock
        self._archive = archive
        self._kept = kept
        self._holder = clock.new_id()

    async def round(self) -> int:
        """Archive and delete what is old enough; return how many jobs went."""
        before = self._clock.now() - self._kept
        gone, left = 0, set[str]()
        for _ in range(BATCHES_MAX):
            ids = await self._reader.finished_jobs(before, BATCH_MAX + len(left))
            ids = [each for each in ids if each not in left]
            if not ids or not await self._turn():
                break
            try:
                went = await self._batch(ids)
            except ArchiveBusyError as error:
                log.info("archive_busy", cause=str(error))
                break
            except ArchiveUnusableError as error:
                log.error("archive_unusable", cause=str(error))  # noqa: TRY400 -- the cause is the disk's
                break
            left |= set(ids) - went
            gone += len(went)
        if gone:
            log.info("jobs_archived", jobs=gone, before=before.isoformat())
        return gone

    async def _turn(self) -> bool:
        """Return whether this process may archive now, and hold the turn."""
        now = self._clock.now()
        found = await self._reader.get(ArchiveTurn, TURN_ID)
        turn = None if found is None else found.record
        if turn is not None and turn.holder != self._holder and now < turn.until <= now + TURN:
            return False
        held = ArchiveTurn(id=TURN_ID, vault_id="", holder=self._holder, until=now + TURN)
        version = NEW if found is None else found.version
        try:
            await self._committer.commit(Change(saves=(Save(held, version),)))
        except StaleVersionError:
            return False
        return True

    async def _batch(self, ids: list[str]) -> set[str]:
        """Archive these jobs, then delete those that nobody has touched meanwhile."""
        found = await self._reader.get_many(Job, ids)
        parents = {each.record.parent_id for each in found.values()} - {None}
        present = await self._reader.get_many(Job, [each for each in parents if each])
        changes: dict[str, Change] = {}
        archived = []
        for job_id, each in found.items():
            parent = present.get(each.record.parent_id or "")
            if not each.record.finished or (parent is not None and not parent.record.finished):
                # A group's result is what its jobs say: they stay as long as their parent runs.
                continue
            receipts = await self._reader.find(TaskReceipt, job_id=job_id)
            archived.append(await self._content(each.record, receipts))
            deletes = [Delete(Job, job_id), *(Delete(TaskReceipt, r.record.id) for r in receipts)]
            # Saved as it was read, then deleted: who restarts a job in this moment keeps it.
            changes[job_id] = Change(saves=(Save(each.record, each.version),), deletes=deletes)
        if not archived:
            return set()
        await self._archive.append(archived)
        outcomes = await self._committer.commit_all([*changes.values()])
        return {
            job_id
            for job_id, outcome in zip(changes, outcomes, strict=True)
            if not isinstance(outcome, StaleVersionError)
        }

    async def _content(self, job: Job, receipts: list[Versioned[TaskReceipt]]) -> ArchivedJob:
        entries = await self._reader.log_of(job.id)
        content: dict[str, Any] = {
            "vault_id": job.vault_id,
            "job": job.model_dump(mode="json"),
            "log": [
                {"number": entry.number, "at": entry.at.isoformat(), "event": _event(entry.event)}
                for entry in entries
            ],
            "receipts": [each.record.model_dump(mode="json") for each in receipts],
        }
        assert job.ended_at is not None, "a finished job has ended"
        return ArchivedJob(job.id, job.ended_at, content)


def _event(text: str) -> Any:
    """Return an event as JSON within the line, and as its text where it is damaged."""
    try:
        return json.loads(text)
    except ValueError:
        return text


class ExportService:
    """The ExportUseCases of the looker ports: never more than a page of jobs in memory."""

    def __init__(self, *, reader: WideReader) -> None:
        self._reader = reader

    async def jobs(self, vault: Vault, wanted: ExportFilter) -> AsyncIterator[Job]:
        """Yield each job that is wanted once, also one that changes meanwhile."""
        seen: set[str] = set()
        after = 0
        for _ in range(PASSES_MAX):
            newest, count = await self._reader.last_number(), len(seen)
            while after < newest:
                rows = await self._reader.changes_since(vault.id, after, PAGE_MAX)
                if not rows:
                    after = newest
                    break
                after = rows[-1].number
                ids = [
                    row.record_id
                    for row in rows
                    if row.kind == Job.kind and not row.deleted and row.record_id not in seen
                ]
                found = await self._reader.get_many(Job, ids)
                for job_id in ids:
                    each = found.get(job_id)
                    if each is None:
                        continue
                    seen.add(job_id)
                    if _fits(each.record, wanted):
                        yield each.record
            if len(seen) == count:
                return


def _fits(job: Job, wanted: ExportFilter) -> bool:
    at: datetime = job.started_at or job.created_at
    if wanted.begin is not None and at < wanted.begin:
        return False
    if wanted.end is not None and at >= wanted.end:
        return False
    return wanted.state is None or job.state.value.lower() == wanted.state.lower()
