"""Builds a running estate: files, disks, hub, VMM servers, vault, registered providers."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from lab.addresses import ClaimedNetwork, free_ports
from lab.console import StoryConsole
from lab.estate import Estate
from lab.estate_disks import EstateDisks, make_disks
from lab.estate_record import EstateRecord, save_record
from lab.hub_routes import hub_vault_id
from lab.keeper import keeper_plan
from lab.layout import Layout
from lab.operator_client import HubAddress, Operator, open_operator
from lab.operator_file import (
    HostEntry,
    HubEntry,
    OperatorFile,
    SiteEntry,
    process_entry,
    save_operator_file,
)
from lab.process_table import ProcessRecord
from lab.processes import READY_SECONDS_MAX, Launcher, ProcessPlan, program, run_to_end
from lab.registration import (
    ConnectedProvider,
    create_vault,
    wait_connected,
    write_registration_key,
)
from lab.site_files import (
    HubPorts,
    SitePlan,
    SitePorts,
    agent_configuration,
    hub_configuration,
    relay_configuration,
    simulator_configuration,
    write_configuration,
    write_hosts,
    write_tokens,
)
from lab.trust import LabTrust, write_bundle
from service_shell.clock import Clock
from service_shell.secret_files import read_secret

COMMAND_SECONDS_MAX: Final = 60.0
MACHINES_READ_PER_SECOND: Final = 25
"""How long a VMM server may take, beside what every program may, to read its first inventory."""

TOKEN_HOURS: Final = 48
TOKEN_BYTES_MAX: Final = 65_536
RESOURCE_GROUP: Final = "site-recovery-lab"
PORTS_OF_HUB: Final = 3
RELAY: Final = "relay"
PORTS_OF_SITE: Final = 3


@dataclass(slots=True)
class EstateBuilder:
    """Everything that building needs; the steps are called in the order they are written in."""

    layout: Layout
    estate: Estate
    launcher: Launcher
    console: StoryConsole
    clock: Clock
    record: EstateRecord
    network: ClaimedNetwork
    started_at: float
    own_image: Path | None = None
    disks: EstateDisks = field(default_factory=lambda: EstateDisks({}))
    plans: dict[str, SitePlan] = field(default_factory=dict)
    ports: HubPorts = field(default_factory=lambda: HubPorts(0, 0, 0))

    @property
    def hub_config(self) -> Path:
        """The hub's configuration file."""
        return self.layout.root / "hub.yaml"

    @property
    def address(self) -> HubAddress:
        """Where the operator reaches the hub, and the vault's name."""
        return HubAddress(
            base_url=f"https://{self.network.hub_address}:{self.ports.operator}",
            ca_file=str(self.layout.ca_bundle),
            subscription_id=self.estate.identity("subscription"),
            resource_group=RESOURCE_GROUP,
            vault=f"{self.estate.name}-vault",
        )

    async def start_hub_and_sites(self) -> None:
        """Write all files, make the disks, start the hub and the VMM servers; all are ready."""
        self._plan()
        keeper = self._start_keeper()
        async with asyncio.TaskGroup() as group:
            group.create_task(self.launcher.wait_ready(keeper))
            group.create_task(self._start_hub())
            if self.estate.lines == "relayed":
                group.create_task(self.launcher.wait_ready(self._start_relay()))
            making = group.create_task(make_disks(self.estate, self.layout, self.own_image))
        self.disks = making.result()
        for name, plan in self.plans.items():
            self.plans[name] = replace(
                plan,
                disk_images=self.disks.images[name],
                extra_disks=self.disks.own_of_site(plan.site),
            )
        self._write_site_files()
        records = [
            self._start(
                ProcessPlan(
                    name=f"{plan.site.name}/vmm",
                    command=(program("vmm-simulator"), "run", "--config", str(plan.vmm_config)),
                    config=plan.vmm_config,
                    ready_file=plan.folder / "vmm.ready",
                )
            )
            for plan in self.plans.values()
        ]
        machines = sum(len(plan.site.machines) for plan in self.plans.values())
        seconds = READY_SECONDS_MAX + machines / MACHINES_READ_PER_SECOND
        async with asyncio.TaskGroup() as group:
            for record in records:
                group.create_task(self.launcher.wait_ready(record, seconds))

    @contextlib.asynccontextmanager
    async def operator(self) -> AsyncIterator[Operator]:
        """Open the operator's SDK clients."""
        token = read_secret(self.token_file, TOKEN_BYTES_MAX).decode().strip()
        async with open_operator(self.address, token, self.clock.now()) as operator:
            yield operator

    @property
    def token_file(self) -> Path:
        """The operator's bearer token."""
        return self.layout.root / "operator.token"

    async def open_vault(self, operator: Operator) -> Path:
        """Create the vault and return its registration key (the vault credentials file)."""
        await create_vault(operator, self.estate.region)
        root = (self.layout.hub / "trust" / "root.pem").read_text()
        return await write_registration_key(
            operator, self.estate.region, root, self.layout.root, self.clock.now()
        )

    async def register_providers(
        self, operator: Operator, credentials: Path
    ) -> Mapping[str, ConnectedProvider]:
        """Register each provider with the key, start it, and return all once connected."""
        async with asyncio.TaskGroup() as group:
            for plan in self.plans.values():
                group.create_task(self._register(plan, credentials))
        return await wait_connected(operator, [plan.site.vmm.fqdn for plan in self.plans.values()])

    async def write_operator_file(self, providers: Mapping[str, ConnectedProvider]) -> OperatorFile:
        """Write and return `operator.json`; the record says from now on that the estate runs."""
        hub = self.record.process("hub")
        address = self.address
        token = read_secret(self.token_file, TOKEN_BYTES_MAX).decode().strip()
        content = OperatorFile(
            base_url=address.base_url,
            ca_file=address.ca_file,
            token=token,
            subscription_id=address.subscription_id,
            resource_group=address.resource_group,
            vault=address.vault,
            vault_id=await hub_vault_id(address, token),
            hub=HubEntry(
                **process_entry(hub).model_dump(),
                provider_url=f"https://{self.network.hub_address}:{self.ports.provider}",
                mqtt_url=f"mqtts://{self.network.hub_address}:{self.ports.mqtt}",
            ),
            sites={
                name: self._site_entry(plan, providers[plan.site.vmm.fqdn])
                for name, plan in self.plans.items()
            },
        )
        save_operator_file(self.layout, content)
        self.record = self.record.model_copy(update={"phase": "running"})
        save_record(self.layout, self.record)
        return content

    async def restart(self, name: str) -> ProcessRecord:
        """Start a process of the estate again, as it was started before; it is ready."""
        old = self.record.process(name)
        record = self._start(ProcessPlan(name, old.command, Path(old.config), Path(old.ready_file)))
        await self.launcher.wait_ready(record)
        return record

    def _site_entry(self, plan: SitePlan, provider: ConnectedProvider) -> SiteEntry:
        addresses = self.estate.host_addresses(self.network.prefix)
        return SiteEntry(
            fabric=provider.fabric,
            cloud=plan.identity("cloud", plan.site.clouds[0].name),
            vmm_url=plan.vmm_url,
            management_url=plan.management_url,
            management_token=read_secret(plan.token_file("management"), TOKEN_BYTES_MAX).decode(),
            vmm=process_entry(self.record.process(f"{plan.site.name}/vmm")),
            agent=process_entry(self.record.process(f"{plan.site.name}/agent")),
            hosts={
                host.fqdn: HostEntry(
                    address=addresses[host.fqdn], disks_dir=str(plan.disks_directory(host.fqdn))
                )
                for host in plan.site.hosts
            },
        )

    def _plan(self) -> None:
        sites = self.estate.sites
        address = self.network.hub_address
        relayed = self.estate.lines == "relayed"
        ports = free_ports(address, PORTS_OF_HUB + PORTS_OF_SITE * len(sites))
        self.ports = HubPorts(*ports[:PORTS_OF_HUB])
        for number, site in enumerate(sites):
            first = PORTS_OF_HUB + PORTS_OF_SITE * number
            self.plans[site.name] = SitePlan(
                estate=self.estate,
                site=site,
                folder=self.layout.site(site.name),
                address=address,
                ports=SitePorts(
                    ports[first], ports[first + 1], ports[first + 2] if relayed else None
                ),
                disk_images={},
                extra_disks={},
            )
        prefix = self.network.prefix
        named = self.estate.host_addresses(prefix) | self.estate.broker_addresses(prefix)
        write_hosts(self.layout.hosts_file, named)
        plans = self.plans.values()
        write_configuration(
            self.hub_config, hub_configuration(self.estate, self.layout, address, self.ports, plans)
        )

    def _write_site_files(self) -> None:
        trust = LabTrust(self.clock.now())
        for plan in self.plans.values():
            write_tokens(plan)
            trust.issue_server(
                plan.site.vmm.fqdn,
                plan.address,
                plan.folder / "vmm.pem",
                plan.folder / "vmm-key.pem",
            )
            write_configuration(plan.vmm_config, simulator_configuration(plan, self.layout))
            write_configuration(plan.agent_config, agent_configuration(plan, self.layout))
        write_bundle(
            self.layout, (self.layout.hub / "trust" / "root.pem").read_text(), trust.root_pem
        )

    def _start_keeper(self) -> ProcessRecord:
        self.layout.ledger.mkdir(parents=True, exist_ok=True)
        return self._start(keeper_plan(self.layout, self.network.descriptor))

    def _start_relay(self) -> ProcessRecord:
        config = self.layout.relay / "relay.yaml"
        plans = self.plans.values()
        content = relay_configuration(self.layout, self.network.hub_address, self.ports, plans)
        write_configuration(config, content)
        return self._start(
            ProcessPlan(
                name=RELAY,
                command=(sys.executable, "-m", "lab.relay", "--config", str(config)),
                config=config,
                ready_file=self.layout.relay / "ready.json",
            )
        )

    async def _start_hub(self) -> None:
        hub, config = program("service-hub"), str(self.hub_config)
        await run_to_end(self.layout, (hub, "init", "--config", config), COMMAND_SECONDS_MAX)
        record = self._start(
            ProcessPlan(
                name="hub",
                command=(hub, "run", "--config", config),
                config=self.hub_config,
                ready_file=self.layout.hub / "ready.json",
            )
        )
        await self.launcher.wait_ready(record)
        token = (
            *(hub, "token", "issue", "--config", config, "--principal", "lab-operator"),
            *("--role", "Contributor", "--hours", str(TOKEN_HOURS)),
            *("--output", str(self.token_file)),
        )
        await run_to_end(self.layout, token, COMMAND_SECONDS_MAX)

    async def _register(self, plan: SitePlan, credentials: Path) -> None:
        agent, config = program("provider-agent"), str(plan.agent_config)
        register = (
            *(agent, "register", "--config", config, "--credentials", str(credentials)),
            *("--friendly-name", plan.site.vmm.fqdn, "--yes"),
        )
        await run_to_end(self.layout, register, COMMAND_SECONDS_MAX)
        record = self._start(
            ProcessPlan(
                name=f"{plan.site.name}/agent",
                command=(agent, "run", "--config", config),
                config=plan.agent_config,
                ready_file=plan.folder / "agent.ready",
            )
        )
        await self.launcher.wait_ready(record)

    def _start(self, plan: ProcessPlan) -> ProcessRecord:
        record = self.launcher.start(plan)
        self.record = self.record.with_process(record)
        save_record(self.layout, self.record)
        return record
