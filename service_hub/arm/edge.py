"""Between the HTTP library and the handlers: who asks, how much may come, how errors look.

Every handler of the surface is wrapped here; no route can forget to authenticate.
"""

import asyncio
import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Final

import orjson
import structlog
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web import RequestPayloadError
from multidict import CIMultiDict

from service_hub.arm.api import ArmApi
from service_hub.arm.bodies import BODY_BYTES_MAX, PLAN_BODY_BYTES_MAX, storable_text
from service_hub.arm.calls import Answer, Call, Handler
from service_hub.arm.errors import (
    BodyTooLargeError,
    BrokenRequestError,
    error_answer,
    fault_answer,
)
from service_hub.arm.times import request_time
from service_hub.domain.access import OperatorIdentity, Right, refusal
from service_hub.domain.errors import DomainError, InvalidRequestError, NotFoundError
from service_hub.operator_door import (
    READING,
    WebHandler,
    check_vault,
    identified,
)
from service_hub.ports.use_cases import RequestIdentity
from service_hub.services.audit import asked_in, correlation
from wire_contract.operator_signature import HEADER

BODY_SECONDS_MAX: Final = 30
"""Longest for a body of at most PLAN_BODY_BYTES_MAX to arrive."""

CLIENT_REQUEST_ID_CHARACTERS_MAX: Final = 256
NAME_CHARACTERS_MAX: Final = 260
"""Longest name in a path; that of ARM resource names."""

_CHUNK_BYTES: Final = 65_536

_USUAL_HEADERS: Final = {
    "Cache-Control": "no-cache",
    "Pragma": "no-cache",
    "Expires": "-1",
    "X-Content-Type-Options": "nosniff",
    "Strict-Transport-Security": "max-age=31536000; includeSubDomains",
}
_ONLY_JSON: Final = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME

log = structlog.get_logger(__name__)


def guarded(api: ArmApi, handler: Handler, right: Right) -> WebHandler:
    """Return the handler behind authentication, limits, error bodies and common headers."""

    async def serve(request: web.Request) -> web.StreamResponse:
        identity = RequestIdentity(
            principal="",
            client_request_id=_client_request_id(request) or api.clock.new_id(),
            correlation_id=correlation() or api.clock.new_id(),
            method=request.method,
            path=request.path.lower(),
            body_digest="",
            operator_signature=request.headers.get(HEADER),
        )
        try:
            call = await _call(api, request, identity, right)
            identity = call.identity
            answer = await handler(call)
        except DomainError as error:
            answer = error_answer(error, identity)
        except Exception:
            reference = identity.correlation_id
            log.exception("arm_request_failed", reference=reference, path=identity.path)
            answer = fault_answer(reference)
        if request.method not in READING:
            log.info(
                "arm_request_answered",
                principal=identity.principal,
                method=request.method,
                path=identity.path,
                status=int(answer.status),
                correlation_id=identity.correlation_id,
            )
        return _response(api, answer, identity)

    return serve


async def _call(api: ArmApi, request: web.Request, identity: RequestIdentity, right: Right) -> Call:
    operator = await identified(api.tokens, request, api.clock.now())
    if not operator.may_somewhere(right):
        await _note_vault(api, request.match_info)
        raise refusal(operator, right)
    if _client_request_id(request) is None:
        raise InvalidRequestError(
            "The header must be printable ASCII of at most"
            f" {CLIENT_REQUEST_ID_CHARACTERS_MAX} characters.",
            "x-ms-client-request-id",
        )
    # Groups that begin with '_' are the fixed parts of the path (routes.py).
    names = {key: name for key, name in request.match_info.items() if not key.startswith("_")}
    for segment, name in names.items():
        if len(name) > NAME_CHARACTERS_MAX:
            raise InvalidRequestError(
                f"A name in the path is longer than {NAME_CHARACTERS_MAX} characters.", segment
            )
        storable_text(name, segment)
    await _check_scope(api, operator, right, names)
    limit = PLAN_BODY_BYTES_MAX if "plan" in names else BODY_BYTES_MAX
    body = b"" if request.method in READING else await _body(request, limit)
    return Call(
        identity=replace(
            identity,
            principal=operator.principal,
            body_digest=hashlib.sha256(body).hexdigest(),
        ),
        names=names,
        query=dict(request.rel_url.query),
        body=body,
        url=request.raw_path,
        operator=operator,
        if_match=request.headers.get("If-Match"),
    )


async def _note_vault(api: ArmApi, names: Mapping[str, str]) -> None:
    """Have the audit log of the vault tell of an attempt, where there is such a vault."""
    if "vault" in names:
        place = (names["subscription"], names["resource_group"], names["vault"])
        with suppress(NotFoundError):
            asked_in((await api.vaults.find(*place)).id)


async def _check_scope(
    api: ArmApi, operator: OperatorIdentity, right: Right, names: Mapping[str, str]
) -> None:
    """Let in who has the right in the vault that the path names; a foreign one is not there."""
    if operator.may(right):
        return
    if "vault" in names:
        place = (names["subscription"], names["resource_group"], names["vault"])
        vault = await api.vaults.find(*place)
        asked_in(vault.id)
        check_vault(operator, right, vault.id, names["vault"])
    elif right is not Right.READ:
        raise refusal(operator, right)


def _client_request_id(request: web.Request) -> str | None:
    """Return the client's id of the request, empty when it sent none, None when it is unfit."""
    text = request.headers.get("x-ms-client-request-id", "").strip()
    fits = len(text) <= CLIENT_REQUEST_ID_CHARACTERS_MAX and text.isascii() and text.isprintable()
    return text if fits else None


async def _body(request: web.Request, bytes_max: int) -> bytes:
    """Return the body; it may be compressed, so the limit counts what comes out."""
    collected = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS_MAX):
            async for chunk in request.content.iter_chunked(_CHUNK_BYTES):
                collected += chunk
                if len(collected) > bytes_max:
                    raise BodyTooLargeError(f"The request body is longer than {bytes_max} bytes.")
    except (RequestPayloadError, HttpProcessingError, ConnectionError, TimeoutError):
        raise BrokenRequestError(
            "The request body was cut off, came too slowly, or its encoding is broken."
        ) from None
    return bytes(collected)


def _response(api: ArmApi, answer: Answer, identity: RequestIdentity) -> web.Response:
    headers: CIMultiDict[str] = CIMultiDict(_USUAL_HEADERS)
    headers.extend(answer.headers)
    usual = f"{identity.client_request_id} {request_time(api.clock.now())}"
    for value in answer.request_ids or (usual,):
        headers.add("x-ms-request-id", value)
    headers["x-ms-correlation-request-id"] = identity.correlation_id
    headers["x-ms-client-request-id"] = identity.client_request_id
    if answer.body is None:
        return web.Response(status=answer.status, headers=headers)
    headers["Content-Type"] = "application/json; charset=utf-8"
    return web.Response(status=answer.status, headers=headers, body=json_bytes(answer.body))


def json_bytes(body: object) -> bytes:
    """Return a body as JSON; TypeError for what none can be made of."""
    try:
        return orjson.dumps(body, option=_ONLY_JSON)
    except TypeError:
        # Numbers beyond 64 bits, half a character: what others once sent is given back as it was.
        return json.dumps(body, ensure_ascii=False).encode(errors="backslashreplace")
