"""The whole hub as `run_hub` composes it, on free loopback ports, with a clock that can be moved.

It runs in a thread with a loop of its own, so that plain sockets and commands can speak with it.
"""

import asyncio
import http.client
import json
import ssl
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import structlog
from typer.testing import CliRunner

from certs.enrolment import chain_for, decode_certs_only
from certs.identity import PrivateKey, certificate_pem, new_private_key, private_key_pem
from certs.tls import client_context
from certs.tokens import unwrap_token
from certs.vault_credentials import open_pfx, parse
from service_hub.cli import application
from service_hub.config import HubSettings
from service_hub.hub import run_hub
from service_shell.clock import SystemClock
from service_shell.configuration import load_configuration
from tests.support.trust_world import request_body
from wire_contract import paths
from wire_contract.reports import Registration

HOST = "127.0.0.1"
SECONDS_MAX = 30
VAULTS = "/subscriptions/s/resourceGroups/g/providers/Microsoft.RecoveryServices/vaults"
NO_CHECK_TIME = 0x200000
"""X509_V_FLAG_NO_CHECK_TIME (openssl/x509_vfy.h)."""

VMM_ID = "33333333-3333-4333-8333-333333333333"
VMM_FQDN = "vmm01.tokyo.example"


class MovedClock(SystemClock):
    """The real time, moved by `ahead`."""

    def __init__(self, ahead: timedelta = timedelta(0)) -> None:
        super().__init__()
        self.ahead = ahead

    def now(self) -> datetime:
        """Return the moved time."""
        return super().now() + self.ahead


@dataclass(frozen=True)
class Answer:
    """What came back."""

    code: int
    body: bytes
    headers: Mapping[str, str]

    @property
    def content(self) -> Any:
        """The JSON in it."""
        return json.loads(self.body)


@dataclass(frozen=True)
class Holder:
    """Who shows a certificate, and a token where there is one."""

    tls: ssl.SSLContext
    key: PrivateKey
    token: str | None = None

    @property
    def bearer(self) -> dict[str, str]:
        """The header with the token."""
        return {} if self.token is None else {"Authorization": f"Bearer {self.token}"}


@dataclass
class RealHub:
    """A hub that serves; `told` is what it has logged."""

    settings: HubSettings
    clock: MovedClock
    told: list[Any]
    token: str
    root_pem: str
    vaults: dict[str, str] = field(default_factory=dict)

    @property
    def failures(self) -> list[Any]:
        """What the hub logged as its own fault: whatever has a traceback."""
        return [line for line in self.told if "exc_info" in line]

    def operator(self, method: str, path: str, body: Any = None) -> Answer:
        """Send an operator's request."""
        content = b"" if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        port, tls = self.settings.operator.port, client_context(self.root_pem)
        # An operator's clock goes with the hub's, whatever the hub's is.
        tls.verify_flags |= ssl.VerifyFlags(NO_CHECK_TIME)
        return send((port, tls), method, path, content, headers)

    def provider(
        self, method: str, path: str, holder: Holder, body: bytes = b"", **headers: str
    ) -> Answer:
        """Send a server's request."""
        port = self.settings.provider.port
        return send((port, holder.tls), method, path, body, {**holder.bearer, **headers})

    def vault(self, name: str) -> str:
        """Return the id of a vault of that name, made when it is not there."""
        if name not in self.vaults:
            answer = self.operator(
                "PUT",
                f"{VAULTS}/{name}?api-version=2024-04-01",
                {"location": "local", "sku": {"name": "RS0", "tier": "Standard"}, "properties": {}},
            )
            assert answer.code in {200, 201, 202}, answer
            listed = self.operator("GET", "/hub/v1/vaults").content["vaults"]
            self.vaults = {each["name"]: each["vault_id"] for each in listed}
        return self.vaults[name]

    def credentials(self, vault: str) -> tuple[bytes, str]:
        """Return a new credentials file of a vault, and its key's thumbprint."""
        answer = self.operator("POST", f"/hub/v1/vaults/{self.vault(vault)}/registration-keys", {})
        assert answer.code == 201, answer
        return answer.body, answer.headers["Registration-Key-Thumbprint"]

    def revoke(self, vault: str, thumbprint: str) -> None:
        """Take a registration key back."""
        path = f"/hub/v1/vaults/{self.vault(vault)}/registration-keys/{thumbprint}/revoke"
        assert self.operator("POST", path).code == 200

    def registration_holder(self, vault: str) -> Holder:
        """Return the holder of a new registration key."""
        contents = open_pfx(parse(self.credentials(vault)[0]).management_pfx)
        chain = certificate_pem(contents.certificate)
        tls = client_context(self.root_pem, chain_pem=chain, key_pem=private_key_pem(contents.key))
        return Holder(tls, contents.key)

    def renewed(self, holder: Holder) -> Holder:
        """Return the same server with a new token."""
        sealed = self.provider("POST", paths.TOKEN, Holder(holder.tls, holder.key))
        assert sealed.code == 200, sealed
        token = unwrap_token(sealed.content["token"], holder.key)
        return Holder(holder.tls, holder.key, token)

    def registered(self, vault: str, vmm_id: str = VMM_ID) -> Holder:
        """Return a new server that is registered, with its token."""
        key = new_private_key()
        enrolling = self.registration_holder(vault)
        answer = self.provider("POST", paths.EST_SIMPLEENROLL, enrolling, request_body(key, vmm_id))
        assert answer.code == 200, answer
        chain = chain_for(decode_certs_only(answer.body), key.public_key())
        tls = client_context(self.root_pem, chain_pem=chain, key_pem=private_key_pem(key))
        holder = self.renewed(Holder(tls, key))
        registration = Registration(
            vmm_id=vmm_id,
            vmm_fqdn=VMM_FQDN,
            friendly_name="Tokyo",
            provider_version="1",
            vmm_version="3.2",
        )
        body = registration.model_dump_json().encode()
        assert self.provider("POST", paths.REGISTRATION, holder, body).code == 200
        return holder


