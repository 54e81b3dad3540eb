"""What commands say of a job: its facts, why it failed, and which command makes sense next."""

from collections.abc import Sequence
from typing import Final

from azure.mgmt.recoveryservicessiterecovery import models

from site_recovery_cli.job_tree import manual_action, task_row, tree
from site_recovery_cli.output import Row

PROGRAM: Final = "site-recovery"
FINISHED: Final = frozenset({"Succeeded", "Failed", "Cancelled"})
SUSPENDED: Final = "Suspended"
BEFORE_ALL: Final = "before its first task"

_COMMANDS: Final = {
    "Restart": ("restart", "goes on from the task that failed"),
    "Resume": ("resume", "says that the manual action is done"),
    "Cancel": ("cancel", "takes back what was done"),
}
_BUSY: Final = "532"
_ENDINGS: Final = {
    "Succeeded": "it had ended before the request came to it",
    "Cancelled": "somebody cancelled it, and what it did was taken back",
}
_PLAN: Final = "RecoveryPlan"
_CANCELLED_PLAN: Final = (
    "somebody cancelled it: what was under way was taken back, machines whose jobs had ended stay"
    " as those left them"
)
_CANCELS_PLAN: Final = "takes back what is under way; machines that are done stay as they are"
_NO_REASON: Final = "no error is recorded; look at the hub's log"


def properties_of(job: models.Job) -> models.JobProperties:
    """Return what a job says of itself; empty where the hub sent nothing."""
    return job.properties or models.JobProperties()


def list_row(job: models.Job) -> Row:
    """Return a job as a list shows it."""
    properties = properties_of(job)
    began, ended = properties.start_time, properties.end_time
    return {
        "job": job.name,
        "operation": properties.friendly_name,
        "target": properties.target_object_name,
        "state": properties.state,
        "description": properties.state_description,
        "started_at": began.isoformat() if began else None,
        "ended_at": ended.isoformat() if ended else None,
        "scenario": properties.scenario_name,
        "target_type": properties.target_instance_type,
        "allowed_actions": list(properties.allowed_actions or []),
    }


def full_row(job: models.Job) -> Row:
    """Return a job with its tasks, its errors and what may be done about it."""
    properties = properties_of(job)
    return {
        **list_row(job),
        "activity_id": properties.activity_id,
        "tasks": [task_row(task) for task in properties.tasks or []],
        "errors": [error_row(job, error) for error in properties.errors or []],
        "failure": failure_text(job) if properties.errors else None,
        "next": next_commands(job),
    }


def error_row(job: models.Job, error: models.JobErrorDetails) -> Row:
    """Return an error of a job: the task, the service's part, and the provider's."""
    service, provider = error.service_error_details, error.provider_error_details
    return {
        "task": task_title(job, error.task_id),
        "code": service.code if service else None,
        "message": service.message if service else None,
        "causes": service.possible_causes if service else None,
        "remedy": service.recommended_action if service else None,
        "provider_code": (provider.error_code if provider else None) or None,
        "provider_message": provider.error_message if provider else None,
        "provider_causes": (provider.possible_causes if provider else None) or None,
        "provider_remedy": (provider.recommended_action if provider else None) or None,
    }


def task_title(job: models.Job, task_id: str | None) -> str:
    """Return the name of the task that an error belongs to."""
    for line in tree(properties_of(job).tasks):
        if task_id is not None and line.task.task_id == task_id:
            return line.title
    return BEFORE_ALL


def failure_text(job: models.Job) -> str:
    """Say in one sentence which task failed, what happened, and what is recommended."""
    if job.properties is None:
        return f"job {job.name} has no content; look at the hub's log"
    texts = []
    for error in job.properties.errors or []:
        row = error_row(job, error)
        said = [row["message"], row["provider_message"], row["causes"]]
        said.append(row["remedy"] or row["provider_remedy"])
        texts.append(f"{row['task']}: " + " ".join(str(text) for text in said if text))
    properties = job.properties
    reason = "; ".join(texts) or _ending(properties)
    return f"job {job.name} ({properties.friendly_name}) is {properties.state}: {reason}"


def failure_lines(job: models.Job) -> list[str]:
    """Say for people what failed: for each error its task, cause and remedy, each on a line."""
    lines = []
    for error in properties_of(job).errors or []:
        row = error_row(job, error)
        code = f"{row['code']} " if row["code"] else ""
        told = {
            "failed": row["task"],
            "error": f"{code}{row['message'] or ''}".strip(),
            "provider": _provider_words(row),
            "cause": row["causes"] or row["provider_causes"],
            "remedy": row["remedy"] or row["provider_remedy"],
        }
        lines += [f"  {word:9}{text}" for word, text in told.items() if text]
    return lines


def ending_lines(job: models.Job) -> list[str]:
    """Say how a job ended that somebody cancelled; what failed is told by its errors."""
    properties = properties_of(job)
    return [f"  {_ending(properties)}"] if properties.state == "Cancelled" else []


def next_commands(job: models.Job) -> list[str]:
    """Return the commands that make sense now, each with what it does."""
    properties = properties_of(job)
    allowed = list(properties.allowed_actions or [])
    commands = [
        f"{PROGRAM} job {_COMMANDS[action][0]} {job.name}  # {_purpose(action, properties)}"
        for action in _COMMANDS
        if action in allowed
    ]
    if properties.state not in FINISHED:
        commands.append(f"{PROGRAM} job watch {job.name}  # follows it to its end")
    elif _failed_busy(properties.errors or []):
        commands.append(f"{PROGRAM} job list --active  # shows what the item is busy with")
    elif _is_cancelled_plan(properties):
        commands.append(f"{PROGRAM} waiting  # shows which machines it left failed over")
    return commands


def _ending(properties: models.JobProperties) -> str:
    if _is_cancelled_plan(properties):
        return _CANCELLED_PLAN
    return _ENDINGS.get(properties.state or "", _NO_REASON)


def _is_cancelled_plan(properties: models.JobProperties) -> bool:
    return properties.target_instance_type == _PLAN and properties.state == "Cancelled"


def _purpose(action: str, properties: models.JobProperties) -> str:
    if action == "Cancel" and properties.target_instance_type == _PLAN:
        return _CANCELS_PLAN
    return _COMMANDS[action][1]


def waits_for(job: models.Job) -> str | None:
    """Say what a suspended job waits for; None while it runs."""
    properties = properties_of(job)
    if properties.state != SUSPENDED:
        return None
    action = manual_action(properties.tasks)
    what = (action.instructions or action.name) if action else properties.state_description
    return (
        f"job {job.name} waits for a person: {what or 'a manual action'};"
        f" when it is done: {PROGRAM} job resume {job.name} --comments TEXT"
    )


def _provider_words(row: Row) -> str:
    if not row["provider_message"] and not row["provider_code"]:
        return ""
    code = f"{row['provider_code']} " if row["provider_code"] else ""
    return f"{code}{row['provider_message'] or ''}".strip()


def _failed_busy(errors: Sequence[models.JobErrorDetails]) -> bool:
    return any(
        error.service_error_details is not None and error.service_error_details.code == _BUSY
        for error in errors
    )
