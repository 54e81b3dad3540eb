"""One run of an operation, what may happen to it, and what follows from that.

The only function that changes a job is `decide` in the module of that name.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import ClassVar, Final

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from service_hub.domain.protection import Operation, ProtectionState
from service_hub.domain.records import Record
from service_hub.domain.scenarios import SCENARIOS, Scenario, TaskSpec
from wire_contract.vocabulary import Direction, Side, Verb

UNDO_SUFFIX: Final = "!undo"
"""Ends the task name of an assignment that takes a task back."""


class JobState(StrEnum):
    """ARM `state` of a job."""

    NOT_STARTED = "NotStarted"
    IN_PROGRESS = "InProgress"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    CANCELLED = "Cancelled"
    SUSPENDED = "Suspended"


class TaskState(StrEnum):
    """State of a task; SKIPPED shows as Other / Skipped on the ARM surface."""

    NOT_STARTED = "NotStarted"
    IN_PROGRESS = "InProgress"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    SKIPPED = "Skipped"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class JobError(_Part):
    """An error as the job shows it: the service's part and, where there is one, the provider's."""

    code: str
    message: str
    possible_causes: str = ""
    recommended_action: str = ""
    task_id: str | None = None
    created_at: datetime
    provider_code: int = 0
    provider_message: str | None = None
    provider_causes: str = ""
    provider_action: str = ""


class Withdrawing(_Part):
    """An attempt that was given up: what follows waits until it can have no effect any more.

    That is its final report, or `gone_at`, when also a provider that is gone has long ended it
    (design: channel, deadlines). `cause` is why it was given up.
    """

    since: datetime
    gone_at: datetime
    cause: JobError


class TaskPart(_Part):
    """A task's work on one end; `side` is the real end."""

    side: Side
    state: TaskState = TaskState.NOT_STARTED
    observed_at: datetime | None = None
    observed: dict[str, JsonValue] = Field(default_factory=dict)
    percent: float | None = None


class TaskRun(_Part):
    """A task of a job; tasks of the hub itself have no parts."""

    task_id: str
    state: TaskState = TaskState.NOT_STARTED
    attempt: int = 0
    started_at: datetime | None = None
    ended_at: datetime | None = None
    deadline: datetime | None = None
    parts: tuple[TaskPart, ...] = ()
    withdrawing: Withdrawing | None = None


class UndoRun(_Part):
    """One step of taking back: `task_id` is the undone task's."""

    task_id: str
    verb: Verb
    side: Side
    state: TaskState = TaskState.NOT_STARTED
    attempt: int = 0
    deadline: datetime | None = None
    withdrawing: Withdrawing | None = None


class Job(Record):
    """One run; `scenario_key` names its plan, `context` the facts and results its tasks use."""

    kind: ClassVar[str] = "job"

    scenario_key: str
    operation: Operation | None
    state: JobState = JobState.NOT_STARTED
    direction: Direction = Direction.PRIMARY_TO_RECOVERY
    item_id: str | None = None
    target_object_id: str
    target_object_name: str
    activity_id: str
    tasks: tuple[TaskRun, ...]
    undo: tuple[UndoRun, ...] = ()
    errors: tuple[JobError, ...] = ()
    flags: tuple[str, ...] = ()
    context: dict[str, JsonValue] = Field(default_factory=dict)
    providers: dict[Side, str] = Field(default_factory=dict)
    affected: dict[str, str] = Field(default_factory=dict)
    created_at: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None
    fence: int = 1
    epoch: int = 0
    authority_moved: bool = False
    failed_state: ProtectionState | None = None

    @property
    def scenario(self) -> Scenario:
        """The plan."""
        return SCENARIOS[self.scenario_key]

    @property
    def finished(self) -> bool:
        """Whether nothing can happen any more."""
        return self.state in {JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED}

    @property
    def undoing(self) -> bool:
        """Whether the job is taking back what it did."""
        return not self.finished and bool(self.undo)

    @property
    def waiting_for(self) -> str | None:
        """In words, whom the job waits for after it gave up an attempt; None while it does not."""
        if self.finished:
            return None
        steps: tuple[TaskRun | UndoRun, ...] = (*self.tasks, *self.undo)
        for step in steps:
            if step.withdrawing is None or step.state is not TaskState.IN_PROGRESS:
                continue
            names = " and ".join(self._server_name(side) for side in _open_sides(step))
            what = self.spec(step.task_id).friendly_name
            since, until = step.withdrawing.since, step.withdrawing.gone_at
            return (
                f"waiting for {names} to confirm withdrawal of '{what}'"
                f" since {since:%Y-%m-%dT%H:%M:%SZ}, until {until:%Y-%m-%dT%H:%M:%SZ} at the latest"
            )
        return None

    def _server_name(self, side: Side) -> str:
        end = "primary" if side is self.direction.place(Side.PRIMARY) else "recovery"
        return self.affected.get(f"{end}VmmName") or self.providers.get(side, side.value)

    def spec(self, task_id: str) -> TaskSpec:
        """Return the spec of one of its tasks."""
        return self.scenario.task(task_id)

    def run(self, task_id: str) -> TaskRun | None:
        """Return one of its tasks, or None."""
        return next((task for task in self.tasks if task.task_id == task_id), None)

    def real_sides(self, spec: TaskSpec) -> tuple[Side, ...]:
        """Return the real ends that a task works on."""
        return tuple(self.direction.place(side) for side in spec.sides)


