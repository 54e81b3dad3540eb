"""A job that did not succeed goes on from the task that failed, under the same id; pure."""

from typing import Final

from service_hub.domain.jobs import Job, JobState, Request, RestartRequested, TaskRun, TaskState
from service_hub.domain.operator_signatures import with_member_signatures, with_signature

REQUESTS_MAX: Final = 20
"""How many requests a job remembers; its log has all of them."""


def noted(job: Job, request: Request) -> Job:
    """Return the job with a request of a person on record."""
    return job.model_copy(update={"requests": (*job.requests[1 - REQUESTS_MAX :], request)})


def restarted(job: Job, event: RestartRequested) -> Job:
    """Return the job ready to go on, or as it is where no task is left to repeat.

    All from the first task on that failed, was cancelled or skipped, or was taken back: what
    followed it relied on it. Attempts go on counting, the fence rises, so that nothing sent before
    can be taken for what is sent now.
    """
    first = _first_to_repeat(job)
    if first is None:
        return job
    undone = {task.task_id for task in job.tasks if _is_undone_alone(job, task)}
    tasks = (
        *(_anew(task) if task.task_id in undone else task for task in job.tasks[:first]),
        *(_anew(task) for task in job.tasks[first:]),
    )
    kept = {task.task_id for task in tasks[:first] if task.state is TaskState.FAILED}
    request = Request(action="Restart", at=event.now, principal=event.principal)
    update = {
        "state": JobState.IN_PROGRESS,
        "tasks": tasks,
        "undo": (),
        "errors": tuple(error for error in job.errors if error.task_id in kept),
        "started_at": job.started_at or event.now,
        "ended_at": None,
        "fence": job.fence + 1,
        "epoch": max(job.epoch, event.epoch),
        "failed_state": None,
        "undo_incomplete": False,
        "cancel": None,
        "began_in": event.began_in or job.began_in,
    }
    job = with_signature(job, event.operator_signature)
    job = with_member_signatures(job, event.member_signatures)
    return noted(job.model_copy(update=update), request)


def _first_to_repeat(job: Job) -> int | None:
    taken_back = {step.task_id for step in job.undo if step.attempt > 0}
    for index, task in enumerate(job.tasks):
        spec = job.spec(task.task_id)
        match task.state:
            case TaskState.FAILED:
                repeats = not spec.go_on_after_failure
            case TaskState.SKIPPED:
                repeats = spec.skipped_if is None or spec.skipped_if not in job.flags
            case TaskState.SUCCEEDED:
                repeats = task.task_id in taken_back and not spec.undone_alone
            case _:
                repeats = True
        if repeats:
            return index
    return None


def _is_undone_alone(job: Job, task: TaskRun) -> bool:
    tried = any(step.task_id == task.task_id and step.attempt > 0 for step in job.undo)
    return tried and job.spec(task.task_id).undone_alone


def _anew(task: TaskRun) -> TaskRun:
    """Return the task not begun; what it may have done before stays known."""
    return task.model_copy(
        update={
            "state": TaskState.NOT_STARTED,
            "tries": 0,
            "started_at": None,
            "ended_at": None,
            "deadline": None,
            "retry_at": None,
            "withdrawing": None,
            "comments": "",
        }
    )
