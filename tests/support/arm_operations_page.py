"""docs/arm-operations.md: every operation of the ARM surface, made from the table of routes.

`python -m tests.support.arm_operations_page` writes it anew.
"""

import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, Final
from urllib.parse import urlsplit

from azure.core.rest import HttpRequest
from azure.mgmt.recoveryservices.operations import _operations as vault_operations
from azure.mgmt.recoveryservicessiterecovery.operations import _operations as recovery_operations

from service_hub.arm import paths
from service_hub.arm.not_offered import LATER, OTHER_REPLICATION
from service_hub.arm.rights import right_of
from service_hub.arm.routes import working_routes
from service_hub.domain.access import Right
from tests.unit.arm.arm_hub import MemoryHub
from tests.unit.arm.arm_use_cases import arm_api

PAGE: Final = Path(__file__).parents[2] / "docs" / "arm-operations.md"

_ROLES: Final = {Right.READ: "Reader", Right.OPERATE: "Operator", Right.CONFIGURE: "Contributor"}
_HEAD: Final = """# Every operation of the ARM surface

Made from the table of routes (`service_hub/arm/routes.py`) by
`python -m tests.support.arm_operations_page`; a test holds both together. What each operation means
stands in [arm-surface](arm-surface.md). **V** is a vault's path. The role is the smallest one that
may ask for it. The name is that of the official SDK (azure-mgmt-recoveryservicessiterecovery,
azure-mgmt-recoveryservices); `-`: the SDK only follows URLs of answers there, or does not have it.

| method | path | status | role | SDK |
|---|---|---|---|---|
"""


def builders(module: ModuleType) -> Iterator[tuple[str, Callable[..., HttpRequest]]]:
    """Yield the operations of an SDK by name, with what builds their requests."""
    for name, builder in inspect.getmembers(module, inspect.isfunction):
        if name.startswith("build_") and name.endswith("_request"):
            yield name.removeprefix("build_").removesuffix("_request"), builder


def request_of(builder: Callable[..., HttpRequest]) -> tuple[str, str]:
    """Return method and path that the SDK sends, every name being `x`."""
    arguments: dict[str, Any] = {}
    for name, parameter in inspect.signature(builder).parameters.items():
        if parameter.kind is not parameter.VAR_KEYWORD and parameter.default is parameter.empty:
            arguments[name] = "x"
    request = builder(**arguments)
    return request.method, urlsplit(request.url).path


def page() -> str:
    """Return the page as the table of routes is now."""
    table = [
        *(
            (route.method, route.path, "answered")
            for route in working_routes(arm_api(MemoryHub(), "https://hub.example"))
        ),
        *((method, each.path, "501") for each in LATER for method in each.methods),
        *(
            (method, each.path, "400 OperationNotSupported")
            for each in OTHER_REPLICATION
            for method in each.methods
        ),
    ]
    named: dict[tuple[str, str], list[str]] = {}
    for module in (recovery_operations, vault_operations):
        for name, builder in builders(module):
            asked, at = request_of(builder)
            taken = next((e for e in table if e[0] == asked and _takes(e[1], at)), None)
            if taken is not None:
                named.setdefault(taken[:2], []).append(name)
    return _HEAD + "".join(
        _row(method, path, status, named.get((method, path), [])) for method, path, status in table
    )


def _takes(path: str, asked: str) -> bool:
    """Return whether a route of the table takes a path; the fixed parts in any case."""
    parts = re.split(r"(\{\w+(?::.*\})?\})", path)
    pattern = "".join(
        re.escape(part)
        if not part.startswith("{")
        else "(/.*)?"
        if part.startswith("{rest")
        else "[^/]+"
        for part in parts
    )
    return re.fullmatch(pattern, asked, re.IGNORECASE) is not None


def _row(method: str, path: str, status: str, names: list[str]) -> str:
    shown = path.replace(paths.VAULT, "V")
    shown = re.sub(r"\{rest.*\}$", "/…", shown)
    role = _ROLES[right_of(method, path)]
    sdk = ", ".join(f"`{name}`" for name in names) or "-"
    return f"| `{method}` | `{shown}` | {status} | {role} | {sdk} |\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
