"""Hands hints to all who listen within this process."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Final

from service_hub.ports.changes import Ring

WAITING_MAX: Final = 10_000
"""Hints that one listener may have before it; more are dropped: the truth is in the tables."""


class Bells:
    """A Bell of the hub's ports; in SQLite nobody tells it anything: there is one hub."""

    def __init__(self) -> None:
        self._listeners: list[asyncio.Queue[Ring]] = []

    def tell(self, rings: Iterable[Ring]) -> None:
        """Give these to all who listen now."""
        for ring in rings:
            for listener in self._listeners:
                if not listener.full():
                    listener.put_nowait(ring)

    async def listen(self) -> AsyncIterator[Ring]:
        """Yield every ring from now on (ports: Bell)."""
        mine: asyncio.Queue[Ring] = asyncio.Queue(WAITING_MAX)
        self._listeners.append(mine)
        try:
            while True:
                yield await mine.get()
        finally:
            self._listeners.remove(mine)
