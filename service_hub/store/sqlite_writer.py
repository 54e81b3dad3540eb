"""Applies changes to SQLite; runs in the one thread that writes.

A batch is read with a few set queries, decided on in memory (batch_plan) and written with one
executemany per table and kind: a hundred changes cost a handful of statements.
"""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import sqlalchemy as sa

from service_hub.domain.errors import RefusedChangeError
from service_hub.domain.jobs import Job
from service_hub.domain.records import OutboxEvent, ProviderStream, Record, Vault
from service_hub.ports.changes import CHANGES_REMEMBERED, NOTHING_STORED, Applied, Change
from service_hub.ports.surroundings import NO_FAULTS, FaultPoints
from service_hub.store.audit_lines import LAST_HASH, chained
from service_hub.store.batch_facts import Facts, Present, Questions, Waiting, questions
from service_hub.store.batch_plan import Outcome, Plan, plan
from service_hub.store.tables import SEARCHED_BY, TABLES, written_columns
from service_hub.store.unavailable import unavailable

RECORDS_KNOWN_MAX: Final = 40_000
"""Records of which the writer remembers version and columns: less than 40 MB."""

NOW_MS: Final = "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)"
"""The database's clock."""

_INSERTS: Final[Mapping[type[Record], str]] = {
    kind: f"INSERT INTO {kind.kind} ({', '.join(written_columns(kind))})"  # noqa: S608 -- names of our own tables, here and below
    f" VALUES ({', '.join('?' for _ in written_columns(kind))})"
    for kind in TABLES
}
_UPDATES: Final[Mapping[type[Record], str]] = {
    kind: f"UPDATE {kind.kind} SET {', '.join(f'{c} = ?' for c in written_columns(kind)[1:])}"  # noqa: S608
    " WHERE id = ?"
    for kind in TABLES
}
_TOUCHES: Final[Mapping[type[Record], str]] = {
    kind: f"UPDATE {kind.kind} SET version = ?, change = ?, document = ? WHERE id = ?"  # noqa: S608
    for kind in TABLES
}
_DELETES: Final[Mapping[type[Record], str]] = {
    kind: f"DELETE FROM {kind.kind} WHERE id = ?"  # noqa: S608
    for kind in TABLES
}
_STREAMS: Final = (
    "SELECT id, document FROM provider_stream WHERE id IN (SELECT value FROM json_each(?))"
)
_WAITING: Final = """
    SELECT told.key, event.seq, event.id, event.received
    FROM json_each(?) AS told JOIN outbox_event AS event
      ON event.provider_id = lower(told.key)
      AND event.seq BETWEEN json_extract(told.value, '$[0]') AND json_extract(told.value, '$[1]')
    UNION ALL
    SELECT told.key, event.seq, event.id, event.received
    FROM json_each(?) AS told JOIN outbox_event AS event
      ON event.provider_id = lower(told.key) AND event.received = 1
      AND event.seq > json_extract(told.value, '$[1]')
"""
_FENCES: Final = (
    "SELECT job_id, fence FROM job_lease WHERE job_id IN (SELECT value FROM json_each(?))"
)
_LAST_HASH: Final = LAST_HASH.format("?")
_AUDIT: Final = (
    "INSERT INTO audit_log (change, position, vault_id, at, entry, hash) VALUES (?, ?, ?, ?, ?, ?)"
)
_BEGIN: Final = (
    "INSERT INTO job_lease (job_id, owner, fence, held_until)"  # noqa: S608 -- our own words
    f" VALUES (?, ?, ?, {NOW_MS} + ?) ON CONFLICT (job_id) DO UPDATE"
    " SET owner = excluded.owner, fence = excluded.fence, held_until = excluded.held_until"
)


