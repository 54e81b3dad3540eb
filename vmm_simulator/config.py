"""The configuration file of a simulated site (docs/vmm-simulator.md describes every key)."""

from pathlib import Path
from typing import Annotated, Final, Self

from pydantic import Field, StringConstraints, model_validator

from service_shell.configuration import ListenSettings, LogSettings, Settings

IDENTITY_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"
FQDN_PATTERN: Final = r"^[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9-]+)*$"

Identity = Annotated[str, StringConstraints(pattern=IDENTITY_PATTERN)]
"""An id that may become part of a file name."""

Fqdn = Annotated[str, StringConstraints(pattern=FQDN_PATTERN, max_length=253)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=128)]


class VmmClusterSettings(Settings):
    """VMM as a cluster: the role's name and the nodes; the role begins on `active`, or the first.

    All nodes are played by this process.
    """

    role: Fqdn
    nodes: tuple[Fqdn, ...] = Field(min_length=2, max_length=16)
    active: Fqdn | None = None

    @model_validator(mode="after")
    def _check_nodes(self) -> Self:
        _refuse_twins("vmm.cluster.nodes", list(self.nodes))
        if self.active is not None and self.active not in self.nodes:
            raise ValueError(f"active {self.active} is not listed under nodes; add it")
        return self


class VmmSettings(Settings):
    """The VMM server that this process plays."""

    id: Identity
    fqdn: Fqdn
    version: str = "3.2.7634.0"
    update_rollup: int = Field(default=9, ge=0, le=1000)
    service_account: str = Field(default="vmm-service", max_length=256)
    cluster: VmmClusterSettings | None = None
    free_disk_bytes: int | None = Field(default=None, ge=0)


class SecuredListenSettings(ListenSettings):
    """An HTTPS listener: its certificate chain, its key and the bearer token of its callers."""

    certificate_file: Path
    key_file: Path
    token_file: Path


class ReplicationSettings(Settings):
    """`interval_seconds` replaces every policy's interval, for laboratories in a hurry."""

    interval_seconds: float | None = Field(default=None, ge=0.05, le=86_400)


class HostGroupSettings(Settings):
    """A host group; clouds are made of host groups."""

    id: Identity
    name: Name
    path: str = "All Hosts"


class CloudSettings(Settings):
    """A VMM cloud."""

    id: Identity
    name: Name
    capability_profile: str = "Hyper-V"
    host_groups: tuple[Identity, ...] = Field(min_length=1)
    synchronize: bool = False


class HostSettings(Settings):
    """A Hyper-V host; its address is what `hosts_file` says for its FQDN."""

    fqdn: Fqdn
    version: str = Field(default="2012R2", pattern="^(2012|2012R2)$")
    host_group: Identity
    disks_directory: Path
    cluster: str | None = None


class LogicalNetworkSettings(Settings):
    """A logical network and the clouds it is attached to."""

    id: Identity
    name: Name
    clouds: tuple[Identity, ...] = ()


class SubnetSettings(Settings):
    """A subnet of a VM network."""

    name: Name
    address_list: tuple[str, ...] = ()


class NetworkSettings(Settings):
    """A VM network."""

    id: Identity
    name: Name
    type: str = "NoIsolation"
    logical_network: Identity
    subnets: tuple[SubnetSettings, ...] = ()


class AddressPoolSettings(Settings):
    """A static IP address pool of a VM network."""

    id: Identity
    name: Name
    network: Identity
    first: str
    last: str


class ClassificationSettings(Settings):
    """A storage classification."""

    id: Identity
    name: Name


class DiskSettings(Settings):
    """A virtual disk: an existing raw image."""

    id: Identity
    name: Name
    kind: str = Field(default="OperatingSystem", pattern="^(OperatingSystem|Data)$")
    path: Path


class NicSettings(Settings):
    """A network adapter; `network` is null when it is not connected."""

    id: Identity
    network: Identity | None = None


class MachineSettings(Settings):
    """A virtual machine that exists when the site is first started."""

    id: Identity
    name: Name
    host: Fqdn
    cloud: Identity
    generation: int = Field(default=2, ge=1, le=2)
    disks: tuple[DiskSettings, ...] = Field(min_length=1, max_length=16)
    nics: tuple[NicSettings, ...] = ()
    records_per_second: float = Field(default=0.0, ge=0, le=100_000)
    running: bool = True


class InventorySettings(Settings):
    """What the site has at its first start; afterwards its journal is the truth."""

    clouds: tuple[CloudSettings, ...]
    host_groups: tuple[HostGroupSettings, ...]
    hosts: tuple[HostSettings, ...]
    logical_networks: tuple[LogicalNetworkSettings, ...] = ()
    networks: tuple[NetworkSettings, ...] = ()
    ip_pools: tuple[AddressPoolSettings, ...] = ()
    classifications: tuple[ClassificationSettings, ...] = ()
    library_shares: tuple[str, ...] = ()
    machines: tuple[MachineSettings, ...] = ()

    @model_validator(mode="after")
    def _check_references(self) -> Self:
        groups = {each.id for each in self.host_groups}
        clouds = {each.id for each in self.clouds}
        hosts = {each.fqdn for each in self.hosts}
        networks = {each.id for each in self.networks}
        logical = {each.id for each in self.logical_networks}
        wanted = [
            ("host_groups", groups, {name for each in self.clouds for name in each.host_groups}),
            ("host_groups", groups, {each.host_group for each in self.hosts}),
            ("clouds", clouds, {name for each in self.logical_networks for name in each.clouds}),
            ("logical_networks", logical, {each.logical_network for each in self.networks}),
            ("networks", networks, {each.network for each in self.ip_pools}),
            ("hosts", hosts, {each.host for each in self.machines}),
            ("clouds", clouds, {each.cloud for each in self.machines}),
            (
                "networks",
                networks,
                {nic.network for each in self.machines for nic in each.nics if nic.network},
            ),
        ]
        for key, known, used in wanted:
            if missing := sorted(used - known):
                raise ValueError(f"{missing[0]} is used but not listed under {key}; add it")
        _refuse_twins("machines", [each.id for each in self.machines])
        _refuse_twins("hosts", [each.fqdn for each in self.hosts])
        _refuse_twins("clouds", [each.id for each in self.clouds])
        paths = [str(disk.path) for each in self.machines for disk in each.disks]
        _refuse_twins("disk paths", paths)
        return self


class SimulatorSettings(Settings):
    """One simulated site: a VMM server, its hosts and its guests, in one process."""

    site: Identity
    data_directory: Path
    ready_file: Path | None = None
    log: LogSettings = LogSettings()
    vmm: VmmSettings
    vmm_interface: SecuredListenSettings
    management: SecuredListenSettings
    hosts_file: Path
    ledger_socket: Path | None = None
    replication: ReplicationSettings = ReplicationSettings()
    inventory: InventorySettings


def _refuse_twins(what: str, values: list[str]) -> None:
    seen: set[str] = set()
    for value in values:
        if value in seen:
            raise ValueError(f"{value} stands twice under {what}; ids must differ")
        seen.add(value)
