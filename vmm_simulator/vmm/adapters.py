"""How adapters of a copy that is off are connected, and which addresses they get; pure.

Source: behaviour 2.5. The same rules hold for replicas and for the machines of a test failover.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from vmm_simulator.problems import Code, RefusedError, unknown
from vmm_simulator.vmm.estate_records import AddressType, GrantRecord, Isolation, NetworkRecord
from vmm_simulator.vmm.inventory import Edit, Inventory
from vmm_simulator.vmm.networks import grant, pool_of, vlan_of
from vmm_simulator.vmm.placement import reaches
from vmm_simulator.vmm.records import HostRecord, MachineRecord, NicRecord


@dataclass(frozen=True, slots=True)
class Wish:
    """What an adapter is to be; `network_id` null: not connected. `address`: the wanted one."""

    nic_id: str
    network_id: str | None
    subnet: str | None = None
    address_type: AddressType = AddressType.DYNAMIC
    address: str | None = None
    synthetic: bool = True


def with_adapters(inventory: Inventory, machine: MachineRecord, wishes: Sequence[Wish]) -> Edit:
    """Return the edit that connects a machine's adapters; those that are not named stay.

    An adapter that is not there is made: what was added to the primary comes with its replica.
    An address that is no longer needed is released. Asking again changes nothing.
    """
    host = inventory.hosts[machine.host]
    named = {each.nic_id for each in wishes}
    grants = list(inventory.grants.values())
    fresh: list[GrantRecord] = []
    present = {each.nic_id: each for each in machine.nics}
    for wish in wishes:
        former = present.get(wish.nic_id, NicRecord(nic_id=wish.nic_id, synthetic=wish.synthetic))
        nic, given = _connected(inventory, host, former, wish, grants)
        present[wish.nic_id] = nic
        if given is not None:
            fresh.append(given)
            grants.append(given)
    kept = {each.grant_id for each in fresh}
    released = tuple(
        each
        for each in inventory.grants.values()
        if each.nic_id in named and each.grant_id not in kept
    )
    changed = machine.model_copy(update={"nics": tuple(present.values())})
    return Edit(put=(*fresh, changed), removed=released)


def _connected(
    inventory: Inventory,
    host: HostRecord,
    former: NicRecord,
    wish: Wish,
    grants: Iterable[GrantRecord],
) -> tuple[NicRecord, GrantRecord | None]:
    if wish.network_id is None:
        apart = {"network_id": None, "subnet": None, "address": None, "vlan": None}
        return former.model_copy(update=apart), None
    networks = inventory.fabric.networks
    network = next((each for each in networks if each.network_id == wish.network_id), None)
    if network is None:
        raise unknown("VM network", wish.network_id)
    if wish.subnet is not None and wish.subnet not in {each.name for each in network.subnets}:
        raise unknown("subnet", wish.subnet)
    if not reaches(inventory.fabric, host, network.network_id):
        raise RefusedError(
            Code.INVALID_STATE,
            f"host {host.fqdn} does not reach VM network {network.name}",
            "attach its logical network to the host, or move the machine",
        )
    given = _granted(inventory, network, wish, grants)
    update = {
        "network_id": network.network_id,
        "subnet": wish.subnet,
        "address_type": wish.address_type,
        # Nobody can write an address into a guest through an emulated adapter; it stays reserved.
        "address": given.address if given is not None and former.synthetic else None,
        "vlan": _vlan(inventory, network, wish.subnet, host),
    }
    return former.model_copy(update=update), given


def _granted(
    inventory: Inventory, network: NetworkRecord, wish: Wish, grants: Iterable[GrantRecord]
) -> GrantRecord | None:
    """Return the reserved address, None where the network's own DHCP gives it.

    On a virtualised network VMM itself answers DHCP, out of the pool.
    """
    virtual = network.network_type == Isolation.NETWORK_VIRTUALIZATION
    if wish.address_type is not AddressType.STATIC and not virtual:
        return None
    pool = pool_of(inventory.fabric.address_pools, network.network_id, wish.subnet)
    if pool is None:
        why = "it is virtualised" if virtual else f"adapter {wish.nic_id} has a static address"
        raise RefusedError(
            Code.NO_FREE_ADDRESS,
            f"VM network {network.name} has no IP pool, and {why}",
            "make an IP pool for the network, or map to one that has a pool",
        )
    return grant(pool, grants, wish.nic_id, wish.address)


def _vlan(
    inventory: Inventory, network: NetworkRecord, subnet: str | None, host: HostRecord
) -> int | None:
    """Return the VLAN of the subnet, else that of the network site in the host's reach."""
    if network.network_type == Isolation.NETWORK_VIRTUALIZATION:
        return None
    for each in network.subnets:
        if each.name == subnet:
            named = (vlan_of(text) for text in each.address_list)
            found = next((vlan for vlan in named if vlan is not None), None)
            if found is not None:
                return found or None
    for logical in inventory.fabric.logical_networks:
        if logical.logical_network_id != network.logical_network:
            continue
        for site in logical.sites:
            if host.host_group in site.host_groups and site.subnets:
                return site.subnets[0].vlan or None
    return None
