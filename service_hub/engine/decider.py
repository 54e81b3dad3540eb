"""Decides on events in batches: decided on memory, committed, and only then acted on.

A batch is bounded in events and in time, so that the loop's other work has its turn (design:
engine). Each job has at most one decision under way, so that its events keep their order. One job's
trouble stays its own: what cannot be decided quarantines the job, what cannot be stored is decided
anew on what is stored.
"""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Final, Protocol

import structlog

from service_hub.domain.decide import decide
from service_hub.domain.errors import LeaseLostError, StaleVersionError
from service_hub.domain.jobs import Job
from service_hub.engine.consequences import Consequences, Step, related_to
from service_hub.engine.held_jobs import Fed, HeldJob, HeldJobs, Taken
from service_hub.ports.changes import NOTHING
from service_hub.ports.stores import Committer, Reader
from service_hub.ports.surroundings import FaultPoints

DECISIONS_MAX: Final = 100
"""Events in one batch: 500 stalled the loop for 112 ms (design: engine)."""

DECIDING_SECONDS_MAX: Final = 0.005

AHEAD_MAX: Final = 200
"""Decisions that may wait to be durable: while some are committed the next are decided, and then
share a transaction. Counted in decisions: batches are small where deciding is slow, and four of
them did not fill a transaction then."""

TRIES_MAX: Final = 20
"""How often an event is decided anew because what it was decided on had changed meanwhile."""

PAUSE_SECONDS: Final = 0.05
PAUSE_SECONDS_MAX: Final = 5.0

log = structlog.get_logger(__name__)


class Aftermath(Protocol):
    """What is done when decisions are durable, or could not be made."""

    def stored(self, step: Step) -> None:
        """Note the job as it is now; never blocks."""

    async def act(self, step: Step) -> None:
        """Do what was decided."""

    def resume(self, held: HeldJob) -> None:
        """Do again what may not have been done: the job was read anew after trouble."""

    def ends_at_once(self, job: Job) -> bool:
        """Whether the lease of an ended job ends with it: nothing else may follow from it."""

    async def quarantine(self, held: HeldJob, fed: Fed, error: Exception | None) -> None:
        """Keep an event that the job cannot decide on, durably; None: it stands still already."""


