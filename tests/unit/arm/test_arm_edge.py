"""What the edge does with every request: who asks, what comes, how errors look."""

import json
from typing import Any

import pytest

from service_hub.domain.errors import ConflictError, StaleVersionError
from service_hub.domain.jobs import JobState
from tests.unit.arm.arm_estate import CLOUDS, FABRICS, MACHINE
from tests.unit.arm.arm_use_cases import MemoryPolicies
from tests.unit.arm.conftest import PLANNED, PUBLIC_URL, ROOT, Surface, error_of
from wire_contract.vocabulary import Side

# ------------------------------------------------------------------------------------- who asks


@pytest.mark.parametrize("token", [None, "wrong", ""])
async def test_without_a_valid_token_every_path_is_401_and_gives_no_challenge(
    surface: Surface, token: str | None
) -> None:
    for path in (surface.item, surface.vault, "/nothing/here", "/a%0Aline/break"):
        response = await surface.ask("GET", path, token=token)
        assert response.status == 401
        assert response.headers["WWW-Authenticate"] == "Bearer"
        assert (await response.json())["error"]["code"] == "InvalidAuthenticationToken"


async def test_another_scheme_than_bearer_is_401(surface: Surface) -> None:
    headers = {"Authorization": "Basic Z29vZDpnb29k"}
    response = await surface.ask("GET", surface.vault, token=None, headers=headers)
    assert response.status == 401


async def test_a_reader_reads_and_changes_nothing(surface: Surface) -> None:
    assert (await surface.ask("GET", surface.item, token="reading")).status == 200  # noqa: S106 -- a test's
    status, error = await error_of(
        surface,
        "POST",
        f"{surface.item}/plannedFailover",
        json=PLANNED,
        token="reading",  # noqa: S106 -- a test's
    )
    assert (status, error["code"]) == (403, "AuthorizationFailed")
    assert surface.hub.identities == []


async def test_an_unknown_role_may_not_even_read(surface: Surface) -> None:
    status, _ = await error_of(surface, "GET", surface.item, token="stranger")  # noqa: S106 -- a test's
    assert status == 403


# -------------------------------------------------------------------------------------- identity


async def test_use_cases_learn_who_asked_and_which_request_it_was(surface: Surface) -> None:
    body = json.dumps(PLANNED).encode()
    headers = {"x-ms-client-request-id": "abc-1"}
    path = f"{surface.item}/plannedFailover"
    response = await surface.ask("POST", path, data=body, headers=headers)
    identity = surface.hub.identities[0]
    assert identity.principal == "anna"
    assert identity.client_request_id == "abc-1"
    assert identity.method == "POST"
    assert identity.path == path.lower()
    again = await surface.ask("POST", path, data=body + b" ", headers=headers)
    assert again.status == 202 or again.status >= 400
    assert len(identity.body_digest) == 64
    assert response.headers["x-ms-correlation-request-id"] == identity.correlation_id
    job = surface.hub.jobs[response.headers["Location"].split("/")[-1].split("?")[0]]
    assert job.activity_id == f"abc-1 ActivityId: {identity.correlation_id}"


@pytest.mark.parametrize("unfit", ["x" * 257, "caf\u00e9"])
async def test_an_unfit_client_request_id_is_refused(surface: Surface, unfit: str) -> None:
    headers = {"x-ms-client-request-id": unfit}
    status, error = await error_of(surface, "GET", surface.vault, headers=headers)
    assert (status, error["target"]) == (400, "x-ms-client-request-id")


async def test_every_answer_carries_the_common_headers(surface: Surface) -> None:
    for path in (surface.vault, f"{surface.vault}/replicationPolicies/none"):
        response = await surface.ask("GET", path, headers={"x-ms-client-request-id": "mine"})
        assert response.headers["x-ms-client-request-id"] == "mine"
        assert response.headers["x-ms-request-id"] == "mine 3/4/2026 1:54:53 PM"
        assert response.headers["Cache-Control"] == "no-cache"
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert "max-age" in response.headers["Strict-Transport-Security"]
        assert "Retry-After" not in response.headers


# -------------------------------------------------------------------------- long-running operations


