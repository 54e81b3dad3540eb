"""The whole hub, its command line and a real agent with a played VMM server, in one process."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
from typer.testing import CliRunner

from certs.profiles import Profile
from certs.tls import client_context, server_context
from certs.tokens import issue_operator_token
from provider_agent.agent import run_agent, vmm_driver
from provider_agent.config import AgentSettings
from provider_agent.credentials import Identity, load_identity
from provider_agent.hub_client import AccessToken, HubClient
from provider_agent.hub_https import HubError, HubHttps
from provider_agent.registration import register
from service_hub.cli import application
from service_hub.config import HubSettings
from service_hub.domain.records import ManagementCertificate, Provider, ProviderStream
from service_hub.hub import run_hub
from service_hub.store.database import open_readers
from service_hub.trust import initialise, load
from service_shell.clock import SystemClock
from service_shell.secret_files import write_secret
from tests.integration.agent_fakes.fake_vmm import TOKEN, FakeVmm
from tests.integration.agent_fakes.waiting import until
from tests.support.channel_world import Trust

HOST = "127.0.0.1"
VMM_ID = "33333333-3333-4333-8333-333333333333"
VAULT = "/subscriptions/s/resourceGroups/g/providers/Microsoft.RecoveryServices/vaults/prod"
REQUEST_SECONDS = aiohttp.ClientTimeout(total=20)
ECHO_SECONDS = 0.05


@dataclass
class RootWorld:
    """A hub that can be started, stopped and commanded, and its one server."""

    folder: Path
    settings: HubSettings
    vmm: FakeVmm
    clock: SystemClock = field(default_factory=SystemClock)
    echoes: int = 0

    @property
    def agent_folder(self) -> Path:
        """The agent's data directory."""
        return self.folder / "agent"

    def identity(self) -> Identity:
        """Return the agent's identity as it lies on disk."""
        return load_identity(self.agent_folder, self.clock.now())

    async def command(self, *arguments: str) -> tuple[int, str]:
        """Give a command of service-hub; return its exit code and what it says."""
        config = self.folder / "hub.yaml"
        config.write_text(self.settings.model_dump_json())
        given = (*arguments[:2], "--config", str(config), *arguments[2:])
        done = await asyncio.to_thread(CliRunner().invoke, application, given)
        return done.exit_code, done.output + str(done.exception or "")

    @contextlib.asynccontextmanager
    async def hub(self) -> AsyncIterator[None]:
        """Run the hub until the block is left."""
        assert self.settings.ready_file is not None
        ready, stop = self.settings.ready_file, asyncio.Event()
        async with asyncio.TaskGroup() as group:
            task = group.create_task(run_hub(self.settings, self.clock, stop))
            try:
                await until(lambda: ready.exists() or task.done(), "the hub is ready")
                yield
            finally:
                stop.set()

    async def operator(self, method: str, path: str, body: Any = None) -> bytes:
        """Send an operator's request; it must succeed."""
        now = self.clock.now()
        trust = load(self.settings, now)
        token = issue_operator_token(
            trust.token_key,
            issuer=self.settings.public_url,
            principal="anna",
            role="Contributor",
            now=now,
            lifetime=timedelta(hours=1),
            token_id=self.clock.new_id(),
        )
        tls = client_context(trust.chains.roots_pem)
        async with (
            aiohttp.ClientSession(timeout=REQUEST_SECONDS) as session,
            session.request(
                method,
                f"{self.settings.public_url}{path}",
                json=body,
                headers={"Authorization": f"Bearer {token}"},
                ssl=tls,
            ) as response,
        ):
            content = await response.read()
            assert response.status < 300, content
            return content

    async def credentials(self) -> Path:
        """Return a new vault credentials file."""
        await self.operator(
            "PUT",
            f"{VAULT}?api-version=2024-04-01",
            {"location": "local", "sku": {"name": "RS0", "tier": "Standard"}, "properties": {}},
        )
        listed = await self.operator("GET", "/hub/v1/vaults")
        vault_id = listed.decode().split('"vault_id": "')[1].split('"')[0]
        file = self.folder / "prod.VaultCredentials"
        path = f"/hub/v1/vaults/{vault_id}/registration-keys"
        write_secret(file, await self.operator("POST", path, {}))
        return file

    def agent_settings(self) -> AgentSettings:
        """The agent's configuration."""
        return AgentSettings.model_validate(
            {
                "data_directory": self.agent_folder,
                "ready_file": self.folder / "agent-ready.json",
                "vmm": {
                    "url": self.vmm.url,
                    "ca_file": self.folder / "vmm.pem",
                    "token_file": self.folder / "vmm.token",
                },
                "watch_seconds": 0.2,
            }
        )

    async def register(self) -> None:
        """Register the server with a new key."""
        file = await self.credentials()
        async with vmm_driver(self.agent_settings().vmm) as driver:
            await register(self.agent_folder, file, "Tokyo", driver, self.clock)

    @contextlib.asynccontextmanager
    async def agent(self) -> AsyncIterator[None]:
        """Run the agent until the block is left."""
        settings, stop = self.agent_settings(), asyncio.Event()
        assert settings.ready_file is not None
        ready = settings.ready_file
        async with asyncio.TaskGroup() as group:
            task = group.create_task(run_agent(settings, self.clock, stop))
            try:
                await until(lambda: ready.exists() or task.done(), "the agent is ready")
                yield
            finally:
                stop.set()

    async def echo(self, identity: Identity | None = None) -> None:
        """Have an event put into the server's stream, as that server; HubError."""
        who = identity or self.identity()
        tls = client_context(who.root_pem, chain_pem=who.chain_pem, key_pem=who.key_pem)
        async with HubHttps.connect(who.facts.provider_url, tls) as https:
            await HubClient(https, AccessToken(https, who.key, self.clock.now)).echo()
        self.echoes += 1

    @contextlib.asynccontextmanager
    async def events(self) -> AsyncIterator[None]:
        """Let events flow while the block runs."""

        async def flow() -> None:
            while True:
                with contextlib.suppress(HubError):  # it was just changing its certificate
                    await self.echo()
                await asyncio.sleep(ECHO_SECONDS)

        async with asyncio.TaskGroup() as group:
            task = group.create_task(flow())
            try:
                yield
            finally:
                task.cancel()

    async def stored(self) -> tuple[Provider, ProviderStream, list[ManagementCertificate]]:
        """Return what the hub has stored of the server."""
        async with open_readers(self.settings.database_file) as reader:
            (provider,) = await reader.find(Provider)
            (stream,) = await reader.find(ProviderStream)
            certificates = await reader.find(ManagementCertificate)
        return provider.record, stream.record, [each.record for each in certificates]

    async def until_stored(
        self, condition: Callable[[Provider, ProviderStream], bool], what: str
    ) -> None:
        """Return once the hub has stored this; bounded."""
        try:
            async with asyncio.timeout(20):
                while not condition(*(await self.stored())[:2]):
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(f"this did not happen: {what}") from None


