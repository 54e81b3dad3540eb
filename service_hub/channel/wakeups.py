"""Who has something new: one signal for the outbox pump and for long polls."""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from service_hub.ports.changes import NOTHING_STORED, Stored

STORED_MAX: Final = 20_000
"""Streams and events that may wait to be taken; beyond that they are read from the database."""


@dataclass(frozen=True, slots=True)
class Woken:
    """Whose outbox is to be read, and what commits have told of others, in order."""

    provider_ids: set[str]
    stored: Sequence[Stored]


class Wakeups:
    """Passes on that a provider has new events or has just come; an `Outbox` (ports).

    A signal is a hint: who was not woken finds the events by its poll. So is what was stored: who
    is not told reads it.
    """

    def __init__(self) -> None:
        self._woken: set[str] = set()
        self._stored: list[Stored] = []
        self._stored_count = 0
        self._any = asyncio.Event()
        self._waiting: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        self._closed = False

    def wake(self, provider_ids: Sequence[str], stored: Stored = NOTHING_STORED) -> None:
        """Wake the pump and every long poll of these providers; never blocks."""
        told = {stream.id for stream in stored.streams} if self._keep(stored) else set()
        for provider_id in provider_ids:
            if provider_id not in told:
                self._woken.add(provider_id)
            for event in self._waiting.get(provider_id, ()):
                event.set()
        if self._woken or self._stored:
            self._any.set()

    def _keep(self, stored: Stored) -> bool:
        """Keep what a commit told, if there is room."""
        count = len(stored.streams) + len(stored.events)
        if self._stored_count + count > STORED_MAX:
            return False
        if count:
            self._stored.append(stored)
            self._stored_count += count
        return True

    def close(self) -> None:
        """Let every waiting long poll answer now, and none wait from here on: the hub stops."""
        self._closed = True
        for events in self._waiting.values():
            for event in events:
                event.set()

    @property
    def is_closed(self) -> bool:
        """Whether the hub stops."""
        return self._closed

    async def take(self, seconds: float) -> Woken:
        """Return who was woken since the last call, at the latest after `seconds`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._any.wait()
        self._any.clear()
        woken = Woken(self._woken, self._stored)
        self._woken, self._stored, self._stored_count = set(), [], 0
        return woken

    @contextlib.contextmanager
    def watching(self, provider_id: str) -> Iterator[asyncio.Event]:
        """Give an event that is set by every wake from now on, also before it is waited for."""
        event = asyncio.Event()
        if self._closed:
            event.set()
        waiting = self._waiting[provider_id]
        waiting.add(event)
        try:
            yield event
        finally:
            waiting.discard(event)
            if not waiting:
                self._waiting.pop(provider_id, None)
