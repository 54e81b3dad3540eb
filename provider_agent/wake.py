"""A signal between loops: set by many, waited for by one, never lost."""

import asyncio
import contextlib


class Wake:
    """Set and wait; a signal given while nobody waits ends the next wait at once."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def set(self) -> None:
        """End the present or the next wait."""
        self._event.set()

    async def wait(self, seconds_max: float | None = None) -> bool:
        """Wait for the signal and take it; false when the time was over first."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds_max):
                await self._event.wait()
        signalled = self._event.is_set()
        self._event.clear()
        return signalled

    def clear(self) -> None:
        """Forget a signal that what follows takes care of anyway."""
        self._event.clear()
