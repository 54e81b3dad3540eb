"""The hub's own routes about registration keys and servers: who may, what is shown, bad input."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta

import pytest
from aiohttp import ClientResponse, web
from aiohttp.test_utils import TestClient, TestServer

from service_hub.domain.errors import NotFoundError
from service_hub.domain.records import RegistrationKey, Vault
from service_hub.hub_api import server_routes as server_routes_module
from service_hub.hub_api.authority_routes import AuthorityApi, authority_routes
from service_hub.hub_api.server_routes import ServersApi, server_routes
from service_hub.operator_ports import AuthorityQuestion, CreatedKey, KeyFacts, KeyState
from tests.unit.arm.arm_estate import NOW, KnownTokens
from tests.unit.arm.arm_hub import MemoryHub, prepared_hub
from tests.unit.arm.arm_use_cases import MemoryServers, MemoryVaults
from wire_contract.vocabulary import Side

KEYS = "/hub/v1/vaults/v/registration-keys"
REVOKE = f"{KEYS}/thumbprint/revoke"
SERVERS = "/hub/v1/vaults/v/servers"
READING = [("GET", KEYS), ("GET", SERVERS)]
CHANGING = [("POST", KEYS), ("POST", REVOKE)]


@dataclass
class MemoryKeys:
    """RegistrationKeyUseCases: one key."""

    names: list[str | None] = field(default_factory=list)
    revoked: list[str] = field(default_factory=list)

    def facts(self) -> KeyFacts:
        """Return the key."""
        key = RegistrationKey(
            id="thumbprint",
            vault_id="v",
            name="the key",
            certificate_pem="PUBLIC",
            subject="CN=v",
            issuer="CN=registration",
            sha1_thumbprint="AA",
            resource_number=7,
            created_at=NOW,
            valid_from=NOW,
            expires_at=NOW + timedelta(hours=120),
        )
        return KeyFacts(key, KeyState.REVOKED if self.revoked else KeyState.VALID, 2)

    async def create(self, vault: Vault, name: str | None) -> CreatedKey:
        """Make it."""
        del vault
        self.names.append(name)
        return CreatedKey(self.facts(), "v_now.VaultCredentials", b"<RSVaultAsrCreds/>")

    async def list(self, vault: Vault) -> list[KeyFacts]:
        """List it."""
        del vault
        return [self.facts()]

    async def revoke(self, vault: Vault, thumbprint: str) -> KeyFacts:
        """Revoke it."""
        del vault
        if thumbprint != "thumbprint":
            raise NotFoundError(thumbprint)
        self.revoked.append(thumbprint)
        return self.facts()


@dataclass
class Routes:
    """The routes, served."""

    hub: MemoryHub
    keys: MemoryKeys
    authorities: "MemoryAuthorities"
    client: "TestClient[web.Request, web.Application]"

    async def ask(
        self,
        method: str,
        path: str,
        token: str | None = "good",  # noqa: S107 -- known to the in-memory hub alone
        data: bytes | None = None,
    ) -> ClientResponse:
        """Send a request."""
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        response = await self.client.request(method, path, headers=headers, data=data)
        await response.read()
        return response


@pytest.fixture
async def routes() -> AsyncIterator[Routes]:
    hub, keys = prepared_hub(), MemoryKeys()
    api = ServersApi(
        vaults=MemoryVaults(hub),
        keys=keys,
        servers=MemoryServers(hub),
        tokens=KnownTokens(),
        clock=hub.clock,
    )
    application = web.Application()
    application.add_routes(server_routes(api))
    authorities = MemoryAuthorities()
    application.add_routes(authority_routes(AuthorityApi(door=api, authorities=authorities)))
    async with TestClient(TestServer(application)) as client:
        yield Routes(hub, keys, authorities, client)


@pytest.mark.parametrize(("method", "path"), [*READING, *CHANGING])
@pytest.mark.parametrize(("token", "status"), [(None, 401), ("wrong", 401), ("stranger", 403)])
async def test_only_operators_of_a_known_role_get_an_answer(
    routes: Routes, method: str, path: str, token: str | None, status: int
) -> None:
    response = await routes.ask(method, path, token)
    assert response.status == status
    assert (await response.json())["error"]["message"]
    assert (response.headers.get("WWW-Authenticate") == "Bearer") is (status == 401)
    assert routes.keys.names == routes.keys.revoked == []


@pytest.mark.parametrize(("method", "path"), READING)
async def test_a_reader_looks(routes: Routes, method: str, path: str) -> None:
    assert (await routes.ask(method, path, "reading")).status == 200


@pytest.mark.parametrize(("method", "path"), CHANGING)
async def test_a_reader_changes_nothing(routes: Routes, method: str, path: str) -> None:
    assert (await routes.ask(method, path, "reading")).status == 403
    assert (await routes.ask(method, path)).status in {200, 201}


@pytest.mark.parametrize(("method", "path"), [*READING, *CHANGING])
async def test_an_unknown_vault_is_404(routes: Routes, method: str, path: str) -> None:
    response = await routes.ask(method, path.replace("/v/", "/none/"))
    assert response.status == 404


@dataclass
class MemoryAuthorities:
    """AuthorityUseCases: one machine, of which nothing is known."""

    decided: list[tuple[str, Side, str]] = field(default_factory=list)

    async def list(self, vault_id: str) -> list[AuthorityQuestion]:
        """Ask nothing."""
        assert vault_id == "v"
        return []

    async def decide(
        self, vault_id: str, item_id: str, side: Side, principal: str
    ) -> AuthorityQuestion:
        """Note it; then there is no such item."""
        del vault_id
        self.decided.append((item_id, side, principal))
        raise NotFoundError(item_id)


@pytest.mark.parametrize(
    ("token", "body", "status"),
    [
        ("good", b'{"authority": "recovery"}', 404),
        ("reading", b'{"authority": "Recovery"}', 403),
        ("wrong", b'{"authority": "Recovery"}', 401),
        ("good", b'{"authority": "Both"}', 400),
        ("good", b'{"authority": ["Primary"]}', 400),
        ("good", b"{}", 400),
        ("good", b"[", 400),
    ],
)
async def test_who_may_decide_for_which_end(
    routes: Routes, token: str, body: bytes, status: int
) -> None:
    path = "/hub/v1/vaults/v/authority-questions"
    answer = await routes.ask("POST", f"{path}/item-1/decide", token, data=body)
    assert answer.status == status
    decided = [("item-1", Side.RECOVERY, "anna")] if status == 404 else []
    assert routes.authorities.decided == decided
    assert await (await routes.ask("GET", path)).json() == {"questions": []}


async def test_a_new_key_comes_as_its_credentials_file(routes: Routes) -> None:
    response = await routes.ask("POST", KEYS, data=b'{"name": "tokyo"}')
    assert (response.status, await response.read()) == (201, b"<RSVaultAsrCreds/>")
    assert response.content_type == "application/xml"
    assert 'filename="v_now.VaultCredentials"' in response.headers["Content-Disposition"]
    assert response.headers["Cache-Control"] == "no-store"
    await routes.ask("POST", KEYS)
    await routes.ask("POST", KEYS, data=b"{}")
    assert routes.keys.names == ["tokyo", None, None]


@pytest.mark.parametrize(
    "body",
    [b"{", b"[]", b"null", b'"text"', b'{"name": 7}', b"\xff\xfe", b"[" * 4000, b" " * 5000 + b"{"],
)
async def test_a_malformed_body_makes_no_key(routes: Routes, body: bytes) -> None:
    response = await routes.ask("POST", KEYS, data=body)
    assert response.status == 400
    assert (await response.json())["error"]["code"] == "InvalidRequest"
    assert routes.keys.names == []


async def test_keys_are_listed_without_a_certificate(routes: Routes) -> None:
    (shown,) = (await (await routes.ask("GET", KEYS)).json())["keys"]
    assert shown == {
        "key_id": "thumbprint",
        "name": "the key",
        "thumbprint": "thumbprint",
        "created_at": NOW.isoformat(),
        "expires_at": (NOW + timedelta(hours=120)).isoformat(),
        "revoked_at": None,
        "state": "valid",
        "servers_enrolled": 2,
    }


async def test_a_key_is_revoked_by_its_thumbprint(routes: Routes) -> None:
    assert (await (await routes.ask("POST", REVOKE)).json())["state"] == "revoked"
    unknown = await routes.ask("POST", f"{KEYS}/other/revoke")
    assert unknown.status == 404


async def test_servers_are_listed_with_what_operators_ask_for(routes: Routes) -> None:
    first, second = (await (await routes.ask("GET", SERVERS)).json())["servers"]
    assert first["friendly_name"] == "vmm.primary.example"
    assert (first["connected"], first["last_contact_at"]) == (True, NOW.isoformat())
    assert first["certificate_thumbprints"] == ["thumbprint"]
    assert (first["provider_version"], first["vmm_version"]) == ("0.1.0", "3.2.7510.0")
    assert first["auto_update"] is None
    assert second["provider_id"] == "provider-recovery"


async def test_a_body_whose_encoding_is_broken_is_the_callers_fault(routes: Routes) -> None:
    headers = {"Authorization": "Bearer good", "Content-Encoding": "gzip"}
    response = await routes.client.post(KEYS, data=b"no gzip at all", headers=headers)
    assert response.status == 400
    assert "encoding" in (await response.json())["error"]["message"]


async def test_a_body_that_never_ends_is_not_waited_for(
    routes: Routes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_routes_module, "BODY_SECONDS_MAX", 0.05)
    server = routes.client.server
    reader, writer = await asyncio.open_connection(server.host, server.port)
    head = f"POST {KEYS} HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer good\r\n"
    writer.write(f"{head}Content-Length: 100\r\n\r\n{{".encode())
    assert (await reader.readline()).split()[1] == b"400"
    writer.close()
    assert routes.keys.names == []
