"""The route table beside the installed SDK: no operation of the dialect is met with silence."""

import re
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from azure.mgmt.recoveryservices.operations import _operations as vault_operations
from azure.mgmt.recoveryservicessiterecovery.operations import _operations as recovery_operations

from service_hub.arm.not_offered import unknown
from service_hub.arm.paths import folded
from service_hub.arm.routes import Route, arm_routes, missing_routes, working_routes
from service_hub.route_shelf import RouteShelf
from tests.support.arm_operations_page import builders, request_of
from tests.unit.arm.arm_hub import MemoryHub
from tests.unit.arm.arm_use_cases import arm_api

API = arm_api(MemoryHub(), "https://hub.example")
DOCUMENT = Path(__file__).parents[3] / "docs" / "arm-surface.md"

WORKING_BUILDERS = {
    "replication_fabrics": ("get", "list", "create", "delete", "purge", "check_consistency"),
    "replication_recovery_services_providers": (
        "get",
        "list",
        "list_by_replication_fabrics",
        "delete",
        "purge",
        "create",
        "refresh_provider",
    ),
    "replication_protection_containers": (
        "get",
        "list",
        "list_by_replication_fabrics",
        "create",
        "delete",
        "discover_protectable_item",
    ),
    "replication_protectable_items": ("get", "list_by_replication_protection_containers"),
    "replication_protection_container_mappings": (
        "delete",
        "purge",
        "get",
        "list",
        "list_by_replication_protection_containers",
        "create",
    ),
    "replication_protected_items": (
        "get",
        "list",
        "list_by_replication_protection_containers",
        "create",
        "delete",
        "purge",
        "repair_replication",
        "update",
        "resolve_health_errors",
        "test_failover",
        "test_failover_cleanup",
        "planned_failover",
        "unplanned_failover",
        "apply_recovery_point",
        "failover_cancel",
        "failover_commit",
        "reprotect",
    ),
    "recovery_points": ("get", "list_by_replication_protected_items"),
    "replication_policies": ("get", "list", "create", "delete", "update"),
    "replication_recovery_plans": (
        "get",
        "list",
        "create",
        "update",
        "delete",
        "test_failover",
        "test_failover_cleanup",
        "planned_failover",
        "unplanned_failover",
        "failover_cancel",
        "failover_commit",
        "reprotect",
    ),
    "replication_jobs": ("get", "list", "cancel", "restart", "resume"),
    "replication_events": ("get", "list"),
    "replication_alert_settings": ("get", "list", "create"),
    "replication_vault_health": ("get", "refresh"),
    "replication_vault_setting": ("get", "list"),
    "replication_usages": ("list",),
    "usages": ("list_by_vaults",),
    "operations": ("list",),
    "replication_networks": ("get", "list", "list_by_replication_fabrics"),
    "replication_network_mappings": (
        "get",
        "list",
        "list_by_replication_networks",
        "create",
        "update",
        "delete",
    ),
    "replication_storage_classification_mappings": (
        "get",
        "list",
        "list_by_replication_storage_classifications",
        "create",
        "delete",
    ),
    "replication_logical_networks": ("get", "list_by_replication_fabrics"),
    "replication_storage_classifications": ("get", "list", "list_by_replication_fabrics"),
    "vaults": (
        "get",
        "create_or_update",
        "update",
        "delete",
        "list_by_subscription_id",
        "list_by_resource_group",
    ),
    "vault_certificates": ("create",),
    "vault_extended_info": ("get", "create_or_update", "update"),
    "registered_identities": ("delete",),
    "recovery_services": ("get_operation_status", "get_operation_result"),
}
"""What must do what it says in this version; everything else must be refused by name."""


ALL = [*builders(recovery_operations), *builders(vault_operations)]
WORKING = {f"{group}_{verb}" for group, verbs in WORKING_BUILDERS.items() for verb in verbs}


def application() -> web.Application:
    app = web.Application()
    app.add_routes(arm_routes(API))
    return app


