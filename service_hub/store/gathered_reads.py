"""Reads of single records: what is asked while a read is under way becomes one read together.

A thousand providers that connect, report or pull at one moment ask for a thousand rows; each read
of its own costs half a millisecond of the loop, most of it for reaching the database's thread.
"""

import asyncio
import json
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, TypeVar

import sqlalchemy as sa

from service_hub.domain.records import Record

T = TypeVar("T")

IDS_MAX: Final = 500
"""Rows of one read together: more would hold the loop up."""

AMONG: Final[Mapping[str, str]] = {
    "sqlite": "(SELECT value FROM json_each(:wanted))",
    "postgresql": "(SELECT json_array_elements_text(CAST(:wanted AS json)))",
}
"""Any number of ids as one argument: the statement stays the same, and stays prepared."""


class Reading(Protocol):
    """Has a question answered by a connection that reads what is committed now."""

    async def __call__(self, question: Callable[[sa.Connection], T]) -> T:
        """Return the answer."""


def rows_of(connection: sa.Connection, kind: type[Record], ids: Collection[str]) -> dict[str, Any]:
    """Return (id, version, document) of each that is there, by id."""
    statement = sa.text(
        f"SELECT id, version, document FROM {kind.kind}"  # noqa: S608 -- a name of our own tables
        f" WHERE id IN {AMONG[connection.dialect.name]}"
    )
    # No text of a database holds NUL; PostgreSQL would refuse the whole question.
    wanted = json.dumps([each for each in ids if "\0" not in each])
    return {row.id: row for row in connection.execute(statement, {"wanted": wanted})}


@dataclass(slots=True)
class _Batch:
    """What was asked since the last read began; `rows` once it is answered."""

    wanted: defaultdict[type[Record], set[str]] = field(default_factory=lambda: defaultdict(set))
    count: int = 0
    rows: dict[type[Record], dict[str, Any]] | None = None
    failure: Exception | None = None


class GatheredReads:
    """Gives rows by id, each read after it was asked for: a commit before the question shows."""

    def __init__(self, read: Reading) -> None:
        self._ask = read
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
        return None if batch.rows is None else batch.rows[kind].get(record_id)

    async def _read(self, batch: _Batch) -> None:
        """Answer the batch; when its reader is cancelled, the next one who waits for it reads."""
        # Others who are ready to ask at this moment come along.
        await asyncio.sleep(0)
        if self._next is batch:
            # Who asks from now on may know of a later commit.
            self._next = _Batch()
        wanted = dict(batch.wanted)
        try:
            batch.rows = await self._ask(
                lambda connection: {
                    kind: rows_of(connection, kind, ids) for kind, ids in wanted.items()
                }
            )
        except Exception as error:  # noqa: BLE001 -- raised again for everybody who asked
            batch.failure = error