def settings_for(folder: Path, free_port: Callable[[], int]) -> HubSettings:
    """Return the configuration of a hub in a folder."""
    operator, provider, mqtt = free_port(), free_port(), free_port()
    return HubSettings.model_validate(
        {
            "data_directory": folder / "hub",
            "key_file": folder / "hub.key",
            "public_url": f"https://{HOST}:{operator}",
            "operator": {"host": HOST, "port": operator},
            "provider": {
                "host": HOST,
                "port": provider,
                "public_url": f"https://{HOST}:{provider}",
            },
            "mqtt": {"host": HOST, "port": mqtt, "public_host": HOST},
            "heartbeat_seconds": 1,
            "ready_file": folder / "ready.json",
        }
    )


@contextlib.asynccontextmanager
async def root_world(folder: Path, free_port: Callable[[], int]) -> AsyncIterator[RootWorld]:
    """Make a hub and a VMM server; neither hub nor agent runs yet."""
    settings = settings_for(folder, free_port)
    initialise(settings, SystemClock().now())
    trust = Trust.create()
    server = trust.holder(Profile.HUB_SERVER, HOST, ip_addresses=(HOST,))
    (folder / "vmm.pem").write_text(trust.chain.root_pem)
    write_secret(folder / "vmm.token", TOKEN.encode())
    vmm = FakeVmm()
    server_view = vmm.view.vmm.model_copy(update={"vmm_id": VMM_ID})
    vmm.view = vmm.view.model_copy(update={"vmm": server_view})
    async with vmm.serve(server_context(server.chain_pem, server.key_pem)):
        yield RootWorld(folder, settings, vmm)
    await asyncio.sleep(0)
