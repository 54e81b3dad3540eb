"""How unmodified clients log in: cloud metadata, OAuth 2 client credentials, what they may see.

`az cloud register` reads the metadata, `az login --service-principal` and azure-identity's
ClientSecretCredential the discovery document and the token endpoint (arm-api.md, section 6;
RFC 6749, sections 4.4 and 5.2).
"""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Any, Final, Protocol
from urllib.parse import parse_qs

from aiohttp import web

from service_hub.domain.access import Right
from service_hub.domain.errors import DomainError, StorageUnavailableError, UnauthenticatedError
from service_hub.domain.service_accounts import ServiceAccount, identity_of
from service_hub.hub_api.server_routes import refusal_of
from service_hub.operator_door import GuardedRoute, check_anywhere, identified
from service_hub.ports.surroundings import Clock
from service_hub.ports.use_cases import OperatorTokens, VaultUseCases
from service_hub.services.audit import asked_by
from service_hub.services.service_accounts import ServiceAccounts

METADATA: Final = "/metadata/endpoints"
DISCOVERY: Final = "/{tenant}/v2.0/.well-known/openid-configuration"
TOKEN: Final = "/{tenant}/oauth2/v2.0/token"  # noqa: S105 -- a path
AUTHORIZE: Final = "oauth2/v2.0/authorize"
DEVICE: Final = "oauth2/v2.0/devicecode"
SUBSCRIPTIONS: Final = "/subscriptions"
TENANTS: Final = "/tenants"

TOKEN_LIFETIME: Final = timedelta(hours=1)
FORM_BYTES_MAX: Final = 8_192
FORM_FIELDS_MAX: Final = 20
FORM_SECONDS_MAX: Final = 10
NO_SUBSCRIPTION: Final = "00000000-0000-0000-0000-000000000000"

_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Pragma": "no-cache",
    "X-Content-Type-Options": "nosniff",
}


class TokenIssuer(Protocol):
    """Makes bearer tokens."""

    def issue(self, account: ServiceAccount, now: datetime, lifetime: timedelta) -> str:
        """Return a token of a service account."""


