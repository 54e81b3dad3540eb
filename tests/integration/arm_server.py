"""The surface served as in service (uvloop, TLS, a chain of its own), and the SDK's clients."""

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import uvloop
from aiohttp import web
from azure.core.credentials import AccessToken
from azure.mgmt.recoveryservices import RecoveryServicesClient
from azure.mgmt.recoveryservicessiterecovery import SiteRecoveryManagementClient
from azure.mgmt.recoveryservicessiterecovery.aio import (
    SiteRecoveryManagementClient as AsyncSiteRecoveryManagementClient,
)

from certs.chain import TrustChain
from certs.identity import new_private_key, private_key_pem
from certs.profiles import Profile
from certs.tls import server_context
from service_hub.arm.routes import arm_routes
from service_shell.listener import open_listener
from tests.unit.arm.arm_estate import SUBSCRIPTION
from tests.unit.arm.arm_hub import MemoryHub, prepared_hub
from tests.unit.arm.arm_use_cases import arm_api

HOST = "127.0.0.1"
SECONDS_MAX = 20
TURNS = 10
GOOD_TOKEN = "good"  # noqa: S105 -- known to the in-memory hub alone


class Credential:
    """A token that does not come from a directory."""

    def __init__(self, token: str) -> None:
        self._token = token

    def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        """Return the token."""
        del scopes, options
        return AccessToken(self._token, int(time.time()) + 3600)


class AsyncCredential(Credential):
    """The same for the asynchronous client."""

    async def get_token(self, *scopes: str, **options: Any) -> AccessToken:  # type: ignore[override]
        """Return the token."""
        return Credential.get_token(self, *scopes, **options)

    async def close(self) -> None:
        """Hold nothing."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Hold nothing."""


@dataclass
class Served:
    """A hub that is served, and how a client reaches it."""

    hub: MemoryHub
    url: str
    ca_file: str

    @property
    def settings(self) -> dict[str, Any]:
        """What both clients are made with."""
        return {
            "base_url": self.url,
            "credential_scopes": [f"{self.url}/.default"],
            "connection_verify": self.ca_file,
            "polling_interval": 0,
        }

    def site_recovery(self, token: str = GOOD_TOKEN) -> SiteRecoveryManagementClient:
        """Return the synchronous site-recovery client."""
        return SiteRecoveryManagementClient(Credential(token), SUBSCRIPTION, **self.settings)

    def asynchronous_site_recovery(self) -> AsyncSiteRecoveryManagementClient:
        """Return the asynchronous site-recovery client."""
        return AsyncSiteRecoveryManagementClient(
            AsyncCredential(GOOD_TOKEN), SUBSCRIPTION, **self.settings
        )

    def recovery_services(self) -> RecoveryServicesClient:
        """Return the synchronous vault client."""
        return RecoveryServicesClient(Credential(GOOD_TOKEN), SUBSCRIPTION, **self.settings)


@dataclass(frozen=True)
class Identity:
    """What the server shows."""

    chain_pem: str
    key_pem: bytes


@dataclass(frozen=True)
class Address:
    """Where the server is, and how it is told to stop."""

    url: str
    loop: asyncio.AbstractEventLoop
    stop: asyncio.Event


async def drop_connections(runner: web.AppRunner) -> None:
    """Let go of every connection at once: some clients keep theirs after an error."""
    server = runner.server
    assert server is not None
    async with asyncio.timeout(SECONDS_MAX):
        while server.connections:
            for connection in server.connections:
                if connection.transport is not None:
                    connection.transport.abort()
            await asyncio.sleep(0.01)
    # A TLS transport lets go of its socket some turns later.
    for _ in range(TURNS):
        await asyncio.sleep(0)


async def serve(hub: MemoryHub, identity: Identity, started: "Future[Address]") -> None:
    """Serve the surface until the event that is handed out is set."""
    stop = asyncio.Event()
    listener = open_listener(HOST, 0)
    url = f"https://{HOST}:{listener.getsockname()[1]}"
    application = web.Application()
    application.add_routes(arm_routes(arm_api(hub, url, retry_after_seconds=0)))
    runner = web.AppRunner(application)
    await runner.setup()
    try:
        context = server_context(identity.chain_pem, identity.key_pem)
        await web.SockSite(runner, listener, ssl_context=context).start()
        started.set_result(Address(url, asyncio.get_running_loop(), stop))
        await stop.wait()
        await drop_connections(runner)
    finally:
        await runner.cleanup()


@contextmanager
def serving(tmp_path: Path) -> Iterator[Served]:
    """Serve a prepared hub without items, as in service: uvloop, TLS, a chain of its own."""
    now = datetime.now(UTC)
    trust, key = TrustChain.create(now, "Contoso"), new_private_key()
    issued = trust.issue(Profile.HUB_SERVER, key.public_key(), HOST, now, ip_addresses=[HOST])
    ca_file = tmp_path / "root.pem"
    ca_file.write_text(trust.root_pem, encoding="ascii")
    hub = prepared_hub(state=None)
    started: Future[Address] = Future()

    def run() -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            identity = Identity(issued.chain_pem, private_key_pem(key))
            runner.run(serve(hub, identity, started))

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(run)
        address = started.result(SECONDS_MAX)
        try:
            yield Served(hub, address.url, str(ca_file))
        finally:
            address.loop.call_soon_threadsafe(address.stop.set)
            running.result(SECONDS_MAX)
