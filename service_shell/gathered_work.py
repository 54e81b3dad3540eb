"""Works for one thread that are asked for while it is busy are done in one visit, together.

A journal's visit is one transaction: its sync to the disk, and the way to the thread and back, are
paid once for all who waited (group commit), and by nobody when there is nobody to wait for.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

TOGETHER_MAX: Final = 128
"""Works of one visit; whoever comes first shall not wait for a thousand others."""

WorkT = TypeVar("WorkT")


@dataclass(frozen=True, slots=True)
class Done:
    """How one work ended: its result, or the error that belongs to who asked for it."""

    result: Any = None
    error: Exception | None = None


@dataclass(frozen=True, slots=True)
class _Asked(Generic[WorkT]):
    work: WorkT
    done: asyncio.Future[Any]


class GatheredWork(Generic[WorkT]):
    """Has works done in the order in which they were asked for.

    `visit` runs in the thread: it does the works and says of each how it ended; what it raises
    itself is told to all of them.
    """

    def __init__(
        self, executor: Executor, visit: Callable[[Sequence[WorkT]], Sequence[Done]]
    ) -> None:
        self._executor = executor
        self._visit = visit
        self._waiting: deque[_Asked[WorkT]] = deque()
        self._visiting = False

    def ask(self, work: WorkT) -> asyncio.Future[Any]:
        """Return what will hold the result; cancelled before its visit, the work is not done."""
        asked = _Asked(work, asyncio.get_running_loop().create_future())
        self._waiting.append(asked)
        if not self._visiting:
            self._begin()
        return asked.done

    def _begin(self) -> None:
        together: list[_Asked[WorkT]] = []
        while self._waiting and len(together) < TOGETHER_MAX:
            asked = self._waiting.popleft()
            if not asked.done.done():
                together.append(asked)
        self._visiting = bool(together)
        if not together:
            return
        loop = asyncio.get_running_loop()
        try:
            visiting = loop.run_in_executor(
                self._executor, self._visit, [each.work for each in together]
            )
        except RuntimeError as error:  # The thread takes no more work.
            self._visiting = False
            _tell(together, [Done(error=error)] * len(together))
            return
        visiting.add_done_callback(lambda ended: self._ended(together, ended))

    def _ended(
        self, together: Sequence[_Asked[WorkT]], visiting: "asyncio.Future[Sequence[Done]]"
    ) -> None:
        if visiting.cancelled():
            for each in together:
                each.done.cancel()
        elif (error := visiting.exception()) is not None:
            if not isinstance(error, Exception):
                raise error
            _tell(together, [Done(error=error)] * len(together))
        else:
            _tell(together, visiting.result())
        self._begin()


def _tell(together: Sequence[_Asked[Any]], outcomes: Sequence[Done]) -> None:
    for asked, outcome in zip(together, outcomes, strict=True):
        if asked.done.done():
            continue  # Nobody waits for it any more.
        if outcome.error is None:
            asked.done.set_result(outcome.result)
        else:
            asked.done.set_exception(outcome.error)