async def test_a_change_answers_202_as_recorded(surface: Surface) -> None:
    response = await surface.ask(
        "POST",
        f"{surface.item}/plannedFailover?api-version=2016-08-10",
        json=PLANNED,
        headers={"Host": "evil.example"},
    )
    assert response.status == 202
    assert await response.read() == b""
    job_id = next(iter(surface.hub.jobs))
    item = f"{ROOT}/replicationFabrics/{FABRICS[Side.PRIMARY]}/replicationProtectionContainers"
    item += f"/{CLOUDS[Side.PRIMARY]}/replicationProtectedItems/{MACHINE}"
    assert response.headers["Azure-AsyncOperation"] == (
        f"{PUBLIC_URL}{ROOT}/replicationOperationStatus/{job_id}?api-version=2025-08-01"
    )
    assert response.headers["Location"] == (
        f"{PUBLIC_URL}{item}/operationresults/{job_id}?api-version=2025-08-01"
    )
    assert response.headers["Retry-After"] == "1"
    assert response.headers.getall("x-ms-request-id") == [f"{ROOT}/replicationJobs/{job_id}"] * 2


@pytest.mark.parametrize(
    ("state", "shown"),
    [
        (JobState.NOT_STARTED, "InProgress"),
        (JobState.IN_PROGRESS, "InProgress"),
        (JobState.SUSPENDED, "InProgress"),
        (JobState.SUCCEEDED, "Succeeded"),
        (JobState.FAILED, "Failed"),
        (JobState.CANCELLED, "Canceled"),
    ],
)
async def test_an_operation_has_the_state_of_its_job(
    surface: Surface, state: JobState, shown: str
) -> None:
    surface.hub.finish_jobs = False
    await surface.ask("POST", f"{surface.item}/plannedFailover", json=PLANNED)
    job = next(iter(surface.hub.jobs.values()))
    surface.hub.jobs[job.id] = job.model_copy(update={"state": state})
    for word in ("replicationOperationStatus", "operationStatus", "REPLICATIONOPERATIONSTATUS"):
        body = await surface.body(f"{surface.vault}/{word}/{job.id}")
        assert body["status"] == shown
        assert body["name"] == job.id
        assert ("error" in body) == (shown in {"Failed", "Canceled"})


async def test_results_are_202_while_the_job_runs_then_the_resource(surface: Surface) -> None:
    surface.hub.finish_jobs = False
    response = await surface.ask("POST", f"{surface.item}/plannedFailover", json=PLANNED)
    result = response.headers["Location"].removeprefix(PUBLIC_URL)
    running = await surface.ask("GET", result)
    assert running.status == 202
    assert running.headers["Location"] == f"{PUBLIC_URL}{result}"
    surface.hub.end(next(iter(surface.hub.jobs.values())))
    ended = await surface.ask("GET", result)
    assert ended.status == 200
    assert (await ended.json())["properties"]["protectionState"] == "PlannedFailoverCommitRequired"


async def test_the_result_of_a_failed_job_is_its_error(surface: Surface) -> None:
    surface.hub.fail_jobs = True
    response = await surface.ask("POST", f"{surface.item}/plannedFailover", json=PLANNED)
    surface.hub.end(next(iter(surface.hub.jobs.values())))
    status, error = await error_of(
        surface, "GET", response.headers["Location"].removeprefix(PUBLIC_URL)
    )
    assert (status, error["code"]) == (409, "28020")
    job_id = next(iter(surface.hub.jobs))
    state = await surface.body(f"{surface.vault}/replicationOperationStatus/{job_id}")
    assert state["error"]["code"] == "28020"
    assert state["error"]["details"][0]["recommendedAction"] == "Look at the host."


# ------------------------------------------------------------------------------- paths and methods


async def test_fixed_parts_and_names_match_in_any_case(surface: Surface) -> None:
    shouted = surface.item.upper().replace("%", "%")
    body = await surface.body(shouted)
    assert body["name"] == MACHINE
    response = await surface.ask("POST", f"{surface.item}/PLANNEDFAILOVER", json=PLANNED)
    assert response.status == 202


@pytest.mark.parametrize(
    "tail",
    [
        "/replicationPolicies/none",
        "/replicationJobs/none",
        "/replicationFabrics/none",
        "/replicationOperationStatus/none",
        f"/replicationFabrics/{FABRICS[Side.PRIMARY]}/replicationProtectionContainers/none",
        f"/replicationFabrics/{FABRICS[Side.PRIMARY]}/replicationNetworks/none",
        f"/replicationFabrics/{FABRICS[Side.PRIMARY]}/replicationStorageClassifications/none",
        f"/replicationFabrics/{FABRICS[Side.PRIMARY]}/replicationRecoveryServicesProviders/none",
    ],
)
async def test_an_unknown_name_is_the_recorded_404(surface: Surface, tail: str) -> None:
    status, error = await error_of(surface, "GET", surface.vault + tail)
    assert (status, error["code"]) == (404, "NotFound")
    assert error["message"] == "Specified resource with name 'none' does not exist."
    (detail,) = error["details"]
    assert detail["code"] == "ArmResourceDoesNotExist"
    assert detail["possibleCauses"] == "Ensure correct resource name was specified."
    assert detail["recommendedAction"] == "Verify ARM resource name details."
    assert detail["clientRequestId"]
    assert detail["activityId"]


