"""The configuration file of a simulated site (docs/vmm-simulator.md describes every key)."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final, Self

from pydantic import Field, StringConstraints, model_validator

from service_shell.configuration import ListenSettings, LogSettings, Settings
from vmm_simulator.hyperv.authorisation import Authorisations
from vmm_simulator.hyperv.bandwidth import WINDOWS_MAX, BandwidthWindow
from vmm_simulator.hyperv.proxy_address import ProxyAddress
from vmm_simulator.hyperv.realm import REALM_PATTERN
from vmm_simulator.vmm.estate_records import Addressing, AddressType, Isolation, StoreKind

IDENTITY_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"
FQDN_PATTERN: Final = r"^[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9-]+)*$"

Identity = Annotated[str, StringConstraints(pattern=IDENTITY_PATTERN)]
"""An id that may become part of a file name."""

Fqdn = Annotated[str, StringConstraints(pattern=FQDN_PATTERN, max_length=253)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=128)]
Text = Annotated[str, StringConstraints(min_length=1, max_length=260)]
MAC_PATTERN: Final = r"^[0-9A-Fa-f]{2}([:-]?[0-9A-Fa-f]{2}){5}$"


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


class CapacitySettings(Settings):
    """What a cloud may use; null: as much as there is."""

    processors: int | None = Field(default=None, ge=0)
    memory_megabytes: int | None = Field(default=None, ge=0)
    storage_gigabytes: int | None = Field(default=None, ge=0)
    quota_points: int | None = Field(default=None, ge=0)
    machines: int | None = Field(default=None, ge=0)


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
    host_groups: tuple[Identity, ...] = Field(min_length=1, max_length=256)
    synchronize: bool = False
    capacity: CapacitySettings = CapacitySettings()


class ClusterSettings(Settings):
    """A failover cluster; `broker` is the replica broker that somebody made by hand."""

    name: Fqdn
    addressing: Addressing = Addressing.DHCP
    broker: Fqdn | None = None


class KerberosSettings(Settings):
    """The Kerberos realm of the hosts; `configuration_file`: a krb5.conf, null: the system's."""

    realm: Annotated[str, StringConstraints(pattern=REALM_PATTERN)]
    configuration_file: Path | None = None


class HostSettings(Settings):
    """A Hyper-V host; its address is what `hosts_file` says for its FQDN.

    `processors` and `memory_megabytes` null: room for any number of machines. `logical_networks`
    null: its adapters reach all. `delegations` are `service/server`, as constrained delegation
    lists them. `authorisations`: who may replicate here beside paired hosts; `bandwidth`: limits of
    what it sends by time of day (UTC); `proxy`: its own HTTP proxy; `keytab_file`: of Kerberos.
    """

    fqdn: Fqdn
    version: str = Field(default="2012R2", pattern="^(2012|2012R2)$")
    host_group: Identity
    disks_directory: Path
    cluster: Fqdn | None = None
    processors: int | None = Field(default=None, ge=1, le=4096)
    memory_megabytes: int | None = Field(default=None, ge=1, le=2**26)
    logical_networks: tuple[Identity, ...] | None = Field(default=None, max_length=256)
    delegations: tuple[Text, ...] = Field(default=(), max_length=64)
    run_as_account: Name | None = None
    authorisations: Authorisations = Authorisations()
    bandwidth: tuple[BandwidthWindow, ...] = Field(default=(), max_length=WINDOWS_MAX)
    proxy: ProxyAddress | None = None
    keytab_file: Path | None = None


class SubnetVlanSettings(Settings):
    """A subnet of a network site and its VLAN; 0 for none."""

    subnet: Text
    vlan: int = Field(default=0, ge=0, le=4094)


class NetworkSiteSettings(Settings):
    """A logical network definition."""

    id: Identity
    name: Name
    host_groups: tuple[Identity, ...] = Field(default=(), max_length=256)
    subnets: tuple[SubnetVlanSettings, ...] = Field(default=(), max_length=256)


class LogicalNetworkSettings(Settings):
    """A logical network, the clouds it is attached to, and its definitions (sites)."""

    id: Identity
    name: Name
    clouds: tuple[Identity, ...] = Field(default=(), max_length=256)
    sites: tuple[NetworkSiteSettings, ...] = Field(default=(), max_length=256)
    network_virtualization: bool = False
    uses_gre: bool = False
    private_vlans: bool = False
    isolated_sites: bool = False


class SubnetSettings(Settings):
    """A subnet of a VM network."""

    name: Name
    address_list: tuple[Text, ...] = Field(default=(), max_length=64)


class NetworkSettings(Settings):
    """A VM network; `type` is its isolation."""

    id: Identity
    name: Name
    type: Isolation = Isolation.NO_ISOLATION
    logical_network: Identity
    subnets: tuple[SubnetSettings, ...] = Field(default=(), max_length=64)


class AddressPoolSettings(Settings):
    """A static IP address pool of a VM network, or of one of its subnets."""

    id: Identity
    name: Name
    network: Identity
    subnet: Name | None = None
    first: Text
    last: Text
    reserved: tuple[Text, ...] = Field(default=(), max_length=1024)
    gateways: tuple[Text, ...] = Field(default=(), max_length=16)
    dns_servers: tuple[Text, ...] = Field(default=(), max_length=16)


