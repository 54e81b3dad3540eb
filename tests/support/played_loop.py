"""An event loop whose time is played: it stands still while anything is to be done, then jumps.

Nothing in it depends on the machine's speed: no thread, no socket and no clock takes part. So what
waits for nothing costs nothing, and what is told twice happens in the same order.
"""

import asyncio
from asyncio.base_events import BaseEventLoop
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import ContextVar
from datetime import datetime, timedelta
from random import Random
from typing import Any, TypeVar
from uuid import UUID

QUIET_SECONDS = 0.5
"""Nothing is on its way when nobody has anything to do for so long."""

OWNER: ContextVar[str] = ContextVar("owner", default="world")
"""Which program a step belongs to."""

JITTER_PARTS = 20
START_SECONDS = 1.0
"""Time goes on by so much between two tellings."""

ResultT = TypeVar("ResultT")


class NothingHappensError(Exception):
    """Nobody waits for time to pass, and nothing is to be done: it would be so for ever."""


class SameThread(ThreadPoolExecutor):
    """Does at once what it is given: a thread of its own would cost more than the statement."""

    def submit(self, call: Callable[..., Any], /, *args: Any, **named: Any) -> Future[Any]:
        """Do it and return a future that is done."""
        done: Future[Any] = Future()
        try:
            done.set_result(call(*args, **named))
        except Exception as error:  # noqa: BLE001 -- it belongs to who awaits the future
            done.set_exception(error)
        return done


class CountedSteps(deque[asyncio.Handle]):
    """What is ready to run; counts what has run, by whose step it was."""

    def __init__(self) -> None:
        super().__init__()
        self.taken: Counter[str] = Counter()

    def popleft(self) -> asyncio.Handle:
        """Return the next step."""
        step = super().popleft()
        self.taken[step._context.get(OWNER, "world")] += 1  # type: ignore[attr-defined]
        return step


class PlayedLoop(BaseEventLoop):
    """Runs what is ready, in order; then time is what the next timer says.

    Time begins at `begin`; `seed` decides all chance.
    """

    def __init__(self, begin: datetime, seed: str) -> None:
        super().__init__()
        self._selector = self  # what the base asks how long it shall wait
        self._ready = CountedSteps()
        self._begin = begin
        self._seed = seed
        self._clocks: Counter[str] = Counter()
        self._seconds = START_SECONDS
        self._quiet: list[asyncio.Future[None]] = []
        self.set_default_executor(SameThread())

    @property
    def steps(self) -> Counter[str]:
        """Return how many steps each program has done, and how often others have touched it."""
        return self._ready.taken

    def now(self) -> datetime:
        """Return the moment that is played."""
        return self._begin + timedelta(seconds=self._seconds)

    def clock(self, name: str) -> "PlayedClock":
        """Return a clock with chance of its own, the next one of that name."""
        self._clocks[name] += 1
        return PlayedClock(self, f"{self._seed}/{name}/{self._clocks[name]}")

    def time(self) -> float:
        """Return the seconds that have been played."""
        return self._seconds

    def select(self, timeout: float | None) -> list[Any]:
        """Let time pass until the next timer, unless somebody waits for quiet."""
        if timeout == 0:
            return []
        if self._quiet and (timeout is None or timeout >= QUIET_SECONDS):
            waiting, self._quiet = self._quiet, []
            for each in waiting:
                if not each.done():
                    each.set_result(None)
            return []
        if timeout is None:
            raise NothingHappensError("nothing is to be done, and nobody waits for time to pass")
        self._seconds += timeout
        return []

    def run_in_executor(  # type: ignore[override]  # what it returns is awaited, nothing else
        self, executor: Any, func: Callable[..., ResultT], *args: Any
    ) -> asyncio.Future[ResultT]:
        """Do it at once, whatever thread it is meant for; who asked goes on in the next round."""
        del executor
        future: asyncio.Future[ResultT] = self.create_future()
        try:
            found = func(*args)
        except Exception as error:  # noqa: BLE001 -- it belongs to who awaits the future
            self.call_soon(_unless_done, future, future.set_exception, error)
        else:
            self.call_soon(_unless_done, future, future.set_result, found)
        return future

    async def quiet(self) -> None:
        """Return when nobody has anything to do for a while."""
        future = self.create_future()
        self._quiet.append(future)
        await future

    def _process_events(self, event_list: list[Any]) -> None:
        """Do nothing: no event comes from outside."""

    def _write_to_self(self) -> None:
        """Do nothing: the loop never sleeps."""


def _unless_done(future: "asyncio.Future[Any]", end: Callable[[Any], None], value: object) -> None:
    if not future.done():
        end(value)


def touch(name: str) -> None:
    """Note that something reaches a program, which has not done a step yet."""
    loop = asyncio.get_running_loop()
    if isinstance(loop, PlayedLoop):
        loop.steps[name] += 1


class PlayedClock:
    """The loop's time, and chance that is the same each time; a Clock."""

    def __init__(self, loop: PlayedLoop, seed: str) -> None:
        self._loop = loop
        self._random = Random(seed)  # noqa: S311 -- ids that come again when a story is told again

    def now(self) -> datetime:
        """Return the present moment."""
        return self._loop.now()

    def new_id(self) -> str:
        """Return a GUID."""
        return str(UUID(int=self._random.getrandbits(128), version=4))

    def new_nonce(self) -> str:
        """Return 32 hexadecimal digits."""
        return f"{self._random.getrandbits(128):032x}"

    def jitter(self, low: float, high: float) -> float:
        """Return a small part of the bound: who tries for ever is quiet in between all the same."""
        return low + (high - low) / JITTER_PARTS
