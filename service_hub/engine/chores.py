"""What a hub does every now and then beside its jobs: each chore alone, none can stop another."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import structlog

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Chore:
    """Something to be done at start and then again and again.

    Every hub of a database does it: doing it twice, also at one time, must change nothing.
    """

    name: str
    every_seconds: float
    run: Callable[[], Awaitable[object]]


@asynccontextmanager
async def doing(chores: Sequence[Chore]) -> AsyncIterator[None]:
    """Do them while the block runs."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_repeat(chore)) for chore in chores]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()


async def _repeat(chore: Chore) -> None:
    while True:
        try:
            await chore.run()
        except Exception:
            # Tried again at its next turn; the hub goes on.
            log.exception("chore_failed", chore=chore.name)
        await asyncio.sleep(chore.every_seconds)
