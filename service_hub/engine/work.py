"""Work beside the deciding: each piece alone, none can end another or the hub."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

log = structlog.get_logger(__name__)


class Work:
    """The tasks of a running engine; what a stopping one leaves undone is found again."""

    def __init__(self) -> None:
        self._group: asyncio.TaskGroup | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, group: asyncio.TaskGroup) -> None:
        """Do work in this group from now on."""
        self._group = group

    def end(self) -> None:
        """Break off what is under way, and take no more."""
        self._group = None
        for task in self._tasks:
            task.cancel()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Do it beside all else."""
        if self._group is None:
            work.close()
            return
        task = self._group.create_task(_guarded(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        # Cancelled before it began, it was never awaited.
        task.add_done_callback(lambda _: work.close())

    def again(
        self, look: Callable[[], Coroutine[Any, Any, None]], pause: Callable[[], float]
    ) -> None:
        """Do it again and again, after a pause each time."""
        self.spawn(_repeated(look, pause))


async def _guarded(work: Coroutine[Any, Any, None]) -> None:
    try:
        await work
    except Exception:
        # One job's trouble must not end the others; it is found again when it is taken up.
        log.exception("work_broke_off", work=repr(work))


async def _repeated(
    look: Callable[[], Coroutine[Any, Any, None]], pause: Callable[[], float]
) -> None:
    while True:
        await asyncio.sleep(pause())
        try:
            await look()
        except Exception as error:  # noqa: BLE001 -- looked again in a moment; the jobs go on
            log.warning("look_failed", look=look.__name__, cause=str(error) or repr(error))
