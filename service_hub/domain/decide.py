"""The only function that changes a job.

`decide(job, event)` is pure and total: the new job and the commands that follow from it. The shell
persists both in one transaction and only then acts (design: engine). An event that is late,
repeated or foreign changes nothing: delivery is at least once, and a withdrawn task may still end.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from service_hub.domain.job_steps import (
    current,
    ended,
    gone_at,
    open_part,
    open_parts,
    replace_part,
    replace_task,
    replace_undo,
)
from service_hub.domain.jobs import (
    UNDO_SUFFIX,
    AskInventory,
    Begun,
    CheckFailed,
    CheckPassed,
    Decision,
    Dispatch,
    Event,
    Job,
    JobError,
    JobState,
    PartFailed,
    PartGivenUp,
    PartProgressed,
    PartSucceeded,
    RunCheck,
    TaskPart,
    TaskRun,
    TaskState,
    Tick,
    UndoRun,
    Withdraw,
    Withdrawing,
)
from service_hub.domain.protection import ProtectionState
from service_hub.domain.scenarios import TaskSpec

WITHDRAWN_CODE: Final = 90002
"""The provider's own error: the attempt was withdrawn before it began (docs/wire-contract.md)."""


def decide(job: Job, event: Event) -> Decision:  # noqa: PLR0911 -- one return per kind of event
    """Return the job after the event, and what is to be done now that it is persisted."""
    if job.finished:
        return job, ()
    match event:
        case Begun(now) if job.state is JobState.NOT_STARTED:
            started = job.model_copy(update={"state": JobState.IN_PROGRESS, "started_at": now})
            return _advance(started, now)
        case CheckPassed(now, task_id, attempt):
            return _check_passed(job, now, task_id, attempt)
        case CheckFailed(now, task_id, attempt, error):
            return _check_failed(job, now, task_id, attempt, error)
        case PartSucceeded() | PartFailed() if event.task_id.endswith(UNDO_SUFFIX):
            return _undo_ended(job, event)
        case PartSucceeded():
            return _part_succeeded(job, event)
        case PartFailed() | PartGivenUp():
            return _part_failed(job, event)
        case PartProgressed():
            return _part_progressed(job, event), ()
        case Tick(now, error):
            return _tick(job, now, error)
        case _:
            return job, ()


def next_deadline(job: Job) -> datetime | None:
    """Return when a Tick could change the job, or None."""
    if job.finished:
        return None
    steps: Sequence[TaskRun | UndoRun] = job.undo if job.undoing else job.tasks
    running = [step for step in steps if step.state is TaskState.IN_PROGRESS]
    due = [step.withdrawing.gone_at if step.withdrawing else step.deadline for step in running]
    return min((each for each in due if each is not None), default=None)


def _advance(job: Job, now: datetime) -> Decision:
    """Begin the next task that has work to do, or end the job."""
    for task in job.tasks:
        if task.state is not TaskState.NOT_STARTED:
            continue
        spec = job.spec(task.task_id)
        if spec.skipped_if in job.flags:
            update = {"state": TaskState.SKIPPED, "started_at": now}
            job = replace_task(job, task.model_copy(update=update))
        elif spec.done_at_once_if in job.flags:
            update = {"state": TaskState.SUCCEEDED, "started_at": now, "ended_at": now}
            job = replace_task(job, task.model_copy(update=update))
        else:
            return _begin(job, task, spec, now)
    return job.model_copy(update={"state": JobState.SUCCEEDED, "ended_at": now}), ()


def _begin(job: Job, task: TaskRun, spec: TaskSpec, now: datetime) -> Decision:
    attempt = task.attempt + 1
    deadline = now + timedelta(seconds=spec.seconds)
    if spec.raises_epoch and attempt == 1:
        job = job.model_copy(update={"epoch": job.epoch + 1, "authority_moved": True})
    parts = tuple(TaskPart(side=side, state=TaskState.IN_PROGRESS) for side in job.real_sides(spec))
    begun = task.model_copy(
        update={
            "state": TaskState.IN_PROGRESS,
            "attempt": attempt,
            "started_at": now,
            "deadline": deadline,
            "parts": parts,
        }
    )
    job = replace_task(job, begun)
    if spec.asks_inventory:
        asked = (AskInventory(task.task_id, part.side, attempt, deadline) for part in parts)
        return job, tuple(asked)
    if spec.verb is None:
        return job, (RunCheck(task.task_id, attempt),)
    verb = spec.verb
    return job, tuple(Dispatch(task.task_id, part.side, attempt, verb, deadline) for part in parts)


