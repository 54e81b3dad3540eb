"""What a person may ask of a job as it is, and what a restart needs of what the job is about."""

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from service_hub.domain.checks import refusal_when_busy
from service_hub.domain.errors import JobRequestRefusedError, OperationNotAllowedError
from service_hub.domain.item_life import restart_on_item
from service_hub.domain.jobs import Action, Job, JobError, RestartRequested
from service_hub.domain.pairs import held_by
from service_hub.domain.records import ContainerMapping, ProtectedItem

NOT_FAILED: Final = "CannotRemediateSucceededWorkflow"
"""The original's own code where a job has not failed (behaviour.md, section 5)."""

NOT_CANCELLABLE: Final = "JobCannotBeCancelled"
NOT_RESUMABLE: Final = "JobCannotBeResumed"
NOT_RESTARTABLE: Final = "JobCannotBeRestarted"

_REFUSALS: Final[Mapping[Action, tuple[str, str]]] = {
    "Cancel": (NOT_CANCELLABLE, "cancelled"),
    "Restart": (NOT_FAILED, "restarted: only a job that has failed can"),
    "Resume": (NOT_RESUMABLE, "resumed: only a job that waits for a person can"),
}


def offered_actions(job: Job) -> tuple[Action, ...]:
    """Return what the job offers to people; what is part of another job is asked of that one."""
    return () if job.parent_id is not None else job.allowed_actions


def check_action(job: Job, action: Action) -> None:
    """Return where the job offers the action; JobRequestRefusedError says why it does not."""
    offered = offered_actions(job)
    if action in offered:
        return
    code, words = _REFUSALS[action]
    if job.parent_id is not None:
        raise JobRequestRefusedError(
            code, f"The job {job.id} is part of the job {job.parent_id}: ask that one."
        )
    what = "being cancelled" if job.cancel and not job.finished else job.state.value
    instead = f"Its allowed actions: {', '.join(offered)}." if offered else "It allows nothing."
    raise JobRequestRefusedError(
        code,
        f"The job {job.id} ({job.scenario.friendly_name}) is {what} and can't be {words}."
        f" {instead}",
    )


def held_again(
    item: ProtectedItem, job: Job, principal: str, now: datetime
) -> tuple[ProtectedItem, RestartRequested]:
    """Return the item as a restarted job holds it, and the event that restarts the job.

    JobRequestRefusedError where another job holds the item, or has changed it since.
    """
    busy = refusal_when_busy(item, now, for_plan=job.parent_id)
    if busy is not None:
        raise refused_by(busy)
    try:
        return restart_on_item(item, job, principal, now)
    except OperationNotAllowedError as error:
        raise JobRequestRefusedError(
            NOT_RESTARTABLE,
            f"The job {job.id} can't be restarted: {item.friendly_name} is no more as this job left"
            f" it ({error}). Look at the item's allowed operations, and request"
            f" {job.scenario.friendly_name} anew.",
        ) from error


def paired_again(mapping: ContainerMapping, job: Job) -> ContainerMapping:
    """Return the mapping as a restarted job holds it; JobRequestRefusedError if it is another's."""
    if mapping.job_id != job.id:
        raise JobRequestRefusedError(
            NOT_RESTARTABLE,
            f"The job {job.id} can't be restarted: the mapping '{mapping.name}' was requested anew"
            f" since, by the job {mapping.job_id}.",
        )
    return held_by(mapping, job)


def refused_by(error: JobError) -> JobRequestRefusedError:
    """Return a catalogued reason as the refusal of what was asked of a job."""
    words = (error.message, error.possible_causes, error.recommended_action)
    return JobRequestRefusedError(error.code, " ".join(words))


def gone(job: Job, what: str) -> JobRequestRefusedError:
    """Return the refusal to restart a job whose object is no more."""
    return JobRequestRefusedError(
        NOT_RESTARTABLE, f"The job {job.id} can't be restarted: its {what} is gone."
    )