class OAuthRefusal(Exception):  # noqa: N818 -- an answer of the protocol
    """What RFC 6749, section 5.2 answers."""

    def __init__(self, status: HTTPStatus, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginApi:
    """What these routes need."""

    accounts: ServiceAccounts
    vaults: VaultUseCases
    tokens: OperatorTokens
    issuer: TokenIssuer
    clock: Clock
    public_url: str
    tenant: str

    async def metadata(self, request: web.Request) -> web.Response:
        """Say where everything of this cloud is: here."""
        del request
        here = self.public_url
        login = {"loginEndpoint": here, "audiences": [here], "tenant": self.tenant}
        return _json(
            {
                "name": "SiteRecoveryHub",
                "resourceManager": here,
                "portal": here,
                "gallery": here,
                "graph": here,
                "graphAudience": here,
                "authentication": login,
                "suffixes": {},
            }
        )

    async def discovery(self, request: web.Request) -> web.Response:
        """Say where tokens are asked for; the tenant is whatever the client calls it."""
        here = f"{self.public_url}/{request.match_info['tenant']}"
        return _json(
            {
                "issuer": f"{here}/v2.0",
                "authorization_endpoint": f"{here}/{AUTHORIZE}",
                "token_endpoint": f"{here}/oauth2/v2.0/token",
                "device_authorization_endpoint": f"{here}/{DEVICE}",
                "token_endpoint_auth_methods_supported": ["client_secret_post"],
                "grant_types_supported": ["client_credentials"],
                "response_types_supported": [],
                "subject_types_supported": ["public"],
            }
        )

    async def token(self, request: web.Request) -> web.Response:
        """Give a token to who knows an account's secret."""
        try:
            form = await _form(request)
            account = await self.accounts.authenticated(
                form.get("client_id", "").lower(), form.get("client_secret", "")
            )
        except OAuthRefusal as error:
            return _json({"error": error.code, "error_description": str(error)}, error.status)
        except UnauthenticatedError as error:
            content = {"error": "invalid_client", "error_description": str(error)}
            return _json(content, HTTPStatus.UNAUTHORIZED)
        except StorageUnavailableError as error:
            return refusal_of(error)
        asked_by(identity_of(account))
        seconds = int(TOKEN_LIFETIME.total_seconds())
        return _json(
            {
                "token_type": "Bearer",
                "expires_in": seconds,
                "ext_expires_in": seconds,
                "access_token": self.issuer.issue(account, self.clock.now(), TOKEN_LIFETIME),
            }
        )

    async def subscriptions(self, request: web.Request) -> web.Response:
        """Give the subscriptions of the vaults that who asks may see."""
        try:
            operator = await identified(self.tokens, request, self.clock.now())
            check_anywhere(operator, Right.READ)
            vaults = await self.vaults.list_all()
        except DomainError as error:
            return refusal_of(error)
        seen = {each.subscription_id.lower() for each in vaults if operator.sees(each.id)}
        return _json({"value": [self._subscription(each) for each in sorted(seen or {_NONE})]})

    async def tenants(self, request: web.Request) -> web.Response:
        """Give the hub's only tenant."""
        try:
            operator = await identified(self.tokens, request, self.clock.now())
            check_anywhere(operator, Right.READ)
        except DomainError as error:
            return refusal_of(error)
        return _json({"value": [{"id": f"/tenants/{self.tenant}", "tenantId": self.tenant}]})

    def _subscription(self, name: str) -> dict[str, Any]:
        return {
            "id": f"/subscriptions/{name}",
            "subscriptionId": name,
            "tenantId": self.tenant,
            "displayName": "Site Recovery Hub",
            "state": "Enabled",
        }


_NONE: Final = NO_SUBSCRIPTION


def login_routes(api: LoginApi) -> list[GuardedRoute]:
    """Return the whole surface; read this to know it."""
    return [
        GuardedRoute("GET", METADATA, api.metadata, None),
        GuardedRoute("GET", DISCOVERY, api.discovery, None),
        GuardedRoute("POST", TOKEN, api.token, None),
        GuardedRoute("GET", SUBSCRIPTIONS, api.subscriptions, Right.READ),
        GuardedRoute("GET", TENANTS, api.tenants, Right.READ),
    ]


async def _form(request: web.Request) -> dict[str, str]:
    """Return the fields of a form, each once; OAuthRefusal."""
    data = bytearray()
    try:
        async with asyncio.timeout(FORM_SECONDS_MAX):
            async for chunk in request.content.iter_any():
                data += chunk
                if len(data) > FORM_BYTES_MAX:
                    raise _unreadable()
        fields = parse_qs(
            data.decode("ascii"), max_num_fields=FORM_FIELDS_MAX, keep_blank_values=True
        )
    except (web.RequestPayloadError, ConnectionError, TimeoutError, ValueError):
        raise _unreadable() from None
    if any(len(values) > 1 for values in fields.values()):
        raise _unreadable()
    form = {name: values[0] for name, values in fields.items()}
    if form.get("grant_type") != "client_credentials":
        raise OAuthRefusal(
            HTTPStatus.BAD_REQUEST,
            "unsupported_grant_type",
            "Only grant_type=client_credentials is offered: log in as a service account.",
        )
    return form


def _unreadable() -> OAuthRefusal:
    return OAuthRefusal(
        HTTPStatus.BAD_REQUEST,
        "invalid_request",
        f"The body must be a form of at most {FORM_BYTES_MAX} bytes, with each field once:"
        " grant_type, client_id, client_secret.",
    )


def _json(body: Mapping[str, Any], status: HTTPStatus = HTTPStatus.OK) -> web.Response:
    return web.Response(
        status=status,
        body=json.dumps(body).encode(),
        content_type="application/json",
        headers=_HEADERS,
    )
