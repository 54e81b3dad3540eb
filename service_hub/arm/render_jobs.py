"""Jobs, tasks and their errors, exactly as recorded (recorded.md, sections 0 to 9)."""

import uuid
from collections.abc import Mapping
from typing import Any, Final

from service_hub.arm.ids import JOBS, VaultIds, resource_type
from service_hub.arm.times import UNSET_TIME, fine_time, whole_seconds
from service_hub.domain.jobs import Job, JobError, JobState, TaskRun, TaskState
from service_hub.domain.protection import Operation
from service_hub.domain.records import Vault

_JOB_DESCRIPTIONS: Final = {JobState.SUCCEEDED: "Completed"}

_TASK_STATES: Final = {
    TaskState.NOT_STARTED: ("NotStarted", "NotStarted"),
    TaskState.IN_PROGRESS: ("InProgress", "InProgress"),
    TaskState.SUCCEEDED: ("Succeeded", "Completed"),
    TaskState.FAILED: ("Failed", "Failed"),
    TaskState.SKIPPED: ("Other", "Skipped"),
}

_NO_NETWORK_TYPE: Final = "NoNetworkAttachAsInput"
_VM_NETWORK_TYPE: Final = "VmNetworkAsInput"


def job_body(vault: Vault, job: Job, network_names: Mapping[str, str]) -> dict[str, Any]:
    """Return one job with all its details; `network_names` are those of the vault's fabrics."""
    return _body(
        vault,
        job,
        {
            "activityId": job.activity_id,
            "tasks": [_task(job, task) for task in job.tasks],
            "errors": [_error(job, index, error) for index, error in enumerate(job.errors)],
            "customDetails": _details(job, network_names),
        },
    )


def listed_job_body(vault: Vault, job: Job) -> dict[str, Any]:
    """Return a job as lists show it: details are only in the single one."""
    return _body(vault, job, {"activityId": None, "tasks": [], "errors": [], "customDetails": None})


def _body(vault: Vault, job: Job, details: Mapping[str, Any]) -> dict[str, Any]:
    properties: dict[str, Any] = {
        "scenarioName": job.scenario.name,
        "friendlyName": job.scenario.friendly_name,
        "state": job.state.value,
        "stateDescription": job.waiting_for or _JOB_DESCRIPTIONS.get(job.state, job.state.value),
        # What is offered must work: jobs can be neither cancelled nor restarted in this version.
        "allowedActions": [],
        "targetObjectId": job.target_object_id,
        "targetObjectName": job.target_object_name,
        "targetInstanceType": job.scenario.target_type,
        **details,
    }
    if job.started_at is not None:
        properties["startTime"] = fine_time(job.started_at)
    if job.ended_at is not None:
        properties["endTime"] = whole_seconds(job.ended_at)
    return {
        "id": VaultIds(vault).job(job.id),
        "name": job.id,
        "type": resource_type(JOBS),
        "properties": properties,
    }


def _task(job: Job, task: TaskRun) -> dict[str, Any]:
    spec = job.spec(task.task_id)
    state, description = _TASK_STATES[task.state]
    return {
        "taskId": task.task_id,
        "name": spec.name,
        "startTime": fine_time(task.started_at) if task.started_at else UNSET_TIME,
        "endTime": fine_time(task.ended_at) if task.ended_at else UNSET_TIME,
        "allowedActions": [],
        "friendlyName": spec.friendly_name,
        "state": state,
        "stateDescription": description,
        "taskType": "TaskDetails",
        "customDetails": {"instanceType": "TaskDetails"},
        "groupTaskCustomDetails": None,
        "errors": [],
    }


def _error(job: Job, index: int, error: JobError) -> dict[str, Any]:
    return {
        "serviceErrorDetails": {
            "code": error.code,
            "message": error.message,
            "possibleCauses": error.possible_causes,
            "recommendedAction": error.recommended_action,
            "activityId": job.activity_id,
        },
        "providerErrorDetails": {
            "errorCode": error.provider_code,
            "errorMessage": error.provider_message,
            # The same at every reading: an error has no id of its own.
            "errorId": str(uuid.uuid5(uuid.NAMESPACE_OID, f"{job.id}/{index}")),
            "possibleCauses": error.provider_causes,
            "recommendedAction": error.provider_action,
        },
        "errorLevel": "Error",
        "creationTime": fine_time(error.created_at),
        "taskId": error.task_id,
    }


def _details(job: Job, network_names: Mapping[str, str]) -> dict[str, Any]:
    kind = job.scenario.details_type
    details: dict[str, Any] = {"instanceType": kind}
    match kind:
        case "FailoverJobDetails":
            # Stays empty, also when the failover has ended (recorded.md, section 4).
            details["protectedItemDetails"] = []
        case "TestFailoverJobDetails" if job.operation is Operation.TEST_FAILOVER:
            details |= _test_details(job, network_names)
        case "TestFailoverJobDetails":
            details |= _cleanup_details(job)
        case _:
            pass
    details["affectedObjectDetails"] = {_camel(key): text for key, text in job.affected.items()}
    return details


def _test_details(job: Job, network_names: Mapping[str, str]) -> dict[str, Any]:
    network = job.context.get("network_id")
    network_id = network if isinstance(network, str) else ""
    network_name = network_names.get(network_id, "")
    return {
        # Also in the finished job: the test itself is open until its clean-up.
        "testFailoverStatus": "Active",
        "comments": None,
        "networkName": network_id,
        "networkFriendlyName": network_name,
        "networkType": _VM_NETWORK_TYPE if network_id else _NO_NETWORK_TYPE,
        "protectedItemDetails": (
            [_tested_item(job, network_id, network_name)] if job.state is JobState.SUCCEEDED else []
        ),
    }


def _tested_item(job: Job, network_id: str, network_name: str) -> dict[str, Any]:
    return {
        "name": job.item_id,
        "friendlyName": job.target_object_name,
        "testVmName": job.context.get("test_machine_id"),
        "testVmFriendlyName": job.context.get("test_name"),
        "networkConnectionStatus": "Connected" if network_id else "Disconnected",
        "networkFriendlyName": network_name,
        "subnet": "",
        "recoveryPointId": None,
    }


def _cleanup_details(job: Job) -> dict[str, Any]:
    return {
        "testFailoverStatus": None,
        "comments": job.context.get("comments", ""),
        "networkName": None,
        "networkFriendlyName": None,
        "networkType": None,
        "protectedItemDetails": [],
    }


def _camel(key: str) -> str:
    first, *rest = key.split("_")
    return first[:1].lower() + first[1:] + "".join(word[:1].upper() + word[1:] for word in rest)
