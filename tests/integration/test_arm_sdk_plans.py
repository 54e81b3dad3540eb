"""The official SDK over TLS against the real engine: recovery plans, saved, run and deleted."""

from pathlib import Path
from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError
from azure.mgmt.recoveryservicessiterecovery import models as m

from service_hub.domain.jobs import Job, JobState
from service_hub.plan_ports import PlanContent
from tests.support.many_items import Answer, an_item, furnish, item_id, well
from tests.support.sdk_desk import VAULT_NAME, Desk, desk
from wire_contract.events import Assignment
from wire_contract.reports import ProviderError

PLAN = (*VAULT_NAME, "Payroll")
ROOT = "/subscriptions/s/resourceGroups/rg/providers/Microsoft.RecoveryServices/vaults/v"
TOKYO = f"{ROOT}/replicationFabrics/tokyo-fabric"
OSAKA = f"{ROOT}/replicationFabrics/osaka-fabric"
P2R: Any = ["PrimaryToRecovery"]


def member(number: int) -> m.RecoveryPlanProtectedItem:
    """Return a machine of a group."""
    container = f"{TOKYO}/replicationProtectionContainers/tokyo-cloud"
    return m.RecoveryPlanProtectedItem(
        id=f"{container}/replicationProtectedItems/{item_id(number)}",
        virtual_machine_id=item_id(number),
    )


def manual(name: str, *kinds: str) -> m.RecoveryPlanAction:
    """Return something for a person to do."""
    return m.RecoveryPlanAction(
        action_name=name,
        failover_types=list(kinds),
        failover_directions=P2R,
        custom_details=m.RecoveryPlanManualActionDetails(description=f"Do: {name}"),
    )


def script(name: str, *kinds: str, location: str = "Recovery") -> m.RecoveryPlanAction:
    """Return a script of the library."""
    return m.RecoveryPlanAction(
        action_name=name,
        failover_types=list(kinds),
        failover_directions=P2R,
        custom_details=m.RecoveryPlanScriptActionDetails(
            path="\\RPScripts\\update.py", timeout="30", fabric_location=location
        ),
    )


def boot(*numbers: int, before: Any = (), after: Any = ()) -> m.RecoveryPlanGroup:
    """Return a group of these machines."""
    return m.RecoveryPlanGroup(
        group_type="Boot",
        replication_protected_items=[member(each) for each in numbers],
        start_group_actions=list(before),
        end_group_actions=list(after),
    )


async def save(hub: Desk, *groups: m.RecoveryPlanGroup) -> Any:
    """Create the plan."""
    properties = m.CreateRecoveryPlanInputProperties(
        primary_fabric_id=TOKYO,
        recovery_fabric_id=OSAKA,
        failover_deployment_model="NotApplicable",
        groups=list(groups),
    )
    plans = hub.client.replication_recovery_plans
    poller = await plans.begin_create(*PLAN, m.CreateRecoveryPlanInput(properties=properties))
    return await poller.result()


async def run(hub: Desk, begin: Any, *bodies: Any) -> Any:
    """Ask for an operation on the plan and return its job as the SDK reads it."""
    await begin(*PLAN, *bodies, polling=False)
    newest = await anext(aiter(hub.client.replication_jobs.list(*VAULT_NAME)))
    return await hub.client.replication_jobs.get(*VAULT_NAME, str(newest.name))


async def ended(hub: Desk, job_id: str, answer: Answer = well) -> Job:
    """Return the job once it has ended and let go of the plan and its machines."""
    done = await hub.sites.ended(job_id, answer)
    plans, vault = hub.world.recovery_plans, hub.world.vault
    while (await plans.find(vault, "Payroll")).plan.current is not None:
        await hub.world.committer.until_next()
    return done


async def phase(hub: Desk) -> tuple[str, str, str]:
    """Return which scenario the plan shows, and where that is."""
    shown: Any = (await hub.client.replication_recovery_plans.get(*PLAN)).properties
    return (
        shown.current_scenario.scenario_name,
        shown.current_scenario_status,
        shown.current_scenario_status_description,
    )


