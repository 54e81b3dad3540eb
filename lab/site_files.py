"""Writes the configuration of the processes of an estate (pure values first, then files)."""

import json
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from lab.estate import Estate, Machine, Network, Site, Store, Subnet
from lab.layout import Layout
from lab.line_orders import Carried
from service_shell.atomic_files import write_atomically
from service_shell.secret_files import write_secret

TOKEN_BYTES: Final = 32
HEARTBEAT_SECONDS: Final = 2
WATCH_SECONDS: Final = 0.5
RETRY_AFTER_SECONDS: Final = 1


@dataclass(frozen=True, slots=True)
class SitePorts:
    """Ports of one site's VMM server, on the estate's first address."""

    vmm_interface: int
    management: int
    line: int | None = None
    """Where the relay listens for the site; None: its way to the hub is direct."""


@dataclass(frozen=True, slots=True)
class HubPorts:
    """Ports of the hub, on the estate's first address."""

    operator: int
    provider: int
    mqtt: int


@dataclass(frozen=True, slots=True)
class SitePlan:
    """One site with everything decided: where it lies and where it listens."""

    estate: Estate
    site: Site
    folder: Path
    address: str
    ports: SitePorts
    disk_images: Mapping[str, tuple[Path, ...]]
    extra_disks: Mapping[str, Path]

    @property
    def vmm_url(self) -> str:
        """Where the VMM server's interface is."""
        return f"https://{self.address}:{self.ports.vmm_interface}"

    @property
    def management_url(self) -> str:
        """Where the simulator is managed."""
        return f"https://{self.address}:{self.ports.management}"

    @property
    def vmm_config(self) -> Path:
        """The simulator's configuration file."""
        return self.folder / "vmm.yaml"

    @property
    def agent_config(self) -> Path:
        """The agent's configuration file."""
        return self.folder / "agent.yaml"

    @property
    def credentials_file(self) -> Path:
        """The vault credentials that the provider registers with."""
        return self.folder / "registration.VaultCredentials"

    def identity(self, *parts: str) -> str:
        """Return the GUID of a thing of this site."""
        return self.estate.identity(self.site.name, *parts)

    def disks_directory(self, fqdn: str) -> Path:
        """Return the folder of a host's disks."""
        return self.folder / "hosts" / fqdn

    def token_file(self, which: str) -> Path:
        """Return the file of the `vmm` or `management` bearer token."""
        return self.folder / f"{which}.token"


def simulator_configuration(plan: SitePlan, layout: Layout) -> dict[str, Any]:
    """Return the configuration of one site's simulator."""
    listening = {
        "certificate_file": str(plan.folder / "vmm.pem"),
        "key_file": str(plan.folder / "vmm-key.pem"),
        "host": plan.address,
    }
    return {
        "site": plan.site.name,
        "data_directory": str(plan.folder / "vmm"),
        "ready_file": str(plan.folder / "vmm.ready"),
        "log": {"file": str(layout.log(f"{plan.site.name}/vmm"))},
        "vmm": {
            "id": plan.identity("vmm"),
            "fqdn": plan.site.vmm.fqdn,
            "version": plan.site.vmm.version,
            "update_rollup": plan.site.vmm.update_rollup,
            "service_account": plan.site.vmm.service_account,
            "cluster": _vmm_cluster(plan.site),
        },
        "vmm_interface": {
            **listening,
            "port": plan.ports.vmm_interface,
            "token_file": str(plan.token_file("vmm")),
        },
        "management": {
            **listening,
            "port": plan.ports.management,
            "token_file": str(plan.token_file("management")),
        },
        "hosts_file": str(layout.hosts_file),
        "ledger_socket": str(layout.ledger / "socket"),
        "replication": {"interval_seconds": plan.estate.replication_interval_seconds},
        "guests": plan.estate.guests,
        "inventory": _inventory(plan),
    }


def _vmm_cluster(site: Site) -> dict[str, Any] | None:
    if not site.vmm.cluster_nodes:
        return None
    return {"role": site.vmm.fqdn, "nodes": list(site.vmm.cluster_nodes)}


