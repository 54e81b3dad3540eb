"""Single rows of SQLite, read where they are asked for; a visit to a thread costs ten such reads.

For a thousand servers that connect, report or pull. In the mode that we use (WAL) a reader waits
for no writer; what could wait all the same fails at once here, and is left to those who may.
"""

import sqlite3
from collections.abc import Mapping
from typing import Any, Final

import sqlalchemy as sa

from service_hub.domain.records import Record
from service_hub.store.tables import TABLES

_ROW: Final[Mapping[type[Record], str]] = {
    kind: f"SELECT version, document FROM {kind.kind} WHERE id = ?"  # noqa: S608 -- names of our own tables
    for kind in TABLES
}
_CHANGE: Final[Mapping[type[Record], str]] = {
    kind: f"SELECT change FROM {kind.kind} WHERE id = ?"  # noqa: S608 -- as above
    for kind in TABLES
}
_ROW_AND_CHANGE: Final[Mapping[type[Record], str]] = {
    kind: f"SELECT version, document, change FROM {kind.kind} WHERE id = ?"  # noqa: S608 -- as above
    for kind in TABLES
}


class RowsAtHand:
    """One connection for the thread of the event loop, opened when it is first needed."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._pooled: sa.PoolProxiedConnection | None = None

    def row(self, kind: type[Record], record_id: str) -> tuple[int, str] | None:
        """Return (version, document) as committed now; any error: ask in another way."""
        # All rows are fetched: a statement that is not done would keep its moment for ever.
        rows: list[Any] = self._line().execute(_ROW[kind], (record_id,)).fetchall()
        return rows[0] if rows else None

    def change(self, kind: type[Record], record_id: str) -> int | None:
        """Return the number of the change that wrote a row; the row itself is not read."""
        rows: list[Any] = self._line().execute(_CHANGE[kind], (record_id,)).fetchall()
        return int(rows[0][0]) if rows else None

    def row_and_change(self, kind: type[Record], record_id: str) -> tuple[int, str, int] | None:
        """Return (version, document, number of the change that wrote it)."""
        rows: list[Any] = self._line().execute(_ROW_AND_CHANGE[kind], (record_id,)).fetchall()
        return rows[0] if rows else None

    def close(self) -> None:
        """Give the connection back."""
        if self._pooled is not None:
            self._pooled.close()
            self._pooled = None

    def _line(self) -> sqlite3.Connection:
        if self._pooled is None:
            self._pooled = self._engine.raw_connection()
            line = self._pooled.driver_connection
            assert isinstance(line, sqlite3.Connection)
            line.isolation_level = None
            line.execute("PRAGMA busy_timeout = 0").close()
        line = self._pooled.driver_connection
        assert isinstance(line, sqlite3.Connection)
        return line
