"""The hub's own routes about servers' identities: approvals, revocation, alerts."""

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from aiohttp import web

from service_hub.domain.access import Right
from service_hub.domain.errors import DomainError, NotFoundError
from service_hub.domain.records import Alert, PendingApproval
from service_hub.hub_api.server_routes import refusal_of
from service_hub.operator_door import GuardedRoute, check_anywhere, check_vault, identified
from service_hub.operator_ports import SignatureUseCases
from service_hub.ports.channel import CertificateUseCases
from service_hub.ports.surroundings import Clock
from service_hub.ports.use_cases import ApprovalUseCases, OperatorTokens, VaultUseCases
from service_hub.services.audit import asked_in

APPROVALS: Final = "/hub/v1/vaults/{vault_id}/approvals"
APPROVE: Final = "/hub/v1/vaults/{vault_id}/approvals/{approval_id}/approve"
REJECT: Final = "/hub/v1/vaults/{vault_id}/approvals/{approval_id}/reject"
REVOKE: Final = "/hub/v1/vaults/{vault_id}/servers/{provider_id}/revoke"
SIGNATURES_REQUIRE: Final = "/hub/v1/vaults/{vault_id}/operator-signature/require"
SIGNATURES_RELEASE: Final = "/hub/v1/vaults/{vault_id}/operator-signature/release"
ALERTS: Final = "/hub/v1/vaults/{vault_id}/alerts"

_HEADERS: Final = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


@dataclass(frozen=True, slots=True)
class OperatorCall:
    """A request of an operator who may make it."""

    principal: str
    vault_id: str
    names: Mapping[str, str]


Use = Callable[[OperatorCall], Awaitable[dict[str, Any]]]


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

    def route(self, method: str, path: str, use: Use, right: Right) -> GuardedRoute:
        """Return a route that lets in who has the right, and renders every refusal."""

        async def handle(request: web.Request) -> web.Response:
            try:
                return _json(HTTPStatus.OK, await use(await self._call(request, right)))
            except DomainError as error:
                return refusal_of(error)

        return GuardedRoute(method, path, handle, right)

    async def _call(self, request: web.Request, right: Right) -> OperatorCall:
        operator = await identified(self.tokens, request, self.clock.now())
        vault_id = request.match_info["vault_id"].lower()
        exists = vault_id in {vault.id for vault in await self.vaults.list_all()}
        if exists:
            asked_in(vault_id)
        check_anywhere(operator, right)
        if not exists:
            raise NotFoundError(vault_id)
        check_vault(operator, right, vault_id, vault_id)
        return OperatorCall(operator.principal, vault_id, dict(request.match_info))


def trust_routes(api: TrustApi) -> list[GuardedRoute]:
    """Return the whole surface; read this to know it."""
    return [
        api.route("GET", APPROVALS, api.list_approvals, Right.READ),
        api.route("POST", APPROVE, api.approve, Right.CONFIGURE),
        api.route("POST", REJECT, api.reject, Right.CONFIGURE),
        api.route("POST", REVOKE, api.revoke, Right.CONFIGURE),
        api.route("POST", SIGNATURES_REQUIRE, api.require_signatures, Right.CONFIGURE),
        api.route("POST", SIGNATURES_RELEASE, api.release_signatures, Right.CONFIGURE),
        api.route("GET", ALERTS, api.list_alerts, Right.READ),
    ]


def _approval(approval: PendingApproval) -> dict[str, Any]:
    shown: dict[str, Any] = approval.model_dump(
        mode="json", exclude={"request_pem", "chain_pem", "vault_id"}
    )
    return shown


def _alert(alert: Alert) -> dict[str, Any]:
    shown: dict[str, Any] = alert.model_dump(mode="json", exclude={"vault_id"})
    return shown


def _json(status: HTTPStatus, body: dict[str, Any]) -> web.Response:
    return web.Response(
        status=status,
        body=json.dumps(body).encode(),
        content_type="application/json",
        headers=_HEADERS,
    )
