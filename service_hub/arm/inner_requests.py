"""Requests that the hub makes itself, through the very handlers that operators' requests reach."""

import contextlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Final

from pydantic import JsonValue

from service_hub.arm.api import ArmApi
from service_hub.arm.calls import Answer, Call, Handler
from service_hub.arm.errors import error_answer
from service_hub.arm.ids import CONTAINERS, FABRICS, PROTECTED_ITEMS, VaultIds, names_in_id
from service_hub.arm.item_places import (
    ItemPlace,
    Members,
    item_place,
    members_of_place,
    operation_on_all,
    refuse_test_network,
)
from service_hub.arm.plan_bodies import with_signatures
from service_hub.arm.routes import (
    ITEM_OPERATIONS,
    PLAN_OPERATIONS,
    missing_routes,
    working_routes,
)
from service_hub.domain.errors import (
    ConflictError,
    DomainError,
    InvalidRequestError,
    StorageUnavailableError,
)
from service_hub.domain.injections import ARM_VERBS, InjectionKind
from service_hub.domain.records import Vault
from service_hub.injection_ports import SurfaceRefusalError
from service_hub.looker_ports import Preview, PreviewUseCases
from service_hub.ports.use_cases import RequestIdentity

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


async def _no_route(_call: Call) -> Answer:
    raise ConflictError("a place has no route of its own")


_NOT_ROUTED: Final = _Found(_no_route, works=True, names={})
"""Of bodies that are read for a place: the surface has no such operation."""


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
        """Return when there is what the request is about; otherwise a DomainError says why not."""
        if (place := item_place(vault, target)) is not None:
            operation_on_all(event)
            await self._api.fabrics.find(vault, place.fabric)
            return
        found = self._found(vault, event, target)
        if not found.works:
            # It says by itself what this version doesn't have.
            with _as_the_surface_says(_NOBODY):
                await found.handler(_call(found, target, b"", _NOBODY))
        if ITEM in found.names:
            await self._api.protection.find(vault, found.names[ITEM].lower())
        if PLAN in found.names:
            await self._api.plans.find(vault, found.names[PLAN])

    async def check_body(
        self,
        vault: Vault,
        event: InjectionKind,
        target: str,
        arguments: Mapping[str, JsonValue],
    ) -> None:
        """Return when the surface would take these properties; else a SurfaceRefusalError."""
        place = item_place(vault, target)
        found = _NOT_ROUTED if place is not None else self._found(vault, event, target)
        call = _call(found, target, _body(arguments), _NOBODY)
        with _as_the_surface_says(_NOBODY):
            if place is not None:
                refuse_test_network(operation_on_all(event)[1](call, vault))
            elif PLAN in found.names:
                PLAN_OPERATIONS[ARM_VERBS[event]][1](call, vault)
            else:
                facts = await self._api.protection.find(vault, found.names[ITEM].lower())
                ITEM_OPERATIONS[ARM_VERBS[event]][1](call, vault, facts)

    async def begin(
        self,
        vault: Vault,
        event: InjectionKind,
        target: str,
        arguments: Mapping[str, JsonValue],
        identity: RequestIdentity,
    ) -> str:
        """Make the request; the id of its job. What is refused is a SurfaceRefusalError."""
        path = f"{target.rstrip('/')}/{ARM_VERBS[event]}"
        asked = replace(identity, path=path.lower())
        if (place := item_place(vault, target)) is not None:
            with _as_the_surface_says(asked):
                members = await self._together(vault, event, place, arguments)
                asked = with_signatures(asked, _body(arguments))
                return (await self._api.plans.run_together(vault, members.request, asked)).id
        found = self._found(vault, event, target)
        with _as_the_surface_says(asked):
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
        with _as_the_surface_says(_NOBODY):
            return await self._seen_before(vault, event, target, arguments)

    async def _seen_before(
        self,
        vault: Vault,
        event: InjectionKind,
        target: str,
        arguments: Mapping[str, JsonValue],
    ) -> Preview:
        if (place := item_place(vault, target)) is not None:
            members = await self._together(vault, event, place, arguments)
            return await self._foreseen(vault, members)
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

    async def _together(
        self,
        vault: Vault,
        event: InjectionKind,
        place: ItemPlace,
        arguments: Mapping[str, JsonValue],
    ) -> Members:
        """Return what is asked of the items of a place; an error where none of them allows it."""
        operation, read = operation_on_all(event)
        told = read(_call(_NOT_ROUTED, place.arm_id, _body(arguments), _NOBODY), vault)
        await self._api.fabrics.find(vault, place.fabric)
        items = [each.item for each in await self._api.protection.list(vault) if place.holds(each)]
        return members_of_place(place, operation, told, items, self._api.clock.now())

    async def _foreseen(self, vault: Vault, members: Members) -> Preview:
        request = members.request
        told = await self._previews.preview_plan(
            vault, request.operation.value, request.name, request.groups, request.arguments
        )
        return replace(told, notes=(*told.notes, *members.notes))

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
        fits = "a protected item"
        if ARM_VERBS[event] in PLAN_OPERATIONS:
            fits += ", a recovery plan, a container or a fabric"
        raise InvalidRequestError(
            f"{event.value} can't be injected into '{target}': name {fits} of this vault.", TARGET
        )


@contextlib.contextmanager
def _as_the_surface_says(identity: RequestIdentity) -> Iterator[None]:
    """Turn a refusal into the status and code that the surface itself would answer."""
    try:
        yield
    except StorageUnavailableError:
        raise
    except DomainError as error:
        answer = error_answer(error, identity)
        content = answer.body["error"] if isinstance(answer.body, Mapping) else {}
        code = str(content.get("code", "InvalidRequest"))
        raise SurfaceRefusalError(int(answer.status), code, str(error)) from error


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
