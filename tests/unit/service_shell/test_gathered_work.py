import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from service_shell.gathered_work import TOGETHER_MAX, Done, GatheredWork

Work = Callable[[], object]


class Thread:
    """Does works in visits that wait until they may begin, and keeps how many each had."""

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self.may_visit = threading.Event()
        self.visits: list[int] = []
        self.gathered = GatheredWork[Work](pool, self._visit)

    def _visit(self, works: Sequence[Work]) -> list[Done]:
        assert self.may_visit.wait(10)
        self.visits.append(len(works))
        return [self._one(each) for each in works]

    def _one(self, work: Work) -> Done:
        try:
            return Done(work())
        except ValueError as error:
            return Done(error=error)


def returning(value: int) -> Work:
    return lambda: value


def noting(order: list[int], value: int) -> Work:
    def work() -> object:
        order.append(value)
        return value

    return work


def raising(error: Exception) -> Work:
    def work() -> object:
        raise error

    return work


async def test_what_is_asked_for_while_the_thread_is_busy_is_one_visit_in_order() -> None:
    with ThreadPoolExecutor(1) as pool:
        thread = Thread(pool)
        order: list[int] = []
        asked = [thread.gathered.ask(noting(order, number)) for number in range(5)]
        thread.may_visit.set()
        assert await asyncio.gather(*asked) == [0, 1, 2, 3, 4]
        assert order == [0, 1, 2, 3, 4]
        assert thread.visits == [1, 4]


async def test_a_visit_has_a_limit_and_nobody_is_forgotten_behind_it() -> None:
    with ThreadPoolExecutor(1) as pool:
        thread = Thread(pool)
        count = 2 * TOGETHER_MAX + 7
        asked = [thread.gathered.ask(returning(number)) for number in range(count)]
        thread.may_visit.set()
        assert await asyncio.gather(*asked) == list(range(count))
        assert thread.visits == [1, TOGETHER_MAX, TOGETHER_MAX, 6]


async def test_an_error_is_told_to_who_asked_and_to_nobody_else() -> None:
    with ThreadPoolExecutor(1) as pool:
        thread = Thread(pool)
        first = thread.gathered.ask(returning(1))
        bad = thread.gathered.ask(raising(ValueError("mine")))
        last = thread.gathered.ask(returning(2))
        thread.may_visit.set()
        assert (await first, await last) == (1, 2)
        with pytest.raises(ValueError, match="mine"):
            await bad


async def test_what_ends_a_visit_is_told_to_all_of_it_and_the_next_goes_on() -> None:
    with ThreadPoolExecutor(1) as pool:
        thread = Thread(pool)
        thread.may_visit.set()
        first = thread.gathered.ask(returning(0))
        both = [
            thread.gathered.ask(raising(OSError("the disk"))),
            thread.gathered.ask(returning(1)),
        ]
        assert await first == 0
        for each in both:
            with pytest.raises(OSError, match="the disk"):
                await each
        assert await thread.gathered.ask(returning(2)) == 2


async def test_a_work_that_is_cancelled_before_its_visit_is_not_done() -> None:
    with ThreadPoolExecutor(1) as pool:
        thread = Thread(pool)
        done: list[str] = []
        first = thread.gathered.ask(returning(0))
        cancelled = thread.gathered.ask(lambda: done.append("cancelled"))
        kept = thread.gathered.ask(lambda: done.append("kept"))
        cancelled.cancel()
        thread.may_visit.set()
        await asyncio.gather(first, kept)
        assert done == ["kept"]
        with suppress(asyncio.CancelledError):
            await cancelled


async def test_a_thread_that_has_ended_is_an_error_and_no_wait() -> None:
    pool = ThreadPoolExecutor(1)
    thread = Thread(pool)
    pool.shutdown()
    with pytest.raises(RuntimeError):
        await asyncio.wait_for(thread.gathered.ask(returning(0)), 10)
