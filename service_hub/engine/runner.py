"""Runs jobs: lets them decide, persists the decision, and only then acts on it (design: engine).

Everything a job needs to go on is stored with the decision, so that after a kill the next start, or
another hub of the same database, finds it. Which of them may decide on a job its lease says.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

import structlog

from service_hub.domain.decide import decide
from service_hub.domain.errors import StaleVersionError
from service_hub.domain.job_document import job_document
from service_hub.domain.job_log import encode, first_entry
from service_hub.domain.job_steps import open_commands
from service_hub.domain.jobs import Begun, Command, Event, Job, JobState
from service_hub.engine.aftermath import AfterDecisions, facts, sent_by
from service_hub.engine.children import Children
from service_hub.engine.consequences import Consequences, Step, related_in, related_to, told_of_job
from service_hub.engine.decider import Decider
from service_hub.engine.held_jobs import Fed, HeldJob, HeldJobs, Taken
from service_hub.engine.spread import WorkSpread
from service_hub.engine.takeover import Takeover
from service_hub.engine.tenure import LEASE_SECONDS, Tenure
from service_hub.engine.unreachable import Unreachable
from service_hub.engine.work import Work
from service_hub.ports.changes import (
    NEW,
    NOTHING,
    Change,
    Lease,
    LogEntry,
    Message,
    NewEvent,
    Save,
    Versioned,
)
from service_hub.ports.running import Checker, ChildPlanner, Followers, Liveness
from service_hub.ports.stores import Committer, Leases, Reader
from service_hub.ports.surroundings import NO_FAULTS, Clock, FaultPoints

RETRIES_MAX: Final = 20
"""How often an event is handed on anew because its job changed hands or was stored meanwhile."""

WATCH_SECONDS: Final = 1.0
"""How often clocks, free leases and the leases of providers are looked at."""

INBOX_SECONDS: Final = 2.0
"""How often messages and children on other hubs are looked at: the truth behind the bell."""

STOPPING_SECONDS_MAX: Final = 10.0
"""Longest a stopping hub waits for what is being committed."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Terms:
    """Under which terms jobs are held; `shared`: other hubs may use the database too."""

    lease_seconds: float = LEASE_SECONDS
    shared: bool = False


ALONE: Final = Terms()


