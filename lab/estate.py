"""The estate schema: what a lab file may say, checked before anything starts (docs/lab.md)."""

import ipaddress
import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import ByteSize, Field, model_validator

from service_shell.configuration import Settings, load_configuration
from wire_contract.cluster_names import broker_name

SITES_MAX: Final = 32
MACHINES_MAX: Final = 10_000
"""So many only with `guests: task` and bare disks; as processes they would be too many."""

HOSTS_MAX: Final = 200
"""Each host has an address of its own in one /24, from .10 on."""

FIRST_HOST_ADDRESS: Final = 10
CLUSTERS_MAX: Final = 40
FIRST_BROKER_ADDRESS: Final = FIRST_HOST_ADDRESS + HOSTS_MAX
DISK_FILES_BYTES_MIN: Final = 1024 * 1024
DISK_FILES_BYTES_MAX: Final = 64 * 1024**3

STORE_BYTES_MAX: Final = 1024**5

_IDENTITIES: Final = uuid.UUID("6f1c3d5e-52a4-4b7e-9d0e-5ad1f6c1b7a4")

Name = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[^/\x00-\x1f]+$")]
SiteName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,30}$")]
Fqdn = Annotated[
    str, Field(max_length=200, pattern=r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9-]+)+$")
]
HostVersion = Literal["2012", "2012R2"]


class Subnet(Settings):
    """A subnet of a VM network; `vlan` only where the network is a VLAN network."""

    name: Name
    address: ipaddress.IPv4Network
    vlan: int = Field(default=0, ge=0, le=4094)


class Network(Settings):
    """A VM network on a logical network; machines connect to it."""

    name: Name
    logical_network: Name
    kind: Literal["NoIsolation", "VLANNetwork"] = "NoIsolation"
    subnets: tuple[Subnet, ...] = ()


class IpPool(Settings):
    """A static address pool inside one subnet."""

    name: Name
    network: Name
    subnet: Name
    first: ipaddress.IPv4Address
    last: ipaddress.IPv4Address
    reserved: tuple[ipaddress.IPv4Address, ...] = ()


class Classification(Settings):
    """A storage classification."""

    name: Name


class LibraryShare(Settings):
    """A share of the VMM library."""

    name: Name
    path: str = Field(min_length=1, max_length=260)


class Cluster(Settings):
    """A failover cluster of some of the hosts.

    VMM makes its replica broker when clouds are paired, but only with addresses by DHCP; `broker`
    is one that was made by hand.
    """

    name: Fqdn
    addressing: Literal["DHCP", "Static"] = "DHCP"
    broker: Fqdn | None = None


class Store(Settings):
    """Where hosts keep disks: a CSV of a cluster, an SMB share of some hosts, a folder of one."""

    name: Name
    kind: Literal["CSV", "SMB", "Local"] = "CSV"
    capacity: ByteSize = Field(ge=DISK_FILES_BYTES_MIN, le=STORE_BYTES_MAX)
    classification: Name | None = None
    cluster: Fqdn | None = None
    hosts: tuple[Fqdn, ...] = ()


class Host(Settings):
    """A Hyper-V host; it listens on an address of its own, port 8084."""

    fqdn: Fqdn
    version: HostVersion = "2012R2"
    host_group: Name
    cluster: Fqdn | None = None


class Cloud(Settings):
    """A VMM cloud: the hosts of its host groups, the networks of its logical networks."""

    name: Name
    capability_profile: Name = "Hyper-V"
    host_groups: tuple[Name, ...] = Field(min_length=1)
    logical_networks: tuple[Name, ...] = ()


class Disk(Settings):
    """A virtual disk: a sparse raw image, ext4 with up to `files` of real files in it.

    Without `files` a system disk gets some 100 MiB, a data disk some 16 MiB of files. A `bare` one
    has nothing but what its guest writes, some 100 KiB: for estates of thousands of machines.
    """

    name: Name
    kind: Literal["OperatingSystem", "Data"]
    bare: bool = False
    files: ByteSize | None = Field(default=None, ge=DISK_FILES_BYTES_MIN, le=DISK_FILES_BYTES_MAX)
    free: ByteSize | None = Field(default=None, ge=DISK_FILES_BYTES_MIN, le=DISK_FILES_BYTES_MAX)


class Machine(Settings):
    """A virtual machine; its guest writes records and rewrites files for as long as it runs.

    Its disks lie in `store`; without one, in its host's own folder.
    """

    name: Name
    cloud: Name
    host: Fqdn
    generation: Literal[1, 2] = 2
    network: Name | None = None
    store: Name | None = None
    disks: tuple[Disk, ...] = Field(min_length=1, max_length=8)
    records_per_second: float = Field(default=20.0, ge=0, le=1000)
    running: bool = True


