"""Subnets and static address pools: what fits, and which address an adapter gets; pure."""

import ipaddress
from collections.abc import Iterable, Iterator
from typing import Final

from vmm_simulator.problems import Code, RefusedError
from vmm_simulator.vmm.estate_records import (
    AddressPoolRecord,
    GrantRecord,
    NetworkRecord,
    SubnetRecord,
)

POOL_ADDRESSES_MAX: Final = 65_536
"""Largest pool: a look for a free address goes through it."""


def subnet_range(text: str) -> ipaddress.IPv4Network | None:
    """Return the range that an entry of a subnet begins with (`10.1.9.0/24-9 0`), or None.

    IPv6 is not offered (azdocs: support matrix to a secondary site).
    """
    try:
        return ipaddress.IPv4Network(text.partition("-")[0].strip())
    except ValueError:
        return None


def vlan_of(text: str) -> int | None:
    """Return the VLAN of an entry, None where it names none."""
    vlan = text.partition("-")[2].partition(" ")[0]
    return int(vlan) if vlan.isdecimal() and vlan.isascii() else None


def target_subnet(network: NetworkRecord, source_subnet: str | None) -> SubnetRecord | None:
    """Return the subnet of the same name, else the network's first (behaviour 2.5, subnet rule)."""
    same = (each for each in network.subnets if each.name == source_subnet)
    return next(same, next(iter(network.subnets), None))


def pool_of(
    pools: Iterable[AddressPoolRecord], network_id: str, subnet: str | None
) -> AddressPoolRecord | None:
    """Return the pool that serves a network, that of the subnet before one of the whole network."""
    of_network = [each for each in pools if each.network_id == network_id]
    for wanted in (subnet, None):
        for pool in sorted(of_network, key=lambda each: each.pool_id):
            if pool.subnet == wanted:
                return pool
    return None


def pool_problems(pool: AddressPoolRecord, network: NetworkRecord | None) -> Iterator[str]:
    """Give what is wrong with a pool, one sentence each."""
    name = f"IP pool {pool.name}"
    bounds = [_address(pool.first), _address(pool.last)]
    if None in bounds:
        yield f"{name}: {pool.first} to {pool.last} are no IPv4 addresses"
        return
    first, last = _bounds(pool)
    if not 0 <= last - first < POOL_ADDRESSES_MAX:
        yield (
            f"{name}: {pool.first} to {pool.last} is no range of 1 to {POOL_ADDRESSES_MAX}"
            " addresses; give the lower one first"
        )
        return
    if network is None:
        return
    subnets = {each.name: each for each in network.subnets}
    if pool.subnet is not None and pool.subnet not in subnets:
        yield f"{name}: network {network.name} has no subnet {pool.subnet}"
        return
    within = subnets.values() if pool.subnet is None else (subnets[pool.subnet],)
    ranges = [
        found for each in within for text in each.address_list if (found := subnet_range(text))
    ]
    if ranges and not any(_inside(pool, each) for each in ranges):
        shown = ", ".join(map(str, ranges))
        yield f"{name}: {pool.first} to {pool.last} lies in no subnet of {network.name} ({shown})"


def overlap(one: AddressPoolRecord, other: AddressPoolRecord) -> bool:
    """Return whether two pools of one network would grant the same address."""
    if one.network_id != other.network_id:
        return False
    (first, last), (other_first, other_last) = _bounds(one), _bounds(other)
    return first <= other_last and other_first <= last


def grant(
    pool: AddressPoolRecord, grants: Iterable[GrantRecord], nic_id: str, wanted: str | None = None
) -> GrantRecord:
    """Return the address that an adapter gets: its own, else the wanted one if free, else any.

    Behaviour 2.5, IP rule: the same address if it is free in the pool, otherwise any free one.
    What was granted before stays granted: asking again changes nothing. Refused when the pool is
    used up.
    """
    taken: dict[str, str] = {
        each.address: each.nic_id for each in grants if each.pool_id == pool.pool_id
    }
    own = next((address for address, nic in taken.items() if nic == nic_id), None)
    if own is not None and wanted in (None, own):
        return GrantRecord(pool_id=pool.pool_id, address=own, nic_id=nic_id)
    kept = set(taken) | set(pool.reserved)
    if wanted is not None and wanted not in kept and contains(pool, wanted):
        return GrantRecord(pool_id=pool.pool_id, address=wanted, nic_id=nic_id)
    if own is not None:
        return GrantRecord(pool_id=pool.pool_id, address=own, nic_id=nic_id)
    first, last = _bounds(pool)
    for number in range(first, last + 1):
        address = str(ipaddress.IPv4Address(number))
        if address not in kept:
            return GrantRecord(pool_id=pool.pool_id, address=address, nic_id=nic_id)
    raise RefusedError(
        Code.NO_FREE_ADDRESS,
        f"all addresses of IP pool {pool.name} are taken or reserved",
        "release one, or make the pool larger",
    )


def free_count(pool: AddressPoolRecord, grants: Iterable[GrantRecord]) -> int:
    """Return how many addresses of a pool can still be granted."""
    kept = {each.address for each in grants if each.pool_id == pool.pool_id} | set(pool.reserved)
    first, last = _bounds(pool)
    return last - first + 1 - sum(1 for each in kept if contains(pool, each))


def contains(pool: AddressPoolRecord, address: str) -> bool:
    """Return whether an address lies in a pool."""
    number = _address(address)
    first, last = _bounds(pool)
    return number is not None and first <= number <= last


def is_address(text: str) -> bool:
    """Return whether this is an IPv4 address."""
    return _address(text) is not None


def _inside(pool: AddressPoolRecord, subnet: ipaddress.IPv4Network) -> bool:
    first, last = _bounds(pool)
    return int(subnet.network_address) <= first and last <= int(subnet.broadcast_address)


def _bounds(pool: AddressPoolRecord) -> tuple[int, int]:
    return int(ipaddress.IPv4Address(pool.first)), int(ipaddress.IPv4Address(pool.last))


def _address(text: str) -> int | None:
    try:
        return int(ipaddress.IPv4Address(text))
    except ValueError:
        return None
