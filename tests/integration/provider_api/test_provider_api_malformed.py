"""Whatever is sent to whichever route of the real hub: an answer that is no 500, and in time.

Driven by the route table: a route that is added is tried without being told. Bodies are made from
the model that the route's handler parses, with values at the edges of what JSON can say.
"""

import inspect
import json
import re
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from service_hub.provider_api import api
from service_hub.provider_api.callers import Credential
from service_hub.provider_api.routes import ROUTES, Route
from tests.support.real_hub import HOST, Holder, RealHub, open_line, real_hub
from wire_contract import paths
from wire_contract.reports import Heartbeat

VAULT = "prod"
OTHER_VMM_ID = "44444444-4444-4444-8444-444444444444"
ANSWER_SECONDS_MAX = 20.0
EXAMPLES_PER_MODEL = 12
EXAMPLES_WITHOUT_MODEL = 5
BEAT = Heartbeat(boot_id="b", last=None).model_dump_json().encode()
"""A good request, sent after the bad ones."""

WHOLE = [0, 1, 2, 50, 2**31, 2**53 - 1, 2**53, 2**63 - 1, 2**63, 2**64, 10**40]
BROKEN: list[Any] = [-1, -(2**63) - 1, 0.5, 1e308, 10**400, None, True, [], {}]
TEXTS = ["", "prod", "job/task/1", "\x00", "a\x00b", "\U0001d518", "\u202e", "x" * 5_000, "../.."]
TIMES = [
    "2026-01-01T00:00:00Z",
    "2026-01-01T00:00:00",
    "0001-01-01T00:00:00+14:00",
    "9999-12-31T23:59:59-14:00",
]
"""Values at the edge of what a schema allows: most pass the model, and meet what is behind it."""


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealHub]:
    given_ports: set[int] = set()

    def free_port() -> int:
        while True:
            with socket.socket() as probe:
                probe.bind((HOST, 0))
                port = int(probe.getsockname()[1])
            if port not in given_ports:
                given_ports.add(port)
                return port

    with real_hub(tmp_path_factory.mktemp("hub"), free_port) as running:
        yield running


@pytest.fixture(scope="module")
def server(hub: RealHub) -> Holder:
    return hub.registered(VAULT)


@pytest.fixture(scope="module")
def enrolling(hub: RealHub) -> Holder:
    return hub.registration_holder(VAULT)


def holder_for(route: Route, server: Holder, enrolling: Holder) -> Holder:
    return enrolling if route.credential is Credential.REGISTRATION else server


# --------------------------------------------------------------------------------- bodies by model


def model_of(route: Route) -> type[BaseModel] | None:
    """Return the model that the route's handler parses its body with."""
    found = re.search(r"parse\((\w+),", inspect.getsource(route.handler))
    return None if found is None else getattr(api, found.group(1))


def anything() -> st.SearchStrategy[Any]:
    edges = st.sampled_from([*WHOLE, *BROKEN, *TEXTS, *TIMES])
    return st.recursive(
        edges | st.integers() | st.text(max_size=20),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
        ),
        max_leaves=6,
    )


def like(schema: Mapping[str, Any], defs: Mapping[str, Any]) -> st.SearchStrategy[Any]:
    """Return values of a schema's form, with edges where it says nothing."""
    if "$ref" in schema:
        return like(defs[schema["$ref"].rpartition("/")[2]], defs)
    if choices := schema.get("anyOf", schema.get("oneOf")):
        return st.one_of([like(each, defs) for each in choices])
    if "const" in schema or "enum" in schema:
        return st.sampled_from(schema.get("enum", [schema.get("const")]))
    if schema.get("type") in {"array", "object"}:
        return like_container(schema, defs)
    if schema.get("format") == "date-time":
        return st.sampled_from(TIMES)
    return OF_TYPE.get(str(schema.get("type")), anything())


OF_TYPE: dict[str, st.SearchStrategy[Any]] = {
    "integer": st.sampled_from(WHOLE),
    "number": st.sampled_from([*WHOLE, 0.5, 1e308]),
    "boolean": st.booleans(),
    "null": st.none(),
    "string": st.sampled_from(TEXTS),
}


