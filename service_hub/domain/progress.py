"""How a job goes from task to task: begun, tried again, given up, failed, gone past; pure."""

from datetime import datetime, timedelta
from typing import Any, Final

from service_hub.domain.job_steps import (
    any_open,
    ended,
    gone_at,
    open_parts,
    parts_with,
    replace_task,
    tasks_with,
)
from service_hub.domain.jobs import (
    AskInventory,
    Command,
    Decision,
    Dispatch,
    Job,
    JobError,
    JobState,
    RunCheck,
    StartChildren,
    TaskPart,
    TaskRun,
    TaskState,
    Withdraw,
    Withdrawing,
)
from service_hub.domain.scenarios import TaskSpec
from service_hub.domain.undo import close, skip_rest, take_back, undo_steps
from wire_contract.vocabulary import Side


def advance(job: Job, now: datetime) -> Decision:
    """Begin the next task that has work to do, or end the job."""
    return _advance(job, job.tasks, now)


def _advance(job: Job, tasks: tuple[TaskRun, ...], now: datetime) -> Decision:
    """Go on from these tasks: a job is copied once, whatever happens to them."""
    for task in tasks:
        if task.state is not TaskState.NOT_STARTED:
            continue
        spec = job.spec(task.task_id)
        if spec.skipped_if is not None and spec.skipped_if in job.flags:
            update = {"state": TaskState.SKIPPED, "started_at": now}
            tasks = tasks_with(tasks, task.model_copy(update=update))
        elif _done_at_once(job, spec):
            update = {"state": TaskState.SUCCEEDED, "started_at": now, "ended_at": now}
            tasks = tasks_with(tasks, task.model_copy(update=update))
        else:
            return _begin(job, tasks, task, spec, now)
    job = job.model_copy(update={"tasks": tasks})
    if any(_fails_the_plan(job, task) for task in tasks):
        return close(job, now)
    return _succeeded(job, now)


def begin_again(job: Job, task: TaskRun, now: datetime) -> Decision:
    """Make the next attempt of a task, on the ends that have not succeeded yet."""
    return _begin(job, job.tasks, task, job.spec(task.task_id), now)


def settle(job: Job, task: TaskRun, part: TaskPart, now: datetime) -> Decision:
    """Go on once every part has its final report; a success that came late is a success.

    `part` is as it is now, that of the task may be as it was before.
    """
    parts = parts_with(task.parts, part)
    if any_open(parts):
        return replace_task(job, task.model_copy(update={"parts": parts})), ()
    if task.withdrawing is not None and any(each.state is TaskState.FAILED for each in parts):
        cause = task.withdrawing.cause
        return fail(job, task.model_copy(update={"parts": parts}), now, cause)
    return succeed(job, task, now, parts)


def succeed(
    job: Job, task: TaskRun, now: datetime, parts: tuple[TaskPart, ...] | None = None
) -> Decision:
    """Note the success of a task and go on, or stop where the job is cancelled."""
    if task.tries > 1:
        # It held in the end: what earlier attempts failed with is in the log.
        errors = tuple(error for error in job.errors if error.task_id != task.task_id)
        job = job.model_copy(update={"errors": errors})
    tasks = tasks_with(job.tasks, ended(task, TaskState.SUCCEEDED, now, parts))
    if job.cancel is None:
        return _advance(job, tasks, now)
    return _stop(job.model_copy(update={"tasks": tasks}), now)


def give_up(job: Job, task: TaskRun, now: datetime, cause: JobError | None) -> Decision:
    """Withdraw what is still open; fail now where nothing is, or where nothing waits for it.

    Who goes on after a failure waits for no withdrawal: the raised epoch makes a late command
    harmless (design: channel, deadlines). Whoever cancels waits for all of them.
    """
    spec = job.spec(task.task_id)
    still_open = open_parts(task) if spec.verb is not None else []
    until = gone_at(task.deadline or now, spec)
    withdrawals = tuple(
        Withdraw(task.task_id, part.side, task.attempt, until) for part in still_open
    )
    if not withdrawals or (spec.go_on_after_failure and job.cancel is None):
        job, commands = fail(job, task, now, cause)
        return job, (*withdrawals, *commands)
    withdrawing = Withdrawing(since=now, gone_at=until, cause=cause)
    return replace_task(job, task.model_copy(update={"withdrawing": withdrawing})), withdrawals


