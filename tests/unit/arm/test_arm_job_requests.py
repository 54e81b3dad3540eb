"""Jobs on the surface: what may be asked of them, task trees, and what refusals say."""

from typing import Any

import pytest

from service_hub.domain.jobs import Job, JobState
from service_hub.domain.protection import ProtectionState, TestState
from service_hub.domain.records import CurrentScenario
from tests.unit.arm.arm_estate import MACHINE, NOW
from tests.unit.arm.arm_jobs import OTHER_MACHINE, plan_with_children, suspended
from tests.unit.arm.conftest import PLANNED, Surface, error_of


async def begun(surface: Surface) -> Job:
    """Let a planned failover run on."""
    surface.hub.finish_jobs = False
    response = await surface.ask("POST", f"{surface.item}/plannedFailover", json=PLANNED)
    assert response.status == 202
    return list(surface.hub.jobs.values())[-1]


async def properties(surface: Surface, job: Job) -> dict[str, Any]:
    """Return what the surface shows of a job."""
    shown: dict[str, Any] = (await surface.body(f"{surface.vault}/replicationJobs/{job.id}"))[
        "properties"
    ]
    return shown


@pytest.mark.parametrize(
    ("state", "actions", "status"),
    [
        (JobState.IN_PROGRESS, ["Cancel"], "InProgress"),
        (JobState.FAILED, ["Restart"], "Failed"),
        (JobState.SUCCEEDED, [], "Succeeded"),
        (JobState.CANCELLED, [], "Canceled"),
    ],
)
async def test_a_job_offers_what_is_recorded(
    surface: Surface, state: JobState, actions: list[str], status: str
) -> None:
    job = await begun(surface)
    surface.hub.jobs[job.id] = job.model_copy(update={"state": state})
    shown = await properties(surface, job)
    assert (shown["state"], shown["allowedActions"]) == (state.value, actions)
    assert {tuple(task["allowedActions"]) for task in shown["tasks"]} == {()}
    body = await surface.body(f"{surface.vault}/replicationOperationStatus/{job.id}")
    assert body["status"] == status


async def test_a_request_ends_when_it_is_taken_with_the_job_as_it_is(surface: Surface) -> None:
    job = await begun(surface)
    path = f"{surface.vault}/replicationJobs/{job.id}"
    response = await surface.ask("POST", f"{path.upper()}/cancel")
    assert (response.status, await response.read()) == (202, b"")
    assert response.headers["Retry-After"] == "1"
    assert len(response.headers.getall("x-ms-request-id")) == 2
    state_url, result_url = (
        response.headers[name].partition("hub.example:8443")[2].partition("?")[0]
        for name in ("Azure-AsyncOperation", "Location")
    )
    assert state_url.endswith(f"/replicationOperationStatus/{job.id}_cancel")
    assert result_url.endswith(f"/replicationJobs/{job.id}/operationresults/{job.id}")
    assert (await surface.body(state_url))["status"] == "Succeeded"
    result = await surface.body(result_url)
    assert (result["name"], result["properties"]["state"]) == (job.id, "Cancelled")


async def test_a_job_that_is_being_cancelled_says_so(surface: Surface) -> None:
    job = await begun(surface)
    await surface.ask("POST", f"{surface.vault}/replicationJobs/{job.id}/cancel")
    undoing = surface.hub.jobs[job.id].model_copy(update={"state": JobState.IN_PROGRESS})
    surface.hub.jobs[job.id] = undoing
    shown = await properties(surface, job)
    assert (shown["state"], shown["allowedActions"]) == ("Cancelling", [])
    status, error = await error_of(
        surface, "POST", f"{surface.vault}/replicationJobs/{job.id}/cancel"
    )
    assert (status, error["code"]) == (409, "JobCannotBeCancelled")
    assert "being cancelled" in error["message"]


@pytest.mark.parametrize(
    ("state", "request_name", "code"),
    [
        (JobState.SUCCEEDED, "restart", "CannotRemediateSucceededWorkflow"),
        (JobState.IN_PROGRESS, "restart", "CannotRemediateSucceededWorkflow"),
        (JobState.SUCCEEDED, "cancel", "JobCannotBeCancelled"),
        (JobState.FAILED, "cancel", "JobCannotBeCancelled"),
        (JobState.IN_PROGRESS, "resume", "JobCannotBeResumed"),
    ],
)
async def test_what_a_job_does_not_offer_is_refused_with_what_it_does(
    surface: Surface, state: JobState, request_name: str, code: str
) -> None:
    job = await begun(surface)
    surface.hub.jobs[job.id] = job.model_copy(update={"state": state})
    status, error = await error_of(
        surface, "POST", f"{surface.vault}/replicationJobs/{job.id}/{request_name}"
    )
    assert (status, error["code"]) == (409, code)
    assert state.value in error["message"]
    assert "llow" in error["message"]


