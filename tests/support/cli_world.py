"""A hub for the command line: the ARM surface over TLS, and the hub's own routes beside it.

What a provider would do (refresh, removal) is a job of the hub in memory that ends when it is
asked for.
"""

import asyncio
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import structlog
import uvloop
from aiohttp import web
from typer.testing import CliRunner

from certs.chain import TrustChain
from certs.identity import new_private_key, private_key_pem
from certs.profiles import Profile
from certs.tls import server_context
from service_hub.arm.routes import arm_routes
from service_hub.domain.planning import plan_policy_job
from service_hub.ports.use_cases import RequestIdentity
from service_shell.listener import open_listener
from site_recovery_cli.cli import application
from tests.integration.arm_server import Address, Identity, drop_connections
from tests.unit.arm.arm_estate import GROUP, SUBSCRIPTION, VAULT
from tests.unit.arm.arm_hub import MemoryHub, prepared_hub
from tests.unit.arm.arm_use_cases import arm_api
from wire_contract.operator_signature import HEADER

HOST = "127.0.0.1"
SECONDS_MAX = 20
TOKENS = {"good", "reading"}
VAULT_PATH = "/subscriptions/{s}/resourceGroups/{g}/providers/Microsoft.RecoveryServices/vaults/{v}"
PROVIDER_PATH = (
    VAULT_PATH + "/replicationFabrics/{fabric}/replicationRecoveryServicesProviders/{provider}"
)


@dataclass
class CliHub:
    """A served hub and what was asked of its own routes."""

    hub: MemoryHub
    url: str = ""
    ca_file: Path = Path()
    other_ca_file: Path = Path()
    asked: list[tuple[str, str]] = field(default_factory=list)
    answers: dict[tuple[str, str], web.Response] = field(default_factory=dict)
    signed: list[tuple[str | None, bytes]] = field(default_factory=list)
    """The operator's signature and the body of each request that one of the answers was for."""

    def routes(self) -> list[web.RouteDef]:
        """Return what stands before the ARM surface."""
        return [
            web.route("*", "/hub/v1/{rest:.*}", self._own),
            web.post(PROVIDER_PATH + "/refreshProvider", self._job),
            web.post(PROVIDER_PATH + "/remove", self._job),
            web.delete(PROVIDER_PATH, self._job),
            web.delete(VAULT_PATH, self._in_use),
        ]

    async def _own(self, request: web.Request) -> web.Response:
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if token not in TOKENS:
            return _problem(401, "InvalidAuthenticationToken", "The token is not known.")
        self.asked.append((request.method, request.raw_path))
        if request.path == "/hub/v1/vaults":
            vault = {
                "vault_id": "v",
                "name": VAULT,
                "subscription_id": SUBSCRIPTION,
                "resource_group": GROUP,
            }
            return web.json_response({"vaults": [vault]})
        prepared = self.answers.get((request.method, request.path))
        if prepared is None:
            return _problem(404, "InvalidResourceType", "No operation has this path.")
        self.signed.append((request.headers.get(HEADER), await request.read()))
        return web.Response(
            status=prepared.status, body=prepared.body, content_type=prepared.content_type
        )

    async def _job(self, request: web.Request) -> web.Response:
        self.asked.append((request.method, request.path))
        identity = RequestIdentity(
            principal="anna",
            client_request_id="c",
            correlation_id="d",
            method=request.method,
            path=request.path,
            body_digest="",
        )
        policy = next(iter(self.hub.policies.values()))
        job = self.hub.start(plan_policy_job(policy, self.hub.identity(identity)))
        place = f"{self.url}{request.path}/operationresults/{job.id}?api-version=2025-08-01"
        return web.Response(status=202, headers={"Location": place, "Retry-After": "1"})

    async def _in_use(self, request: web.Request) -> web.Response:
        self.asked.append((request.method, request.path))
        return _problem(409, "Conflict", "The vault has registered servers. Remove them first.")


@dataclass
class Shell:
    """An operator's shell: its own folder of profiles, and the hub that it works with."""

    hub: CliHub
    folder: Path

    def run(self, *arguments: str, code: int = 0, typed: str | None = None) -> str:
        """Run a command that must end with `code`; return both outputs."""
        environment = {"SITE_RECOVERY_CONFIG_DIRECTORY": str(self.folder), "COLUMNS": "200"}
        done = CliRunner().invoke(application, arguments, input=typed, env=environment)
        output = done.stdout + done.stderr
        assert done.exit_code == code, (done.exit_code, output, done.exception)
        return output

    def out(self, *arguments: str) -> str:
        """Return standard output alone of a command that must succeed."""
        environment = {"SITE_RECOVERY_CONFIG_DIRECTORY": str(self.folder), "COLUMNS": "200"}
        done = CliRunner().invoke(application, arguments, env=environment)
        assert done.exit_code == 0, (done.stdout, done.stderr)
        return done.stdout

    def login(self, *more: str, token: str = "good", code: int = 0) -> str:  # noqa: S107 -- known to the hub in memory alone
        """Log in with a token."""
        file = self.folder.parent / "token"
        file.write_text(f"{token}\n")
        file.chmod(0o600)
        return self.run(
            "login",
            "--hub",
            self.hub.url,
            "--ca-file",
            str(self.hub.ca_file),
            "--token-file",
            str(file),
            *more,
            code=code,
        )


def _problem(status: int, code: str, message: str) -> web.Response:
    body: dict[str, Any] = {"error": {"code": code, "message": message}}
    return web.json_response(body, status=status)


async def _serve(hub: CliHub, identity: Identity, started: "Future[Address]") -> None:
    listener, stop = open_listener(HOST, 0), asyncio.Event()
    hub.url = f"https://{HOST}:{listener.getsockname()[1]}"
    application = web.Application()
    application.add_routes(hub.routes())
    application.add_routes(arm_routes(arm_api(hub.hub, hub.url, retry_after_seconds=0)))
    runner = web.AppRunner(application)
    await runner.setup()
    try:
        context = server_context(identity.chain_pem, identity.key_pem)
        await web.SockSite(runner, listener, ssl_context=context).start()
        started.set_result(Address(hub.url, asyncio.get_running_loop(), stop))
        await stop.wait()
        await drop_connections(runner)
    finally:
        await runner.cleanup()


@contextmanager
def cli_hub(folder: Path) -> Iterator[CliHub]:
    """Serve a prepared hub, as in service: TLS, with a chain of its own."""
    now = datetime.now(UTC)
    trust, key = TrustChain.create(now, "Contoso"), new_private_key()
    issued = trust.issue(Profile.HUB_SERVER, key.public_key(), HOST, now, ip_addresses=[HOST])
    hub = CliHub(prepared_hub(), ca_file=folder / "root.pem", other_ca_file=folder / "other.pem")
    hub.ca_file.write_text(trust.root_pem)
    hub.other_ca_file.write_text(TrustChain.create(now, "Fabrikam").root_pem)
    started: Future[Address] = Future()

    def work() -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(hub, Identity(issued.chain_pem, private_key_pem(key)), started))

    # What the hub logs would stand among what a command prints: both are in this process.
    with structlog.testing.capture_logs(), ThreadPoolExecutor(1) as pool:
        running = pool.submit(work)
        address = started.result(SECONDS_MAX)
        try:
            yield hub
        finally:
            address.loop.call_soon_threadsafe(address.stop.set)
            running.result(SECONDS_MAX)
