"""Child jobs of groups: started in portions, counted, and their parent told once when all ended.

A child's id follows from parent, task and member, so that starting them again after a kill finds
those that are there. Who holds the parent watches; what it holds of the children itself it hears at
once, children that other hubs hold are found by asking the database.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import structlog

from service_hub.domain.errors import StaleVersionError
from service_hub.domain.job_events import FAILED_ITEMS_MAX
from service_hub.domain.jobs import (
    CancelRequested,
    ChildrenEnded,
    Job,
    JobState,
    TaskState,
)
from service_hub.domain.operator_signatures import member_signature
from service_hub.engine.held_jobs import Fed, HeldJob, HeldJobs
from service_hub.engine.portions import in_portions
from service_hub.ports.changes import NOTHING, Change
from service_hub.ports.running import ChildPlanner, JobRunner
from service_hub.ports.stores import Reader
from service_hub.ports.surroundings import Clock
from service_hub.services.child_jobs import child_id

TRIES_MAX: Final = 20
PRINCIPAL: Final = "hub"

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Group:
    """A running group; `open`: which of its children are not known to have ended."""

    parent: HeldJob
    task_id: str
    attempt: int
    children: dict[str, str]
    open: set[str] = field(default_factory=set)
    is_started: bool = False
    is_cancelled: bool = False


class Children:
    """The groups of the jobs that this process holds."""

    def __init__(self, *, jobs: HeldJobs, reader: Reader, runner: JobRunner, clock: Clock) -> None:
        self._jobs = jobs
        self._reader = reader
        self._runner = runner
        self._clock = clock
        self._planner: ChildPlanner | None = None
        self._groups: dict[tuple[str, str], _Group] = {}

    def plan_with(self, planner: ChildPlanner) -> None:
        """Have children made by this (set once, by the composition root)."""
        self._planner = planner

    async def start(self, parent: HeldJob, task_id: str, attempt: int) -> None:
        """Start what is not there, restart what failed before this attempt; may be repeated."""
        group = self._group(parent, task_id, attempt)
        if group is None or group.is_cancelled:
            return
        members = list(group.children.items())
        goes_on = await in_portions(
            members,
            lambda some: self._start_some(group, some),
            lambda: not group.is_cancelled and self._jobs.holds(parent),
        )
        if not goes_on:
            return
        group.is_started = True
        await self._look_at(group)

    async def cancel(self, parent: HeldJob, task_id: str, attempt: int) -> None:
        """Cancel the children that run and start no more; may be repeated."""
        group = self._group(parent, task_id, attempt)
        if group is None:
            return
        group.is_cancelled = True
        present = await self._present(group.children)
        now, asked = self._clock.now(), parent.job.cancel
        principal = PRINCIPAL if asked is None else asked.principal
        for child in present.values():
            if not child.finished:
                signature = member_signature(parent.job, child.item_id or "")
                event = CancelRequested(now, principal, operator_signature=signature)
                await self._runner.feed(child.id, event)
        group.is_started = True
        group.open = {each.id for each in present.values() if not each.finished}
        await self._look_at(group)

    def resume(self, parent: HeldJob) -> list[tuple[str, int, bool]]:
        """Return the groups that run now: task, attempt, and whether they are to be cancelled."""
        job = parent.job
        return [
            (task.task_id, task.attempt, job.cancel is not None or task.withdrawing is not None)
            for task in job.tasks
            if task.state is TaskState.IN_PROGRESS and job.spec(task.task_id).group is not None
        ]

    async def ended(self, child: Job) -> None:
        """Hear that a job has ended; the parent is told when it was its group's last."""
        if child.parent_id is None or child.parent_task is None:
            return
        group = self._groups.get((child.parent_id, child.parent_task))
        if group is not None:
            group.open.discard(child.id)
            if group.is_started and not group.open:
                await self._look_at(group)

    async def look(self) -> None:
        """Ask the database about children that other hubs hold, and forget what is over."""
        for key, group in list(self._groups.items()):
            run = group.parent.job.run(group.task_id)
            current = run is not None and run.attempt == group.attempt
            if not self._jobs.holds(group.parent) or not current or group.parent.job.finished:
                del self._groups[key]
            elif group.is_started and any(self._jobs.get(each) is None for each in group.open):
                await self._look_at(group)

    # ------------------------------------------------------------------------------- one group

    def _group(self, parent: HeldJob, task_id: str, attempt: int) -> _Group | None:
        run, spec = parent.job.run(task_id), parent.job.spec(task_id)
        if run is None or run.attempt != attempt or run.state is not TaskState.IN_PROGRESS:
            return None
        assert spec.group is not None, "only groups have children"
        key = (parent.job.id, task_id)
        group = self._groups.get(key)
        if group is None or group.attempt != attempt or group.parent is not parent:
            ids = {child_id(parent.job.id, task_id, each): each for each in spec.group.members}
            group = _Group(parent, task_id, attempt, ids, set(ids))
            self._groups[key] = group
        return group

    async def _start_some(self, group: _Group, members: Sequence[tuple[str, str]]) -> None:
        present = await self._present(dict(members))
        missing = [(key, member) for key, member in members if key not in present]
        if missing:
            try:
                await self._make(group, missing)
            except StaleVersionError:
                # One item changed meanwhile: the others must not wait for it.
                for each in missing:
                    await self._make_one(group, each)
        for child in present.values():
            if _failed_before(group, child):
                await self._restart(group, child)

    async def _make_one(self, group: _Group, member: tuple[str, str]) -> None:
        for _ in range(TRIES_MAX):
            if await self._present({member[0]: member[1]}):
                return
            try:
                await self._make(group, (member,))
            except StaleVersionError:
                continue
            return
        raise StaleVersionError(f"{member[1]} found no quiet moment in {TRIES_MAX} tries")

    async def _make(self, group: _Group, members: Sequence[tuple[str, str]]) -> None:
        assert self._planner is not None, "the composition root names who plans children"
        made = [
            await self._planner.child(group.parent.job, group.task_id, member, key)
            for key, member in members
        ]
        change: Change = sum((given for _, given in made), NOTHING)
        await self._runner.start_all([job for job, _ in made], change)

    async def _restart(self, group: _Group, child: Job) -> None:
        assert self._planner is not None, "the composition root names who plans children"
        parent = group.parent.job
        asked = next((each for each in reversed(parent.requests) if each.action == "Restart"), None)
        principal = PRINCIPAL if asked is None else asked.principal
        for _ in range(TRIES_MAX):
            planned = await self._planner.restart(parent, child, principal)
            if planned is None:
                # It stays failed, and the group counts it.
                return
            try:
                await self._runner.feed(child.id, *planned)
            except StaleVersionError:
                continue
            return
        raise StaleVersionError(f"{child.id} found no quiet moment in {TRIES_MAX} tries")

    async def _look_at(self, group: _Group) -> None:
        present = await self._present(group.children)
        expected = present.keys() if group.is_cancelled else group.children.keys()
        group.open = {
            each for each in expected if each not in present or not present[each].finished
        }
        if group.open or not group.is_started:
            return
        failed = [
            member
            for key, member in group.children.items()
            if key in present and present[key].state is not JobState.SUCCEEDED
        ]
        event = ChildrenEnded(
            now=self._clock.now(),
            task_id=group.task_id,
            attempt=group.attempt,
            succeeded_count=len(present) - len(failed),
            failed=tuple(failed[:FAILED_ITEMS_MAX]),
            failed_count=len(failed),
        )
        if self._jobs.holds(group.parent):
            log.info("children_ended", job_id=group.parent.job.id, task=group.task_id)
            self._jobs.offer(group.parent, Fed(event))

    async def _present(self, children: dict[str, str]) -> dict[str, Job]:
        found = await asyncio.gather(*(self._reader.get(Job, each) for each in children))
        return {each.record.id: each.record for each in found if each is not None}


def _failed_before(group: _Group, child: Job) -> bool:
    """Whether a child failed before this attempt: then it is its turn again."""
    run = group.parent.job.run(group.task_id)
    if child.state not in {JobState.FAILED, JobState.CANCELLED} or run is None:
        return False
    began, ended = run.started_at, child.ended_at
    return group.attempt > 1 and began is not None and ended is not None and ended <= began
