"""What whoever looks on is answered with, as JSON."""

from datetime import datetime
from typing import Any, Final

from service_hub.domain.durations import Usual, in_words
from service_hub.domain.jobs import Job, JobError
from service_hub.domain.liveness import Freshness, Stamp
from service_hub.domain.operator_signatures import order_of
from service_hub.domain.plan_orders import told_orders
from service_hub.domain.rollups import Figure
from service_hub.looker_ports import (
    ChangePage,
    JobProgress,
    Preview,
    PreviewTask,
    SeenItem,
    SeenMachine,
    SeenReceipt,
    SeenServer,
    TaskProgress,
)


def moment(at: datetime | None) -> str | None:
    """Return a time as text."""
    return None if at is None else at.isoformat()


def stamp_body(stamp: Stamp, fresh: Freshness) -> dict[str, Any]:
    """Return who saw a fact when, and whether it is stale: beside every fact about a site."""
    return {
        "observed_at": moment(stamp.observed_at),
        "observed_by": {"provider_id": stamp.provider_id, "boot_id": stamp.boot_id or None},
        "age_seconds": round(fresh.age_seconds, 3),
        "stale_at": moment(fresh.stale_at),
        "stale": fresh.stale,
    }


def changes_body(page: ChangePage) -> dict[str, Any]:
    """Return what changed, and the number to go on from."""
    return {
        "changes": [
            {
                "kind": each.kind,
                "id": each.record_id,
                "change": each.number,
                "deleted": each.deleted,
            }
            for each in page.changes
        ],
        "highest": page.highest,
        "restarted": page.restarted,
    }


def server_body(seen: SeenServer) -> dict[str, Any]:
    """Return when and by whom a server's inventory was told."""
    return {
        "provider_id": seen.provider_id,
        "server": seen.server,
        "machine_count": seen.machine_count,
        **stamp_body(seen.stamp, seen.freshness),
    }


def machine_body(seen: SeenMachine) -> dict[str, Any]:
    """Return a copy as its site showed it."""
    machine = seen.machine
    replication = machine.replication
    return {
        "machine_id": machine.machine_id,
        "name": machine.name,
        "cloud_id": machine.cloud_id,
        "host": machine.host,
        "run_state": machine.run_state.value,
        "epoch": machine.epoch,
        "fenced": machine.fenced,
        "protected_item": machine.protected_item,
        "replication": None
        if replication is None
        else {
            "mode": replication.mode.value,
            "state": replication.state.name,
            "health": replication.health.value,
            "last_replication_at": moment(replication.last_replication_at),
            "pending_bytes": replication.pending_bytes,
            "progress_percent": replication.progress_percent,
        },
        **stamp_body(seen.stamp, seen.freshness),
    }


def item_body(seen: SeenItem) -> dict[str, Any]:
    """Return a protected item with both copies as they were last seen."""
    item = seen.item
    return {
        "item_id": item.id,
        "friendly_name": item.friendly_name,
        "state": item.state.value,
        "active_location": item.active_location.value,
        "epoch": item.epoch,
        "current_job": None if item.current is None else item.current.job_id,
        "copies": {
            side.value: None if copy is None else machine_body(copy)
            for side, copy in seen.copies.items()
        },
    }


def receipt_body(seen: SeenReceipt) -> dict[str, Any]:
    """Return what a provider read back."""
    receipt = seen.receipt
    stamp = Stamp(receipt.observed_at, receipt.provider_id, receipt.boot_id)
    return {
        "task_id": receipt.task_id,
        "side": receipt.side.value,
        "attempt": receipt.attempt,
        "succeeded": receipt.succeeded,
        "observed": receipt.observed,
        "received_at": moment(receipt.received_at),
        **stamp_body(stamp, seen.freshness),
    }


def figure_body(figure: Figure) -> dict[str, Any]:
    """Return what a stretch of time showed."""
    return {
        "at": moment(figure.at),
        "min": figure.lowest,
        "max": figure.highest,
        "mean": figure.mean,
        "last": figure.last,
        "count": figure.count,
    }


def usual_body(usual: Usual | None) -> dict[str, Any] | None:
    """Return how long something usually takes; None where nothing was learnt."""
    if usual is None:
        return None
    return {
        "count": usual.count,
        "median_seconds": round(usual.median_seconds, 3),
        "p90_seconds": round(usual.p90_seconds, 3),
    }


def progress_body(progress: JobProgress, receipts: str) -> dict[str, Any]:
    """Return how far a job is; `receipts` is where its read-backs are."""
    job = progress.job
    return {
        "job_id": job.id,
        "scenario": job.scenario.name,
        "state": job.state.value,
        "waiting_for": job.waiting_for,
        "remaining_seconds": progress.remaining_seconds,
        "words": None
        if progress.remaining_seconds is None
        else f"usually {in_words(progress.remaining_seconds)} more",
        "receipts": receipts,
        "operator_order": _order(job),
        "operator_orders": told_orders(job),
        "tasks": [_task_progress(each, receipts) for each in progress.tasks],
    }


