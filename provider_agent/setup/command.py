"""`provider-agent setup`: what the seed's installer does, in its order (seed, step 3)."""

import asyncio
import getpass
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from provider_agent import VERSION
from provider_agent.agent import vmm_driver
from provider_agent.config import AgentSettings
from provider_agent.credentials import is_registered, load_identity, read_credentials
from provider_agent.domain.addresses import needed_addresses, written_list
from provider_agent.domain.prerequisites import refused
from provider_agent.domain.proxies import ProxyRules
from provider_agent.fabric.driver import FabricBusyError, FabricDriver, FabricError
from provider_agent.fabric.vmm_service import VmmService
from provider_agent.proxy import HubRoute, chosen_rules
from provider_agent.proxy_account import accept_proxy
from provider_agent.setup.hub_probe import HubPlace, probe_hub
from provider_agent.setup.inspection import Findings, Site, inspect, surroundings, this_node
from provider_agent.setup.installation import Installation, Tell, install, service_stopped
from provider_agent.setup.package import ADDRESSES, UNIT, extract, open_package
from provider_agent.setup.record import load_record
from provider_agent.setup.service_unit import ServiceManager, unit_text
from service_shell.clock import Clock
from service_shell.errors import ProgramError
from wire_contract.vmm_service import VmmServiceView

PROGRAM_FILE: Final = "provider-agent"

Ask = Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class SetupOptions:
    """What the command line says; `extract` alone only extracts, with `install` it is installed."""

    config: Path
    credentials: Path | None = None
    yes: bool = False
    auto_update: bool | None = None
    extract: Path | None = None
    install: bool = False
    upgrade: bool = False
    proxy: ProxyRules | None = None


@dataclass(frozen=True, slots=True)
class Surface:
    """Where set-up speaks, asks and installs."""

    tell: Tell
    ask: Ask
    systemd: ServiceManager = field(default_factory=ServiceManager)


async def run_setup(
    settings: AgentSettings, options: SetupOptions, surface: Surface, clock: Clock
) -> None:
    """Extract, or check and install; ProgramError names what keeps it from that."""
    if options.install and options.extract is None:
        raise ProgramError(
            "--install takes an extracted package: give its folder with --extract DIR"
        )
    place = _place(settings, options, clock)
    rules = chosen_rules(options.proxy, settings.proxy, settings.data_directory, os.environ)
    route = HubRoute(rules)
    async with vmm_driver(settings.vmm) as driver:
        service = VmmService(driver)
        view = await _view(service)
        node = this_node(view, settings.node)
        site = Site(
            view=view,
            this_node=node,
            hosts=await _hosts(driver),
            data_directory=settings.data_directory,
            vmm_url=settings.vmm.url,
        )
        if options.extract is not None and not options.install:
            files = _files(options, surroundings_text(site, place, route))
            await asyncio.to_thread(extract, options.extract, VERSION, files)
            surface.tell(f"extracted provider {VERSION} into {options.extract}")
            return
        probe = await probe_hub(place, route, clock)
        findings = await inspect(site, place, route, probe, upgrade=options.upgrade)
        _report(findings, surface)
        files = (
            _files(options, findings.addresses)
            if options.extract is None
            else await asyncio.to_thread(open_package, options.extract, VERSION)
        )
        _ask_leave(view, options, surface)
        what = Installation(
            node=node,
            data_directory=settings.data_directory,
            config=options.config.absolute(),
            auto_update=_policy(settings.data_directory, node, options.auto_update),
            files=files,
        )
        async with service_stopped(service, surface.tell):
            await install(what, service, surface.systemd, clock, surface.tell)
        if options.proxy is not None:
            # Tested above, before anything was installed; its RunAs account needs a running VMM.
            await accept_proxy(
                options.proxy, place.url, place.root_pem, settings.data_directory, service
            )
    surface.tell(f"provider {VERSION} is installed on {node}")
    if view.cluster_role is not None and node != view.active_node:
        surface.tell(f"{node} is a passive node: registration is done once, on {view.active_node}")


def surroundings_text(site: Site, place: HubPlace, route: HubRoute) -> str:
    """Return the written list of addresses."""
    return written_list(needed_addresses(surroundings(site, place, route)))


def _place(settings: AgentSettings, options: SetupOptions, clock: Clock) -> HubPlace:
    if options.credentials is not None:
        granted = read_credentials(options.credentials, clock.now())
        return HubPlace(granted.provider_url, granted.root_pem)
    if is_registered(settings.data_directory):
        identity = load_identity(settings.data_directory, clock.now())
        facts = identity.facts
        return HubPlace(facts.provider_url, identity.root_pem, facts.mqtt_host, facts.mqtt_port)
    raise ProgramError(
        "set-up has to reach the hub, and this server is not registered yet: give the vault's"
        " registration key with --credentials FILE"
    )


async def _view(service: VmmService) -> VmmServiceView:
    try:
        return await service.view()
    except FabricError as error:
        raise ProgramError(
            f"the VMM server cannot be asked: {error}; check vmm.url in the configuration"
        ) from error


async def _hosts(driver: FabricDriver) -> tuple[str, ...]:
    try:
        return tuple(host.fqdn for host in (await driver.inventory()).hosts)
    except FabricBusyError:
        # The operator has stopped the service already, as the unattended form asks for.
        return ("every Hyper-V host of this site",)
    except FabricError as error:
        raise ProgramError(f"the VMM server's inventory cannot be read: {error}") from error


def _files(options: SetupOptions, addresses: str) -> dict[str, str]:
    program = Path(sys.executable).with_name(PROGRAM_FILE)
    unit = unit_text(program, options.config.absolute(), getpass.getuser())
    return {UNIT: unit, ADDRESSES: addresses}


def _report(findings: Findings, surface: Surface) -> None:
    for check in findings.checks:
        surface.tell(str(check))
    surface.tell("")
    surface.tell(findings.addresses)
    if problem := refused(findings.checks):
        raise ProgramError(f"set-up has changed nothing, a prerequisite is missing: {problem}")


def _ask_leave(view: VmmServiceView, options: SetupOptions, surface: Surface) -> None:
    if options.yes or not view.running:
        return
    what = (
        f"the VMM service of {view.fqdn}"
        if view.cluster_role is None
        else f"the cluster role {view.cluster_role}"
    )
    if options.install:
        raise ProgramError(f"{what} runs, and --install asks nothing: stop it first, or give --yes")
    if not surface.ask(f"Set-up has to stop {what}, and starts it again afterwards. Stop it now?"):
        raise ProgramError(f"set-up may not stop {what}; nothing was changed")


def _policy(data_directory: Path, node: str, chosen: bool | None) -> bool:  # noqa: FBT001 -- three-valued: the command line may leave it open
    if chosen is not None:
        return chosen
    former = load_record(data_directory, node)
    return former.auto_update if former is not None else False
