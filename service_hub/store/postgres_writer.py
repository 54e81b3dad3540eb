"""Applies changes to PostgreSQL: read in sets, decided in memory, written with one statement each.

Every write of every hub begins with the row of `change_counter`: it is the lock that makes change
numbers rise over all hubs, and lets a batch be decided on in memory. What it read cannot change
before it commits, fences included: whoever claims a job takes the same lock.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import sqlalchemy as sa

from service_hub.domain.records import OutboxEvent, ProviderStream, Record, Vault
from service_hub.ports import CHANGES_REMEMBERED, Ring
from service_hub.store.batch_facts import Facts, Present, Questions, Waiting
from service_hub.store.batch_plan import Plan
from service_hub.store.postgres_connections import Connection
from service_hub.store.tables import SEARCHED_BY, TABLES, written_columns

CHANNEL: Final = "service_hub"
"""Of NOTIFY; it is the database's own, so hubs of other databases do not hear it."""

PAYLOAD_BYTES_MAX: Final = 7_900
"""PostgreSQL takes less than 8000 in one NOTIFY."""

NOW_MS: Final = "CAST(extract(epoch FROM clock_timestamp()) * 1000 AS bigint)"
"""The database's clock."""

LOCK: Final = (
    "SELECT number, CAST(pg_current_xact_id() AS text) FROM change_counter WHERE id = 1 FOR UPDATE"
)


def _column_type(kind: type[Record], name: str) -> str:
    return {sa.Text: "text", sa.BigInteger: "bigint", sa.Integer: "integer"}[
        type(TABLES[kind].c[name].type)
    ]


def _unnest(kind: type[Record], names: Sequence[str]) -> str:
    arrays = (f"${n}::{_column_type(kind, name)}[]" for n, name in enumerate(names, 1))
    return f"unnest({', '.join(arrays)}) AS given ({', '.join(names)})"


def _insert(kind: type[Record]) -> str:
    names = written_columns(kind)
    return (
        f"INSERT INTO {kind.kind} ({', '.join(names)})"  # noqa: S608 -- names of our own tables, here and below
        f" SELECT {', '.join(f'given.{name}' for name in names)} FROM {_unnest(kind, names)}"
    )


def _update(kind: type[Record]) -> str:
    names = written_columns(kind)[1:]
    return (
        f"UPDATE {kind.kind} AS there SET {', '.join(f'{name} = given.{name}' for name in names)}"  # noqa: S608
        f" FROM {_unnest(kind, [*names, 'id'])} WHERE there.id = given.id"
    )


def _present(kind: type[Record], number: int) -> str:
    vault = "vault_id" if "vault_id" in SEARCHED_BY[kind] else "id" if kind is Vault else "''"
    document = "document" if kind is ProviderStream else "''"
    return (
        f"SELECT '{kind.kind}' AS kind, id, version, created, {vault} AS vault_id,"  # noqa: S608
        f" {document} AS document FROM {kind.kind} WHERE id = ANY(${number}::text[])"
    )


_KINDS: Final[Mapping[str, type[Record]]] = {kind.kind: kind for kind in TABLES}
_INSERTS: Final = {kind: _insert(kind) for kind in TABLES}
_UPDATES: Final = {kind: _update(kind) for kind in TABLES}
_FENCES: Final = (
    "SELECT '' AS kind, job_id AS id, 0 AS version, fence AS created, '' AS vault_id,"
    " '' AS document FROM job_lease WHERE job_id = ANY(${}::text[])"
)
_WAITING: Final = """
    SELECT told.name, event.seq, event.id, event.received
    FROM unnest($1::text[], $2::bigint[], $3::bigint[]) AS told (name, low, high)
    JOIN outbox_event AS event
      ON event.provider_id = lower(told.name) AND event.seq BETWEEN told.low AND told.high
    UNION ALL
    SELECT told.name, event.seq, event.id, event.received
    FROM unnest($1::text[], $2::bigint[], $3::bigint[]) AS told (name, low, high)
    JOIN outbox_event AS event
      ON event.provider_id = lower(told.name) AND event.received = 1 AND event.seq > told.high
"""
_FORGET: Final = (
    "INSERT INTO deleted_record (kind, id, vault_id, change)"
    " SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[])"
    " ON CONFLICT (kind, id) DO UPDATE"
    " SET vault_id = excluded.vault_id, change = excluded.change"
)
_LOG: Final = (
    "INSERT INTO job_log (job_id, number, at, change, event) SELECT * FROM"
    " unnest($1::text[], $2::bigint[], $3::text[], $4::bigint[], $5::text[])"
)
_BEGIN: Final = (
    "INSERT INTO job_lease (job_id, owner, fence, held_until)"  # noqa: S608 -- our own words
    f" SELECT job_id, owner, fence, {NOW_MS} + life"
    " FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[])"
    " AS given (job_id, owner, fence, life) ON CONFLICT (job_id) DO UPDATE"
    " SET owner = excluded.owner, fence = excluded.fence, held_until = excluded.held_until"
)
_LEAVE: Final = (
    "INSERT INTO job_inbox (message_id, job_id, change, position, event) SELECT * FROM"
    " unnest($1::text[], $2::text[], $3::bigint[], $4::integer[], $5::text[])"
    " ON CONFLICT (message_id) DO NOTHING"
)
_TELL: Final = f"SELECT count(pg_notify('{CHANNEL}', said)) FROM unnest($2::text[]) AS said"  # noqa: S608
_FINISH: Final = f"UPDATE change_counter SET number = $1 WHERE id = 1 AND ({_TELL}) >= 0"  # noqa: S608


