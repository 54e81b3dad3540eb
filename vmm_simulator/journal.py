"""The simulator's only persistence beside the disks: inventory, epochs, ledger of effects.

SQLite in WAL mode with synchronous=FULL: what was answered survives a power cut, and a change is
seen whole or not at all. All statements run on one thread of their own, in the order of the calls;
what is asked for while the thread is busy is written in one transaction.
"""

import asyncio
import fcntl
import os
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Self, TypeVar

from service_shell.errors import ProgramError
from service_shell.gathered_work import Done, GatheredWork
from vmm_simulator.problems import Code, RefusedError

FORMAT: Final = 1
"""Version of the file's format (PRAGMA user_version)."""

_SCHEMA: Final = """
CREATE TABLE documents (kind TEXT NOT NULL, id TEXT NOT NULL, body TEXT NOT NULL,
  PRIMARY KEY (kind, id)) WITHOUT ROWID;
CREATE TABLE effects (number INTEGER PRIMARY KEY AUTOINCREMENT, command_id TEXT NOT NULL UNIQUE,
  verb TEXT NOT NULL, target TEXT NOT NULL, epoch INTEGER NOT NULL, digest TEXT NOT NULL,
  began_at TEXT NOT NULL, done_at TEXT, outcome TEXT, result TEXT);
CREATE INDEX effects_by_target ON effects (target, number);
CREATE TABLE fences (job TEXT PRIMARY KEY, fence INTEGER NOT NULL) WITHOUT ROWID;
"""

SUCCEEDED: Final = "succeeded"

_PRIMARY_CODE: Final = 0xFF
_DISK_ERRORS: Final = frozenset(
    {
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_CANTOPEN,
    }
)
"""Primary result codes that say nothing of the file itself (sqlite.org/rescode.html)."""

ResultT = TypeVar("ResultT")
Work = Callable[[sqlite3.Connection], Any]


@dataclass(frozen=True, slots=True)
class Change:
    """A document to write, or to delete where `body` is None."""

    kind: str
    identity: str
    body: str | None


@dataclass(frozen=True, slots=True)
class Effect:
    """One line of the ledger; `result` is the JSON that a repeated command gets again."""

    number: int
    command_id: str
    verb: str
    target: str
    epoch: int
    digest: str
    began_at: str
    done_at: str | None
    outcome: str | None
    result: str | None

    @property
    def succeeded(self) -> bool:
        """Whether the effect was brought to its end."""
        return self.outcome == SUCCEEDED


_EFFECT_COLUMNS: Final = (
    "number, command_id, verb, target, epoch, digest, began_at, done_at, outcome, result"
)


