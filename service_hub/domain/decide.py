"""The only function that changes a job.

`decide(job, event)` is pure and total: the new job and the commands that follow from it. The shell
persists both in one transaction and only then acts (design: engine). An event that is late,
repeated or foreign changes nothing: delivery is at least once, and a withdrawn task may still end.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

from service_hub.domain import errors
from service_hub.domain.checks import job_error
from service_hub.domain.job_steps import (
    current,
    open_part,
    replace_part,
    replace_task,
    running,
)
from service_hub.domain.jobs import (
    UNDO_SUFFIX,
    Begun,
    CancelChildren,
    CancelRequested,
    CheckFailed,
    CheckPassed,
    ChildrenEnded,
    Decision,
    EpochRaised,
    Event,
    Job,
    JobState,
    PartFailed,
    PartGivenUp,
    PartProgressed,
    PartSucceeded,
    Request,
    RestartRequested,
    Resumed,
    TakenUp,
    TaskRun,
    TaskState,
    Tick,
)
from service_hub.domain.operator_signatures import with_member_signatures, with_signature
from service_hub.domain.progress import advance, begin_again, fail, give_up, settle, succeed
from service_hub.domain.restart import noted, restarted
from service_hub.domain.undo import close, skip_rest, undo_ended, undo_tick

WITHDRAWN_CODE: Final = 90002
"""The provider's own error: the attempt was withdrawn before it began (docs/wire-contract.md)."""


def decide(job: Job, event: Event) -> Decision:
    """Return the job after the event, and what is to be done now that it is persisted."""
    if job.finished and not isinstance(event, RestartRequested):
        return job, ()
    return _BY_EVENT[type(event)](job, event)


def next_deadline(job: Job) -> datetime | None:
    """Return when a Tick could change the job, or None."""
    if job.finished:
        return None
    if job.state is JobState.NOT_STARTED:
        return job.start_at
    if job.undoing:
        step = next((each for each in job.undo if each.state is TaskState.IN_PROGRESS), None)
        if step is None:
            return None
        return step.withdrawing.gone_at if step.withdrawing else (step.retry_at or step.deadline)
    task = running(job)
    if task is None:
        return None
    return task.withdrawing.gone_at if task.withdrawing else (task.retry_at or task.deadline)


def _taken_up(job: Job, event: TakenUp) -> Decision:
    higher = event.fence > job.fence
    return (job.model_copy(update={"fence": event.fence}) if higher else job), ()


def _epoch_raised(job: Job, event: EpochRaised) -> Decision:
    higher = event.epoch > job.epoch
    return (job.model_copy(update={"epoch": event.epoch}) if higher else job), ()


def _begun(job: Job, event: Begun | Tick) -> Decision:
    now = event.now
    too_early = job.start_at is not None and now < job.start_at
    if job.state is not JobState.NOT_STARTED or too_early:
        return job, ()
    started = job.model_copy(update={"state": JobState.IN_PROGRESS, "started_at": now})
    return advance(started, now)


def _checked(job: Job, event: CheckPassed | CheckFailed) -> Decision:
    task = current(job, event.task_id, event.attempt)
    if task is None or not job.spec(task.task_id).is_check:
        return job, ()
    if isinstance(event, CheckFailed):
        return fail(job, task, event.now, event.error)
    return succeed(job, task, event.now)


def _part_succeeded(job: Job, event: PartSucceeded) -> Decision:
    if event.task_id.endswith(UNDO_SUFFIX):
        return undo_ended(job, event)
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
    return settle(_with_result(job, event), task, done, event.now)


def _with_result(job: Job, event: PartSucceeded) -> Job:
    result = event.observed.get("result")
    if not isinstance(result, dict) or not result:
        return job
    context = {**job.context, f"result:{event.task_id}": result}
    return job.model_copy(update={"context": context})


def _part_failed(job: Job, event: PartFailed | PartGivenUp) -> Decision:
    if event.task_id.endswith(UNDO_SUFFIX) and isinstance(event, PartFailed):
        return undo_ended(job, event)
    task = current(job, event.task_id, event.attempt)
    part = open_part(task, event.side)
    if task is None or part is None:
        return job, ()
    if isinstance(event, PartFailed):
        part = part.model_copy(update={"state": TaskState.FAILED})
        task = replace_part(task, part)
        job = replace_task(job, task)
    if task.withdrawing is None:
        return give_up(job, task, event.now, event.error)
    if isinstance(event, PartFailed) and event.error.provider_code != WITHDRAWN_CODE:
        error = event.error.model_copy(update={"task_id": task.task_id})
        job = job.model_copy(update={"errors": (*job.errors, error)})
    return settle(job, task, part, event.now)


