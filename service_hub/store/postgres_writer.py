"""Applies changes to PostgreSQL: read in sets, decided in memory, written with one statement each.

Every write of every hub begins with the row of `change_counter`: it is the lock that makes change
numbers rise over all hubs, and lets a batch be decided on in memory. What it read cannot change
before it commits, fences included: whoever claims a job takes the same lock.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple

import sqlalchemy as sa

from service_hub.domain.records import OutboxEvent, ProviderStream, Record, Vault
from service_hub.ports.changes import CHANGES_REMEMBERED, Ring
from service_hub.store.audit_lines import LAST_HASH, chained
from service_hub.store.batch_facts import Facts, Present, Questions, Waiting
from service_hub.store.batch_plan import Plan
from service_hub.store.postgres_connections import Connection
from service_hub.store.tables import SEARCHED_BY, SHOWN, TABLES, written_columns

CHANNEL: Final = "service_hub"
"""Of NOTIFY; it is the database's own, so hubs of other databases do not hear it."""

PAYLOAD_BYTES_MAX: Final = 7_900
"""PostgreSQL takes less than 8000 in one NOTIFY."""

NOW_MS: Final = "CAST(extract(epoch FROM clock_timestamp()) * 1000 AS bigint)"
"""The database's clock."""

BEGIN: Final = "BEGIN; SELECT 1 FROM change_counter WHERE id = 1 FOR UPDATE"
"""Begins, and takes the lock of all hubs, in one round trip; what is read after it is current."""

_PLACE: Final = (
    "SELECT '#' AS kind, CAST(pg_current_xact_id() AS text) AS id, 0 AS version, number AS created,"
    " '' AS vault_id, '' AS document, NULL::text[] AS searched FROM change_counter WHERE id = 1"
)
"""The transaction's name and the number of the last change."""


_NUMBERS: Final = frozenset({"bigint", "integer"})
"""Types whose arrays are handed over as text: asyncpg asks of each number whether it is an array
itself, which costs four times as much as writing it."""


class Part(NamedTuple):
    """Part of a statement: its arguments are arrays of these types, one for each column."""

    text: str
    types: tuple[str, ...]

    def numbered(self, first: int) -> str:
        """Return it with its arguments from this number on."""
        arrays = (
            f"${number}::text::{name}[]" if name in _NUMBERS else f"${number}::{name}[]"
            for number, name in enumerate(self.types, first)
        )
        return self.text.format(", ".join(arrays))

    def arguments(self, rows: Iterable[tuple[Any, ...]]) -> list[Any]:
        """Return these rows, one at least, as its arguments."""
        columns = zip(*rows, strict=True)
        return [
            f"{{{','.join(map(str, column))}}}" if name in _NUMBERS else column
            for name, column in zip(self.types, columns, strict=True)
        ]

    @property
    def alone(self) -> str:
        """The part as a statement of its own."""
        return self.numbered(1)


def _column_type(kind: type[Record], name: str) -> str:
    return {sa.Text: "text", sa.BigInteger: "bigint", sa.Integer: "integer"}[
        type(TABLES[kind].c[name].type)
    ]


def _typed(kind: type[Record], names: Sequence[str]) -> tuple[str, ...]:
    return tuple(_column_type(kind, name) for name in names)


def _insert(kind: type[Record]) -> Part:
    names = written_columns(kind)
    return Part(
        f"INSERT INTO {kind.kind} ({', '.join(names)})"  # noqa: S608 -- names of our own tables, here and below
        f" SELECT {', '.join(f'given.{name}' for name in names)}"
        f" FROM unnest({{}}) AS given ({', '.join(names)})",
        _typed(kind, names),
    )


def _update(kind: type[Record], names: Sequence[str]) -> Part:
    return Part(
        f"UPDATE {kind.kind} AS there SET {', '.join(f'{name} = given.{name}' for name in names)}"  # noqa: S608
        f" FROM unnest({{}}) AS given ({', '.join([*names, 'id'])}) WHERE there.id = given.id",
        _typed(kind, [*names, "id"]),
    )


def _delete(table: str, column: str) -> Part:
    return Part(f"DELETE FROM {table} WHERE {column} = ANY({{}})", ("text",))  # noqa: S608


