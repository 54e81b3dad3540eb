"""The limit of a host's transfers, kept while they run (bandwidth decides)."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime

from vmm_simulator.hyperv.bandwidth import BandwidthWindow, Bucket, limit_at, piece_bytes, take


class Pace:
    """One for each host; `windows` and `now` are asked before every piece: settings may change."""

    def __init__(
        self, windows: Callable[[], Sequence[BandwidthWindow]], now: Callable[[], datetime]
    ) -> None:
        self._windows = windows
        self._now = now
        self._bucket = Bucket()

    def piece_bytes(self) -> int | None:
        """Return how much to send at a time; None: there is no limit now."""
        limit = self._limit()
        return None if limit is None else piece_bytes(limit)

    async def before(self, count: int) -> None:
        """Return when so many bytes may be sent; who came before is served before."""
        moment = asyncio.get_running_loop().time()
        self._bucket, wait_seconds = take(self._bucket, self._limit(), count, moment)
        if wait_seconds > 0:
            # A piece takes a quarter of a second, a few when many transfers share a low limit.
            await asyncio.sleep(wait_seconds)

    def _limit(self) -> int | None:
        windows = self._windows()
        return limit_at(windows, self._now()) if windows else None
