"""The hub's own routes: is it there, what trusts it, and the ids of its vaults."""

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from aiohttp import web
from pydantic import JsonValue

from service_hub.domain.errors import StorageUnavailableError, UnauthenticatedError
from service_hub.ports import Clock, OperatorTokens, VaultUseCases

HEALTH: Final = "/health"
VAULTS: Final = "/hub/v1/vaults"
TRUST_ROOT: Final = "/hub/v1/trust/root"

READING_ROLES: Final = frozenset({"Owner", "Contributor", "Reader"})

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
        refusal = self._refusal(request)
        if refusal is not None:
            return refusal
        try:
            found = await self.vaults.list_all()
        except StorageUnavailableError as error:
            return _problem(HTTPStatus.SERVICE_UNAVAILABLE, "ServiceUnavailable", str(error))
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
        ]
        return _json(HTTPStatus.OK, {"vaults": vaults})

    def _refusal(self, request: web.Request) -> web.Response | None:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            return _unauthenticated("The request has no bearer token.")
        try:
            operator = self.tokens.verify(token.strip(), self.clock.now())
        except UnauthenticatedError as error:
            return _unauthenticated(str(error))
        if operator.role not in READING_ROLES:
            message = f"The role '{operator.role}' has no right to read this."
            return _problem(HTTPStatus.FORBIDDEN, "AuthorizationFailed", message)
        return None


def hub_routes(api: HubApi) -> list[web.RouteDef]:
    """Return the whole surface; read this to know it."""
    return [
        web.get(HEALTH, api.health),
        web.get(VAULTS, api.list_vaults),
        web.get(TRUST_ROOT, api.trust_root),
    ]


def _unauthenticated(message: str) -> web.Response:
    response = _problem(HTTPStatus.UNAUTHORIZED, "InvalidAuthenticationToken", message)
    response.headers["WWW-Authenticate"] = "Bearer"
    return response


def _problem(status: HTTPStatus, code: str, message: str) -> web.Response:
    return _json(status, {"error": {"code": code, "message": message}})


def _json(status: HTTPStatus, body: dict[str, Any]) -> web.Response:
    return web.Response(
        status=status,
        body=json.dumps(body).encode(),
        content_type="application/json",
        headers=_HEADERS,
    )
