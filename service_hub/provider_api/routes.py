"""The whole surface of the provider API; read this file to know it.

Every request passes `_guarded`: who calls, how much is open, how large the body is, and what an
error becomes on the wire.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from service_hub.provider_api.api import Call, ProviderApi
from service_hub.provider_api.bodies import read_body
from service_hub.provider_api.callers import Credential, ProviderCaller
from service_hub.provider_api.problems import problem_of
from wire_contract import paths

INVENTORY_BYTES_MAX: Final = 32 * 1024 * 1024
REPORTS_BYTES_MAX: Final = 8 * 1024 * 1024
HOST_CERTIFICATES_BYTES_MAX: Final = 1024 * 1024
SESSION_BYTES_MAX: Final = 4 * 1024 * 1024
"""A session tells the epoch of every protected machine."""

BODY_BYTES_MAX: Final = 64 * 1024

Handler = Callable[[ProviderApi, Call], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Route:
    """One method of one path: what it asks of its caller, and how large its body may be.

    `is_counted`: it is one of the few requests that a provider may have open at the same time.
    """

    method: str
    path: str
    credential: Credential
    handler: Handler
    body_bytes_max: int = BODY_BYTES_MAX
    is_counted: bool = True


ROUTES: Final = (
    Route("GET", paths.PROVIDER_HEALTH, Credential.NONE, ProviderApi.health),
    Route("GET", paths.EST_CACERTS, Credential.NONE, ProviderApi.cacerts),
    Route("POST", paths.EST_SIMPLEENROLL, Credential.REGISTRATION, ProviderApi.simpleenroll),
    Route("POST", paths.EST_SIMPLEREENROLL, Credential.MANAGEMENT, ProviderApi.simplereenroll),
    Route("POST", paths.TOKEN, Credential.MANAGEMENT, ProviderApi.token),
    Route("POST", paths.REGISTRATION, Credential.ENROLLED_TOKEN, ProviderApi.registration),
    Route(
        "POST",
        paths.SESSION,
        Credential.REGISTERED_TOKEN,
        ProviderApi.session,
        SESSION_BYTES_MAX,
    ),
    Route("POST", paths.UNREGISTRATION, Credential.REGISTERED_TOKEN, ProviderApi.unregistration),
    Route("POST", paths.HEARTBEAT, Credential.REGISTERED_TOKEN, ProviderApi.heartbeat),
    Route("POST", paths.ECHO, Credential.REGISTERED_TOKEN, ProviderApi.echo),
    Route("GET", paths.EVENTS, Credential.REGISTERED_TOKEN, ProviderApi.events),
    Route(
        "POST",
        paths.REPORTS,
        Credential.REGISTERED_TOKEN,
        ProviderApi.reports,
        REPORTS_BYTES_MAX,
    ),
    Route(
        "POST",
        paths.INVENTORY,
        Credential.REGISTERED_TOKEN,
        ProviderApi.inventory,
        INVENTORY_BYTES_MAX,
    ),
    Route(
        "POST",
        paths.HOST_CERTIFICATES,
        Credential.REGISTERED_TOKEN,
        ProviderApi.host_certificates,
        HOST_CERTIFICATES_BYTES_MAX,
    ),
    # The token follows in CONNECT; the MQTT side has its own limits.
    Route(
        "GET",
        paths.MQTT_WEBSOCKET,
        Credential.MANAGEMENT,
        ProviderApi.mqtt,
        is_counted=False,
    ),
)
"""Method, path, credential, handler, limit."""


def provider_routes(api: ProviderApi) -> list[web.RouteDef]:
    """Return the routes with their guards."""
    return [web.RouteDef(route.method, route.path, _guarded(api, route), {}) for route in ROUTES]


def provider_application(api: ProviderApi) -> web.Application:
    """Return the application of the provider listener; unknown paths get a problem too."""
    application = web.Application(middlewares=[_unknown_paths])
    application.add_routes(provider_routes(api))
    return application


def _guarded(
    api: ProviderApi, route: Route
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def handle(request: web.Request) -> web.StreamResponse:
        try:
            return await _handle(api, route, request)
        except Exception as error:  # noqa: BLE001 -- the edge: every error becomes a problem body
            return problem_of(error).response()

    return handle


async def _handle(api: ProviderApi, route: Route, request: web.Request) -> web.StreamResponse:
    caller = await api.callers.identify(request, route.credential)
    if not isinstance(caller, ProviderCaller) or not route.is_counted:
        body = await read_body(request, route.body_bytes_max)
        return await route.handler(api, Call(request, caller, body))
    with api.pressure.counted(caller.provider.id):
        body = await read_body(request, route.body_bytes_max)
        response = await route.handler(api, Call(request, caller, body))
        # What was asked has been done and stored; the caller does not know it yet.
        await api.faults.reach("channel.before_answer")
        return response


@web.middleware
async def _unknown_paths(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    try:
        return await handler(request)
    except web.HTTPException as error:
        return problem_of(error).response()
