"""Applies changes in one transaction; runs in the one thread that writes.

Events and receipts of a change are taken together: a thousand of them cost a handful of
statements, not five each.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import sqlalchemy as sa

from service_hub.domain.errors import StaleVersionError
from service_hub.domain.records import OutboxEvent, ProviderStream
from service_hub.ports import NEW, Change, Delete, EventReceipt, FaultPoints, NewEvent, Save
from service_hub.store.tables import CHANGE_COUNTER, TABLES, searched_values

COUNTER_ROW: Final = 1

_IDS_MAX: Final = 500
"""Ids in one question: SQLite takes a limited number of variables."""


def apply_changes(
    engine: sa.Engine, changes: Sequence[Change], faults: FaultPoints
) -> list[int | StaleVersionError]:
    """Store a batch in one transaction, each change in its own savepoint (ports: Store.apply)."""
    outcomes: list[int | StaleVersionError] = []
    with engine.begin() as connection:
        number = _change_number(connection)
        for change in changes:
            try:
                with connection.begin_nested():
                    _apply_one(connection, change, number + 1)
            except StaleVersionError as error:
                outcomes.append(error)
            else:
                number += 1
                outcomes.append(number)
        connection.execute(
            sa.update(CHANGE_COUNTER)
            .where(CHANGE_COUNTER.c.id == COUNTER_ROW)
            .values(number=number)
        )
        faults.reach_now("store.in_transaction")
    return outcomes


def _change_number(connection: sa.Connection) -> int:
    query = sa.select(CHANGE_COUNTER.c.number).where(CHANGE_COUNTER.c.id == COUNTER_ROW)
    return int(connection.execute(query).scalar_one())


def _apply_one(connection: sa.Connection, change: Change, number: int) -> None:
    for save in change.saves:
        _save(connection, save, number)
    for delete in change.deletes:
        _delete(connection, delete)
    if change.events:
        _enqueue(connection, change.events, number)
    if change.receipts:
        _acknowledge(connection, change.receipts, number)


def _save(connection: sa.Connection, save: Save, number: int) -> None:
    record, expected = save.record, save.expected_version
    table = TABLES[type(record)]
    present = connection.execute(
        sa.select(table.c.version).where(table.c.id == record.id)
    ).scalar_one_or_none()
    if expected is not None and (present or NEW) != expected:
        raise StaleVersionError(
            f"{record.kind} {record.id} has version {present or NEW}, not {expected}"
        )
    values = {
        **searched_values(record),
        "version": (present or NEW) + 1,
        "change": number,
        "document": record.model_dump_json(),
    }
    if present is None:
        connection.execute(sa.insert(table).values(id=record.id, **values))
    else:
        connection.execute(sa.update(table).where(table.c.id == record.id).values(**values))


def _delete(connection: sa.Connection, delete: Delete) -> None:
    table = TABLES[delete.kind]
    connection.execute(sa.delete(table).where(table.c.id == delete.record_id))


def _streams(connection: sa.Connection, provider_ids: Iterable[str]) -> dict[str, ProviderStream]:
    table = TABLES[ProviderStream]
    wanted = sorted(set(provider_ids))
    streams: dict[str, ProviderStream] = {}
    for start in range(0, len(wanted), _IDS_MAX):
        query = sa.select(table.c.id, table.c.document).where(
            table.c.id.in_(wanted[start : start + _IDS_MAX])
        )
        for row in connection.execute(query):
            streams[row.id] = ProviderStream.model_validate_json(row.document)
    for provider_id in wanted:
        if provider_id not in streams:
            # Alone undone: what is said of a server that is gone must not cost others theirs.
            raise StaleVersionError(f"the server {provider_id} was deleted meanwhile")
    return streams


def _raise_streams(
    connection: sa.Connection, streams: Iterable[ProviderStream], number: int
) -> None:
    table = TABLES[ProviderStream]
    connection.execute(
        sa.update(table)
        .where(table.c.id == sa.bindparam("stream_id"))
        .values(
            version=table.c.version + 1,
            change=sa.bindparam("at_change"),
            document=sa.bindparam("as_document"),
        ),
        [
            {"stream_id": each.id, "at_change": number, "as_document": each.model_dump_json()}
            for each in streams
        ],
    )


def _enqueue(connection: sa.Connection, events: Sequence[NewEvent], number: int) -> None:
    """Give each event its stream's next number, without gaps, and store them."""
    streams = _streams(connection, [event.provider_id for event in events])
    rows: list[dict[str, Any]] = []
    for event in events:
        stream = streams[event.provider_id]
        stored = OutboxEvent(
            id=event.event_id,
            vault_id=event.vault_id,
            provider_id=event.provider_id,
            stream=stream.stream,
            seq=stream.next_seq,
            type=event.type,
            issued_at=event.issued_at,
            expires_at=event.expires_at,
            body=dict(event.body),
        )
        rows.append(
            {
                "id": stored.id,
                **searched_values(stored),
                "version": NEW + 1,
                "change": number,
                "document": stored.model_dump_json(),
            }
        )
        streams[stream.id] = stream.model_copy(update={"next_seq": stream.next_seq + 1})
    try:
        connection.execute(sa.insert(TABLES[OutboxEvent]), rows)
    except sa.exc.IntegrityError as error:
        raise StaleVersionError(
            f"one of {len(rows)} events exists already: {error.orig}"
        ) from error
    _raise_streams(connection, streams.values(), number)