@dataclass
class Line:
    """One connection to a port, made again when the hub has ended it."""

    connection: http.client.HTTPSConnection

    def send(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Send one request and return its answer; bounded."""
        self.connection.request(method, path, body or None, dict(headers))
        response = self.connection.getresponse()
        return Answer(response.status, response.read(), dict(response.getheaders()))


@contextmanager
def open_line(place: tuple[int, ssl.SSLContext]) -> Iterator[Line]:
    """Give a connection to a port."""
    port, tls = place
    connection = http.client.HTTPSConnection(HOST, port, timeout=SECONDS_MAX, context=tls)
    with closing(connection):
        yield Line(connection)


def send(
    place: tuple[int, ssl.SSLContext],
    method: str,
    path: str,
    body: bytes,
    headers: Mapping[str, str],
) -> Answer:
    """Send one request over a connection of its own to a port; bounded."""
    with open_line(place) as line:
        return line.send(method, path, body, headers)


def configure(
    folder: Path, free_port: Callable[[], int], further: Mapping[str, Any] | None = None
) -> Path:
    """Write the configuration of a hub, with `further` parts, and return its file."""
    operator, provider, mqtt = free_port(), free_port(), free_port()
    file = folder / "hub.json"
    listens = {
        "operator": {"host": HOST, "port": operator},
        "provider": {
            "host": HOST,
            "port": provider,
            "public_url": f"https://{HOST}:{provider}",
        },
        "mqtt": {"host": HOST, "port": mqtt, "public_host": HOST},
    }
    facts = {
        "data_directory": str(folder / "hub"),
        "key_file": str(folder / "hub.key"),
        "public_url": f"https://{HOST}:{operator}",
        "ready_file": str(folder / "ready.json"),
    }
    file.write_text(json.dumps({**facts, **listens, **(further or {})}))
    return file


def command(*words: str | Path) -> None:
    """Give a command of the hub's, which must succeed."""
    done = CliRunner().invoke(application, [str(word) for word in words])
    assert done.exit_code == 0, done.output


@contextmanager
def real_hub(
    folder: Path,
    free_port: Callable[[], int],
    ahead: timedelta = timedelta(0),
    further: Mapping[str, Any] | None = None,
) -> Iterator[RealHub]:
    """Run a new hub until the block is left; its clock is `ahead` of the real time."""
    config, token = configure(folder, free_port, further), folder / "operator.token"
    command("init", "--config", config)
    issue = ("--principal", "anna", "--role", "Contributor", "--output", token)
    command("token", "issue", "--config", config, *issue)
    settings, clock = load_configuration(config, HubSettings), MovedClock(ahead)
    root_pem = (settings.trust_directory / "root.pem").read_text()
    hub = RealHub(settings, clock, [], token.read_text(), root_pem)
    with run_again(hub):
        yield hub


@contextmanager
def run_again(hub: RealHub) -> Iterator[RealHub]:
    """Run a hub, which was there before, until the block is left; ProgramError is passed on."""
    stopping: Future[Callable[[], None]] = Future()
    assert hub.settings.ready_file is not None
    with suppress(OSError):  # a disk that has become read-only; the hub says so itself
        hub.settings.ready_file.unlink(missing_ok=True)

    async def serve() -> None:
        stop, loop = asyncio.Event(), asyncio.get_running_loop()

        def end() -> None:
            with suppress(RuntimeError):  # it has ended by itself; its result says why
                loop.call_soon_threadsafe(stop.set)

        stopping.set_result(end)
        await run_hub(hub.settings, hub.clock, stop)

    with structlog.testing.capture_logs() as hub.told, ThreadPoolExecutor(1) as pool:
        running = pool.submit(lambda: asyncio.run(serve()))
        stop = stopping.result(SECONDS_MAX)
        try:
            _wait_ready(hub.settings, running)
            yield hub
        finally:
            stop()
            running.result(SECONDS_MAX)


def _wait_ready(settings: HubSettings, running: "Future[None]") -> None:
    """Return when the hub serves: the ready file is written last; bounded."""
    assert settings.ready_file is not None
    for _ in range(SECONDS_MAX * 50):
        if settings.ready_file.exists():
            return
        with suppress(TimeoutError):
            running.result(0.02)  # a hub that cannot begin says why here
    raise AssertionError("the hub is not ready")
