"""The hub's own routes about what lets servers in, and about the servers that are in."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from http import HTTPStatus
from typing import Any, Final

import structlog
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from service_hub.domain.access import ForbiddenError, Right
from service_hub.domain.errors import (
    ConflictError,
    DomainError,
    InvalidRequestError,
    IssuerUnavailableError,
    NotFoundError,
    StaleVersionError,
    StorageUnavailableError,
    UnauthenticatedError,
)
from service_hub.domain.liveness import OBSERVATION_INTERVAL, Stamp, freshness
from service_hub.domain.records import Vault
from service_hub.domain.servers import title_of
from service_hub.hub_api.looker_bodies import stamp_body
from service_hub.injection_ports import SurfaceRefusalError
from service_hub.operator_door import GuardedRoute, check_anywhere, check_vault, identified
from service_hub.operator_ports import (
    KeyFacts,
    RegistrationKeyUseCases,
    ServerFacts,
    ServerUseCases,
)
from service_hub.ports.surroundings import Clock
from service_hub.ports.use_cases import OperatorTokens, VaultUseCases
from service_hub.services.audit import asked_in
from wire_contract.operator_signature import HEADER

KEYS: Final = "/hub/v1/vaults/{vault_id}/registration-keys"
REVOKE_KEY: Final = "/hub/v1/vaults/{vault_id}/registration-keys/{thumbprint}/revoke"
SERVERS: Final = "/hub/v1/vaults/{vault_id}/servers"

BODY_BYTES_MAX: Final = 4_096
BODY_SECONDS_MAX: Final = 30
REQUEST_ID: Final = "x-ms-client-request-id"
REQUEST_ID_CHARACTERS_MAX: Final = 256
CREDENTIALS_TYPE: Final = "application/xml"

_HEADERS: Final = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class OperatorCall:
    """A request of an operator who may make it; `body` is a JSON object, empty without one.

    `request_id` is the client's own id of the request; `operator_signature` is never logged;
    `account` is the service account, if it is one.
    """

    principal: str
    vault: Vault
    names: Mapping[str, str]
    body: Mapping[str, Any] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    role: str = ""
    request_id: str | None = None
    operator_signature: str | None = field(default=None, repr=False)
    account: str | None = None


Use = Callable[[OperatorCall], Awaitable[web.Response]]
ReadBody = Callable[[bytes, str], Awaitable[Mapping[str, Any]]]
"""From a body within its bound, and its content type; InvalidRequestError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServersApi:
    """What these routes need, passed in by the composition root."""

    vaults: VaultUseCases
    keys: RegistrationKeyUseCases
    servers: ServerUseCases
    tokens: OperatorTokens
    clock: Clock
    observation_interval: timedelta = OBSERVATION_INTERVAL

    async def create_key(self, call: OperatorCall) -> web.Response:
        """Give a new vault credentials file; the only time that its private key is seen."""
        name = call.body.get("name")
        if name is not None and not isinstance(name, str):
            raise InvalidRequestError("The property 'name' must be a text.", "name")
        created = await self.keys.create(call.vault, name)
        log.info(
            "registration_key_handed_out",
            principal=call.principal,
            vault_id=call.vault.id,
            thumbprint=created.facts.key.id,
        )
        disposition = f'attachment; filename="{created.file_name}"'
        return web.Response(
            status=HTTPStatus.CREATED,
            body=created.credentials_file,
            content_type=CREDENTIALS_TYPE,
            charset="utf-8",
            headers={
                **_HEADERS,
                "Content-Disposition": disposition,
                "Registration-Key-Thumbprint": created.facts.key.id,
            },
        )

    async def list_keys(self, call: OperatorCall) -> web.Response:
        """Give what is known of a vault's registration keys."""
        found = await self.keys.list(call.vault)
        return _json(HTTPStatus.OK, {"keys": [_key(each) for each in found]})

    async def revoke_key(self, call: OperatorCall) -> web.Response:
        """Let a key enrol nobody any more."""
        revoked = await self.keys.revoke(call.vault, call.names["thumbprint"])
        log.info("registration_key_taken_back", principal=call.principal, thumbprint=revoked.key.id)
        return _json(HTTPStatus.OK, _key(revoked))

    async def list_servers(self, call: OperatorCall) -> web.Response:
        """Give a vault's registered servers."""
        found = await self.servers.list(call.vault)
        return _json(HTTPStatus.OK, {"servers": [self._server(each) for each in found]})

    def _server(self, facts: ServerFacts) -> dict[str, Any]:
        inventory, told = facts.fabric.inventory, None
        if inventory is not None:
            stamp = Stamp(inventory.observed_at, inventory.id, inventory.boot_id)
            fresh = freshness(stamp.observed_at, self.observation_interval, self.clock.now())
            told = stamp_body(stamp, fresh)
        # What the server says of itself is as old as its inventory.
        return {**_server(facts), "inventory": told}

    def route(
        self,
        method: str,
        path: str,
        use: Use,
        right: Right,
        *,
        body_bytes_max: int = BODY_BYTES_MAX,
        read: ReadBody | None = None,
    ) -> GuardedRoute:
        """Return a route that lets in who has the right, and renders every refusal.

        `read` makes an object of a body that is not JSON alone.
        """

        async def handle(request: web.Request) -> web.Response:
            try:
                return await use(await self.call_of(request, right, body_bytes_max, read))
            except DomainError as error:
                return refusal_of(error)

        return GuardedRoute(method, path, handle, right)

    async def call_of(
        self,
        request: web.Request,
        right: Right,
        body_bytes_max: int = BODY_BYTES_MAX,
        read: ReadBody | None = None,
    ) -> OperatorCall:
        """Return the request of an operator who may make it; any refusal is a DomainError."""
        operator = await identified(self.tokens, request, self.clock.now())
        vault_id = request.match_info["vault_id"].lower()
        vaults = {vault.id: vault for vault in await self.vaults.list_all()}
        if vault_id in vaults:
            asked_in(vault_id)
        check_anywhere(operator, right)
        if vault_id not in vaults:
            raise NotFoundError(vault_id)
        check_vault(operator, right, vault_id, vault_id)
        body: Mapping[str, Any] = {}
        if request.method == "POST":
            data = await _content(request, body_bytes_max)
            body = await (read or _json_object)(data, request.content_type)
        return OperatorCall(
            principal=operator.principal,
            vault=vaults[vault_id],
            names=dict(request.match_info),
            body=body,
            query=dict(request.query),
            role=operator.role,
            request_id=_request_id(request),
            operator_signature=request.headers.get(HEADER),
            account=operator.account,
        )