def _acknowledge(connection: sa.Connection, receipts: Sequence[EventReceipt], number: int) -> None:
    """Note receipts; drop every event that is acknowledged without a gap below it."""
    streams = _streams(connection, [receipt.provider_id for receipt in receipts])
    told: dict[str, dict[int, str]] = {}
    for receipt in receipts:
        stream = streams[receipt.provider_id]
        if receipt.stream == stream.stream and receipt.seq > stream.acknowledged_seq:
            told.setdefault(stream.id, {})[receipt.seq] = receipt.receipt
    raised = [_acknowledge_one(connection, streams[each], told[each], number) for each in told]
    if raised:
        _raise_streams(connection, raised, number)


def _acknowledge_one(
    connection: sa.Connection, stream: ProviderStream, told: Mapping[int, str], number: int
) -> ProviderStream:
    """Drop and note one provider's events; return its stream as it is then."""
    table = TABLES[OutboxEvent]
    mine = table.c.provider_id == stream.id.lower()
    acknowledged, dropped = stream.acknowledged_seq, []
    following = connection.execute(
        sa.select(table.c.id, table.c.seq, table.c.document)
        .where(mine, table.c.seq > acknowledged)
        .order_by(table.c.seq)
    )
    # Receipts may come out of order: walk on over all numbers that have one.
    for row in following:
        if row.seq != acknowledged + 1 or not (row.seq in told or _has_receipt(row.document)):
            break
        acknowledged = row.seq
        dropped.append(row.id)
    following.close()
    if dropped:
        connection.execute(
            sa.delete(table).where(table.c.id == sa.bindparam("event_id")),
            [{"event_id": each} for each in dropped],
        )
    early = [seq for seq in told if seq > acknowledged]
    for start in range(0, len(early), _IDS_MAX):
        query = sa.select(table.c.document).where(
            mine, table.c.seq.in_(early[start : start + _IDS_MAX])
        )
        for row in connection.execute(query).all():
            event = OutboxEvent.model_validate_json(row.document)
            noted = event.model_copy(update={"receipt": told[event.seq]})
            _save(connection, Save(noted, None), number)
    return stream.model_copy(update={"acknowledged_seq": acknowledged})


def _has_receipt(document: str) -> bool:
    return OutboxEvent.model_validate_json(document).receipt is not None
