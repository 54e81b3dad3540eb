"""Jobs, tasks and their errors, exactly as recorded (recorded.md, sections 0 to 9)."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from service_hub.arm.ids import JOBS, VaultIds, resource_type
from service_hub.arm.render_tasks import WAITING_FOR_A_PERSON, error_body, task_body
from service_hub.arm.times import fine_time, whole_seconds
from service_hub.domain.job_requests import offered_actions
from service_hub.domain.jobs import Job, JobState
from service_hub.domain.protection import Operation
from service_hub.domain.records import Vault

_JOB_DESCRIPTIONS: Final = {
    JobState.SUCCEEDED: "Completed",
    JobState.SUSPENDED: WAITING_FOR_A_PERSON,
}
_CANCELLING: Final = "Cancelling"
"""State of a job whose cancellation was taken, in the published examples."""

_NO_NETWORK_TYPE: Final = "NoNetworkAttachAsInput"
_VM_NETWORK_TYPE: Final = "VmNetworkAsInput"


def job_body(
    vault: Vault, job: Job, network_names: Mapping[str, str], children: Sequence[Job] = ()
) -> dict[str, Any]:
    """Return one job with all its details; `network_names` are those of the vault's fabrics.

    `children` are the jobs that its groups run.
    """
    return _body(
        vault,
        job,
        {
            "activityId": job.activity_id,
            "tasks": [task_body(vault, job, task, children) for task in job.tasks],
            "errors": [error_body(job, index, error) for index, error in enumerate(job.errors)],
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
        "state": _state(job),
        "stateDescription": _description(job),
        "allowedActions": list(offered_actions(job)),
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


def _state(job: Job) -> str:
    return _CANCELLING if job.cancel is not None and not job.finished else job.state.value


def _description(job: Job) -> str:
    known = _JOB_DESCRIPTIONS.get(job.state)
    return known or job.held_up or _state(job)


def described(state: JobState) -> str:
    """Return the description that goes with the state of a job of which nothing else is known."""
    return _JOB_DESCRIPTIONS.get(state) or state.value


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
