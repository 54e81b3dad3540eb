"""The hub's three ports as a stranger finds them: nothing is told, nothing is held, all is TLS.

The routes are those of the applications that the hub really opens: a later one enters by itself.
"""

import asyncio
import contextlib
import re
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from certs.chain import TrustChain
from certs.identity import load_private_key, new_private_key, private_key_pem
from certs.profiles import Profile
from certs.tls import client_context, server_context
from certs.tokens import issue_operator_token
from service_hub import hub as composition
from service_hub.config import HubSettings
from service_hub.domain.access import GRANTED, Role
from service_hub.operator_door import RIGHTS
from service_hub.provider_api.callers import Credential
from service_hub.provider_api.routes import ROUTES
from service_hub.trust import TOKEN_KEY_FILE, initialise
from service_shell.clock import SystemClock
from service_shell.https_listener import HttpsLimits, https_served

HOST = "127.0.0.1"
SECONDS_MAX = 20.0
STRANGERS = 40
"""Connections that say nothing; the test must stay cheap."""

IMPATIENT = HttpsLimits(handshake_seconds=1.5, idle_seconds=1.5)

LOGIN = "/x/oauth2/v2.0/token"
"""Without a form it answers 400 (RFC 6749, 5.2)."""

PUBLIC = {
    ("GET", "/health"),
    ("GET", "/hub/v1/trust/root"),
    ("GET", "/metadata/endpoints"),
    ("GET", "/x/v2.0/.well-known/openid-configuration"),
    ("POST", LOGIN),
    *((each.method, each.path) for each in ROUTES if each.credential is Credential.NONE),
}
PUBLIC |= {("HEAD", path) for method, path in PUBLIC if method == "GET"}
"""What everybody may see."""


@dataclass
class Hub:
    """A running hub, and what it opened."""

    settings: HubSettings
    root_pem: str
    token_key: Any
    applications: list[web.Application] = field(default_factory=list)

    def token(self, role: str, key: Any = None, issuer: str | None = None) -> str:
        """Return an operator's token; with another key or issuer, a false one."""
        return issue_operator_token(
            key or self.token_key,
            issuer=issuer or self.settings.public_url,
            principal="anna",
            role=role,
            now=SystemClock().now(),
            lifetime=timedelta(hours=1),
            token_id="1",  # noqa: S106 -- a name
        )

    @property
    def ports(self) -> tuple[int, int, int]:
        """Operators, providers, MQTT."""
        settings = self.settings
        return settings.operator.port, settings.provider.port, settings.mqtt.port

    @property
    def tls(self) -> ssl.SSLContext:
        """What a client without a certificate uses."""
        return client_context(self.root_pem)


