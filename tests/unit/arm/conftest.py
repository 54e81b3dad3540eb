"""The surface over a plain loopback connection, as a client without the SDK sees it."""

import io
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from aiohttp import ClientResponse, web
from aiohttp.test_utils import TestClient, TestServer

from service_hub.arm.routes import arm_routes
from service_hub.hub_api.routes import HubApi, hub_routes
from tests.unit.arm.arm_estate import (
    CLOUDS,
    FABRICS,
    GROUP,
    MACHINE,
    SUBSCRIPTION,
    VAULT,
    KnownTokens,
)
from tests.unit.arm.arm_hub import MemoryHub, prepared_hub
from tests.unit.arm.arm_use_cases import MemoryVaults, arm_api
from wire_contract.vocabulary import Side

GOOD_TOKEN = "good"  # noqa: S105 -- known to the in-memory hub alone
PUBLIC_URL = "https://hub.example:8443"

PLANNED = {"properties": {"failoverDirection": "PrimaryToRecovery"}}
ROOT = (
    f"/Subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}"
    f"/providers/Microsoft.RecoveryServices/vaults/{VAULT}"
)
SERVERS = f"{ROOT}/replicationFabrics"


@dataclass
class Surface:
    """A hub and a client of it; paths begin at the vault unless they are whole."""

    hub: MemoryHub
    client: "TestClient[web.Request, web.Application]"
    vault: str = (
        f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}"
        f"/providers/Microsoft.RecoveryServices/vaults/{VAULT}"
    )

    @property
    def fabric(self) -> str:
        """The path of the primary server."""
        return f"{self.vault}/replicationFabrics/{FABRICS[Side.PRIMARY]}"

    @property
    def container(self) -> str:
        """The path of the primary cloud."""
        return f"{self.fabric}/replicationProtectionContainers/{CLOUDS[Side.PRIMARY]}"

    @property
    def item(self) -> str:
        """The path of the protected item."""
        return f"{self.container}/replicationProtectedItems/{MACHINE}"

    async def ask(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        data: bytes | None = None,
        token: str | None = GOOD_TOKEN,
        headers: Mapping[str, str] | None = None,
    ) -> ClientResponse:
        """Send a request with a token; the answer's body is read."""
        sent = dict(headers or {})
        if token is not None:
            sent["Authorization"] = f"Bearer {token}"
        stream = None if data is None else io.BytesIO(data)
        response = await self.client.request(method, path, json=json, data=stream, headers=sent)
        await response.read()
        return response

    async def body(self, path: str) -> dict[str, Any]:
        """Return what a GET answers with, which must be 200."""
        response = await self.ask("GET", path)
        assert response.status == 200, await response.text()
        answer: dict[str, Any] = await response.json()
        return answer


@pytest.fixture
async def surface() -> AsyncIterator[Surface]:
    """Serve a prepared hub: vault, policy, pairing and one protected item."""
    hub = prepared_hub()
    application = web.Application()
    hub_api = HubApi(
        vaults=MemoryVaults(hub), tokens=KnownTokens(), clock=hub.clock, root_pem=lambda: "ROOT"
    )
    application.add_routes([*hub_routes(hub_api), *arm_routes(arm_api(hub, PUBLIC_URL, 1))])
    async with TestClient(TestServer(application)) as client:
        yield Surface(hub, client)


async def error_of(surface: Surface, method: str, path: str, **sent: Any) -> tuple[int, Any]:
    """Send a request that must be refused; return status and error."""
    response = await surface.ask(method, path, **sent)
    return response.status, (await response.json())["error"]
