"""Reads what waits for providers: for as many of them as are asked for, in two statements.

Runs in a thread of its own: one visit for all, where each visit costs as much as ten rows.
"""

import json
from collections.abc import Mapping
from typing import Final

import sqlalchemy as sa

from service_hub.domain.records import OutboxEvent, ProviderStream
from service_hub.ports.stores import StreamPage
from service_hub.store.gathered_reads import AMONG

READ_BYTES_MAX: Final = 64 * 1024 * 1024
"""Documents of one read: whose events would go beyond it, is left out and asked for again."""

_FETCHED_AT_ONCE: Final = 256

_WANTED: Final[Mapping[str, str]] = {
    "sqlite": "(SELECT id AS place, key, value FROM json_each(:wanted))",
    "postgresql": "json_each_text(CAST(:wanted AS json)) WITH ORDINALITY"
    " AS given (key, value, place)",
}


def _streams_query(dialect: str) -> sa.TextClause:
    return sa.text(
        f"SELECT id, document FROM {ProviderStream.kind} WHERE id IN {AMONG[dialect]}"  # noqa: S608 -- names of our own tables, here and below
    )


def _events_query(dialect: str) -> sa.TextClause:
    behind = "CAST(wanted.value AS bigint)"
    return sa.text(
        f"""
        SELECT wanted.key AS provider_id, event.document AS document
        FROM (SELECT * FROM {_WANTED[dialect]}) AS wanted
        JOIN {OutboxEvent.kind} AS event
          ON event.provider_id = lower(wanted.key)
          AND event.seq > {behind} AND event.seq <= {behind} + :limit
        ORDER BY wanted.place, event.seq
        """  # noqa: S608
    )


_STREAMS: Final = {dialect: _streams_query(dialect) for dialect in _WANTED}
_EVENTS: Final = {dialect: _events_query(dialect) for dialect in _WANTED}
"""Numbers have no gaps above what is acknowledged, so so many of them are so many events."""


def stream_pages(
    connection: sa.Connection, after: Mapping[str, int], limit: int
) -> dict[str, StreamPage]:
    """Return streams and events as they were at one moment (ports: OutboxReader.pages)."""
    found = connection.execute(
        _STREAMS[connection.dialect.name], {"wanted": json.dumps(list(after))}
    )
    streams = [ProviderStream.model_validate_json(row.document) for row in found]
    pages = {stream.id: StreamPage(stream) for stream in streams}
    behind = {
        stream.id: max(after[stream.id], stream.acknowledged_seq)
        for stream in streams
        if max(after[stream.id], stream.acknowledged_seq) + 1 < stream.next_seq
    }
    if limit and behind:
        events = _events(connection, behind, limit)
        for each in behind:
            if each in events:
                pages[each] = StreamPage(pages[each].stream, events[each])
            else:
                del pages[each]
    return pages


def _events(
    connection: sa.Connection, behind: Mapping[str, int], limit: int
) -> dict[str, list[OutboxEvent]]:
    """Return the events of as many as READ_BYTES_MAX allows, of one at least."""
    events: dict[str, list[OutboxEvent]] = {}
    size = 0
    wanted = {"wanted": json.dumps(behind), "limit": limit}
    options = {"yield_per": _FETCHED_AT_ONCE}
    with connection.execute(
        _EVENTS[connection.dialect.name], wanted, execution_options=options
    ) as rows:
        for row in rows:
            size += len(row.document)
            if size > READ_BYTES_MAX and events:
                if len(events) > 1:
                    # Part of a provider's events would look like all of them.
                    events.pop(row.provider_id, None)
                return events
            event = OutboxEvent.model_validate_json(row.document)
            events.setdefault(row.provider_id, []).append(event)
    return {each: events.get(each, []) for each in behind}
