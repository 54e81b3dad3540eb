"""Recovery plans as recorded (recorded.md, section 11; arm-api.md, 2.9)."""

from typing import Any, Final

from service_hub.arm.ids import PLANS, PROTECTED_ITEMS, VaultIds, resource_type
from service_hub.arm.render_jobs import described
from service_hub.arm.times import fine_time
from service_hub.domain.jobs import JobState
from service_hub.domain.protection import Operation
from service_hub.domain.records import Provider, Vault
from service_hub.domain.recovery_plans import PlanAction, RecoveryGroup
from service_hub.domain.servers import title_of
from service_hub.plan_ports import PlanFacts

_REPLICATION: Final = ("HyperVReplica2012R2",)
_TEST_IS_OPEN: Final = "WaitingForStopTestFailover"


def plan_body(vault: Vault, facts: PlanFacts) -> dict[str, Any]:
    """Return a plan."""
    plan = facts.plan
    properties: dict[str, Any] = {
        "friendlyName": plan.name,
        **_server(vault, "primary", facts.primary),
        **_server(vault, "recovery", facts.recovery),
        "failoverDeploymentModel": "NotApplicable",
        "replicationProviders": list(_REPLICATION),
        "allowedOperations": [each.value for each in facts.allowed],
        **_scenario(vault, facts),
        "groups": [_group(vault, facts, each) for each in plan.groups],
        "providerSpecificDetails": [],
    }
    for name, at in (
        ("lastPlannedFailoverTime", plan.last_planned_failover_at),
        ("lastUnplannedFailoverTime", plan.last_unplanned_failover_at),
        ("lastTestFailoverTime", plan.last_test_failover_at),
    ):
        if at is not None:
            properties[name] = fine_time(at)
    return {
        "id": VaultIds(vault).plan(plan.name),
        "name": plan.name,
        "type": resource_type(PLANS),
        "properties": properties,
    }


def _scenario(vault: Vault, facts: PlanFacts) -> dict[str, Any]:
    """Return the job that runs, or the last one with how it ended; none before the first.

    The published examples show an open test as Suspended, although its job has ended here.
    """
    run, state = facts.plan.current or facts.plan.last_run, facts.run_state
    if run is None or state is None:
        names = ("", "Status", "StatusDescription")
        return {f"currentScenario{name}": None for name in names}
    status, words = state.value, described(state)
    if facts.plan.current is None and Operation.TEST_FAILOVER_CLEANUP in facts.allowed:
        status, words = JobState.SUSPENDED.value, _TEST_IS_OPEN
    return {
        "currentScenario": {
            "scenarioName": run.scenario_name,
            "jobId": VaultIds(vault).job(run.job_id),
            "startTime": fine_time(run.started_at),
        },
        "currentScenarioStatus": status,
        "currentScenarioStatusDescription": words,
    }


def _server(vault: Vault, end: str, provider: Provider | None) -> dict[str, Any]:
    if provider is None:
        return {f"{end}FabricId": None, f"{end}FabricFriendlyName": None}
    return {
        f"{end}FabricId": VaultIds(vault).fabric(provider.fabric_name),
        f"{end}FabricFriendlyName": title_of(provider),
    }


def _group(vault: Vault, facts: PlanFacts, group: RecoveryGroup) -> dict[str, Any]:
    return {
        "groupType": group.group_type.value,
        "replicationProtectedItems": [_member(vault, facts, each) for each in group.members],
        "startGroupActions": [_action(each) for each in group.before],
        "endGroupActions": [_action(each) for each in group.after],
    }


def _member(vault: Vault, facts: PlanFacts, member: str) -> dict[str, Any]:
    item = facts.items.get(member)
    fabric = facts.primary
    if item is None or fabric is None:
        return {"id": None, "virtualMachineId": member}
    return {
        "id": VaultIds(vault).in_container(
            fabric.fabric_name, item.primary_cloud_id, PROTECTED_ITEMS, item.id
        ),
        "virtualMachineId": item.primary_machine_id,
    }


def _action(action: PlanAction) -> dict[str, Any]:
    script = action.script
    details: dict[str, Any] = {
        "instanceType": "ManualActionDetails",
        "description": action.manual,
    }
    if script is not None:
        details = {
            "instanceType": "ScriptActionDetails",
            "path": script.path,
            "timeout": str(script.seconds),
            "fabricLocation": script.side.value,
        }
        if script.undo_path:
            details["undoPath"] = script.undo_path
    return {
        "actionName": action.name,
        "failoverTypes": [each.value for each in action.kinds],
        "failoverDirections": [each.value for each in action.directions],
        "customDetails": details,
    }