def _check_passed(job: Job, now: datetime, task_id: str, attempt: int) -> Decision:
    task = current(job, task_id, attempt)
    if task is None or task.parts:
        return job, ()
    return _advance(replace_task(job, ended(task, TaskState.SUCCEEDED, now)), now)


def _check_failed(job: Job, now: datetime, task_id: str, attempt: int, error: JobError) -> Decision:
    task = current(job, task_id, attempt)
    if task is None or task.parts:
        return job, ()
    return _fail(job, task, now, error)


def _part_succeeded(job: Job, event: PartSucceeded) -> Decision:
    task = current(job, event.task_id, event.attempt)
    part = open_part(task, event.side)
    if task is None or part is None:
        return job, ()
    done = part.model_copy(
        update={
            "state": TaskState.SUCCEEDED,
            "observed": event.observed,
            "observed_at": event.observed_at,
        }
    )
    task = replace_part(task, done)
    job = _with_result(replace_task(job, task), event)
    return _settle(job, task, event.now)


def _settle(job: Job, task: TaskRun, now: datetime) -> Decision:
    """Go on once every part has its final report; a success that came late is a success."""
    if open_parts(task):
        return job, ()
    failed = any(part.state is TaskState.FAILED for part in task.parts)
    if failed and task.withdrawing is not None:
        return _fail(job, task, now, task.withdrawing.cause)
    return _advance(replace_task(job, ended(task, TaskState.SUCCEEDED, now)), now)


def _with_result(job: Job, event: PartSucceeded) -> Job:
    result = event.observed.get("result")
    if not isinstance(result, dict) or not result:
        return job
    context = {**job.context, f"result:{event.task_id}": result}
    return job.model_copy(update={"context": context})


def _part_failed(job: Job, event: PartFailed | PartGivenUp) -> Decision:
    task = current(job, event.task_id, event.attempt)
    part = open_part(task, event.side)
    if task is None or part is None:
        return job, ()
    if isinstance(event, PartFailed):
        task = replace_part(task, part.model_copy(update={"state": TaskState.FAILED}))
        job = replace_task(job, task)
    if task.withdrawing is None:
        return _give_up(job, task, event.now, event.error)
    if isinstance(event, PartFailed) and event.error.provider_code != WITHDRAWN_CODE:
        error = event.error.model_copy(update={"task_id": task.task_id})
        job = job.model_copy(update={"errors": (*job.errors, error)})
    return _settle(job, task, event.now)


def _give_up(job: Job, task: TaskRun, now: datetime, cause: JobError) -> Decision:
    """Withdraw what is still open; fail now where nothing is, or where nothing waits for it.

    Who goes on after a failure waits for no withdrawal: the raised epoch makes a late command
    harmless (design: channel, deadlines).
    """
    spec = job.spec(task.task_id)
    still_open = open_parts(task) if spec.verb is not None else []
    until = gone_at(task.deadline or now, spec)
    withdrawals = tuple(
        Withdraw(task.task_id, part.side, task.attempt, until) for part in still_open
    )
    if not withdrawals or spec.go_on_after_failure:
        job, commands = _fail(job, task, now, cause)
        return job, (*withdrawals, *commands)
    withdrawing = Withdrawing(since=now, gone_at=until, cause=cause)
    return replace_task(job, task.model_copy(update={"withdrawing": withdrawing})), withdrawals


def _part_progressed(job: Job, event: PartProgressed) -> Job:
    task = current(job, event.task_id, event.attempt)
    part = open_part(task, event.side)
    if task is None or part is None:
        return job
    part = part.model_copy(update={"percent": event.percent})
    return replace_task(job, replace_part(task, part))


def _tick(job: Job, now: datetime, error: JobError) -> Decision:
    if job.undoing:
        return _undo_tick(job, now, error)
    for task in job.tasks:
        if task.state is not TaskState.IN_PROGRESS:
            continue
        if task.withdrawing is not None:
            if task.withdrawing.gone_at <= now:
                return _fail(job, task, now, task.withdrawing.cause)
        elif task.deadline and task.deadline <= now:
            return _give_up(job, task, now, error)
    return job, ()


