"""Reads records and applies changes; knows nothing of what they mean."""

from collections.abc import Sequence
from typing import Any, Final, TypeVar

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from service_hub.domain.errors import StaleVersionError
from service_hub.domain.records import OutboxEvent, ProviderStream, Record
from service_hub.ports import NEW, Change, Delete, EventReceipt, NewEvent, Save, Versioned
from service_hub.store.gathered_reads import GatheredReads
from service_hub.store.tables import CHANGE_COUNTER, TABLES, searched_values

R = TypeVar("R", bound=Record)

COUNTER_ROW: Final = 1


class RecordStore:
    """The Store and Reader of the hub's ports, over two engines: one writes, many read."""

    def __init__(self, *, writer: AsyncEngine, reader: AsyncEngine) -> None:
        self._writer = writer
        self._reader = reader
        self._rows = GatheredReads(reader)

    async def get(self, kind: type[R], record_id: str) -> Versioned[R] | None:
        """Return one record, or None."""
        row = await self._rows.row(kind, record_id)
        return None if row is None else _versioned(kind, row)

    async def find(self, kind: type[R], **columns: str) -> list[Versioned[R]]:
        """Return the records whose searched columns equal these, oldest first."""
        table = TABLES[kind]
        query = sa.select(table.c.version, table.c.document).order_by(sa.text("rowid"))
        for name, value in columns.items():
            query = query.where(table.c[name] == value.lower())
        async with self._reader.connect() as connection:
            rows = (await connection.execute(query)).all()
        return [_versioned(kind, row) for row in rows]

    async def events_after(self, provider_id: str, seq: int, limit: int) -> list[OutboxEvent]:
        """Return a provider's stored events above `seq`, in order, at most `limit`."""
        table = TABLES[OutboxEvent]
        query = (
            sa.select(table.c.document)
            .where(table.c.provider_id == provider_id.lower(), table.c.seq > seq)
            .order_by(table.c.seq)
            .limit(limit)
        )
        async with self._reader.connect() as connection:
            rows = (await connection.execute(query)).all()
        return [OutboxEvent.model_validate_json(row.document) for row in rows]

    async def apply(self, changes: Sequence[Change]) -> list[int | StaleVersionError]:
        """Store a batch in one transaction, each change in its own savepoint."""
        outcomes: list[int | StaleVersionError] = []
        async with self._writer.begin() as connection:
            number = await _change_number(connection)
            for change in changes:
                try:
                    async with connection.begin_nested():
                        await _apply_one(connection, change, number + 1)
                except StaleVersionError as error:
                    outcomes.append(error)
                else:
                    number += 1
                    outcomes.append(number)
            await connection.execute(
                sa.update(CHANGE_COUNTER)
                .where(CHANGE_COUNTER.c.id == COUNTER_ROW)
                .values(number=number)
            )
        return outcomes


def _versioned(kind: type[R], row: Any) -> Versioned[R]:
    return Versioned(kind.model_validate_json(row.document), row.version)


async def _change_number(connection: AsyncConnection) -> int:
    query = sa.select(CHANGE_COUNTER.c.number).where(CHANGE_COUNTER.c.id == COUNTER_ROW)
    return int((await connection.execute(query)).scalar_one())


async def _apply_one(connection: AsyncConnection, change: Change, number: int) -> None:
    for save in change.saves:
        await _save(connection, save, number)
    for delete in change.deletes:
        await _delete(connection, delete)
    for event in change.events:
        await _enqueue(connection, event, number)
    for receipt in change.receipts:
        await _acknowledge(connection, receipt, number)


async def _save(connection: AsyncConnection, save: Save, number: int) -> None:
    record, expected = save.record, save.expected_version
    table = TABLES[type(record)]
    present = (
        await connection.execute(sa.select(table.c.version).where(table.c.id == record.id))
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
        await connection.execute(sa.insert(table).values(id=record.id, **values))
    else:
        await connection.execute(sa.update(table).where(table.c.id == record.id).values(**values))


async def _delete(connection: AsyncConnection, delete: Delete) -> None:
    table = TABLES[delete.kind]
    await connection.execute(sa.delete(table).where(table.c.id == delete.record_id))


async def _stream(connection: AsyncConnection, provider_id: str) -> ProviderStream:
    table = TABLES[ProviderStream]
    query = sa.select(table.c.document).where(table.c.id == provider_id)
    document = (await connection.execute(query)).scalar_one_or_none()
    if document is None:
        # Alone undone: what is said of a server that is gone must not cost others their changes.
        raise StaleVersionError(f"the server {provider_id} was deleted meanwhile")
    return ProviderStream.model_validate_json(document)


async def _enqueue(connection: AsyncConnection, event: NewEvent, number: int) -> None:
    """Give the event the stream's next number, without gaps, and store it."""
    stream = await _stream(connection, event.provider_id)
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
    raised = stream.model_copy(update={"next_seq": stream.next_seq + 1})
    await _save(connection, Save(stored, NEW), number)
    await _save(connection, Save(raised, None), number)


async def _acknowledge(connection: AsyncConnection, receipt: EventReceipt, number: int) -> None:
    """Note a receipt; drop every event that is acknowledged without a gap below it."""
    stream = await _stream(connection, receipt.provider_id)
    if receipt.stream != stream.stream or receipt.seq <= stream.acknowledged_seq:
        return
    table = TABLES[OutboxEvent]
    query = sa.select(table.c.document).where(
        table.c.provider_id == receipt.provider_id.lower(), table.c.seq == receipt.seq
    )
    document = (await connection.execute(query)).scalar_one_or_none()
    if document is None:
        return
    event = OutboxEvent.model_validate_json(document)
    noted = event.model_copy(update={"receipt": receipt.receipt})
    await _save(connection, Save(noted, None), number)
    # Receipts may come out of order: walk on over all numbers that have one.
    acknowledged = stream.acknowledged_seq
    receipted = await _receipted(connection, receipt.provider_id)
    while acknowledged + 1 in receipted:
        acknowledged += 1
        await _delete(connection, Delete(OutboxEvent, receipted[acknowledged]))
    raised = stream.model_copy(update={"acknowledged_seq": acknowledged})
    await _save(connection, Save(raised, None), number)


async def _receipted(connection: AsyncConnection, provider_id: str) -> dict[int, str]:
    table = TABLES[OutboxEvent]
    query = sa.select(table.c.document).where(table.c.provider_id == provider_id.lower())
    rows = (await connection.execute(query)).all()
    events = [OutboxEvent.model_validate_json(row.document) for row in rows]
    return {event.seq: event.id for event in events if event.receipt is not None}