def _present(kind: type[Record], number: int) -> str:
    vault = "vault_id" if "vault_id" in SEARCHED_BY[kind] else "id" if kind is Vault else "''"
    document = "document" if kind is ProviderStream else "''"
    return (
        f"SELECT '{kind.kind}' AS kind, id, version, created, {vault} AS vault_id,"  # noqa: S608
        f" {document} AS document, ARRAY[{', '.join(SEARCHED_BY[kind])}]::text[] AS searched"
        f" FROM {kind.kind} WHERE id = ANY(${number}::text[])"
    )


_KINDS: Final[Mapping[str, type[Record]]] = {kind.kind: kind for kind in TABLES}
_INSERTS: Final = {kind: _insert(kind) for kind in TABLES}
_UPDATES: Final = {kind: _update(kind, written_columns(kind)[1:]) for kind in TABLES}
_TOUCHES: Final = {kind: _update(kind, ("version", "change", "document")) for kind in TABLES}
_DELETES: Final = {kind: _delete(kind.kind, "id") for kind in TABLES}
_FENCES: Final = (
    "SELECT '' AS kind, job_id AS id, 0 AS version, fence AS created, '' AS vault_id,"
    " '' AS document, NULL::text[] AS searched FROM job_lease WHERE job_id = ANY(${}::text[])"
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
_HIDE: Final = {
    kind: Part(
        f"DELETE FROM changed_record WHERE kind = '{kind.kind}' AND id = ANY({{}})",  # noqa: S608
        ("text",),
    )
    for kind in SHOWN
}
_SHOW: Final = Part(
    "INSERT INTO changed_record (kind, id, vault_id, change) SELECT * FROM unnest({})"
    " ON CONFLICT (kind, id) DO UPDATE"
    " SET vault_id = excluded.vault_id, change = excluded.change",
    ("text", "text", "text", "bigint"),
)
_TAKE: Final = _delete("job_inbox", "message_id")
_CLEAR: Final = _delete("job_inbox", "job_id")
_END: Final = _delete("job_lease", "job_id")
_ERASE: Final = _delete("job_log", "job_id")
_FORGET: Final = Part(
    "INSERT INTO deleted_record (kind, id, vault_id, change) SELECT * FROM unnest({})"
    " ON CONFLICT (kind, id) DO UPDATE"
    " SET vault_id = excluded.vault_id, change = excluded.change",
    ("text", "text", "text", "bigint"),
)
_LOG: Final = Part(
    "INSERT INTO job_log (job_id, number, at, change, event) SELECT * FROM unnest({})",
    ("text", "bigint", "text", "bigint", "text"),
)
_BEGIN: Final = Part(
    "INSERT INTO job_lease (job_id, owner, fence, held_until)"  # noqa: S608 -- our own words
    f" SELECT job_id, owner, fence, {NOW_MS} + life"
    " FROM unnest({}) AS given (job_id, owner, fence, life) ON CONFLICT (job_id) DO UPDATE"
    " SET owner = excluded.owner, fence = excluded.fence, held_until = excluded.held_until",
    ("text", "text", "bigint", "bigint"),
)
_LAST_HASH: Final = LAST_HASH.format("$1")
_AUDIT: Final = Part(
    "INSERT INTO audit_log (change, position, vault_id, at, entry, hash) SELECT * FROM unnest({})",
    ("bigint", "integer", "text", "text", "text", "text"),
)
_LEAVE: Final = Part(
    "INSERT INTO job_inbox (message_id, job_id, change, position, event) SELECT * FROM unnest({})"
    " ON CONFLICT (message_id) DO NOTHING",
    ("text", "text", "bigint", "integer", "text"),
)
_TELL: Final = f"SELECT count(pg_notify('{CHANNEL}', said)) FROM unnest($2::text[]) AS said"  # noqa: S608
_FINISH: Final = f"UPDATE change_counter SET number = $1 WHERE id = 1 AND ({_TELL}) >= 0"  # noqa: S608
_FINISH_ARGUMENTS: Final = 2
_PARTS_MAX: Final = 64
"""Combinations of parts whose statement is remembered; asyncpg keeps as many prepared."""


class Read(NamedTuple):
    """What a batch names, and the name of the transaction that it was read in."""

    facts: Facts
    transaction: str


async def read_facts(connection: Connection, asked: Questions) -> Read:
    """Read what a batch names, in one statement, and a second one for receipts."""
    parts: list[str] = [_PLACE]
    arguments: list[list[str]] = []
    for name in sorted(kind.kind for kind in asked.records):
        arguments.append(list(asked.records[_KINDS[name]]))
        parts.append(_present(_KINDS[name], len(arguments)))
    if asked.jobs:
        arguments.append(list(asked.jobs))
        parts.append(_FENCES.format(len(arguments)))
    facts, transaction = Facts(), ""
    for row in await connection.fetch(" UNION ALL ".join(parts), *arguments):
        name, each, version, created, vault_id, document, searched = row
        if name == "#":
            facts.number, transaction = created, each
            continue
        if not name:
            facts.fences[each] = created
            continue
        kind = _KINDS[name]
        facts.records[kind, each] = Present(version, created, vault_id, tuple(searched))
        if each in asked.streams and kind is ProviderStream:
            facts.streams[each] = ProviderStream.model_validate_json(document)
    if asked.receipts:
        told = [
            (name, facts.streams[name].acknowledged_seq + 1, high)
            for name, (_, high) in asked.receipts.items()
            if name in facts.streams
        ]
        for row in await connection.fetch(_WAITING, *_columns(told, 3)):
            facts.waiting[row["name"], row["seq"]] = Waiting(row["id"], bool(row["received"]))
    return Read(facts, transaction)


async def write(connection: Connection, made: Plan, lease_ms: int) -> None:
    """Write what was decided, rings and change number included, mostly in one statement."""
    removed, written = _removed(made), _written(made, lease_ms)
    if made.messages or made.jobs_deleted:
        # What is removed may be there anew: one statement would not know which comes first.
        for part, given in removed:
            await connection.execute(part.alone, *given)
        removed = []
    if made.audit:
        last = {row[2]: await connection.fetchval(_LAST_HASH, row[2]) for row in made.audit}
        written.append((_AUDIT, _AUDIT.arguments(chained(made.audit, last))))
    steps = [*removed, *written]
    arguments = [column for _, given in steps for column in given]
    statement = _whole(tuple(part for part, _ in steps))
    await connection.execute(statement, made.number, list(payloads(made.rings)), *arguments)
    for event_id, receipt, change in made.notes:
        await _note(connection, event_id, receipt, change)
    if made.forgotten:
        limit = made.number - CHANGES_REMEMBERED
        await connection.execute("DELETE FROM deleted_record WHERE change < $1", limit)


Step = tuple[Part, list[Any]]


def _removed(made: Plan) -> list[Step]:
    ids = [
        (_TAKE, made.taken),
        (_CLEAR, made.cleared),
        (_END, made.ended),
        (_ERASE, made.jobs_deleted),
        *((_DELETES[kind], deleted) for kind, deleted in made.deletes.items()),
        *((_HIDE[kind], deleted) for kind, deleted in made.deletes.items() if kind in SHOWN),
    ]
    return [(part, [given]) for part, given in ids if given]


def _written(made: Plan, lease_ms: int) -> list[Step]:
    rows: list[tuple[Part, Sequence[tuple[Any, ...]]]] = [
        *((_UPDATES[kind], given) for kind, given in made.updates.items()),
        *((_TOUCHES[kind], given) for kind, given in made.touched.items()),
        *((_INSERTS[kind], given) for kind, given in made.inserts.items()),
        (_SHOW, _shown(made)),
        (_FORGET, made.forgotten),
        (_LOG, made.log),
        (_BEGIN, [(*lease, lease_ms) for lease in made.begun]),
        (_LEAVE, made.messages),
    ]
    return [(part, part.arguments(given)) for part, given in rows if given]


def _shown(made: Plan) -> list[tuple[str, str, str, int]]:
    """Return what views can ask changes of, as it is noted beside the records."""
    return [
        (kind.kind, record_id, written.record.vault_id.lower(), written.change)
        for (kind, record_id), written in made.written.items()
        if kind in SHOWN and written is not None and isinstance(written.record, Record)
    ]


@lru_cache(_PARTS_MAX)
def _whole(parts: tuple[Part, ...]) -> str:
    """Return one statement that does all of it, and finishes."""
    texts, number = [], _FINISH_ARGUMENTS + 1
    for at, part in enumerate(parts):
        texts.append(f"part{at} AS ({part.numbered(number)})")
        number += len(part.types)
    return f"WITH {', '.join(texts)} {_FINISH}" if texts else _FINISH


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