def _order(job: Job) -> dict[str, Any] | None:
    """Return what an operator signs to have the job restarted or cancelled; None: nothing."""
    order = order_of(job)
    if order is None:
        return None
    direction = None if order.direction is None else order.direction.value
    return {"operation": order.operation.value, "item": order.item, "direction": direction}


def _task_progress(task: TaskProgress, receipts: str) -> dict[str, Any]:
    return {
        "task_id": task.task_id,
        "state": task.state,
        "started_at": moment(task.started_at),
        "percent": task.percent,
        **(_NOT_SEEN if task.percent_seen is None else stamp_body(*task.percent_seen)),
        "usual": usual_body(task.usual),
        "words": task.words,
        "receipts": f"{receipts}/{task.task_id}",
    }


_NOT_SEEN: Final = {
    "observed_at": None,
    "observed_by": None,
    "age_seconds": None,
    "stale_at": None,
    "stale": None,
}
"""What stands beside a figure that nobody had to observe."""


def preview_body(preview: Preview) -> dict[str, Any]:
    """Return what an operation would do."""
    loss, fresh = preview.loss, preview.loss_freshness
    return {
        "operation": preview.operation,
        "scenario": preview.scenario,
        "direction": preview.direction,
        "target": preview.target,
        "target_name": preview.target_name,
        "allowed": preview.refusal is None,
        "refusal": None if preview.refusal is None else _error(preview.refusal),
        "operator_signature_required": preview.signature_required,
        "servers": {side.value: name for side, name in preview.servers.items()},
        "tasks": [_task(each) for each in preview.tasks],
        "effects": [
            {
                "action": each.action.value,
                "side": each.side.value,
                "server": preview.servers[each.side],
                "machine_id": each.machine_id,
                "words": each.words,
            }
            for each in preview.effects
        ],
        "expected_loss": {
            "seconds": loss.seconds,
            "pending_bytes": loss.pending_bytes,
            "words": loss.words,
            **(_NOT_SEEN if loss.stamp is None or fresh is None else stamp_body(loss.stamp, fresh)),
        },
        "copies": {
            side.value: stamp_body(stamp, seen) for side, (stamp, seen) in preview.copies.items()
        },
        "expected_duration": {
            "median_seconds": preview.duration.median_seconds,
            "p90_seconds": preview.duration.p90_seconds,
            "unknown_tasks": list(preview.duration.unknown),
            "words": preview.duration.words,
        },
        "members": [preview_body(each) for each in preview.members],
        "operator_orders": preview.operator_orders,
        "notes": list(preview.notes),
    }


def _task(each: PreviewTask) -> dict[str, Any]:
    task = each.task
    return {
        "task_id": task.task_id,
        "name": task.name,
        "friendly_name": task.friendly_name,
        "course": task.course.value,
        "sides": [side.value for side in task.sides],
        "verb": None if task.verb is None else task.verb.value,
        "usual": usual_body(each.usual),
    }


def _error(error: JobError) -> dict[str, Any]:
    return {
        "code": error.code,
        "message": error.message,
        "possible_causes": error.possible_causes,
        "recommended_action": error.recommended_action,
        "task_id": error.task_id,
    }


EXPORTED = (
    "job_id",
    "scenario",
    "friendly_name",
    "state",
    "target",
    "target_name",
    "item_id",
    "activity_id",
    "created_at",
    "started_at",
    "ended_at",
    "tasks",
    "error_codes",
    "error_messages",
)
"""The columns of an export."""


def exported_body(job: Job) -> dict[str, Any]:
    """Return a job as it is exported: what became of it, nothing of what it was made from."""
    return {
        "job_id": job.id,
        "scenario": job.scenario.name,
        "friendly_name": job.scenario.friendly_name,
        "state": job.state.value,
        "target": job.target_object_id,
        "target_name": job.target_object_name,
        "item_id": job.item_id,
        "activity_id": job.activity_id,
        "created_at": moment(job.created_at),
        "started_at": moment(job.started_at),
        "ended_at": moment(job.ended_at),
        "tasks": [
            {
                "task_id": task.task_id,
                "state": task.state.value,
                "attempt": task.attempt,
                "started_at": moment(task.started_at),
                "ended_at": moment(task.ended_at),
            }
            for task in job.tasks
        ],
        "error_codes": [error.code for error in job.errors],
        "error_messages": [error.provider_message or error.message for error in job.errors],
    }
