"""What is read of the database, and who writes into it."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple, Protocol

from service_hub.domain.audit import AuditLine, AuditPlace
from service_hub.domain.errors import StaleVersionError
from service_hub.domain.jobs import Job, JobState
from service_hub.domain.records import OutboxEvent, ProviderStream
from service_hub.domain.replication_events import ReplicationEvent
from service_hub.ports.changes import Applied, Change, Lease, LogEntry, Message, R, Ring, Versioned


class Reader(Protocol):
    """Reads what is committed."""

    async def get(self, kind: type[R], record_id: str) -> Versioned[R] | None:
        """Return one record, or None."""

    async def find(self, kind: type[R], **columns: str) -> list[Versioned[R]]:
        """Return the records whose indexed columns equal these, oldest first."""

    async def events_after(self, provider_id: str, seq: int, limit: int) -> list[OutboxEvent]:
        """Return a provider's stored events above `seq`, in order, at most `limit`."""


@dataclass(frozen=True, slots=True)
class StreamPage:
    """A provider's stream, and the events above a place in it, as they were at one moment."""

    stream: ProviderStream
    events: Sequence[OutboxEvent] = ()


@dataclass(frozen=True, slots=True)
class Changed:
    """A record that was changed or deleted by the change of this number, its newest."""

    kind: str
    record_id: str
    number: int
    deleted: bool


class JobPlace(NamedTuple):
    """Where a job stands among the others: the change that it was made in, and its id."""

    created: int
    job_id: str


@dataclass(frozen=True, slots=True)
class JobPage:
    """Some jobs of a list, and the place of the last one where there are more behind it."""

    jobs: Sequence[Job]
    last: JobPlace | None = None


class EventPlace(NamedTuple):
    """Where an event stands among the others: the change that it was made in, and its id."""

    created: int
    event_id: str


@dataclass(frozen=True, slots=True)
class WantedEvents:
    """Which events of a vault are asked for: `equal` names searched columns, case is no matter."""

    vault_id: str
    equal: Mapping[str, str] = field(default_factory=dict)
    provider_ids: Sequence[str] | None = None
    begin: datetime | None = None
    end: datetime | None = None


@dataclass(frozen=True, slots=True)
class EventPage:
    """Some events of a list, and the place of the last one where there are more behind it."""

    events: Sequence[ReplicationEvent]
    last: EventPlace | None = None


class EventLists(Protocol):
    """Reads events page by page."""

    async def listed_events(
        self, wanted: WantedEvents, after: EventPlace | None, limit: int
    ) -> EventPage:
        """Return at most `limit` events, newest first."""

    async def old_events(self, before: datetime, limit: int) -> list[str]:
        """Return ids of events from before a moment, oldest first."""

    async def events_behind(
        self, begin: datetime, event_id: str, limit: int
    ) -> list[ReplicationEvent]:
        """Return events of all vaults behind a moment and an id, oldest first."""


class JobLists(Protocol):
    """Reads lists of jobs page by page."""

    async def listed_jobs(
        self, vault_id: str, after: JobPlace | None, limit: int, state: JobState | None = None
    ) -> JobPage:
        """Return at most `limit` jobs that are no part of another, newest first; `state`: in it."""

    async def job_counts(self, vault_id: str) -> dict[JobState, int]:
        """Return how many jobs of a vault that are no part of another are in each state."""


class WideReader(Reader, Protocol):
    """Reads many records at once, and what goes beyond records."""

    async def get_many(self, kind: type[R], record_ids: Sequence[str]) -> dict[str, Versioned[R]]:
        """Return those of these records that are there, by id."""

    async def count(self, kind: type[R], **columns: str) -> int:
        """Return how many records `find` would return, without reading them."""

    async def last_number(self) -> int:
        """Return the number of the last committed change."""

    async def changes_since(self, vault_id: str, number: int, limit: int) -> list[Changed]:
        """Return what changed above a number, in order.

        Changes are told whole: at most `limit` records, unless one change alone has more.
        """

    async def log_of(self, job_id: str) -> list[LogEntry]:
        """Return what a job decided on, from its making on."""

    async def child_counts(self, parent_id: str, parent_task: str) -> dict[JobState, int]:
        """Return how many child jobs of a task are in which state."""

    async def finished_jobs(self, before: datetime, limit: int) -> list[str]:
        """Return ids of jobs that ended before a moment, oldest first.

        Deleting a job deletes its log too.
        """

    async def old_request_keys(self, before: datetime, limit: int) -> list[str]:
        """Return ids of request keys made before a moment, oldest first."""


class AuditReader(Protocol):
    """Reads the audit log; nothing changes it but a Change that adds to it."""

    async def audit_lines(
        self, vault_id: str, after: AuditPlace | None, limit: int
    ) -> list[AuditLine]:
        """Return at most `limit` lines of a vault behind a place, oldest first."""


class OutboxReader(Reader, Protocol):
    """Reads what waits for many providers at once."""

    async def pages(self, after: Mapping[str, int], limit: int) -> Mapping[str, StreamPage]:
        """Return for each provider its stream, and at most `limit` events above a number.

        What is acknowledged never comes again, whatever the number. Who has no stream is not in
        the answer; neither is who had to be left out since all together were too large.
        """


class Store(Reader, Protocol):
    """The database."""

    async def apply(self, changes: Sequence[Change]) -> Applied:
        """Store a batch in one transaction, each change whole or not at all.

        Any exception: nothing of the batch is stored.
        """


class Leases(Protocol):
    """Which process may decide on which job; times are the database's own."""

    async def claim(self, owner: str, seconds: float, limit: int) -> list[Lease]:
        """Take jobs that nobody holds, at most `limit`, each under a raised fence."""

    async def renew(self, held: Sequence[Lease], seconds: float) -> list[Lease]:
        """Prolong exactly these leases; return those that are still held."""

    async def release(self, held: Sequence[Lease]) -> None:
        """Let others claim these now."""

    async def messages(self, job_ids: Sequence[str]) -> list[Message]:
        """Return what waits for these jobs, oldest first."""


class Bell(Protocol):
    """Hears the hints of all hubs of the database."""

    def listen(self) -> AsyncIterator[Ring]:
        """Yield every ring from now on; those of a broken connection are lost."""


class Committer(Protocol):
    """The only writer of a hub process."""

    async def commit(self, change: Change) -> int:
        """Store the change and return its number; raises StaleVersionError, then nothing is."""

    async def commit_all(self, changes: Sequence[Change]) -> list[int | StaleVersionError]:
        """Store each alone, in order, and return as Store.apply does."""
