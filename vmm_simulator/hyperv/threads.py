"""Blocking file work in threads, never left running behind the back of its caller."""

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Final, Generic, ParamSpec, TypeVar

TURN_THINGS_MAX: Final = 8
"""So many things are done before others who wait for a thread have their turn."""

P = ParamSpec("P")
T = TypeVar("T")


async def run_to_end(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run in a thread; when cancelled, wait for the thread's end before saying so.

    A thread cannot be stopped. A caller that holds a lock or a file for it must not let go while it
    still writes.
    """
    future = asyncio.get_running_loop().run_in_executor(None, partial(function, *args, **kwargs))
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        await wait_for_end(future)
        raise


async def wait_for_end(future: "asyncio.Future[T]") -> None:
    """Return when the thread has ended, however often the caller is cancelled meanwhile."""
    while not future.done():
        try:
            await asyncio.wait({future})
        except asyncio.CancelledError:
            # The caller is already being cancelled and raises that as soon as this returns.
            continue
    if not future.cancelled():
        future.exception()


class InOrder(Generic[T]):
    """Has things done in a thread one after the other, in the order they were added.

    The thread goes on with the next one by itself: the loop may be busy for longer than a thing
    takes. After the first failure nothing more is begun: what comes later must not pass for
    progress.
    """

    def __init__(self, function: Callable[[T], None]) -> None:
        self._function = function
        self._loop = asyncio.get_running_loop()
        # Things are taken off it by the thread, when they are done.
        self._waiting: deque[T] = deque()
        self._running: asyncio.Future[None] | None = None
        self._progress: asyncio.Future[None] | None = None
        self._stopped = False
        self._failure: BaseException | None = None

    def add(self, thing: T) -> None:
        """Have this done after all others; it stays in use until `at_most` says otherwise."""
        self._waiting.append(thing)
        if self._running is None and self._failure is None:
            self._begin()

    def _begin(self) -> None:
        self._running = self._loop.run_in_executor(None, self._work)
        self._running.add_done_callback(self._ended)

    def _work(self) -> None:
        for _ in range(TURN_THINGS_MAX):
            self._function(self._waiting[0])
            self._waiting.popleft()
            if not self._waiting or self._stopped:
                return
            if self._progress is not None:
                self._loop.call_soon_threadsafe(self._tell)

    def _ended(self, running: "asyncio.Future[None]") -> None:
        self._running = None
        self._failure = running.exception()
        if self._waiting and self._failure is None and not self._stopped:
            self._begin()
        self._tell()

    def _tell(self) -> None:
        if self._progress is not None and not self._progress.done():
            self._progress.set_result(None)

    async def at_most(self, count: int) -> None:
        """Return when all but that many are done; raises the failure that ended the work."""
        while self._running is not None and len(self._waiting) > count:
            self._progress = self._loop.create_future()
            # Between the look and the promise to be told the thread may have come further.
            if len(self._waiting) > count:
                await self._progress
            self._progress = None
        if self._failure is not None:
            raise self._failure

    async def stop(self) -> None:
        """Return when nothing is being done any more; what waits is never begun."""
        self._stopped = True
        if self._running is not None:
            await wait_for_end(self._running)