def _open_sides(step: TaskRun | UndoRun) -> tuple[Side, ...]:
    if isinstance(step, UndoRun):
        return (step.side,)
    return tuple(part.side for part in step.parts if part.state is TaskState.IN_PROGRESS)


# ---------------------------------------------------------------------------------------- events


@dataclass(frozen=True, slots=True)
class Begun:
    """The job may start."""

    now: datetime


@dataclass(frozen=True, slots=True)
class CheckPassed:
    """The hub's own check found nothing against it."""

    now: datetime
    task_id: str
    attempt: int


@dataclass(frozen=True, slots=True)
class CheckFailed:
    """The hub's own check found a reason against it."""

    now: datetime
    task_id: str
    attempt: int
    error: JobError


@dataclass(frozen=True, slots=True)
class PartSucceeded:
    """A provider reported success, with what it read back."""

    now: datetime
    task_id: str
    side: Side
    attempt: int
    observed: dict[str, JsonValue]
    observed_at: datetime


@dataclass(frozen=True, slots=True)
class PartFailed:
    """A provider reported failure, or refused the event: the attempt has ended."""

    now: datetime
    task_id: str
    side: Side
    attempt: int
    error: JobError


@dataclass(frozen=True, slots=True)
class PartGivenUp:
    """A provider cannot be reached: the attempt may still have its effect."""

    now: datetime
    task_id: str
    side: Side
    attempt: int
    error: JobError


@dataclass(frozen=True, slots=True)
class PartProgressed:
    """A provider reported how far it is."""

    task_id: str
    side: Side
    attempt: int
    percent: float | None


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed."""

    now: datetime
    error: JobError


Event = (
    Begun
    | CheckPassed
    | CheckFailed
    | PartSucceeded
    | PartFailed
    | PartGivenUp
    | PartProgressed
    | Tick
)


# -------------------------------------------------------------------------------------- commands


@dataclass(frozen=True, slots=True)
class Dispatch:
    """Send one assignment; `task_id` ends in UNDO_SUFFIX for a step of taking back."""

    task_id: str
    side: Side
    attempt: int
    verb: Verb
    deadline: datetime


@dataclass(frozen=True, slots=True)
class Withdraw:
    """Tell a provider not to begin an attempt any more; `deadline` is until when it matters."""

    task_id: str
    side: Side
    attempt: int
    deadline: datetime


@dataclass(frozen=True, slots=True)
class RunCheck:
    """Have the hub's own check of this task made."""

    task_id: str
    attempt: int


@dataclass(frozen=True, slots=True)
class AskInventory:
    """Have one end send what it manages; the task ends when that has come."""

    task_id: str
    side: Side
    attempt: int
    deadline: datetime


Command = Dispatch | Withdraw | RunCheck | AskInventory
Decision = tuple[Job, tuple[Command, ...]]
