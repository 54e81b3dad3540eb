"""Letting a fenced copy start again, by somebody's explicit word (architecture, decision 4); pure.

An override moves the authority: the copy gets a new epoch, and the other one is fenced first, or is
declared lost by whoever asks. So there are never two that hold the current one.
"""

from service_hub.domain.jobs import Job
from service_hub.domain.records import Alert
from service_hub.domain.scenarios import OTHER_COPY_LOST
from wire_contract.vocabulary import Side


def reason_of(job: Job) -> str:
    """Return why it was asked for; empty where nobody said."""
    return str(job.context.get("comments") or "").strip()


def override_alert(job: Job, principal: str, alert_id: str) -> Alert:
    """Return what operators are told of an override that begins."""
    former = job.direction.place(Side.RECOVERY)
    fate = "declared lost" if OTHER_COPY_LOST in job.flags else "fenced first"
    return Alert(
        id=alert_id,
        vault_id=job.vault_id,
        provider_id=job.providers[former],
        code="FenceOverridden",
        message=f"{job.target_object_name}: {principal} lets the former source at {former.value}"
        f" start again, the other copy {fate} (job {job.id}): {reason_of(job)}",
        raised_at=job.created_at,
        principal=principal,
    )
