"""A store in memory with leases, whose time and failures a test plays."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

from service_hub.domain.errors import LeaseLostError, StaleVersionError
from service_hub.domain.jobs import Job
from service_hub.domain.records import Record
from service_hub.ports.changes import (
    NEW,
    Applied,
    Change,
    Lease,
    LogEntry,
    Message,
    NewEvent,
    Versioned,
)

R = TypeVar("R", bound=Record)


class PlayedStore:
    """The Store and the Leases of the hub's ports, without a database."""

    def __init__(self) -> None:
        self.now = 0.0
        self.lease_seconds = 15.0
        self.records: dict[tuple[type[Record], str], Versioned[Record]] = {}
        self.logs: defaultdict[str, list[LogEntry]] = defaultdict(list)
        self.leases: dict[str, tuple[Lease, float]] = {}
        self.inbox: dict[str, Message] = {}
        self.events: list[NewEvent] = []
        self.changes = 0
        self.batches: list[int] = []
        self.reads = 0
        self.fail: Exception | None = None
        self.fail_after: Exception | None = None
        self.before_apply: Callable[[], None] | None = None

    # ------------------------------------------------------------------------------- reading

    async def get(self, kind: type[R], record_id: str) -> Versioned[R] | None:
        """Return one record, or None."""
        self.reads += 1
        if self.fail is not None:
            raise self.fail
        return cast("Versioned[R] | None", self.records.get((kind, record_id)))

    async def find(self, kind: type[R], **columns: str) -> list[Versioned[R]]:
        """Return the records of a kind with these values."""
        return [
            cast("Versioned[R]", each)
            for (of, _), each in self.records.items()
            if of is kind and all(_is(each.record, name, columns[name]) for name in columns)
        ]

    async def events_after(self, provider_id: str, seq: int, limit: int) -> list[Any]:
        """Nobody reads events here."""
        raise NotImplementedError

    # ------------------------------------------------------------------------------- writing

    async def apply(self, changes: Sequence[Change]) -> Applied:
        """Store each change whole or not at all."""
        if self.before_apply is not None:
            self.before_apply()
        if self.fail is not None:
            raise self.fail
        outcomes: list[int | StaleVersionError] = []
        self.batches.append(len(changes))
        for change in changes:
            try:
                self._check(change)
            except StaleVersionError as error:
                outcomes.append(error)
                continue
            self._store(change)
            self.changes += 1
            outcomes.append(self.changes)
        if self.fail_after is not None:
            failure, self.fail_after = self.fail_after, None
            raise failure
        return Applied(outcomes)

    def _check(self, change: Change) -> None:
        for guard in change.guards:
            lease, _ = self.leases.get(guard.job_id, (None, 0.0))
            if lease is None or lease.fence != guard.fence:
                raise LeaseLostError(guard.job_id)
        for begun in change.begins:
            if begun.job_id in self.leases:
                raise StaleVersionError(f"{begun.job_id} has a lease")
        for save in change.saves:
            present = self.records.get((type(save.record), save.record.id))
            version = NEW if present is None else present.version
            if save.expected_version not in {None, version}:
                raise StaleVersionError(f"{save.record.id} has version {version}")

    def _store(self, change: Change) -> None:
        for save in change.saves:
            key = (type(save.record), save.record.id)
            present = self.records.get(key)
            version = NEW if present is None else present.version
            self.records[key] = Versioned(save.record, version + 1)
        for entry in change.log:
            self.logs[entry.job_id].append(entry)
        for begun in change.begins:
            self.leases[begun.job_id] = (begun, self.now + self.lease_seconds)
        for message in change.messages:
            self.inbox[message.message_id] = message
        for message_id in change.taken:
            self.inbox.pop(message_id, None)
        for job_id in change.ends:
            self.leases.pop(job_id, None)
        self.events += change.events

    # -------------------------------------------------------------------------------- leases

    async def claim(self, owner: str, seconds: float, limit: int) -> list[Lease]:
        """Take what is free or has run out."""
        if self.fail is not None:
            raise self.fail
        free = [each for each, until in self.leases.values() if until <= self.now][:limit]
        claimed = [Lease(each.job_id, owner, each.fence + 1) for each in free]
        for lease in claimed:
            self.leases[lease.job_id] = (lease, self.now + seconds)
        return claimed

    async def renew(self, held: Sequence[Lease], seconds: float) -> list[Lease]:
        """Prolong exactly these."""
        if self.fail is not None:
            raise self.fail
        still = [each for each in held if self.leases.get(each.job_id, (None, 0.0))[0] == each]
        for lease in still:
            self.leases[lease.job_id] = (lease, self.now + seconds)
        return still

    async def release(self, held: Sequence[Lease]) -> None:
        """Let others take these."""
        for lease in held:
            if self.leases.get(lease.job_id, (None, 0.0))[0] == lease:
                self.leases[lease.job_id] = (lease, 0.0)

    async def messages(self, job_ids: Sequence[str]) -> list[Message]:
        """Return what waits for these jobs."""
        return [each for each in self.inbox.values() if each.job_id in job_ids]

    # ------------------------------------------------------------------------- for the tests

    def job(self, job_id: str) -> Job:
        """Return a job as it is stored."""
        return cast("Job", self.records[Job, job_id].record)

    def steal(self, job_id: str) -> None:
        """Let another hub have claimed the job, whatever its lease said."""
        lease, _ = self.leases[job_id]
        other = Lease(job_id, "another hub", lease.fence + 1)
        self.leases[job_id] = (other, self.now + self.lease_seconds)


def _is(record: Record, name: str, value: str) -> bool:
    present: object = getattr(record, name)
    return str(present or "").lower() == value.lower()