PLANNED = m.RecoveryPlanPlannedFailoverInput(
    properties=m.RecoveryPlanPlannedFailoverInputProperties(failover_direction="PrimaryToRecovery")
)


async def test_a_plan_is_saved_shown_changed_and_deleted(tmp_path: Path) -> None:
    async with desk(tmp_path) as hub:
        plans = hub.client.replication_recovery_plans
        made = await save(hub, boot(1, after=[manual("Look", "PlannedFailover")]), boot(2))
        assert made.name == "Payroll"
        shown: Any = (await plans.get(*PLAN)).properties
        kinds = [each.group_type for each in shown.groups]
        assert kinds == ["Shutdown", "Failover", "Boot", "Boot"]
        assert shown.allowed_operations == [
            "PlannedFailover",
            "UnplannedFailover",
            "TestFailover",
        ]
        assert (shown.current_scenario, shown.failover_deployment_model) == (None, "NotApplicable")
        (action,) = shown.groups[2].end_group_actions
        assert action.custom_details.description == "Do: Look"
        (listed,) = [each async for each in plans.list(*VAULT_NAME)]
        assert listed.name == "Payroll"
        # The machine of the second group moves into the first.
        groups = [*shown.groups[:2], boot(1, 2), boot()]
        change = m.UpdateRecoveryPlanInput(
            properties=m.UpdateRecoveryPlanInputProperties(groups=groups)
        )
        changed: Any = await (await plans.begin_update(*PLAN, change)).result()
        sizes = [len(each.replication_protected_items) for each in changed.properties.groups]
        assert sizes == [0, 0, 2, 0]
        items = hub.client.replication_protected_items
        filtered = items.list(*VAULT_NAME, filter="RecoveryPlanName eq 'Payroll'")
        assert {str(each.name) async for each in filtered} == {item_id(1), item_id(2)}
        await (await plans.begin_delete(*PLAN)).result()
        with pytest.raises(ResourceNotFoundError):
            await plans.get(*PLAN)
        jobs: list[Any] = [each async for each in hub.client.replication_jobs.list(*VAULT_NAME)]
        told = [(each.properties.scenario_name, each.properties.friendly_name) for each in jobs]
        assert told == [
            ("DeleteRecoveryPlan", "Delete a recovery plan"),
            ("UpdateRecoveryPlan", "Save a recovery plan"),
            ("SaveRecoveryPlan", "Save a recovery plan"),
        ]


async def test_a_plan_runs_with_scripts_and_people_and_is_led_to_its_end(tmp_path: Path) -> None:
    async with desk(tmp_path) as hub:
        plans, asked = hub.client.replication_recovery_plans, list[Assignment]()
        await save(
            hub,
            m.RecoveryPlanGroup(
                group_type="Shutdown",
                start_group_actions=[script("Tell", "PlannedFailover", location="Primary")],
            ),
            boot(1, before=[script("Never", "UnplannedFailover")]),
            boot(
                2,
                before=[manual("Look", "PlannedFailover")],
                after=[script("Update DNS", "PlannedFailover")],
            ),
        )

        def answer(assignment: Assignment) -> None:
            asked.append(assignment)

        job = await run(hub, plans.begin_planned_failover, PLANNED)
        assert job.properties.target_object_name == "Payroll"
        busy: Any = (await plans.get(*PLAN)).properties
        assert (await phase(hub))[:2] in {
            ("PlannedFailover", "NotStarted"),
            ("PlannedFailover", "InProgress"),
        }
        assert busy.allowed_operations == []
        refused = await run(hub, plans.begin_delete)
        assert [each.service_error_details.code for each in refused.properties.errors] == ["532"]
        waiting = await hub.sites.until(
            job.name, lambda each: each.state is JobState.SUSPENDED, answer
        )
        assert await phase(hub) == ("PlannedFailover", "Suspended", "WaitingForManualAction")
        await hub.world.jobs.resume(hub.world.vault, waiting.id, "seen", hub.world.identity())
        hub.world.results["run_script"] = {"exit_code": 0, "output": "done", "errors": ""}
        await ended(hub, job.name, answer)
        first, *_, last = hub.sites.done
        assert (first, last) == ("tokyo run_script", "osaka run_script")
        done: Any = await hub.client.replication_jobs.get(*VAULT_NAME, job.name)
        assert done.properties.state == "Succeeded"
        texts = [each.friendly_name for each in done.properties.tasks]
        assert texts == [
            "Recovery plan preflight checks",
            "All groups shutdown: pre-steps (1) Tell",
            "Group 1",
            "Group 2: pre-steps (1) Look",
            "Group 2",
            "Group 2: post-steps (1) Update DNS",
        ]
        details = done.properties.tasks[-1].custom_details
        assert (details.path, details.output, details.is_primary_side_script) == (
            "\\RPScripts\\update.py",
            "done",
            False,
        )
        order = asked[-1]
        assert (order.item, order.target) == (None, done.properties.target_object_id)
        context: Any = order.arguments["context"]
        assert (context["group"], context["when"], context["side"]) == (
            "Group 2",
            "after",
            "Recovery",
        )
        replica = an_item(2).recovery_machine_id
        assert context["machines"] == [{"item": item_id(2), "name": "web02", "machine_id": replica}]
        after: Any = (await plans.get(*PLAN)).properties
        assert after.last_planned_failover_time == done.properties.start_time
        assert (after.last_test_failover_time, after.last_unplanned_failover_time) == (None, None)
        assert await phase(hub) == ("PlannedFailover", "Succeeded", "Completed")
        assert after.allowed_operations == ["Commit", "CancelFailover", "ReverseReplicate"]
        for begin in (plans.begin_failover_commit, plans.begin_reprotect):
            job = await run(hub, begin)
            done = await ended(hub, job.name)
            assert done.state is JobState.SUCCEEDED