@pytest.fixture(scope="module")
def initialised(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a hub that has its keys."""
    folder = tmp_path_factory.mktemp("hub")
    initialise(_settings(folder, (1, 2, 3)), SystemClock().now())
    return folder


def _settings(folder: Path, ports: tuple[int, int, int]) -> HubSettings:
    operator, provider, mqtt = ports
    url = f"https://{HOST}:{provider}"
    return HubSettings.model_validate(
        {
            "data_directory": folder / "data",
            "key_file": folder / "hub.key",
            "public_url": "https://hub.example",
            "operator": {"host": HOST, "port": operator},
            "provider": {"host": HOST, "port": provider, "public_url": url},
            "mqtt": {"host": HOST, "port": mqtt, "public_host": HOST},
            "ready_file": folder / "ready.json",
        }
    )


@pytest.fixture
async def hub(
    initialised: Path, free_port: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Hub]:
    """Run a hub whose patience is short."""
    settings = _settings(initialised, (free_port(), free_port(), free_port()))
    folder = settings.trust_directory
    key = load_private_key(
        (folder / TOKEN_KEY_FILE).read_bytes(), settings.key_file.read_bytes().strip()
    )
    running = Hub(settings, (folder / "root.pem").read_text(), key)

    @asynccontextmanager
    async def serve(
        application: web.Application, listener: socket.socket, tls: ssl.SSLContext
    ) -> AsyncIterator[None]:
        running.applications.append(application)
        async with https_served(application, listener, tls, IMPATIENT):
            yield

    monkeypatch.setattr(composition, "https_served", serve)
    stop = asyncio.Event()
    async with asyncio.timeout(SECONDS_MAX), asyncio.TaskGroup() as group:
        group.create_task(composition.run_hub(settings, SystemClock(), stop))
        while not (initialised / "ready.json").exists():
            await asyncio.sleep(0.01)
        yield running
        stop.set()


async def test_beyond_the_number_of_connections_a_request_is_answered_503() -> None:
    """Who is in is served on; when one goes, there is room for another."""

    async def hello(_: web.Request) -> web.Response:
        return web.Response(text="hello")

    application = web.Application()
    application.router.add_get("/", hello)
    chain, now = TrustChain.create(SystemClock().now(), "Tests"), SystemClock().now()
    key = new_private_key()
    issued = chain.issue(Profile.HUB_SERVER, key.public_key(), HOST, now, ip_addresses=[HOST])
    listener = socket.create_server((HOST, 0))
    url = f"https://{HOST}:{listener.getsockname()[1]}/"
    served = https_served(
        application,
        listener,
        server_context(issued.chain_pem, private_key_pem(key)),
        HttpsLimits(connections=2),
    )
    tls = client_context(chain.root_pem)
    async with asyncio.timeout(SECONDS_MAX), served, AsyncExitStack() as stack:
        sessions = [
            await stack.enter_async_context(
                aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls, limit=1))
            )
            for _ in range(3)
        ]
        for _ in range(2):
            answers = [await _status(session, url) for session in sessions]
            assert answers == [(200, None), (200, None), (503, "30")]
        await sessions[0].close()
        # The hub hears of it a moment later.
        while await _status(sessions[2], url) != (200, None):
            await asyncio.sleep(0.01)
        assert await _status(sessions[1], url) == (200, None)


async def _status(session: aiohttp.ClientSession, url: str) -> tuple[int, str | None]:
    async with session.get(url) as answer:
        await answer.read()
        return answer.status, answer.headers.get("Retry-After")


def routes_of(application: web.Application, *, heads: bool = True) -> Iterator[tuple[str, str]]:
    """Return method and a path that matches, for every route."""
    for route in application.router.routes():
        if route.method == "HEAD" and not heads:
            continue
        assert route.resource is not None
        facts = route.resource.get_info()
        path = facts.get("path")
        if path is None:
            fixed = dict(re.findall(r"\(\?P<(_\d+)>\(\?i:([^)]*)\)\)", facts["pattern"].pattern))
            names = {name: re.sub(r"\\(.)", r"\1", text) for name, text in fixed.items()}
            named = dict.fromkeys(re.findall(r"{(\w+)}", facts["formatter"]), "x")
            path = facts["formatter"].format(**{**named, **names})
        yield ("GET" if route.method == "*" else route.method), path


@asynccontextmanager
async def client(hub: Hub) -> AsyncIterator[aiohttp.ClientSession]:
    connector = aiohttp.TCPConnector(ssl=hub.tls)
    async with aiohttp.ClientSession(connector=connector) as session:
        yield session


async def test_no_route_answers_without_a_credential(hub: Hub) -> None:
    operator, provider, _ = hub.ports
    foreign = hub.token("Contributor", new_private_key())
    elsewhere = hub.token("Contributor", issuer="https://other.example")
    wrong = ("", "Bearer", "Bearer x.y.z", "Basic YTpi", f"Bearer {foreign}", f"Bearer {elsewhere}")
    seen = set()
    assert len(hub.applications) == 2
    async with client(hub) as session:
        for application in hub.applications:
            routes = set(routes_of(application))
            is_provider = ("POST", ROUTES[2].path) in routes
            base = f"https://{HOST}:{provider if is_provider else operator}"
            # Who may speak as an operator is nobody on the provider port.
            further = (f"Bearer {hub.token('Contributor')}",) if is_provider else ()
            for number, (method, path) in enumerate(sorted(routes)):
                given = {None, wrong[number % len(wrong)], *further}
                for header in given:
                    headers = {} if header is None else {"Authorization": header}
                    async with session.request(method, base + path, headers=headers) as answer:
                        expected = 200 if (method, path) in PUBLIC else 401
                        expected = 400 if path == LOGIN else expected
                        assert answer.status == expected, (method, path, header)
                seen.add((method, path))
    assert seen >= PUBLIC
    assert len(seen) > 60


def test_every_role_is_told_apart_by_some_right() -> None:
    assert len({frozenset(GRANTED[role]) for role in Role}) == len(Role)


async def test_each_role_is_let_in_where_the_table_says_so_and_nowhere_else(hub: Hub) -> None:
    """Every role on every route: 403 without the right, something else with it."""
    (operators,) = (each for each in hub.applications if RIGHTS in each)
    rights = [right for _, _, right in operators[RIGHTS]]
    paths = [path for _, path in routes_of(operators, heads=False)]
    methods = [method for method, _, _ in operators[RIGHTS]]
    assert len(rights) == len(paths), "a route of no table"
    everybody = {
        (method, path)
        for method, path, right in zip(methods, paths, rights, strict=True)
        if right is None
    }
    assert everybody == {each for each in PUBLIC if each[1] in paths and each[0] != "HEAD"}
    names = (*Role, "Nobody")
    async with client(hub) as session:
        for name in names:
            headers = {"Authorization": f"Bearer {hub.token(name)}"}
            granted = GRANTED[Role(name)] if name in set(Role) else frozenset()
            for method, path, right in zip(methods, paths, rights, strict=True):
                url = f"https://{HOST}:{hub.ports[0]}{path}"
                asked = "POST" if method == "*" else method
                async with session.request(asked, url, headers=headers) as answer:
                    let_in = right is None or right in granted
                    told = (name, asked, path, await answer.text())
                    assert (answer.status != 403) is let_in, told
                    assert answer.status not in {401, 500}, told


async def test_mqtt_wants_a_certificate_before_a_byte_is_read(hub: Hub) -> None:
    reader, writer = await asyncio.open_connection(
        HOST, hub.ports[2], ssl=hub.tls, server_hostname=HOST
    )
    with contextlib.suppress(ssl.SSLError, ConnectionError):
        # With TLS 1.3 a client learns of the refusal at its first read.
        assert await reader.read(1) == b""
    assert reader.exception() is not None or reader.at_eof()
    writer.transport.abort()


async def test_who_is_asked_for_is_never_believed(hub: Hub) -> None:
    evil = "evil.example"
    headers = {
        "Authorization": f"Bearer {hub.token('Contributor')}",
        "Host": evil,
        "X-Forwarded-Host": evil,
        "X-Forwarded-Proto": "http",
        "X-Forwarded-For": "10.0.0.1",
        "Forwarded": f"host={evil};for=10.0.0.1",
    }
    base = f"https://{HOST}:{hub.ports[0]}"
    vault = "/subscriptions/s/resourceGroups/g/providers/Microsoft.RecoveryServices/vaults/vault"
    policy = {
        "properties": {"providerSpecificInput": {"instanceType": "HyperVReplica2012R2"}},
    }
    async with client(hub) as session:
        for path, body in (
            (vault, {"location": "local"}),
            (f"{vault}/replicationPolicies/p", policy),
        ):
            async with session.put(base + path, json=body, headers=headers) as answer:
                text = await answer.text()
                assert answer.status in {200, 201, 202}, text
                assert evil not in text + repr(answer.headers)
                location = answer.headers.get("Location")
        assert location is not None
        assert location.startswith("https://hub.example/")


async def test_a_request_that_two_readers_would_divide_differently_is_refused(
    hub: Hub, caplog: pytest.LogCaptureFixture
) -> None:
    heads = (
        b"POST /health HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n",
        b"POST /health HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\nContent-Length: 5\r\n",
        b"POST /health HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked, identity\r\n",
        b"POST /health HTTP/1.1\r\nHost: h\r\nContent-Length: +4\r\n",
        b"POST /health HTTP/1.1\r\nHost: h\r\nTransfer-Encoding : chunked\r\n",
        b"GET /health HTTP/1.1\r\nHost: h\r\nX: " + b"a" * 20_000 + b"\r\n",
    )
    for port in hub.ports[:2]:
        for head in heads:
            reader, writer = await asyncio.open_connection(
                HOST, port, ssl=hub.tls, server_hostname=HOST
            )
            writer.write(head + b"\r\n0\r\n\r\nGET /health HTTP/1.1\r\nHost: h\r\n\r\n")
            answer = await reader.read()
            assert answer.split()[1] == b"400", (head[:90], answer[:90])
            assert answer.count(b"HTTP/1.") == 1, "nothing behind it was taken for a request"
            writer.close()
    assert not [each for each in caplog.records if each.exc_info], "no stranger fills the log"


async def test_silent_and_slow_strangers_are_let_go_and_others_are_served(hub: Hub) -> None:
    """Connections that never begin TLS, never ask, or ask one byte at a time."""
    async with AsyncExitStack() as stack:
        ended = []
        for number in range(STRANGERS):
            port = hub.ports[number % 2]
            if number % 4 < 2:
                silent = stack.enter_context(socket.create_connection((HOST, port)))
                silent.settimeout(0)
                ended.append(asyncio.create_task(_closed(silent)))
            else:
                reader, writer = await asyncio.open_connection(
                    HOST, port, ssl=hub.tls, server_hostname=HOST
                )
                stack.callback(writer.transport.abort)
                ended.append(asyncio.create_task(_dribble(reader, writer, number % 8 < 4)))
        async with client(hub) as session:
            for port in hub.ports[:2]:
                async with session.get(f"https://{HOST}:{port}/health") as answer:
                    assert answer.status == 200
        async with asyncio.timeout(SECONDS_MAX):
            await asyncio.gather(*ended)


async def _closed(connection: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    try:
        assert await loop.sock_recv(connection, 100) == b""
    except ConnectionResetError:
        return


async def _dribble(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, says_nothing: bool
) -> None:
    """Send a request's headers without end, or nothing, until the hub has enough of it."""
    if not says_nothing:
        writer.write(b"GET /health HTTP/1.1\r\nHost: h\r\nX: ")
    while not reader.at_eof() and not writer.is_closing():
        if not says_nothing:
            writer.write(b"a")
        try:
            async with asyncio.timeout(0.05):
                assert await reader.read(1) == b""
        except TimeoutError:
            continue
        except (ConnectionError, ssl.SSLError):
            return


@pytest.mark.parametrize("which", [0, 1, 2], ids=["operators", "providers", "mqtt"])
async def test_old_protocol_versions_are_refused(hub: Hub, which: int) -> None:
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname = False
    old.verify_mode = ssl.CERT_NONE
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        old.minimum_version = ssl.TLSVersion.TLSv1
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises((ssl.SSLError, ConnectionResetError)):
        await asyncio.open_connection(HOST, hub.ports[which], ssl=old)
