"""What happened that an operator has to see: durable, stored with the change it tells of.

Codes and types are the recorded ones where there are any (behaviour.md, 4.2: SRSJobStatus,
SRSVMHealthChanged, AgentHealth); those of two copies are ours (architecture, decision 4). Ids
follow from what is told, so that who finds the same thing twice stores it once. Pure.
"""

import hashlib
from collections.abc import Mapping
from datetime import datetime
from typing import ClassVar, Final, Literal

from pydantic import BaseModel, ConfigDict

from service_hub.domain.jobs import Job, JobState, TaskState
from service_hub.domain.protection import Operation
from service_hub.domain.records import Record
from service_hub.domain.scenarios import PLANS
from wire_contract.vocabulary import Side

Severity = Literal["OK", "Warning", "Critical"]

JOB_STATUS: Final = "SRSJobStatus"
HEALTH_CHANGED: Final = "SRSVMHealthChanged"
SOURCE_MAY_RUN: Final = "SRHSourceMayRun"
SPLIT_BRAIN_FOUND: Final = "SRHSplitBrainFound"
SOURCE_RETURNED: Final = "SRHSourceReturned"
COPY_FENCED: Final = "SRHCopyFenced"
STARTED_WITHOUT_HUB: Final = "SRHStartedWithoutHub"
PROVIDER_LOST: Final = "SRHProviderLost"
PROVIDER_RETURNED: Final = "SRHProviderReturned"

_TOLD_WHEN_ENDED: Final = frozenset(
    {
        Operation.PLANNED_FAILOVER,
        Operation.UNPLANNED_FAILOVER,
        Operation.TEST_FAILOVER,
        Operation.TEST_FAILOVER_CLEANUP,
        Operation.COMMIT,
        Operation.CANCEL_FAILOVER,
        Operation.CHANGE_RECOVERY_POINT,
        Operation.REVERSE_REPLICATE,
        Operation.OVERRIDE_FENCE,
    }
)
"""Whose good end is told too; of every other job only that it failed or waits for a person."""

_JOB_SEVERITY: Final[Mapping[JobState, Severity]] = {
    JobState.SUCCEEDED: "OK",
    JobState.FAILED: "Critical",
    JobState.CANCELLED: "Warning",
    JobState.SUSPENDED: "Warning",
}


class EventHealth(BaseModel):
    """A health error as it was when the event happened; empty texts where nothing is known."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    code: str
    level: Literal["Error", "Warning"]
    message: str
    causes: str = ""
    action: str = ""


class EventPlace(BaseModel):
    """Cloud and server that an event is of, and their partners; names as they were then."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    container: str = ""
    fabric: str = ""
    remote_container: str = ""
    remote_fabric: str = ""


class ReplicationEvent(Record):
    """One event; never changed, deleted when it is old.

    `affected_id` is the item's (ARM name), the provider's or the target of the job; `job_*` is of a
    job's event alone, `principal` of what a person did.
    """

    kind: ClassVar[str] = "replication_event"

    code: str
    event_type: Literal["JobStatus", "VmHealth", "AgentHealth"]
    severity: Severity
    description: str
    occurred_at: datetime
    provider_id: str = ""
    affected_id: str = ""
    affected_name: str = ""
    place: EventPlace = EventPlace()
    job_id: str = ""
    job_name: str = ""
    job_status: str = ""
    job_target_type: str = ""
    principal: str = ""
    health: tuple[EventHealth, ...] = ()


def event_id(*parts: object) -> str:
    """Return a GUID that follows from what is told."""
    digest = hashlib.sha256("/".join(str(part) for part in parts).encode()).hexdigest()
    return "-".join((digest[:8], digest[8:12], digest[12:16], digest[16:20], digest[20:32]))


# ------------------------------------------------------------------------------------- of jobs


def events_of_job(before: JobState | None, job: Job, at: datetime) -> list[ReplicationEvent]:
    """Return what the end of a job, or its wait for a person, tells; None: it began like that."""
    if job.state is before or job.state not in _JOB_SEVERITY:
        return []
    events = []
    if _is_told(job):
        events.append(_job_event(job, at))
    if _source_may_run(job):
        events.append(_source_event(job, at))
    return events


def _is_told(job: Job) -> bool:
    if job.state in {JobState.FAILED, JobState.SUSPENDED}:
        return True
    # A plan's members are told by their plan, unless one of them fails.
    return job.parent_id is None and (
        job.operation in _TOLD_WHEN_ENDED or job.scenario_key in PLANS
    )


def _source_may_run(job: Job) -> bool:
    """Whether an unplanned failover went past a source that gave no answer."""
    if job.operation is not Operation.UNPLANNED_FAILOVER or job.state is not JobState.SUCCEEDED:
        return False
    if "source_operations_not_required" in job.flags:
        return True
    source = job.direction.place(Side.PRIMARY)
    shown = [
        part.state
        for task in job.tasks
        for part in task.parts
        if part.side is source and job.spec(task.task_id).go_on_after_failure
    ]
    return not shown or TaskState.FAILED in shown or TaskState.SKIPPED in shown


def _job_event(job: Job, at: datetime) -> ReplicationEvent:
    name, state = job.scenario.friendly_name, job.state.value
    health = tuple(
        EventHealth(
            code=error.code,
            level="Error",
            message=error.message,
            causes=error.possible_causes,
            action=error.recommended_action,
        )
        for error in (job.errors if job.state is JobState.FAILED else ())
    )
    return _of_job(
        job,
        ReplicationEvent(
            id=event_id(JOB_STATUS, job.id, state, job.fence, len(job.requests), at.isoformat()),
            vault_id=job.vault_id,
            code=JOB_STATUS,
            event_type="JobStatus",
            severity=_JOB_SEVERITY[job.state],
            description=f"{name} - {state}",
            occurred_at=at,
            health=health,
        ),
    )


def _source_event(job: Job, at: datetime) -> ReplicationEvent:
    words = (
        f"The source of '{job.target_object_name}' gave no answer when its copy was started: it may"
        " still run, and two copies may be running until its server is in contact again."
    )
    health = EventHealth(
        code="90041",
        level="Warning",
        message=words,
        action="Bring the server back into contact, or turn the former source off there.",
    )
    return _of_job(
        job,
        ReplicationEvent(
            id=event_id(SOURCE_MAY_RUN, job.id, job.epoch),
            vault_id=job.vault_id,
            code=SOURCE_MAY_RUN,
            event_type="VmHealth",
            severity="Warning",
            description=words,
            occurred_at=at,
            health=(health,),
        ),
    )


def _of_job(job: Job, event: ReplicationEvent) -> ReplicationEvent:
    """Return the event with the job that it is of, and where that was."""
    source = job.direction.place(Side.PRIMARY)
    provider = job.providers.get(source) or next(iter(job.providers.values()), "")
    told = job.affected
    return event.model_copy(
        update={
            "provider_id": provider,
            "affected_id": job.item_id or job.target_object_id,
            "affected_name": job.target_object_name,
            "place": EventPlace(
                container=told.get("primaryCloudName", ""),
                fabric=told.get("primaryVmmName", ""),
                remote_container=told.get("recoveryCloudName", ""),
                remote_fabric=told.get("recoveryVmmName", ""),
            ),
            "job_id": job.id,
            "job_name": job.scenario.friendly_name,
            "job_status": job.state.value,
            "job_target_type": job.scenario.target_type,
        }
    )
