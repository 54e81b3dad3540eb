"""What changed since a number: views ask, wait, and are told once something did."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import structlog

from service_hub.domain.errors import StorageUnavailableError
from service_hub.looker_ports import ChangePage
from service_hub.ports.changes import CHANGES_REMEMBERED
from service_hub.ports.stores import WideReader

POLL_SECONDS: Final = 0.5
"""How often the database is asked while somebody waits: another hub may have changed it."""

WAIT_SECONDS_MAX: Final = 25.0
"""Longest that a view may have the hub wait: proxies cut off what is silent for longer."""

ROWS_MAX: Final = 1_000
"""Most records of one answer, unless one change alone is of more."""

log = structlog.get_logger(__name__)


class ChangeService:
    """The ChangeUseCases of the looker ports; one look at the database serves all who wait."""

    def __init__(self, *, reader: WideReader) -> None:
        self._reader = reader
        self._waiting = 0
        self._closed = False
        self._changed = asyncio.Event()
        self._asked = asyncio.Event()

    async def since(
        self, vault_id: str, number: int, *, limit: int, wait_seconds: float
    ) -> ChangePage:
        """Return what changed; when nothing did, once something does or the time is over."""
        limit = min(max(limit, 1), ROWS_MAX)
        ends = asyncio.get_running_loop().time() + min(wait_seconds, WAIT_SECONDS_MAX)
        while True:
            # Taken before the read: what is committed in between then wakes who waits.
            changed = self._changed
            page = await self._page(vault_id, number, limit)
            left = ends - asyncio.get_running_loop().time()
            if page.changes or page.restarted or left <= 0 or self._closed:
                return page
            self._waiting += 1
            self._asked.set()
            try:
                async with asyncio.timeout(left):
                    await changed.wait()
            except TimeoutError:
                continue
            finally:
                self._waiting -= 1

    def close(self) -> None:
        """Answer everybody who waits, now: the hub stops."""
        self._closed = True
        self._changed.set()

    async def _page(self, vault_id: str, number: int, limit: int) -> ChangePage:
        # Read first: what is committed after it has a higher number and is told next time.
        newest = await self._reader.last_number()
        if number > newest or 0 < number < newest - CHANGES_REMEMBERED:
            return ChangePage((), newest, restarted=True)
        rows = await self._reader.changes_since(vault_id, number, limit)
        return ChangePage(rows, rows[-1].number if rows else newest, restarted=False)

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Wake who waits, while the context is open."""
        async with asyncio.TaskGroup() as group:
            task = group.create_task(self._watch())
            try:
                yield
            finally:
                task.cancel()

    async def _watch(self) -> None:
        newest = -1
        while True:
            if self._waiting == 0:
                self._asked.clear()
                await self._asked.wait()
            try:
                present = await self._reader.last_number()
            except StorageUnavailableError as error:
                # Who waits is answered when its time is over; looked at again in a moment.
                log.warning("changes_not_read", cause=str(error))
                present = newest
            except Exception:
                log.exception("changes_not_read")
                present = newest
            if present != newest:
                newest = present
                changed, self._changed = self._changed, asyncio.Event()
                changed.set()
            await asyncio.sleep(POLL_SECONDS)
