"""The written list of addresses and ports that VMM server and hosts must reach (seed, step 3)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

HTTPS_PORT: Final = 443
MQTT_PORT: Final = 8883
REPLICATION_PORT: Final = 8084
"""HTTPS authentication; 8083 is Kerberos (seed, step 4)."""


@dataclass(frozen=True, slots=True)
class Address:
    """One line of a firewall's rules; every connection goes out, none comes in from the hub."""

    source: str
    host: str
    port: int
    purpose: str

    def __str__(self) -> str:
        return f"{self.source}  ->  {self.host}:{self.port}  {self.purpose}"


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What is known of this site before the list is written; null: registration will tell."""

    hub_url: str
    vmm_url: str
    nodes: Sequence[str]
    hosts: Sequence[str]
    mqtt_host: str | None = None
    mqtt_port: int | None = None
    proxy: str | None = None


def needed_addresses(around: Surroundings) -> tuple[Address, ...]:
    """Return every address that must be reachable, of the VMM server first, then of its hosts."""
    hub_host, hub_port = _of(around.hub_url)
    vmm_host, vmm_port = _of(around.vmm_url)
    lines: list[Address] = []
    for node in around.nodes:
        if around.proxy is not None:
            host, _, port = around.proxy.rpartition(":")
            lines.append(Address(node, host, int(port), "the proxy on the way to the hub"))
        lines += [
            Address(node, hub_host, hub_port, "hub: HTTPS, also MQTT over WebSocket"),
            Address(
                node,
                around.mqtt_host or hub_host,
                around.mqtt_port or MQTT_PORT,
                "hub: MQTT; not needed where the port above is open",
            ),
            Address(node, vmm_host, vmm_port, "VMM interface"),
        ]
    lines += [
        Address(host, "every host of the partner cloud", REPLICATION_PORT, "replication of disks")
        for host in around.hosts
    ]
    return tuple(lines)


def written_list(addresses: Sequence[Address]) -> str:
    """Return the list as a text for whoever keeps the firewall."""
    head = (
        "Addresses and ports that must be reachable (TCP). All connections go out from the first"
        "\nname; hub and partner never connect to the VMM server. The replication port is 8084"
        "\nunless the cloud's settings name another one.\n\n"
    )
    return head + "".join(f"{each}\n" for each in addresses)


def _of(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or HTTPS_PORT
