"""The store in SQLite: one thread writes, a few read; one hub has the file open."""

import asyncio
import json
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

import sqlalchemy as sa

from service_hub.domain.errors import StorageUnavailableError
from service_hub.domain.records import Record
from service_hub.ports.changes import Applied, Change, Lease, Versioned
from service_hub.ports.surroundings import NO_FAULTS, FaultPoints
from service_hub.store.parsed_records import KEPT, ParsedRecords
from service_hub.store.record_store import RecordStore
from service_hub.store.rows_at_hand import RowsAtHand
from service_hub.store.sqlite_writer import NOW_MS, BatchWriter

AT_HAND_MAX: Final = 4
"""So many records are read one by one where they are asked for; more by a thread, together."""

READERS_MAX: Final = 4
"""Threads that read at the same time, each with a connection; writing has exactly one."""

_HELD: Final = """
    WHERE (job_id, owner, fence) IN (
        SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]')
        FROM json_each(?)
    )
"""
_CLAIM: Final = f"""
    UPDATE job_lease SET owner = ?, fence = fence + 1, held_until = {NOW_MS} + ?
    WHERE job_id IN (
        SELECT job_id FROM job_lease WHERE held_until < {NOW_MS} ORDER BY held_until LIMIT ?
    )
    RETURNING job_id, owner, fence
"""  # noqa: S608 -- our own words
_RENEW: Final = f"""
    UPDATE job_lease SET held_until = {NOW_MS} + ? {_HELD} RETURNING job_id, owner, fence
"""  # noqa: S608 -- our own words
_RELEASE: Final = f"UPDATE job_lease SET owner = '', held_until = 0 {_HELD}"  # noqa: S608 -- as above
_FREE: Final = "UPDATE job_lease SET owner = '', held_until = 0 WHERE held_until > 0"

_IN_THE_WAY: Final = (
    sqlite3.Error,
    sa.exc.SQLAlchemyError,
    StorageUnavailableError,
    UnicodeError,
)
"""Whatever keeps a row from being read at hand: the threads can wait for it, and say what it is."""

R = TypeVar("R", bound=Record)
T = TypeVar("T")


class SqliteStore(RecordStore):
    """What many statements take is done in one visit to a thread; a visit for each costs more."""

    def __init__(
        self,
        *,
        writer: sa.Engine,
        reader: sa.Engine,
        lease_seconds: float,
        faults: FaultPoints = NO_FAULTS,
    ) -> None:
        super().__init__()
        self._faults = faults
        self._batches = BatchWriter(writer, int(lease_seconds * 1000), faults)
        self._writer = writer
        self._writing = ThreadPoolExecutor(1, thread_name_prefix="store-writer")
        self._reader = reader
        self._reading = ThreadPoolExecutor(READERS_MAX, thread_name_prefix="store-reader")
        self._at_hand = RowsAtHand(reader)
        self._parsed = ParsedRecords()

    async def _read(self, question: Callable[[sa.Connection], T]) -> T:
        def answer() -> T:
            with self._reader.connect() as connection:
                return question(connection)

        return await asyncio.get_running_loop().run_in_executor(self._reading, answer)

    _read_moment = _read

    async def get(self, kind: type[R], record_id: str) -> Versioned[R] | None:
        """Return one record, or None; where the database lets nobody wait, without a thread."""
        # Others have their turn first, as with every other read.
        await asyncio.sleep(0)
        try:
            return self._found_at_hand(kind, record_id)
        except _IN_THE_WAY:
            return await super().get(kind, record_id)

    async def get_many(self, kind: type[R], record_ids: Sequence[str]) -> dict[str, Versioned[R]]:
        """Return those of these records that are there, by id; a few of them without a thread."""
        if len(record_ids) > AT_HAND_MAX:
            return await super().get_many(kind, record_ids)
        await asyncio.sleep(0)
        try:
            found = {each: self._found_at_hand(kind, each) for each in record_ids}
        except _IN_THE_WAY:
            return await super().get_many(kind, record_ids)
        return {each: record for each, record in found.items() if record is not None}

    def _found_at_hand(self, kind: type[R], record_id: str) -> Versioned[R] | None:
        if kind in KEPT:
            return self._parsed_once(kind, record_id)
        row = self._at_hand.row(kind, record_id)
        return None if row is None else Versioned(kind.model_validate_json(row[1]), row[0])

    def _parsed_once(self, kind: type[R], record_id: str) -> Versioned[R] | None:
        change = self._at_hand.change(kind, record_id)
        if change is None:
            return None
        known = self._parsed.known(kind, record_id, change)
        if known is not None:
            return known
        row = self._at_hand.row_and_change(kind, record_id)
        if row is None:
            return None
        found = Versioned(kind.model_validate_json(row[1]), row[0])
        self._parsed.keep(kind, record_id, row[2], found)
        return found

    async def _write(self, act: Callable[[sa.Connection], T]) -> T:
        def answer() -> T:
            self._batches.forget()
            with self._writer.begin() as connection:
                return act(connection)

        return await asyncio.get_running_loop().run_in_executor(self._writing, answer)

    async def apply(self, changes: Sequence[Change]) -> Applied:
        """Store a batch in one transaction, each change whole or not at all."""
        loop = asyncio.get_running_loop()
        await self._faults.reach("store.before_apply")
        outcomes = await loop.run_in_executor(self._writing, self._batches.apply, changes)
        await self._faults.reach("store.after_apply")
        return outcomes

    async def claim(self, owner: str, seconds: float, limit: int) -> list[Lease]:
        """Take jobs that nobody holds, at most `limit`, each under a raised fence."""
        return await self._leases(_CLAIM, (owner, int(seconds * 1000), limit))

    async def renew(self, held: Sequence[Lease], seconds: float) -> list[Lease]:
        """Prolong exactly these leases; return those that are still held."""
        if not held:
            return []
        return await self._leases(_RENEW, (int(seconds * 1000), _as_json(held)))

    async def release(self, held: Sequence[Lease]) -> None:
        """Let others claim these now."""
        if held:
            await self._write(
                lambda connection: connection.exec_driver_sql(_RELEASE, (_as_json(held),)).close()
            )

    async def free_all(self) -> None:
        """Let go of the leases of an earlier process, of which this one knows that it has ended."""
        await self._write(lambda connection: connection.exec_driver_sql(_FREE).close())

    async def _leases(self, statement: str, values: tuple[object, ...]) -> list[Lease]:
        return await self._write(
            lambda connection: [
                Lease(*row) for row in connection.exec_driver_sql(statement, values)
            ]
        )

    async def close(self) -> None:
        """Let go of the connections of the threads, when what they do is done."""
        loop = asyncio.get_running_loop()
        self._at_hand.close()
        for thread, engine in ((self._writing, self._writer), (self._reading, self._reader)):
            await loop.run_in_executor(thread, engine.dispose)
            thread.shutdown()


def _as_json(held: Sequence[Lease]) -> str:
    return json.dumps([(lease.job_id, lease.owner, lease.fence) for lease in held])