class VmmServer(Settings):
    """The VMM server of a site; with `cluster_nodes` VMM is a cluster whose role is `fqdn`."""

    fqdn: Fqdn
    version: str = Field(default="3.2.7510.0", pattern=r"^[0-9]+(\.[0-9]+){1,3}$")
    update_rollup: int = Field(default=9, ge=0, le=1000)
    service_account: str = Field(default="vmm-service", max_length=256)
    cluster_nodes: tuple[Fqdn, ...] = Field(default=(), max_length=16)


class Site(Settings):
    """One site: a VMM server, all that it manages, and the provider agent beside it."""

    name: SiteName
    vmm: VmmServer
    host_groups: tuple[Name, ...] = Field(min_length=1)
    clusters: tuple[Cluster, ...] = ()
    hosts: tuple[Host, ...] = Field(min_length=1)
    logical_networks: tuple[Name, ...] = ()
    networks: tuple[Network, ...] = ()
    ip_pools: tuple[IpPool, ...] = ()
    classifications: tuple[Classification, ...] = ()
    stores: tuple[Store, ...] = ()
    library_shares: tuple[LibraryShare, ...] = ()
    clouds: tuple[Cloud, ...] = Field(min_length=1)
    machines: tuple[Machine, ...] = ()

    @model_validator(mode="after")
    def _references_hold(self) -> Self:
        where = f"site {self.name}"
        _unique(where, "host", (host.fqdn for host in self.hosts))
        _unique(where, "cloud", (cloud.name for cloud in self.clouds))
        _unique(where, "machine", (machine.name for machine in self.machines))
        _unique(where, "network", (network.name for network in self.networks))
        clusters = [cluster.name for cluster in self.clusters]
        for host in self.hosts:
            _known(f"host {host.fqdn}", "host group", host.host_group, self.host_groups)
            if host.cluster is not None:
                _known(f"host {host.fqdn}", "cluster", host.cluster, clusters)
        for network in self.networks:
            _known(
                f"network {network.name}",
                "logical network",
                network.logical_network,
                self.logical_networks,
            )
        for cloud in self.clouds:
            for group in cloud.host_groups:
                _known(f"cloud {cloud.name}", "host group", group, self.host_groups)
            for logical in cloud.logical_networks:
                _known(f"cloud {cloud.name}", "logical network", logical, self.logical_networks)
        self._pools_hold()
        self._stores_hold()
        self._machines_hold()
        return self

    def _stores_hold(self) -> None:
        _unique(f"site {self.name}", "store", (store.name for store in self.stores))
        classifications = [each.name for each in self.classifications]
        clusters = [cluster.name for cluster in self.clusters]
        for store in self.stores:
            where = f"store {store.name}"
            if store.classification is not None:
                _known(where, "classification", store.classification, classifications)
            for fqdn in store.hosts:
                _known(where, "host", fqdn, (host.fqdn for host in self.hosts))
            if (store.kind == "CSV") != (store.cluster is not None):
                raise ValueError(f"{where}: a CSV, and nothing else, belongs to a cluster")
            if store.cluster is not None:
                _known(where, "cluster", store.cluster, clusters)
            elif not store.hosts:
                raise ValueError(f"{where}: name the hosts that see it")

    def seen_by(self, store: Store) -> tuple[str, ...]:
        """Return the hosts that see a store: the nodes of its cluster, or those it names."""
        if store.cluster is None:
            return store.hosts
        return tuple(host.fqdn for host in self.hosts if host.cluster == store.cluster)

    def _pools_hold(self) -> None:
        networks = {network.name: network for network in self.networks}
        for pool in self.ip_pools:
            where = f"IP pool {pool.name}"
            _known(where, "network", pool.network, networks)
            subnets = {each.name: each for each in networks[pool.network].subnets}
            _known(where, "subnet", pool.subnet, subnets)
            address = subnets[pool.subnet].address
            if not (pool.first in address and pool.last in address and pool.first <= pool.last):
                raise ValueError(
                    f"{where}: {pool.first} to {pool.last} is no range inside {address}"
                )

    def _machines_hold(self) -> None:
        groups_of = {cloud.name: cloud.host_groups for cloud in self.clouds}
        group_of = {host.fqdn: host.host_group for host in self.hosts}
        for machine in self.machines:
            where = f"machine {machine.name}"
            _known(where, "cloud", machine.cloud, groups_of)
            _known(where, "host", machine.host, group_of)
            if group_of[machine.host] not in groups_of[machine.cloud]:
                raise ValueError(
                    f"{where}: host {machine.host} is not in cloud {machine.cloud};"
                    f" its host group is {group_of[machine.host]}"
                )
            if machine.network is not None:
                _known(where, "network", machine.network, [each.name for each in self.networks])
            _unique(where, "disk", (disk.name for disk in machine.disks))
            if machine.store is not None:
                stores = {store.name: store for store in self.stores}
                _known(where, "store", machine.store, stores)
                seen_by = self.seen_by(stores[machine.store])
                if machine.host not in seen_by:
                    raise ValueError(f"{where}: host {machine.host} does not see {machine.store}")

    def hosts_of(self, cloud: Cloud) -> tuple[Host, ...]:
        """Return the hosts that a cloud is made of, in the order of the file."""
        return tuple(host for host in self.hosts if host.host_group in cloud.host_groups)


