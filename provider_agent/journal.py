"""The provider's only persistence: one SQLite file with the cursor, the inbox and the outbox.

Every method is one transaction, durable when it returns (WAL, synchronous=FULL); kill -9 between
any two loses nothing. All SQL of the provider is in this file.
"""

import asyncio
import contextlib
import os
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Final, TypeVar

from pydantic import TypeAdapter

from provider_agent.domain.inbox import (
    CommandState,
    Known,
    NewIds,
    OutcomeOf,
    Place,
    SessionFacts,
    Verdict,
    VerifiedEvent,
    Work,
    decide,
    expires_at,
    place,
)
from provider_agent.journal_errors import JournalError, unusable
from provider_agent.journal_schema import APPLICATION_ID, SCHEMA, SCHEMA_VERSION
from provider_agent.journal_thread import JournalThread, transaction
from wire_contract.events import Assignment
from wire_contract.reports import Receipt, Report, StreamPosition
from wire_contract.vocabulary import ReceiptKind

LOCK_SECONDS_MAX: Final = 3.0
FINISHED_COMMANDS_KEPT: Final = 10_000
"""Finished commands whose ids are remembered, so that a repeated event is known as duplicate."""

FENCES_KEPT: Final = 10_000
FENCES_TOLD: Final = 200
"""Newest jobs whose fences are told to the hub at a session; older jobs are not open any more."""

ResultT = TypeVar("ResultT")
_REPORT: Final[TypeAdapter[Report]] = TypeAdapter(Report)


class Journal:
    """The open journal; its work is done by one thread, so transactions never interleave."""

    def __init__(
        self, pool: ThreadPoolExecutor, connection: sqlite3.Connection, path: Path
    ) -> None:
        self._thread = JournalThread(pool, connection, path)
        self.journal_id = _fact(connection, "journal_id")

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, path: Path, new_journal_id: str) -> AsyncIterator["Journal"]:
        """Open the journal, making it under `new_journal_id` where there is none."""
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="journal") as pool:
            connection = await loop.run_in_executor(pool, _open, path, new_journal_id)
            try:
                yield await loop.run_in_executor(pool, cls, pool, connection, path)
            finally:
                pool.submit(connection.close).result()

    async def position(self) -> StreamPosition | None:
        """Return the last journalled event, or null before the first session."""
        return await self.run(_position)

    async def begin_session(self) -> SessionFacts:
        """Return what the hub is to be told, under a session number nobody has had."""
        return await self.run(_begin_session)

    async def follow(self, position: StreamPosition) -> None:
        """Follow another stream from `position` on."""
        await self.run(
            _statement(
                "INSERT OR REPLACE INTO position VALUES (1, ?, ?)", position.stream, position.seq
            )
        )

    async def receive(
        self, event: VerifiedEvent, now: datetime, ids: NewIds, outcome_of: OutcomeOf
    ) -> Place | Verdict:
        """Take in the next event: cursor, receipt, inbox, fence and epoch in one transaction.

        Any other than the next event is not taken in: its place is returned.
        """

        def write(connection: sqlite3.Connection) -> Place | Verdict:
            return _receive(connection, event, now, ids, outcome_of)

        return await self.run(write)

    async def unfinished(self, after: int = 0) -> tuple[Work, ...]:
        """Return the commands without an outcome, in the order of their events.

        `after`: the place of the last one that is known already; those up to it are not read anew.
        """
        return await self.run(lambda connection: _unfinished(connection, after))

    async def begin(self, command_id: str) -> bool:
        """Mark a command as begun; false when it has been finished (withdrawn) meanwhile."""
        begin = "UPDATE inbox SET state = 'executing' WHERE command_id = ? AND state != 'finished'"
        return await self.run(_statement(begin, command_id)) == 1

    async def amend(self, assignment: Assignment) -> None:
        """Keep what was added to a command's arguments, so that a repetition is the same."""
        change = "UPDATE inbox SET assignment = ? WHERE command_id = ?"
        await self.run(_statement(change, assignment.model_dump_json(), assignment.command_id))

    async def finish(self, command_id: str, outcome: Report) -> bool:
        """Store the outcome and finish the command; false when it had been finished before."""

        def write(connection: sqlite3.Connection) -> bool:
            # The outcome takes the assignment's place: it is told again when it is asked again.
            changed = connection.execute(
                "UPDATE inbox SET state = 'finished', assignment = ?"
                " WHERE command_id = ? AND state != 'finished'",
                (outcome.model_dump_json(), command_id),
            )
            if changed.rowcount != 1:
                return False
            _put(connection, outcome, None)
            _forget_old(connection)
            return True

        return await self.run(write)

    async def put(self, *reports: tuple[Report, str | None]) -> None:
        """Store reports to be sent; a newer one on the same subject takes an older's place."""

        def write(connection: sqlite3.Connection) -> None:
            for report, subject in reports:
                _put(connection, report, subject)

        await self.run(write)

    async def outbox(self, limit: int, bytes_max: int) -> tuple[Report, ...]:
        """Return the oldest reports that wait to be sent, at least one, then up to the limits."""

        def read(connection: sqlite3.Connection) -> tuple[Report, ...]:
            rows = connection.execute(
                "SELECT body FROM outbox WHERE set_aside IS NULL ORDER BY place LIMIT ?", (limit,)
            )
            batch: list[Report] = []
            size = 0
            for (body,) in rows:
                size += len(body)
                if batch and size > bytes_max:
                    break
                batch.append(_REPORT.validate_json(body))
            return tuple(batch)

        return await self.run(read)

    async def delivered(self, report_ids: Sequence[str]) -> int:
        """Let reports go that the hub has accepted; returns how many waited here."""
        rows = [(report_id,) for report_id in report_ids]
        delete = "DELETE FROM outbox WHERE report_id = ?"
        return await self.run(lambda connection: connection.executemany(delete, rows).rowcount)

    async def set_aside(self, report_id: str, cause: str) -> None:
        """Keep a report that the hub will never take out of the way of the others."""
        change = "UPDATE outbox SET set_aside = ? WHERE report_id = ?"
        await self.run(_statement(change, cause, report_id))

    async def run(self, action: Callable[[sqlite3.Connection], ResultT]) -> ResultT:
        """Do an action of the journal's modules as one transaction, durable when it returns.

        On a disk that takes no more it returns once there is room again (journal_thread).
        """
        return await self._thread.run(action)