class Engine:
    """The JobRunner of the hub's ports."""

    def __init__(
        self,
        *,
        reader: Reader,
        committer: Committer,
        checker: Checker,
        liveness: Liveness,
        clock: Clock,
        leases: Leases,
        boottime: Callable[[], float],
        terms: Terms = ALONE,
        faults: FaultPoints = NO_FAULTS,
    ) -> None:
        self._reader = reader
        self._committer = committer
        self._clock = clock
        self._faults = faults
        self._terms = terms
        self._jobs = HeldJobs()
        self._work = Work()
        self._freed = asyncio.Event()
        self._consequences = Consequences(clock)
        self._unreachable = Unreachable(self._jobs, liveness, clock, boottime)
        self._children = Children(jobs=self._jobs, reader=reader, runner=self, clock=clock)
        self._after = AfterDecisions(
            jobs=self._jobs,
            committer=committer,
            checker=checker,
            clock=clock,
            children=self._children,
            unreachable=self._unreachable,
            spawn=self._work.spawn,
        )
        self._decider = Decider(
            jobs=self._jobs,
            reader=reader,
            committer=committer,
            consequences=self._consequences,
            aftermath=self._after,
            faults=faults,
        )
        self.tenure = Tenure(
            leases, hub_id=clock.new_id(), seconds=terms.lease_seconds, boottime=boottime
        )
        self._takeover = Takeover(
            jobs=self._jobs,
            reader=reader,
            committer=committer,
            leases=leases,
            tenure=self.tenure,
            aftermath=self._after,
        )

        self.spread = WorkSpread(
            jobs=self._jobs, tenure=self.tenure, committer=committer, boottime=boottime
        )

    def follow(self, followers: Followers) -> None:
        """Tell these too when a job has ended (said by the composition root, before it runs)."""
        self._after.follow(followers)

    def plan_children_with(self, planner: ChildPlanner) -> None:
        """Have the jobs of groups made by this (set once, by the composition root)."""
        self._children.plan_with(planner)

    @property
    def held_count(self) -> int:
        """How many jobs this process holds."""
        return len(self._jobs)

    @property
    def standing_still(self) -> dict[str, str]:
        """The jobs that were quarantined, and why."""
        return {each.job.id: each.quarantined for each in self._jobs if each.quarantined}

    # ------------------------------------------------------------------------- start and end

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Take up what an earlier process left, then run jobs while the context is open.

        At the end what is being committed is finished, and the leases are given back.
        """
        async with asyncio.TaskGroup() as group:
            self._work.begin(group)
            deciding = group.create_task(self._decider.run())
            more = await self._takeover.take_up_some()
            self._work.spawn(self._claim(more))
            self._work.again(self._watch, self._next_look)
            self._work.again(self._look_beyond, lambda: INBOX_SECONDS)
            self._work.again(self._renew, lambda: self.tenure.renewal_seconds)
            if self._terms.shared:
                self._work.again(self.spread.look, lambda: self.tenure.renewal_seconds)
            try:
                yield
            finally:
                await self._stop(deciding)

    async def _stop(self, deciding: asyncio.Task[None]) -> None:
        try:
            async with asyncio.timeout(STOPPING_SECONDS_MAX):
                await self._jobs.idle()
        except TimeoutError:
            log.warning("stopped_while_committing", held=self.held_count)
        leases = self._leases()
        self._work.end()
        deciding.cancel()
        for held in self._jobs:
            self._jobs.drop(held)
        try:
            if self._terms.shared:
                await self.spread.leave()
            await self.tenure.release(leases)
        except Exception as error:  # noqa: BLE001 -- they run out by themselves
            log.warning("leases_not_released", cause=str(error), count=len(leases))

    # ------------------------------------------------------------------------------ use cases

    async def start(self, job: Job, change: Change) -> None:
        """Store the job together with the change, then let it run."""
        await self.start_all((job,), change)

    async def start_all(self, jobs: Sequence[Job], change: Change) -> None:
        """Store all these jobs together with the change, then let them run."""
        now = self._clock.now()
        begun: list[tuple[HeldJob, Sequence[Command]]] = []
        saves, entries, events, leases = [*change.saves], [*change.log], [*change.events], []
        given = {(type(save.record), save.record.id): save for save in change.saves}
        for job in jobs:
            after, commands = (job, ()) if job.finished else decide(job, Begun(now))
            save, entry = _first(after, now)
            saves.append(save)
            entries.append(entry)
            if job.finished:
                saves += told_of_job(None, after, now)
                continue
            events += self._consequences.events(after, commands, now)
            leases.append(Lease(after.id, self.tenure.hub_id, after.fence))
            held = HeldJob(after, NEW + 1, after.fence, related_in(given, after))
            begun.append((held, commands))
        begins = (*change.begins, *leases)
        whole = replace(change, saves=saves, log=entries, events=events, begins=begins)
        await self._hold(begun, whole, Begun(now))
        for held, first in begun:
            log.info("job_started", **facts(held.job), sent=sent_by(first))

    async def record(self, job: Job, change: Change) -> None:
        """Store a job that has ended before it began, together with the change."""
        save, entry = _first(job, self._clock.now())
        saves = (save, *told_of_job(None, job, entry.at))
        await self._committer.commit(change + Change(saves=saves, log=(entry,)))
        log.info("job_refused", **facts(job), errors=[error.code for error in job.errors])

    async def feed(self, job_id: str, event: Event, change: Change = NOTHING) -> None:
        """Let a job decide on an event; returns when the decision is durable.

        Where another hub holds the job, the event is durable then and decided on there.
        """
        for _ in range(RETRIES_MAX):
            held = self._jobs.get(job_id)
            if held is None or held.job.finished:
                await self._after.until_followed(job_id)
                if await self._hand_on(job_id, event, change):
                    return
                continue
            answer: asyncio.Future[Taken] = asyncio.get_running_loop().create_future()
            self._jobs.offer(held, Fed(event, change, answer=answer))
            if await answer is Taken.DECIDED:
                return
        msg = f"job {job_id} found no quiet moment in {RETRIES_MAX} tries"
        raise StaleVersionError(msg)

    async def open_work(self, provider_id: str) -> tuple[NewEvent, ...]:
        """Return what a provider was asked and has not answered, under the same command ids."""
        jobs = {held.job.id: held.job for held in self._jobs}
        if self._terms.shared:
            for state in (JobState.NOT_STARTED, JobState.IN_PROGRESS, JobState.SUSPENDED):
                for found in await self._reader.find(Job, state=state.value):
                    jobs.setdefault(found.record.id, found.record)
        events: list[NewEvent] = []
        for job in jobs.values():
            for side, each in job.providers.items():
                if each == provider_id:
                    commands = open_commands(job, side)
                    events += self._consequences.events(job, commands, self._clock.now())
        return tuple(events)

    # ----------------------------------------------------------------------------------- hints

    def leases_freed(self) -> None:
        """Hear that another hub gave leases back: what is free is claimed now."""
        self._freed.set()

    def message_for(self, job_id: str) -> None:
        """Hear that there is a message for a job: it is read now, when the job is held here."""
        held = self._jobs.get(job_id)
        if held is not None:
            self._work.spawn(self._takeover.read_messages((held,)))

    # ------------------------------------------------------------------------------- beginning

    async def _hold(
        self, begun: Sequence[tuple[HeldJob, Sequence[Command]]], change: Change, event: Event
    ) -> None:
        """Commit a change that begins leases; the jobs are held, busy, before anybody hears."""
        for held, _ in begun:
            held.has_lease = False
            self._jobs.add(held)
            self._jobs.occupy(held)
        try:
            await self._faults.reach("engine.before_commit")
            await self._committer.commit(change)
            for held, _ in begun:
                held.has_lease = True
            await self._faults.reach("engine.after_commit")
        except BaseException:
            for held, _ in begun:
                self._jobs.drop(held)
                self._jobs.give_back(held)
            raise
        await self._faults.reach("engine.before_act")
        for held, commands in begun:
            self._after.note(held)
            step = Step(held, Fed(event), held.job, held.job, commands, change, held.related)
            await self._after.act(step)
            self._jobs.give_back(held)

    async def _hand_on(self, job_id: str, event: Event, change: Change) -> bool:
        """Decide on a job that has ended, or leave the event to who holds it; False: look anew."""
        present = await self._reader.get(Job, job_id)
        if present is None:
            log.warning("event_of_unknown_job", job_id=job_id, event_type=type(event).__name__)
            if change != NOTHING:
                await self._committer.commit(change)
            return True
        try:
            if present.record.finished:
                await self._decide_on_ended(present, event, change)
            else:
                message = Message(self._clock.new_id(), job_id, encode(event))
                await self._committer.commit(change + Change(messages=(message,)))
                self.message_for(job_id)
        except StaleVersionError:
            if change != NOTHING:
                raise
            return False
        return True

    async def _decide_on_ended(self, present: Versioned[Job], event: Event, change: Change) -> None:
        """Let a job that has ended decide: a restart makes it this process's, under its fence."""
        job = present.record
        after, commands = decide(job, event)
        if after == job:
            if change != NOTHING:
                await self._committer.commit(change)
            return
        held = HeldJob(job, present.version, after.fence, await related_to(self._reader, job))
        step = self._consequences.of(held, Fed(event, change), after, commands, ends=False)
        if after.finished:
            await self._committer.commit(replace(step.change, guards=()))
            return
        if self._jobs.get(job.id) is not None:
            # Restarted by somebody else in the meantime: that holding stands.
            raise StaleVersionError(f"job {job.id} is being restarted")
        begins = (Lease(job.id, self.tenure.hub_id, after.fence),)
        held.job, held.version, held.related = after, held.version + 1, step.related
        change = replace(step.change, guards=(), begins=begins)
        await self._hold(((held, commands),), change, event)
        log.info("job_restarted", **facts(after), fence=after.fence, sent=sent_by(commands))

    # -------------------------------------------------------------------------------- watching

    def _next_look(self) -> float:
        return max(0.01, self._after.seconds_to_next(WATCH_SECONDS))

    async def _watch(self) -> None:
        self._after.look_at_timers()
        await self._unreachable.look()

    async def _look_beyond(self) -> None:
        """Look at what other hubs, or an earlier process, left for this one."""
        await self._children.look()
        if self._terms.shared:
            await self._takeover.read_messages(list(self._jobs))

    async def _renew(self) -> None:
        lost = {(each.job_id, each.fence) for each in await self.tenure.renew(self._leases())}
        for held in self._jobs:
            # What is being committed has a guard of its own, and may be what ends the lease.
            if (held.job.id, held.fence) in lost and not held.is_busy:
                log.warning("lease_lost", job_id=held.job.id, fence=held.fence)
                self._jobs.drop(held)

    def _leases(self) -> list[Lease]:
        # A lease that is not stored yet cannot be lost: renewing it would say that it was.
        held = (*self._jobs, *self._after.closing)
        return [each.lease(self.tenure.hub_id) for each in held if each.has_lease]

    async def _claim(self, more: int) -> None:
        """Take up what is free, portion by portion; other hubs have their turn in between."""
        while True:
            if not more or self._terms.shared:
                with suppress(TimeoutError):
                    async with asyncio.timeout(WATCH_SECONDS / 10 if more else WATCH_SECONDS):
                        await self._freed.wait()
                self._freed.clear()
            try:
                more = await self._takeover.take_up_some() if self.spread.may_claim else 0
            except Exception as error:  # noqa: BLE001 -- claimed at the next turn
                log.warning("claim_failed", cause=str(error) or repr(error))
                more = 0


def _first(job: Job, now: datetime) -> tuple[Save, LogEntry]:
    """Return how a job is stored that was not there before, and the beginning of its log."""
    document = job_document(job)
    entry = LogEntry(job.id, 0, now, first_entry(document))
    return Save(job, NEW, document), entry