def fail(job: Job, task: TaskRun, now: datetime, error: JobError | None) -> Decision:
    """Note what became of an attempt; try again, go on, take back, or end, as the spec says.

    No error: a person cancelled the job, and the attempt has ended without success.
    """
    spec = job.spec(task.task_id)
    if error is not None:
        error = error.model_copy(update={"task_id": task.task_id})
        job = job.model_copy(update={"errors": (*job.errors, error)})
    if job.cancel is not None:
        return _stop(replace_task(job, ended(task, TaskState.CANCELLED, now)), now)
    if error is not None and _may_be_gone(task, spec, error):
        return replace_task(job, _pausing(task, spec, now)), ()
    job = replace_task(job, ended(task, TaskState.FAILED, now))
    if spec.go_on_after_failure or (spec.group is not None and spec.group.go_on_past_errors):
        return advance(job, now)
    job = skip_rest(job)
    return take_back(job, now) if spec.undo_on_failure else close(job, now)


def _done_at_once(job: Job, spec: TaskSpec) -> bool:
    flagged = spec.done_at_once_if is not None and spec.done_at_once_if in job.flags
    return flagged or (spec.group is not None and not spec.group.members)


def _fails_the_plan(job: Job, task: TaskRun) -> bool:
    """Whether a plan that went on past this task has failed all the same."""
    spec = job.spec(task.task_id)
    return task.state is TaskState.FAILED and (spec.group is not None or spec.script is not None)


def _succeeded(job: Job, now: datetime) -> Decision:
    return job.model_copy(update={"state": JobState.SUCCEEDED, "ended_at": now}), ()


def _stop(job: Job, now: datetime) -> Decision:
    """End a cancelled job: take back what it did; all done and no way back is a success."""
    left = {TaskState.NOT_STARTED, TaskState.CANCELLED}
    if not any(task.state in left for task in job.tasks) and not undo_steps(job):
        return _succeeded(job, now)
    return take_back(skip_rest(job), now)


def _begin(
    job: Job, tasks: tuple[TaskRun, ...], task: TaskRun, spec: TaskSpec, now: datetime
) -> Decision:
    """Begin one of these tasks, which are the job's from now on."""
    attempt = task.attempt + 1
    update: dict[str, Any] = {
        "state": TaskState.IN_PROGRESS,
        "attempt": attempt,
        "tries": task.tries + 1,
        "started_at": task.started_at or now,
        "retry_at": None,
        "withdrawing": None,
    }
    changed: dict[str, Any] = {}
    commands: tuple[Command, ...] = ()
    if spec.manual_action is not None:
        changed["state"] = JobState.SUSPENDED
    elif spec.group is not None:
        commands = (StartChildren(task.task_id, attempt),)
    else:
        if spec.raises_epoch and not job.authority_moved:
            changed |= {"epoch": job.epoch + 1, "authority_moved": True}
        deadline = now + timedelta(seconds=spec.seconds)
        parts = _parts(job, task, spec)
        update |= {"deadline": deadline, "parts": parts, "taken_back": False}
        commands = _commands(task.task_id, attempt, spec, parts, deadline)
    changed["tasks"] = tasks_with(tasks, task.model_copy(update=update))
    return job.model_copy(update=changed), commands


_BEGUN_PARTS: Final = {side: TaskPart(side=side, state=TaskState.IN_PROGRESS) for side in Side}
"""Values, so that all tasks may share them."""


def _parts(job: Job, task: TaskRun, spec: TaskSpec) -> tuple[TaskPart, ...]:
    done: dict[Side, TaskPart] = {}
    if task.tries > 0:
        done = {part.side: part for part in task.parts if part.state is TaskState.SUCCEEDED}
    return tuple([done.get(side) or _BEGUN_PARTS[side] for side in job.real_sides(spec)])


def _commands(
    task_id: str, attempt: int, spec: TaskSpec, parts: tuple[TaskPart, ...], deadline: datetime
) -> tuple[Command, ...]:
    sides = [part.side for part in parts if part.state is TaskState.IN_PROGRESS]
    if spec.asks_inventory:
        return tuple(AskInventory(task_id, side, attempt, deadline) for side in sides)
    verb = spec.verb
    if verb is None:
        return (RunCheck(task_id, attempt),)
    return tuple([Dispatch(task_id, side, attempt, verb, deadline) for side in sides])


def _may_be_gone(task: TaskRun, spec: TaskSpec, error: JobError) -> bool:
    """Whether the attempt failed of something that the next one may not meet."""
    return error.provider_code in spec.retry.codes and task.tries < spec.retry.attempts_max


def _pausing(task: TaskRun, spec: TaskSpec, now: datetime) -> TaskRun:
    parts = tuple(
        part.model_copy(update={"state": TaskState.FAILED})
        if part.state is TaskState.IN_PROGRESS
        else part
        for part in task.parts
    )
    return task.model_copy(
        update={
            "parts": parts,
            "deadline": None,
            "withdrawing": None,
            "retry_at": now + timedelta(seconds=spec.retry.pause_seconds),
        }
    )
