"""The operators' routes about servers' identities: who may do what, and what each answers."""

from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from certs.identity import new_private_key
from service_hub.domain.access import OperatorIdentity, with_role
from service_hub.domain.errors import UnauthenticatedError
from service_hub.domain.records import Vault
from service_hub.hub_api.trust_routes import TrustApi, trust_routes
from service_hub.services.operator_signatures import SignatureSettings
from tests.support.trust_world import VAULT_ID, TrustWorld, trust_world

PLACE = f"/hub/v1/vaults/{VAULT_ID}"
ROLES = ("Reader", "Contributor", "Owner", "Stranger")


class RoleTokens:
    """A token is the name of its role."""

    async def verify(self, token: str, now: datetime) -> OperatorIdentity:
        """Return the holder."""
        del now
        if token not in ROLES:
            raise UnauthenticatedError("the token is refused")
        return with_role("olga", token)


class OneVault:
    """The vaults of the world."""

    def __init__(self, world: TrustWorld) -> None:
        self._world = world

    async def list_all(self) -> list[Vault]:
        """Return them."""
        return [each.record for each in await self._world.store.find(Vault)]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[TrustWorld]:
    async with trust_world(tmp_path) as opened:
        yield opened


@pytest.fixture
async def operators(world: TrustWorld) -> AsyncIterator[Any]:
    vaults: Any = OneVault(world)
    api = TrustApi(
        vaults=vaults,
        approvals=world.approvals,
        certificates=world.certificates,
        signatures=SignatureSettings(reader=world.store, committer=world.committer),
        tokens=RoleTokens(),
        clock=world.clock,
    )
    application = web.Application()
    application.add_routes(trust_routes(api))
    async with TestClient(TestServer(application)) as client:
        yield client


async def ask(operators: Any, method: str, path: str, role: str | None) -> tuple[int, Any]:
    headers = {} if role is None else {"Authorization": f"Bearer {role}"}
    async with operators.request(method, path, headers=headers) as response:
        return response.status, await response.json()


async def waiting(world: TrustWorld) -> str:
    await world.registered()
    await world.enrol(await world.registration_key(), new_private_key())
    (approval,) = await world.approvals.list(VAULT_ID)
    return approval.id


async def test_reading_and_deciding_ask_for_their_roles(world: TrustWorld, operators: Any) -> None:
    approval_id = await waiting(world)
    provider_id = (await world.approvals.list(VAULT_ID))[0].provider_id
    for path in ("/approvals", "/alerts"):
        statuses = [(await ask(operators, "GET", PLACE + path, role))[0] for role in ROLES]
        assert statuses == [200, 200, 200, 403]
    decisions = (
        f"/approvals/{approval_id}/approve",
        f"/approvals/{approval_id}/reject",
        f"/servers/{provider_id}/revoke",
    )
    for path in decisions:
        for role, status in ((None, 401), ("nobody", 401), ("Reader", 403), ("Stranger", 403)):
            code, body = await ask(operators, "POST", PLACE + path, role)
            assert code == status
            assert body["error"]["message"]
    (approval,) = await world.approvals.list(VAULT_ID)
    assert approval.decision == "pending"
    assert world.connections.kicked == []


async def test_an_approval_shows_both_keys_and_addresses_and_no_request(
    world: TrustWorld, operators: Any
) -> None:
    approval_id = await waiting(world)
    _, body = await ask(operators, "GET", f"{PLACE}/approvals", "Reader")
    (shown,) = body["approvals"]
    assert shown["id"] == approval_id
    for name in ("old_certificate_thumbprint", "new_key_thumbprint", "old_address", "new_address"):
        assert shown[name], name
    assert not {"request_pem", "chain_pem"} & set(shown)
    code, body = await ask(
        operators, "POST", f"{PLACE}/approvals/{approval_id}/approve", "Contributor"
    )
    assert (code, body["decision"], body["decided_by"]) == (200, "approved", "olga")
    code, body = await ask(
        operators, "POST", f"{PLACE}/approvals/{approval_id}/reject", "Contributor"
    )
    assert (code, body["error"]["code"]) == (409, "Conflict")
    _, body = await ask(operators, "GET", f"{PLACE}/alerts", "Reader")
    assert [each["code"] for each in body["alerts"]] == ["ServerReplaced"]


async def test_a_server_is_revoked_over_the_route(world: TrustWorld, operators: Any) -> None:
    server = await world.registered()
    provider = await world.provider(server)
    code, body = await ask(
        operators, "POST", f"{PLACE}/servers/{provider.id}/revoke", "Contributor"
    )
    assert (code, body["revoked_certificate_count"]) == (200, 1)
    assert await world.enrolment.provider_of(server.thumbprint) is None


async def test_what_does_not_exist_is_not_found(operators: Any) -> None:
    for path in (
        f"{PLACE}/approvals/none/approve",
        f"{PLACE}/servers/none/revoke",
        "/hub/v1/vaults/other/servers/none/revoke",
    ):
        code, body = await ask(operators, "POST", path, "Owner")
        assert (code, body["error"]["code"]) == (404, "NotFound")