def agent_configuration(plan: SitePlan, layout: Layout) -> dict[str, Any]:
    """Return the configuration of one site's provider agent."""
    way: dict[str, Any] = {"proxy": {"mode": "none"}}
    if plan.ports.line is not None:
        way = {
            "proxy": {"mode": "custom", "address": plan.address, "port": plan.ports.line},
            # Else events would come over the HTTPS port where MQTT alone is cut.
            "mqtt": {"transport": "tls"},
        }
    return {
        "data_directory": str(plan.folder / "agent"),
        "ready_file": str(plan.folder / "agent.ready"),
        "log": {"file": str(layout.log(f"{plan.site.name}/agent"))},
        "vmm": {
            "url": plan.vmm_url,
            "ca_file": str(layout.ca_bundle),
            "token_file": str(plan.token_file("vmm")),
        },
        **way,
        "watch_seconds": WATCH_SECONDS,
    }


def relay_configuration(
    layout: Layout, address: str, ports: HubPorts, plans: Iterable[SitePlan]
) -> dict[str, Any]:
    """Return the configuration of the relay in front of the hub."""
    return {
        "host": address,
        "sites": {plan.site.name: plan.ports.line for plan in plans},
        "hub": {Carried.HTTPS.value: ports.provider, Carried.MQTT.value: ports.mqtt},
        "control_socket": str(layout.relay / "control"),
        "cuts_file": str(layout.relay / "cuts.json"),
        "ready_file": str(layout.relay / "ready.json"),
        "log": {"file": str(layout.log("relay"))},
    }


def hub_configuration(
    estate: Estate,
    layout: Layout,
    address: str,
    ports: HubPorts,
    plans: Iterable[SitePlan] = (),
) -> dict[str, Any]:
    """Return the configuration of the hub; events may be injected into the sites of `plans`."""
    operator_url = f"https://{address}:{ports.operator}"
    return {
        "data_directory": str(layout.hub),
        "key_file": str(layout.hub / "hub.key"),
        "public_url": operator_url,
        "operator": {"host": address, "port": ports.operator},
        "provider": {
            "host": address,
            "port": ports.provider,
            "public_url": f"https://{address}:{ports.provider}",
        },
        "mqtt": {"host": address, "port": ports.mqtt, "public_host": address},
        "region": estate.region,
        "retry_after_seconds": RETRY_AFTER_SECONDS,
        "heartbeat_seconds": HEARTBEAT_SECONDS,
        "missed_heartbeats_max": 5,
        "log": {"file": str(layout.log("hub")), "level": "info"},
        "ready_file": str(layout.hub / "ready.json"),
        "organization": "Site Recovery Hub",
        "laboratory": {
            "sites": {
                plan.site.vmm.fqdn: {
                    "url": plan.management_url,
                    "token_file": str(plan.token_file("management")),
                    "ca_file": str(layout.ca_bundle),
                }
                for plan in plans
            }
        },
    }


