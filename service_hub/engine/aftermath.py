"""What is done once a decision is durable: checks, child jobs, timers, what follows from an end.

Everything here is found again from what is stored, so that a kill at any place loses nothing:
`resume` is what a hub does with a job that it takes up.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any, Final

import structlog

from service_hub.domain import errors
from service_hub.domain.checks import job_error
from service_hub.domain.decide import next_deadline
from service_hub.domain.errors import LeaseLostError
from service_hub.domain.job_log import encode
from service_hub.domain.jobs import (
    Begun,
    CancelChildren,
    CheckFailed,
    CheckPassed,
    Command,
    Dispatch,
    Event,
    Job,
    JobState,
    RunCheck,
    StartChildren,
    TaskState,
    Tick,
    Withdraw,
)
from service_hub.domain.records import Alert
from service_hub.domain.waiting import standing_alert_id
from service_hub.engine.children import Children
from service_hub.engine.consequences import Step
from service_hub.engine.held_jobs import Fed, HeldJob, HeldJobs
from service_hub.engine.timers import Timers
from service_hub.engine.unreachable import Unreachable
from service_hub.ports.changes import Change, Guard, Message, Save
from service_hub.ports.running import Checker, Followers
from service_hub.ports.stores import Committer
from service_hub.ports.surroundings import Clock
from wire_contract.events import assignment_task

LOOKED_AT_ONCE: Final = 1000
AGAIN: Final = timedelta(seconds=1)
"""When a job whose time had come and that did not move is looked at again."""

FOLLOWING_PAUSE_SECONDS_MAX: Final = 30.0

log = structlog.get_logger(__name__)
_own_level = logging.getLogger(__name__)

Spawn = Callable[[Coroutine[Any, Any, None]], None]


class AfterDecisions:
    """The Aftermath of the decider."""

    def __init__(
        self,
        *,
        jobs: HeldJobs,
        committer: Committer,
        checker: Checker,
        clock: Clock,
        children: Children,
        unreachable: Unreachable,
        spawn: Spawn,
    ) -> None:
        self._jobs = jobs
        self._committer = committer
        self.checker = checker
        self._clock = clock
        self._children = children
        self._unreachable = unreachable
        self._spawn = spawn
        self._timers = Timers()
        self._followers: list[Followers] = []
        self._closing: dict[str, tuple[HeldJob, asyncio.Event]] = {}

    @property
    def closing(self) -> list[HeldJob]:
        """The jobs that have ended and whose lease stays until what follows has begun."""
        return [held for held, _ in self._closing.values()]

    def follow(self, followers: Followers) -> None:
        """Tell these too when a job has ended."""
        self._followers.append(followers)

    def ends_at_once(self, job: Job) -> bool:
        """Whether nothing else may follow from the job's end: its lease ends with it then."""
        return not any(each.awaits(job) for each in self._followers)

    # ---------------------------------------------------------------------------------- noting

    def stored(self, step: Step) -> None:
        """Note the job as it is now."""
        if not step.changes_job:
            return
        report(step)
        self.note(step.held)

    def note(self, held: HeldJob) -> None:
        """Know when the job is to be looked at; let it go when it has ended."""
        job = held.job
        if job.finished:
            self._timers.set(job.id, None)
            self._unreachable.forget(job.id)
            self._jobs.drop(held)
            if not self.ends_at_once(job):
                self._closing.setdefault(job.id, (held, asyncio.Event()))
            return
        due = None if held.quarantined is not None else next_deadline(job)
        self._timers.set(job.id, due)
        self._unreachable.note(job)

    def look_at_timers(self) -> None:
        """Tell the jobs whose time has come."""
        now = self._clock.now()
        for job_id in self._timers.take(now, LOOKED_AT_ONCE):
            held = self._jobs.get(job_id)
            if held is None or held.quarantined is not None:
                continue
            due = next_deadline(held.job)
            if due is None or due > now:
                self._timers.set(job_id, due)
                continue
            if not held.waiting:
                self._jobs.offer(held, Fed(self._due(held.job)))
            self._timers.set(job_id, now + AGAIN)

    def seconds_to_next(self, at_most: float) -> float:
        """Return how long no job's time will come, by the present clock."""
        due = self._timers.next_at()
        if due is None:
            return at_most
        return min(at_most, max(0.0, (due - self._clock.now()).total_seconds()))

    def _due(self, job: Job) -> Event:
        now, due = self._clock.now(), next_deadline(job)
        if job.state is JobState.NOT_STARTED:
            return Begun(now)
        detail = "no final report in time"
        if due is not None:
            detail = f"no final report until {due:%Y-%m-%dT%H:%M:%SZ}"
        error = job_error(errors.DEADLINE, now, name=job.target_object_name, detail=detail)
        return Tick(now, error)

    # ---------------------------------------------------------------------------------- acting

    async def act(self, step: Step) -> None:
        """Do what was decided."""
        job = step.after
        for command in step.commands:
            match command:
                case RunCheck():
                    self._spawn(self._check(job, command))
                case StartChildren(task_id, attempt):
                    self._spawn(self._children.start(step.held, task_id, attempt))
                case CancelChildren(task_id, attempt):
                    self._spawn(self._children.cancel(step.held, task_id, attempt))
                case Withdraw():
                    _warn(job, command)
                case _:
                    # What is asked of providers lies in their outboxes already.
                    continue
        if step.changes_job and job.finished:
            self.ended(step.held)

    def resume(self, held: HeldJob) -> None:
        """Do again what an earlier process, or this one, may have left undone."""
        job = held.job
        self.note(held)
        if job.finished:
            # Its lease stayed, for whatever reason: it ends once nothing follows any more.
            self._spawn(self._children.ended(job))
            self._spawn(self._let_follow(held))
            return
        if job.state is JobState.NOT_STARTED:
            self._jobs.offer(held, Fed(Begun(self._clock.now())))
        for task in job.tasks:
            waits = task.retry_at is not None or job.undoing
            runs = task.state is TaskState.IN_PROGRESS and not waits
            if runs and job.spec(task.task_id).is_check:
                self._spawn(self._check(job, RunCheck(task.task_id, task.attempt)))
        for task_id, attempt, is_cancelled in self._children.resume(held):
            do = self._children.cancel if is_cancelled else self._children.start
            self._spawn(do(held, task_id, attempt))

    async def _check(self, job: Job, command: RunCheck) -> None:
        """Make a check; what goes wrong with it is this job's alone.

        The task then stays in progress and ends by its deadline, or a new start makes it again.
        """
        error = await self.checker.check(job, command.task_id)
        now = self._clock.now()
        event: Event = CheckPassed(now, command.task_id, command.attempt)
        if error is not None:
            event = CheckFailed(now, command.task_id, command.attempt, error)
        held = self._jobs.get(job.id)
        if held is not None:
            self._jobs.offer(held, Fed(event))

    def ended(self, held: HeldJob) -> None:
        """Let follow what follows from the job's end, then end its lease."""
        self._spawn(self._children.ended(held.job))
        if not self.ends_at_once(held.job):
            self._spawn(self._let_follow(held))

    async def _let_follow(self, held: HeldJob) -> None:
        """Until this is done the lease stays: after a kill another hub takes the job up."""
        try:
            await self._follow_until_done(held)
        finally:
            closed = self._closing.pop(held.job.id, None)
            if closed is not None:
                closed[1].set()

    async def until_followed(self, job_id: str) -> None:
        """Return when nothing more follows from the end of a job, at the latest after a while."""
        closing = self._closing.get(job_id)
        if closing is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(FOLLOWING_PAUSE_SECONDS_MAX):
                    await closing[1].wait()

    async def _follow_until_done(self, held: HeldJob) -> None:
        pause = 0.1
        while True:
            try:
                for followers in self._followers:
                    if followers.awaits(held.job):
                        await followers.job_ended(held.job)
                change = Change(ends=(held.job.id,), guards=(Guard(held.job.id, held.fence),))
                await self._committer.commit(change)
            except LeaseLostError:
                return
            except Exception as error:  # noqa: BLE001 -- tried again, and by others after a kill
                log.warning("following_put_off", job_id=held.job.id, cause=str(error), pause=pause)
                await asyncio.sleep(pause)
                pause = min(2 * pause, FOLLOWING_PAUSE_SECONDS_MAX)
                continue
            return

    # ------------------------------------------------------------------------------ quarantine

    async def quarantine(self, held: HeldJob, fed: Fed, error: Exception | None) -> None:
        """Keep an event that the job cannot decide on, durably; None: it stands still already.

        A hub that can decide on it, after an upgrade, finds it in the job's inbox.
        """
        job, kind = held.job, type(fed.event).__name__
        saves: tuple[Save, ...] = ()
        if error is not None:
            log.error("job_quarantined", job_id=job.id, event_type=kind, exc_info=error)
            held.quarantined = f"{kind}: {type(error).__name__}: {error}"
            self._timers.set(job.id, None)
            saves = (Save(self._alert(job, kind, error), None),)
        messages: tuple[Message, ...] = ()
        if fed.message_id is None and fed.answer is not None:
            messages = (Message(self._clock.new_id(), job.id, encode(fed.event)),)
        await self._committer.commit(fed.change + Change(saves=saves, messages=messages))

    def _alert(self, job: Job, kind: str, error: Exception) -> Alert:
        return Alert(
            id=standing_alert_id(job.id),
            vault_id=job.vault_id,
            provider_id=next(iter(job.providers.values()), ""),
            code="JobStandsStill",
            message=f"job {job.id} ({job.scenario.name} of {job.target_object_name}) stands still:"
            f" this hub cannot decide on its event {kind} ({type(error).__name__}: {error})."
            " Nothing of it is lost: report the fault, and restart the hub with a mended version",
            raised_at=self._clock.now(),
        )


