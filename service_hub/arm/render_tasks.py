"""Tasks of a job and its errors, exactly as recorded; groups with what runs below them.

A group's child tasks are the child jobs, each an inline workflow with that job's own tasks
(recorded.md, sections 0 and 10; arm-api.md, 2.10).
"""

import uuid
from collections.abc import Sequence
from typing import Any, Final

from service_hub.arm.ids import VaultIds
from service_hub.arm.times import UNSET_TIME, fine_time
from service_hub.domain.jobs import Job, JobError, JobState, TaskRun, TaskState
from service_hub.domain.mapping_jobs import ADAPTERS_OF
from service_hub.domain.protection import Operation
from service_hub.domain.records import Vault
from service_hub.domain.scenarios import GroupSpec, ScriptSpec, TaskSpec
from wire_contract.vocabulary import Side
from wire_contract.vocabulary.task_names import task_names

_TASK_STATES: Final = {
    TaskState.NOT_STARTED: ("NotStarted", "NotStarted"),
    TaskState.IN_PROGRESS: ("InProgress", "InProgress"),
    TaskState.SUCCEEDED: ("Succeeded", "Completed"),
    TaskState.FAILED: ("Failed", "Failed"),
    TaskState.SKIPPED: ("Other", "Skipped"),
    TaskState.CANCELLED: ("Cancelled", "Cancelled"),
}
_CHILD_STATES: Final = {
    JobState.NOT_STARTED: ("NotStarted", "NotStarted"),
    JobState.IN_PROGRESS: ("InProgress", "InProgress"),
    JobState.SUSPENDED: ("Suspended", "Suspended"),
    JobState.SUCCEEDED: ("Succeeded", "Completed"),
    JobState.FAILED: ("Failed", "Failed"),
    JobState.CANCELLED: ("Cancelled", "Cancelled"),
}
WAITING_FOR_A_PERSON: Final = "WaitingForManualAction"


