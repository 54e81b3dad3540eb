"""Networks that a test failover has made for itself, and taken away again; pure.

Behaviour 2.8, "create automatically": on a logical network that allows network virtualization, one
VM network for each network of the source, with its subnets and pools of their addresses; on one
with VLANs, only where nobody works on it, every host of the cloud reaches it and its sites do not
reach each other. Without isolation none can be made. 25080: the kinds of network do not fit.
"""

import ipaddress
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from vmm_simulator.problems import Code, RefusedError, unknown
from vmm_simulator.vmm.estate_records import (
    AddressPoolRecord,
    AddressType,
    GrantRecord,
    Isolation,
    LogicalNetworkRecord,
    NetworkRecord,
    SubnetRecord,
)
from vmm_simulator.vmm.inventory import Edit, Inventory
from vmm_simulator.vmm.networks import POOL_ADDRESSES_MAX, grant, pool_of, subnet_range
from vmm_simulator.vmm.records import CloudRecord, MachineRecord, NicRecord

POOLED_SUBNET_ADDRESSES_MIN: Final = 4
"""Smallest subnet that has room for a gateway and a machine."""


@dataclass(frozen=True, slots=True)
class WantedNetwork:
    """A network to be made: `like` is the isolation of the one that it stands for."""

    network_id: str
    name: str
    like: str
    dynamic_addresses: bool
    subnets: tuple[SubnetRecord, ...]


@dataclass(frozen=True, slots=True)
class TestedFor:
    """For which test machine networks are made; those of one environment share them."""

    test_machine_id: str
    environment: str | None = None

    @property
    def test_of(self) -> str:
        """What the networks are known by."""
        return self.environment or self.test_machine_id


def making(
    inventory: Inventory,
    cloud: CloudRecord,
    logical_network_id: str,
    tested_for: TestedFor,
    wanted: Sequence[WantedNetwork],
) -> Edit:
    """Return the edit that makes them, and notes that the test machine shares those that are there.

    Nothing where that is so already.
    """
    fabric = inventory.fabric
    logical = next(
        (e for e in fabric.logical_networks if e.logical_network_id == logical_network_id), None
    )
    if logical is None:
        raise unknown("logical network", logical_network_id)
    present = {each.network_id for each in fabric.networks}
    missing = [each for each in wanted if each.network_id not in present]
    wanted_ids = {each.network_id for each in wanted}
    kept = tuple(
        _shared(each, tested_for) if each.network_id in wanted_ids else each
        for each in fabric.networks
    )
    if not missing and kept == fabric.networks:
        return Edit()
    _check_attached(logical, cloud)
    if logical.network_virtualization:
        made = list(_virtual(logical, tested_for, missing))
    elif missing:
        made = list(_on_vlans(inventory, logical, cloud, tested_for, missing))
    else:
        _check_reached(inventory, logical, cloud)
        made = []
    networks = tuple(network for network, _ in made)
    pools = tuple(pool for _, pools in made for pool in pools)
    update = {
        "networks": kept + networks,
        "address_pools": fabric.address_pools + pools,
    }
    return Edit(put=(fabric.model_copy(update=update),))


def removing(inventory: Inventory, test_machine_id: str) -> Edit:
    """Return the edit that takes a test machine's networks away, with pools and granted addresses.

    One that other test machines share stays for them. Refused while an adapter is connected to
    one that would go.
    """
    fabric = inventory.fabric
    used = [each for each in fabric.networks if test_machine_id in _users(each)]
    if not used:
        return Edit()
    gone = {each.network_id: each for each in used if set(_users(each)) == {test_machine_id}}
    for machine in inventory.machines.values():
        for nic in machine.nics:
            if nic.network_id in gone:
                raise RefusedError(
                    Code.IN_USE,
                    f"machine {machine.name} is connected to {gone[nic.network_id].name}",
                    "remove the test machine first",
                )
    pools = {each.pool_id for each in fabric.address_pools if each.network_id in gone}
    granted = (each for each in inventory.grants.values() if each.pool_id in pools)
    left = (each for each in fabric.networks if each.network_id not in gone)
    update = {
        "networks": tuple(_left_by(each, test_machine_id) for each in left),
        "address_pools": tuple(each for each in fabric.address_pools if each.pool_id not in pools),
    }
    return Edit(put=(fabric.model_copy(update=update),), removed=tuple(granted))


