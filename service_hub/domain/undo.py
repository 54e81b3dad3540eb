"""Taking back what a job did, and how a job ends that did not succeed; pure.

The newest effect is taken back first. The authority goes back before the task that moved it is
taken back, and not earlier: a copy that may still run keeps it until it is known to be off.
"""

from datetime import datetime, timedelta

from service_hub.domain.job_steps import gone_at, open_parts, replace_task, replace_undo
from service_hub.domain.jobs import (
    UNDO_SUFFIX,
    Decision,
    Dispatch,
    Job,
    JobError,
    JobState,
    PartFailed,
    PartSucceeded,
    TaskState,
    UndoRun,
    Withdraw,
    Withdrawing,
)
from service_hub.domain.protection import ProtectionState
from service_hub.domain.scenarios import TRANSIENT_RETRY


def take_back(job: Job, now: datetime) -> Decision:
    """Begin to take back what the job did, or end it where there is nothing to take back."""
    job = _without_late_effects(job)
    job = job.model_copy(update={"undo": undo_steps(job)})
    return _next_undo(job, now) if job.undo else close(job, now)


def undo_steps(job: Job) -> tuple[UndoRun, ...]:
    """Return what is to be taken back: every task with an undo that may hold, the newest first.

    Not older than a task after which there is no way back. Of a task whose failure the job went on
    past, only a success: whoever did not answer then is not waited for now.
    """
    steps: list[UndoRun] = []
    for task in reversed(job.tasks):
        spec = job.spec(task.task_id)
        if not task.may_hold:
            continue
        if spec.no_way_back:
            break
        if spec.undo is None or (spec.go_on_after_failure and task.state is TaskState.FAILED):
            continue
        steps += [
            UndoRun(task_id=task.task_id, verb=spec.undo, side=part.side) for part in task.parts
        ]
    return tuple(steps)


def _without_late_effects(job: Job) -> Job:
    """Make void what the job went past without a final report, unless a later epoch did already.

    A site that comes back must not shut down, for a job that was cancelled, what runs there.
    """
    if any(job.spec(task.task_id).raises_epoch and task.tries for task in job.tasks):
        return job
    unanswered = any(
        task.state is TaskState.FAILED and open_parts(task)
        for task in job.tasks
        if job.spec(task.task_id).verb is not None
    )
    return job.model_copy(update={"epoch": job.epoch + 1}) if unanswered else job


def close(job: Job, now: datetime) -> Decision:
    """End a job without success: what it could not take back decides on the item's state."""
    incomplete = any(step.state is not TaskState.SUCCEEDED for step in job.undo)
    update = {
        "state": JobState.FAILED if job.cancel is None else JobState.CANCELLED,
        "ended_at": now,
        "failed_state": _lasting_state(job),
        "undo_incomplete": incomplete,
    }
    return job.model_copy(update=update), ()


def skip_rest(job: Job) -> Job:
    """Return the job with all that has not begun skipped."""
    tasks = tuple(
        task.model_copy(update={"state": TaskState.SKIPPED})
        if task.state is TaskState.NOT_STARTED
        else task
        for task in job.tasks
    )
    return job.model_copy(update={"tasks": tasks})


def undo_tick(job: Job, now: datetime, error: JobError) -> Decision:
    """Give a step up whose deadline has come, or end one that is gone."""
    for step in job.undo:
        if step.state is not TaskState.IN_PROGRESS:
            continue
        if step.retry_at is not None:
            return _begin_undo(job, step, now) if step.retry_at <= now else (job, ())
        if step.withdrawing is not None:
            if step.withdrawing.gone_at <= now:
                return _undo_failed(job, step, now, step.withdrawing.cause or error)
        elif step.deadline and step.deadline <= now:
            until = gone_at(step.deadline, job.spec(step.task_id))
            withdrawing = Withdrawing(since=now, gone_at=until, cause=error)
            withdraw = Withdraw(step.task_id + UNDO_SUFFIX, step.side, step.attempt, until)
            given_up = step.model_copy(update={"withdrawing": withdrawing})
            return replace_undo(job, given_up), (withdraw,)
    return job, ()