def task_body(
    vault: Vault, job: Job, task: TaskRun, children: Sequence[Job] = ()
) -> dict[str, Any]:
    """Return one task; `children` are all jobs that groups of this job run."""
    spec = job.spec(task.task_id)
    state, description = _TASK_STATES[task.state]
    body: dict[str, Any] = {
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
    if spec.group is not None:
        if spec.group.operation is Operation.UPDATE_NETWORKS:
            body |= _adapters_group(job, task, children)
        else:
            body |= _group(vault, task, spec.group, children)
    elif spec.manual_action is not None:
        body |= _manual_action(spec, task)
    elif spec.script is not None:
        body |= _script(job, task, spec.script)
    return body


def error_body(job: Job, index: int, error: JobError) -> dict[str, Any]:
    """Return one error of a job: the service's part and the provider's."""
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


def _group(
    vault: Vault, task: TaskRun, group: GroupSpec, children: Sequence[Job]
) -> dict[str, Any]:
    mine = {child.item_id: child for child in children if child.parent_task == task.task_id}
    below = [
        _waiting_member(member) if member not in mine else _child(vault, mine[member])
        for member in group.members
    ]
    return {
        "taskType": "GroupTaskDetails",
        "customDetails": None,
        "groupTaskCustomDetails": {"instanceType": "GroupTaskDetails", "childTasks": below},
    }


def _adapters_group(job: Job, task: TaskRun, children: Sequence[Job]) -> dict[str, Any]:
    """Return a group of a network mapping: a child for each adapter (recorded.md, 10).

    As recorded, its text counts nothing before it has begun.
    """
    begun = (
        {} if task.state is not TaskState.NOT_STARTED else {"friendlyName": _uncounted(job, task)}
    )
    adapters: Any = job.context.get(ADAPTERS_OF, {})
    below = [
        _adapter(child, nic_id)
        for child in children
        if child.parent_task == task.task_id
        for nic_id in adapters.get(child.item_id, ())
    ]
    return {
        **begun,
        "taskType": "GroupTaskDetails",
        "customDetails": None,
        "groupTaskCustomDetails": {"instanceType": "GroupTaskDetails", "childTasks": below},
    }


def _uncounted(job: Job, task: TaskRun) -> str:
    return task_names(job.scenario.task(task.task_id).task_id, count=0)[2]


def _adapter(child: Job, nic_id: str) -> dict[str, Any]:
    state, description = _CHILD_STATES[child.state]
    return {
        **_bare_task(f"{child.id}/{nic_id}", child.scenario.name, child.target_object_name),
        "startTime": fine_time(child.started_at) if child.started_at else UNSET_TIME,
        "endTime": fine_time(child.ended_at) if child.ended_at else UNSET_TIME,
        "state": state,
        "stateDescription": child.held_up or description,
        "taskType": "VmNicUpdatesTaskDetails",
        "customDetails": {
            "instanceType": "VmNicUpdatesTaskDetails",
            "vmId": child.item_id,
            "nicId": nic_id,
            "name": child.target_object_name,
        },
        "errors": [error_body(child, index, error) for index, error in enumerate(child.errors)],
    }


def _child(vault: Vault, child: Job) -> dict[str, Any]:
    """Return a child job as a task: an inline workflow of its own tasks, under its job's id."""
    state, description = _CHILD_STATES[child.state]
    return {
        "taskId": child.id,
        "name": child.scenario.name,
        "startTime": fine_time(child.started_at) if child.started_at else UNSET_TIME,
        "endTime": fine_time(child.ended_at) if child.ended_at else UNSET_TIME,
        "allowedActions": [],
        "friendlyName": child.target_object_name,
        "state": state,
        "stateDescription": child.held_up or description,
        # Not its subclass VirtualMachineTaskDetails: the SDK would read that without the job.
        "taskType": "JobTaskDetails",
        "customDetails": {
            "instanceType": "JobTaskDetails",
            "jobTask": {
                "jobId": VaultIds(vault).job(child.id),
                "jobFriendlyName": child.scenario.friendly_name,
                "targetObjectId": child.target_object_id,
                "targetObjectName": child.target_object_name,
                "targetInstanceType": child.scenario.target_type,
                "jobScenarioName": child.scenario.name,
            },
        },
        "groupTaskCustomDetails": {
            "instanceType": "InlineWorkflowTaskDetails",
            "childTasks": [task_body(vault, child, task) for task in child.tasks],
            "workflowIds": [child.id],
        },
        "errors": [error_body(child, index, error) for index, error in enumerate(child.errors)],
    }


def _waiting_member(item_id: str) -> dict[str, Any]:
    return _bare_task(item_id, item_id, item_id)


def _bare_task(task_id: str, name: str, friendly_name: str) -> dict[str, Any]:
    state, description = _TASK_STATES[TaskState.NOT_STARTED]
    return {
        "taskId": task_id,
        "name": name,
        "startTime": UNSET_TIME,
        "endTime": UNSET_TIME,
        "allowedActions": [],
        "friendlyName": friendly_name,
        "state": state,
        "stateDescription": description,
        "taskType": "TaskDetails",
        "customDetails": {"instanceType": "TaskDetails"},
        "groupTaskCustomDetails": None,
        "errors": [],
    }


def _manual_action(spec: TaskSpec, task: TaskRun) -> dict[str, Any]:
    waits = task.state is TaskState.IN_PROGRESS
    state = JobState.SUSPENDED.value if waits else _TASK_STATES[task.state][0]
    description = WAITING_FOR_A_PERSON if waits else _TASK_STATES[task.state][1]
    return {
        "state": state,
        "stateDescription": description,
        "taskType": "ManualActionTaskDetails",
        "customDetails": {
            "instanceType": "ManualActionTaskDetails",
            "name": spec.friendly_name,
            "instructions": spec.manual_action,
            "observation": task.comments,
        },
    }


def _script(job: Job, task: TaskRun, script: ScriptSpec) -> dict[str, Any]:
    """Return what a script said; of one that failed, what its provider says."""
    result: Any = job.context.get(f"result:{task.task_id}")
    output = result.get("output", "") if isinstance(result, dict) else ""
    if task.state is TaskState.FAILED:
        said = [each for each in job.errors if each.task_id == task.task_id]
        output = said[-1].provider_message or "" if said else ""
    return {
        "taskType": "ScriptActionTaskDetails",
        "customDetails": {
            "instanceType": "ScriptActionTaskDetails",
            "name": script.action,
            "path": script.path,
            "output": output,
            "isPrimarySideScript": script.side is Side.PRIMARY,
        },
    }
