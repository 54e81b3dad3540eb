"""The only writer of a hub process: drains what is asked, commits it as one transaction.

Group commit is what makes a durable database fast (design: engine). A stale change fails alone;
when the transaction itself fails, every change of the batch does, and who asked decides anew.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final

import structlog

from service_hub.domain.errors import StaleVersionError
from service_hub.ports.changes import Applied, Change
from service_hub.ports.running import Outbox
from service_hub.ports.stores import Store

BATCH_MAX: Final = 100
"""Changes in one transaction: more would stall the loop (design: engine, group commit)."""

APART_SECONDS: Final = 0.015
FEW: Final = 4
"""Where more changes than that share a transaction, the next one begins only so much later.

Each transaction has costs of its own, whatever is in it: under load fewer of them carry more. Where
little is asked, nobody waits.
"""

ROWS_ENOUGH: Final = 200
"""Records and events that are worth a transaction at once: the beginning of a hundred jobs is."""

QUEUE_MAX: Final = 10_000
"""Changes that may wait; who comes later waits for room."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Asked:
    changes: Sequence[Change]
    rows: int
    answer: asyncio.Future[list[int | StaleVersionError]]


class GroupCommitter:
    """Commits changes in the order in which they were asked for."""

    def __init__(self, store: Store, outbox: Outbox) -> None:
        self._store = store
        self._outbox = outbox
        self._queue: asyncio.Queue[_Asked] = asyncio.Queue(QUEUE_MAX)
        self._rows = 0
        self._enough = asyncio.Event()

    async def commit(self, change: Change) -> int:
        """Return the change's number once it is durable; StaleVersionError: nothing is stored."""
        (outcome,) = await self.commit_all((change,))
        if isinstance(outcome, StaleVersionError):
            raise outcome
        return outcome

    async def commit_all(self, changes: Sequence[Change]) -> list[int | StaleVersionError]:
        """Store each alone, in order; any other exception: none of them is known to be stored."""
        answer: asyncio.Future[list[int | StaleVersionError]] = (
            asyncio.get_running_loop().create_future()
        )
        rows = sum(len(change.saves) + len(change.events) for change in changes)
        await self._queue.put(_Asked(changes, rows, answer))
        self._rows += rows
        if self._rows >= ROWS_ENOUGH:
            self._enough.set()
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
        loop = asyncio.get_running_loop()
        next_at = loop.time()
        while True:
            asked = [await self._queue.get()]
            size = len(asked[0].changes)
            if size < BATCH_MAX and (early := next_at - loop.time()) > 0:
                with suppress(TimeoutError):
                    async with asyncio.timeout(early):
                        await self._enough.wait()
            began = loop.time()
            while size < BATCH_MAX and not self._queue.empty():
                asked.append(self._queue.get_nowait())
                size += len(asked[-1].changes)
            self._rows -= sum(each.rows for each in asked)
            if self._rows < ROWS_ENOUGH:
                self._enough.clear()
            next_at = began + APART_SECONDS if size > FEW else began
            try:
                await self._commit(asked)
            finally:
                for _ in asked:
                    self._queue.task_done()

    async def _commit(self, asked: Sequence[_Asked]) -> None:
        changes = [change for each in asked for change in each.changes]
        try:
            outcomes = await self._store.apply(changes)
        except Exception as error:
            log.exception("commit_failed", changes=len(changes))
            for each in asked:
                if not each.answer.done():
                    each.answer.set_exception(error)
            return
        self._wake(changes, outcomes)
        at = 0
        for each in asked:
            mine = outcomes[at : at + len(each.changes)]
            at += len(each.changes)
            if not each.answer.done():
                each.answer.set_result(mine)

    def _wake(self, changes: Sequence[Change], outcomes: Applied) -> None:
        woken: set[str] = set()
        for change, outcome in zip(changes, outcomes, strict=True):
            if isinstance(outcome, StaleVersionError):
                continue
            woken.update(event.provider_id for event in change.events)
            # A receipt makes room for what waits behind it.
            woken.update(receipt.provider_id for receipt in change.receipts)
        if woken:
            self._outbox.wake(sorted(woken), outcomes.stored)
