"""What an operation, or a request to a job, would do: the job runs in thought; pure.

The job is the one that a real request would make, and `decide` is what really runs it: a preview
cannot differ from the job by having a table of its own. Every task is taken to succeed.

Over 400 lines because the tasks, the effects and the loss are told from one run in thought.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from service_hub.domain.arguments import arguments_of, target_of
from service_hub.domain.decide import decide
from service_hub.domain.item_mappings import networks_after
from service_hub.domain.jobs import (
    UNDO_SUFFIX,
    AskInventory,
    Begun,
    CancelChildren,
    CheckFailed,
    CheckPassed,
    ChildrenEnded,
    Command,
    Dispatch,
    Event,
    Job,
    JobError,
    JobState,
    PartSucceeded,
    Resumed,
    RunCheck,
    StartChildren,
    TaskRun,
    TaskState,
    Withdraw,
)
from service_hub.domain.liveness import Stamp
from service_hub.domain.protection import Operation
from service_hub.domain.scenarios import Target
from service_hub.domain.split_brain import left_behind
from wire_contract.vmm_interface import MachineView
from wire_contract.vocabulary import ReplicationMode, RunState, Side, Verb

EVENTS_MAX: Final = 10_000
"""A job that wants more is a fault of its plan, not something to wait for."""


class Course(StrEnum):
    """What becomes of a task."""

    RUNS = "runs"
    CHECKED = "checked by the hub"
    AT_ONCE = "done at once"
    SKIPPED = "skipped"
    REFUSED = "refused"
    DONE_BEFORE = "done before"
    GROUP = "runs a job for each machine"
    PERSON = "waits for a person"
    STOPPED = "withdrawn"
    TAKEN_BACK = "taken back"


@dataclass(frozen=True, slots=True)
class ForeseenTask:
    """A task as it would go; `sides` are the real ends, `verb` what they would be told."""

    task_id: str
    name: str
    friendly_name: str
    course: Course
    sides: tuple[Side, ...]
    verb: Verb | None


class Action(StrEnum):
    """What happens to a copy of the machine or to what it is connected with."""

    STOPPED = "stopped"
    STARTED = "started"
    CREATED = "created"
    REMOVED = "removed"
    DISCONNECTED = "disconnected"
    DISCARDED = "discarded"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class ForeseenEffect:
    """One effect: on which copy, and in words what else there is to know."""

    action: Action
    side: Side
    machine_id: str
    words: str


@dataclass(frozen=True, slots=True)
class Foreseen:
    """A job run in thought: its tasks, what was sent in which order, and how it ended."""

    job: Job
    tasks: tuple[ForeseenTask, ...]
    sent: tuple[Dispatch, ...]


@dataclass(frozen=True, slots=True)
class SeenCopy:
    """The newest view of one copy, and who saw it when."""

    machine: MachineView
    stamp: Stamp


@dataclass(frozen=True, slots=True)
class ExpectedLoss:
    """How much would be lost; None: unknown. `stamp` says who observed that, and when."""

    seconds: float | None
    pending_bytes: int | None
    stamp: Stamp | None
    words: str


def foresee(
    job: Job, now: datetime, refusals: Mapping[str, JobError], asked: Event | None = None
) -> Foreseen:
    """Run a job in thought; `refusals` are by task id what the hub's checks would find.

    `asked` is what is asked of a job that is there; None: it is begun. One that has ended already
    (it was refused) stays as it is then.
    """
    sent: list[Dispatch] = []
    before = job
    pending: deque[Event] = deque([asked or Begun(now)])
    for _ in range(EVENTS_MAX):
        if job.state is JobState.SUSPENDED and not pending:
            pending.append(Resumed(now, ""))
        if not pending:
            break
        job, commands = decide(job, pending.popleft())
        for command in commands:
            if isinstance(command, Dispatch):
                sent.append(command)
            event = _answer(command, now, refusals)
            if event is not None:
                pending.append(event)
    tasks = [_foreseen(job, run, before.run(run.task_id)) for run in job.tasks]
    return Foreseen(job, (*tasks, *_taken_back(job)), tuple(sent))


def _answer(command: Command, now: datetime, refusals: Mapping[str, JobError]) -> Event | None:
    match command:
        case RunCheck(task_id, attempt):
            error = refusals.get(task_id)
            if error is not None:
                return CheckFailed(now, task_id, attempt, error)
            return CheckPassed(now, task_id, attempt)
        case StartChildren(task_id, attempt):
            return ChildrenEnded(now, task_id, attempt, 0, (), 0)
        case CancelChildren(task_id, attempt):
            return ChildrenEnded(now, task_id, attempt, 0, (), 1)
        case Dispatch() | AskInventory() | Withdraw():
            # What is withdrawn may have had its effect: then that too is taken back.
            task_id, side, attempt = command.task_id, command.side, command.attempt
            return PartSucceeded(now, task_id, side, attempt, {}, now)
        case _:
            return None


def _taken_back(job: Job) -> list[ForeseenTask]:
    """Return the steps of taking back, the newest effect first."""
    return [
        ForeseenTask(
            task_id=step.task_id + UNDO_SUFFIX,
            name=job.spec(step.task_id).name,
            friendly_name=f"Take back '{job.spec(step.task_id).friendly_name}'",
            course=Course.TAKEN_BACK,
            sides=(step.side,),
            verb=step.verb,
        )
        for step in job.undo
    ]


def _foreseen(job: Job, run: TaskRun, before: TaskRun | None) -> ForeseenTask:
    spec = job.spec(run.task_id)
    course = _course(job, run, before)
    sides = tuple(part.side for part in run.parts) if course is Course.RUNS else ()
    return ForeseenTask(
        task_id=run.task_id,
        name=spec.name,
        friendly_name=spec.friendly_name,
        course=course,
        sides=sides,
        verb=spec.verb if course is Course.RUNS else None,
    )


def _course(job: Job, run: TaskRun, before: TaskRun | None) -> Course:
    unended = {TaskState.NOT_STARTED, TaskState.IN_PROGRESS}
    same = before is not None and (before.state, before.attempt) == (run.state, run.attempt)
    if same and run.state not in unended:
        # Nothing of it is repeated; a job that was refused is shown as the refusal left it.
        return _ENDED[run.state]
    if job.cancel is not None and before is not None and before.state is TaskState.IN_PROGRESS:
        return Course.STOPPED
    return _ENDED[run.state] if run.state is not TaskState.SUCCEEDED else _done(job, run)


def _done(job: Job, run: TaskRun) -> Course:
    """Return how a task comes to succeed."""
    if run.attempt == 0:
        return Course.AT_ONCE
    spec = job.spec(run.task_id)
    if spec.group is not None:
        return Course.GROUP
    if spec.manual_action is not None:
        return Course.PERSON
    return Course.RUNS if run.parts else Course.CHECKED


_ENDED: Final[Mapping[TaskState, Course]] = {
    TaskState.SUCCEEDED: Course.DONE_BEFORE,
    TaskState.FAILED: Course.REFUSED,
    TaskState.SKIPPED: Course.SKIPPED,
    TaskState.CANCELLED: Course.STOPPED,
    TaskState.NOT_STARTED: Course.SKIPPED,
    TaskState.IN_PROGRESS: Course.SKIPPED,
}


# ---------------------------------------------------------------------------------------- effects


def effects(foreseen: Foreseen, seen: Mapping[Side, SeenCopy]) -> tuple[ForeseenEffect, ...]:
    """Return what the dispatched verbs do to the copies, in order."""
    job = foreseen.job
    found: list[ForeseenEffect] = []
    for dispatch in foreseen.sent:
        spec = job.spec(dispatch.task_id.removesuffix(UNDO_SUFFIX))
        if spec.target not in {Target.MACHINE, Target.TEST_MACHINE}:
            continue
        is_test = spec.target is Target.TEST_MACHINE
        machine_id = target_of(job, dispatch)
        copy = None if is_test else seen.get(dispatch.side)
        for action, words in _of_verb(job, dispatch, copy, is_test=is_test):
            found.append(ForeseenEffect(action, dispatch.side, machine_id, words))
    return tuple(found)


def _of_verb(
    job: Job, dispatch: Dispatch, copy: SeenCopy | None, *, is_test: bool
) -> list[tuple[Action, str]]:
    if dispatch.verb is Verb.START:
        what = "test machine" if is_test else "virtual machine"
        started = (Action.STARTED, f"the {what} is started{_already(copy, RunState.RUNNING)}")
        return [started, *_without_network(job, copy, is_test=is_test)]
    if dispatch.verb is Verb.SHUT_DOWN:
        what = "test machine" if is_test else "virtual machine"
        return [(Action.STOPPED, f"the {what} is shut down{_already(copy, RunState.OFF)}")]
    if dispatch.verb is Verb.CANCEL_FAILOVER and dispatch.side is job.direction.place(Side.PRIMARY):
        return []
    if dispatch.verb is Verb.DISABLE_REPLICATION:
        if arguments_of(job, dispatch)["delete_replica"]:
            return [(Action.REMOVED, "the replica is deleted with its disks")]
        return [(Action.DISCONNECTED, "replication ends here; the machine itself stays")]
    effect = _EFFECTS.get(dispatch.verb)
    lifts = dispatch.verb is Verb.CONFIRM_EPOCH and arguments_of(job, dispatch)["authoritative"]
    return [] if effect is None or lifts else [effect]


_EFFECTS: Final[Mapping[Verb, tuple[Action, str]]] = {
    Verb.CREATE_TEST_MACHINE: (Action.CREATED, "the test machine is created from the replica"),
    Verb.REMOVE_TEST_MACHINE: (Action.REMOVED, "the test machine is removed with its disks"),
    Verb.PLACE_REPLICA: (Action.CREATED, "the replica is placed"),
    Verb.FAIL_OVER: (Action.DISCONNECTED, "replication stops here until it is reversed"),
    Verb.CANCEL_FAILOVER: (
        Action.DISCARDED,
        "the failover is taken back: what was written at this copy since then is given up",
    ),
    Verb.CHANGE_RECOVERY_POINT: (
        Action.DISCARDED,
        "it stands at another recovery point: what it wrote since the failover is given up",
    ),
    Verb.PREPARE_REVERSE: (
        Action.DISCARDED,
        "this copy becomes the replica: what differs from the copy that runs is overwritten",
    ),
    Verb.CONFIRM_EPOCH: (
        Action.STOPPED,
        "the virtual machine is turned off and fenced: what it wrote stays on its disks alone",
    ),
}
"""What verbs do whose words depend on nothing; those that are absent touch no copy's running."""