async def test_a_test_of_a_plan_is_cleaned_up_backwards(tmp_path: Path) -> None:
    async with desk(tmp_path) as hub:
        plans = hub.client.replication_recovery_plans
        await save(
            hub,
            boot(1),
            boot(2, after=[script("Update", "TestFailover", "TestFailoverCleanup")]),
        )
        wanted = m.RecoveryPlanTestFailoverInput(
            properties=m.RecoveryPlanTestFailoverInputProperties(
                failover_direction="PrimaryToRecovery", network_type="NoNetworkAttachAsInput"
            )
        )
        tested = await run(hub, plans.begin_test_failover, wanted)
        asked: list[Assignment] = []

        def answer(assignment: Assignment) -> None:
            if assignment.verb == "run_script":
                asked.append(assignment)

        assert (await ended(hub, tested.name, answer)).state is JobState.SUCCEEDED
        assert await phase(hub) == ("TestFailover", "Suspended", "WaitingForStopTestFailover")
        during_test: Any = (await plans.get(*PLAN)).properties
        assert during_test.allowed_operations == ["TestFailoverCleanup"]
        assert during_test.last_test_failover_time is not None
        hub.sites.done.clear()
        cleanup = m.RecoveryPlanTestFailoverCleanupInput(
            properties=m.RecoveryPlanTestFailoverCleanupInputProperties(comments="went well")
        )
        cleaned = await run(hub, plans.begin_test_failover_cleanup, cleanup)
        assert (await ended(hub, cleaned.name, answer)).state is JobState.SUCCEEDED
        assert await phase(hub) == ("TestFailoverCleanup", "Succeeded", "Completed")
        assert hub.sites.done[0] == "osaka run_script"
        assert hub.sites.done[-1] == "osaka remove_test_machine 1"
        during, afterwards = [each.arguments["context"] for each in asked]
        assert isinstance(during, dict)
        assert isinstance(afterwards, dict)
        assert during["machines"] == afterwards["machines"], "both are about the test machine"


