"""What has to hold in every inventory (behaviour section 6): broken rules as sentences; pure.

A first inventory is refused when one is broken; a change when it breaks one that held before, so
that an old journal's faults do not stand in the way of mending them.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import combinations
from typing import Final

from vmm_simulator.problems import Code, RefusedError
from vmm_simulator.vmm.estate_records import AddressType, Isolation, StoreKind
from vmm_simulator.vmm.inventory import Inventory
from vmm_simulator.vmm.networks import (
    contains,
    is_address,
    overlap,
    pool_problems,
    subnet_range,
)

HOSTS_MAX: Final = 256
MACHINES_MAX: Final = 10_000
"""As many as the inventory that a provider reads at a time has room for."""

CLOUDS_MAX: Final = 256
PARTS_MAX: Final = 1000
"""Most of each other kind: networks, pools, stores and so on."""

DISKS_MAX: Final = 16
"""Of a machine: what can be protected (azdocs: support matrix to a secondary site)."""

NICS_MAX: Final = 12
"""Of a machine: eight synthetic and four emulated adapters (Hyper-V's own limit)."""

CAPABILITY_PROFILES: Final = ("Hyper-V", "ESX Server", "XenServer")
"""VMM's built-in ones (scvmm: Get-SCCapabilityProfile); only the first can be protected."""

NODES_MAX: Final = 64


def check(before: Inventory, after: Inventory) -> None:
    """Refuse (91011) a change that breaks a rule."""
    held = set(broken_rules(before))
    fresh = [each for each in broken_rules(after) if each not in held]
    if fresh:
        raise RefusedError(
            Code.RULE_BROKEN,
            "; ".join(fresh[:5]),
            "correct what is named; what others refer to is changed or removed first",
        )


def broken_rules(inventory: Inventory) -> Iterator[str]:
    """Give every broken rule, one sentence each."""
    for rule in RULES:
        yield from rule(inventory)


def _limits(inventory: Inventory) -> Iterator[str]:
    fabric = inventory.fabric
    rows = (
        ("hosts", len(inventory.hosts), HOSTS_MAX),
        ("machines", len(inventory.machines), MACHINES_MAX),
        ("clouds", len(inventory.clouds), CLOUDS_MAX),
        ("host groups", len(fabric.host_groups), PARTS_MAX),
        ("clusters", len(fabric.clusters), PARTS_MAX),
        ("logical networks", len(fabric.logical_networks), PARTS_MAX),
        ("VM networks", len(fabric.networks), PARTS_MAX),
        ("IP pools", len(fabric.address_pools), PARTS_MAX),
        ("storage classifications", len(fabric.classifications), PARTS_MAX),
        ("stores", len(fabric.stores), PARTS_MAX),
        ("library shares", len(fabric.library_shares), PARTS_MAX),
        ("file shares", len(fabric.file_shares), PARTS_MAX),
    )
    for noun, count, most in rows:
        if count > most:
            yield f"there are {count} {noun}; {most} are the most"


def _host_groups(inventory: Inventory) -> Iterator[str]:
    groups = {each.group_id for each in inventory.fabric.host_groups}
    places = (f"{each.path}\\{each.name}" for each in inventory.fabric.host_groups)
    yield from _twins("host group", places)
    for host in inventory.hosts.values():
        yield from _known(f"host {host.fqdn}", "host group", [host.host_group], groups)
    for cloud in inventory.clouds.values():
        if not cloud.host_groups:
            yield f"cloud {cloud.name}: a cloud is made of at least one host group"
        yield from _known(f"cloud {cloud.name}", "host group", cloud.host_groups, groups)
    for network in inventory.fabric.logical_networks:
        for site in network.sites:
            where = f"network site {site.name} of logical network {network.name}"
            yield from _known(where, "host group", site.host_groups, groups)


def _clusters(inventory: Inventory) -> Iterator[str]:
    fabric = inventory.fabric
    names = [each.name for each in fabric.clusters]
    access_points = [each.broker.name for each in fabric.clusters if each.broker is not None]
    yield from _twins("cluster, broker or host", [*names, *access_points, *inventory.hosts])
    for host in inventory.hosts.values():
        if host.cluster is not None:
            yield from _known(f"host {host.fqdn}", "cluster", [host.cluster], names)
    for name in names:
        nodes = inventory.nodes_of(name)
        if len(nodes) > NODES_MAX:
            yield f"cluster {name} has {len(nodes)} nodes; {NODES_MAX} are the most"
        if len({each.version for each in nodes}) > 1:
            yield f"cluster {name}: its nodes run different versions of Windows Server"


def _clouds(inventory: Inventory) -> Iterator[str]:
    yield from _twins("cloud", (each.name for each in inventory.clouds.values()))
    for cloud in inventory.clouds.values():
        profile = cloud.capability_profile
        if profile not in CAPABILITY_PROFILES:
            offered = ", ".join(CAPABILITY_PROFILES)
            yield f"cloud {cloud.name}: no capability profile {profile}; there is {offered}"
        if cloud.partner_cloud_id is not None and cloud.partner_cloud_id == cloud.cloud_id:
            yield f"cloud {cloud.name} is paired with itself"


def _logical_networks(inventory: Inventory) -> Iterator[str]:
    fabric = inventory.fabric
    yield from _twins("logical network", (each.name for each in fabric.logical_networks))
    for network in fabric.logical_networks:
        where = f"logical network {network.name}"
        yield from _known(where, "cloud", network.cloud_ids, inventory.clouds)
        yield from _twins(f"network site of {where}", (each.name for each in network.sites))
        for site in network.sites:
            for row in site.subnets:
                if subnet_range(row.subnet) is None:
                    yield f"network site {site.name}: {row.subnet} is no IPv4 subnet"
    logical = {each.logical_network_id for each in fabric.logical_networks}
    for host in inventory.hosts.values():
        yield from _known(
            f"host {host.fqdn}", "logical network", host.logical_networks or (), logical
        )


def _networks(inventory: Inventory) -> Iterator[str]:
    fabric = inventory.fabric
    logical = {each.logical_network_id: each for each in fabric.logical_networks}
    yield from _twins("VM network", (each.name for each in fabric.networks))
    plain = Counter(
        each.logical_network
        for each in fabric.networks
        if each.network_type == Isolation.NO_ISOLATION
    )
    for network_id, count in sorted(plain.items()):
        if count > 1 and network_id in logical:
            yield (
                f"logical network {logical[network_id].name} has {count} VM networks without"
                " isolation; it can have one"
            )
    for network in fabric.networks:
        where = f"VM network {network.name}"
        yield from _known(where, "logical network", [network.logical_network], logical)
        if network.network_type not in set(Isolation):
            yield f"{where}: there is no isolation {network.network_type}"
        below = logical.get(network.logical_network)
        virtual = network.network_type == Isolation.NETWORK_VIRTUALIZATION
        if virtual and below is not None and not below.network_virtualization:
            yield f"{where}: logical network {below.name} does not allow network virtualization"
        yield from _twins(f"subnet of {where}", (each.name for each in network.subnets))
        for subnet in network.subnets:
            for text in subnet.address_list:
                if subnet_range(text) is None:
                    yield f"{where}, subnet {subnet.name}: {text} is no IPv4 subnet"


def _pools(inventory: Inventory) -> Iterator[str]:
    fabric = inventory.fabric
    networks = {each.network_id: each for each in fabric.networks}
    sound = []
    for pool in fabric.address_pools:
        yield from _known(f"IP pool {pool.name}", "VM network", [pool.network_id], networks)
        problems = tuple(pool_problems(pool, networks.get(pool.network_id)))
        yield from problems
        if not problems:
            sound.append(pool)
        for address in (*pool.reserved, *pool.gateways, *pool.dns_servers):
            if not is_address(address):
                yield f"IP pool {pool.name}: {address} is no IPv4 address"
    for one, other in combinations(sound, 2):
        if overlap(one, other):
            yield f"IP pools {one.name} and {other.name} have addresses in common"
    pools = {each.pool_id: each for each in sound}
    adapters = {nic.nic_id for each in inventory.machines.values() for nic in each.nics}
    for grant in inventory.grants.values():
        where = f"the grant of {grant.address}"
        yield from _known(where, "IP pool", [grant.pool_id], pools)
        yield from _known(where, "adapter", [grant.nic_id], adapters)
        if grant.pool_id in pools and not contains(pools[grant.pool_id], grant.address):
            yield f"{where}: it lies outside IP pool {pools[grant.pool_id].name}"


def _storage(inventory: Inventory) -> Iterator[str]:
    fabric = inventory.fabric
    yield from _twins("storage classification", (each.name for each in fabric.classifications))
    yield from _twins("store", (each.name for each in fabric.stores))
    yield from _twins("store folder", (each.folder for each in fabric.stores))
    classifications = {each.classification_id for each in fabric.classifications}
    clusters = {each.name for each in fabric.clusters}
    for store in fabric.stores:
        where = f"store {store.name}"
        if not store.folder.startswith("/"):
            yield f"{where}: {store.folder} is no absolute folder"
        if store.classification_id is not None:
            yield from _known(
                where, "storage classification", [store.classification_id], classifications
            )
        if store.kind is StoreKind.CSV:
            if store.cluster is None:
                yield f"{where}: a CSV belongs to a cluster"
            else:
                yield from _known(where, "cluster", [store.cluster], clusters)
        yield from _known(where, "host", store.hosts, inventory.hosts)
        if store.kind is StoreKind.LOCAL and len(store.hosts) != 1:
            yield f"{where}: a local folder is seen by one host"


def _shares(inventory: Inventory) -> Iterator[str]:
    fabric = inventory.fabric
    yield from _twins("library share", (each.unc for each in fabric.library_shares))
    yield from _twins("file share", (each.unc for each in fabric.file_shares))
    for share in fabric.file_shares:
        if not share.unc.startswith("\\\\") or share.unc.count("\\") < 3:  # noqa: PLR2004 -- UNC
            yield f"file share {share.unc}: it is named \\\\server\\share"
        if not share.folder.startswith("/"):
            yield f"file share {share.unc}: {share.folder} is no absolute folder"


def _machines(inventory: Inventory) -> Iterator[str]:
    networks = {each.network_id: each for each in inventory.fabric.networks}
    paths = (disk.path for each in inventory.machines.values() for disk in each.disks)
    yield from _twins("disk file", paths)
    adapters = [nic.nic_id for each in inventory.machines.values() for nic in each.nics
                if each.test_machine_of is None]  # fmt: skip
    yield from _twins("adapter", adapters)
    for machine in inventory.machines.values():
        where = f"machine {machine.name}"
        yield from _known(where, "cloud", [machine.cloud_id], inventory.clouds)
        yield from _known(where, "host", [machine.host], inventory.hosts)
        cloud, host = inventory.clouds.get(machine.cloud_id), inventory.hosts.get(machine.host)
        if cloud is not None and host is not None and host.host_group not in cloud.host_groups:
            yield f"{where}: its host {host.fqdn} is in no host group of cloud {cloud.name}"
        if not 1 <= len(machine.disks) <= DISKS_MAX:
            yield f"{where} has {len(machine.disks)} disks; it can have 1 to {DISKS_MAX}"
        if len(machine.nics) > NICS_MAX:
            yield f"{where} has {len(machine.nics)} adapters; {NICS_MAX} are the most"
        yield from _twins(f"disk of {where}", (each.disk_id for each in machine.disks))
        for nic in machine.nics:
            on = f"adapter {nic.nic_id} of {where}"
            if nic.address_type not in set(AddressType):
                yield f"{on}: an address is Static or Dynamic, not {nic.address_type}"
            if nic.network_id is None:
                continue
            yield from _known(on, "VM network", [nic.network_id], networks)
            network = networks.get(nic.network_id)
            if nic.subnet is not None and network is not None:
                yield from _known(on, "subnet", [nic.subnet], [s.name for s in network.subnets])


def _twins(noun: str, names: Iterable[str]) -> Iterator[str]:
    counted = Counter(name.lower() for name in names)
    for name, count in sorted(counted.items()):
        if count > 1:
            yield f"{noun} {name} is there {count} times; each has to be the only one"


def _known(where: str, noun: str, used: Iterable[str], known: Iterable[str]) -> Iterator[str]:
    names = frozenset(known)
    for name in used:
        if name not in names:
            yield f"{where}: there is no {noun} {name}"


RULES: Final[tuple[Callable[[Inventory], Iterator[str]], ...]] = (
    _limits,
    _host_groups,
    _clusters,
    _clouds,
    _logical_networks,
    _networks,
    _pools,
    _storage,
    _shares,
    _machines,
)
