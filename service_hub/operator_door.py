"""How operators come in, whichever surface they ask: routes with their rights, who asks, what of.

Both surfaces stand behind it, so that one place says who is let in.
"""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from aiohttp import web

from service_hub.domain.access import OperatorIdentity, Right, refusal
from service_hub.domain.errors import NotFoundError, UnauthenticatedError
from service_hub.ports import OperatorTokens

READING: Final = frozenset({"GET", "HEAD"})

WebHandler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class GuardedRoute(web.AbstractRouteDef):
    """A route and the right that its handler asks for; None: everybody may, without a token."""

    method: str
    path: str
    handler: WebHandler
    right: Right | None

    def register(self, router: web.UrlDispatcher) -> list[web.AbstractRoute]:
        """Add it as aiohttp's own definitions do: who may GET may HEAD."""
        if self.method == "GET":
            return [router.add_get(self.path, self.handler)]
        return [router.add_route(self.method, self.path, self.handler)]


RIGHTS: Final = web.AppKey("rights", tuple)
"""Under this an application holds all its routes as (method, path, right)."""


def add_guarded(application: web.Application, routes: Iterable[GuardedRoute]) -> None:
    """Add routes, and note for whoever asks which right each wants."""
    known = tuple(routes)
    application.add_routes(known)
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
    return await tokens.verify(token.strip(), now)


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