class ClassificationSettings(Settings):
    """A storage classification."""

    id: Identity
    name: Name
    description: str = Field(default="", max_length=1024)


class StoreSettings(Settings):
    """Where hosts keep disks: a CSV of a cluster, an SMB share, or a folder of one host."""

    id: Identity
    name: Name
    kind: StoreKind
    folder: Path
    capacity_bytes: int = Field(ge=0, le=2**60)
    classification: Identity | None = None
    cluster: Fqdn | None = None
    hosts: tuple[Fqdn, ...] = Field(default=(), max_length=256)
    foreign_bytes: int = Field(default=0, ge=0, le=2**60)


class LibraryShareSettings(Settings):
    """A share of the VMM library; its folder is made at the first start."""

    unc: Text
    folder: Path


class FileShareSettings(Settings):
    """A folder for offline replication, and who may use it."""

    unc: Text
    folder: Path
    server: Fqdn
    full_control: tuple[Name, ...] = Field(default=(), max_length=256)
    share_full_control: tuple[Name, ...] = Field(default=(), max_length=256)
    server_groups: dict[Name, tuple[Name, ...]] = Field(default_factory=dict, max_length=64)
    read_write: tuple[Name, ...] = Field(default=(), max_length=256)


class DiskSettings(Settings):
    """A virtual disk: an existing raw image."""

    id: Identity
    name: Name
    kind: str = Field(default="OperatingSystem", pattern="^(OperatingSystem|Data)$")
    path: Path


class NicSettings(Settings):
    """A network adapter; `network` is null when it is not connected.

    A static adapter gets its `address` out of a pool of its network; without one, a free one.
    """

    id: Identity
    network: Identity | None = None
    subnet: Name | None = None
    address_type: AddressType = AddressType.DYNAMIC
    address: Text | None = None
    mac: str | None = Field(default=None, pattern=MAC_PATTERN)
    synthetic: bool = True


class MachineSettings(Settings):
    """A virtual machine that exists when the site is first started."""

    id: Identity
    name: Name
    host: Fqdn
    cloud: Identity
    generation: int = Field(default=2, ge=1, le=2)
    disks: tuple[DiskSettings, ...] = Field(min_length=1, max_length=16)
    nics: tuple[NicSettings, ...] = Field(default=(), max_length=12)
    records_per_second: float = Field(default=0.0, ge=0, le=100_000)
    running: bool = True
    processors: int = Field(default=1, ge=1, le=64)
    memory_megabytes: int = Field(default=1024, ge=32, le=2**20)
    owner: str = Field(default="", max_length=256)
    recovery_points: int | None = Field(default=None, ge=0, le=24)


class InventorySettings(Settings):
    """What the site has at its first start; afterwards its journal is the truth."""

    clouds: tuple[CloudSettings, ...]
    host_groups: tuple[HostGroupSettings, ...]
    hosts: tuple[HostSettings, ...]
    logical_networks: tuple[LogicalNetworkSettings, ...] = ()
    networks: tuple[NetworkSettings, ...] = ()
    ip_pools: tuple[AddressPoolSettings, ...] = ()
    classifications: tuple[ClassificationSettings, ...] = ()
    library_shares: tuple[Text | LibraryShareSettings, ...] = ()
    clusters: tuple[ClusterSettings, ...] = ()
    stores: tuple[StoreSettings, ...] = ()
    file_shares: tuple[FileShareSettings, ...] = ()
    machines: tuple[MachineSettings, ...] = ()

    @model_validator(mode="after")
    def _check_references(self) -> Self:
        groups = {each.id for each in self.host_groups}
        clouds = {each.id for each in self.clouds}
        hosts = {each.fqdn for each in self.hosts}
        networks = {each.id for each in self.networks}
        logical = {each.id for each in self.logical_networks}
        clusters = {each.name for each in self.clusters}
        wanted = [
            ("host_groups", groups, {name for each in self.clouds for name in each.host_groups}),
            ("host_groups", groups, {each.host_group for each in self.hosts}),
            ("clouds", clouds, {name for each in self.logical_networks for name in each.clouds}),
            ("logical_networks", logical, {each.logical_network for each in self.networks}),
            ("networks", networks, {each.network for each in self.ip_pools}),
            ("hosts", hosts, {each.host for each in self.machines}),
            ("clusters", clusters, {each.cluster for each in self.hosts if each.cluster}),
            ("clusters", clusters, {each.cluster for each in self.stores if each.cluster}),
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


class GuestKind(StrEnum):
    """What a guest is: a process of its own, or a task of the simulator (many machines)."""

    PROCESS = "process"
    TASK = "task"


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
    kerberos: KerberosSettings | None = None
    ledger_socket: Path | None = None
    replication: ReplicationSettings = ReplicationSettings()
    guests: GuestKind = GuestKind.PROCESS
    inventory: InventorySettings


def _refuse_twins(what: str, values: list[str]) -> None:
    seen: set[str] = set()
    for value in values:
        if value in seen:
            raise ValueError(f"{value} stands twice under {what}; ids must differ")
        seen.add(value)