def like_container(schema: Mapping[str, Any], defs: Mapping[str, Any]) -> st.SearchStrategy[Any]:
    """Return lists and objects of a schema's form; one without named fields holds what it may."""
    if schema["type"] == "array":
        return st.lists(like(schema.get("items", {}), defs), min_size=1, max_size=2) | st.just([])
    if "properties" not in schema:
        inner = schema.get("additionalProperties")
        values = like(inner, defs) if isinstance(inner, dict) else anything()
        keys = st.sampled_from(["job", "machine", "result", "", "\x00"])
        return st.dictionaries(keys, values, max_size=3)
    # What tells the kind of a message apart has a default, and must be said all the same.
    kinds = {name for name, each in schema["properties"].items() if "const" in each}
    needed = {*schema.get("required", ()), *kinds}
    fields = {name: like(each, defs) for name, each in schema["properties"].items()}
    return st.fixed_dictionaries(
        {name: each for name, each in fields.items() if name in needed},
        optional={name: each for name, each in fields.items() if name not in needed},
    )


def variants(schema: Mapping[str, Any], defs: Mapping[str, Any]) -> list[Any]:
    """Return a good value of a schema, then each with one part of it at an edge."""
    if "$ref" in schema:
        return variants(defs[schema["$ref"].rpartition("/")[2]], defs)
    if choices := schema.get("anyOf", schema.get("oneOf")):
        return [value for each in choices for value in variants(each, defs)]
    if "const" in schema or "enum" in schema:
        return list(schema.get("enum", [schema.get("const")])[:1])
    if schema.get("type") == "array":
        return [[], *([value] for value in variants(schema.get("items", {}), defs))]
    if schema.get("type") == "object":
        return object_variants(schema, defs)
    kind = schema.get("format", schema.get("type"))
    return EDGES_OF_TYPE.get(str(kind), [{}])


def object_variants(schema: Mapping[str, Any], defs: Mapping[str, Any]) -> list[Any]:
    if "properties" not in schema:
        inner = schema.get("additionalProperties")
        free = variants(inner, defs) if isinstance(inner, dict) else [{}]
        return [{}, *({"machine": value} for value in free)]
    parts = {name: variants(each, defs) for name, each in schema["properties"].items()}
    good = {name: values[0] for name, values in parts.items()}
    edges = [{**good, name: value} for name, values in parts.items() for value in values[1:]]
    return [good, *edges]


EDGES_OF_TYPE: dict[str, list[Any]] = {
    "date-time": TIMES[:3],
    "integer": [1, 2**53, 2**64],
    "number": [1, 1e308],
    "string": ["a", "\x00"],
    "boolean": [True],
    "null": [None],
}


def edges_of(route: Route) -> list[Any]:
    """Return good bodies of a route with one part of each at an edge."""
    model = model_of(route)
    if model is None:
        return []
    schema = model.model_json_schema()
    return variants(schema, schema.get("$defs", {}))


def bodies(route: Route) -> st.SearchStrategy[bytes]:
    """Return bodies for a route: of its model's form, of any form, cut, and no JSON at all."""
    model = model_of(route)
    shaped = anything()
    if model is not None:
        schema = model.model_json_schema()
        shaped = like(schema, schema.get("$defs", {}))
    texts = shaped.map(lambda value: json.dumps(value).encode())
    cut = st.tuples(texts, st.integers(0, 400)).map(lambda pair: pair[0][: pair[1]])
    wild = anything().map(lambda value: json.dumps(value).encode()) | cut | st.binary(max_size=200)
    return st.integers(0, 4).flatmap(lambda chance: wild if chance == 0 else texts)


