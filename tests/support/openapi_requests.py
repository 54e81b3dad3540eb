"""Requests made from an OpenAPI document, by hypothesis: what fits it, and what does not."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from hypothesis import strategies as st

DEPTH_MAX = 4
TEXTS = st.text(max_size=40)
JSON_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS,
    lambda part: st.lists(part, max_size=4) | st.dictionaries(TEXTS, part, max_size=4),
    max_leaves=8,
)


@dataclass(frozen=True)
class Asked:
    """A request; `token` is the name of one, None for none."""

    method: str
    template: str
    target: str
    token: str | None
    body: Any
    content_type: str
    is_json: bool


@dataclass(frozen=True)
class Operation:
    """What a document says of a method of a path."""

    method: str
    path: str
    told: Mapping[str, Any]


def values_of(schema: Mapping[str, Any], root: Mapping[str, Any], depth: int = 0) -> Any:
    """Return a strategy of values that fit a schema (that part of JSON Schema that we use)."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return values_of(root["components"]["schemas"][name], root, depth)
    if "const" in schema:
        return st.just(schema["const"])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if "anyOf" in schema or "oneOf" in schema:
        parts = schema.get("anyOf") or schema["oneOf"]
        return st.one_of([values_of(each, root, depth) for each in parts])
    return _plain(schema, root, depth)


def _plain(schema: Mapping[str, Any], root: Mapping[str, Any], depth: int) -> Any:
    made: dict[str, Callable[[Mapping[str, Any]], Any]] = {
        "string": _text,
        "integer": lambda each: st.integers(each.get("minimum"), each.get("maximum")),
        "number": lambda _: st.floats(allow_nan=False, allow_infinity=False),
        "boolean": lambda _: st.booleans(),
        "null": lambda _: st.none(),
        "array": lambda each: _list(each, root, depth),
        "object": lambda each: _object(each, root, depth),
    }
    kind = schema.get("type")
    return made[kind](schema) if kind in made else JSON_VALUES


def _text(schema: Mapping[str, Any]) -> st.SearchStrategy[str]:
    if schema.get("format") == "date-time":
        return st.datetimes().map(lambda at: f"{at.isoformat()}Z")
    longest = min(schema.get("maxLength", 40), 300)
    return st.text(min_size=schema.get("minLength", 0), max_size=longest)


def _list(schema: Mapping[str, Any], root: Mapping[str, Any], depth: int) -> Any:
    if depth >= DEPTH_MAX:
        return st.just([])
    return st.lists(values_of(schema["items"], root, depth + 1), max_size=3)


def _object(schema: Mapping[str, Any], root: Mapping[str, Any], depth: int) -> Any:
    properties = schema.get("properties")
    if properties is None:
        return st.dictionaries(TEXTS, JSON_VALUES, max_size=3)
    required = set(schema.get("required", ()))
    made = {name: values_of(part, root, depth + 1) for name, part in properties.items()}
    return st.fixed_dictionaries(
        {name: part for name, part in made.items() if name in required},
        optional={name: part for name, part in made.items() if name not in required},
    )


def requests_of(
    document: Mapping[str, Any],
    known: Mapping[str, Sequence[str]],
    tokens: Sequence[str | None],
) -> st.SearchStrategy[Asked]:
    """Return requests of all operations; `known` are names of paths that exist, by parameter."""
    each = [
        _requests(document, known, tokens, Operation(method.upper(), path, operation))
        for path, item in document["paths"].items()
        for method, operation in item.items()
    ]
    return st.one_of(each)


@st.composite
def _requests(
    draw: st.DrawFn,
    document: Mapping[str, Any],
    known: Mapping[str, Sequence[str]],
    tokens: Sequence[str | None],
    operation: Operation,
) -> Asked:
    target, query = operation.path, {}
    for parameter in operation.told["parameters"]:
        name = parameter["name"]
        if parameter["in"] == "path":
            there = st.sampled_from(known[name]) if name in known else TEXTS
            value = draw(there | there | there | st.text(min_size=1, max_size=40))
            # A name of nothing would be another path.
            target = target.replace(f"{{{name}}}", quote(value or "x", safe=""))
            continue
        fits = st.just(0) if name == "wait" else values_of(parameter["schema"], document)
        here = fits | fits | fits | TEXTS
        if draw(st.booleans()) or parameter["required"]:
            query[name] = str(draw(here))
    body, content_type, is_json = None, "application/json", True
    if operation.method == "POST":
        content = operation.told.get("requestBody", {}).get("content", {"application/json": {}})
        content_type = draw(st.sampled_from(sorted(content)))
        fits = values_of(content[content_type].get("schema", {}), document)
        is_json = draw(st.sampled_from((True, True, True, False)))
        body = draw(fits | fits | fits | JSON_VALUES if is_json else st.binary(max_size=200))
    if query:
        target += f"?{urlencode(query, errors='replace')}"
    token = draw(st.sampled_from(tokens))
    return Asked(operation.method, operation.path, target, token, body, content_type, is_json)