def write_configuration(path: Path, content: Mapping[str, Any]) -> None:
    """Write a YAML file that a person can read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = yaml.safe_dump(json.loads(json.dumps(content)), sort_keys=False, allow_unicode=True)
    write_atomically(path, text.encode())


def write_hosts(path: Path, addresses: Mapping[str, str]) -> None:
    """Write names and addresses in the format of /etc/hosts."""
    lines = (f"{address} {fqdn}\n" for fqdn, address in addresses.items())
    write_atomically(path, "".join(lines).encode())


def write_tokens(plan: SitePlan) -> None:
    """Make the bearer tokens of the VMM interface and of the management port."""
    for which in ("vmm", "management"):
        write_secret(plan.token_file(which), secrets.token_hex(TOKEN_BYTES).encode())


def _inventory(plan: SitePlan) -> dict[str, Any]:
    site = plan.site
    return {
        "host_groups": [
            {"id": plan.identity("host group", name), "name": name} for name in site.host_groups
        ],
        "clouds": [
            {
                "id": plan.identity("cloud", cloud.name),
                "name": cloud.name,
                "capability_profile": cloud.capability_profile,
                "host_groups": [plan.identity("host group", name) for name in cloud.host_groups],
            }
            for cloud in site.clouds
        ],
        "hosts": [
            {
                "fqdn": host.fqdn,
                "version": host.version,
                "host_group": plan.identity("host group", host.host_group),
                "cluster": host.cluster,
                "disks_directory": str(plan.disks_directory(host.fqdn)),
            }
            for host in site.hosts
        ],
        "logical_networks": [
            {
                "id": plan.identity("logical network", name),
                "name": name,
                "clouds": [
                    plan.identity("cloud", cloud.name)
                    for cloud in site.clouds
                    if name in cloud.logical_networks
                ],
            }
            for name in site.logical_networks
        ],
        "networks": [_network(plan, network) for network in site.networks],
        "ip_pools": [
            {
                "id": plan.identity("IP pool", pool.name),
                "name": pool.name,
                "network": plan.identity("network", pool.network),
                "subnet": pool.subnet,
                "first": str(pool.first),
                "last": str(pool.last),
                "reserved": [str(each) for each in pool.reserved],
            }
            for pool in site.ip_pools
        ],
        "classifications": [
            {"id": plan.identity("classification", each.name), "name": each.name}
            for each in site.classifications
        ],
        "library_shares": [
            {
                "unc": each.path,
                "folder": str(plan.folder / "library" / plan.identity("library", each.name)),
            }
            for each in site.library_shares
        ],
        "clusters": [
            {"name": each.name, "addressing": each.addressing, "broker": each.broker}
            for each in site.clusters
        ],
        "stores": [_store(plan, store) for store in site.stores],
        "machines": [_machine(plan, machine) for machine in site.machines],
    }


def _store(plan: SitePlan, store: Store) -> dict[str, Any]:
    classification = None
    if store.classification is not None:
        classification = plan.identity("classification", store.classification)
    return {
        "id": plan.identity("store", store.name),
        "name": store.name,
        "kind": store.kind,
        "folder": str(plan.folder / plan.estate.store_folder(plan.site.name, store.name)),
        "capacity_bytes": int(store.capacity),
        "classification": classification,
        "cluster": store.cluster,
        "hosts": list(store.hosts),
    }


def _network(plan: SitePlan, network: Network) -> dict[str, Any]:
    return {
        "id": plan.identity("network", network.name),
        "name": network.name,
        "type": network.kind,
        "logical_network": plan.identity("logical network", network.logical_network),
        "subnets": [
            {"name": subnet.name, "address_list": [_subnet_address(network, subnet)]}
            for subnet in network.subnets
        ],
    }


def _subnet_address(network: Network, subnet: Subnet) -> str:
    # As the original spells it (recorded.md section 10): "10.1.0.0/24-1 0" with its VLAN.
    return (
        f"{subnet.address}-{subnet.vlan} 0"
        if network.kind == "VLANNetwork"
        else str(subnet.address)
    )


def _machine(plan: SitePlan, machine: Machine) -> dict[str, Any]:
    disks = [
        {
            "id": plan.identity("disk", machine.name, disk.name),
            "name": disk.name,
            "kind": disk.kind,
            "path": str(path),
        }
        for disk, path in zip(machine.disks, plan.disk_images[machine.name], strict=True)
    ]
    if machine.name in plan.extra_disks:
        disks.append(
            {
                "id": plan.identity("disk", machine.name, "the user's own image"),
                "name": "user",
                "kind": "Data",
                "path": str(plan.extra_disks[machine.name]),
            }
        )
    network = None if machine.network is None else plan.identity("network", machine.network)
    return {
        "id": plan.identity("machine", machine.name),
        "name": machine.name,
        "host": machine.host,
        "cloud": plan.identity("cloud", machine.cloud),
        "generation": machine.generation,
        "disks": disks,
        "nics": [{"id": plan.identity("adapter", machine.name), "network": network}],
        "records_per_second": machine.records_per_second,
        "running": machine.running,
    }
