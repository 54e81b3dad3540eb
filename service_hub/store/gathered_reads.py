"""Reads of single records: what is asked while a read is under way becomes one read together.

A thousand providers that connect, report or pull at one moment ask for a thousand rows; each read
of its own costs half a millisecond of the loop, most of it for reaching the database's thread.
"""

import asyncio
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from service_hub.domain.records import Record
from service_hub.store.tables import TABLES

IDS_MAX: Final = 500
"""Rows of one read together: more would hold the loop up."""


@dataclass(slots=True)
class _Batch:
    """What was asked since the last read began; `rows` once it is answered."""

    wanted: defaultdict[type[Record], set[str]] = field(default_factory=lambda: defaultdict(set))
    count: int = 0
    rows: dict[tuple[type[Record], str], Any] | None = None
    failure: Exception | None = None


class GatheredReads:
    """Gives rows by id, each read after it was asked for: a commit before the question shows."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._turn = asyncio.Lock()
        self._next = _Batch()

    async def row(self, kind: type[Record], record_id: str) -> Any | None:
        """Return (version, document), or None."""
        if self._next.count >= IDS_MAX:
            self._next = _Batch()
        batch = self._next
        batch.wanted[kind].add(record_id)
        batch.count += 1
        async with self._turn:
            if batch.rows is None and batch.failure is None:
                await self._read(batch)
        if batch.failure is not None:
            raise batch.failure
        return None if batch.rows is None else batch.rows.get((kind, record_id))

    async def _read(self, batch: _Batch) -> None:
        """Answer the batch; when its reader is cancelled, the next one who waits for it reads."""
        # Others who are ready to ask at this moment come along.
        await asyncio.sleep(0)
        if self._next is batch:
            # Who asks from now on may know of a later commit.
            self._next = _Batch()
        rows: dict[tuple[type[Record], str], Any] = {}
        try:
            async with self._engine.connect() as connection:
                for kind, ids in batch.wanted.items():
                    table = TABLES[kind]
                    query = sa.select(table.c.id, table.c.version, table.c.document).where(
                        table.c.id.in_(ids)
                    )
                    found = (await connection.execute(query)).all()
                    rows.update({(kind, row.id): row for row in found})
        except Exception as error:  # noqa: BLE001 -- raised again for everybody who asked
            batch.failure = error
            return
        batch.rows = rows