def _fail(job: Job, task: TaskRun, now: datetime, error: JobError) -> Decision:
    """Note the failure; go on, take back, or end, as the task's spec says."""
    spec = job.spec(task.task_id)
    error = error.model_copy(update={"task_id": task.task_id})
    job = replace_task(job, ended(task, TaskState.FAILED, now))
    job = job.model_copy(update={"errors": (*job.errors, error)})
    if spec.go_on_after_failure:
        return _advance(job, now)
    job = _skip_rest(job)
    if spec.undo_on_failure:
        job = _authority_back(job.model_copy(update={"undo": _undo_steps(job)}))
        if job.undo:
            return _next_undo(job, now)
    return _close_failed(job, now, spec.failed_state)


def _skip_rest(job: Job) -> Job:
    tasks = tuple(
        task.model_copy(update={"state": TaskState.SKIPPED})
        if task.state is TaskState.NOT_STARTED
        else task
        for task in job.tasks
    )
    return job.model_copy(update={"tasks": tasks})


def _close_failed(job: Job, now: datetime, failed_state: ProtectionState | None) -> Decision:
    update = {"state": JobState.FAILED, "ended_at": now, "failed_state": failed_state}
    return job.model_copy(update=update), ()


# ------------------------------------------------------------------------------------------ undo


def _authority_back(job: Job) -> Job:
    """Give the authority back under yet another epoch: what was sent under the last is void."""
    if not job.authority_moved:
        return job
    return job.model_copy(update={"epoch": job.epoch + 1, "authority_moved": False})


def _undo_steps(job: Job) -> tuple[UndoRun, ...]:
    """Return what to take back: every begun task that has an undo, the newest first."""
    begun = [
        (task, job.spec(task.task_id))
        for task in job.tasks
        if task.attempt > 0 and task.state in {TaskState.SUCCEEDED, TaskState.FAILED}
    ]
    return tuple(
        UndoRun(task_id=task.task_id, verb=spec.undo, side=side)
        for task, spec in reversed(begun)
        if spec.undo is not None
        for side in job.real_sides(spec)
    )


def _next_undo(job: Job, now: datetime) -> Decision:
    for index, step in enumerate(job.undo):
        if step.state is TaskState.NOT_STARTED:
            deadline = now + timedelta(seconds=job.spec(step.task_id).seconds)
            update = {"state": TaskState.IN_PROGRESS, "attempt": 1, "deadline": deadline}
            begun = step.model_copy(update=update)
            undo = (*job.undo[:index], begun, *job.undo[index + 1 :])
            dispatch = Dispatch(
                step.task_id + UNDO_SUFFIX, step.side, begun.attempt, step.verb, deadline
            )
            return job.model_copy(update={"undo": undo}), (dispatch,)
    return _close_failed(job, now, None)


def _undo_tick(job: Job, now: datetime, error: JobError) -> Decision:
    for step in job.undo:
        if step.state is not TaskState.IN_PROGRESS:
            continue
        if step.withdrawing is not None:
            if step.withdrawing.gone_at <= now:
                return _undo_failed(job, step, now, step.withdrawing.cause)
        elif step.deadline and step.deadline <= now:
            until = gone_at(step.deadline, job.spec(step.task_id))
            withdrawing = Withdrawing(since=now, gone_at=until, cause=error)
            withdraw = Withdraw(step.task_id + UNDO_SUFFIX, step.side, step.attempt, until)
            given_up = step.model_copy(update={"withdrawing": withdrawing})
            return replace_undo(job, given_up), (withdraw,)
    return job, ()


def _undo_ended(job: Job, event: PartSucceeded | PartFailed) -> Decision:
    task_id = event.task_id.removesuffix(UNDO_SUFFIX)
    step = next(
        (
            each
            for each in job.undo
            if each.task_id == task_id
            and each.side is event.side
            and each.attempt == event.attempt
            and each.state is TaskState.IN_PROGRESS
        ),
        None,
    )
    if step is None:
        return job, ()
    if isinstance(event, PartFailed):
        cause = event.error if step.withdrawing is None else step.withdrawing.cause
        return _undo_failed(job, step, event.now, cause)
    return _next_undo(_with_undo(job, step, TaskState.SUCCEEDED), event.now)


def _with_undo(job: Job, step: UndoRun, state: TaskState) -> Job:
    update = {"state": state, "deadline": None, "withdrawing": None}
    return replace_undo(job, step.model_copy(update=update))


def _undo_failed(job: Job, step: UndoRun, now: datetime, error: JobError) -> Decision:
    """Note it and go on taking back: each step that holds leaves less to mend by hand."""
    error = error.model_copy(update={"task_id": step.task_id})
    job = _with_undo(job, step, TaskState.FAILED)
    job = job.model_copy(update={"errors": (*job.errors, error)})
    return _next_undo(job, now)
