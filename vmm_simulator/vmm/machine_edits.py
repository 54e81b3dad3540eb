"""Changes that an administrator makes to machines, as edits of the inventory; pure."""

from collections.abc import Callable
from datetime import datetime

from vmm_simulator.hyperv.schedule import check_points
from vmm_simulator.problems import Code, RefusedError, bad_arguments, unknown
from vmm_simulator.vmm.capacity import Needs, host_short_of
from vmm_simulator.vmm.estate_records import AddressType, GrantRecord
from vmm_simulator.vmm.inventory import Edit, Inventory
from vmm_simulator.vmm.networks import grant, is_address, pool_of
from vmm_simulator.vmm.placement import check_cloud_capacity, reaches
from vmm_simulator.vmm.records import DiskRecord, MachineRecord, NicRecord
from vmm_simulator.vmm.storage import free_bytes, lies_in


def create_machine(inventory: Inventory, machine: MachineRecord) -> Edit:
    """Return the edit that adds a machine where it fits, with addresses for its static adapters."""
    if machine.machine_id in inventory.machines:
        raise RefusedError(
            Code.IN_USE,
            f"there is a machine {machine.machine_id} already",
            "choose another id, or change that machine's disks and adapters",
        )
    others = tuple(inventory.machines.values())
    cloud, host = inventory.clouds.get(machine.cloud_id), inventory.hosts.get(machine.host)
    if cloud is None:
        raise unknown("cloud", machine.cloud_id)
    if host is None:
        raise unknown("host", machine.host)
    check_cloud_capacity(cloud, others, Needs.of(machine))
    short = host_short_of(host, others, Needs.of(machine))
    if short is not None:
        raise RefusedError(
            Code.NO_SUITABLE_HOST, f"host {host.fqdn} has no room: {short}", "choose another host"
        )
    for disk in machine.disks:
        _check_room(inventory, disk.path, disk.size_bytes)
    return with_addresses(inventory, machine)


def ask_for_protection(inventory: Inventory, machine_id: str, now: datetime) -> Edit:
    """Return the edit that asks for it in the machine's "Datacenter Recovery" property."""
    machine = inventory.machines.get(machine_id)
    if machine is None:
        raise unknown("machine", machine_id)
    if machine.protected_item is not None or machine.test_machine_of is not None:
        raise RefusedError(
            Code.INVALID_STATE,
            f"machine {machine.name} is protected already, or is a test machine",
            "look at its Datacenter Recovery property",
        )
    return Edit(put=(machine.model_copy(update={"protection_asked_at": now}),))


def ask_for_end_of_protection(inventory: Inventory, machine_id: str, now: datetime) -> Edit:
    """Return the edit that asks for its end there; a machine that is not protected is refused."""
    machine = _machine(inventory, machine_id)
    if machine.protected_item is None or not machine.protected_active:
        raise RefusedError(
            Code.INVALID_STATE,
            f"machine {machine.name} is not protected, or is not the active copy",
            "look at its Datacenter Recovery property; a replica's protection is ended at its"
            " source, or at the hub",
        )
    return Edit(put=(machine.model_copy(update={"protection_end_asked_at": now}),))


def set_recovery_points(inventory: Inventory, machine_id: str, points: int | None) -> Edit:
    """Return the edit that sets a machine's additional recovery points; null: as its cloud has.

    It counts from the next time that its relationship is set up or changed. A number that the
    machine's host does not know is refused.
    """
    machine = _machine(inventory, machine_id)
    host = inventory.hosts.get(machine.host)
    if points is not None and host is not None:
        check_points(host.version, points)
    return Edit(put=(machine.model_copy(update={"recovery_points": points}),))


