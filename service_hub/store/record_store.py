"""Reads records and applies changes; knows nothing of what they mean."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

import sqlalchemy as sa

from service_hub.domain.audit import AuditLine, AuditPlace
from service_hub.domain.jobs import JobState
from service_hub.domain.records import OutboxEvent, Record
from service_hub.domain.replication_events import ReplicationEvent
from service_hub.ports.changes import Applied, Change, Lease, LogEntry, Message, Ring, Versioned
from service_hub.ports.stores import (
    Changed,
    EventPage,
    EventPlace,
    JobPage,
    JobPlace,
    StreamPage,
    WantedEvents,
)
from service_hub.store import event_reads, vault_reads
from service_hub.store.audit_lines import audit_lines
from service_hub.store.bells import Bells
from service_hub.store.gathered_reads import GatheredReads, rows_of
from service_hub.store.outbox_reads import stream_pages
from service_hub.store.tables import TABLES

R = TypeVar("R", bound=Record)
T = TypeVar("T")


class RecordStore(ABC):
    """The Store, the readers, the Leases and the Bell of the hub's ports, whatever the database.

    Questions are functions of a connection, the same for every database; who writes, and how a
    question gets to a connection, is the database's own.
    """

    def __init__(self) -> None:
        self._rows = GatheredReads(self._read)
        self._bells = Bells()

    # -------------------------------------------------------------------------- what differs

    @abstractmethod
    async def _read(self, question: Callable[[sa.Connection], T]) -> T:
        """Have a question answered from what is committed now."""

    @abstractmethod
    async def _read_moment(self, question: Callable[[sa.Connection], T]) -> T:
        """Have a question of several statements answered as of one moment."""

    @abstractmethod
    async def apply(self, changes: Sequence[Change]) -> Applied:
        """Store a batch in one transaction, each change whole or not at all (ports: Store)."""

    @abstractmethod
    async def claim(self, owner: str, seconds: float, limit: int) -> list[Lease]:
        """Take jobs that nobody holds (ports: Leases)."""

    @abstractmethod
    async def renew(self, held: Sequence[Lease], seconds: float) -> list[Lease]:
        """Prolong exactly these leases; return those that are still held."""

    @abstractmethod
    async def release(self, held: Sequence[Lease]) -> None:
        """Let others claim these now."""

    # -------------------------------------------------------------------------- records

    async def get(self, kind: type[R], record_id: str) -> Versioned[R] | None:
        """Return one record, or None."""
        row = await self._rows.row(kind, record_id)
        return None if row is None else _versioned(kind, row)

    async def get_many(self, kind: type[R], record_ids: Sequence[str]) -> dict[str, Versioned[R]]:
        """Return those of these records that are there, by id."""
        rows = await self._read(lambda connection: rows_of(connection, kind, record_ids))
        return {each: _versioned(kind, row) for each, row in rows.items()}

    async def find(self, kind: type[R], **columns: str) -> list[Versioned[R]]:
        """Return the records whose searched columns equal these, oldest first."""
        if _holds_nul(columns):
            return []
        table = TABLES[kind]
        query = sa.select(table.c.version, table.c.document).where(*_equal(table, columns))
        rows = await self._rows_of(query.order_by(table.c.created, table.c.id))
        return [_versioned(kind, row) for row in rows]

    async def count(self, kind: type[R], **columns: str) -> int:
        """Return how many records `find` would return, without reading them."""
        if _holds_nul(columns):
            return 0
        table = TABLES[kind]
        query = sa.select(sa.func.count()).select_from(table).where(*_equal(table, columns))
        ((found,),) = await self._rows_of(query)
        return int(found)

    async def events_after(self, provider_id: str, seq: int, limit: int) -> list[OutboxEvent]:
        """Return a provider's stored events above `seq`, in order, at most `limit`."""
        table = TABLES[OutboxEvent]
        query = (
            sa.select(table.c.document)
            .where(table.c.provider_id == provider_id.lower(), table.c.seq > seq)
            .order_by(table.c.seq)
            .limit(limit)
        )
        rows = await self._rows_of(query)
        return [OutboxEvent.model_validate_json(row.document) for row in rows]

    async def pages(self, after: Mapping[str, int], limit: int) -> Mapping[str, StreamPage]:
        """Return for each provider its stream, and events above a number (ports)."""
        return await self._read_moment(lambda connection: stream_pages(connection, after, limit))

    async def _rows_of(self, query: sa.Select[Any]) -> Sequence[Any]:
        return await self._read(lambda connection: connection.execute(query).all())

    # -------------------------------------------------------------------------- beyond records

    async def last_number(self) -> int:
        """Return the number of the last committed change."""
        return await self._read(vault_reads.last_number)

    async def changes_since(self, vault_id: str, number: int, limit: int) -> list[Changed]:
        """Return what changed above a number, in order; changes are told whole (ports)."""
        return await self._read(
            lambda connection: vault_reads.changes_since(connection, vault_id, number, limit)
        )

    async def log_of(self, job_id: str) -> list[LogEntry]:
        """Return what a job decided on, from its making on."""
        return await self._read(lambda connection: vault_reads.log_of(connection, job_id))

    async def child_counts(self, parent_id: str, parent_task: str) -> dict[JobState, int]:
        """Return how many child jobs of a task are in which state."""
        return await self._read(
            lambda connection: vault_reads.child_counts(connection, parent_id, parent_task)
        )

    async def listed_jobs(
        self, vault_id: str, after: JobPlace | None, limit: int, state: JobState | None = None
    ) -> JobPage:
        """Return at most `limit` jobs that are no part of another, newest first (ports)."""
        return await self._read(
            lambda connection: vault_reads.listed_jobs(connection, vault_id, after, limit, state)
        )

    async def job_counts(self, vault_id: str) -> dict[JobState, int]:
        """Return how many jobs of a vault that are no part of another are in each state."""
        return await self._read(lambda connection: vault_reads.job_counts(connection, vault_id))

    async def listed_events(
        self, wanted: WantedEvents, after: EventPlace | None, limit: int
    ) -> EventPage:
        """Return at most `limit` events that are wanted, newest first (ports: EventLists)."""
        return await self._read(
            lambda connection: event_reads.listed_events(connection, wanted, after, limit)
        )

    async def old_events(self, before: datetime, limit: int) -> list[str]:
        """Return ids of events from before a moment, oldest first."""
        return await self._read(
            lambda connection: event_reads.old_events(connection, before, limit)
        )

    async def events_behind(
        self, begin: datetime, event_id: str, limit: int
    ) -> list[ReplicationEvent]:
        """Return events behind a moment and an id, oldest first (ports: EventLists)."""
        return await self._read(
            lambda connection: event_reads.events_behind(connection, begin, event_id, limit)
        )

    async def finished_jobs(self, before: datetime, limit: int) -> list[str]:
        """Return ids of jobs that ended before a moment, oldest first."""
        return await self._read(
            lambda connection: vault_reads.finished_jobs(connection, before, limit)
        )

    async def old_request_keys(self, before: datetime, limit: int) -> list[str]:
        """Return ids of request keys made before a moment, oldest first."""
        return await self._read(
            lambda connection: vault_reads.old_request_keys(connection, before, limit)
        )

    async def audit_lines(
        self, vault_id: str, after: AuditPlace | None, limit: int
    ) -> list[AuditLine]:
        """Return at most `limit` lines of a vault's audit log behind a place, oldest first."""
        return await self._read(lambda connection: audit_lines(connection, vault_id, after, limit))

    async def messages(self, job_ids: Sequence[str]) -> list[Message]:
        """Return what waits for these jobs, oldest first (ports: Leases)."""
        return await self._read(lambda connection: vault_reads.messages_for(connection, job_ids))

    def listen(self) -> AsyncIterator[Ring]:
        """Yield the hints of the other hubs of this database (ports: Bell)."""
        return self._bells.listen()


def _versioned(kind: type[R], row: Any) -> Versioned[R]:
    return Versioned(kind.model_validate_json(row.document), row.version)


def _holds_nul(columns: Mapping[str, str]) -> bool:
    """No text of a database holds NUL; PostgreSQL would refuse the question."""
    return any("\0" in value for value in columns.values())


def _equal(table: sa.Table, columns: Mapping[str, str]) -> list[sa.ColumnElement[bool]]:
    return [table.c[name] == value.lower() for name, value in columns.items()]
