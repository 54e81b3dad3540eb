"""The hub's own routes and what is said of them: a row for each route, and a route for each row."""

import importlib
import inspect
import json
import pkgutil
import re
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

from service_hub import hub_api
from service_hub.domain.access import Right
from service_hub.hub_api.described import OPENAPI, OPERATIONS, OWN
from service_hub.hub_api.openapi import document
from service_hub.hub_api.server_routes import ServersApi

REFERENCE = re.compile(r'"#/components/schemas/([^"]+)"')
READ = dict.fromkeys(OPERATIONS, Right.READ)


def routes() -> Iterator[tuple[str, str, Right | None]]:
    yield from ((method, path, right) for (method, path), right in READ.items())


def without_parts(kind: type[Any]) -> Any:
    """Return an API of which only the routes can be read."""
    parts = dict.fromkeys(each.name for each in fields(kind))
    return kind(**{**parts, **({"door": without_parts(ServersApi)} if "door" in parts else {})})


def served() -> set[tuple[str, str]]:
    """Return the routes of every function `..._routes` of the package, later ones too."""
    found = {("GET", OPENAPI)}
    for module in pkgutil.iter_modules(hub_api.__path__, f"{hub_api.__name__}."):
        for name, make in inspect.getmembers(importlib.import_module(module.name)):
            if name.endswith("_routes") and inspect.isfunction(make):
                kind = inspect.signature(make).parameters["api"].annotation
                made = make(without_parts(kind))
                found |= {(each.method, each.path) for each in made}
    return found


def test_every_route_has_a_row_and_every_row_a_route() -> None:
    own = {(method, path) for method, path in served() if path.startswith(OWN)}
    assert own == set(OPERATIONS), "see service_hub/hub_api/described.py"


def test_no_two_operations_have_one_name() -> None:
    names = [each.name for each in OPERATIONS.values()]
    assert len(set(names)) == len(names)


def test_every_schema_that_is_named_is_there() -> None:
    made = document(routes(), release="1", public_url="https://hub.example")
    named = set(REFERENCE.findall(json.dumps(made)))
    assert named == set(made["components"]["schemas"])
    assert made["openapi"].startswith("3.1.")


def test_paths_are_named_once_with_their_parameters() -> None:
    made = document(routes(), release="1", public_url="https://hub.example")
    for path, item in made["paths"].items():
        for operation in item.values():
            named = [each["name"] for each in operation["parameters"] if each["in"] == "path"]
            assert named == re.findall(r"{(\w+)}", path)
            assert operation["summary"]
            assert "401" in operation["responses"]
