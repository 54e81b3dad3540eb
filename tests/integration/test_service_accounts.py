"""Service accounts against a real hub: OAuth as clients do it, rights in one vault, revocation."""

import json
import urllib.parse
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certs.tls import client_context
from tests.support.operators import as_role
from tests.support.real_hub import VAULTS, Answer, RealHub, real_hub, send

ACCOUNTS = "/hub/v1/service-accounts"
POLICIES = "replicationPolicies"


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory, ports: Callable[[], int]) -> Iterator[RealHub]:
    with real_hub(tmp_path_factory.mktemp("accounts"), ports) as running:
        yield running


def ask_token(hub: RealHub, form: bytes, tenant: str = "any") -> Answer:
    place = (hub.settings.operator.port, client_context(hub.root_pem))
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    return send(place, "POST", f"/{tenant}/oauth2/v2.0/token", form, headers)


def form(client_id: str, secret: str, **further: str) -> bytes:
    fields = {
        "grant_type": "client_credentials",
        "client_id": client_id,
        "client_secret": secret,
        "scope": "https://hub/.default",
        **further,
    }
    return urllib.parse.urlencode(fields).encode()


def made(hub: RealHub, name: str, *grants: dict[str, str]) -> dict[str, Any]:
    owner = as_role(hub, "Owner", "otto")
    answer = owner.operator("POST", ACCOUNTS, {"name": name, "grants": list(grants)})
    assert answer.code == 201, answer
    content: dict[str, Any] = answer.content
    return content


def logged_in(hub: RealHub, account: dict[str, Any]) -> RealHub:
    answer = ask_token(hub, form(account["client_id"], account["client_secret"]))
    assert answer.code == 200, answer
    assert {answer.content["token_type"], answer.content["expires_in"]} == {"Bearer", 3600}
    return replace(hub, token=answer.content["access_token"])


def test_an_account_has_its_role_in_its_vault_and_no_other_is_there(hub: RealHub) -> None:
    mine, _ = hub.vault("mine"), hub.vault("other")
    robot = logged_in(hub, made(hub, "robot", {"role": "Operator", "vault_id": mine}))
    listed = robot.operator("GET", "/hub/v1/vaults").content["vaults"]
    assert [each["name"] for each in listed] == ["mine"]
    listed = robot.operator("GET", VAULTS).content["value"]
    assert [each["name"] for each in listed] == ["mine"]
    assert robot.operator("GET", f"{VAULTS}/mine/{POLICIES}").code == 200
    refused = robot.operator("PUT", f"{VAULTS}/mine", {"location": "local"})
    assert (refused.code, refused.content["error"]["code"]) == (403, "AuthorizationFailed")
    foreign = robot.operator("GET", f"{VAULTS}/other/{POLICIES}")
    none = robot.operator("GET", f"{VAULTS}/xxxxx/{POLICIES}")
    assert (foreign.code, none.code) == (404, 404)
    assert foreign.content["error"]["message"] == none.content["error"]["message"].replace(
        "xxxxx", "other"
    )
    theirs = hub.vault("other")
    for path in ("jobs/export", "servers", "audit", "waiting"):
        assert robot.operator("GET", f"/hub/v1/vaults/{theirs}/{path}").code == 404, path
        assert robot.operator("GET", f"/hub/v1/vaults/{mine}/{path}").code == 200, path


def test_an_account_that_is_removed_and_a_token_that_is_revoked_end_at_once(hub: RealHub) -> None:
    owner = as_role(hub, "Owner", "otto")
    account = made(hub, "short-lived", {"role": "Reader"})
    robot = logged_in(hub, account)
    assert robot.operator("GET", "/hub/v1/vaults").code == 200
    assert owner.operator("DELETE", f"{ACCOUNTS}/{account['client_id']}").code == 204
    assert robot.operator("GET", "/hub/v1/vaults").code == 401
    assert ask_token(hub, form(account["client_id"], account["client_secret"])).code == 401
    reader = as_role(hub, "Reader", "rita")
    assert reader.operator("GET", "/hub/v1/vaults").code == 200
    assert owner.operator("POST", "/hub/v1/tokens/rita-Reader/revoke").code == 200
    assert reader.operator("GET", "/hub/v1/vaults").code == 401


