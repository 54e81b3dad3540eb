"""Starts the jobs of a large plan in portions: one is made while the last becomes durable."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

STARTED_AT_ONCE: Final = 100
"""Jobs of one change: more would stall the loop (design: engine)."""

PORTIONS_AHEAD: Final = 2
"""One is being committed, one is being made."""

T = TypeVar("T")


async def in_portions(
    members: Sequence[T],
    start: Callable[[Sequence[T]], Awaitable[None]],
    goes_on: Callable[[], bool] = lambda: True,
) -> bool:
    """Start all members, in their order; False: `goes_on` said no before the last of them.

    What a portion raises is raised once the one beside it has ended, and no further one is begun.
    """
    room = asyncio.Semaphore(PORTIONS_AHEAD)
    failures: list[Exception] = []

    async def start_some(portion: Sequence[T]) -> None:
        try:
            await start(portion)
        except Exception as error:  # noqa: BLE001 -- raised below: the portion beside it goes on
            failures.append(error)
        finally:
            room.release()

    was_stopped = False
    async with asyncio.TaskGroup() as group:
        for at in range(0, len(members), STARTED_AT_ONCE):
            await room.acquire()
            was_stopped = not goes_on()
            if failures or was_stopped:
                break
            group.create_task(start_some(members[at : at + STARTED_AT_ONCE]))
            # A large plan is paced: others have their turn between portions.
            await asyncio.sleep(0)
    if failures:
        raise failures[0]
    return not was_stopped
