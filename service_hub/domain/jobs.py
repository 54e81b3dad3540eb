"""One run of an operation, and what may be asked of it.

The only function that changes a job is `decide` in the module of that name; the events and commands
of it are offered here too.
"""

from datetime import datetime
from typing import ClassVar

from pydantic import Field, JsonValue

from service_hub.domain.job_events import (
    AskInventory,
    Begun,
    CancelChildren,
    CancelRequested,
    CheckFailed,
    CheckPassed,
    ChildrenEnded,
    Command,
    Dispatch,
    Event,
    PartFailed,
    PartGivenUp,
    PartProgressed,
    PartSucceeded,
    RestartRequested,
    Resumed,
    RunCheck,
    StartChildren,
    TakenUp,
    Tick,
    Withdraw,
)
from service_hub.domain.job_parts import (
    UNDO_SUFFIX,
    JobError,
    JobState,
    Request,
    TaskPart,
    TaskRun,
    TaskState,
    UndoRun,
    Withdrawing,
)
from service_hub.domain.protection import Operation, ProtectionState
from service_hub.domain.records import Record
from service_hub.domain.scenarios import SCENARIOS, Scenario, TaskSpec
from wire_contract.vocabulary import Direction, Side

__all__ = [
    "UNDO_SUFFIX",
    "AskInventory",
    "Begun",
    "CancelChildren",
    "CancelRequested",
    "CheckFailed",
    "CheckPassed",
    "ChildrenEnded",
    "Command",
    "Decision",
    "Dispatch",
    "Event",
    "Job",
    "JobError",
    "JobState",
    "PartFailed",
    "PartGivenUp",
    "PartProgressed",
    "PartSucceeded",
    "Request",
    "RestartRequested",
    "Resumed",
    "RunCheck",
    "StartChildren",
    "TakenUp",
    "TaskPart",
    "TaskRun",
    "TaskState",
    "Tick",
    "UndoRun",
    "Withdraw",
    "Withdrawing",
]


class Job(Record):
    """One run; `scenario_key` names its plan, `context` the facts and results its tasks use.

    `own_specs`: specs that depend on what was planned; looked at before the scenario's. A child job
    names its parent and the group task there. `start_at`: not before then. `cancel` is the request
    that stops it, `requests` the newest of all. `began_in` is the item's state before the job;
    `undo_incomplete`: not all could be taken back, `failed_state`: what holds after a failure.
    """

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
    own_specs: tuple[TaskSpec, ...] = ()
    parent_id: str | None = None
    parent_task: str | None = None
    start_at: datetime | None = None
    cancel: Request | None = None
    requests: tuple[Request, ...] = ()
    began_in: ProtectionState | None = None
    undo_incomplete: bool = False

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
        for own in self.own_specs:
            if own.task_id == task_id:
                return own
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


def _open_sides(step: TaskRun | UndoRun) -> tuple[Side, ...]:
    if isinstance(step, UndoRun):
        return (step.side,)
    return tuple(part.side for part in step.parts if part.state is TaskState.IN_PROGRESS)


Decision = tuple[Job, tuple[Command, ...]]