def test_a_secret_is_rotated_with_and_without_overlap(hub: RealHub) -> None:
    owner = as_role(hub, "Owner", "otto")
    account = made(hub, "rotating", {"role": "Reader"})
    client_id, first = account["client_id"], account["client_secret"]
    path = f"{ACCOUNTS}/{client_id}/rotate"
    second = owner.operator("POST", path, {"overlap_hours": 1}).content["client_secret"]
    assert [ask_token(hub, form(client_id, each)).code for each in (first, second)] == [200, 200]
    third = owner.operator("POST", path, {}).content["client_secret"]
    codes = [ask_token(hub, form(client_id, each)).code for each in (first, second, third)]
    assert codes == [401, 401, 200]


def test_secrets_are_stored_hashed_shown_once_and_not_audited(hub: RealHub) -> None:
    secret = made(hub, "hashed", {"role": "Reader"})["client_secret"]
    owner = as_role(hub, "Owner", "otto")
    for path in (ACCOUNTS, "/hub/v1/audit"):
        assert secret not in owner.operator("GET", path).body.decode()
    for file in hub.settings.data_directory.glob("hub.db*"):
        assert secret.encode() not in file.read_bytes()
    audited = owner.operator("GET", "/hub/v1/audit").body.decode()
    assert "/hub/v1/service-accounts" in audited


def test_only_an_owner_keeps_accounts(hub: RealHub) -> None:
    body = {"name": "mine", "grants": [{"role": "Owner"}]}
    assert hub.operator("POST", ACCOUNTS, body).code == 403
    assert hub.operator("GET", ACCOUNTS).code == 403


@pytest.mark.parametrize(
    ("body", "target"),
    [
        ({}, "grants"),
        ({"name": "a", "grants": [{"role": "Cook"}]}, "grants"),
        ({"name": "a", "grants": [{"role": "Reader", "vault": "x"}]}, "grants"),
        ({"name": "", "grants": [{"role": "Reader"}]}, "name"),
        ({"name": "a", "grants": []}, "grants"),
        ({"name": "a", "grants": [{"role": "Reader"}], "days": 10_000}, "days"),
    ],
)
def test_a_wrong_account_is_refused_and_the_property_named(
    hub: RealHub, body: dict[str, Any], target: str
) -> None:
    refused = as_role(hub, "Owner", "otto").operator("POST", ACCOUNTS, body)
    assert refused.code == 400, refused
    assert target.rstrip("s") in refused.content["error"]["message"].replace("roles", "grant")


@settings(max_examples=60, deadline=None)
@given(body=st.one_of(st.binary(max_size=300), st.text(max_size=100).map(str.encode)))
def test_whatever_is_sent_for_a_token_is_refused_in_the_protocols_words(
    hub: RealHub, body: bytes
) -> None:
    answer = ask_token(hub, body)
    assert answer.code in {400, 401}, answer
    assert json.loads(answer.body)["error"] in {
        "invalid_request",
        "invalid_client",
        "unsupported_grant_type",
    }


def test_a_client_finds_the_token_endpoint_by_itself(hub: RealHub) -> None:
    here = hub.settings.public_url
    told = hub.operator("GET", "/metadata/endpoints?api-version=2022-09-01").content
    assert told["resourceManager"] == here
    assert told["authentication"]["loginEndpoint"] == here
    tenant = told["authentication"]["tenant"]
    found = hub.operator("GET", f"/{tenant}/v2.0/.well-known/openid-configuration").content
    assert found["token_endpoint"] == f"{here}/{tenant}/oauth2/v2.0/token"
    robot = logged_in(hub, made(hub, "finder", {"role": "Reader"}))
    assert robot.operator("GET", "/tenants?api-version=2020").content["value"][0]["tenantId"] == (
        tenant
    )
    hub.vault("mine")
    names = robot.operator("GET", "/subscriptions?api-version=2020").content["value"]
    assert [each["subscriptionId"] for each in names] == ["s"]
    assert not hub.failures
