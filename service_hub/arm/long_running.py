"""Long-running operations as recorded: 202, two URLs, and what stands behind them.

The id of the operation is the id of the job. The URLs carry the server's own api-version, whatever
the request named (recorded.md, section 0).
"""

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import quote

from service_hub.arm.api import ArmApi
from service_hub.arm.calls import Answer, Call
from service_hub.arm.ids import OPERATION_RESULTS, OPERATION_STATES, VaultIds
from service_hub.arm.times import fine_time, whole_seconds
from service_hub.domain.errors import NotFoundError
from service_hub.domain.jobs import Job, JobError, JobState
from service_hub.domain.records import Vault

API_VERSION: Final = "2025-08-01"

_STATES: Final = {
    JobState.NOT_STARTED: "InProgress",
    JobState.IN_PROGRESS: "InProgress",
    JobState.SUSPENDED: "InProgress",
    JobState.SUCCEEDED: "Succeeded",
    JobState.FAILED: "Failed",
    JobState.CANCELLED: "Canceled",
}


JOB_REQUESTS: Final = ("cancel", "restart", "resume")
"""What is posted to a job. Such a request has ended when it is taken, long before its job."""


def accepted(api: ArmApi, vault: Vault, job: Job, resource_id: str) -> Answer:
    """Answer 202: where to ask how the job is, and where the resource will be."""
    ids = VaultIds(vault)
    job_id = ids.job(job.id)
    return Answer(
        HTTPStatus.ACCEPTED,
        headers={
            "Azure-AsyncOperation": _url(api, f"{ids.root}/{OPERATION_STATES}/{job.id}"),
            "Location": _url(api, f"{resource_id}/{OPERATION_RESULTS}/{job.id}"),
            "Retry-After": str(api.retry_after_seconds),
        },
        request_ids=(job_id, job_id),
    )


def request_accepted(api: ArmApi, vault: Vault, job: Job, request: str) -> Answer:
    """Answer 202 to what was asked of a job: it is decided on and durable, the job goes on.

    The published examples end such an operation with the job as it is then (`Cancelling`,
    `Suspended`), so its state is another than the job's own.
    """
    ids = VaultIds(vault)
    job_id = ids.job(job.id)
    state = f"{ids.root}/{OPERATION_STATES}/{job.id}_{request}"
    return Answer(
        HTTPStatus.ACCEPTED,
        headers={
            "Azure-AsyncOperation": _url(api, state),
            "Location": _url(api, f"{job_id}/{OPERATION_RESULTS}/{job.id}"),
            "Retry-After": str(api.retry_after_seconds),
        },
        request_ids=(job_id, job_id),
    )


async def operation_state(api: ArmApi, call: Call) -> Answer:
    """Answer with the state of an operation; the SDK polls this."""
    vault = await api.vault(call)
    name, _, request = call.folded("operation").partition("_")
    if request and request not in JOB_REQUESTS:
        raise NotFoundError(call.name("operation"))
    job = await api.jobs.find(vault, name)
    job_id = VaultIds(vault).job(job.id)
    if request:
        taken = {"id": job_id, "name": f"{job.id}_{request}", "status": "Succeeded"}
        return Answer(body=taken, request_ids=(job_id,))
    body: dict[str, Any] = {"id": job_id, "name": job.id, "status": _STATES[job.state]}
    if job.started_at is not None:
        body["startTime"] = fine_time(job.started_at)
    if job.ended_at is not None:
        body["endTime"] = whole_seconds(job.ended_at)
    if job.state in {JobState.FAILED, JobState.CANCELLED}:
        body["error"] = _error(job)
    headers = {} if job.finished else {"Retry-After": str(api.retry_after_seconds)}
    return Answer(body=body, headers=headers, request_ids=(job_id,))


async def operation_result(
    api: ArmApi, call: Call, resource: Callable[[Call], Awaitable[Answer]]
) -> Answer:
    """Answer 202 while the job runs, then with the resource; 409 with its error when it failed."""
    vault = await api.vault(call)
    job = await api.jobs.find(vault, call.folded("operation"))
    if not job.finished:
        return Answer(
            HTTPStatus.ACCEPTED,
            headers={
                "Location": f"{api.public_url}{call.url}",
                "Retry-After": str(api.retry_after_seconds),
            },
        )
    if job.state is not JobState.SUCCEEDED:
        return Answer(HTTPStatus.CONFLICT, {"error": _error(job)})
    return await resource(call)


def _error(job: Job) -> dict[str, Any]:
    if not job.errors:
        return {
            "code": "OperationCanceled" if job.state is JobState.CANCELLED else "OperationFailed",
            "message": f"The job {job.id} ended as {job.state}.",
            "details": [],
        }
    first = job.errors[0]
    return {
        "code": first.code,
        "message": first.message,
        "details": [_detail(error) for error in job.errors],
    }


def _detail(error: JobError) -> dict[str, Any]:
    return {
        "code": error.code,
        "message": error.message,
        "target": error.task_id,
        "possibleCauses": error.possible_causes,
        "recommendedAction": error.recommended_action,
    }


def _url(api: ArmApi, resource_id: str) -> str:
    return f"{api.public_url}{quote(resource_id)}?api-version={API_VERSION}"
