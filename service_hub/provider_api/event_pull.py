"""The pull of events by cursor, with or without waiting (design: channel, pull)."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from service_hub.domain.records import ProviderStream
from service_hub.ports.channel import EventSource
from service_hub.provider_api.problems import invalid
from wire_contract.events import EventPage, SignedEvent

WAIT_SECONDS_MAX: Final = 25.0
EVENTS_PER_PAGE_MAX: Final = 64
PAGE_BYTES_MAX: Final = 16 * 1024 * 1024
STREAM_CHARACTERS_MAX: Final = 64
SEQ_MAX: Final = 2**53 - 1
"""Largest number that every JSON reader keeps exactly."""

_NUMBER: Final = re.compile(r"[0-9]{1,16}")
_SECONDS: Final = re.compile(r"[0-9]{1,2}(\.[0-9]{1,3})?")


@dataclass(frozen=True, slots=True)
class EventQuery:
    """What a provider asks for: what follows `after` in `stream`, waiting so long for it."""

    stream: str
    after: int
    wait_seconds: float


def read_query(query: Mapping[str, str]) -> EventQuery:
    """Return the query; ProblemError names the parameter that is wrong."""
    stream = query.get("stream", "")
    if not 0 < len(stream) <= STREAM_CHARACTERS_MAX:
        raise invalid(f"stream: 1 to {STREAM_CHARACTERS_MAX} characters are needed.")
    after = query.get("after", "")
    if not _NUMBER.fullmatch(after) or int(after) > SEQ_MAX:
        raise invalid(f"after: a whole number from 0 to {SEQ_MAX} is needed.")
    wait = query.get("wait", "0")
    if not _SECONDS.fullmatch(wait) or float(wait) > WAIT_SECONDS_MAX:
        raise invalid(f"wait: 0 to {WAIT_SECONDS_MAX:g} seconds are possible.")
    return EventQuery(stream, int(after), float(wait))


async def pull(source: EventSource, provider_id: str, query: EventQuery) -> EventPage:
    """Return what follows the cursor, waiting for the first event where there is none yet.

    A stream that is not the present one is answered at once with the present one from its
    beginning: the provider sets its cursor anew.
    """
    stream, events = await source.signed_when_there(
        provider_id, query.stream, query.after, EVENTS_PER_PAGE_MAX, query.wait_seconds
    )
    if stream.stream != query.stream:
        stream, events = await source.signed_after(provider_id, 0, EVENTS_PER_PAGE_MAX)
    return page_of(stream, events)


def page_of(stream: ProviderStream, events: Sequence[tuple[int, str]]) -> EventPage:
    """Return as many of the events as fit a page, at least one."""
    fitting: list[SignedEvent] = []
    size = 0
    for seq, jws in events:
        size += len(jws)
        if fitting and size > PAGE_BYTES_MAX:
            break
        fitting.append(SignedEvent(stream=stream.stream, seq=seq, jws=jws))
    return EventPage(stream=stream.stream, highest_seq=stream.next_seq - 1, events=tuple(fitting))