def connecting(
    inventory: Inventory, machine: MachineRecord, networks: Sequence[str | None]
) -> Edit:
    """Return the edit that connects a test machine's adapters, in order, to these networks.

    A static adapter gets the address that the replica would get at a failover, where that is free
    there, else another one of the network's pool (behaviour 2.8). Asking again changes nothing.
    """
    replica = inventory.machines.get(machine.test_machine_of or "")
    models = machine.nics if replica is None else replica.nics
    nics: list[NicRecord] = []
    fresh: list[GrantRecord] = []
    for place, (nic, network_id) in enumerate(zip(machine.nics, networks, strict=True)):
        model = models[place] if place < len(models) else nic
        network = next((e for e in inventory.fabric.networks if e.network_id == network_id), None)
        apart = {"network_id": network_id, "subnet": None, "address": None}
        if network is None:
            nics.append(nic.model_copy(update=apart))
            continue
        names = [each.name for each in network.subnets]
        subnet = model.subnet if model.subnet in names else next(iter(names), None)
        given = _test_address(inventory, network, subnet, nic, model)
        fresh += [given] if given is not None else []
        address = model.address if _has_own(inventory, network, machine, model) else None
        update = {
            "network_id": network_id,
            "subnet": subnet,
            "address_type": model.address_type,
            "address": given.address if given is not None else address,
        }
        nics.append(nic.model_copy(update=update))
    kept = {each.grant_id for each in fresh}
    own = {nic.nic_id for nic in machine.nics}
    released = tuple(
        each
        for each in inventory.grants.values()
        if each.nic_id in own and each.grant_id not in kept
    )
    return Edit(put=(*fresh, machine.model_copy(update={"nics": tuple(nics)})), removed=released)


def _test_address(
    inventory: Inventory,
    network: NetworkRecord,
    subnet: str | None,
    nic: NicRecord,
    model: NicRecord,
) -> GrantRecord | None:
    """Return the address of the network's pool; None where the test needs none of its own.

    In the replica's own network it has the replica's: that was kept for no other machine.
    """
    pool = pool_of(inventory.fabric.address_pools, network.network_id, subnet)
    is_static = model.address_type is AddressType.STATIC
    is_virtual = network.network_type == Isolation.NETWORK_VIRTUALIZATION
    if pool is None or not (is_static or is_virtual):
        return None
    if model.address is not None and model.network_id == network.network_id:
        return None
    return grant(pool, inventory.grants.values(), nic.nic_id, model.address)


def _has_own(
    inventory: Inventory, network: NetworkRecord, machine: MachineRecord, model: NicRecord
) -> bool:
    """Return whether the replica's address is free for its test machine in the network."""
    others = (
        nic
        for each in inventory.machines.values()
        if each.machine_id not in {machine.machine_id, machine.test_machine_of}
        for nic in each.nics
        if nic.network_id == network.network_id
    )
    return model.address is not None and all(nic.address != model.address for nic in others)


def _users(network: NetworkRecord) -> tuple[str, ...]:
    """Return the test machines that share a network; one of old journals knows its own alone."""
    own = () if network.test_of is None else (network.test_of,)
    return network.test_users or own


def _shared(network: NetworkRecord, tested_for: TestedFor) -> NetworkRecord:
    users = _users(network)
    if network.test_of != tested_for.test_of or tested_for.test_machine_id in users:
        return network
    return network.model_copy(update={"test_users": (*users, tested_for.test_machine_id)})


def _left_by(network: NetworkRecord, test_machine_id: str) -> NetworkRecord:
    if test_machine_id not in network.test_users:
        return network
    users = tuple(each for each in network.test_users if each != test_machine_id)
    return network.model_copy(update={"test_users": users})


def _check_attached(logical: LogicalNetworkRecord, cloud: CloudRecord) -> None:
    if cloud.cloud_id not in logical.cloud_ids:
        raise RefusedError(
            Code.NETWORK_NOT_AVAILABLE,
            f"logical network {logical.name} is not attached to cloud {cloud.name}",
            "attach it to the cloud, or choose one that is attached",
        )


def _virtual(
    logical: LogicalNetworkRecord, tested_for: TestedFor, wanted: Sequence[WantedNetwork]
) -> Iterator[tuple[NetworkRecord, tuple[AddressPoolRecord, ...]]]:
    for each in wanted:
        if each.like == Isolation.NO_ISOLATION:
            raise _wrong_type(
                f"network {each.name} stands for one without isolation, and logical network"
                f" {logical.name} makes virtual ones"
            )
        if each.like == Isolation.VLAN and each.dynamic_addresses:
            raise _wrong_type(
                f"network {each.name} stands for a VLAN with DHCP, which has no address pool, and"
                f" logical network {logical.name} makes virtual ones, which need one"
            )
        pools = tuple(_pools(each))
        if not pools:
            raise _wrong_type(
                f"network {each.name} has no subnet to make an address pool of: a virtual network"
                " always needs one"
            )
        yield _network(logical, tested_for, each, Isolation.NETWORK_VIRTUALIZATION), pools


