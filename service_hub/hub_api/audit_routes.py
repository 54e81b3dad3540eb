"""The hub's own routes about the audit log: a vault's, and the hub's own, as JSON lines."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from service_hub.domain.access import Right
from service_hub.domain.audit import HUB, AuditPlace, exported
from service_hub.domain.errors import DomainError, InvalidRequestError
from service_hub.hub_api.server_routes import ServersApi, refusal_of
from service_hub.operator_door import GuardedRoute, identified
from service_hub.ports.stores import AuditReader

VAULT_AUDIT: Final = "/hub/v1/vaults/{vault_id}/audit"
HUB_AUDIT: Final = "/hub/v1/audit"

LINES_AT_ONCE: Final = 500
NUMBER_MAX: Final = 2**62

_HEADERS: Final = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
LINES_TYPE: Final = "application/jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditApi:
    """What these routes need; `door` lets operators in and renders refusals."""

    door: ServersApi
    lines: AuditReader

    async def of_vault(self, request: web.Request) -> web.StreamResponse:
        """Give a vault's lines as they are read, oldest first, however many there are."""
        try:
            call = await self.door.call_of(request, Right.READ)
            after = _place(request)
        except DomainError as error:
            return refusal_of(error)
        return await self._give(request, call.vault.id, after)

    async def of_hub(self, request: web.Request) -> web.StreamResponse:
        """Give the lines of what is asked of the hub itself, strangers' refusals among them."""
        try:
            operator = await identified(self.door.tokens, request, self.door.clock.now())
            operator.check(Right.ADMINISTER)
            after = _place(request)
        except DomainError as error:
            return refusal_of(error)
        return await self._give(request, HUB, after)

    async def _give(
        self, request: web.Request, vault_id: str, after: AuditPlace | None
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers=_HEADERS)
        response.content_type = LINES_TYPE
        response.charset = "utf-8"
        await response.prepare(request)
        async for page in self._pages(vault_id, after):
            await response.write(page)
        await response.write_eof()
        return response

    async def _pages(self, vault_id: str, after: AuditPlace | None) -> AsyncIterator[bytes]:
        while found := await self.lines.audit_lines(vault_id, after, LINES_AT_ONCE):
            yield "".join(f"{json.dumps(exported(each))}\n" for each in found).encode()
            after = found[-1].place


def audit_routes(api: AuditApi) -> list[GuardedRoute]:
    """Return the whole surface; read this to know it."""
    return [
        GuardedRoute("GET", VAULT_AUDIT, api.of_vault, Right.READ),
        GuardedRoute("GET", HUB_AUDIT, api.of_hub, Right.ADMINISTER),
    ]


def _place(request: web.Request) -> AuditPlace | None:
    """Return the number behind which to begin (`after`, as exported), or None."""
    text = request.query.get("after")
    if text is None:
        return None
    change, _, position = text.partition(".")
    digits = all(part.isascii() and part.isdigit() for part in (change, position))
    if not digits or len(text) > len(str(NUMBER_MAX)) or int(change) > NUMBER_MAX:
        raise InvalidRequestError(
            "The parameter 'after' must be a line's number, such as 120.0.", "after"
        )
    return AuditPlace(int(change), min(int(position), 2**31 - 1))