async def matched(app: web.Application, method: str, path: str) -> str:
    """Return the pattern of the route that takes a request."""
    match = await app.router.resolve(make_mocked_request(method, path))
    resource = match.route.resource
    assert resource is not None
    return pattern_of(resource)


def pattern_of(resource: web.AbstractResource) -> str:
    info = resource.get_info()
    return info["pattern"].pattern if "pattern" in info else info["path"]


def patterns(routes: list[Route]) -> set[tuple[str, str]]:
    """Return method and pattern of each route, as the router keeps them."""

    async def nobody(_: web.Request) -> web.Response:
        return web.Response()

    app = web.Application()
    app.add_routes([web.route(route.method, folded(route.path), nobody) for route in routes])
    return {
        (route.method, pattern_of(route.resource))
        for route in app.router.routes()
        if route.resource is not None and route.method != "HEAD"
    }


def test_the_sdk_has_the_operations_that_this_table_speaks_of() -> None:
    names = {name for name, _ in ALL}
    assert len(names) > 170
    assert names >= WORKING


async def test_every_operation_of_the_sdk_meets_a_route_of_its_own() -> None:
    app = application()
    known = patterns([*working_routes(API), *missing_routes()])
    for name, builder in ALL:
        method, path = request_of(builder)
        for spelling in (path, path.upper(), path.lower()):
            found = (method, await matched(app, method, spelling))
            assert found in known, (name, method, path)


async def test_exactly_the_promised_operations_work() -> None:
    app = application()
    working = patterns(working_routes(API))
    for name, builder in ALL:
        method, path = request_of(builder)
        works = (method, await matched(app, method, path)) in working
        assert works == (name in WORKING), (name, method, path)


def test_no_operation_stands_twice_in_the_table() -> None:
    table = [(route.method, route.path) for route in [*working_routes(API), *missing_routes()]]
    assert len(table) == len(set(table))


@pytest.mark.parametrize("path", ["/subscriptions/{subscription}", "/a.b/{c}/d"])
def test_fixed_parts_match_in_any_case_and_names_stay(path: str) -> None:
    ((_, pattern),) = patterns([Route("GET", path, unknown)])
    sample = re.sub(r"\{\w+\}", "Name", path)
    found = re.fullmatch(pattern, sample.upper().replace("NAME", "Name"))
    assert found is not None
    assert "Name" in found.groups()
    assert not re.fullmatch(pattern, sample + "/more")
    assert not re.fullmatch(pattern, sample.replace("a.b", "aXb").replace("subs", "Xubs"))


def test_the_document_lists_every_working_operation_and_no_other() -> None:
    rows = re.findall(
        r"^\| `(GET|PUT|POST|PATCH|DELETE)` \| `([^`]+)` \|",
        DOCUMENT.read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    written = {(method, re.sub(r"\{\w+\}", "{}", path)) for method, path in rows}
    vault = "/subscriptions/{}/resourceGroups/{}/providers/Microsoft.RecoveryServices/vaults/{}"
    served = {
        (route.method, re.sub(r"\{\w+\}", "{}", route.path).replace(vault, "V"))
        for route in working_routes(API)
    }
    assert written == served


async def test_routes_are_found_by_the_form_of_a_path_as_by_trying_each() -> None:
    routes = arm_routes(API)
    tried, shelved = web.Application(), web.Application()
    tried.add_routes(routes)
    shelf = RouteShelf([(each.segments, each) for each in routes if each.segments is not None])
    shelved.router.register_resource(shelf)
    shelved.add_routes([each for each in routes if each.segments is None])

    async def found(application: web.Application, method: str, path: str) -> str | int:
        match = await application.router.resolve(make_mocked_request(method, path))
        resource = match.route.resource
        if match.http_exception is not None or resource is None:
            return getattr(match.http_exception, "status", 0)
        return resource.canonical

    for name, builder in ALL:
        asked = request_of(builder)
        assert await found(shelved, *asked) == await found(tried, *asked), name
