"""Reads records and applies changes; knows nothing of what they mean."""

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from service_hub.domain.errors import StaleVersionError
from service_hub.domain.records import OutboxEvent, Record
from service_hub.ports import NO_FAULTS, Change, FaultPoints, StreamPage, Versioned
from service_hub.store.changes import apply_changes
from service_hub.store.gathered_reads import GatheredReads
from service_hub.store.outbox_reads import stream_pages
from service_hub.store.tables import TABLES

OUTBOX_READERS: Final = 2
"""Threads that read outboxes, each with a connection."""

R = TypeVar("R", bound=Record)


class RecordStore:
    """The Store and Reader of the hub's ports: one connection writes, several read.

    What is one statement goes through `reader`; what is many statements or many rows is done in
    one visit to a thread, with an engine of its own.
    """

    def __init__(
        self,
        *,
        writer: sa.Engine,
        reader: AsyncEngine,
        outbox: sa.Engine,
        faults: FaultPoints = NO_FAULTS,
    ) -> None:
        self._faults = faults
        self._writer = writer
        self._writing = ThreadPoolExecutor(1, thread_name_prefix="store-writer")
        self._outbox = outbox
        self._reading = ThreadPoolExecutor(OUTBOX_READERS, thread_name_prefix="store-outbox")
        self._reader = reader
        self._rows = GatheredReads(reader)

    async def get(self, kind: type[R], record_id: str) -> Versioned[R] | None:
        """Return one record, or None."""
        row = await self._rows.row(kind, record_id)
        return None if row is None else _versioned(kind, row)

    async def find(self, kind: type[R], **columns: str) -> list[Versioned[R]]:
        """Return the records whose searched columns equal these, oldest first."""
        table = TABLES[kind]
        query = sa.select(table.c.version, table.c.document).order_by(sa.text("rowid"))
        for name, value in columns.items():
            query = query.where(table.c[name] == value.lower())
        async with self._reader.connect() as connection:
            rows = (await connection.execute(query)).all()
        return [_versioned(kind, row) for row in rows]

    async def events_after(self, provider_id: str, seq: int, limit: int) -> list[OutboxEvent]:
        """Return a provider's stored events above `seq`, in order, at most `limit`."""
        table = TABLES[OutboxEvent]
        query = (
            sa.select(table.c.document)
            .where(table.c.provider_id == provider_id.lower(), table.c.seq > seq)
            .order_by(table.c.seq)
            .limit(limit)
        )
        async with self._reader.connect() as connection:
            rows = (await connection.execute(query)).all()
        return [OutboxEvent.model_validate_json(row.document) for row in rows]

    async def pages(self, after: Mapping[str, int], limit: int) -> Mapping[str, StreamPage]:
        """Return for each provider its stream, and events above a number (ports)."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._reading, stream_pages, self._outbox, after, limit)

    async def apply(self, changes: Sequence[Change]) -> list[int | StaleVersionError]:
        """Store a batch in one transaction, each change in its own savepoint."""
        loop = asyncio.get_running_loop()
        await self._faults.reach("store.before_apply")
        # The whole batch in one visit to the thread: a visit for each statement costs more than
        # the statement.
        outcomes = await loop.run_in_executor(
            self._writing, apply_changes, self._writer, changes, self._faults
        )
        await self._faults.reach("store.after_apply")
        return outcomes

    async def close(self) -> None:
        """Let go of the connections of the threads, when what they do is done."""
        loop = asyncio.get_running_loop()
        for thread, engine in ((self._writing, self._writer), (self._reading, self._outbox)):
            await loop.run_in_executor(thread, engine.dispose)
            thread.shutdown()


def _versioned(kind: type[R], row: Any) -> Versioned[R]:
    return Versioned(kind.model_validate_json(row.document), row.version)
