"""A provider between a hub and a VMM server that are played in this process."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from certs.profiles import Profile
from provider_agent.agent import run_agent
from provider_agent.config import AgentSettings
from provider_agent.credentials import Identity, IdentityFacts, save_identity
from service_shell.failpoints import NONE, Failpoints
from service_shell.secret_files import write_secret
from tests.integration.agent_fakes.fake_hub import FakeHub
from tests.integration.agent_fakes.fake_vmm import TOKEN, FakeVmm
from tests.integration.agent_fakes.trust import Trust
from tests.integration.agent_fakes.waiting import HastyClock, until


@dataclass
class Estate:
    """One site and its hub; the provider is started and ended by the test."""

    folder: Path
    trust: Trust
    hub: FakeHub
    vmm: FakeVmm
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def ready_file(self) -> Path:
        """Where the provider says that it is ready."""
        return self.folder / "ready.json"

    @property
    def journal_file(self) -> Path:
        """The provider's journal."""
        return self.folder / "agent" / "journal.db"

    def settings(self) -> AgentSettings:
        """The provider's configuration."""
        return AgentSettings.model_validate(
            {
                "data_directory": self.folder / "agent",
                "ready_file": self.ready_file,
                "vmm": {
                    "url": self.vmm.url,
                    "ca_file": self.folder / "ca.pem",
                    "token_file": self.folder / "vmm.token",
                },
                "watch_seconds": 0.05,
                "tasks": {"read_back_seconds": 0.0},
                **self.options,
            }
        )

    def register(self) -> None:
        """Give the provider an identity without asking the hub."""
        key, chain_pem = self.trust.issue(Profile.PROVIDER_MANAGEMENT, self.hub.provider_id)
        facts = IdentityFacts(
            provider_id=self.hub.provider_id,
            vault_id="vault-1",
            vault_name="Contoso vault",
            vmm_id="vmm-1",
            vmm_version="3.2",
            friendly_name="Tokyo",
            provider_url=self.hub.url,
            mqtt_host="127.0.0.1",
            mqtt_port=self.hub.mqtt.port,
            heartbeat_seconds=1,
            registered_at=datetime.now(UTC),
        )
        root_pem = self.trust.chain.root_pem
        save_identity(self.folder / "agent", Identity(facts, key, chain_pem, root_pem))

    @contextlib.asynccontextmanager
    async def agent(
        self, *, ready: bool = True, faults: Failpoints = NONE
    ) -> AsyncIterator["RunningAgent"]:
        """Run the provider; leaving the block asks it to stop."""
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            task = group.create_task(run_agent(self.settings(), HastyClock(), stop, faults))
            running = RunningAgent(task)
            try:
                if ready:
                    await until(
                        lambda: self.ready_file.exists() or task.done(), "the provider is ready"
                    )
                yield running
            finally:
                stop.set()
                if not task.done():
                    await asyncio.wait({task}, timeout=10)


@dataclass
class RunningAgent:
    """A provider that runs in this process."""

    task: asyncio.Task[None]

    async def kill(self) -> None:
        """End it at once, in the middle of whatever it does."""
        self.task.cancel()
        await asyncio.wait({self.task}, timeout=10)


@contextlib.asynccontextmanager
async def estate(folder: Path) -> AsyncIterator[Estate]:
    """Serve a hub and a VMM server, with the provider's files in `folder`."""
    trust = Trust()
    (folder / "ca.pem").write_text(trust.chain.root_pem)
    write_secret(folder / "vmm.token", TOKEN.encode())
    hub, vmm = FakeHub(trust), FakeVmm()
    async with vmm.serve(trust.server()), hub.serve():
        yield Estate(folder, trust, hub, vmm)
