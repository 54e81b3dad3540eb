"""Two real simulated sites with several machines, and a real agent at each, for real hubs.

Sites and agents run in the test's own process; hubs are processes. Each agent reaches its hub
through relays of its own, so that a test decides which hub that is, and whether it is reached.
"""

import asyncio
import json
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from provider_agent.agent import run_agent
from provider_agent.config import AgentSettings
from provider_agent.register_command import Dialogue, RegisterOptions, run_registration
from service_shell.secret_files import write_secret
from tests.integration.agent_fakes.waiting import HastyClock, until
from tests.support.relay import HOST, Relay
from tests.support.simulator_estate import CLOUD, Estate, RunningSite, trust
from vmm_simulator.journal import Effect

MACHINE_DISK_BYTES = 8 * 65_536
READY_SECONDS_MAX = 40.0
IDENTITY = "identity.json"


def vmm_fqdn(site: str) -> str:
    """Return the name of a site's VMM server, which is also the provider's friendly name."""
    return f"vmm.{site}.example"


@dataclass
class BusyEstate(Estate):
    """An estate whose first site has so many machines."""

    machine_count: int = 1

    @property
    def machine_ids(self) -> list[str]:
        """The GUIDs of the machines."""
        return [str(uuid.UUID(int=0x1000 + number, version=4)) for number in self._numbers]

    @property
    def disks(self) -> list[Path]:
        """The disk of each machine."""
        return [self.folder / f"{machine_id}.img" for machine_id in self.machine_ids]

    def write(self) -> None:
        """Write what both sites need."""
        super().write()
        for path in self.disks:
            with path.open("wb") as image:
                image.truncate(MACHINE_DISK_BYTES)

    def configuration(self, site: str, **changes: Any) -> dict[str, Any]:
        """Return a site's configuration as it stands in a file."""
        values = super().configuration(site, **changes)
        fqdn = vmm_fqdn(site)
        values["vmm"] = {"id": str(uuid.uuid5(uuid.NAMESPACE_DNS, fqdn)), "fqdn": fqdn}
        if site == "tokyo":
            machines = [self._one(number) for number in self._numbers]
            values["inventory"] = {**values["inventory"], "machines": machines}
        return values

    @property
    def _numbers(self) -> range:
        return range(self.machine_count)

    def _one(self, number: int) -> dict[str, Any]:
        return {
            "id": self.machine_ids[number],
            "name": f"web{number:02}",
            "host": self.fqdns("tokyo")[number % 2],
            "cloud": CLOUD["tokyo"],
            "disks": [{"id": "disk", "name": "disk", "path": str(self.disks[number])}],
            "nics": [{"id": f"nic-{number}", "network": "network"}],
        }


@dataclass
class AgentAtSite:
    """A site's agent: registered once, then started and ended as a test likes."""

    folder: Path
    site: RunningSite
    https: Relay
    mqtt: Relay
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None

    @property
    def settings(self) -> AgentSettings:
        """The agent's configuration."""
        return AgentSettings.model_validate(
            {
                "data_directory": self.folder / "agent",
                "ready_file": self.folder / "ready.json",
                "vmm": {
                    "url": f"https://{HOST}:{self.site.vmm_port}",
                    "ca_file": self.folder.parent / "vmm-ca.pem",
                    "token_file": self.folder.parent / "token",
                },
                "watch_seconds": 0.2,
            }
        )

    async def register(self, credentials: Path) -> None:
        """Register as the command does, then reach the hub by the relays of this site."""
        options = RegisterOptions(credentials, vmm_fqdn(self.site.name), yes=True, shred=False)
        dialogue = Dialogue(tell=lambda _: None, ask=lambda _: True)
        await run_registration(self.settings, options, dialogue, HastyClock())
        file = self.folder / "agent" / "identity" / IDENTITY
        facts = json.loads(file.read_text())
        facts |= {"provider_url": f"https://{HOST}:{self.https.port}", "mqtt_host": HOST}
        write_secret(file, json.dumps({**facts, "mqtt_port": self.mqtt.port}).encode())

    async def start(self, group: asyncio.TaskGroup) -> None:
        """Start it and return when it can be commanded."""
        self.stop.clear()
        self.task = group.create_task(run_agent(self.settings, HastyClock(), self.stop))
        ready = self.folder / "ready.json"
        await until(ready.exists, f"the agent of {self.site.name} is ready", READY_SECONDS_MAX)

    def lead_to(self, https_port: int | None, mqtt_port: int | None) -> None:
        """Have it reach another hub, or none."""
        self.https.lead_to(https_port)
        self.mqtt.lead_to(mqtt_port)


@dataclass
class EstateWithAgents:
    """Both sites with their agents."""

    estate: BusyEstate
    agents: Mapping[str, AgentAtSite]
    group: asyncio.TaskGroup

    def lead_to(self, https_port: int | None, mqtt_port: int | None) -> None:
        """Have both agents reach this hub."""
        for agent in self.agents.values():
            agent.lead_to(https_port, mqtt_port)

    async def effects(self) -> list[Effect]:
        """Return the ledgers of both sites together."""
        lines: list[Effect] = []
        for agent in self.agents.values():
            lines += await agent.site.site.journal.effects()
        return lines


def assert_every_effect_once(effects: Sequence[Effect], job: str, verbs: Sequence[str]) -> None:
    """A job has each of these effects once, by the fabrics' durable ledgers, and no other."""
    own = [each for each in effects if each.command_id.startswith(f"{job}/")]
    assert Counter(each.verb for each in own if each.succeeded) == Counter(verbs), own
    commands = Counter(each.command_id for each in own)
    assert max(commands.values()) == 1, commands


@asynccontextmanager
async def busy_estate(folder: Path, machine_count: int) -> AsyncIterator[EstateWithAgents]:
    """Run both sites; agents are registered and started by the test, and ended here."""
    estate = BusyEstate(folder, machine_count=machine_count)
    estate.write()
    (folder / "vmm-ca.pem").write_text(trust().root_pem)
    async with AsyncExitStack() as stack:
        agents = {}
        for name in CLOUD:
            site = await stack.enter_async_context(estate.running(name))
            https = await stack.enter_async_context(Relay.opened())
            mqtt = await stack.enter_async_context(Relay.opened())
            (folder / f"agent-{name}").mkdir()
            agents[name] = AgentAtSite(folder / f"agent-{name}", site, https, mqtt)
        async with asyncio.TaskGroup() as group:
            try:
                yield EstateWithAgents(estate, agents, group)
            finally:
                for agent in agents.values():
                    agent.stop.set()
