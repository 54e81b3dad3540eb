"""Waiting for conditions, with a bound, instead of for time."""

import asyncio
from collections.abc import Callable

from service_shell.clock import SystemClock

SECONDS_MAX = 20.0


async def until(condition: Callable[[], object], what: str, seconds: float = SECONDS_MAX) -> None:
    """Return once the condition holds; fail by name when it does not within the bound."""
    try:
        async with asyncio.timeout(seconds):
            while not condition():
                await asyncio.sleep(0.005)
    except TimeoutError:
        raise AssertionError(f"this did not happen in {seconds} s: {what}") from None


class HastyClock(SystemClock):
    """The real time, but retries wait hardly at all."""

    def jitter(self, low: float, high: float) -> float:
        """Return a hundredth of the bound."""
        return low + (high - low) / 100
