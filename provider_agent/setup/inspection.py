"""Gathers what the prerequisite checks decide on."""

import asyncio
import shutil
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from provider_agent import VERSION
from provider_agent.domain.addresses import HTTPS_PORT, Surroundings, needed_addresses, written_list
from provider_agent.domain.prerequisites import (
    Check,
    check_clock,
    check_disk_space,
    check_hub_reachable,
    check_node_versions,
    check_service_account,
    check_vmm_version,
)
from provider_agent.proxy import HubRoute
from provider_agent.setup.hub_probe import HubPlace, ProbeResult
from service_shell.errors import ProgramError
from wire_contract.vmm_service import VmmServiceView


@dataclass(frozen=True, slots=True)
class Findings:
    """The checks in their order, and the written list of addresses."""

    checks: tuple[Check, ...]
    addresses: str


@dataclass(frozen=True, slots=True)
class Site:
    """What is installed, and where."""

    view: VmmServiceView
    this_node: str
    hosts: Sequence[str]
    data_directory: Path
    vmm_url: str


def this_node(view: VmmServiceView, configured: str | None) -> str:
    """Return this server's name among VMM's nodes; ProgramError where VMM has no such node."""
    nodes = [node.fqdn for node in view.nodes]
    if configured is None and view.cluster_role is None:
        return nodes[0]
    node = configured or socket.getfqdn()
    if node not in nodes:
        raise ProgramError(
            f"this server ({node}) is no node of the VMM server {view.fqdn};"
            f" write `node` into the configuration: one of {', '.join(nodes)}"
        )
    return node


async def inspect(
    site: Site, place: HubPlace, route: HubRoute, probe: ProbeResult, *, upgrade: bool
) -> Findings:
    """Return every check, passed or not; nothing is changed by looking."""
    around = surroundings(site, place, route)
    text = written_list(needed_addresses(around))
    free = await asyncio.to_thread(free_bytes, site.data_directory)
    told = site.view.free_disk_bytes
    checks = [
        check_vmm_version(site.view.version, site.view.update_rollup),
        check_service_account(site.view.service_account),
        check_disk_space(free if told is None else min(free, told), str(site.data_directory)),
        check_hub_reachable(
            place.url,
            f"through the proxy {around.proxy}" if around.proxy else "directly",
            probe.failure,
        ),
        check_node_versions(site.view.nodes, site.this_node, VERSION, upgrade=upgrade),
        Check("addresses and ports", passed=True, result="see the written list"),
    ]
    if probe.skew_seconds is not None:
        checks.insert(4, check_clock(probe.skew_seconds))
    return Findings(tuple(checks), text)


def surroundings(site: Site, place: HubPlace, route: HubRoute) -> Surroundings:
    """Return what the written list of addresses is made of."""
    parts = urlsplit(place.url)
    proxy = route.proxy_for(parts.hostname or "", parts.port or HTTPS_PORT)
    return Surroundings(
        hub_url=place.url,
        vmm_url=site.vmm_url,
        nodes=[node.fqdn for node in site.view.nodes],
        hosts=site.hosts,
        mqtt_host=place.mqtt_host,
        mqtt_port=place.mqtt_port,
        proxy=None if proxy is None else str(proxy),
    )


def free_bytes(folder: Path) -> int:
    """Return the free space of the disk that the folder is, or will be, on."""
    present = next(each for each in (folder, *folder.parents) if each.exists())
    return shutil.disk_usage(present).free
