"""The hub's own routes of recovery plans: exported and imported as documents, JSON or YAML."""

import asyncio
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from service_hub.domain.access import Right
from service_hub.domain.errors import InvalidRequestError
from service_hub.hub_api.asked_jobs import NO_STORE, accepted_job, identity_of
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
from wire_contract.plan_documents import DOCUMENT_BYTES_MAX

PLAN: Final = "/hub/v1/vaults/{vault_id}/plans/{name}"
EXPORT: Final = f"{PLAN}/export"
IMPORT: Final = f"{PLAN}/import"

NAME_MAX: Final = 64
"""Of a plan, as on the ARM surface."""

_FORMS: Final = {"json": JSON_TYPE, "yaml": YAML_TYPE}


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
            headers=NO_STORE,
        )

    async def take_in(self, call: OperatorCall) -> web.Response:
        """Save the plan of a document under the name in the path: 202 and its job."""
        name = call.names["name"]
        if len(name) > NAME_MAX or not name.isprintable():
            raise InvalidRequestError(
                f"The name of a plan has at most {NAME_MAX} characters that can be printed.", "name"
            )
        document = plan_document(call.body)
        path = IMPORT.format(vault_id=call.vault.id, name=name)
        identity = identity_of(call, path, self.door.clock)
        job = await self.documents.take_in(call.vault, name, document, identity)
        return accepted_job({"plan": name, "job_id": job.id, "state": job.state.value})


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
