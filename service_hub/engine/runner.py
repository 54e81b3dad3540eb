"""Runs jobs: lets them decide, persists the decision, and only then acts on it.

Everything a job needs to go on is stored with the decision, so that after a kill the next start
finds it: unfinished checks are made again, assignments lie in the outbox until acknowledged.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Final

import structlog

from service_hub.domain import errors
from service_hub.domain.arguments import arguments_of, target_of
from service_hub.domain.checks import job_error
from service_hub.domain.decide import decide, next_deadline
from service_hub.domain.errors import StaleVersionError
from service_hub.domain.job_steps import open_commands
from service_hub.domain.jobs import (
    AskInventory,
    Begun,
    CheckFailed,
    CheckPassed,
    Command,
    Dispatch,
    Event,
    Job,
    JobState,
    PartGivenUp,
    RunCheck,
    TaskState,
    Tick,
    Withdraw,
)
from service_hub.domain.operator_signatures import signature_of
from service_hub.domain.planning import provider_to_refresh, reflect_on_item, reflect_on_mapping
from service_hub.domain.records import ContainerMapping, ProtectedItem
from service_hub.ports import (
    NEW,
    NO_FAULTS,
    Change,
    Checker,
    Clock,
    Committer,
    FaultPoints,
    Followers,
    Liveness,
    NewEvent,
    Reader,
    Save,
    Versioned,
)
from wire_contract.events import Assignment, Withdrawal, assignment_task
from wire_contract.vocabulary import EventType, Side

RETRIES_MAX: Final = 20
"""How often a decision is taken anew because what it was made on had changed meanwhile."""

REFRESH_LIFETIME: Final = timedelta(days=1)
"""How long a refresh is worth asking for; a provider that was away begins with a session anyway."""

WATCH_SECONDS: Final = 1.0
"""How often deadlines and leases are looked at."""

log = structlog.get_logger(__name__)


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
        faults: FaultPoints = NO_FAULTS,
    ) -> None:
        self._faults = faults
        self._reader = reader
        self._committer = committer
        self._checker = checker
        self._liveness = liveness
        self._clock = clock
        self._followers: Followers | None = None
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._open: dict[str, Job] = {}
        self._group: asyncio.TaskGroup | None = None

    def follow(self, followers: Followers) -> None:
        """Tell these when a job has ended (set once, by the composition root)."""
        self._followers = followers

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Take up what an earlier process left, then run jobs while the context is open."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            watcher = group.create_task(self._watch())
            await self._take_up()
            try:
                yield
            finally:
                watcher.cancel()
                self._group = None

    async def start(self, job: Job, change: Change) -> None:
        """Store the job together with the change, then let it run."""
        now = self._clock.now()
        begun, commands = decide(job, Begun(now))
        events = self._events(begun, commands, now)
        await self._faults.reach("engine.before_commit")
        await self._committer.commit(change + Change(saves=(Save(begun, NEW),), events=events))
        await self._faults.reach("engine.after_commit")
        log.info("job_started", **_facts(job))
        self._note(begun)
        await self._faults.reach("engine.before_act")
        self._act(begun, commands)

    async def record(self, job: Job, change: Change) -> None:
        """Store a job that has ended before it began, together with the change."""
        await self._committer.commit(change + Change(saves=(Save(job, NEW),)))
        log.info("job_refused", **_facts(job), errors=[error.code for error in job.errors])

    async def feed(self, job_id: str, event: Event) -> None:
        """Let a job decide on an event; returns when the decision is durable."""
        async with self._locks[job_id]:
            for _ in range(RETRIES_MAX):
                present = await self._reader.get(Job, job_id)
                if present is None:
                    log.warning(
                        "event_of_unknown_job", job_id=job_id, event_type=type(event).__name__
                    )
                    return
                job, commands = decide(present.record, event)
                if job == present.record:
                    return
                await self._faults.reach("engine.before_commit")
                try:
                    await self._committer.commit(await self._change(job, present, commands))
                except StaleVersionError:
                    continue
                break
            else:
                msg = f"job {job_id} found no quiet moment in {RETRIES_MAX} tries"
                raise StaleVersionError(msg)
        await self._faults.reach("engine.after_commit")
        self._report(present.record, job)
        self._note(job)
        await self._faults.reach("engine.before_act")
        self._act(job, commands)
        if job.finished:
            self._locks.pop(job_id, None)
            if self._followers is not None:
                await self._followers.job_ended(job)

    async def open_work(self, provider_id: str) -> tuple[NewEvent, ...]:
        """Return what a provider was asked and has not answered, under the same command ids."""
        events: list[NewEvent] = []
        for job_id in list(self._open):
            found = await self._reader.get(Job, job_id)
            if found is None:
                continue
            job, now = found.record, self._clock.now()
            for side, each in job.providers.items():
                if each == provider_id:
                    events += self._events(job, open_commands(job, side), now)
        return tuple(events)

    # ------------------------------------------------------------------------------- persisting

    async def _change(
        self, job: Job, present: Versioned[Job], commands: Sequence[Command]
    ) -> Change:
        saves, events = [Save(job, present.version)], []
        if job.item_id is not None:
            item = await self._reader.get(ProtectedItem, job.item_id)
            if item is not None and (after := reflect_on_item(item.record, job)) != item.record:
                saves.append(Save(after, item.version))
                provider_id = provider_to_refresh(item.record, after)
                if provider_id is not None:
                    events.append(self._refresh(job, provider_id, REFRESH_LIFETIME))
        mapping_id = job.context.get("mapping_id")
        if isinstance(mapping_id, str):
            mapping = await self._reader.get(ContainerMapping, mapping_id)
            if mapping is not None:
                paired = reflect_on_mapping(mapping.record, job)
                if paired != mapping.record:
                    saves.append(Save(paired, mapping.version))
        events += self._events(job, commands, self._clock.now())
        return Change(saves=saves, events=events)

    def _refresh(self, job: Job, provider_id: str, lifetime: timedelta) -> NewEvent:
        now = self._clock.now()
        return NewEvent(
            event_id=self._clock.new_id(),
            vault_id=job.vault_id,
            provider_id=provider_id,
            type=EventType.REFRESH,
            issued_at=now,
            expires_at=now + lifetime,
            body={},
        )

    def _events(self, job: Job, commands: Sequence[Command], now: datetime) -> tuple[NewEvent, ...]:
        events = []
        for command in commands:
            match command:
                case Dispatch():
                    events.append(self._assignment(job, command, now))
                case AskInventory(side=side, deadline=deadline):
                    events.append(self._refresh(job, job.providers[side], deadline - now))
                case Withdraw():
                    events.append(self._withdrawal(job, command, now))
                case RunCheck():
                    pass
        return tuple(events)

    def _assignment(self, job: Job, dispatch: Dispatch, now: datetime) -> NewEvent:
        body = Assignment(
            job=job.id,
            task=assignment_task(dispatch.task_id, dispatch.side),
            attempt=dispatch.attempt,
            fence=job.fence,
            item=job.item_id,
            target=target_of(job, dispatch),
            epoch=job.epoch,
            verb=dispatch.verb.value,
            arguments=arguments_of(job, dispatch),
            deadline=dispatch.deadline,
            operator_signature=signature_of(job),
        )
        return NewEvent(
            event_id=self._clock.new_id(),
            vault_id=job.vault_id,
            provider_id=job.providers[dispatch.side],
            type=EventType.ASSIGNMENT,
            issued_at=now,
            expires_at=dispatch.deadline,
            body=body.model_dump(mode="json"),
        )

    def _withdrawal(self, job: Job, command: Withdraw, now: datetime) -> NewEvent:
        body = Withdrawal(
            job=job.id,
            task=assignment_task(command.task_id, command.side),
            attempt=command.attempt,
            fence=job.fence,
        )
        return NewEvent(
            event_id=self._clock.new_id(),
            vault_id=job.vault_id,
            provider_id=job.providers[command.side],
            type=EventType.WITHDRAWAL,
            issued_at=now,
            expires_at=command.deadline,
            body=body.model_dump(mode="json"),
        )

    # ----------------------------------------------------------------------------------- acting

    def _act(self, job: Job, commands: Sequence[Command]) -> None:
        for command in commands:
            if isinstance(command, RunCheck) and self._group is not None:
                self._group.create_task(self._check(job, command))
            elif isinstance(command, Dispatch):
                log.info(
                    "task_dispatched",
                    job_id=job.id,
                    task=command.task_id,
                    side=command.side.value,
                    verb=command.verb.value,
                    epoch=job.epoch,
                )
            elif isinstance(command, Withdraw):
                log.warning(
                    "task_withdrawn",
                    job_id=job.id,
                    task=command.task_id,
                    side=command.side.value,
                    waiting_for=job.waiting_for,
                )

    async def _check(self, job: Job, command: RunCheck) -> None:
        """Make a check; what goes wrong with one job must not stop the others.

        The task then stays in progress and ends by its deadline, or a new start makes it again.
        """
        try:
            error = await self._checker.check(job, command.task_id)
            now = self._clock.now()
            event: Event = CheckPassed(now, command.task_id, command.attempt)
            if error is not None:
                event = CheckFailed(now, command.task_id, command.attempt, error)
            await self.feed(job.id, event)
        except Exception:
            log.exception("check_broke_off", job_id=job.id, task=command.task_id)

    def _note(self, job: Job) -> None:
        if job.finished:
            self._open.pop(job.id, None)
        else:
            self._open[job.id] = job

    def _report(self, before: Job, after: Job) -> None:
        for task in after.tasks:
            earlier = before.run(task.task_id)
            ended = task.state in {TaskState.SUCCEEDED, TaskState.FAILED}
            if ended and earlier is not None and earlier.state is not task.state:
                log.info("task_ended", job_id=after.id, task=task.task_id, state=task.state.value)
        if after.finished:
            codes = [error.code for error in after.errors]
            log.info("job_ended", **_facts(after), state=after.state.value, errors=codes)

    # ------------------------------------------------------------------------ start and watching

    async def _take_up(self) -> None:
        """Raise the fence of every open job and make its unfinished checks again."""
        for state in (JobState.NOT_STARTED, JobState.IN_PROGRESS):
            for present in await self._reader.find(Job, state=state.value):
                await self._take_up_one(present)

    async def _take_up_one(self, present: Versioned[Job]) -> None:
        job = present.record.model_copy(update={"fence": present.record.fence + 1})
        await self._committer.commit(Change(saves=(Save(job, present.version),)))
        log.info("job_taken_up", job_id=job.id, scenario=job.scenario.name, fence=job.fence)
        self._note(job)
        checks = [
            RunCheck(task.task_id, task.attempt)
            for task in job.tasks
            if task.state is TaskState.IN_PROGRESS and not task.parts and not job.undoing
        ]
        self._act(job, checks)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            now = self._clock.now()
            for job in list(self._open.values()):
                try:
                    await self._look_at(job, now)
                except Exception:
                    # Looked at again in a second; the other jobs are looked at now.
                    log.exception("job_not_looked_at", job_id=job.id)

    async def _look_at(self, job: Job, now: datetime) -> None:
        deadline = next_deadline(job)
        if deadline is None or deadline > now:
            await self._give_up_on_the_unreachable(job, now)
            return
        detail = f"no final report until {deadline:%Y-%m-%dT%H:%M:%SZ}"
        error = job_error(errors.DEADLINE, now, name=job.target_object_name, detail=detail)
        await self.feed(job.id, Tick(now, error))

    async def _give_up_on_the_unreachable(self, job: Job, now: datetime) -> None:
        """End tasks that may fail at once when their provider's lease has expired.

        An unplanned failover does not wait for a site that is gone (design: channel, deadlines).
        """
        for task, side in _expendable(job):
            provider_id = job.providers[side]
            if await self._liveness.connected(provider_id):
                continue
            error = job_error(
                errors.NOT_CONNECTED,
                now,
                name=job.affected.get(f"{_word(job, side)}VmmName", provider_id),
                detail="its lease has expired, and the failover does not wait for it",
            )
            run = job.run(task)
            if run is not None:
                await self.feed(job.id, PartGivenUp(now, task, side, run.attempt, error))


def _expendable(job: Job) -> list[tuple[str, Side]]:
    if job.undoing:
        return []
    return [
        (task.task_id, part.side)
        for task in job.tasks
        if task.state is TaskState.IN_PROGRESS and job.spec(task.task_id).go_on_after_failure
        for part in task.parts
        if part.state is TaskState.IN_PROGRESS
    ]


def _facts(job: Job) -> dict[str, str]:
    target = job.target_object_name
    return {"job_id": job.id, "scenario": job.scenario.name, "target": target}


def _word(job: Job, side: Side) -> str:
    return "primary" if side is job.direction.place(Side.PRIMARY) else "recovery"