def undo_ended(job: Job, event: PartSucceeded | PartFailed) -> Decision:
    """Note the final report on a step and go on with the next one."""
    task_id = event.task_id.removesuffix(UNDO_SUFFIX)
    step = next(
        (
            each
            for each in job.undo
            if each.task_id == task_id
            and each.side is event.side
            and each.attempt == event.attempt
            and each.state is TaskState.IN_PROGRESS
            and each.retry_at is None
        ),
        None,
    )
    if step is None:
        return job, ()
    if isinstance(event, PartFailed):
        cause = step.withdrawing.cause if step.withdrawing is not None else None
        return _undo_failed(job, step, event.now, cause or event.error)
    job = _with_undo(job, step, TaskState.SUCCEEDED)
    if all(each.state is TaskState.SUCCEEDED for each in job.undo if each.task_id == task_id):
        task = job.run(task_id)
        assert task is not None, "a step of taking back names a task of its job"
        job = replace_task(job, task.model_copy(update={"taken_back": True}))
    return _next_undo(job, event.now)


def _next_undo(job: Job, now: datetime) -> Decision:
    for step in job.undo:
        if step.state is TaskState.NOT_STARTED:
            return _begin_undo(_authority_back(job, step.task_id), step, now)
    return close(job, now)


def _begin_undo(job: Job, step: UndoRun, now: datetime) -> Decision:
    task = job.run(step.task_id)
    assert task is not None, "a step of taking back names a task of its job"
    attempt = task.undo_attempt + 1
    deadline = now + timedelta(seconds=job.spec(step.task_id).seconds)
    begun = step.model_copy(
        update={
            "state": TaskState.IN_PROGRESS,
            "attempt": attempt,
            "tries": step.tries + 1,
            "started_at": step.started_at or now,
            "deadline": deadline,
            "retry_at": None,
        }
    )
    job = replace_task(job, task.model_copy(update={"undo_attempt": attempt}))
    dispatch = Dispatch(step.task_id + UNDO_SUFFIX, step.side, attempt, step.verb, deadline)
    return replace_undo(job, begun), (dispatch,)


def _authority_back(job: Job, task_id: str) -> Job:
    """Give the authority back under yet another epoch: what was sent under the last is void."""
    if not job.authority_moved:
        return job
    for task in reversed(job.tasks):
        if job.spec(task.task_id).raises_epoch:
            break
        if task.task_id == task_id:
            return job
    return job.model_copy(update={"epoch": job.epoch + 1, "authority_moved": False})


def _with_undo(job: Job, step: UndoRun, state: TaskState) -> Job:
    update = {"state": state, "deadline": None, "withdrawing": None}
    return replace_undo(job, step.model_copy(update=update))


def _undo_failed(job: Job, step: UndoRun, now: datetime, error: JobError) -> Decision:
    """Note it and go on taking back: each step that holds leaves less to mend by hand.

    Except after a step that the older ones rely on: a copy that may still run forbids to start the
    other one. What may be gone at the next attempt is tried again first.
    """
    retry = TRANSIENT_RETRY
    if error.provider_code in retry.codes and step.tries < retry.attempts_max:
        again = now + timedelta(seconds=retry.pause_seconds)
        update = {"deadline": None, "withdrawing": None, "retry_at": again}
        return replace_undo(job, step.model_copy(update=update)), ()
    error = error.model_copy(update={"task_id": step.task_id})
    job = _with_undo(job, step, TaskState.FAILED)
    job = job.model_copy(update={"errors": (*job.errors, error)})
    if job.spec(step.task_id).undo_must_hold:
        undo = tuple(
            each.model_copy(update={"state": TaskState.SKIPPED})
            if each.state is TaskState.NOT_STARTED
            else each
            for each in job.undo
        )
        return close(job.model_copy(update={"undo": undo}), now)
    return _next_undo(job, now)


def _lasting_state(job: Job) -> ProtectionState | None:
    """Return the item's state that the newest lasting task leaves, None where nothing lasts."""
    tried = {step.task_id for step in job.undo if step.attempt > 0}
    for task in reversed(job.tasks):
        spec = job.spec(task.task_id)
        lasts = task.state is TaskState.SUCCEEDED or spec.leaves_once_begun
        if spec.leaves is None or not lasts or not task.may_hold:
            continue
        return None if task.task_id in tried else spec.leaves
    return None