def _already(copy: SeenCopy | None, state: RunState) -> str:
    if copy is None:
        return ""
    if copy.machine.run_state is RunState.PAUSED:
        refused = " (it is paused and cannot: resume it or turn it off first)"
        return refused if state is RunState.OFF else " (it is paused, and goes on)"
    known = " (it is off already)" if state is RunState.OFF else " (it runs already)"
    return known if copy.machine.run_state is state else ""


def _without_network(job: Job, copy: SeenCopy | None, *, is_test: bool) -> list[tuple[Action, str]]:
    if is_test:
        asked: Any = job.context["arguments"]
        words = "the test machine is connected to no network, so that the network is not tested"
        connected = asked.get("drill") or job.context.get("network_id")
        return [] if connected else [(Action.DISCONNECTED, words)]
    nics = () if copy is None else copy.machine.nics
    networks = networks_after(nics, job.context.get("adapters"))
    count = sum(each is None for each in networks)
    if not count:
        return []
    words = f"{count} of {len(networks)} network adapters are connected to no network"
    return [(Action.DISCONNECTED, words)]


# ------------------------------------------------------------------------------------------- loss


def expected_loss(job: Job, seen: Mapping[Side, SeenCopy], now: datetime) -> ExpectedLoss:
    """Return what would be lost, by the newest observations; never a figure nobody observed."""
    if job.cancel is not None:
        return _loss_of_cancelling(job)
    match job.operation:
        case Operation.UNPLANNED_FAILOVER:
            return _loss_of_unplanned(job, seen, now)
        case Operation.PLANNED_FAILOVER:
            words = "nothing: the source is shut down first, and its last changes are sent"
        case Operation.REVERSE_REPLICATE if job.context.get("unplanned"):
            return _loss_of_reversal(job, seen)
        case Operation.CHANGE_RECOVERY_POINT | Operation.CANCEL_FAILOVER:
            words = "what the failed-over copy wrote since the failover; nobody observed how much"
            return ExpectedLoss(None, None, None, words)
        case Operation.OVERRIDE_FENCE:
            words = "what the other copy wrote since the failover: it's on its own disks alone"
            return ExpectedLoss(None, None, None, words)
        case Operation.COMMIT:
            words = "nothing; earlier recovery points can't be chosen any more"
        case _:
            words = "nothing"
    return ExpectedLoss(0.0, 0, None, words)


