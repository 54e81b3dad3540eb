"""Reads what waits for providers: for as many of them as are asked for, in two statements.

Runs in a thread of its own: one visit for all, where each visit costs as much as ten rows.
"""

import json
from collections.abc import Mapping
from typing import Final

import sqlalchemy as sa

from service_hub.domain.records import OutboxEvent, ProviderStream
from service_hub.ports import StreamPage

READ_BYTES_MAX: Final = 64 * 1024 * 1024
"""Documents of one read: whose events would go beyond it, is left out and asked for again."""

_FETCHED_AT_ONCE: Final = 256

_STREAMS: Final = sa.text(
    f"""
    SELECT id, document FROM {ProviderStream.kind}
    WHERE id IN (SELECT value FROM json_each(:wanted))
    """  # noqa: S608 -- names of our own tables
)

_EVENTS: Final = sa.text(
    f"""
    SELECT wanted.key AS provider_id, event.document AS document
    FROM json_each(:wanted) AS wanted
    JOIN {OutboxEvent.kind} AS event
      ON event.provider_id = lower(wanted.key)
      AND event.seq > wanted.value AND event.seq <= wanted.value + :limit
    ORDER BY wanted.id, event.seq
    """  # noqa: S608 -- names of our own tables
)
"""Numbers have no gaps above what is acknowledged, so so many of them are so many events."""


def stream_pages(engine: sa.Engine, after: Mapping[str, int], limit: int) -> dict[str, StreamPage]:
    """Return streams and events as they were at one moment (ports: OutboxReader.pages)."""
    with engine.connect() as connection:
        found = connection.execute(_STREAMS, {"wanted": json.dumps(list(after))})
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
    with connection.execute(_EVENTS, wanted, execution_options=options) as rows:
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