@pytest.mark.parametrize("request_name", ["cancel", "restart", "resume"])
async def test_requests_to_jobs_are_changes(surface: Surface, request_name: str) -> None:
    job = await begun(surface)
    path = f"{surface.vault}/replicationJobs/{job.id}/{request_name}"
    status, error = await error_of(surface, "POST", path, token="reading")  # noqa: S106 -- known to the hub in memory alone
    assert (status, error["code"]) == (403, "AuthorizationFailed")
    status, error = await error_of(
        surface, "POST", f"{surface.vault}/replicationJobs/none/{request_name}"
    )
    assert (status, error["code"]) == (404, "NotFound")


@pytest.mark.parametrize(
    "body", [b"[]", b'{"properties": {"comments": 7}}', b'{"properties": {"comments"', b"\xff"]
)
async def test_a_resume_with_a_broken_body_changes_nothing(surface: Surface, body: bytes) -> None:
    job = suspended(surface.hub, plan_with_children(surface.hub, await begun(surface)))
    path = f"{surface.vault}/replicationJobs/{job.id}/resume"
    status, error = await error_of(surface, "POST", path, data=body)
    assert (status, error["code"]) == (400, "InvalidRequest")
    assert surface.hub.jobs[job.id].requests == ()


@pytest.mark.parametrize("name", ["{job}_begin", "{job}_", "none_cancel", "_cancel"])
async def test_states_of_other_operations_are_not_found(surface: Surface, name: str) -> None:
    job = await begun(surface)
    operation = name.format(job=job.id)
    path = f"{surface.vault}/replicationOperationStatus/{operation}"
    response = await surface.ask("GET", path)
    assert response.status == (200 if operation == f"{job.id}_" else 404)
    other = f"{surface.vault}/replicationJobs/{job.id}/operationresults/other"
    assert (await surface.ask("GET", other)).status == 404


async def test_a_group_shows_its_child_jobs_as_inline_workflows(surface: Surface) -> None:
    plan = plan_with_children(surface.hub, await begun(surface))
    group, action = (await properties(surface, plan))["tasks"]
    assert (group["taskType"], group["customDetails"]) == ("GroupTaskDetails", None)
    details = group["groupTaskCustomDetails"]
    assert details["instanceType"] == "GroupTaskDetails"
    running, waiting = details["childTasks"]
    assert running["customDetails"]["jobTask"]["jobScenarioName"] == "PlannedFailover"
    below = running["groupTaskCustomDetails"]
    assert below["instanceType"] == "InlineWorkflowTaskDetails"
    assert below["workflowIds"] == [running["taskId"]]
    assert len(below["childTasks"]) == 5
    assert (waiting["friendlyName"], waiting["state"]) == (OTHER_MACHINE, "NotStarted")
    assert (action["taskType"], action["state"]) == ("ManualActionTaskDetails", "NotStarted")
    assert action["customDetails"]["instructions"] == "Look at the door."
    listed = (await surface.body(f"{surface.vault}/replicationJobs"))["value"]
    assert [each["name"] for each in listed] == [plan.id]


async def test_a_suspended_job_waits_for_a_person_and_is_resumed(surface: Surface) -> None:
    job = suspended(surface.hub, plan_with_children(surface.hub, await begun(surface)))
    shown = await properties(surface, job)
    assert (shown["state"], shown["stateDescription"]) == ("Suspended", "WaitingForManualAction")
    assert sorted(shown["allowedActions"]) == ["Cancel", "Resume"]
    assert shown["tasks"][1]["state"] == "Suspended"
    path = f"{surface.vault}/replicationJobs/{job.id}/resume"
    response = await surface.ask("POST", path, json={"Properties": {"Comments": "done"}})
    assert response.status == 202
    assert surface.hub.jobs[job.id].requests[-1].comments == "done"


async def test_what_is_part_of_another_job_is_asked_of_that_one(surface: Surface) -> None:
    plan = plan_with_children(surface.hub, await begun(surface))
    child = next(each for each in surface.hub.jobs.values() if each.parent_id == plan.id)
    status, error = await error_of(
        surface, "POST", f"{surface.vault}/replicationJobs/{child.id}/cancel"
    )
    assert status == 409
    assert plan.id in error["message"]


async def test_an_item_that_a_plan_holds_names_it_and_offers_nothing(surface: Surface) -> None:
    holder = CurrentScenario(scenario_name="PlannedFailover", job_id="plan", started_at=NOW)
    surface.hub.items[MACHINE] = surface.hub.items[MACHINE].model_copy(update={"plan": holder})
    shown = (await surface.body(surface.item))["properties"]
    assert shown["allowedOperations"] == []
    assert shown["currentScenario"]["scenarioName"] == "PlannedFailover"
    assert shown["currentScenario"]["jobId"].endswith("/replicationJobs/plan")


async def test_an_open_test_says_until_when_it_may_be_open(surface: Surface) -> None:
    update = {
        "state": ProtectionState.TEST_OPEN,
        "test_state": TestState.WAITING_FOR_COMPLETION,
        "test_opened_at": NOW,
    }
    surface.hub.items[MACHINE] = surface.hub.items[MACHINE].model_copy(update=update)
    shown = (await surface.body(surface.item))["properties"]
    assert shown["testFailoverState"] == "WaitingForCompletion"
    assert "since 2026-03-04" in shown["testFailoverStateDescription"]
    assert "2026-03-18" in shown["testFailoverStateDescription"]
