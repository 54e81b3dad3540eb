"""The jobs that this process holds: what is stored of each, kept in memory, and what waits for it.

While the lease holds, nobody else decides on a job, so that memory is what the database says. After
anything that casts doubt on that, the job is read again before the next decision.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum

from service_hub.domain.job_document import JobDocument
from service_hub.domain.jobs import Event, Job, Tick
from service_hub.domain.records import ContainerMapping, ProtectedItem
from service_hub.ports.changes import NOTHING, Change, Lease, Versioned


class Taken(Enum):
    """What became of an event that was fed."""

    DECIDED = "decided"
    """The decision is durable."""
    ELSEWHERE = "elsewhere"
    """The job is not held here any more: nothing was decided."""


@dataclass(slots=True, eq=False)
class Fed:
    """An event that waits for its job, what is stored with it, and who waits for the decision.

    What is the engine's own (`is_kept`, or nobody waits) is tried again until it is decided on; who
    waits for anything else is told when it could not be stored, and asks again.
    """

    event: Event
    change: Change = NOTHING
    message_id: str | None = None
    answer: asyncio.Future[Taken] | None = None
    is_kept: bool = False
    tries: int = 0

    @property
    def is_asked(self) -> bool:
        """Whether somebody waits who asks again by himself."""
        return self.answer is not None and not self.is_kept

    def tell(self, taken: Taken) -> None:
        """Tell who waits what became of it."""
        if self.answer is not None and not self.answer.done():
            self.answer.set_result(taken)

    def refuse(self, error: Exception) -> None:
        """Tell who waits that it was not decided on."""
        if self.answer is not None and not self.answer.done():
            self.answer.set_exception(error)


@dataclass(frozen=True, slots=True)
class Related:
    """The records that a job's progress shows in, as they are stored."""

    item: Versioned[ProtectedItem] | None = None
    mapping: Versioned[ContainerMapping] | None = None


@dataclass(slots=True, eq=False)
class HeldJob:
    """One job; `version` is that of the stored record, `fence` its lease's.

    `is_busy`: a decision is being committed or the job is being read. `related` is None until it
    is needed, or when it may have changed. `is_doubtful`: to be read again first. `has_lease`: what
    begins the lease is stored.
    """

    job: Job
    version: int
    fence: int
    related: Related | None = None
    waiting: deque[Fed] = field(default_factory=deque)
    is_busy: bool = False
    is_doubtful: bool = False
    has_lease: bool = True
    is_resumed_after_reading: bool = False
    quarantined: str | None = None
    due: datetime | None = None
    failures: int = 0
    document: JobDocument = field(default_factory=JobDocument)

    def lease(self, owner: str) -> Lease:
        """Return the lease that it is held under."""
        return Lease(self.job.id, owner, self.fence)

    @property
    def awaits_tick(self) -> bool:
        """Whether a Tick waits already: more of them say nothing more."""
        return any(isinstance(fed.event, Tick) for fed in self.waiting)


class HeldJobs:
    """All of them, and which can decide now, in the order in which something came for them."""

    def __init__(self) -> None:
        self._jobs: dict[str, HeldJob] = {}
        self._ready: OrderedDict[str, HeldJob] = OrderedDict()
        self._some_ready = asyncio.Event()
        self._idle = asyncio.Event()
        self._busy = 0
        self._idle.set()

    def __iter__(self) -> Iterator[HeldJob]:
        """Give all, also those that came meanwhile or not."""
        return iter(list(self._jobs.values()))

    def __len__(self) -> int:
        """Return how many."""
        return len(self._jobs)

    def get(self, job_id: str) -> HeldJob | None:
        """Return one, or None: it is not held here."""
        return self._jobs.get(job_id)

    def holds(self, held: HeldJob) -> bool:
        """Whether this very holding still stands."""
        return self._jobs.get(held.job.id) is held

    def add(self, held: HeldJob) -> None:
        """Hold it; what was held under the same id before is let go."""
        former = self._jobs.get(held.job.id)
        if former is not None:
            self.drop(former)
        self._jobs[held.job.id] = held

    def drop(self, held: HeldJob) -> None:
        """Let it go; who waits for it is told that it is elsewhere. May be repeated."""
        if self._jobs.get(held.job.id) is held:
            del self._jobs[held.job.id]
            self._ready.pop(held.job.id, None)
        self._let_go(held)
        self._look_whether_idle()

    def offer(self, held: HeldJob, fed: Fed) -> None:
        """Put an event behind those that wait for the job."""
        held.waiting.append(fed)
        self.ready(held)

    def ready(self, held: HeldJob) -> None:
        """Have it decided on, when something waits and it can."""
        if held.waiting and not held.is_busy and self.holds(held):
            self._ready.setdefault(held.job.id, held)
            self._some_ready.set()
            self._idle.clear()

    def take(self) -> HeldJob | None:
        """Return what can decide now and has waited longest; it is busy until it is given back."""
        if not self._ready:
            self._some_ready.clear()
            return None
        _, held = self._ready.popitem(last=False)
        self.occupy(held)
        return held

    def occupy(self, held: HeldJob) -> None:
        """Let nothing be decided on it until it is given back."""
        held.is_busy = True
        self._busy += 1
        self._idle.clear()

    def give_back(self, held: HeldJob) -> None:
        """Let it be decided on again."""
        held.is_busy = False
        self._busy -= 1
        self.ready(held)
        self._look_whether_idle()

    async def some_ready(self) -> None:
        """Return when something can be decided."""
        await self._some_ready.wait()

    async def idle(self) -> None:
        """Return when nothing is being decided or committed."""
        await self._idle.wait()

    def _look_whether_idle(self) -> None:
        if not self._busy and not self._ready:
            self._idle.set()

    def _let_go(self, held: HeldJob) -> None:
        for fed in held.waiting:
            fed.tell(Taken.ELSEWHERE)
        held.waiting.clear()
