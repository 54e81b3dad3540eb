"""Waits that have a bound and a name."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from service_shell.errors import ProgramError

POLL_SECONDS: Final = 0.1

Found = TypeVar("Found")


async def wait_for(
    what: str,
    look: Callable[[], Awaitable[Found | None]],
    seconds: float,
    poll_seconds: float = POLL_SECONDS,
) -> Found:
    """Return the first thing that `look` finds; ProgramError says what did not come."""
    deadline = asyncio.get_running_loop().time() + seconds
    while True:
        found = await look()
        if found is not None:
            return found
        if asyncio.get_running_loop().time() > deadline:
            raise ProgramError(f"waited {seconds:g} s in vain for: {what}")
        await asyncio.sleep(poll_seconds)