def take_as_replica(inventory: Inventory, machine_id: str, *, wanted: bool) -> Edit:
    """Return the edit that lets a primary of the same id take a machine for its replica, or not.

    Its adapters are connected to nothing then, as a replica's are (behaviour 1.3).
    """
    machine = _machine(inventory, machine_id)
    if not wanted:
        return Edit(put=(machine.model_copy(update={"as_replica": False}),))
    if machine.protected or machine.test_machine_of is not None or machine.reserved:
        raise RefusedError(
            Code.INVALID_STATE,
            f"machine {machine.name} is protected, is placed as a replica, or is a test machine",
            "end its protection, or clean up its test failover, first",
        )
    host = inventory.hosts[machine.host]
    if host.port_of(machine.cloud_id) is None:
        raise RefusedError(
            Code.INVALID_STATE,
            f"host {host.fqdn} takes no replicas for cloud {machine.cloud_id}",
            "pair the cloud first: that enables its hosts as replica servers",
        )
    adapters = {nic.nic_id for nic in machine.nics}
    released = (each for each in inventory.grants.values() if each.nic_id in adapters)
    apart = tuple(
        NicRecord(nic_id=each.nic_id, mac=each.mac, synthetic=each.synthetic)
        for each in machine.nics
    )
    taken = machine.model_copy(update={"as_replica": True, "nics": apart})
    return Edit(put=(taken,), removed=tuple(released))


def remove_machine(inventory: Inventory, machine_id: str) -> Edit:
    """Return the edit that takes an unprotected machine away, and releases its addresses."""
    machine = _machine(inventory, machine_id)
    if machine.protected or machine.test_machine_of is not None:
        raise RefusedError(
            Code.INVALID_STATE,
            f"machine {machine.name} is protected, or is a test machine",
            "end its protection, or clean up its test failover, first",
        )
    adapters = {nic.nic_id for nic in machine.nics}
    released = (each for each in inventory.grants.values() if each.nic_id in adapters)
    return Edit(removed=(machine, *released))


def put_disk(inventory: Inventory, machine_id: str, disk: DiskRecord) -> Edit:
    """Return the edit that adds a disk to a machine, or makes one of its disks larger.

    A disk is never made smaller here: after that, failing over to a point before it fails
    (behaviour 1.5).
    """
    machine = _machine(inventory, machine_id)
    present = {each.disk_id: each for each in machine.disks}
    former = present.get(disk.disk_id)
    grown = disk.size_bytes - (0 if former is None else former.size_bytes)
    if grown < 0:
        raise bad_arguments(
            f"disk {disk.disk_id} has {former and former.size_bytes} bytes: it only grows"
        )
    _check_room(inventory, disk.path, grown)
    cloud = inventory.clouds.get(machine.cloud_id)
    if cloud is not None and grown:
        others = [each for each in inventory.machines.values() if each is not machine]
        needs = Needs.of(machine)
        larger = Needs(needs.processors, needs.memory_megabytes, needs.disk_bytes + grown)
        check_cloud_capacity(cloud, others, larger)
    disks = tuple({**present, disk.disk_id: disk}.values())
    return Edit(put=(machine.model_copy(update={"disks": disks}),))


def put_nic(inventory: Inventory, machine_id: str, nic: NicRecord) -> Edit:
    """Return the edit that adds or changes an adapter; its former address is released."""
    machine = _machine(inventory, machine_id)
    adapters = tuple({**{each.nic_id: each for each in machine.nics}, nic.nic_id: nic}.values())
    return _readdressed(inventory, machine.model_copy(update={"nics": adapters}), nic.nic_id)


def remove_nic(inventory: Inventory, machine_id: str, nic_id: str) -> Edit:
    """Return the edit that takes an adapter away; one that is not there is no error."""
    machine = _machine(inventory, machine_id)
    adapters = tuple(each for each in machine.nics if each.nic_id != nic_id)
    return _readdressed(inventory, machine.model_copy(update={"nics": adapters}), nic_id)


def with_addresses(inventory: Inventory, machine: MachineRecord) -> Edit:
    """Return the edit that puts a machine, its static adapters with addresses of their pools."""
    edit = Edit(put=(machine,))
    granted: dict[str, GrantRecord] = {}
    for nic in machine.nics:
        if nic.address_type == AddressType.STATIC and nic.network_id is not None:
            given = _grant_for(inventory.after(edit), machine, nic)
            granted[nic.nic_id] = given
            edit = edit.then(Edit(put=(given,)))
    nics = tuple(
        nic.model_copy(update={"address": granted[nic.nic_id].address})
        if nic.nic_id in granted
        else nic
        for nic in machine.nics
    )
    return edit.then(Edit(put=(machine.model_copy(update={"nics": nics}),)))


