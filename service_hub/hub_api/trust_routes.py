"""The hub's own routes about servers' identities: approvals, revocation, alerts."""

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from aiohttp import web

from service_hub.domain.errors import (
    ConflictError,
    DomainError,
    NotFoundError,
    StaleVersionError,
    StorageUnavailableError,
    UnauthenticatedError,
)
from service_hub.domain.records import Alert, PendingApproval
from service_hub.operator_ports import SignatureUseCases
from service_hub.ports import (
    ApprovalUseCases,
    CertificateUseCases,
    Clock,
    OperatorTokens,
    VaultUseCases,
)

APPROVALS: Final = "/hub/v1/vaults/{vault_id}/approvals"
APPROVE: Final = "/hub/v1/vaults/{vault_id}/approvals/{approval_id}/approve"
REJECT: Final = "/hub/v1/vaults/{vault_id}/approvals/{approval_id}/reject"
REVOKE: Final = "/hub/v1/vaults/{vault_id}/servers/{provider_id}/revoke"
SIGNATURES_REQUIRE: Final = "/hub/v1/vaults/{vault_id}/operator-signature/require"
SIGNATURES_RELEASE: Final = "/hub/v1/vaults/{vault_id}/operator-signature/release"
ALERTS: Final = "/hub/v1/vaults/{vault_id}/alerts"

CHANGING_ROLES: Final = frozenset({"Owner", "Contributor"})
READING_ROLES: Final = CHANGING_ROLES | {"Reader"}

_HEADERS: Final = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


@dataclass(frozen=True, slots=True)
class OperatorCall:
    """A request of an operator who may make it."""

    principal: str
    vault_id: str
    names: Mapping[str, str]


Use = Callable[[OperatorCall], Awaitable[dict[str, Any]]]


class RefusedError(Exception):
    """The request is answered with a problem."""

    def __init__(self, status: HTTPStatus, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustApi:
    """What these routes need, passed in by the composition root."""

    vaults: VaultUseCases
    approvals: ApprovalUseCases
    certificates: CertificateUseCases
    signatures: SignatureUseCases
    tokens: OperatorTokens
    clock: Clock

    async def list_approvals(self, call: OperatorCall) -> dict[str, Any]:
        """Give all requests of known servers, decided ones too."""
        found = await self.approvals.list(call.vault_id)
        return {"approvals": [_approval(each) for each in found]}

    async def approve(self, call: OperatorCall) -> dict[str, Any]:
        """Let the new key take the server over."""
        approval_id = call.names["approval_id"]
        return _approval(await self.approvals.approve(call.vault_id, approval_id, call.principal))

    async def reject(self, call: OperatorCall) -> dict[str, Any]:
        """Refuse the new key for good."""
        approval_id = call.names["approval_id"]
        return _approval(await self.approvals.reject(call.vault_id, approval_id, call.principal))

    async def revoke(self, call: OperatorCall) -> dict[str, Any]:
        """Revoke all certificates of a server and end its connections."""
        provider_id = call.names["provider_id"]
        count = await self.certificates.revoke_server(call.vault_id, provider_id, call.principal)
        return {"provider_id": provider_id, "revoked_certificate_count": count}

    async def require_signatures(self, call: OperatorCall) -> dict[str, Any]:
        """Have the vault's destructive operations want an operator's signature."""
        await self.signatures.require(call.vault_id, call.principal, required=True)
        return {"operator_signature_required": True}

    async def release_signatures(self, call: OperatorCall) -> dict[str, Any]:
        """Ask for no signature any more; servers that insist by themselves go on."""
        await self.signatures.require(call.vault_id, call.principal, required=False)
        return {"operator_signature_required": False}

    async def list_alerts(self, call: OperatorCall) -> dict[str, Any]:
        """Give what was raised about the vault's servers."""
        found = await self.certificates.alerts(call.vault_id)
        return {"alerts": [_alert(each) for each in found]}

    def guarded(
        self, use: Use, roles: frozenset[str]
    ) -> Callable[[web.Request], Awaitable[web.Response]]:
        """Return a handler that lets in these roles only and renders every refusal."""

        async def handle(request: web.Request) -> web.Response:
            try:
                return _json(HTTPStatus.OK, await use(await self._call(request, roles)))
            except (RefusedError, DomainError) as error:
                return _problem(error)

        return handle

    async def _call(self, request: web.Request, roles: frozenset[str]) -> OperatorCall:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise UnauthenticatedError("The request has no bearer token.")
        operator = self.tokens.verify(token.strip(), self.clock.now())
        if operator.role not in roles:
            message = f"The role '{operator.role}' has no right to do this."
            raise RefusedError(HTTPStatus.FORBIDDEN, "AuthorizationFailed", message)
        vault_id = request.match_info["vault_id"].lower()
        if vault_id not in {vault.id for vault in await self.vaults.list_all()}:
            raise NotFoundError(vault_id)
        return OperatorCall(operator.principal, vault_id, dict(request.match_info))


def trust_routes(api: TrustApi) -> list[web.RouteDef]:
    """Return the whole surface; read this to know it."""
    return [
        web.get(APPROVALS, api.guarded(api.list_approvals, READING_ROLES)),
        web.post(APPROVE, api.guarded(api.approve, CHANGING_ROLES)),
        web.post(REJECT, api.guarded(api.reject, CHANGING_ROLES)),
        web.post(REVOKE, api.guarded(api.revoke, CHANGING_ROLES)),
        web.post(SIGNATURES_REQUIRE, api.guarded(api.require_signatures, CHANGING_ROLES)),
        web.post(SIGNATURES_RELEASE, api.guarded(api.release_signatures, CHANGING_ROLES)),
        web.get(ALERTS, api.guarded(api.list_alerts, READING_ROLES)),
    ]


def _approval(approval: PendingApproval) -> dict[str, Any]:
    shown: dict[str, Any] = approval.model_dump(
        mode="json", exclude={"request_pem", "chain_pem", "vault_id"}
    )
    return shown


def _alert(alert: Alert) -> dict[str, Any]:
    shown: dict[str, Any] = alert.model_dump(mode="json", exclude={"vault_id"})
    return shown


def _problem(error: RefusedError | DomainError) -> web.Response:
    match error:
        case RefusedError():
            return _refusal(error.status, error.code, str(error))
        case UnauthenticatedError():
            refusal = _refusal(HTTPStatus.UNAUTHORIZED, "InvalidAuthenticationToken", str(error))
            refusal.headers["WWW-Authenticate"] = "Bearer"
            return refusal
        case NotFoundError():
            return _refusal(HTTPStatus.NOT_FOUND, "NotFound", str(error))
        case ConflictError() | StaleVersionError():
            return _refusal(HTTPStatus.CONFLICT, "Conflict", str(error))
        case StorageUnavailableError():
            return _refusal(HTTPStatus.SERVICE_UNAVAILABLE, "ServiceUnavailable", str(error))
    return _refusal(HTTPStatus.BAD_REQUEST, "InvalidRequest", str(error))


def _refusal(status: HTTPStatus, code: str, message: str) -> web.Response:
    return _json(status, {"error": {"code": code, "message": message}})


def _json(status: HTTPStatus, body: dict[str, Any]) -> web.Response:
    return web.Response(
        status=status,
        body=json.dumps(body).encode(),
        content_type="application/json",
        headers=_HEADERS,
    )