def server_routes(api: ServersApi) -> list[GuardedRoute]:
    """Return the whole surface; read this to know it."""
    return [
        api.route("POST", KEYS, api.create_key, Right.CONFIGURE),
        api.route("GET", KEYS, api.list_keys, Right.READ),
        api.route("POST", REVOKE_KEY, api.revoke_key, Right.CONFIGURE),
        api.route("GET", SERVERS, api.list_servers, Right.READ),
    ]


def _request_id(request: web.Request) -> str | None:
    text = request.headers.get(REQUEST_ID, "").strip()
    if not text:
        return None
    if len(text) > REQUEST_ID_CHARACTERS_MAX or not text.isascii() or not text.isprintable():
        raise InvalidRequestError(
            f"The header must be printable ASCII of at most {REQUEST_ID_CHARACTERS_MAX}"
            " characters.",
            REQUEST_ID,
        )
    return text


async def _content(request: web.Request, bytes_max: int) -> bytes:
    data = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS_MAX):
            async for chunk in request.content.iter_any():
                data += chunk
                if len(data) > bytes_max:
                    raise InvalidRequestError(f"The body is longer than {bytes_max} bytes.", "body")
    except (web.RequestPayloadError, HttpProcessingError, ConnectionError, TimeoutError):
        raise InvalidRequestError(
            "The body was cut off, came too slowly, or its encoding is broken.", "body"
        ) from None
    return bytes(data)


async def json_body(request: web.Request, bytes_max: int) -> Mapping[str, Any]:
    """Return the JSON object of a body, empty without one; InvalidRequestError."""
    return await _json_object(await _content(request, bytes_max), request.content_type)


async def _json_object(data: bytes, content_type: str) -> Mapping[str, Any]:
    del content_type
    if not data.strip():
        return {}
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        raise InvalidRequestError("The body isn't valid JSON in UTF-8.", "body") from None
    if not isinstance(value, dict):
        raise InvalidRequestError("The body must be a JSON object.", "body")
    return value


def _key(facts: KeyFacts) -> dict[str, Any]:
    key = facts.key
    return {
        "key_id": key.id,
        "name": key.name,
        "thumbprint": key.id,
        "created_at": key.created_at.isoformat(),
        "expires_at": key.expires_at.isoformat(),
        "revoked_at": None if key.revoked_at is None else key.revoked_at.isoformat(),
        "state": facts.state.value,
        "servers_enrolled": facts.servers_enrolled,
    }


def _server(facts: ServerFacts) -> dict[str, Any]:
    fabric, provider = facts.fabric, facts.fabric.provider
    heard = fabric.last_contact_at
    return {
        "provider_id": provider.id,
        "fabric_name": provider.fabric_name,
        "vmm_id": provider.vmm_id,
        "vmm_fqdn": provider.vmm_fqdn,
        "friendly_name": title_of(provider),
        "provider_version": provider.provider_version,
        "vmm_version": provider.vmm_version,
        "connected": fabric.connected,
        "last_contact_at": None if heard is None else heard.isoformat(),
        "certificate_thumbprints": list(facts.thumbprints),
        "protected_item_count": fabric.protected_item_count,
        # None: the provider has not said.
        "auto_update": provider.auto_update,
        "available_version": provider.available_version,
    }


def refusal_of(error: DomainError) -> web.Response:
    """Return a refusal as it is answered."""
    status, code = HTTPStatus.BAD_REQUEST, "InvalidRequest"
    match error:
        case UnauthenticatedError():
            status, code = HTTPStatus.UNAUTHORIZED, "InvalidAuthenticationToken"
        case ForbiddenError():
            status, code = HTTPStatus.FORBIDDEN, "AuthorizationFailed"
        case NotFoundError():
            status, code = HTTPStatus.NOT_FOUND, "NotFound"
        case ConflictError() | StaleVersionError():
            status, code = HTTPStatus.CONFLICT, "Conflict"
        case StorageUnavailableError() | IssuerUnavailableError():
            status, code = HTTPStatus.SERVICE_UNAVAILABLE, "ServiceUnavailable"
        case SurfaceRefusalError():
            status, code = HTTPStatus(error.status), error.code
        case _:
            pass
    response = _json(status, {"error": {"code": code, "message": str(error)}})
    if status is HTTPStatus.UNAUTHORIZED:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


def _json(status: HTTPStatus, body: dict[str, Any]) -> web.Response:
    return web.Response(
        status=status,
        body=json.dumps(body).encode(),
        content_type="application/json",
        headers=_HEADERS,
    )
