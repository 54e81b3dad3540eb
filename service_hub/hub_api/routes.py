"""The hub's own routes: is it there, what trusts it, and the ids of its vaults."""

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from aiohttp import web
from pydantic import JsonValue

from service_hub.domain.access import Right
from service_hub.domain.errors import DomainError
from service_hub.hub_api.server_routes import refusal_of
from service_hub.operator_door import GuardedRoute, check_anywhere, identified
from service_hub.ports.surroundings import Clock
from service_hub.ports.use_cases import OperatorTokens, VaultUseCases

HEALTH: Final = "/health"
VAULTS: Final = "/hub/v1/vaults"
TRUST_ROOT: Final = "/hub/v1/trust/root"

_HEADERS: Final = {"Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"}

Handler = Callable[[web.Request], Awaitable[web.Response]]


@dataclass(frozen=True, slots=True, kw_only=True)
class HubApi:
    """What these routes need, passed in by the composition root."""

    vaults: VaultUseCases
    tokens: OperatorTokens
    clock: Clock
    root_pem: Callable[[], str]
    state: Callable[[], Mapping[str, JsonValue]] = dict

    async def health(self, request: web.Request) -> web.Response:
        """Say that the hub answers, which one it is and whether failpoints are on, to anybody."""
        del request
        return _json(HTTPStatus.OK, {"state": "ok", **self.state()})

    async def trust_root(self, request: web.Request) -> web.Response:
        """Give the roots that clients pin (two while the root is replaced); they are public."""
        del request
        return web.Response(
            text=self.root_pem(), content_type="application/x-pem-file", headers=_HEADERS
        )

    async def list_vaults(self, request: web.Request) -> web.Response:
        """Give the ids of all vaults, which the ARM surface doesn't show."""
        try:
            operator = await identified(self.tokens, request, self.clock.now())
            check_anywhere(operator, Right.READ)
            found = await self.vaults.list_all()
        except DomainError as error:
            return refusal_of(error)
        vaults = [
            {
                "vault_id": vault.id,
                "name": vault.name,
                "subscription_id": vault.subscription_id,
                "resource_group": vault.resource_group,
                "region": vault.location,
                "state": "Active",
                "provisioning_state": "Succeeded",
                "operator_signature_required": vault.requires_operator_signature,
            }
            for vault in found
            if operator.sees(vault.id)
        ]
        return _json(HTTPStatus.OK, {"vaults": vaults})


def hub_routes(api: HubApi) -> list[GuardedRoute]:
    """Return the whole surface; read this to know it."""
    return [
        GuardedRoute("GET", HEALTH, api.health, None),
        GuardedRoute("GET", VAULTS, api.list_vaults, Right.READ),
        GuardedRoute("GET", TRUST_ROOT, api.trust_root, None),
    ]


def _json(status: HTTPStatus, body: dict[str, Any]) -> web.Response:
    return web.Response(
        status=status,
        body=json.dumps(body).encode(),
        content_type="application/json",
        headers=_HEADERS,
    )
