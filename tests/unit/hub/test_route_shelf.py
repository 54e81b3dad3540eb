"""Routes found by the form of a path: the same ones that trying all of them would find."""

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from service_hub.arm import paths
from service_hub.operator_door import GuardedRoute
from service_hub.route_shelf import RouteShelf

PATHS = (paths.VAULT, paths.FABRICS, paths.FABRIC, f"{paths.FABRIC}/remove", paths.ITEM, paths.PLAN)


async def answer(request: web.Request) -> web.Response:
    return web.Response(text=request.path)


ROUTES = [
    GuardedRoute(method, paths.folded(path), answer, None, paths.segments_of(path))
    for path in PATHS
    for method in ("GET", "DELETE")
]
NAMED = PATHS[4].format(
    subscription="s", resource_group="g%2Fh", vault="v", fabric="f", container="c", item="i%20j"
)


def shelf() -> RouteShelf:
    return RouteShelf([(each.segments or (), each) for each in ROUTES])


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE", "PUT"])
@pytest.mark.parametrize(
    "path",
    [
        NAMED,
        NAMED.upper(),
        NAMED + "/",
        NAMED.rpartition("/")[0],
        NAMED.replace("/c/", "//"),
        PATHS[0].format(subscription="s", resource_group="g", vault="v").lower(),
        "/",
        "/subscriptions",
        "/" * 14,
    ],
)
async def test_a_shelf_finds_what_trying_every_route_finds(method: str, path: str) -> None:
    every = web.UrlDispatcher()
    for route in ROUTES:
        route.register(every)
    request = make_mocked_request(method, path)
    wanted = await every.resolve(request)
    match, methods = await shelf().resolve(request)
    assert (match is None) == (wanted.http_exception is not None)
    if match is not None:
        assert dict(match) == dict(wanted)
        assert match.route.method == wanted.route.method
    elif wanted.http_exception is not None:
        assert bool(methods) == (wanted.http_exception.status == 405)


def test_whoever_walks_the_routes_sees_them_all() -> None:
    """Those of GET answer to HEAD too."""
    assert len(list(shelf())) == len(shelf()) == len(PATHS) * 3
