"""A hub that takes tokens of an external OpenID Connect issuer: a real one, over TLS."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.oidc_issuer import RunningIssuer, running_issuer
from tests.support.real_hub import VAULTS, Answer, RealHub, real_hub

SECONDS_MAX = 20
POLICIES = f"{VAULTS}/mine/replicationPolicies"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("issuer")


@pytest.fixture(scope="module")
def issuer(folder: Path, ports: Callable[[], int]) -> Iterator[RunningIssuer]:
    with running_issuer(folder, ports) as running:
        yield running


def oidc(issuer: RunningIssuer, **more: Any) -> dict[str, Any]:
    roles = [
        {"value": "dr-readers", "role": "Reader"},
        {"value": "dr-operators", "role": "Operator"},
        {"value": "dr-owners", "role": "Owner"},
    ]
    facts = {"issuer": issuer.address, "audience": "hub", "ca_file": str(issuer.ca_file)}
    claims = {"roles_claim": ["realm", "groups"], "keys_pause_seconds": 1}
    return {"oidc": {**facts, **claims, "roles": roles, **more}}


@pytest.fixture(scope="module")
def hub(issuer: RunningIssuer, folder: Path, ports: Callable[[], int]) -> Iterator[RealHub]:
    with real_hub(folder, ports, further=oidc(issuer)) as running:
        running.vault("mine")
        yield running


def asked(hub: RealHub, token: str, path: str = "/hub/v1/vaults") -> Answer:
    return replace(hub, token=token).operator("GET", path)


def told(answer: Answer) -> str:
    return str(answer.content["error"]["message"])


def awaited(hub: RealHub, token: str, code: int) -> Answer:
    """Return the first answer of this code; a new key may be looked for once in a second."""
    ends = time.monotonic() + SECONDS_MAX
    while (answer := asked(hub, token)).code != code:
        assert time.monotonic() < ends, answer
        time.sleep(0.1)
    return answer


def groups(*names: str) -> dict[str, Any]:
    return {"realm": {"groups": list(names)}}


def test_roles_are_those_of_the_claim_and_names_cannot_be_the_hubs(
    hub: RealHub, issuer: RunningIssuer
) -> None:
    operator = issuer.token(sub="anna", **groups("cooks", "dr-operators"))
    assert asked(hub, operator).code == 200
    assert asked(hub, operator, POLICIES).code == 200
    refused = asked(hub, operator, "/hub/v1/service-accounts")
    assert refused.code == 403
    assert "Site Recovery Operator" in told(refused)
    owner = issuer.token(sub="anna", **groups("dr-owners"))
    assert asked(hub, owner, "/hub/v1/service-accounts").code == 200
    audited = asked(hub, owner, "/hub/v1/audit").body.decode()
    assert "oidc:anna" in audited


def test_who_is_known_and_has_no_role_here_may_do_nothing(
    hub: RealHub, issuer: RunningIssuer
) -> None:
    for claims in ({}, groups("cooks"), {"realm": "dr-owners"}, {"groups": ["dr-owners"]}):
        answer = asked(hub, issuer.token(**claims), "/hub/v1/service-accounts")
        assert answer.code == 403, claims
        assert asked(hub, issuer.token(**claims), POLICIES).code == 403


@pytest.mark.parametrize(
    ("claims", "words"),
    [
        ({"aud": "another"}, "its claim aud is missing or wrong"),
        ({"ends_in": -120}, "it has expired"),
        ({"nbf": 9_999_999_999}, "its claim nbf is missing or wrong"),
        ({"sub": "a\u0007"}, "is no name of at most"),
        ({"sub": ""}, "its claim sub is missing or wrong"),
    ],
)
def test_a_token_that_does_not_hold_is_refused_in_its_own_words(
    hub: RealHub, issuer: RunningIssuer, claims: dict[str, Any], words: str
) -> None:
    answer = asked(hub, issuer.token(**groups("dr-readers"), **claims))
    assert answer.code == 401
    assert words in told(answer)
    assert "Retry-After" not in answer.headers


def test_a_clock_that_is_a_little_off_is_borne(hub: RealHub, issuer: RunningIssuer) -> None:
    now = int(hub.clock.now().timestamp())
    early = issuer.token(iat=now + 30, nbf=now + 30, **groups("dr-readers"))
    late = issuer.token(ends_in=-30, **groups("dr-readers"))
    assert [asked(hub, each).code for each in (early, late)] == [200, 200]


def test_a_token_of_the_issuers_can_be_revoked_here(hub: RealHub, issuer: RunningIssuer) -> None:
    token = issuer.token(jti="t-1", **groups("dr-readers"))
    assert asked(hub, token).code == 200
    owner = replace(hub, token=issuer.token(**groups("dr-owners")))
    assert owner.operator("POST", "/hub/v1/tokens/t-1/revoke").code == 200
    assert asked(hub, token).code == 401


def test_a_new_key_is_taken_up_and_the_former_one_ends(hub: RealHub, issuer: RunningIssuer) -> None:
    former = issuer.token(**groups("dr-readers"))
    assert asked(hub, former).code == 200
    issuer.ask("/rotate", {"algorithm": "ES256"})
    awaited(hub, issuer.token(**groups("dr-readers")), 200)
    assert "does not publish" in told(awaited(hub, former, 401))
    issuer.ask("/rotate", {"algorithm": "RS512"})
    assert "its algorithm is 'RS512'" in told(asked(hub, issuer.token(**groups("dr-readers"))))
    issuer.ask("/rotate", {"algorithm": "RS256"})
    awaited(hub, issuer.token(**groups("dr-readers")), 200)


def test_an_issuer_that_is_away_takes_nothing_from_tokens_whose_key_is_known(
    hub: RealHub, issuer: RunningIssuer
) -> None:
    token = issuer.token(**groups("dr-readers"))
    assert asked(hub, token).code == 200
    issuer.ask("/rotate", {"algorithm": "RS256"})
    newer = issuer.token(**groups("dr-readers"))
    with issuer.silent():
        assert asked(hub, token).code == 200
        unknown = awaited(hub, newer, 503)
        assert unknown.content["error"]["code"] == "ServiceUnavailable"
        assert "issuer_keys_unread" in told(unknown)
        assert "Retry-After" not in unknown.headers
        assert hub.operator("GET", "/hub/v1/vaults").code == 200
    awaited(hub, newer, 200)


def test_a_hub_begins_without_its_issuer_and_takes_it_up_when_it_is_there(
    tmp_path: Path, ports: Callable[[], int]
) -> None:
    with ExitStack() as stack:
        # Its root is known from an earlier run.
        with running_issuer(tmp_path, ports) as former:
            token, settings = former.token(**groups("dr-readers")), oidc(former)
        hub = stack.enter_context(real_hub(tmp_path, ports, further=settings))
        answer = asked(hub, token, POLICIES)
        assert (answer.code, answer.content["error"]["code"]) == (503, "ServiceUnavailable")
        assert hub.operator("GET", "/hub/v1/vaults").code == 200
        assert any(each["event"] == "issuer_keys_unread" for each in hub.told)
