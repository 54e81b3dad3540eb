"""A plan with its child jobs and a world that loses, repeats and disorders, played by chance.

The engine's part is played here: it starts and cancels children, and tells a group once when its
last child has ended. Chance is a seeded generator, so that a run can be repeated.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Final

from service_hub.domain.decide import decide, next_deadline
from service_hub.domain.job_events import FAILED_ITEMS_MAX
from service_hub.domain.jobs import (
    Begun,
    CancelChildren,
    CancelRequested,
    ChildrenEnded,
    Command,
    Event,
    Job,
    JobState,
    RestartRequested,
    Resumed,
    StartChildren,
    TaskState,
    Tick,
    Withdraw,
)
from service_hub.domain.protection import Operation
from service_hub.domain.scenarios import GroupSpec, TaskSpec
from tests.support.job_invariants import check_state, check_step
from tests.support.job_plans import ERROR, NOW, PLANS, job_of
from tests.support.job_walk import Identity, answers, identity

STEPS_MAX: Final = 20_000
PARENT: Final = "plan"
MEMBER_PLANS: Final = tuple(PLANS[name] for name in ("move", "pair", "past"))


@dataclass(frozen=True, slots=True)
class Luck:
    """How often things go wrong, each from 0 to 1."""

    fails: float
    is_lost: float
    is_repeated: float
    cancels: float


@dataclass(frozen=True, slots=True)
class Group:
    """Members that run side by side, and what then follows."""

    size: int
    go_on: bool
    manual: bool


def plan_of(groups: list[Group]) -> Job:
    """Return the job of a plan; members are numbered through."""
    specs: list[TaskSpec] = []
    first = 0
    for number, group in enumerate(groups):
        members = tuple(f"m{first + each}" for each in range(group.size))
        first += group.size
        name = f"group{number}"
        spec = GroupSpec(Operation.PLANNED_FAILOVER, members, go_on_past_errors=group.go_on)
        specs.append(TaskSpec(name, name, name, group=spec))
        if group.manual:
            specs.append(TaskSpec(f"person{number}", "n", "n", manual_action="look"))
    return job_of(tuple(specs), id=PARENT)


@dataclass
class World:
    """All jobs of a plan and what is on its way to and from the providers."""

    chance: Random
    luck: Luck
    jobs: dict[str, Job]
    restarts: int = 2
    waiting: list[tuple[str, Command]] = field(default_factory=list)
    sent: set[tuple[str, Identity]] = field(default_factory=set)
    past: list[tuple[str, Event]] = field(default_factory=list)
    told: set[tuple[str, int]] = field(default_factory=set)
    steps: int = 0

    def run(self) -> Job:
        """Play until nobody has anything to do; return the plan's job."""
        self.feed(PARENT, Begun(NOW))
        while not self._over():
            self.steps += 1
            assert self.steps < STEPS_MAX, "the plan does not end"
            self._step()
        return self.jobs[PARENT]

    def feed(self, job_id: str, event: Event) -> None:
        """Let one job decide, and do what follows."""
        before = self.jobs[job_id]
        after, commands = decide(before, event)
        check_step(before, event, after, commands)
        self.jobs[job_id] = after
        if after is not before:
            check_state(after)
            self.past.append((job_id, event))
        for command in commands:
            self._do(job_id, command)
        if after.finished and not before.finished:
            self.waiting = [each for each in self.waiting if each[0] != job_id]

    def _do(self, job_id: str, command: Command) -> None:
        match command:
            case Withdraw():
                return
            case CancelChildren(task_id=task_id):
                for child_id in self._children(task_id):
                    self.feed(child_id, CancelRequested(NOW, "p"))
                return
        key = (job_id, identity(command))
        assert key not in self.sent, f"{key} sent twice"
        self.sent.add(key)
        if isinstance(command, StartChildren):
            self._start(command)
        else:
            self.waiting.append((job_id, command))

    def _start(self, command: StartChildren) -> None:
        group = self._group(command.task_id)
        self._check_order(command.task_id)
        for member in group.members:
            child_id = f"{command.task_id}/{member}"
            if child_id not in self.jobs:
                specs = self.chance.choice(MEMBER_PLANS)
                self.jobs[child_id] = job_of(specs, id=child_id, parent_id=PARENT)
                self.feed(child_id, Begun(NOW))
            elif self.jobs[child_id].state is JobState.FAILED:
                self.feed(child_id, RestartRequested(NOW, "p"))

    def _check_order(self, task_id: str) -> None:
        """Whatever belongs to an earlier group has ended when a later one begins."""
        parent = self.jobs[PARENT]
        assert parent.cancel is None, "a cancelled plan started children"
        for task in parent.tasks:
            if task.task_id == task_id:
                return
            for child_id in self._children(task.task_id):
                assert self.jobs[child_id].finished, f"{child_id} runs while {task_id} begins"

    def _group(self, task_id: str) -> GroupSpec:
        group = self.jobs[PARENT].spec(task_id).group
        assert group is not None, "only groups have children"
        return group

    def _children(self, task_id: str) -> list[str]:
        if self.jobs[PARENT].spec(task_id).group is None:
            return []
        names = (f"{task_id}/{member}" for member in self._group(task_id).members)
        return [name for name in names if name in self.jobs]

    def _over(self) -> bool:
        parent = self.jobs[PARENT]
        can_go_on = self.restarts and "Restart" in parent.allowed_actions
        return parent.finished and not can_go_on

    def _step(self) -> None:
        parent, luck, roll = self.jobs[PARENT], self.luck, self.chance.random
        if roll() < luck.cancels and "Cancel" in parent.allowed_actions:
            self.feed(PARENT, CancelRequested(NOW, "p"))
        elif roll() < luck.is_repeated and self.past:
            job_id, event = self.chance.choice(self.past)
            # A person who asks again asks for something new: only reports are repeated.
            if not isinstance(event, RestartRequested | CancelRequested | Resumed | Tick):
                before = self.jobs[job_id]
                self.feed(job_id, event)
                assert self.jobs[job_id] is before, f"a repeated {event} changed {job_id}"
        elif self.waiting:
            self._report(self.waiting.pop(self.chance.randrange(len(self.waiting))))
        else:
            self._go_on(parent)
        self._tell_groups()

    def _report(self, asked: tuple[str, Command]) -> None:
        job_id, command = asked
        if self.chance.random() < self.luck.is_lost:
            return
        events = list(answers(self.jobs[job_id], command))
        is_failure = self.chance.random() < self.luck.fails
        self.feed(job_id, self.chance.choice(events[1:]) if is_failure else events[0])

    def _go_on(self, parent: Job) -> None:
        """Nothing is on its way: a person acts, or time passes."""
        due = list(self._due())
        if due:
            job_id, event = self.chance.choice(due)
            self.feed(job_id, event)
        elif "Resume" in parent.allowed_actions:
            self.feed(PARENT, Resumed(NOW, "p", "done"))
        elif parent.finished:
            self.restarts -= 1
            self.feed(PARENT, RestartRequested(NOW, "p"))

    def _due(self) -> Iterator[tuple[str, Event]]:
        for job_id, job in self.jobs.items():
            at = next_deadline(job)
            if at is not None:
                yield job_id, Tick(at, ERROR)

    def _tell_groups(self) -> None:
        for task in self.jobs[PARENT].tasks:
            if task.state is not TaskState.IN_PROGRESS:
                continue
            if self.jobs[PARENT].spec(task.task_id).group is None:
                continue
            children: Mapping[str, Job] = {
                name: self.jobs[name] for name in self._children(task.task_id)
            }
            if all(child.finished for child in children.values()):
                key = (task.task_id, task.attempt)
                assert key not in self.told, "a group goes on after it has ended"
                self.told.add(key)
                self.feed(PARENT, _ended(task.task_id, task.attempt, children))
                return


def _ended(task_id: str, attempt: int, children: Mapping[str, Job]) -> ChildrenEnded:
    failed = [name for name, job in children.items() if job.state is not JobState.SUCCEEDED]
    return ChildrenEnded(
        NOW,
        task_id,
        attempt,
        len(children) - len(failed),
        tuple(failed[:FAILED_ITEMS_MAX]),
        len(failed),
    )