def _statement(sql: str, *values: str | int) -> Callable[[sqlite3.Connection], int]:
    """Return an action that runs one statement and gives the number of rows it touched."""
    return lambda connection: connection.execute(sql, values).rowcount


def _open(path: Path, new_journal_id: str) -> sqlite3.Connection:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        connection = sqlite3.connect(path, timeout=LOCK_SECONDS_MAX, isolation_level=None)
    except (OSError, sqlite3.Error) as error:
        raise JournalError(
            f"cannot open the journal {path}: {error}; make its folder writable for this user"
        ) from error
    try:
        _prepare(connection, path, new_journal_id)
    except sqlite3.Error as error:
        connection.close()
        raise unusable(path, str(error)) from error
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection, path: Path, new_journal_id: str) -> None:
    # One agent alone may use the file: the lock is held until the connection closes.
    connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    with transaction(connection):
        tables = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
        if tables == 0:
            for statement in SCHEMA.split(";"):
                connection.execute(statement)
            connection.execute("INSERT INTO fact VALUES ('journal_id', ?)", (new_journal_id,))
            connection.execute("INSERT INTO fact VALUES ('session', '0')")
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    if _pragma(connection, "application_id") != APPLICATION_ID:
        raise JournalError(
            f"{path} is a database, but no journal of this program; name another data_directory"
        )
    if (version := _pragma(connection, "user_version")) != SCHEMA_VERSION:
        raise JournalError(
            f"the journal {path} has version {version}, this program knows {SCHEMA_VERSION};"
            " run the program version that wrote it"
        )
    verdict = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if verdict != "ok":
        raise sqlite3.DatabaseError(verdict)


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])


def _fact(connection: sqlite3.Connection, name: str) -> str:
    row = connection.execute("SELECT value FROM fact WHERE name = ?", (name,)).fetchone()
    return str(row[0])


def _position(connection: sqlite3.Connection) -> StreamPosition | None:
    row = connection.execute("SELECT stream, seq FROM position").fetchone()
    return StreamPosition(stream=row[0], seq=row[1]) if row else None


def _begin_session(connection: sqlite3.Connection) -> SessionFacts:
    session = int(_fact(connection, "session")) + 1
    connection.execute("UPDATE fact SET value = ? WHERE name = 'session'", (str(session),))
    fences = connection.execute(
        "SELECT job, fence FROM fence ORDER BY place DESC LIMIT ?", (FENCES_TOLD,)
    ).fetchall()
    epochs = connection.execute("SELECT item, epoch FROM epoch").fetchall()
    return SessionFacts(session, _position(connection), dict(fences), dict(epochs))


