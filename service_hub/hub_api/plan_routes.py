"""The hub's own routes of recovery plans: exported and imported as documents, JSON or YAML."""

import asyncio
import hashlib
import json
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from aiohttp import web

from service_hub.domain.access import Right
from service_hub.domain.errors import InvalidRequestError
from service_hub.hub_api.plan_files import (
    JSON_TYPE,
    YAML_TYPE,
    document_bytes,
    plan_document,
    read_document,
)
from service_hub.hub_api.server_routes import OperatorCall, ServersApi
from service_hub.operator_door import GuardedRoute
from service_hub.plan_ports import PlanDocumentUseCases
from service_hub.ports.use_cases import RequestIdentity
from wire_contract.plan_documents import DOCUMENT_BYTES_MAX

PLAN: Final = "/hub/v1/vaults/{vault_id}/plans/{name}"
EXPORT: Final = f"{PLAN}/export"
IMPORT: Final = f"{PLAN}/import"

NAME_MAX: Final = 64
"""Of a plan, as on the ARM surface."""

_FORMS: Final = {"json": JSON_TYPE, "yaml": YAML_TYPE}
_HEADERS: Final = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanDocumentsApi:
    """What these routes need; `door` lets operators in and renders refusals."""

    door: ServersApi
    documents: PlanDocumentUseCases

    async def export(self, call: OperatorCall) -> web.Response:
        """Give a plan as a document: `format` is json (the default) or yaml."""
        form = _FORMS.get(call.query.get("format", "json"))
        if form is None:
            raise InvalidRequestError("The parameter 'format' must be json or yaml.", "format")
        document = await self.documents.export(call.vault, call.names["name"])
        return web.Response(
            body=await asyncio.to_thread(document_bytes, document, form),
            content_type=form,
            charset="utf-8",
            headers=_HEADERS,
        )

    async def take_in(self, call: OperatorCall) -> web.Response:
        """Save the plan of a document under the name in the path: 202 and its job."""
        name = call.names["name"]
        if len(name) > NAME_MAX or not name.isprintable():
            raise InvalidRequestError(
                f"The name of a plan has at most {NAME_MAX} characters that can be printed.", "name"
            )
        document = plan_document(call.body)
        job = await self.documents.take_in(call.vault, name, document, self._identity(call, name))
        told = {"plan": name, "job_id": job.id, "state": job.state.value}
        return web.Response(
            status=HTTPStatus.ACCEPTED,
            body=json.dumps(told).encode(),
            content_type=JSON_TYPE,
            headers=_HEADERS,
        )

    def _identity(self, call: OperatorCall, name: str) -> RequestIdentity:
        clock = self.door.clock
        body = json.dumps(call.body, sort_keys=True, default=str).encode()
        return RequestIdentity(
            principal=call.principal,
            client_request_id=call.request_id or clock.new_id(),
            correlation_id=clock.new_id(),
            method="POST",
            path=IMPORT.format(vault_id=call.vault.id, name=name).lower(),
            body_digest=hashlib.sha256(body).hexdigest(),
        )


def plan_routes(api: PlanDocumentsApi) -> list[GuardedRoute]:
    """Return the whole surface; read this to know it."""
    route = api.door.route
    return [
        route("GET", EXPORT, api.export, Right.READ),
        route(
            "POST",
            IMPORT,
            api.take_in,
            Right.CONFIGURE,
            body_bytes_max=DOCUMENT_BYTES_MAX,
            read=read_document,
        ),
    ]
