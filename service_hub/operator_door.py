"""How operators come in, whichever surface they ask: routes with their rights, who asks, what of.

Both surfaces stand behind it, so that one place says who is let in.
"""

import json
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from http import HTTPStatus
from itertools import takewhile
from typing import Final

import structlog
from aiohttp import web

from service_hub.domain.access import OperatorIdentity, Right, refusal
from service_hub.domain.audit import AskedRequest
from service_hub.domain.errors import (
    NotFoundError,
    StorageUnavailableError,
    UnauthenticatedError,
)
from service_hub.ports.surroundings import Clock
from service_hub.ports.use_cases import OperatorTokens
from service_hub.route_shelf import RouteShelf, Segments
from service_hub.services.audit import AuditTrail, OpenRequest, asked_by, request_open

READING: Final = frozenset({"GET", "HEAD"})

log = structlog.get_logger(__name__)

WebHandler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class GuardedRoute(web.AbstractRouteDef):
    """A route and the right that its handler asks for; None: everybody may, without a token.

    `segments`: of a path whose fixed parts may be spelt in any case.
    """

    method: str
    path: str
    handler: WebHandler
    right: Right | None
    segments: Segments | None = None

    def register(self, router: web.UrlDispatcher) -> list[web.AbstractRoute]:
        """Add it as aiohttp's own definitions do: who may GET may HEAD."""
        if self.method == "GET":
            return [router.add_get(self.path, self.handler)]
        return [router.add_route(self.method, self.path, self.handler)]


RIGHTS: Final = web.AppKey("rights", tuple)
"""Under this an application holds all its routes as (method, path, right)."""


@dataclass(frozen=True, slots=True)
class Audit:
    """What writes the audit log of requests."""

    trail: AuditTrail
    clock: Clock

    def over(self, route: GuardedRoute) -> GuardedRoute:
        """Return the route with what it is asked for told in the log."""

        async def handle(request: web.Request) -> web.StreamResponse:
            asked = AskedRequest(
                method=request.method,
                target=request.path,
                address=request.remote or "",
                correlation_id=self.clock.new_id(),
                client_request_id=request.headers.get("x-ms-client-request-id", ""),
            )
            with request_open(asked) as opened:
                response = await route.handler(request)
            if _is_told(route, request.method, response.status):
                await self._tell(opened, response)
            return response

        return replace(route, handler=handle)

    async def _tell(self, opened: OpenRequest, response: web.StreamResponse) -> None:
        try:
            await self.trail.answered(opened, response.status, _code_of(response))
        except StorageUnavailableError as error:
            # The change, if there was one, has its own line; the answer stands.
            log.warning("audit_line_lost", cause=error.cause, **_facts(opened, response))


def _is_told(route: GuardedRoute, method: str, status: int) -> bool:
    refused = status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}
    return refused or (method not in READING and route.right is not Right.READ)


def _facts(opened: OpenRequest, response: web.StreamResponse) -> dict[str, str | int]:
    asked = opened.asked
    return {
        "principal": asked.principal,
        "method": asked.method,
        "path": asked.target,
        "status": response.status,
        "correlation_id": asked.correlation_id,
    }


def _code_of(response: web.StreamResponse) -> str | None:
    """Return the error code of an answer of ours."""
    if response.status < HTTPStatus.BAD_REQUEST or not isinstance(response, web.Response):
        return None
    if not isinstance(response.body, bytes):
        return None
    error = json.loads(response.body).get("error")
    return str(error["code"]) if isinstance(error, dict) else error


def add_guarded(application: web.Application, routes: Iterable[GuardedRoute], audit: Audit) -> None:
    """Add routes, audited, and note for whoever asks which right each wants."""
    known = tuple(audit.over(each) for each in routes)
    shelved = [(each.segments, each) for each in known if each.segments is not None]
    before = [*takewhile(lambda each: each.segments is None, known)]
    application.add_routes(before)
    application.router.register_resource(RouteShelf(shelved))
    application.add_routes([each for each in known[len(before) :] if each.segments is None])
    application[RIGHTS] = tuple((each.method, each.path, each.right) for each in known)


async def identified(
    tokens: OperatorTokens, request: web.Request, now: datetime
) -> OperatorIdentity:
    """Return who asks; UnauthenticatedError says what is wrong with the token, not the token."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise UnauthenticatedError(
            "The request has no bearer token. Send 'Authorization: Bearer TOKEN'; a token is made"
            " by 'service-hub token issue'."
        )
    operator = await tokens.verify(token.strip(), now)
    asked_by(operator)
    return operator


def check_anywhere(operator: OperatorIdentity, right: Right) -> None:
    """Raise ForbiddenError where the right is given in no vault at all."""
    if not operator.may_somewhere(right):
        raise refusal(operator, right)


def check_vault(operator: OperatorIdentity, right: Right, vault_id: str, name: str) -> None:
    """Raise NotFoundError for a vault that is not there for who asks, else ForbiddenError.

    The words for a foreign vault are those for one that does not exist.
    """
    if not operator.sees(vault_id):
        raise NotFoundError(name)
    if not operator.may(right, vault_id):
        raise refusal(operator, right)
