"""The list of operations, made from the routes that work: what it names can be done."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from service_hub.arm.calls import Answer, Call, Handler
from service_hub.arm.ids import OPERATION_RESULTS, PROVIDER_NAMESPACE
from service_hub.arm.paths import NAMESPACE

_ACTIONS: Final = {"GET": "read", "PUT": "write", "PATCH": "write", "DELETE": "delete"}
_WORDS: Final = {"read": "Read", "write": "Create or change", "delete": "Delete"}


def operations_of(operations: Iterable[tuple[str, str]]) -> list[Mapping[str, Any]]:
    """Return the entries of methods and paths, each name once, in the order of the table."""
    entries: dict[str, Mapping[str, Any]] = {}
    for method, path in operations:
        name = operation_name(method, path)
        if name is not None:
            entries.setdefault(name, _entry(name))
    return list(entries.values())


def operation_name(method: str, path: str) -> str | None:
    """Return an operation's name in the dialect's notation; None for what only follows one.

    `{type}/read`, `{type}/write`, `{type}/delete` or `{type}/{verb}/action`.
    """
    _, found, tail = path.partition(NAMESPACE)
    parts = [part for part in tail.split("/") if part and not part.startswith("{")]
    if not found or OPERATION_RESULTS in parts:
        return None
    action = _ACTIONS.get(method)
    if action is None:
        return "/".join((PROVIDER_NAMESPACE, *parts, "action"))
    return "/".join((PROVIDER_NAMESPACE, *parts, action))


def operations_handler(operations: Iterable[tuple[str, str]]) -> Handler:
    """Return what answers with the list of these operations."""
    entries = operations_of(operations)

    async def handle(call: Call) -> Answer:
        del call
        return Answer(body={"value": entries, "nextLink": None})

    return handle


def _entry(name: str) -> Mapping[str, Any]:
    *kinds, action = name.split("/")[1:]
    resource = kinds[-2] if action == "action" else kinds[-1] if kinds else "operations"
    what = kinds[-1] if action == "action" else _WORDS[action]
    return {
        "name": name,
        "display": {
            "provider": PROVIDER_NAMESPACE,
            "resource": resource,
            "operation": f"{what} {resource}",
            "description": f"{what}: {'/'.join(kinds)}",
        },
        "origin": "user",
    }