def test_the_models_of_the_bodies_are_found() -> None:
    """The table leads to each handler's model; what is parsed by no model is bytes or nothing."""
    found = {route.path: model.__name__ for route in ROUTES if (model := model_of(route))}
    assert len(found) >= 6
    assert found[paths.REPORTS] == "ReportBatch"


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_no_body_on_any_route_makes_the_hub_fail(
    hub: RealHub, server: Holder, enrolling: Holder, route: Route
) -> None:
    """With the real store and use cases behind the route, and a good request after it."""
    holder = holder_for(route, server, enrolling)
    if route.path == paths.UNREGISTRATION:
        holder = hub.registered(VAULT, OTHER_VMM_ID)  # it may leave; the server of the others stays

    @settings(
        max_examples=EXAMPLES_PER_MODEL if model_of(route) else EXAMPLES_WITHOUT_MODEL,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(bodies(route))
    def send(body: bytes) -> None:
        try_body(body)

    def try_body(body: bytes) -> None:
        before = len(hub.failures)
        answer = line.send(route.method, route.path, body, holder.bearer)
        assert answer.code < 500, (body, answer, hub.failures[before:])
        assert hub.failures[before:] == [], body
        if answer.code >= 400:
            assert set(answer.content) == {"code", "message", "remedy"}

    with open_line((hub.settings.provider.port, holder.tls)) as line:
        send()
        for value in edges_of(route):
            try_body(json.dumps(value).encode())
    assert hub.provider("POST", paths.HEARTBEAT, server, BEAT).code == 200


# ----------------------------------------------------------------------------------- malformed HTTP

Spoil = Callable[[str, str, str], bytes]


def head(method: str, path: str, *lines: str) -> bytes:
    return "\r\n".join((f"{method} {path} HTTP/1.1", f"Host: {HOST}", *lines, "", "")).encode()


MALFORMED: dict[str, Spoil] = {
    "no HTTP": lambda *_: b"\x00\xff\x16\x03\x01 nonsense\r\n\r\n",
    "an unknown version": lambda m, p, _: f"{m} {p} HTTP/9.9\r\nHost: h\r\n\r\n".encode(),
    "no version": lambda m, p, _: f"{m} {p}\r\n\r\n".encode(),
    "an unknown method": lambda _m, p, a: head("BREW", p, a),
    "a method of 10,000 letters": lambda _m, p, a: head("M" * 10_000, p, a),
    "a path of 20,000 letters": lambda m, p, a: head(m, p + "?" + "x" * 20_000, a),
    "a path with controls": lambda m, p, a: head(m, p + "\x01\x7f", a),
    "a header of 20,000 letters": lambda m, p, a: head(m, p, a, "X: " + "x" * 20_000),
    "a header without colon": lambda m, p, a: head(m, p, a, "nonsense"),
    "a header with NUL": lambda m, p, a: head(m, p, a, "X: a\x00b"),
    "10,000 headers": lambda m, p, a: head(m, p, a, *(f"X{n}: 1" for n in range(10_000))),
    "two lengths": lambda m, p, a: head(m, p, a, "Content-Length: 1", "Content-Length: 2") + b"x",
    "a negative length": lambda m, p, a: head(m, p, a, "Content-Length: -1"),
    "a length of letters": lambda m, p, a: head(m, p, a, "Content-Length: many"),
    "a length beyond all bounds": lambda m, p, a: head(m, p, a, "Content-Length: " + "9" * 40),
    "length and chunks": lambda m, p, a: (
        head(m, p, a, "Content-Length: 4", "Transfer-Encoding: chunked") + b"0\r\n\r\n"
    ),
    "a chunk of letters": lambda m, p, a: head(m, p, a, "Transfer-Encoding: chunked") + b"zz\r\n",
    "a chunk beyond all bounds": lambda m, p, a: (
        head(m, p, a, "Transfer-Encoding: chunked") + b"f" * 30 + b"\r\n"
    ),
    "an unknown encoding": lambda m, p, a: head(m, p, a, "Transfer-Encoding: rot13"),
    "a compressed body": lambda m, p, a: (
        head(m, p, a, "Content-Encoding: gzip", "Content-Length: 4") + b"\x1f\x8b\x08\x00"
    ),
    "an upgrade to nothing": lambda m, p, a: head(
        m, p, a, "Upgrade: nothing", "Connection: upgrade"
    ),
    "a broken WebSocket": lambda m, p, a: head(
        m, p, a, "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Key: ?"
    ),
}


def exchange(hub: RealHub, holder: Holder, request: bytes) -> bytes:
    """Return the first bytes of the answer, empty when the hub ended the connection.

    TimeoutError is a hang.
    """
    with (
        socket.create_connection((HOST, hub.settings.provider.port), ANSWER_SECONDS_MAX) as raw,
        holder.tls.wrap_socket(raw, server_hostname=HOST) as connection,
    ):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            connection.sendall(request)
            return connection.recv(4_096)
        except (ConnectionError, ssl.SSLError):
            return b""  # ended without a word, which is an answer too


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_no_malformed_request_on_any_route_makes_the_hub_fail_or_hang(
    hub: RealHub, server: Holder, enrolling: Holder, route: Route
) -> None:
    holder = holder_for(route, server, enrolling)
    bearer = f"Authorization: Bearer {holder.token or 'none'}"
    before = len(hub.failures)
    for what, spoil in MALFORMED.items():
        answer = exchange(hub, holder, spoil(route.method, route.path, bearer))
        if answer:
            status = re.match(rb"HTTP/\d\.\d (\d{3}) ", answer)
            assert status is not None, (what, answer[:200])
            assert int(status.group(1)) < 500 or int(status.group(1)) in {501, 505}, (what, answer)
    assert hub.failures[before:] == []
    assert hub.provider("POST", paths.HEARTBEAT, server, BEAT).code == 200