def _on_vlans(
    inventory: Inventory,
    logical: LogicalNetworkRecord,
    cloud: CloudRecord,
    tested_for: TestedFor,
    wanted: Sequence[WantedNetwork],
) -> Iterator[tuple[NetworkRecord, tuple[AddressPoolRecord, ...]]]:
    _check_isolated(inventory, logical, cloud)
    groups = set(cloud.host_groups)
    taken = {
        text
        for network in inventory.fabric.networks
        if network.logical_network == logical.logical_network_id
        for subnet in network.subnets
        for text in subnet.address_list
    }
    free = [
        text
        for site in logical.sites
        if not site.host_groups or groups & set(site.host_groups)
        for row in site.subnets
        if row.vlan and (text := f"{row.subnet}-{row.vlan} 0") not in taken
    ]
    if len(free) < len(wanted):
        raise RefusedError(
            Code.NETWORK_NOT_AVAILABLE,
            f"logical network {logical.name} has {len(free)} VLANs that nobody uses in reach of"
            f" cloud {cloud.name}; {len(wanted)} are needed",
            "add subnets with VLANs to its network sites, or clean up other tests first",
        )
    for each, text in zip(wanted, free, strict=False):
        subnet = SubnetRecord(name=f"{each.name}_0", address_list=(text,))
        own = WantedNetwork(
            each.network_id, each.name, each.like, each.dynamic_addresses, (subnet,)
        )
        pools = () if each.dynamic_addresses else tuple(_pools(own))
        yield _network(logical, tested_for, own, Isolation.VLAN), pools


def _check_isolated(
    inventory: Inventory, logical: LogicalNetworkRecord, cloud: CloudRecord
) -> None:
    if not any(row.vlan for site in logical.sites for row in site.subnets):
        raise _wrong_type(
            f"logical network {logical.name} has neither network virtualization nor VLANs: no"
            " isolated network can be made on it"
        )
    if not logical.isolated_sites:
        raise _wrong_type(f"the sites of logical network {logical.name} are not isolated")
    used = {
        each.network_id: each.name
        for each in inventory.fabric.networks
        if each.logical_network == logical.logical_network_id and each.test_of is None
    }
    for machine in inventory.machines.values():
        for nic in machine.nics:
            if nic.network_id in used:
                raise _wrong_type(
                    f"logical network {logical.name} is used in production: machine"
                    f" {machine.name} is connected to {used[nic.network_id]}"
                )
    _check_reached(inventory, logical, cloud)


def _check_reached(inventory: Inventory, logical: LogicalNetworkRecord, cloud: CloudRecord) -> None:
    for host in inventory.hosts_of(cloud):
        reached = host.logical_networks
        if reached is not None and logical.logical_network_id not in reached:
            raise RefusedError(
                Code.NETWORK_NOT_AVAILABLE,
                f"logical network {logical.name} is not attached to host {host.fqdn}",
                "attach it to an adapter of every host of the cloud",
            )


def _network(
    logical: LogicalNetworkRecord,
    tested_for: TestedFor,
    wanted: WantedNetwork,
    isolation: Isolation,
) -> NetworkRecord:
    return NetworkRecord(
        network_id=wanted.network_id,
        name=wanted.name,
        network_type=isolation.value,
        logical_network=logical.logical_network_id,
        subnets=wanted.subnets,
        test_of=tested_for.test_of,
        test_users=(tested_for.test_machine_id,),
    )


def _pools(wanted: WantedNetwork) -> Iterator[AddressPoolRecord]:
    """Give a pool of each subnet: all addresses behind the gateway, which is the first."""
    for subnet in wanted.subnets:
        for index, text in enumerate(subnet.address_list):
            found = subnet_range(text)
            if found is None or found.num_addresses < POOLED_SUBNET_ADDRESSES_MIN:
                continue
            base = int(found.network_address)
            last = min(int(found.broadcast_address) - 1, base + POOL_ADDRESSES_MAX)
            gateway = str(ipaddress.IPv4Address(base + 1))
            yield AddressPoolRecord(
                pool_id=f"{wanted.network_id}/{subnet.name}/{index}",
                name=f"{wanted.name}, {subnet.name}",
                network_id=wanted.network_id,
                subnet=subnet.name,
                first=str(ipaddress.IPv4Address(base + 2)),
                last=str(ipaddress.IPv4Address(last)),
                gateways=(gateway,),
            )


def _wrong_type(message: str) -> RefusedError:
    return RefusedError(
        Code.TEST_NETWORK_TYPE,
        message,
        "choose a logical network of the fitting type, an existing VM network, or none",
    )
