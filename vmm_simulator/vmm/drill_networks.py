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
    Isolation,
    LogicalNetworkRecord,
    NetworkRecord,
    SubnetRecord,
)
from vmm_simulator.vmm.inventory import Edit, Inventory
from vmm_simulator.vmm.networks import POOL_ADDRESSES_MAX, subnet_range
from vmm_simulator.vmm.records import CloudRecord

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
    clouds: Sequence[CloudRecord],
    logical_network_id: str,
    tested_for: TestedFor,
    wanted: Sequence[WantedNetwork],
) -> Edit:
    """Return the edit that makes them, and notes that the test machine shares those that are there.

    Each is to be of use in all of these clouds. Nothing where that is so already.
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
        shared_by(each, tested_for) if each.network_id in wanted_ids else each
        for each in fabric.networks
    )
    if not missing and kept == fabric.networks:
        return Edit()
    for cloud in clouds:
        _check_attached(logical, cloud)
    if logical.network_virtualization:
        made = list(_virtual(logical, tested_for, missing))
    elif missing:
        made = list(_on_vlans(inventory, logical, clouds, tested_for, missing))
    else:
        _check_reached(inventory, logical, clouds)
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
    one that would go. What a plan's run made is taken away under the run's own id, too, as far as
    no test machine is connected to it.
    """
    fabric = inventory.fabric
    left_to = {
        each.network_id: _users_after(inventory, each, test_machine_id)
        for each in fabric.networks
        if test_machine_id in _users(each)
    }
    if not left_to:
        return Edit()
    gone = {each.network_id: each for each in fabric.networks if left_to.get(each.network_id) == ()}
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
        "networks": tuple(
            each.model_copy(update={"test_users": left_to[each.network_id]})
            if each.network_id in left_to
            else each
            for each in left
        ),
        "address_pools": tuple(each for each in fabric.address_pools if each.pool_id not in pools),
    }
    return Edit(put=(fabric.model_copy(update=update),), removed=tuple(granted))


def _users(network: NetworkRecord) -> tuple[str, ...]:
    """Return the test machines that share a network; one of old journals knows its own alone."""
    own = () if network.test_of is None else (network.test_of,)
    return network.test_users or own


def shared_by(network: NetworkRecord, tested_for: TestedFor) -> NetworkRecord:
    """Return the network as one that is kept for the test machine too, where it is of its test."""
    users = _users(network)
    if network.test_of != tested_for.test_of or tested_for.test_machine_id in users:
        return network
    return network.model_copy(update={"test_users": (*users, tested_for.test_machine_id)})


def _users_after(
    inventory: Inventory, network: NetworkRecord, test_machine_id: str
) -> tuple[str, ...]:
    """Return who shares a network once this one does no more.

    What a plan's run holds itself was made before any of its machines; then only those count that
    are there: one whose test failed gave nothing back.
    """
    users = tuple(each for each in _users(network) if each != test_machine_id)
    if network.test_of not in _users(network):
        return users
    return tuple(each for each in users if each in inventory.machines)


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
    clouds: Sequence[CloudRecord],
    tested_for: TestedFor,
    wanted: Sequence[WantedNetwork],
) -> Iterator[tuple[NetworkRecord, tuple[AddressPoolRecord, ...]]]:
    _check_isolated(inventory, logical, clouds)
    groups = [set(cloud.host_groups) for cloud in clouds]
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
        if not site.host_groups or all(each & set(site.host_groups) for each in groups)
        for row in site.subnets
        if row.vlan and (text := f"{row.subnet}-{row.vlan} 0") not in taken
    ]
    if len(free) < len(wanted):
        raise RefusedError(
            Code.NETWORK_NOT_AVAILABLE,
            f"logical network {logical.name} has {len(free)} VLANs that nobody uses in reach of"
            f" cloud {' and '.join(each.name for each in clouds)}; {len(wanted)} are needed",
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
    inventory: Inventory, logical: LogicalNetworkRecord, clouds: Sequence[CloudRecord]
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
    _check_reached(inventory, logical, clouds)


def _check_reached(
    inventory: Inventory, logical: LogicalNetworkRecord, clouds: Sequence[CloudRecord]
) -> None:
    for host in (each for cloud in clouds for each in inventory.hosts_of(cloud)):
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