class Journal:
    """The open file; one process at a time, held by a lock beside it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="journal")
        self._gathered = GatheredWork[Work](self._thread, self._transact)
        self._connection: sqlite3.Connection | None = None
        self._lock: int | None = None

    async def __aenter__(self) -> Self:
        """Open or create the file; ProgramError when it is damaged, foreign or in use."""
        try:
            await self._run(self._open)
        except BaseException:
            await self._close_all()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the file after everything that was asked for."""
        await self._close_all()

    async def documents(self, kind: str) -> list[str]:
        """Return the bodies of one kind, ordered by id."""
        return await self._run(
            lambda database: [
                row[0]
                for row in database.execute(
                    "SELECT body FROM documents WHERE kind = ? ORDER BY id", (kind,)
                )
            ]
        )

    async def save(self, changes: Sequence[Change]) -> None:
        """Write all changes in one transaction; they are on disk when this returns."""
        await self._run(lambda database: _save(database, changes))

    async def begin_effect(
        self, command_id: str, *, verb: str, target: str, epoch: int, digest: str, now: datetime
    ) -> None:
        """Note that an effect is about to happen; a second time changes nothing but `outcome`."""

        def write(database: sqlite3.Connection) -> None:
            database.execute(
                "INSERT INTO effects (command_id, verb, target, epoch, digest, began_at)"
                " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (command_id) DO UPDATE SET"
                " done_at = NULL, outcome = NULL, result = NULL",
                (command_id, verb, target, epoch, digest, now.isoformat()),
            )

        await self._run(write)

    async def finish_effect(
        self, command_id: str, outcome: str, result: str | None, now: datetime
    ) -> None:
        """Note how it ended."""

        def write(database: sqlite3.Connection) -> None:
            database.execute(
                "UPDATE effects SET done_at = ?, outcome = ?, result = ? WHERE command_id = ?",
                (now.isoformat(), outcome, result, command_id),
            )

        await self._run(write)

    async def effect(self, command_id: str) -> Effect | None:
        """Return the line of one command."""

        def read(database: sqlite3.Connection) -> Effect | None:
            row = database.execute(
                f"SELECT {_EFFECT_COLUMNS} FROM effects WHERE command_id = ?",  # noqa: S608 -- a constant
                (command_id,),
            ).fetchone()
            return None if row is None else Effect(*row)

        return await self._run(read)

    async def newest_effects(self, count: int) -> list[Effect]:
        """Return the end of the ledger, the newest first."""

        def read(database: sqlite3.Connection) -> list[Effect]:
            rows = database.execute(
                f"SELECT {_EFFECT_COLUMNS} FROM effects ORDER BY number DESC LIMIT ?",  # noqa: S608 -- a constant
                (count,),
            )
            return [Effect(*row) for row in rows]

        return await self._run(read)

    async def effects(self) -> list[Effect]:
        """Return the whole ledger in the order in which effects began."""

        def read(database: sqlite3.Connection) -> list[Effect]:
            rows = database.execute(
                f"SELECT {_EFFECT_COLUMNS} FROM effects ORDER BY number"  # noqa: S608 -- a constant
            )
            return [Effect(*row) for row in rows]

        return await self._run(read)

    async def is_newest_effect(self, effect: Effect) -> bool:
        """Return whether nothing was begun on the same target after this effect."""

        def read(database: sqlite3.Connection) -> bool:
            row = database.execute(
                "SELECT 1 FROM effects WHERE target = ? AND number > ? LIMIT 1",
                (effect.target, effect.number),
            ).fetchone()
            return row is None

        return await self._run(read)

    async def raise_fence(self, job: str, fence: int) -> int:
        """Store the fence of a job if it is higher; return the highest that was seen."""

        def write(database: sqlite3.Connection) -> int:
            row = database.execute("SELECT fence FROM fences WHERE job = ?", (job,)).fetchone()
            highest = 0 if row is None else int(row[0])
            if fence > highest:
                database.execute(
                    "INSERT INTO fences VALUES (?, ?)"
                    " ON CONFLICT (job) DO UPDATE SET fence = excluded.fence",
                    (job, fence),
                )
            return max(fence, highest)

        return await self._run(write)

    async def _run(self, work: Callable[[sqlite3.Connection], ResultT]) -> ResultT:
        """Run on the journal's thread; a cancelled caller still waits for what is being written."""
        pending = self._gathered.ask(work)
        try:
            found: ResultT = await asyncio.shield(pending)
        except asyncio.CancelledError:
            await asyncio.wait([pending])
            raise
        except sqlite3.OperationalError as error:
            # Nothing of the change is stored. Who asks again later may find room.
            raise RefusedError(
                Code.NOT_AVAILABLE,
                f"the VMM server cannot write its journal {self._path} ({error})",
                "free space on its disk and make it writable, then ask again",
            ) from error
        return found

    def _transact(self, works: Sequence[Work]) -> list[Done]:
        """Do the works as one transaction, which is on disk when this returns."""
        database = self._database()
        # Without a write in it nothing is locked and nothing is synced.
        database.execute("BEGIN")
        try:
            outcomes = [_apart(database, each) for each in works]
            database.execute("COMMIT")
        except BaseException:
            if database.in_transaction:
                database.execute("ROLLBACK")
            raise
        return outcomes

    def _database(self) -> sqlite3.Connection:
        if self._connection is None:
            self._lock = _take_lock(self._path)
            self._connection = _connect(self._path)
        return self._connection

    @staticmethod
    def _open(database: sqlite3.Connection) -> None:
        del database  # it is open, or _database has raised

    async def _close_all(self) -> None:
        def close() -> None:
            if self._connection is not None:
                self._connection.close()
                self._connection = None
            if self._lock is not None:
                os.close(self._lock)
                self._lock = None

        await asyncio.get_running_loop().run_in_executor(self._thread, close)
        self._thread.shutdown(wait=True)


def _save(database: sqlite3.Connection, changes: Sequence[Change]) -> None:
    for change in changes:
        if change.body is None:
            database.execute(
                "DELETE FROM documents WHERE kind = ? AND id = ?",
                (change.kind, change.identity),
            )
        else:
            database.execute(
                "INSERT INTO documents VALUES (?, ?, ?)"
                " ON CONFLICT (kind, id) DO UPDATE SET body = excluded.body",
                (change.kind, change.identity, change.body),
            )


def _apart(database: sqlite3.Connection, work: Work) -> Done:
    """Do a work among others: what it raises is its own, as long as the others stand."""
    database.execute("SAVEPOINT work")
    try:
        done = Done(work(database))
    except Exception as error:
        if not database.in_transaction:
            raise  # SQLite has rolled all of them back (disk full, input/output error).
        database.execute("ROLLBACK TO work")
        done = Done(error=error)
    database.execute("RELEASE work")
    return done


def _take_lock(path: Path) -> int:
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ProgramError(
            f"cannot write in {path.parent}: {error.strerror}; correct data_directory"
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        raise ProgramError(
            f"{path} is in use by another vmm-simulator; stop it or choose another data_directory"
        ) from error
    return lock


def _connect(path: Path) -> sqlite3.Connection:
    try:
        connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
    except sqlite3.Error as error:
        raise _damaged(path, error) from error
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        verdict = connection.execute("PRAGMA quick_check").fetchone()[0]
        if verdict != "ok":
            raise sqlite3.DatabaseError(verdict)
        _create(connection, path)
    except sqlite3.Error as error:
        connection.close()
        raise _damaged(path, error) from error
    except ProgramError:
        connection.close()
        raise
    return connection


def _create(connection: sqlite3.Connection, path: Path) -> None:
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version == 0:
        # One transaction, the version last: a half-made file is made anew.
        connection.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {FORMAT}; COMMIT;")
    elif version != FORMAT:
        raise ProgramError(
            f"{path} has format {version}, this program writes format {FORMAT};"
            " use the program version that made it, or move the file away to begin anew"
        )


def _damaged(path: Path, error: sqlite3.Error) -> ProgramError:
    if getattr(error, "sqlite_errorcode", 0) & _PRIMARY_CODE in _DISK_ERRORS:
        return ProgramError(
            f"cannot write the journal {path} ({error});"
            " free space on its disk and make it writable, then start again"
        )
    return ProgramError(
        f"the journal {path} is damaged or not a database ({error});"
        " restore it from a copy, or move the data directory away to begin anew"
    )