def _loss_of_reversal(job: Job, seen: Mapping[Side, SeenCopy]) -> ExpectedLoss:
    former, holder = (seen.get(job.direction.place(side)) for side in reversed(Side))
    machines = [None if each is None else each.machine for each in (former, holder)]
    stamp = None if former is None else former.stamp
    at = job.context.get("failed_over_at")
    since = None if at is None else datetime.fromisoformat(str(at))
    left = left_behind(
        machines[0], machines[1], None if stamp is None else stamp.observed_at, since
    )
    if not left.may_be_lost:
        return ExpectedLoss(0.0, 0, stamp, left.words)
    kept = "; it is kept in a machine of its own" if job.context.get("kept_machine_id") else ""
    known = left.changed_bytes if left.seen else None
    return ExpectedLoss(None, known, stamp, left.words + kept)


def _loss_of_cancelling(job: Job) -> ExpectedLoss:
    """Return what is lost with a copy that ran while the failover that is taken back held."""
    target = job.direction.place(Side.RECOVERY)
    ran = any(step.verb is Verb.SHUT_DOWN and step.side is target for step in job.undo)
    if not ran or job.operation is Operation.TEST_FAILOVER:
        return ExpectedLoss(0.0, 0, None, "nothing")
    words = "what was written at the recovery side since it was started there; nobody observed it"
    return ExpectedLoss(None, None, None, words)


def _loss_of_unplanned(job: Job, seen: Mapping[Side, SeenCopy], now: datetime) -> ExpectedLoss:
    source, target = job.direction.place(Side.PRIMARY), job.direction.place(Side.RECOVERY)
    backlog = _backlog(seen.get(source))
    replica = seen.get(target)
    view = None if replica is None else replica.machine.replication
    if replica is None or view is None or view.mode is not ReplicationMode.REPLICA:
        return ExpectedLoss(None, backlog, None, "unknown: the replica was not observed")
    if view.last_replication_at is None:
        words = "unknown: the replica has not said when it last took changes"
        return ExpectedLoss(None, backlog, replica.stamp, words)
    seconds = max((now - view.last_replication_at).total_seconds(), 0.0)
    words = "at most what was written since the replica last took changes, as it was last observed"
    if "source_operations_not_required" not in job.flags:
        words += "; less, if the source can still send its latest changes"
    return ExpectedLoss(seconds, backlog, replica.stamp, words)


def _backlog(source: SeenCopy | None) -> int | None:
    view = None if source is None else source.machine.replication
    if view is None or view.mode is not ReplicationMode.PRIMARY:
        return None
    return view.pending_bytes