def _receive(
    connection: sqlite3.Connection,
    event: VerifiedEvent,
    now: datetime,
    ids: NewIds,
    outcome_of: OutcomeOf,
) -> Place | Verdict:
    envelope = event.envelope
    cursor = _position(connection)
    where = place(cursor, envelope.stream, envelope.seq) if cursor else Place.OTHER_STREAM
    if where is not Place.NEXT:
        return where
    verdict = decide(event, _known(connection, event), now)
    connection.execute("UPDATE position SET seq = ?", (envelope.seq,))
    receipt = Receipt(
        report_id=ids.receipt,
        stream=envelope.stream,
        seq=envelope.seq,
        event_id=envelope.id,
        receipt=verdict.receipt,
        reason=verdict.reason,
        command_id=event.command_id,
    )
    _put(connection, receipt, None)
    _write_effects(connection, event, verdict)
    outcome = outcome_of(verdict, ids.outcome)
    if outcome is not None:
        _put(connection, outcome, None)
        change = "UPDATE inbox SET assignment = ? WHERE command_id = ?"
        connection.execute(change, (outcome.model_dump_json(), event.command_id))
    if verdict.receipt is ReceiptKind.DUPLICATE:
        _tell_again(connection, event)
    return verdict


def _tell_again(connection: sqlite3.Connection, event: VerifiedEvent) -> None:
    """Report the outcome of a command that is asked again: a restored hub has forgotten it."""
    connection.execute(
        "INSERT OR IGNORE INTO outbox (report_id, body)"
        " SELECT json_extract(assignment, '$.report_id'), assignment FROM inbox"
        " WHERE command_id = ? AND state = 'finished' AND json_valid(assignment)"
        " AND json_extract(assignment, '$.kind') = 'task_outcome'",
        (event.command_id,),
    )


def _write_effects(connection: sqlite3.Connection, event: VerifiedEvent, verdict: Verdict) -> None:
    if verdict.work is not None:
        until = expires_at(event.envelope, verdict.work).isoformat()
        connection.execute(
            "INSERT INTO inbox (command_id, state, expires_at, assignment)"
            " VALUES (?, 'accepted', ?, ?)",
            (verdict.work.command_id, until, verdict.work.model_dump_json()),
        )
        _raise_fence(connection, verdict.work.job, verdict.work.fence)
        if verdict.work.item is not None:
            connection.execute(
                "INSERT INTO epoch VALUES (?, ?)"
                " ON CONFLICT (item) DO UPDATE SET epoch = max(epoch, excluded.epoch)",
                (verdict.work.item, verdict.work.epoch),
            )
    if verdict.withdrawn is not None:
        # Also a command that was never seen here: should it still come, it is a duplicate.
        connection.execute(
            "INSERT INTO inbox (command_id, state, expires_at, assignment)"
            " VALUES (?, 'finished', '', '')"
            " ON CONFLICT (command_id) DO UPDATE SET state = 'finished'",
            (event.command_id,),
        )
        _raise_fence(connection, verdict.withdrawn.job, verdict.withdrawn.fence)


def _raise_fence(connection: sqlite3.Connection, job: str, fence: int) -> None:
    row = connection.execute("SELECT fence FROM fence WHERE job = ?", (job,)).fetchone()
    highest = max(fence, row[0]) if row else fence
    # REPLACE gives the job a new place: the newest jobs are those told to the hub.
    connection.execute("INSERT OR REPLACE INTO fence (job, fence) VALUES (?, ?)", (job, highest))


def _known(connection: sqlite3.Connection, event: VerifiedEvent) -> Known:
    state = connection.execute(
        "SELECT state FROM inbox WHERE command_id = ?", (event.command_id,)
    ).fetchone()
    fence = connection.execute("SELECT fence FROM fence WHERE job = ?", (event.job,)).fetchone()
    epoch = connection.execute("SELECT epoch FROM epoch WHERE item = ?", (event.item,)).fetchone()
    return Known(
        command=CommandState(state[0]) if state else None,
        fence=fence[0] if fence else 0,
        epoch=epoch[0] if epoch else 0,
    )


def _unfinished(connection: sqlite3.Connection, after: int) -> tuple[Work, ...]:
    rows = connection.execute(
        "SELECT place, assignment, expires_at, state FROM inbox"
        " WHERE state != 'finished' AND place > ? ORDER BY place",
        (after,),
    )
    return tuple(
        Work(
            assignment=Assignment.model_validate_json(assignment),
            expires_at=datetime.fromisoformat(until),
            state=CommandState(state),
            place=place,
        )
        for place, assignment, until, state in rows
    )


def _put(connection: sqlite3.Connection, report: Report, subject: str | None) -> None:
    if subject is not None:
        connection.execute("DELETE FROM outbox WHERE subject = ?", (subject,))
    connection.execute(
        "INSERT INTO outbox (report_id, subject, body) VALUES (?, ?, ?)",
        (report.report_id, subject, report.model_dump_json()),
    )


def _forget_old(connection: sqlite3.Connection) -> None:
    connection.execute(
        "DELETE FROM inbox WHERE state = 'finished'"
        " AND place <= (SELECT max(place) FROM inbox) - ?",
        (FINISHED_COMMANDS_KEPT,),
    )
    connection.execute(
        "DELETE FROM fence WHERE place <= (SELECT max(place) FROM fence) - ?", (FENCES_KEPT,)
    )