class Pairing(Settings):
    """Which cloud protects which: `site/cloud`; the story runs on the first pairing."""

    primary: str = Field(pattern=r"^[^/]+/[^/]+$")
    recovery: str = Field(pattern=r"^[^/]+/[^/]+$")
    protect: tuple[Name, ...] = Field(min_length=1)


class Estate(Settings):
    """A whole estate: one hub, its sites, and what the story protects.

    `guests`: whether each guest is a process, or a task of its simulator (more than 50 machines).
    `lines`: whether sites reach the hub directly, or through a relay that can be cut.
    """

    name: SiteName
    region: str = Field(default="japaneast", pattern=r"^[a-z0-9]+$")
    replication_interval_seconds: int = Field(default=30, ge=1, le=900)
    guests: Literal["process", "task"] = "process"
    lines: Literal["direct", "relayed"] = "direct"
    sites: tuple[Site, ...] = Field(min_length=1, max_length=SITES_MAX)
    pairings: tuple[Pairing, ...] = ()

    @model_validator(mode="after")
    def _whole_holds(self) -> Self:
        _unique("the estate", "site", (site.name for site in self.sites))
        _unique("the estate", "VMM server", (site.vmm.fqdn for site in self.sites))
        hosts = [host.fqdn for site in self.sites for host in site.hosts]
        _unique("the estate", "host", hosts)
        _at_most("hosts", len(hosts), HOSTS_MAX)
        clusters = [cluster.name for site in self.sites for cluster in site.clusters]
        _unique("the estate", "cluster", clusters)
        _at_most("clusters", len(clusters), CLUSTERS_MAX)
        _at_most("machines", sum(len(site.machines) for site in self.sites), MACHINES_MAX)
        for pairing in self.pairings:
            site, cloud = self.cloud(pairing.primary)
            if self.cloud(pairing.recovery)[0] is site:
                raise ValueError(f"pairing of {pairing.primary}: the partner is on the same site")
            known = [each.name for each in site.machines if each.cloud == cloud.name]
            for name in pairing.protect:
                _known(f"pairing of {pairing.primary}", "machine", name, known)
        return self

    def cloud(self, reference: str) -> tuple[Site, Cloud]:
        """Return what `site/cloud` names; ValueError says what there is instead."""
        site_name, _, cloud_name = reference.partition("/")
        sites = {site.name: site for site in self.sites}
        _known(f"pairing with {reference}", "site", site_name, sites)
        clouds = {cloud.name: cloud for cloud in sites[site_name].clouds}
        _known(f"pairing with {reference}", "cloud", cloud_name, clouds)
        return sites[site_name], clouds[cloud_name]

    def identity(self, *parts: str) -> str:
        """Return the GUID of a named thing of this estate; the same name gives the same GUID."""
        return str(uuid.uuid5(_IDENTITIES, "/".join((self.name, *parts))))

    def store_folder(self, site: str, store: str) -> str:
        """Return the folder of a store, relative to its site's: names may have any character."""
        return f"stores/{self.identity(site, 'store', store)}"

    def host_addresses(self, prefix: str) -> dict[str, str]:
        """Return each host's own loopback address below `prefix` (`127.a.b`)."""
        fqdns = (host.fqdn for site in self.sites for host in site.hosts)
        return {fqdn: f"{prefix}.{number}" for number, fqdn in enumerate(fqdns, FIRST_HOST_ADDRESS)}

    def broker_addresses(self, prefix: str) -> dict[str, str]:
        """Return the address of each cluster's replica broker, also of one that is yet to be made.

        A broker that somebody makes under a name of its own has none.
        """
        clusters = (cluster for site in self.sites for cluster in site.clusters)
        names = (each.broker or broker_name(each.name) for each in clusters)
        return {
            name: f"{prefix}.{number}" for number, name in enumerate(names, FIRST_BROKER_ADDRESS)
        }


def load_estate(path: Path) -> Estate:
    """Return the checked estate, or raise a ProgramError with file, line, key and cause."""
    return load_configuration(path, Estate)


def _unique(where: str, noun: str, names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name.lower() in seen:
            raise ValueError(f"{where}: {noun} {name} stands twice; give each its own name")
        seen.add(name.lower())


def _known(where: str, noun: str, name: str, known: Iterable[str]) -> None:
    names: Sequence[str] = sorted(known)
    if name not in names:
        offered = ", ".join(names) or "none"
        raise ValueError(f"{where}: there is no {noun} {name}; there is {offered}")


def _at_most(noun: str, count: int, limit: int) -> None:
    if count > limit:
        raise ValueError(f"the estate has {count} {noun}; {limit} are the most one lab can hold")
