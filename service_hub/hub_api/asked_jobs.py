"""What routes of the hub that begin a job share: which request it is, and the answer."""

import hashlib
import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

from aiohttp import web
from pydantic import JsonValue

from service_hub.hub_api.server_routes import OperatorCall
from service_hub.ports.surroundings import Clock
from service_hub.ports.use_cases import RequestIdentity

NO_STORE: Final = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


def identity_of(call: OperatorCall, path: str, clock: Clock) -> RequestIdentity:
    """Return who asks and which request it is: sent again, it is known by path, id and body."""
    body = json.dumps(call.body, sort_keys=True, default=str).encode()
    return RequestIdentity(
        principal=call.principal,
        client_request_id=call.request_id or clock.new_id(),
        correlation_id=clock.new_id(),
        method="POST",
        path=path.lower(),
        body_digest=hashlib.sha256(body).hexdigest(),
        operator_signature=call.operator_signature,
    )


def accepted_job(told: Mapping[str, JsonValue]) -> web.Response:
    """Answer 202 with what is told of the job that began."""
    return web.Response(
        status=HTTPStatus.ACCEPTED,
        body=json.dumps(told).encode(),
        content_type="application/json",
        headers=NO_STORE,
    )