class BatchWriter:
    """Applies batches in the one thread that writes.

    It remembers what it has read and written of records and leases, since nobody else writes: that
    the change number is still its own shows it. Who changes leases beside it tells it to `forget`.
    """

    def __init__(self, engine: sa.Engine, lease_ms: int, faults: FaultPoints = NO_FAULTS) -> None:
        self._engine = engine
        self._lease_ms = lease_ms
        self._faults = faults
        self._known = Facts()

    def apply(self, changes: Sequence[Change]) -> Applied:
        """Store a batch in one transaction, each change whole or not at all (ports: Store)."""
        known, self._known = self._known, Facts()  # Whatever fails leaves nothing known.
        try:
            with _transaction(self._engine) as cursor:
                made = plan(changes, _facts(cursor, questions(changes), known))
                _write(cursor, made, self._lease_ms)
                self._faults.reach_now("store.in_transaction")
        except sqlite3.IntegrityError:
            # A rule of the tables is broken: find out by whom, and let the others go on.
            return self._apply_one_by_one(changes)
        _learn(known, made)
        self._known = known
        return Applied(made.outcomes, made.stored)

    def forget(self) -> None:
        """Read everything anew."""
        self._known = Facts()

    def _apply_one_by_one(self, changes: Sequence[Change]) -> Applied:
        outcomes: list[Outcome] = []
        stored = NOTHING_STORED
        with _transaction(self._engine) as cursor:
            for change in changes:
                made = plan([change], _facts(cursor, questions([change]), Facts()))
                cursor.execute("SAVEPOINT change")
                try:
                    _write(cursor, made, self._lease_ms)
                except sqlite3.IntegrityError as error:
                    cursor.execute("ROLLBACK TO change")
                    outcomes.append(RefusedChangeError(f"the database refuses it: {error}"))
                else:
                    outcomes += made.outcomes
                    stored += made.stored
                cursor.execute("RELEASE change")
            self._faults.reach_now("store.in_transaction")
        return Applied(outcomes, stored)


def _learn(known: Facts, made: Plan) -> None:
    """Note what a batch has left; events come and go and are not asked for, ended jobs are over."""
    known.number = made.number
    if len(known.records) > RECORDS_KNOWN_MAX:
        known.records.clear()
    for key, present in made.records.items():
        if present is None:
            known.records.pop(key, None)
        elif key[0] is not OutboxEvent:
            known.records[key] = present
    for name, stream in made.streams.items():
        if stream is None:
            known.streams.pop(name, None)
        else:
            known.streams[name] = stream
    for job_id, fence in made.fences.items():
        if fence is None:
            known.fences.pop(job_id, None)
            known.records.pop((Job, job_id), None)
        else:
            known.fences[job_id] = fence


@contextmanager
def _transaction(engine: sa.Engine) -> Iterator[sqlite3.Cursor]:
    """Give a cursor of sqlite3's own in a transaction; all of it or nothing is stored.

    What SQLAlchemy does around each statement costs more than most of ours. Raises
    StorageUnavailableError where `unavailable` recognises one, as it does for all others.
    """
    line = engine.raw_connection()
    try:
        cursor: sqlite3.Cursor = line.cursor()  # type: ignore[assignment]
        cursor.execute("BEGIN IMMEDIATE")
        try:
            yield cursor
            cursor.execute("COMMIT")
        except BaseException:
            # Where SQLite has undone it already there is nothing to undo.
            if line.driver_connection is not None and line.driver_connection.in_transaction:
                cursor.execute("ROLLBACK")
            raise
        finally:
            cursor.close()
    except sqlite3.Error as error:
        found = unavailable(error)
        if found is None:
            raise
        raise found from error
    finally:
        line.close()