async def test_a_failover_of_a_plan_is_cancelled_and_its_scripts_undone(tmp_path: Path) -> None:
    async with desk(tmp_path) as hub:
        plans = hub.client.replication_recovery_plans
        update = script("Update", "PlannedFailover")
        await save(hub, boot(1), boot(2, after=[update]))
        stored = await hub.world.recovery_plans.find(hub.world.vault, "Payroll")
        (action,) = stored.plan.groups[-1].after
        assert action.script is not None
        undone = action.model_copy(
            update={"script": action.script.model_copy(update={"undo_path": "undo.py"})}
        )
        groups = (
            *stored.plan.groups[:-1],
            stored.plan.groups[-1].model_copy(update={"after": (undone,)}),
        )
        saved = await hub.world.recovery_plans.save(
            hub.world.vault, "Payroll", PlanContent(groups), hub.world.identity()
        )
        await ended(hub, saved.id)
        job = await run(hub, plans.begin_planned_failover, PLANNED)
        await ended(hub, job.name)
        paths: list[Any] = []

        def answer(assignment: Assignment) -> None:
            paths.append(assignment.arguments.get("path"))

        cancelled = await run(hub, plans.begin_failover_cancel)
        done = await ended(hub, cancelled.name, answer)
        assert (done.state, paths[0]) == (JobState.SUCCEEDED, "undo.py")
        shown: Any = (await plans.get(*PLAN)).properties
        assert "PlannedFailover" in shown.allowed_operations


async def test_an_unplanned_failover_goes_on_past_a_script_that_fails(tmp_path: Path) -> None:
    async with desk(tmp_path) as hub:
        plans = hub.client.replication_recovery_plans
        await save(hub, boot(1, before=[script("Update", "UnplannedFailover")]), boot(2))
        wanted = m.RecoveryPlanUnplannedFailoverInput(
            properties=m.RecoveryPlanUnplannedFailoverInputProperties(
                failover_direction="PrimaryToRecovery", source_site_operations="NotRequired"
            )
        )
        job = await run(hub, plans.begin_unplanned_failover, wanted)

        def answer(assignment: Assignment) -> ProviderError | None:
            if assignment.verb != "run_script":
                return None
            return ProviderError(code=90073, message="the script ended with exit code 3")

        done = await ended(hub, job.name, answer)
        assert (done.state, [each.code for each in done.errors]) == (JobState.FAILED, ["28020"])
        assert "osaka start 2" in hub.sites.done
        shown: Any = await hub.client.replication_jobs.get(*VAULT_NAME, job.name)
        assert "exit code 3" in shown.properties.tasks[1].custom_details.output


@pytest.mark.parametrize(
    ("groups", "target", "words"),
    [
        ([boot(1), boot(1)], "groups", "stands in the plan twice"),
        ([boot() for _ in range(8)], "groups", "at most 7"),
        ([boot(9)], "groups[2].replicationProtectedItems", "no protected item"),
        ([boot(1, before=[manual("Look", "Failback")])], "groups[0]", "No plan does 'Failback'"),
        ([boot(1, before=[manual("Look")])], "failoverTypes", "needs the kinds"),
        (
            [
                m.RecoveryPlanGroup(
                    group_type="Shutdown",
                    end_group_actions=[manual("Look", "PlannedFailover")],
                )
            ],
            "groups[0].endGroupActions",
            "can't be run",
        ),
        (
            [
                boot(
                    1,
                    before=[
                        m.RecoveryPlanAction(
                            action_name="Book",
                            failover_types=["PlannedFailover"],
                            failover_directions=P2R,
                            custom_details=m.RecoveryPlanAutomationRunbookActionDetails(
                                fabric_location="Primary"
                            ),
                        )
                    ],
                )
            ],
            "groups[0].startGroupActions[0]",
            "Runbooks of Azure Automation can't be run",
        ),
    ],
)
async def test_a_plan_that_could_not_run_is_refused(
    tmp_path: Path, groups: list[m.RecoveryPlanGroup], target: str, words: str
) -> None:
    async with desk(tmp_path) as hub:
        with pytest.raises(HttpResponseError) as refused:
            await save(hub, *groups)
        assert refused.value.error is not None
        assert words in str(refused.value.error.message)
        assert target in str(refused.value.error.target)


async def test_a_plan_holds_a_thousand_machines(tmp_path: Path) -> None:
    async with desk(tmp_path) as hub:
        numbers = range(1, 1001)
        await furnish(hub.world, *(an_item(each) for each in numbers))
        made = await save(hub, boot(*numbers))
        assert len(made.properties.groups[2].replication_protected_items) == len(numbers)
