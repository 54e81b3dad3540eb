"""The official SDK over TLS against the real engine: cancel, restart and resume to their ends."""

from pathlib import Path
from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError
from azure.mgmt.recoveryservicessiterecovery import models as m

from service_hub.domain.jobs import JobState
from service_hub.domain.plans import PlanGroup, PlanRequest
from service_hub.domain.protection import Operation, ProtectionState
from tests.support.many_items import item_id, stored_item
from tests.support.sdk_desk import VAULT_NAME, Desk, desk
from wire_contract.events import Assignment
from wire_contract.reports import ProviderError

ITEM = (*VAULT_NAME, "tokyo-fabric", "tokyo-cloud", item_id(1))
PLANNED = m.PlannedFailoverInput(
    properties=m.PlannedFailoverInputProperties(failover_direction="PrimaryToRecovery")
)


def no_start(assignment: Assignment) -> ProviderError | None:
    """Answer that the replica does not start."""
    return ProviderError(code=32768, message="no") if assignment.verb == "start" else None


async def newest(desk: Desk) -> Any:
    """Return the newest job as the SDK reads it."""
    listed = [each async for each in desk.client.replication_jobs.list(*VAULT_NAME)]
    return await desk.client.replication_jobs.get(*VAULT_NAME, str(listed[0].name))


async def test_a_failover_is_cancelled_and_leaves_the_item_as_it_was(tmp_path: Path) -> None:
    async with desk(tmp_path) as hub:
        jobs, items = hub.client.replication_jobs, hub.client.replication_protected_items
        await items.begin_planned_failover(*ITEM, PLANNED, polling=False)
        job = await newest(hub)
        assert (job.properties.state, job.properties.allowed_actions) == ("InProgress", ["Cancel"])
        await hub.sites.until(job.name, lambda _: "tokyo shut_down 1" in hub.sites.done)
        busy: Any = await items.get(*ITEM)
        assert busy.properties.current_scenario.scenario_name == "PlannedFailover"
        poller = await jobs.begin_cancel(
            *VAULT_NAME, job.name, headers={"x-ms-client-request-id": "stop-it"}
        )
        cancelling: Any = await poller.result()
        assert cancelling.properties.state == "Cancelling"
        done = await hub.sites.ended(job.name)
        assert done.state is JobState.CANCELLED
        again = await jobs.begin_cancel(
            *VAULT_NAME, job.name, headers={"x-ms-client-request-id": "stop-it"}
        )
        repeated: Any = await again.result()
        assert repeated.properties.state == "Cancelled"
        with pytest.raises(HttpResponseError) as refused:
            await jobs.begin_restart(*VAULT_NAME, job.name)
        assert refused.value.error is not None
        assert refused.value.error.code == "CannotRemediateSucceededWorkflow"
        free: Any = await items.get(*ITEM)
        assert free.properties.current_scenario.scenario_name == "None"
        assert "PlannedFailover" in free.properties.allowed_operations


async def test_a_failed_failover_is_restarted_and_its_poller_ends_well(tmp_path: Path) -> None:
    async with desk(tmp_path) as hub:
        jobs, items = hub.client.replication_jobs, hub.client.replication_protected_items
        await items.begin_planned_failover(*ITEM, PLANNED, polling=False)
        job = await newest(hub)
        await hub.sites.ended(job.name, no_start)
        failed: Any = await jobs.get(*VAULT_NAME, job.name)
        assert failed.properties.allowed_actions == ["Restart"]
        (error,) = failed.properties.errors
        assert error.service_error_details.code == "28020"
        assert error.provider_error_details.error_code == 32768
        assert error.task_id == "StartVmOnSecondary"
        poller = await jobs.begin_restart(*VAULT_NAME, job.name)
        restarted: Any = await poller.result()
        assert (restarted.name, restarted.properties.errors) == (job.name, [])
        await hub.sites.ended(job.name)
        done: Any = await jobs.get(*VAULT_NAME, job.name)
        assert done.properties.state_description == "Completed"
        item = await stored_item(hub.world, 1)
        assert item.state is ProtectionState.PLANNED_FAILED_OVER


async def test_a_plan_is_a_tree_and_waits_for_a_person(tmp_path: Path) -> None:
    async with desk(tmp_path) as hub:
        jobs, world = hub.client.replication_jobs, hub.world
        groups = (
            PlanGroup("Group 1", (item_id(1),)),
            PlanGroup("Group 2", (item_id(2),), "Look at the door."),
        )
        direction = {"failover_direction": "PrimaryToRecovery"}
        plan = PlanRequest("plan-id", "Payroll", Operation.PLANNED_FAILOVER, groups, direction)
        begun = await world.plans.start_plan(world.vault, plan, world.identity())
        await hub.sites.until(begun.id, lambda job: job.state is JobState.SUSPENDED)
        job: Any = await jobs.get(*VAULT_NAME, begun.id)
        assert job.properties.target_instance_type == "RecoveryPlan"
        assert job.properties.state_description == "WaitingForManualAction"
        _, first, action, second = job.properties.tasks
        (child,) = first.group_task_custom_details.child_tasks
        assert (child.state, child.friendly_name) == ("Succeeded", "web01")
        assert len(child.group_task_custom_details.child_tasks) == 5
        assert action.custom_details.instructions == "Look at the door."
        assert second.group_task_custom_details.child_tasks[0].state == "NotStarted"
        resume = m.ResumeJobParams(properties=m.ResumeJobParamsProperties(comments="it is locked"))
        poller = await jobs.begin_resume(*VAULT_NAME, begun.id, resume)
        await poller.result()
        await hub.sites.ended(begun.id)
        done: Any = await jobs.get(*VAULT_NAME, begun.id)
        assert done.properties.state == "Succeeded"
        assert done.properties.tasks[2].custom_details.observation == "it is locked"
        listed = [each.name async for each in jobs.list(*VAULT_NAME)]
        assert listed == [begun.id]


async def test_a_policy_that_would_stop_healthy_guests_is_refused(tmp_path: Path) -> None:
    def wanted(name: str, seconds: int) -> Any:
        own = {"instanceType": "HyperVReplica2012R2", "selfFenceSeconds": seconds}
        return {"properties": {name: own}}

    async with desk(tmp_path) as hub:
        policies = hub.client.replication_policies
        body = wanted("providerSpecificInput", 179)
        # Heartbeats come every minute here.
        with pytest.raises(HttpResponseError) as refused:
            await policies.begin_create(*VAULT_NAME, "quick", body, polling=False)
        assert refused.value.status_code == 400
        assert "at least 180: 3 heartbeats of 60 s" in refused.value.message
        body = wanted("providerSpecificInput", 180)
        await policies.begin_create(*VAULT_NAME, "slow", body, polling=False)
        body = wanted("replicationProviderSettings", 90)
        with pytest.raises(HttpResponseError) as refused:
            await policies.begin_update(*VAULT_NAME, "slow", body, polling=False)
        assert "at least 180" in refused.value.message