def _facts(cursor: sqlite3.Cursor, asked: Questions, known: Facts) -> Facts:
    """Return what a batch names; what is not known is read, in a few statements."""
    ask = cursor.execute
    (number,) = ask("SELECT number FROM change_counter WHERE id = 1").fetchone()
    if number != known.number:
        known.forget()
    facts, missing = known.known_of(asked)
    facts.number = number
    for kind, ids in missing.records.items():
        for row in ask(_PRESENT[kind], (json.dumps(list(ids)),)).fetchall():
            facts.records[kind, row[0]] = Present(row[1], row[2], row[3], row[4:])
    if missing.streams:
        for row in ask(_STREAMS, (json.dumps(list(missing.streams)),)).fetchall():
            facts.streams[row[0]] = ProviderStream.model_validate_json(row[1])
    if asked.receipts:
        told = json.dumps(
            {
                name: (facts.streams[name].acknowledged_seq + 1, high)
                for name, (_, high) in asked.receipts.items()
                if name in facts.streams
            }
        )
        for row in ask(_WAITING, (told, told)).fetchall():
            facts.waiting[row[0], row[1]] = Waiting(row[2], bool(row[3]))
    if missing.jobs:
        facts.fences |= dict(ask(_FENCES, (json.dumps(list(missing.jobs)),)).fetchall())
    return facts


def _present_query(kind: type[Record]) -> str:
    vault = "vault_id" if "vault_id" in SEARCHED_BY[kind] else "id" if kind is Vault else "''"
    columns = ", ".join(["id", "version", "created", vault, *SEARCHED_BY[kind]])
    return (
        f"SELECT {columns} FROM {kind.kind}"  # noqa: S608 -- our own names
        " WHERE id IN (SELECT value FROM json_each(?))"
    )


_PRESENT: Final[Mapping[type[Record], str]] = {kind: _present_query(kind) for kind in TABLES}


def _write(cursor: sqlite3.Cursor, made: Plan, lease_ms: int) -> None:
    def run(statement: str, rows: Iterable[tuple[Any, ...]]) -> None:
        if rows := list(rows):
            cursor.executemany(statement, rows)

    run("DELETE FROM job_inbox WHERE message_id = ?", ((each,) for each in made.taken))
    run("DELETE FROM job_inbox WHERE job_id = ?", ((each,) for each in made.cleared))
    run("DELETE FROM job_log WHERE job_id = ?", ((each,) for each in made.jobs_deleted))
    for kind, ids in made.deletes.items():
        run(_DELETES[kind], ((each,) for each in ids))
    for kind, rows in made.updates.items():
        run(_UPDATES[kind], rows)
    for kind, touched in made.touched.items():
        run(_TOUCHES[kind], touched)
    for kind, rows in made.inserts.items():
        run(_INSERTS[kind], rows)
    _note(cursor, made)
    run(
        "INSERT INTO deleted_record (kind, id, vault_id, change) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (kind, id) DO UPDATE"
        " SET vault_id = excluded.vault_id, change = excluded.change",
        made.forgotten,
    )
    if made.forgotten:
        run("DELETE FROM deleted_record WHERE change < ?", [(made.number - CHANGES_REMEMBERED,)])
    run("INSERT INTO job_log (job_id, number, at, change, event) VALUES (?, ?, ?, ?, ?)", made.log)
    if made.audit:
        last = {row[2]: cursor.execute(_LAST_HASH, (row[2],)).fetchone() for row in made.audit}
        hashes = {vault: None if found is None else found[0] for vault, found in last.items()}
        run(_AUDIT, chained(made.audit, hashes))
    run(_BEGIN, ((*lease, lease_ms) for lease in made.begun))
    run(
        "INSERT INTO job_inbox (message_id, job_id, change, position, event)"
        " VALUES (?, ?, ?, ?, ?) ON CONFLICT (message_id) DO NOTHING",
        made.messages,
    )
    run("DELETE FROM job_lease WHERE job_id = ?", ((each,) for each in made.ended))
    run("UPDATE change_counter SET number = ? WHERE id = 1", [(made.number,)])


def _note(cursor: sqlite3.Cursor, made: Plan) -> None:
    """Keep the receipts that came before an earlier event's."""
    for event_id, receipt, change in made.notes:
        asked = cursor.execute("SELECT document FROM outbox_event WHERE id = ?", (event_id,))
        (document,) = asked.fetchone()
        noted = OutboxEvent.model_validate_json(document).model_copy(update={"receipt": receipt})
        cursor.execute(
            "UPDATE outbox_event SET received = 1, version = version + 1, change = ?,"
            " document = ? WHERE id = ?",
            (change, noted.model_dump_json(), event_id),
        )
