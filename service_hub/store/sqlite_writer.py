"""Applies changes to SQLite; runs in the one thread that writes.

A batch is read with a few set queries, decided on in memory (batch_plan) and written with one
executemany per table and kind: a hundred changes cost a handful of statements.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import sqlalchemy as sa

from service_hub.domain.errors import RefusedChangeError
from service_hub.domain.records import OutboxEvent, ProviderStream, Record, Vault
from service_hub.ports import CHANGES_REMEMBERED, NOTHING_STORED, Applied, Change, FaultPoints
from service_hub.store.batch_facts import Facts, Present, Questions, Waiting, questions
from service_hub.store.batch_plan import Outcome, Plan, plan
from service_hub.store.tables import SEARCHED_BY, TABLES, written_columns

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
_BEGIN: Final = (
    "INSERT INTO job_lease (job_id, owner, fence, held_until)"  # noqa: S608 -- our own words
    f" VALUES (?, ?, ?, {NOW_MS} + ?) ON CONFLICT (job_id) DO UPDATE"
    " SET owner = excluded.owner, fence = excluded.fence, held_until = excluded.held_until"
)


def apply_changes(
    engine: sa.Engine, changes: Sequence[Change], lease_ms: int, faults: FaultPoints
) -> Applied:
    """Store a batch in one transaction, each change whole or not at all (ports: Store.apply)."""
    try:
        with engine.begin() as connection:
            made = plan(changes, _facts(connection, questions(changes)))
            _write(connection, made, lease_ms)
            faults.reach_now("store.in_transaction")
    except sa.exc.IntegrityError:
        # A rule of the tables is broken: find out by whom, and let the others go on.
        return _apply_one_by_one(engine, changes, lease_ms, faults)
    return Applied(made.outcomes, made.stored)


def _apply_one_by_one(
    engine: sa.Engine, changes: Sequence[Change], lease_ms: int, faults: FaultPoints
) -> Applied:
    outcomes: list[Outcome] = []
    stored = NOTHING_STORED
    with engine.begin() as connection:
        for change in changes:
            made = plan([change], _facts(connection, questions([change])))
            try:
                with connection.begin_nested():
                    _write(connection, made, lease_ms)
            except sa.exc.IntegrityError as error:
                outcomes.append(RefusedChangeError(f"the database refuses it: {error.orig}"))
            else:
                outcomes += made.outcomes
                stored += made.stored
        faults.reach_now("store.in_transaction")
    return Applied(outcomes, stored)


def _facts(connection: sa.Connection, asked: Questions) -> Facts:
    """Read what a batch names, in a few statements."""
    run = connection.exec_driver_sql
    number = int(run("SELECT number FROM change_counter WHERE id = 1").scalar_one())
    facts = Facts(number)
    for kind, ids in asked.records.items():
        for row in run(_PRESENT[kind], (json.dumps(list(ids)),)).all():
            facts.records[kind, row[0]] = Present(row[1], row[2], row[3])
    if asked.streams:
        for row in run(_STREAMS, (json.dumps(list(asked.streams)),)).all():
            facts.streams[row[0]] = ProviderStream.model_validate_json(row[1])
    if asked.receipts:
        told = json.dumps(
            {
                name: (facts.streams[name].acknowledged_seq + 1, high)
                for name, (_, high) in asked.receipts.items()
                if name in facts.streams
            }
        )
        for row in run(_WAITING, (told, told)).all():
            facts.waiting[row[0], row[1]] = Waiting(row[2], bool(row[3]))
    if asked.jobs:
        facts.fences = {
            row[0]: row[1] for row in run(_FENCES, (json.dumps(list(asked.jobs)),)).all()
        }
    return facts


def _present_query(kind: type[Record]) -> str:
    vault = "vault_id" if "vault_id" in SEARCHED_BY[kind] else "id" if kind is Vault else "''"
    return (
        f"SELECT id, version, created, {vault} FROM {kind.kind}"  # noqa: S608 -- our own names
        " WHERE id IN (SELECT value FROM json_each(?))"
    )


_PRESENT: Final[Mapping[type[Record], str]] = {kind: _present_query(kind) for kind in TABLES}


def _write(connection: sa.Connection, made: Plan, lease_ms: int) -> None:
    def run(statement: str, rows: Iterable[tuple[Any, ...]]) -> None:
        if rows := list(rows):
            connection.exec_driver_sql(statement, rows)

    run("DELETE FROM job_inbox WHERE message_id = ?", ((each,) for each in made.taken))
    run("DELETE FROM job_inbox WHERE job_id = ?", ((each,) for each in made.cleared))
    run("DELETE FROM job_log WHERE job_id = ?", ((each,) for each in made.jobs_deleted))
    for kind, ids in made.deletes.items():
        run(_DELETES[kind], ((each,) for each in ids))
    for kind, rows in made.updates.items():
        run(_UPDATES[kind], rows)
    for kind, rows in made.inserts.items():
        run(_INSERTS[kind], rows)
    _note(connection, made)
    run(
        "INSERT INTO deleted_record (kind, id, vault_id, change) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (kind, id) DO UPDATE"
        " SET vault_id = excluded.vault_id, change = excluded.change",
        made.forgotten,
    )
    if made.forgotten:
        run("DELETE FROM deleted_record WHERE change < ?", [(made.number - CHANGES_REMEMBERED,)])
    run("INSERT INTO job_log (job_id, number, at, change, event) VALUES (?, ?, ?, ?, ?)", made.log)
    run(_BEGIN, ((*lease, lease_ms) for lease in made.begun))
    run(
        "INSERT INTO job_inbox (message_id, job_id, change, position, event)"
        " VALUES (?, ?, ?, ?, ?) ON CONFLICT (message_id) DO NOTHING",
        made.messages,
    )
    run("DELETE FROM job_lease WHERE job_id = ?", ((each,) for each in made.ended))
    run("UPDATE change_counter SET number = ? WHERE id = 1", [(made.number,)])


def _note(connection: sa.Connection, made: Plan) -> None:
    """Keep the receipts that came before an earlier event's."""
    for event_id, receipt, change in made.notes:
        row = connection.exec_driver_sql(
            "SELECT document FROM outbox_event WHERE id = ?", (event_id,)
        ).one()
        noted = OutboxEvent.model_validate_json(row[0]).model_copy(update={"receipt": receipt})
        connection.exec_driver_sql(
            "UPDATE outbox_event SET received = 1, version = version + 1, change = ?,"
            " document = ? WHERE id = ?",
            (change, noted.model_dump_json(), event_id),
        )
