"""The hub's own routes about service accounts and tokens; for owners."""

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus
from typing import Any, Final

from aiohttp import web

from service_hub.domain.access import OperatorIdentity, Right, role_named
from service_hub.domain.errors import DomainError, InvalidRequestError
from service_hub.domain.service_accounts import (
    DAYS_MAX,
    AccountGrant,
    ServiceAccount,
    may_be_token_id,
)
from service_hub.hub_api.server_routes import json_body, refusal_of
from service_hub.operator_door import GuardedRoute, identified
from service_hub.ports.surroundings import Clock
from service_hub.ports.use_cases import OperatorTokens
from service_hub.services.service_accounts import NewSecret, ServiceAccounts

ACCOUNTS: Final = "/hub/v1/service-accounts"
ACCOUNT: Final = "/hub/v1/service-accounts/{client_id}"
ROTATE: Final = "/hub/v1/service-accounts/{client_id}/rotate"
REVOKE_TOKEN: Final = "/hub/v1/tokens/{token_id}/revoke"  # noqa: S105 -- a path

BODY_BYTES_MAX: Final = 65_536
DAYS: Final = 365
OVERLAP_HOURS_MAX: Final = 168

_HEADERS: Final = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}

Use = Callable[[OperatorIdentity, Mapping[str, str], Mapping[str, Any]], Awaitable[web.Response]]


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountsApi:
    """What these routes need."""

    accounts: ServiceAccounts
    tokens: OperatorTokens
    clock: Clock

    async def create(
        self, who: OperatorIdentity, names: Mapping[str, str], body: Mapping[str, Any]
    ) -> web.Response:
        """Make an account; the only time that its secret is seen."""
        del names
        lifetime = timedelta(days=_whole(body, "days", DAYS, DAYS_MAX))
        grants = _grants(body.get("grants"))
        made = await self.accounts.create(body.get("name"), grants, lifetime, who.principal)
        return _json(HTTPStatus.CREATED, _shown(made))

    async def list(
        self, who: OperatorIdentity, names: Mapping[str, str], body: Mapping[str, Any]
    ) -> web.Response:
        """Give all accounts, without anything secret."""
        del who, names, body
        found = await self.accounts.list()
        return _json(HTTPStatus.OK, {"accounts": [_account(each) for each in found]})

    async def rotate(
        self, who: OperatorIdentity, names: Mapping[str, str], body: Mapping[str, Any]
    ) -> web.Response:
        """Give an account a new secret."""
        del who
        lifetime = timedelta(days=_whole(body, "days", DAYS, DAYS_MAX))
        overlap = timedelta(hours=_whole(body, "overlap_hours", 0, OVERLAP_HOURS_MAX))
        return _json(
            HTTPStatus.OK,
            _shown(await self.accounts.rotate(names["client_id"].lower(), lifetime, overlap)),
        )

    async def remove(
        self, who: OperatorIdentity, names: Mapping[str, str], body: Mapping[str, Any]
    ) -> web.Response:
        """Remove an account and make its tokens worthless."""
        del who, body
        await self.accounts.remove(names["client_id"].lower())
        return web.Response(status=HTTPStatus.NO_CONTENT, headers=_HEADERS)

    async def revoke(
        self, who: OperatorIdentity, names: Mapping[str, str], body: Mapping[str, Any]
    ) -> web.Response:
        """Revoke one token, by the id that it carries (claim jti)."""
        del body
        token_id = names["token_id"]
        if not may_be_token_id(token_id):
            raise InvalidRequestError(
                "A token's id is at most 128 printable ASCII characters: its claim 'jti'.",
                "token_id",
            )
        await self.accounts.revoke_token(token_id, who.principal)
        return _json(HTTPStatus.OK, {"token_id": token_id, "revoked": True})

    def route(self, method: str, path: str, use: Use) -> GuardedRoute:
        """Return a route for owners that renders every refusal."""

        async def handle(request: web.Request) -> web.Response:
            try:
                who = await identified(self.tokens, request, self.clock.now())
                who.check(Right.ADMINISTER)
                reads = request.method == "POST"
                body = await json_body(request, BODY_BYTES_MAX) if reads else {}
                return await use(who, dict(request.match_info), body)
            except DomainError as error:
                return refusal_of(error)

        return GuardedRoute(method, path, handle, Right.ADMINISTER)


def account_routes(api: AccountsApi) -> list[GuardedRoute]:
    """Return the whole surface; read this to know it."""
    return [
        api.route("POST", ACCOUNTS, api.create),
        api.route("GET", ACCOUNTS, api.list),
        api.route("POST", ROTATE, api.rotate),
        api.route("DELETE", ACCOUNT, api.remove),
        api.route("POST", REVOKE_TOKEN, api.revoke),
    ]


def _grants(given: object) -> list[AccountGrant]:
    wrong = InvalidRequestError(
        "The property 'grants' must be a list of objects with 'role' and, for one vault alone,"
        " 'vault_id'.",
        "grants",
    )
    if not isinstance(given, list):
        raise wrong
    grants = []
    for each in given:
        if not isinstance(each, dict) or set(each) - {"role", "vault_id"}:
            raise wrong
        role, vault_id = role_named(str(each.get("role"))), each.get("vault_id")
        if role is None or not (vault_id is None or (isinstance(vault_id, str) and vault_id)):
            raise wrong
        grants.append(AccountGrant(role=role, vault_id=vault_id and vault_id.lower()))
    return grants


def _whole(body: Mapping[str, Any], name: str, default: int, highest: int) -> int:
    value = body.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= highest:
        raise InvalidRequestError(
            f"The property '{name}' must be a whole number up to {highest}.", name
        )
    return value


def _account(account: ServiceAccount) -> dict[str, Any]:
    return {
        "client_id": account.id,
        "name": account.name,
        "grants": [{"role": each.role.value, "vault_id": each.vault_id} for each in account.grants],
        "secrets": [
            {
                "created_at": each.created_at.isoformat(),
                "expires_at": each.expires_at.isoformat(),
            }
            for each in account.secrets
        ],
        "created_at": account.created_at.isoformat(),
        "created_by": account.created_by,
    }


def _shown(made: NewSecret) -> dict[str, Any]:
    return {**_account(made.account), "client_secret": made.secret}


def _json(status: HTTPStatus, body: Mapping[str, Any]) -> web.Response:
    return web.Response(
        status=status,
        body=json.dumps(body).encode(),
        content_type="application/json",
        headers=_HEADERS,
    )