def report(step: Step) -> None:
    """Log what has ended: jobs and what failed; each task that succeeded at level debug alone.

    A line costs as much as deciding does, and the job's own log has every event already.
    """
    before, after = step.before, step.after
    says_all = _own_level.isEnabledFor(logging.DEBUG)
    if says_all and step.commands:
        log.debug("task_dispatched", job_id=after.id, sent=sent_by(step.commands))
    for earlier, task in zip(before.tasks, after.tasks, strict=False):
        if task is earlier or task.state is earlier.state:
            continue
        if task.state is TaskState.FAILED:
            log.info("task_failed", job_id=after.id, task=task.task_id)
        elif says_all and task.state is TaskState.SUCCEEDED:
            log.debug("task_succeeded", job_id=after.id, task=task.task_id)
    if after.finished:
        codes = [error.code for error in after.errors]
        log.info("job_ended", **facts(after), state=after.state.value, errors=codes)


def facts(job: Job) -> dict[str, str]:
    """Return how a job is named in the log."""
    target = job.target_object_name
    return {"job_id": job.id, "scenario": job.scenario.name, "target": target}


def sent_by(commands: Sequence[Command]) -> list[str]:
    """Return what providers are asked to do, as the log names it."""
    return [assignment_task(each.task_id, each.side) for each in commands if type(each) is Dispatch]


def _warn(job: Job, command: Withdraw) -> None:
    words = {"job_id": job.id, "task": command.task_id, "side": command.side.value}
    log.warning("task_withdrawn", **words, waiting_for=job.waiting_for)
