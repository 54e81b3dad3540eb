"""Gives up on ends that may fail at once when their provider's lease has expired.

An unplanned failover does not wait for a site that is gone (design: channel, deadlines). That this
process's clock jumped makes no site gone: each has time to be heard again.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Final

import structlog

from service_hub.domain.checks import given_up
from service_hub.domain.jobs import Job, PartGivenUp, TaskState
from service_hub.engine.held_jobs import Fed, HeldJob, HeldJobs
from service_hub.ports.running import Liveness
from service_hub.ports.surroundings import Clock
from wire_contract.vocabulary import Side

JUMP_SECONDS: Final = 60.0
"""A clock that went on by so much more or less than time did has jumped."""

HEARD_SECONDS_MAX: Final = 120.0
"""How long providers may take after a jump until they are heard again: two usual heartbeats."""

log = structlog.get_logger(__name__)


class Unreachable:
    """Watches the providers that a running task can do without."""

    def __init__(
        self,
        jobs: HeldJobs,
        liveness: Liveness,
        clock: Clock,
        boottime: Callable[[], float],
    ) -> None:
        self._jobs = jobs
        self._liveness = liveness
        self._clock = clock
        self._boottime = boottime
        self._looked: tuple[datetime, float] | None = None
        self._judged_from = boottime()
        self._watched: dict[str, list[tuple[str, Side]]] = {}

    def note(self, job: Job) -> None:
        """Watch what the job can do without now, and nothing else of it."""
        expendable = _expendable(job)
        if expendable:
            self._watched[job.id] = expendable
        else:
            self._watched.pop(job.id, None)

    def forget(self, job_id: str) -> None:
        """Watch nothing of it."""
        self._watched.pop(job_id, None)

    async def look(self) -> None:
        """Ask once for each provider, and give up on those that are gone."""
        watched = [
            (held, ends)
            for job_id, ends in list(self._watched.items())
            if (held := self._jobs.get(job_id)) is not None
        ]
        if not watched:
            self._looked = None
            return
        if self._has_jumped():
            self._judged_from = self._boottime() + HEARD_SECONDS_MAX
        if self._boottime() < self._judged_from:
            return
        providers = {held.job.providers[side] for held, ends in watched for _, side in ends}
        gone = {each for each in providers if not await self._liveness.connected(each)}
        for held, ends in watched:
            for task_id, side in ends:
                if held.job.providers[side] in gone and not held.waiting:
                    self._give_up(held, task_id, side)

    def _has_jumped(self) -> bool:
        """Whether the clock has jumped since the last look at the same jobs."""
        before, self._looked = self._looked, (self._clock.now(), self._boottime())
        if before is None:
            return False
        went_on = (self._looked[0] - before[0]).total_seconds()
        jump = went_on - (self._looked[1] - before[1])
        if abs(jump) < JUMP_SECONDS:
            return False
        log.error(
            "clock_jumped",
            seconds=round(jump),
            remedy="synchronise the hub's clock (NTP): leases and deadlines are misjudged",
        )
        return True

    def _give_up(self, held: HeldJob, task_id: str, side: Side) -> None:
        job, now = held.job, self._clock.now()
        run = job.run(task_id)
        if run is None:
            return
        error = given_up(job, side, now)
        self._jobs.offer(held, Fed(PartGivenUp(now, task_id, side, run.attempt, error)))


def _expendable(job: Job) -> list[tuple[str, Side]]:
    if job.finished or job.undoing:
        return []
    return [
        (task.task_id, part.side)
        for task in job.tasks
        if task.state is TaskState.IN_PROGRESS and job.spec(task.task_id).go_on_after_failure
        for part in task.parts
        if part.state is TaskState.IN_PROGRESS
    ]
