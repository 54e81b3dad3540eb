"""One run of an operation, and what may be asked of it.

The only function that changes a job is `decide` in the module of that name; the events and commands
of it are offered here too.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import ClassVar, Final

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
    EpochRaised,
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
    Action,
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
from service_hub.domain.scenarios import PLANS, SCENARIOS, Scenario, TaskSpec
from wire_contract.vocabulary import Direction, Side

__all__ = [
    "ACTIONS",
    "UNDO_SUFFIX",
    "Action",
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
    "EpochRaised",
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

ACTIONS: Final[Mapping[JobState, tuple[Action, ...]]] = {
    JobState.NOT_STARTED: ("Cancel",),
    JobState.IN_PROGRESS: ("Cancel",),
    JobState.SUSPENDED: ("Cancel", "Resume"),
    JobState.SUCCEEDED: (),
    JobState.FAILED: ("Restart",),
    JobState.CANCELLED: (),
}
"""What is open to a person, by the job's state."""

_FINAL: Final = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED})


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
        return PLANS.get(self.scenario_key) or SCENARIOS[self.scenario_key]

    @property
    def finished(self) -> bool:
        """Whether nothing can happen any more."""
        return self.state in _FINAL

    @property
    def undoing(self) -> bool:
        """Whether the job is taking back what it did."""
        return not self.finished and bool(self.undo)

    @property
    def allowed_actions(self) -> tuple[Action, ...]:
        """What a person may ask of it now, as recorded (recorded.md, section 0; arm-api 2.10).

        A cancelled job that could not take all back may be restarted too: its effects are known.
        """
        if self.state is JobState.CANCELLED and self.undo_incomplete:
            return ("Restart",)
        if not self.finished and self.cancel is not None:
            return ()
        return ACTIONS[self.state]

    @property
    def waiting_for(self) -> str | None:
        """In words, what the job waits for, since when, and what can end that; None when final."""
        if self.finished:
            return None
        if self.held_up is not None:
            return self.held_up
        ends = self._can_be_ended_by()
        for step in self._running():
            since = f"since {_moment(step.started_at or self.created_at)}"
            until = f", until {_moment(step.deadline)} at the latest" if step.deadline else ""
            return f"waiting for {self._who(step)} {since}{until}; {ends}"
        return f"waiting for its beginning since {_moment(self.created_at)}; {ends}"

    @property
    def held_up(self) -> str | None:
        """In words, what keeps the job from going on; None while its work is being done."""
        if self.finished:
            return None
        ends = self._can_be_ended_by()
        if self.state is JobState.NOT_STARTED and self.start_at is not None:
            since = _moment(self.created_at)
            return f"waiting for {_moment(self.start_at)} to begin, since {since}; {ends}"
        for step in self._running():
            what = self.spec(step.task_id).friendly_name
            if step.withdrawing is not None:
                names = " and ".join(self._server_name(side) for side in _open_sides(step))
                since, until = _moment(step.withdrawing.since), _moment(step.withdrawing.gone_at)
                return (
                    f"waiting for {names} to confirm withdrawal of '{what}'"
                    f" since {since}, until {until} at the latest; {ends}"
                )
            if step.retry_at is not None:
                since, again = _moment(step.started_at or self.created_at), _moment(step.retry_at)
                return f"waiting to try '{what}' again at {again}, since {since}; {ends}"
        return None

    def _running(self) -> list[TaskRun | UndoRun]:
        steps: tuple[TaskRun | UndoRun, ...] = (*self.undo, *self.tasks)
        return [step for step in steps if step.state is TaskState.IN_PROGRESS]

    def _who(self, step: TaskRun | UndoRun) -> str:
        spec = self.spec(step.task_id)
        if isinstance(step, UndoRun):
            return f"{self._server_name(step.side)} to take back '{spec.friendly_name}'"
        if spec.manual_action is not None:
            return f"a person to do '{spec.manual_action}'"
        if spec.group is not None:
            return f"the {len(spec.group.members)} jobs of '{spec.friendly_name}' to end"
        names = " and ".join(self._server_name(side) for side in _open_sides(step))
        return f"{names or 'the hub'} to report on '{spec.friendly_name}'"

    def _can_be_ended_by(self) -> str:
        if self.undoing or not self.allowed_actions:
            if any(spec.group is not None for spec in self.own_specs):
                return (
                    "it ends by itself: what is under way is taken back, machines whose jobs have"
                    " ended stay as those left them"
                )
            return "it ends by itself, since the job is being taken back"
        return f"can be ended by {' or '.join(self.allowed_actions)}"

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
        for task in self.tasks:
            if task.task_id == task_id:
                return task
        return None

    def real_sides(self, spec: TaskSpec) -> tuple[Side, ...]:
        """Return the real ends that a task works on."""
        return tuple([self.direction.place(side) for side in spec.sides])


def _open_sides(step: TaskRun | UndoRun) -> tuple[Side, ...]:
    if isinstance(step, UndoRun):
        return (step.side,)
    return tuple(part.side for part in step.parts if part.state is TaskState.IN_PROGRESS)


def _moment(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%SZ}"


Decision = tuple[Job, tuple[Command, ...]]