def _part_progressed(job: Job, event: PartProgressed) -> Decision:
    task = current(job, event.task_id, event.attempt)
    part = open_part(task, event.side)
    if task is None or part is None:
        return job, ()
    update = {"percent": event.percent, "percent_at": event.now, "percent_boot_id": event.boot_id}
    part = part.model_copy(update=update)
    return replace_task(job, replace_part(task, part)), ()


def _children_ended(job: Job, event: ChildrenEnded) -> Decision:
    task = current(job, event.task_id, event.attempt)
    if task is None or job.spec(task.task_id).group is None:
        return job, ()
    task = task.model_copy(
        update={
            "succeeded_count": event.succeeded_count,
            "failed_count": event.failed_count,
            "failed_items": event.failed,
        }
    )
    if event.failed_count == 0:
        return succeed(job, task, event.now)
    named = ", ".join(event.failed)
    detail = f"{event.failed_count} of {event.failed_count + event.succeeded_count} failed: {named}"
    name = job.spec(task.task_id).friendly_name
    error = job_error(errors.GROUP_FAILED, event.now, name=name, detail=detail)
    return fail(job, task, event.now, error if job.cancel is None else None)


def _tick(job: Job, event: Tick) -> Decision:
    now = event.now
    if job.state is JobState.NOT_STARTED:
        # Without a time to begin at, it is begun by whoever made it.
        return _begun(job, event) if job.start_at is not None else (job, ())
    due = next_deadline(job)
    if due is None or now < due:
        return job, ()
    if job.undoing:
        return undo_tick(job, now, event.error)
    task = running(job)
    assert task is not None, "what has a deadline runs"
    if task.withdrawing is not None:
        return fail(job, task, now, task.withdrawing.cause)
    if task.retry_at is not None:
        return begin_again(job, task, now)
    return give_up(job, task, now, event.error)


# ------------------------------------------------------------------------------ what people ask


def _cancel(job: Job, event: CancelRequested) -> Decision:
    """Withdraw what runs and wait for it; then take back what was done."""
    if job.cancel is not None:
        return job, ()
    request = Request(
        action="Cancel", at=event.now, principal=event.principal, comments=event.comments
    )
    job = with_signature(job, event.operator_signature)
    job = with_member_signatures(job, event.member_signatures)
    suspended = job.state is JobState.SUSPENDED
    state = JobState.IN_PROGRESS if suspended else job.state
    job = noted(job.model_copy(update={"cancel": request, "state": state}), request)
    if job.undoing:
        return job, ()
    task = running(job)
    if task is None:
        return close(skip_rest(job), event.now)
    return _stop_task(job, task, event.now)


def _stop_task(job: Job, task: TaskRun, now: datetime) -> Decision:
    if job.spec(task.task_id).group is not None:
        return job, (CancelChildren(task.task_id, task.attempt),)
    if task.withdrawing is not None:
        return job, ()
    if task.retry_at is not None:
        return fail(job, task, now, None)
    return give_up(job, task, now, None)


def _resumed(job: Job, event: Resumed) -> Decision:
    task = running(job)
    if job.state is not JobState.SUSPENDED or task is None:
        return job, ()
    request = Request(
        action="Resume", at=event.now, principal=event.principal, comments=event.comments
    )
    job = with_member_signatures(job, event.member_signatures)
    job = noted(job.model_copy(update={"state": JobState.IN_PROGRESS}), request)
    task = task.model_copy(update={"comments": event.comments})
    return succeed(job, task, event.now)


def _restarted(job: Job, event: RestartRequested) -> Decision:
    if "Restart" not in job.allowed_actions:
        return job, ()
    anew = restarted(job, event)
    return (job, ()) if anew is job else advance(anew, event.now)


_BY_EVENT: Final[Mapping[type[Event], Callable[[Job, Any], Decision]]] = {
    Begun: _begun,
    TakenUp: _taken_up,
    EpochRaised: _epoch_raised,
    CheckPassed: _checked,
    CheckFailed: _checked,
    PartSucceeded: _part_succeeded,
    PartFailed: _part_failed,
    PartGivenUp: _part_failed,
    PartProgressed: _part_progressed,
    ChildrenEnded: _children_ended,
    CancelRequested: _cancel,
    RestartRequested: _restarted,
    Resumed: _resumed,
    Tick: _tick,
}
