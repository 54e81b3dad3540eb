"""The audit log of a real hub: changes, refusals, who and what, and never a secret."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from tests.support.operators import as_role
from tests.support.real_hub import VAULTS, RealHub, real_hub
from wire_contract.audit_chain import broken_at

POLICY = {"properties": {"providerSpecificInput": {"instanceType": "HyperVReplica2012R2"}}}


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory, ports: Callable[[], int]) -> Iterator[RealHub]:
    with real_hub(tmp_path_factory.mktemp("audit"), ports) as running:
        yield running


def lines(hub: RealHub, path: str) -> list[dict[str, Any]]:
    """Return the lines of an export, whose chain must hold."""
    answer = hub.operator("GET", path)
    assert answer.code == 200, answer
    rows = [json.loads(row) for row in answer.body.splitlines()]
    assert broken_at(rows) is None
    for secret in (hub.token, "Bearer"):
        assert secret not in answer.body.decode()
    return [json.loads(row["line"]) for row in rows]


def test_who_changed_what_is_told_with_the_job_and_the_status(hub: RealHub) -> None:
    vault_id = hub.vault("prod")
    made = hub.operator("PUT", f"{VAULTS}/prod/replicationPolicies/p", POLICY)
    assert made.code == 202
    refused = as_role(hub, "Reader").operator("DELETE", f"{VAULTS}/prod/replicationPolicies/p")
    assert refused.code == 403
    assert hub.operator("GET", f"{VAULTS}/prod/replicationPolicies").code == 200
    told = lines(hub, f"/hub/v1/vaults/{vault_id}/audit")
    short = [(each["event"], each["method"], each["status"], each["principal"]) for each in told]
    assert short == [
        ("change_stored", "PUT", None, "anna"),
        ("request_answered", "PUT", 201, "anna"),
        ("change_stored", "PUT", None, "anna"),
        ("request_answered", "PUT", 202, "anna"),
        ("request_answered", "DELETE", 403, "olga"),
    ]
    job_id = told[2]["job_id"]
    assert job_id is not None
    assert job_id in made.headers["Azure-AsyncOperation"]
    assert told[3]["job_id"] == job_id
    assert told[2]["correlation_id"] == made.headers["x-ms-correlation-request-id"]
    assert told[3]["correlation_id"] == told[2]["correlation_id"]
    assert told[2]["target"].lower() == f"{VAULTS}/prod/replicationpolicies/p".lower()
    assert {each["address"] for each in told} == {"127.0.0.1"}


def test_refusals_are_told_to_who_administers_the_hub(hub: RealHub) -> None:
    stranger = replace(hub, token="x.y.z")  # noqa: S106 -- no token at all
    assert stranger.operator("GET", "/hub/v1/vaults").code == 401
    assert as_role(hub, "Reader").operator("DELETE", f"{VAULTS}/none").code == 403
    assert hub.operator("GET", "/hub/v1/audit").code == 403
    owner = as_role(hub, "Owner", "otto")
    told = lines(owner, "/hub/v1/audit")
    found = [(each["principal"], each["method"], each["status"], each["error"]) for each in told]
    assert ("", "GET", 401, "InvalidAuthenticationToken") in found
    assert ("olga", "DELETE", 403, "AuthorizationFailed") in found
    assert ("anna", "GET", 403, "AuthorizationFailed") in found


def test_an_export_goes_on_where_another_ended(hub: RealHub) -> None:
    path = f"/hub/v1/vaults/{hub.vault('prod')}/audit"
    rows = [json.loads(row) for row in hub.operator("GET", path).body.splitlines()]
    later = hub.operator("GET", f"{path}?after={rows[0]['number']}")
    assert [json.loads(row) for row in later.body.splitlines()] == rows[1:]
    for wrong in ("x", "1", "1.", "-1.0", "9" * 40 + ".0"):
        refused = hub.operator("GET", f"{path}?after={wrong}")
        assert (refused.code, refused.content["error"]["code"]) == (400, "InvalidRequest"), wrong
    assert not hub.failures