async def read_facts(connection: Connection, asked: Questions, number: int) -> Facts:
    """Read what a batch names, in one statement, and a second one for receipts."""
    facts = Facts(number)
    parts: list[str] = []
    arguments: list[list[str]] = []
    for name in sorted(kind.kind for kind in asked.records):
        arguments.append(list(asked.records[_KINDS[name]]))
        parts.append(_present(_KINDS[name], len(arguments)))
    if asked.jobs:
        arguments.append(list(asked.jobs))
        parts.append(_FENCES.format(len(arguments)))
    if parts:
        for row in await connection.fetch(" UNION ALL ".join(parts), *arguments):
            if not row["kind"]:
                facts.fences[row["id"]] = row["created"]
                continue
            kind = _KINDS[row["kind"]]
            facts.records[kind, row["id"]] = Present(
                row["version"], row["created"], row["vault_id"]
            )
            if row["id"] in asked.streams and kind is ProviderStream:
                facts.streams[row["id"]] = ProviderStream.model_validate_json(row["document"])
    if asked.receipts:
        told = [
            (name, facts.streams[name].acknowledged_seq + 1, high)
            for name, (_, high) in asked.receipts.items()
            if name in facts.streams
        ]
        for row in await connection.fetch(_WAITING, *_columns(told, 3)):
            facts.waiting[row["name"], row["seq"]] = Waiting(row["id"], bool(row["received"]))
    return facts


async def write(connection: Connection, made: Plan, lease_ms: int) -> None:
    """Write what was decided, rings and change number included."""
    run = connection.execute
    for table, column, ids in (
        ("job_inbox", "message_id", made.taken),
        ("job_inbox", "job_id", made.cleared),
        ("job_lease", "job_id", made.ended),
        ("job_log", "job_id", made.jobs_deleted),
    ):
        if ids:
            await run(f"DELETE FROM {table} WHERE {column} = ANY($1::text[])", ids)  # noqa: S608
    for kind, ids in made.deletes.items():
        await run(f"DELETE FROM {kind.kind} WHERE id = ANY($1::text[])", ids)  # noqa: S608
    for kind, rows in made.updates.items():
        await run(_UPDATES[kind], *_columns(rows))
    for kind, rows in made.inserts.items():
        await run(_INSERTS[kind], *_columns(rows))
    for event_id, receipt, change in made.notes:
        await _note(connection, event_id, receipt, change)
    begun = [(*lease, lease_ms) for lease in made.begun]
    for statement, given in (
        (_FORGET, made.forgotten),
        (_LOG, made.log),
        (_BEGIN, begun),
        (_LEAVE, made.messages),
    ):
        if given:
            await run(statement, *_columns(given))
    if made.forgotten:
        limit = made.number - CHANGES_REMEMBERED
        await run("DELETE FROM deleted_record WHERE change < $1", limit)
    await run(_FINISH, made.number, list(payloads(made.rings)))


async def _note(connection: Connection, event_id: str, receipt: str, change: int) -> None:
    """Keep a receipt that came before an earlier event's."""
    document = await connection.fetchval(
        "SELECT document FROM outbox_event WHERE id = $1", event_id
    )
    noted = OutboxEvent.model_validate_json(document).model_copy(update={"receipt": receipt})
    await connection.execute(
        "UPDATE outbox_event SET received = 1, version = version + 1, change = $1, document = $2"
        " WHERE id = $3",
        change,
        noted.model_dump_json(),
        event_id,
    )


def _columns(rows: Iterable[tuple[Any, ...]], count: int = 0) -> list[list[Any]]:
    """Turn rows into columns; `count` of them where there may be no row."""
    return [list(column) for column in zip(*rows, strict=True)] or [[] for _ in range(count)]


def payloads(rings: Iterable[Ring]) -> Iterable[str]:
    """Return rings as few texts, each as long as one NOTIFY takes."""
    parts: list[str] = []
    size = 2
    for ring in rings:
        text = json.dumps([ring.topic, ring.key])
        if len(text) + 2 > PAYLOAD_BYTES_MAX:
            continue  # Only a hint: whoever it is for finds the truth in the tables.
        if size + len(text) + 1 > PAYLOAD_BYTES_MAX and parts:
            yield f"[{','.join(parts)}]"
            parts, size = [], 2
        parts.append(text)
        size += len(text) + 1
    if parts:
        yield f"[{','.join(parts)}]"


def rings_in(payload: str) -> list[Ring]:
    """Return what was told; nothing for what none of our hubs has said."""
    try:
        found = json.loads(payload)
        return [Ring(str(topic), str(key)) for topic, key in found]
    except (ValueError, TypeError, RecursionError):
        return []
