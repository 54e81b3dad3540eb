"""What both HTTPS surfaces share: bearer tokens, bounded bodies, problems instead of tracebacks."""

import hmac
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, closing
from typing import Final, TypeVar

import structlog
from aiohttp import web
from pydantic import BaseModel, ValidationError

from certs.tls import TlsMaterialError, server_context
from service_shell.errors import ProgramError
from service_shell.https_listener import HttpsLimits, https_served
from service_shell.listener import open_listener
from service_shell.secret_files import read_secret
from vmm_simulator.commands import ConnectionVanishesError
from vmm_simulator.config import SecuredListenSettings
from vmm_simulator.problems import Code, RefusedError, bad_arguments
from wire_contract.vmm_interface import Problem

BODY_BYTES_MAX: Final = 1_048_576
TOKEN_BYTES_MAX: Final = 4096
FILE_BYTES_MAX: Final = 65_536
SHUTDOWN_SECONDS: Final = 2.0
_JSON: Final = "application/json"

log = structlog.get_logger(__name__)

ModelT = TypeVar("ModelT", bound=BaseModel)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def rendered(model: BaseModel, status: int = 200) -> web.Response:
    """Return a model as a JSON answer."""
    return web.Response(status=status, text=model.model_dump_json(), content_type=_JSON)


async def parsed(request: web.Request, model: type[ModelT]) -> ModelT:
    """Return the body as a model, or refuse with 400 and the key that is wrong."""
    body = await request.read()
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        key = ".".join(str(step) for step in first["loc"]) or "the body"
        raise bad_arguments(f"{key}: {first['msg']}") from error


def application(token: str, routes: Iterable[web.RouteDef]) -> web.Application:
    """Return an application whose every route wants this bearer token."""
    expected = f"Bearer {token}".encode()

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        given = request.headers.get("Authorization", "").encode("utf-8", "surrogateescape")
        if not hmac.compare_digest(given, expected):
            return _problem(401, Code.ACCESS_DENIED, "a valid bearer token is required")
        return await handler(request)

    @web.middleware
    async def render(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except RefusedError as refusal:
            return rendered(refusal.problem(), refusal.status)
        except ConnectionVanishesError:
            if request.transport is not None:
                request.transport.abort()
            return web.Response(status=503)  # Nobody gets it: the connection is gone.
        except web.HTTPException as error:
            return _problem(error.status, Code.NOT_FOUND, error.reason)

    service = web.Application(middlewares=[render, guard], client_max_size=BODY_BYTES_MAX)
    service.add_routes(routes)
    return service


@asynccontextmanager
async def serve(
    settings: SecuredListenSettings, routes: Callable[[], Iterable[web.RouteDef]]
) -> AsyncIterator[int]:
    """Serve while the block runs; gives the port. ProgramError for files and ports of no use."""
    token = read_secret(settings.token_file, TOKEN_BYTES_MAX).decode("utf-8", "replace").strip()
    if not token:
        raise ProgramError(f"{settings.token_file} is empty; write a bearer token into it")
    tls = _server_tls(settings)
    listening = open_listener(settings.host, settings.port)
    port = int(listening.getsockname()[1])
    limits = HttpsLimits(shutdown_seconds=SHUTDOWN_SECONDS)
    with closing(listening):
        async with https_served(application(token, routes()), listening, tls, limits):
            yield port


def _server_tls(settings: SecuredListenSettings) -> ssl.SSLContext:
    try:
        chain = settings.certificate_file.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise ProgramError(
            f"cannot read the certificate {settings.certificate_file}: {error};"
            " create it or correct certificate_file"
        ) from error
    try:
        return server_context(chain, read_secret(settings.key_file, FILE_BYTES_MAX))
    except TlsMaterialError as error:
        raise ProgramError(
            f"{settings.certificate_file} and {settings.key_file}: {error}; replace both"
        ) from error


def _problem(status: int, code: Code, message: str) -> web.Response:
    return rendered(Problem(code=int(code), message=message), status)
