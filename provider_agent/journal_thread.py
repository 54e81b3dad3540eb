"""The one thread that works on the journal, and what happens when the disk does not take more.

What is asked for while a transaction is written becomes the next one, together: a thousand commands
at a time cost some dozens of syncs instead of thousands.

A full disk, a disk that became read-only, an input/output error: nothing of the transaction is
stored, and it is tried again until the disk takes it. Whoever asked waits meanwhile, so that no
event is acknowledged, no verb begun and no outcome told that is not in the journal; what needs no
writing, heartbeats among it, goes on.
"""

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeVar

import structlog

from provider_agent.journal_errors import unusable
from service_shell.gathered_work import Done, GatheredWork

RETRY_SECONDS: Final = 1.0
"""How long a transaction that the disk did not take waits before it is tried again."""

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

log = structlog.get_logger(__name__)


Action = Callable[[sqlite3.Connection], Any]


class JournalThread:
    """Runs actions one after another, each whole or not at all, durable when it returns."""

    def __init__(
        self, pool: ThreadPoolExecutor, connection: sqlite3.Connection, path: Path
    ) -> None:
        self._connection = connection
        self._path = path
        self._takes = True
        self._gathered = GatheredWork[Action](pool, self._transact)

    async def run(self, action: Callable[[sqlite3.Connection], ResultT]) -> ResultT:
        """Do an action as one transaction; JournalError when the file itself is no good.

        An action may run several times: what an earlier try wrote has been rolled back.
        """
        while True:
            try:
                result, wrote = await self._gathered.ask(action)
            except sqlite3.Error as error:
                problem = unusable(self._path, str(error))
                if not _is_of_the_disk(error):
                    raise problem from error
                self._note(takes=False, cause=str(problem))
                await asyncio.sleep(RETRY_SECONDS)
                continue
            if wrote:
                # Reading works on a full disk too: only what was written shows that there is room.
                self._note(takes=True)
            found: ResultT = result
            return found

    def _transact(self, actions: Sequence[Action]) -> list[Done]:
        """Do the actions as one transaction; each gives its result and whether it wrote."""
        if len(actions) == 1:
            with transaction(self._connection):
                return [Done(self._do(actions[0]))]
        with transaction(self._connection):
            return [self._apart(each) for each in actions]

    def _apart(self, action: Action) -> Done:
        """Do an action among others: what it raises is its own, as long as the others stand."""
        self._connection.execute("SAVEPOINT action")
        try:
            done = Done(self._do(action))
        except Exception as error:
            if not self._connection.in_transaction:
                raise  # SQLite has rolled all of them back (disk full, input/output error).
            self._connection.execute("ROLLBACK TO action")
            done = Done(error=error)
        self._connection.execute("RELEASE action")
        return done

    def _do(self, action: Action) -> tuple[Any, bool]:
        before = self._connection.total_changes
        result = action(self._connection)
        return result, self._connection.total_changes > before

    def _note(self, *, takes: bool, cause: str = "") -> None:
        """Say once that the disk takes no more, and once that it does again."""
        if takes == self._takes:
            return
        self._takes = takes
        if takes:
            log.info("journal_writable_again", path=str(self._path))
        else:
            log.error("journal_not_writable", cause=cause, retry_seconds=RETRY_SECONDS)


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Make one transaction of the block: committed at its end, nothing of it when it raises."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        # After some errors (disk full) SQLite has rolled back by itself.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _is_of_the_disk(error: sqlite3.Error) -> bool:
    code = getattr(error, "sqlite_errorcode", None)  # absent where Python itself complains
    return code is not None and code & _PRIMARY_CODE in _DISK_ERRORS
