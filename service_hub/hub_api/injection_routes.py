"""The hub's own routes for events that are injected."""

import contextlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Any, Final

from aiohttp import web

from service_hub.domain.access import Right
from service_hub.domain.errors import InvalidRequestError
from service_hub.domain.injections import SITE_KINDS, Injection, InjectionKind
from service_hub.domain.scenarios import INJECT_EVENT
from service_hub.hub_api.looker_bodies import preview_body
from service_hub.hub_api.server_routes import OperatorCall, ServersApi
from service_hub.injection_ports import InjectionRequest, InjectionUseCases, Injector
from service_hub.operator_door import GuardedRoute

INJECTIONS: Final = "/hub/v1/vaults/{vault_id}/injections"
INJECTION: Final = "/hub/v1/vaults/{vault_id}/injections/{injection_id}"
CANCEL: Final = f"{INJECTION}/cancel"

BODY_BYTES_MAX: Final = 65_536
TARGET_MAX: Final = 1_024
CRON_MAX: Final = 100

_PROPERTIES: Final = frozenset({"kind", "target", "at", "cron", "arguments", "dryRun"})
_RFC_3339: Final = re.compile(
    r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII
)
SIGNATURES: Final = "operatorSignatures"
_HEADERS: Final = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


@dataclass(frozen=True, slots=True, kw_only=True)
class InjectionApi:
    """What these routes need; `door` lets operators in and renders refusals."""

    door: ServersApi
    injections: InjectionUseCases

    async def inject(self, call: OperatorCall) -> web.Response:
        """Take an event: 202 with its id and that of its job, 200 with the tasks for a dry run."""
        request, dry = request_of(call.body)
        if dry:
            return await self._foreseen(call, request)
        who = Injector(
            call.principal, call.role, call.request_id, call.operator_signature, call.account
        )
        injection = await self.injections.inject(call.vault, request, who)
        told = {"injectionId": injection.id, "jobId": injection.job_id}
        return _json(HTTPStatus.ACCEPTED, told)

    async def _foreseen(self, call: OperatorCall, request: InjectionRequest) -> web.Response:
        if request.event in SITE_KINDS:
            await self.injections.check(call.vault, request)
            tasks = [
                {"taskId": each.task_id, "name": each.name, "friendlyName": each.friendly_name}
                for each in INJECT_EVENT.tasks
            ]
            return _json(HTTPStatus.OK, {"target": request.target, "tasks": tasks})
        return _json(
            HTTPStatus.OK, preview_body(await self.injections.foresee(call.vault, request))
        )

    async def list(self, call: OperatorCall) -> web.Response:
        """Give all injections, the newest first."""
        found = await self.injections.list(call.vault)
        return _json(HTTPStatus.OK, {"injections": [_body(each) for each in found]})

    async def get(self, call: OperatorCall) -> web.Response:
        """Give one."""
        found = await self.injections.find(call.vault, call.names["injection_id"])
        return _json(HTTPStatus.OK, _body(found))

    async def cancel(self, call: OperatorCall) -> web.Response:
        """Have nothing more come of one."""
        name = call.names["injection_id"]
        changed = await self.injections.cancel(call.vault, name, call.principal)
        return _json(HTTPStatus.OK, _body(changed))


def injection_routes(api: InjectionApi) -> list[GuardedRoute]:
    """Return the whole surface; read this to know it."""
    route = api.door.route
    return [
        route("POST", INJECTIONS, api.inject, Right.INJECT, body_bytes_max=BODY_BYTES_MAX),
        route("GET", INJECTIONS, api.list, Right.SEE_INJECTIONS),
        route("GET", INJECTION, api.get, Right.SEE_INJECTIONS),
        route("POST", CANCEL, api.cancel, Right.INJECT),
    ]


def request_of(body: Mapping[str, Any]) -> tuple[InjectionRequest, bool]:
    """Return what a body asks for, and whether only to tell; InvalidRequestError names why not."""
    unknown = set(body) - _PROPERTIES
    if unknown:
        raise InvalidRequestError(f"The property '{min(unknown)}' is not known.", min(unknown))
    kinds = {each.value: each for each in InjectionKind}
    event = kinds.get(str(body.get("kind")))
    if event is None:
        raise InvalidRequestError(
            f"The property 'kind' must be one of: {', '.join(sorted(kinds))}.", "kind"
        )
    arguments = body.get("arguments")
    if arguments is not None and not isinstance(arguments, dict):
        raise InvalidRequestError("The property 'arguments' must be an object.", "arguments")
    dry = body.get("dryRun", False)
    if not isinstance(dry, bool):
        raise InvalidRequestError("The property 'dryRun' must be true or false.", "dryRun")
    target = _text(body, "target", TARGET_MAX)
    if target is None:
        raise InvalidRequestError("The property 'target' must be an ARM id.", "target")
    request = InjectionRequest(
        event=event,
        target=target,
        arguments=arguments or {},
        at=_moment(body),
        cron=_text(body, "cron", CRON_MAX),
    )
    return request, dry


def _text(body: Mapping[str, Any], name: str, characters_max: int) -> str | None:
    value = body.get(name)
    if value is None:
        return None
    fits = isinstance(value, str) and 0 < len(value) <= characters_max and value.isprintable()
    if not fits:
        raise InvalidRequestError(
            f"The property '{name}' must be a text of at most {characters_max} characters.", name
        )
    return str(value)


def _moment(body: Mapping[str, Any]) -> datetime | None:
    text = _text(body, "at", CRON_MAX)
    if text is None:
        return None
    at = None
    # fromisoformat alone takes week dates and times without separators, which RFC 3339 has not.
    if _RFC_3339.fullmatch(text):
        with contextlib.suppress(ValueError):
            at = datetime.fromisoformat(text.upper())
    if at is None:
        raise InvalidRequestError(
            "The property 'at' must be a time with its offset (RFC 3339), such as"
            " 2026-01-31T12:00:00Z.",
            "at",
        )
    return at


def _body(injection: Injection) -> dict[str, Any]:
    return {
        "injectionId": injection.id,
        "kind": injection.event.value,
        "target": injection.target,
        # Whoever may look needs no operator's signatures.
        "arguments": {k: v for k, v in injection.arguments.items() if k != SIGNATURES},
        "state": injection.state.value,
        "cron": injection.cron,
        "nextAt": None if injection.next_at is None else injection.next_at.isoformat(),
        "requestedAt": injection.requested_at.isoformat(),
        "principal": injection.principal,
        "role": injection.role,
        "times": injection.times,
        "jobId": injection.job_id,
        "message": injection.message,
        "code": injection.code,
    }


def _json(status: HTTPStatus, body: Mapping[str, Any]) -> web.Response:
    return web.Response(
        status=status,
        body=json.dumps(body).encode(),
        content_type="application/json",
        headers=_HEADERS,
    )