class Decider:
    """The only place of a process where jobs are decided on."""

    def __init__(
        self,
        *,
        jobs: HeldJobs,
        reader: Reader,
        committer: Committer,
        consequences: Consequences,
        aftermath: Aftermath,
        faults: FaultPoints,
    ) -> None:
        self._jobs = jobs
        self._reader = reader
        self._committer = committer
        self._consequences = consequences
        self._aftermath = aftermath
        self._faults = faults
        self._ahead = 0
        self._room = asyncio.Event()
        self._room.set()

    async def run(self) -> None:
        """Decide until cancelled; who cancels waits until nothing is being committed."""
        async with asyncio.TaskGroup() as group:
            while True:
                await self._jobs.some_ready()
                await self._room.wait()
                self._decide(group)
                # Others have their turn, also when there is always something to decide.
                await asyncio.sleep(0)

    # ------------------------------------------------------------------------------- deciding

    def _decide(self, group: asyncio.TaskGroup) -> None:
        """Decide on what has waited longest; what there is no time for keeps its place."""
        loop = asyncio.get_running_loop()
        until = loop.time() + DECIDING_SECONDS_MAX
        steps: list[Step] = []
        unread: list[HeldJob] = []
        for _ in range(DECISIONS_MAX):
            held = self._jobs.take()
            if held is None:
                break
            if held.is_doubtful or held.related is None:
                unread.append(held)
            elif (step := self._decided(group, held)) is not None:
                steps.append(step)
            if loop.time() > until:
                break
        if unread:
            group.create_task(self._read(unread))
        if steps:
            self._count(len(steps))
            group.create_task(self._commit(steps))

    def _decided(self, group: asyncio.TaskGroup, held: HeldJob) -> Step | None:
        """Return what is to be stored; None: nothing is, or the job is set aside."""
        if not held.waiting:
            self._jobs.give_back(held)
            return None
        fed = held.waiting[0]
        if held.quarantined is not None:
            group.create_task(self._quarantine(held, fed, None))
            return None
        try:
            step = self._step(held, fed)
        except Exception as error:  # noqa: BLE001 -- whatever it is, it is this job's alone
            group.create_task(self._quarantine(held, fed, error))
            return None
        if step.change == NOTHING:
            self._told(held, fed, Taken.DECIDED)
            self._jobs.give_back(held)
            return None
        return step

    def _count(self, more: int) -> None:
        self._ahead += more
        if self._ahead < AHEAD_MAX:
            self._room.set()
        else:
            self._room.clear()

    def _step(self, held: HeldJob, fed: Fed) -> Step:
        after, commands = decide(held.job, fed.event)
        if after is not held.job and not commands and after == held.job:
            after = held.job
        ends = after.finished and self._aftermath.ends_at_once(after)
        return self._consequences.of(held, fed, after, commands, ends=ends)

    async def _quarantine(self, held: HeldJob, fed: Fed, error: Exception | None) -> None:
        """Set the job aside: its events are kept, and decided on by a hub that can."""
        try:
            await self._aftermath.quarantine(held, fed, error)
        except Exception as failure:  # noqa: BLE001 -- told to who waits, and tried again
            self._postpone(held, failure)
            return
        self._told(held, fed, Taken.DECIDED)
        self._jobs.give_back(held)

    # ----------------------------------------------------------------------------- committing

    async def _commit(self, steps: Sequence[Step]) -> None:
        async with AsyncExitStack() as stack:
            stack.callback(self._count, -len(steps))
            try:
                await self._faults.reach("engine.before_commit")
                outcomes = await self._committer.commit_all([step.change for step in steps])
                await self._faults.reach("engine.after_commit")
            except Exception as error:  # noqa: BLE001 -- told to who waits; what is stored is read
                for step in steps:
                    # Nobody knows whether it was stored: then it has to be acted on as well.
                    step.held.is_resumed_after_reading = True
                    self._postpone(step.held, error)
                return
        stored = []
        for step, outcome in zip(steps, outcomes, strict=True):
            if isinstance(outcome, LeaseLostError):
                self._lost(step.held)
            elif isinstance(outcome, StaleVersionError):
                self._stale(step, outcome)
            else:
                self._stored(step)
                stored.append(step)
        await self._act(stored)

    def _stored(self, step: Step) -> None:
        held = step.held
        if step.changes_job:
            held.job = step.after
            held.version += 1
            held.related = step.related
        elif step.fed.change is not NOTHING:
            held.related = None
        held.failures = 0
        self._told(held, step.fed, Taken.DECIDED)
        try:
            self._aftermath.stored(step)
        except Exception as error:
            # Stored it is; what it waits for nobody knows, so it stands still alone.
            log.exception("job_not_noted", job_id=held.job.id)
            held.quarantined = repr(error)

    async def _act(self, stored: Sequence[Step]) -> None:
        try:
            await self._faults.reach("engine.before_act")
            for step in stored:
                await self._aftermath.act(step)
        except Exception:
            # As after a kill at this place: what was not done is found and done again.
            log.exception("acting_broke_off", jobs=[step.after.id for step in stored])
            for step in stored:
                self._aftermath.resume(step.held)
        for step in stored:
            self._jobs.give_back(step.held)

    def _lost(self, held: HeldJob) -> None:
        log.warning("lease_lost", job_id=held.job.id, fence=held.fence)
        self._jobs.drop(held)
        self._jobs.give_back(held)

    def _stale(self, step: Step, error: StaleVersionError) -> None:
        """Decide anew on what is stored; who gave a stale change with the event is told."""
        held, fed = step.held, step.fed
        held.is_doubtful = True
        fed.tries += 1
        if fed.is_asked and (fed.change is not NOTHING or fed.tries >= TRIES_MAX):
            held.waiting.popleft()
            fed.refuse(error)
        if fed.tries >= TRIES_MAX:
            self._postpone(held, error)
            return
        self._jobs.give_back(held)

    def _postpone(self, held: HeldJob, error: Exception) -> None:
        """Read the job again after a pause; who waits is told now and asks again."""
        held.is_doubtful = True
        for fed in [each for each in held.waiting if each.is_asked]:
            held.waiting.remove(fed)
            fed.refuse(error)
        pause = min(PAUSE_SECONDS * 2**held.failures, PAUSE_SECONDS_MAX)
        held.failures = min(held.failures + 1, TRIES_MAX)
        if held.failures > 1:
            log.warning("decision_not_stored", job_id=held.job.id, cause=str(error), again_in=pause)
        asyncio.get_running_loop().call_later(pause, self._jobs.give_back, held)

    def _told(self, held: HeldJob, fed: Fed, taken: Taken) -> None:
        if held.waiting and held.waiting[0] is fed:
            held.waiting.popleft()
        fed.tell(taken)

    # -------------------------------------------------------------------------------- reading

    async def _read(self, unread: Sequence[HeldJob]) -> None:
        """Bring jobs in memory to what is stored; the reads of all become one."""
        async with asyncio.TaskGroup() as group:
            for held in unread:
                group.create_task(self._read_one(held))

    async def _read_one(self, held: HeldJob) -> None:
        try:
            if held.is_doubtful:
                found = await self._reader.get(Job, held.job.id)
                if found is None:
                    log.warning("job_is_gone", job_id=held.job.id)
                    self._jobs.drop(held)
                    self._jobs.give_back(held)
                    return
                held.job, held.version = found.record, found.version
            held.related = await related_to(self._reader, held.job)
        except Exception as error:  # noqa: BLE001 -- told to who waits; read again after a pause
            self._postpone(held, error)
            return
        held.is_doubtful = False
        if held.is_resumed_after_reading or held.job.finished:
            held.is_resumed_after_reading = False
            self._aftermath.resume(held)
        self._jobs.give_back(held)
