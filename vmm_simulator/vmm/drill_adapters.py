"""Adapters of a test machine: to which networks they go, and which addresses they get; pure."""

from collections.abc import Sequence

from vmm_simulator.vmm.drill_networks import TestedFor, shared_by
from vmm_simulator.vmm.estate_records import (
    AddressType,
    GrantRecord,
    Isolation,
    NetworkRecord,
)
from vmm_simulator.vmm.inventory import Edit, Inventory
from vmm_simulator.vmm.networks import grant, pool_of
from vmm_simulator.vmm.records import FabricRecord, MachineRecord, NicRecord


def connecting(
    inventory: Inventory,
    machine: MachineRecord,
    networks: Sequence[str | None],
    environment: str | None = None,
) -> Edit:
    """Return the edit that connects a test machine's adapters, in order, to these networks.

    A static adapter gets the address that the replica would get at a failover, where that is free
    there, else another one of the network's pool (behaviour 2.8). Asking again changes nothing.
    Those of them that were made for this environment are kept for the machine from now on.
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
    connected = machine.model_copy(update={"nics": tuple(nics)})
    shares = _sharing(inventory.fabric, networks, machine.machine_id, environment)
    return Edit(put=(*fresh, connected, *shares), removed=released)


def _sharing(
    fabric: FabricRecord, networks: Sequence[str | None], machine_id: str, environment: str | None
) -> tuple[FabricRecord, ...]:
    """Return the fabric that keeps networks of the environment for a machine, if it did not."""
    if environment is None:
        return ()
    tested_for = TestedFor(machine_id, environment)
    shared = tuple(
        shared_by(each, tested_for) if each.network_id in networks else each
        for each in fabric.networks
    )
    return () if shared == fabric.networks else (fabric.model_copy(update={"networks": shared}),)


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
