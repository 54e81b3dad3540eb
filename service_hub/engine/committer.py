"""The only writer of a hub process: drains what is asked, commits it as one transaction.

Group commit is what makes a durable database fast (design: engine). A stale change fails alone;
when the transaction itself fails, every change of the batch does, and who asked decides anew.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import structlog

from service_hub.domain.errors import StaleVersionError
from service_hub.ports import Change, Outbox, Store

BATCH_MAX: Final = 100
"""Changes in one transaction: more would stall the loop (design: engine, group commit)."""

QUEUE_MAX: Final = 10_000
"""Changes that may wait; who comes later waits for room."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Asked:
    change: Change
    answer: asyncio.Future[int]


class GroupCommitter:
    """Commits changes in the order in which they were asked for."""

    def __init__(self, store: Store, outbox: Outbox) -> None:
        self._store = store
        self._outbox = outbox
        self._queue: asyncio.Queue[_Asked] = asyncio.Queue(QUEUE_MAX)

    async def commit(self, change: Change) -> int:
        """Return the change's number once it is durable; StaleVersionError: nothing is stored."""
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        await self._queue.put(_Asked(change, answer))
        return await answer

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Commit while the context is open; at its end, commit what was still asked."""
        async with asyncio.TaskGroup() as group:
            task = group.create_task(self._run())
            try:
                yield
            finally:
                await self._queue.join()
                task.cancel()

    async def _run(self) -> None:
        while True:
            batch = [await self._queue.get()]
            while len(batch) < BATCH_MAX and not self._queue.empty():
                batch.append(self._queue.get_nowait())
            try:
                await self._commit(batch)
            finally:
                for _ in batch:
                    self._queue.task_done()

    async def _commit(self, batch: list[_Asked]) -> None:
        try:
            outcomes = await self._store.apply([asked.change for asked in batch])
        except Exception as error:
            log.exception("commit_failed", changes=len(batch))
            for asked in batch:
                if not asked.answer.done():
                    asked.answer.set_exception(error)
            return
        woken: set[str] = set()
        for asked, outcome in zip(batch, outcomes, strict=True):
            if isinstance(outcome, StaleVersionError):
                if not asked.answer.done():
                    asked.answer.set_exception(outcome)
                continue
            woken.update(event.provider_id for event in asked.change.events)
            # A receipt makes room for what waits behind it.
            woken.update(receipt.provider_id for receipt in asked.change.receipts)
            if not asked.answer.done():
                asked.answer.set_result(outcome)
        if woken:
            self._outbox.wake(sorted(woken))