def reserve_address(
    inventory: Inventory, pool_id: str, nic_id: str, wanted: str | None
) -> tuple[Edit, GrantRecord]:
    """Return the grant of an address of a pool to an adapter, and the edit that makes it true."""
    pool = next((each for each in inventory.fabric.address_pools if each.pool_id == pool_id), None)
    if pool is None:
        raise unknown("IP pool", pool_id)
    if wanted is not None and not is_address(wanted):
        raise bad_arguments(f"{wanted} is no IPv4 address")
    given = grant(pool, inventory.grants.values(), nic_id, wanted)
    former = (
        each
        for each in inventory.grants.values()
        if (each.pool_id, each.nic_id) == (pool_id, nic_id) and each != given
    )
    return Edit(put=(given,), removed=tuple(former)), given


def release_address(inventory: Inventory, pool_id: str, nic_id: str) -> Edit:
    """Return the edit that takes an adapter's address of a pool back; none is no error."""
    released = (
        each
        for each in inventory.grants.values()
        if (each.pool_id, each.nic_id) == (pool_id, nic_id)
    )
    return Edit(removed=tuple(released))


def changing(
    change: Callable[[MachineRecord], MachineRecord], machine_id: str
) -> Callable[[Inventory], Edit]:
    """Return the decision that changes one machine alone."""
    return lambda inventory: Edit(put=(change(_machine(inventory, machine_id)),))


def _readdressed(inventory: Inventory, machine: MachineRecord, nic_id: str) -> Edit:
    """Release what the adapter had, then grant anew what the machine's adapters need."""
    released = Edit(removed=tuple(e for e in inventory.grants.values() if e.nic_id == nic_id))
    host = inventory.hosts[machine.host]
    for nic in machine.nics:
        if nic.nic_id != nic_id or nic.network_id is None:
            continue
        if not reaches(inventory.fabric, host, nic.network_id):
            raise RefusedError(
                Code.INVALID_STATE,
                f"host {host.fqdn} does not reach VM network {nic.network_id}",
                "attach its logical network to the host, or move the machine",
            )
    granted = with_addresses(inventory.after(released), machine)
    kept = {each.grant_id for each in granted.put if isinstance(each, GrantRecord)}
    gone = (each for each in released.removed if not _is_kept(each, kept))
    return Edit(put=granted.put, removed=tuple(gone))


def _is_kept(record: object, kept: set[str]) -> bool:
    return isinstance(record, GrantRecord) and record.grant_id in kept


def _grant_for(inventory: Inventory, machine: MachineRecord, nic: NicRecord) -> GrantRecord:
    assert nic.network_id is not None
    pool = pool_of(inventory.fabric.address_pools, nic.network_id, nic.subnet)
    if pool is None:
        raise RefusedError(
            Code.NO_FREE_ADDRESS,
            f"adapter {nic.nic_id} of machine {machine.name} is static, and VM network"
            f" {nic.network_id} has no IP pool",
            "make an IP pool for the network, or leave the address to DHCP",
        )
    given = grant(pool, inventory.grants.values(), nic.nic_id, nic.address)
    if nic.address is not None and given.address != nic.address:
        raise RefusedError(
            Code.NO_FREE_ADDRESS,
            f"address {nic.address} is not free in IP pool {pool.name}",
            "choose another, or name none and take a free one",
        )
    return given


def _machine(inventory: Inventory, machine_id: str) -> MachineRecord:
    machine = inventory.machines.get(machine_id)
    if machine is None:
        raise unknown("machine", machine_id)
    return machine


def _check_room(inventory: Inventory, path: str, grown: int) -> None:
    for store in inventory.fabric.stores:
        free = free_bytes(store, inventory.machines.values())
        if lies_in(store, path) and grown > free:
            raise RefusedError(
                Code.NOT_AVAILABLE,
                f"store {store.name} has {free} bytes free, {grown} are needed",
                "free some of it, or choose another store",
            )
