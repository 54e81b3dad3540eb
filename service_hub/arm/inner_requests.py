"""Requests that the hub makes itself, through the very handlers that operators' requests reach."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Final

from pydantic import JsonValue

from service_hub.arm.api import ArmApi
from service_hub.arm.calls import Call, Handler
from service_hub.arm.ids import CONTAINERS, FABRICS, PROTECTED_ITEMS, VaultIds, names_in_id
from service_hub.arm.routes import (
    ITEM_OPERATIONS,
    PLAN_OPERATIONS,
    missing_routes,
    working_routes,
)
from service_hub.domain.errors import ConflictError, InvalidRequestError
from service_hub.domain.injections import ARM_VERBS, InjectionKind
from service_hub.domain.records import Vault
from service_hub.looker_ports import Preview, PreviewUseCases
from service_hub.ports import RequestIdentity

TARGET: Final = "target"
ITEM: Final = "item"
PLAN: Final = "plan"

_NAME: Final = re.compile(r"\{(\w+)\}")
_IN_FABRICS: Final = (
    (FABRICS,),
    (FABRICS, CONTAINERS),
    (FABRICS, CONTAINERS, PROTECTED_ITEMS),
)
_NOBODY: Final = RequestIdentity("", "", "", "POST", "", "")
"""Of a look at what a request would do: it is stored nowhere."""


@dataclass(frozen=True, slots=True)
class _Found:
    """The handler of a request, whether this version has it, and the names in its path."""

    handler: Handler
    works: bool
    names: Mapping[str, str]


class InnerRequests:
    """The OperationRequests of the injection ports."""

    def __init__(self, api: ArmApi, previews: PreviewUseCases) -> None:
        self._api = api
        self._previews = previews
        self._routes = [
            (_pattern(route.path), route.handler, works)
            for routes, works in ((working_routes(api), True), (missing_routes(), False))
            for route in routes
            if route.method == "POST" and ":" not in route.path
        ]

    async def check(self, vault: Vault, event: InjectionKind, target: str) -> None:
        """Return when such a request can be made; otherwise a DomainError says why not."""
        found = self._found(vault, event, target)
        if not found.works:
            # It says by itself what this version doesn't have.
            await found.handler(_call(found, target, b"", _NOBODY))
        if ITEM in found.names:
            await self._api.protection.find(vault, found.names[ITEM].lower())

    async def begin(
        self,
        vault: Vault,
        event: InjectionKind,
        target: str,
        arguments: Mapping[str, JsonValue],
        identity: RequestIdentity,
    ) -> str:
        """Make the request; the id of its job. Whatever the route refuses is a DomainError."""
        found = self._found(vault, event, target)
        path = f"{target.rstrip('/')}/{ARM_VERBS[event]}"
        asked = replace(identity, path=path.lower())
        answer = await found.handler(_call(found, path, _body(arguments), asked))
        if answer.status != HTTPStatus.ACCEPTED or not answer.request_ids:
            raise ConflictError(f"{path} began no job")
        return answer.request_ids[0].rpartition("/")[2]

    async def foresee(
        self,
        vault: Vault,
        event: InjectionKind,
        target: str,
        arguments: Mapping[str, JsonValue],
    ) -> Preview:
        """Return what the request would do, without changing anything."""
        found = self._found(vault, event, target)
        verb = ARM_VERBS[event]
        if PLAN in found.names:
            asked, read_plan = PLAN_OPERATIONS[verb]
            given = read_plan(_call(found, target, _body(arguments), _NOBODY), vault)
            return await self._previews.preview_saved_plan(
                vault, asked.value, found.names[PLAN], given
            )
        if verb not in ITEM_OPERATIONS:
            # The route says by itself what this version doesn't have.
            await found.handler(_call(found, target, b"", _NOBODY))
        facts = await self._api.protection.find(vault, found.names[ITEM].lower())
        operation, read = ITEM_OPERATIONS[verb]
        told = read(_call(found, target, _body(arguments), _NOBODY), vault, facts)
        return await self._previews.preview(vault, operation.value, facts.item.id, told)

    def fabric_of(self, vault: Vault, target: str) -> str:
        """Return the name of the fabric that an id names or lies in; InvalidRequestError."""
        for kinds in _IN_FABRICS:
            try:
                return names_in_id(target, vault, kinds, TARGET)[0].lower()
            except InvalidRequestError:
                continue
        raise InvalidRequestError(
            "The property 'target' must be the id of a fabric of this vault, or of something in"
            " one.",
            TARGET,
        )

    def _found(self, vault: Vault, event: InjectionKind, target: str) -> _Found:
        if not target.lower().startswith(f"{VaultIds(vault).root}/".lower()):
            raise InvalidRequestError(
                "The property 'target' must be the id of a protected item or a recovery plan of"
                " this vault.",
                TARGET,
            )
        path = f"{target.rstrip('/')}/{ARM_VERBS[event]}"
        for pattern, handler, works in self._routes:
            match = pattern.fullmatch(path)
            if match is not None:
                return _Found(handler, works, match.groupdict())
        raise InvalidRequestError(
            f"{event.value} can't be injected into '{target}': name a protected item or a recovery"
            " plan.",
            TARGET,
        )


def _pattern(path: str) -> re.Pattern[str]:
    """Return what matches a path of the surface, fixed parts in any case, as the router does."""
    parts = _NAME.split(path)
    return re.compile(
        "".join(
            f"(?P<{part}>[^/]+)" if index % 2 else f"(?i:{re.escape(part)})"
            for index, part in enumerate(parts)
        )
    )


def _body(arguments: Mapping[str, JsonValue]) -> bytes:
    return json.dumps({"properties": arguments}).encode() if arguments else b""


def _call(found: _Found, url: str, body: bytes, identity: RequestIdentity) -> Call:
    return Call(identity=identity, names=found.names, query={}, body=body, url=url)
