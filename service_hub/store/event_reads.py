"""Questions about events: pages of them, newest first, and those that are old."""

from datetime import datetime

import sqlalchemy as sa

from service_hub.domain.replication_events import ReplicationEvent
from service_hub.ports.stores import EventPage, EventPlace, WantedEvents
from service_hub.store.tables import TABLES, sortable


def listed_events(
    connection: sa.Connection, wanted: WantedEvents, after: EventPlace | None, limit: int
) -> EventPage:
    """Return at most `limit` events that are wanted, newest first."""
    table = TABLES[ReplicationEvent].c
    query = sa.select(table.created, table.id, table.document).where(
        table.vault_id == wanted.vault_id.lower(),
        *(table[name] == text.lower() for name, text in wanted.equal.items()),
    )
    if wanted.provider_ids is not None:
        asked = [each.lower() for each in wanted.provider_ids]
        query = query.where(table.provider_id.in_(asked))
    if wanted.begin is not None:
        query = query.where(table.occurred_at >= sortable(wanted.begin))
    if wanted.end is not None:
        query = query.where(table.occurred_at <= sortable(wanted.end))
    if after is not None:
        behind = sa.tuple_(table.created, table.id) < sa.tuple_(after.created, after.event_id)
        query = query.where(behind)
    newest_first = query.order_by(table.created.desc(), table.id.desc()).limit(limit + 1)
    rows = connection.execute(newest_first).all()
    shown = rows[:limit]
    last = EventPlace(shown[-1].created, shown[-1].id) if len(rows) > limit else None
    return EventPage([ReplicationEvent.model_validate_json(row.document) for row in shown], last)


def old_events(connection: sa.Connection, before: datetime, limit: int) -> list[str]:
    """Return ids of events from before a moment, oldest first."""
    table = TABLES[ReplicationEvent].c
    query = (
        sa.select(table.id)
        .where(table.occurred_at < sortable(before))
        .order_by(table.occurred_at, table.id)
        .limit(limit)
    )
    return [str(row.id) for row in connection.execute(query)]


def events_behind(
    connection: sa.Connection, begin: datetime, event_id: str, limit: int
) -> list[ReplicationEvent]:
    """Return events of all vaults behind a moment and an id, oldest first."""
    table = TABLES[ReplicationEvent].c
    behind = sa.tuple_(table.occurred_at, table.id) > sa.tuple_(sortable(begin), event_id)
    query = (
        sa.select(table.document)
        .where(table.occurred_at >= sortable(begin), behind)
        .order_by(table.occurred_at, table.id)
        .limit(limit)
    )
    found = connection.execute(query)
    return [ReplicationEvent.model_validate_json(row.document) for row in found]
