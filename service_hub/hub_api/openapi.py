"""The OpenAPI 3.1 document of the hub's own routes, made from their table and their models."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from importlib.metadata import version
from typing import Any, Final

from aiohttp import web
from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from service_hub.domain.access import Right, roles_with
from service_hub.domain.errors import DomainError
from service_hub.hub_api.described import JSON, OPENAPI, OPERATIONS, OWN, Described
from service_hub.hub_api.server_routes import refusal_of
from service_hub.hub_api.shapes import Refusal
from service_hub.operator_door import GuardedRoute, check_anywhere, identified
from service_hub.ports.surroundings import Clock
from service_hub.ports.use_cases import OperatorTokens

VERSION: Final = "3.1.0"
DISTRIBUTION: Final = "site-recovery-hub"
_SCHEMAS: Final = "#/components/schemas/{model}"
_NAMES: Final = re.compile(r"{(\w+)}")
_BEARER: Final = "operatorToken"
_REFUSALS: Final = (
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.UNAUTHORIZED,
    HTTPStatus.FORBIDDEN,
    HTTPStatus.NOT_FOUND,
    HTTPStatus.CONFLICT,
    HTTPStatus.SERVICE_UNAVAILABLE,
)
_HEADERS: Final = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


References = Mapping[tuple[Any, Any], Any]
"""Where a model's schema is, by the model and what it is for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenApi:
    """The document, and what lets operators in to read it."""

    tokens: OperatorTokens
    clock: Clock
    document: bytes

    async def get(self, request: web.Request) -> web.Response:
        """Give the document to operators of any role: strangers learn nothing of the hub."""
        try:
            operator = await identified(self.tokens, request, self.clock.now())
            check_anywhere(operator, Right.READ)
        except DomainError as error:
            return refusal_of(error)
        return web.Response(body=self.document, content_type=JSON, headers=_HEADERS)


def with_document(
    routes: Iterable[GuardedRoute],
    tokens: OperatorTokens,
    clock: Clock,
    public_url: str,
) -> list[GuardedRoute]:
    """Return the hub's own routes with one more, which gives the document of them all."""
    own = [(each.method, each.path, each.right) for each in routes if each.path.startswith(OWN)]
    own.append(("GET", OPENAPI, Right.READ))
    told = document(own, release=version(DISTRIBUTION), public_url=public_url)
    api = OpenApi(tokens=tokens, clock=clock, document=json.dumps(told).encode())
    return [*routes, GuardedRoute("GET", OPENAPI, api.get, Right.READ)]


def document(
    routes: Iterable[tuple[str, str, Right | None]], *, release: str, public_url: str
) -> dict[str, Any]:
    """Return the document of routes, given as method, path and right.

    A route without a row is there by its path alone: a hub serves all the same, and a test of the
    form says which row is missing.
    """
    rights = {(method, path): right for method, path, right in routes}
    references, definitions = _schemas(OPERATIONS.values())
    paths: dict[str, dict[str, Any]] = {}
    for (method, path), right in sorted(rights.items(), key=lambda each: each[0]):
        row = OPERATIONS.get((method, path)) or Described(f"{method} {path}", "", {})
        operation = _operation(row, path, right, references)
        paths.setdefault(path, {})[method.lower()] = operation
    return {
        "openapi": VERSION,
        "info": {
            "title": "Site Recovery Hub: its own routes",
            "version": release,
            "description": "The ARM dialect, on the same port, is the official one's.",
        },
        "servers": [{"url": public_url}],
        "paths": paths,
        "components": {
            "schemas": definitions,
            "securitySchemes": {
                _BEARER: {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}
            },
        },
    }


def _schemas(
    operations: Iterable[Described],
) -> tuple[References, dict[str, Any]]:
    wanted: dict[tuple[type[BaseModel], JsonSchemaMode], None] = {(Refusal, "serialization"): None}
    for each in operations:
        answers = [*each.answers.values(), *(each.also or {}).values()]
        wanted |= {(model, "serialization"): None for model in answers if model is not None}
        if each.body is not None:
            wanted[each.body, "validation"] = None
    references, schemas = models_json_schema(list(wanted), ref_template=_SCHEMAS)
    return references, schemas.get("$defs", {})


def _operation(
    each: Described,
    path: str,
    right: Right | None,
    references: References,
) -> dict[str, Any]:
    content = {
        kind: {} if model is None else {"schema": references[model, "serialization"]}
        for kind, model in each.answers.items()
    }
    refusal = {JSON: {"schema": references[Refusal, "serialization"]}}
    responses = {each.status: content}
    for status, model in (each.also or {}).items():
        responses[status] = {JSON: {"schema": references[model, "serialization"]}}
    if right is not None:
        responses |= dict.fromkeys(_REFUSALS, refusal)
    told: dict[str, Any] = {
        "operationId": each.name,
        "summary": each.summary,
        "parameters": [
            *(
                {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
                for name in _NAMES.findall(path)
            ),
            *(
                {
                    "name": asked.name,
                    "in": "query",
                    "required": asked.required,
                    "schema": dict(asked.schema),
                }
                for asked in each.query
            ),
        ],
        "responses": {
            str(status.value): {"description": status.phrase, "content": given}
            for status, given in responses.items()
        },
        "security": [] if right is None else [{_BEARER: []}],
    }
    if right is not None:
        told["description"] = f"Asks for the right to {right.value}: {', '.join(roles_with(right))}"
    if each.body is not None:
        schema = references[each.body, "validation"]
        told["requestBody"] = {"content": {kind: {"schema": schema} for kind in each.body_types}}
    return told