async def test_an_item_is_not_found_under_another_cloud(surface: Surface) -> None:
    elsewhere = surface.item.replace(CLOUDS[Side.PRIMARY], CLOUDS[Side.RECOVERY])
    status, _ = await error_of(surface, "GET", elsewhere)
    assert status == 404
    status, _ = await error_of(surface, "POST", f"{elsewhere}/failoverCommit")
    assert status == 404
    assert surface.hub.identities == []


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/"), ("GET", "/subscriptions"), ("DELETE", "/a/b"), ("HEAD", "/x")],
)
async def test_an_unknown_path_is_404_in_arm_shape(
    surface: Surface, method: str, path: str
) -> None:
    response = await surface.ask(method, path)
    assert response.status == 404
    if method != "HEAD":
        assert (await response.json())["error"]["code"] == "InvalidResourceType"


@pytest.mark.parametrize(
    ("method", "tail", "status", "code"),
    [
        ("POST", "/replicationJobs/export", 501, "NotImplemented"),
        ("DELETE", "", 409, "Conflict"),
        ("GET", "/replicationMigrationItems", 400, "OperationNotSupported"),
        ("GET", "/replicationProtectionIntents/x", 400, "OperationNotSupported"),
    ],
)
async def test_what_is_not_offered_says_so(
    surface: Surface, method: str, tail: str, status: int, code: str
) -> None:
    response = await surface.ask(method, surface.vault + tail)
    error = (await response.json())["error"]
    assert (response.status, error["code"]) == (status, code)
    assert len(error["message"]) > 40
    assert "Retry-After" not in response.headers


async def test_a_name_longer_than_any_is_refused(surface: Surface) -> None:
    status, _ = await error_of(surface, "GET", f"{surface.vault}/replicationPolicies/{'p' * 261}")
    assert status == 400


@pytest.mark.parametrize("name", ["%00", "%ff%fe", "%ED%A0%80", "a%2Fb", "..%2f..", "%25", "%0a"])
async def test_hostile_names_are_unknown_or_refused(surface: Surface, name: str) -> None:
    for method in ("GET", "PUT"):
        response = await surface.ask(
            method, f"{surface.vault}/replicationPolicies/{name}", data=b"{}"
        )
        assert response.status in {400, 404}


# ------------------------------------------------------------------------------------------ faults


async def test_our_own_fault_is_500_with_a_reference_and_no_detail(
    surface: Surface, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def break_down(*_: Any, **__: Any) -> None:
        raise KeyError("secret detail")

    monkeypatch.setattr(MemoryPolicies, "list", break_down)
    response = await surface.ask("GET", f"{surface.vault}/replicationPolicies")
    text = await response.text()
    assert response.status == 500
    assert "secret" not in text
    assert response.headers["x-ms-correlation-request-id"] in text


@pytest.mark.parametrize("error", [ConflictError("twice"), StaleVersionError("late")])
async def test_contradictions_are_409_without_retry_after(
    surface: Surface, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    async def refuse(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(MemoryPolicies, "create", refuse)
    body = {"properties": {"providerSpecificInput": {"instanceType": "HyperVReplica2012R2"}}}
    response = await surface.ask("PUT", f"{surface.vault}/replicationPolicies/p", json=body)
    assert response.status == 409
    assert "Retry-After" not in response.headers


async def test_an_estate_that_was_never_heard_of_is_shown_all_the_same(surface: Surface) -> None:
    surface.hub.observed = False
    surface.hub.connected = False
    for tail in (
        "replicationFabrics",
        "replicationRecoveryServicesProviders",
        "replicationProtectionContainers",
        "replicationProtectedItems",
        "replicationNetworks",
        "replicationProtectionContainerMappings",
    ):
        assert "value" in await surface.body(f"{surface.vault}/{tail}")
    fabric = await surface.body(surface.fabric)
    assert fabric["properties"]["health"] == "Critical"
    assert fabric["properties"]["healthErrorDetails"][0]["errorCode"] == "25018"
