"""VMM's job history: what administrators and the provider had done; pure.

What a provider has done is read from the ledger of effects (behaviour section 6: provider
operations show up in VMM's job history as well); what an administrator did has a record.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from vmm_simulator.vmm.record import Record
from wire_contract.vmm_fabric import JobView

JOBS_KEPT: Final = 500
"""How many of the administrators' jobs the journal keeps."""

JOBS_SHOWN: Final = 200
"""How many of the newest jobs are shown."""

SUCCEEDED: Final = "succeeded"
"""The outcome of an effect that was brought to its end."""


class JobStatus(StrEnum):
    """How a job of VMM is (scvmm: Get-SCJob)."""

    RUNNING = "Running"
    COMPLETED = "Completed"
    FAILED = "Failed"


class JobRecord(Record):
    """A job of an administrator, ended or not; `number` rises."""

    number: int
    name: str
    target: str
    began_at: datetime
    ended_at: datetime | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class ProviderEffect:
    """A line of the ledger, as the history needs it."""

    number: int
    verb: str
    target: str
    began_at: datetime
    done_at: datetime | None
    outcome: str | None


def ended_by_restart(job: JobRecord, now: datetime) -> JobRecord:
    """Return a job that was under way when the VMM server went down."""
    return job.model_copy(
        update={"ended_at": now, "error": "the VMM server went down while it was under way"}
    )


def kept(jobs: Iterable[JobRecord]) -> tuple[JobRecord, ...]:
    """Return the jobs that stay in the journal: the newest."""
    return tuple(sorted(jobs, key=lambda job: job.number)[-JOBS_KEPT:])


def history(
    jobs: Iterable[JobRecord], effects: Iterable[ProviderEffect], service_account: str
) -> tuple[JobView, ...]:
    """Return the newest jobs of both, newest first."""
    views = [_of_administrator(each) for each in jobs]
    views += [_of_provider(each, service_account) for each in effects]
    views.sort(key=lambda job: (job.began_at, job.job_id), reverse=True)
    return tuple(views[:JOBS_SHOWN])


def _of_administrator(job: JobRecord) -> JobView:
    state = JobStatus.RUNNING
    if job.ended_at is not None:
        state = JobStatus.COMPLETED if job.error is None else JobStatus.FAILED
    return JobView(
        job_id=f"console-{job.number:08}",
        name=job.name,
        target=job.target,
        owner="administrator",
        status=state.value,
        progress_percent=100 if state is JobStatus.COMPLETED else 0,
        began_at=job.began_at,
        ended_at=job.ended_at,
        error=job.error,
    )


def _of_provider(effect: ProviderEffect, service_account: str) -> JobView:
    state = JobStatus.RUNNING
    if effect.outcome is not None:
        state = JobStatus.COMPLETED if effect.outcome == SUCCEEDED else JobStatus.FAILED
    return JobView(
        job_id=f"provider-{effect.number:08}",
        name=f"Provider: {effect.verb}",
        target=effect.target,
        owner=service_account,
        status=state.value,
        progress_percent=100 if state is JobStatus.COMPLETED else 0,
        began_at=effect.began_at,
        ended_at=effect.done_at,
        error=effect.outcome if state is JobStatus.FAILED else None,
    )
