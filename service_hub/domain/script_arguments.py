"""From a script task of a plan's job to the order that its provider gets; pure."""

from typing import Any

from pydantic import JsonValue

from service_hub.domain.jobs import Job
from service_hub.domain.plans import MACHINES, members_of
from wire_contract.vocabulary import Side


def script_arguments(job: Job, task_id: str, side: Side) -> dict[str, JsonValue]:
    """Return what wire_contract.scripts.ScriptOrder reads: the machines of the task's group."""
    script = job.spec(task_id).script
    assert script is not None, "a script task says what runs"
    group = None if script.group_task is None else job.spec(script.group_task).group
    machines: Any = job.context[MACHINES]
    return {
        "path": script.path,
        "seconds": script.seconds,
        "context": {
            "plan_id": job.target_object_id,
            "plan_name": job.target_object_name,
            "group": script.group,
            "when": script.when,
            "action": script.action,
            "kind": _KINDS[job.scenario_key],
            "direction": job.direction.value,
            "side": side.value,
            "job_id": job.id,
            "machines": [
                {
                    "item": item,
                    "name": machines[item]["name"],
                    "machine_id": machines[item][side.value],
                }
                for item in (members_of(job) if group is None else group.members)
            ],
        },
    }


_KINDS = {
    "plan_planned_failover": "PlannedFailover",
    "plan_unplanned_failover": "UnplannedFailover",
    "plan_test_failover": "TestFailover",
    "plan_test_failover_cleanup": "TestFailoverCleanup",
    "plan_commit": "Commit",
    "plan_cancel_failover": "CancelFailover",
    "plan_reverse": "ReverseReplicate",
}
"""How operations are called in actions and their scripts, by the key of the plan's job."""
