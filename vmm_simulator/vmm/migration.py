"""Whether a machine may be moved to another node while it runs; pure.

Sources: behaviour 1.5 (live migration: logs, state and statistics travel along), section 6 (moves)
and the error 23848.
"""

from vmm_simulator.hyperv.backend import Authentication
from vmm_simulator.problems import Code, RefusedError
from vmm_simulator.vmm.capacity import Needs, host_short_of
from vmm_simulator.vmm.clusters import share_cluster
from vmm_simulator.vmm.inventory import Inventory
from vmm_simulator.vmm.placement import reaches
from vmm_simulator.vmm.records import HostRecord, MachineRecord
from vmm_simulator.vmm.storage import lies_in, visible_to


def check_migration(inventory: Inventory, machine: MachineRecord, target: HostRecord) -> None:
    """Refuse a live migration that cannot be done, or that would end the protection (23848)."""
    source = inventory.hosts[machine.host]
    if machine.reserved:
        raise _state(f"machine {machine.name} is only placed: its replica is not made yet")
    if machine.migrating_to not in (None, target.fqdn):
        raise _state(f"machine {machine.name} is being moved to {machine.migrating_to}")
    if not share_cluster(source, target):
        raise _state(
            f"{source.fqdn} and {target.fqdn} are not nodes of one cluster",
            "choose a node of the machine's own cluster",
        )
    unseen = _unseen_disk(inventory, machine, target)
    if unseen is not None:
        raise _state(
            f"the disk {unseen} of machine {machine.name} lies in no store that {target.fqdn} sees",
            "keep the disks of clustered machines in a CSV or SMB store of the cluster",
        )
    for nic in machine.nics:
        if nic.network_id is not None and not reaches(inventory.fabric, target, nic.network_id):
            raise _state(
                f"host {target.fqdn} does not reach VM network {nic.network_id}",
                "attach its logical network to the host",
            )
    others = [each for each in inventory.machines.values() if each is not machine]
    short = host_short_of(target, others, Needs.of(machine))
    if short is not None:
        raise _state(f"host {target.fqdn} has no room: {short}", "free some of it")
    _check_protection(inventory, machine, target)


def _check_protection(inventory: Inventory, machine: MachineRecord, target: HostRecord) -> None:
    """A protected machine stays among hosts of its cloud that are prepared like its own."""
    if not machine.protected:
        return
    cloud = inventory.clouds[machine.cloud_id]
    partners = target.allowed_primaries.get(machine.cloud_id)
    configured = _is_configured(target, machine.cloud_id)
    if target.host_group in cloud.host_groups and configured and partners:
        return
    raise RefusedError(
        Code.MIGRATION_BREAKS_PROTECTION,
        f"the live migration could break the recovery protection of machine {machine.name}:"
        f" host {target.fqdn} is not configured for the pair of cloud {cloud.name}",
        "move it to a configured host, or pair the clouds again so that this host is configured",
        "the host was added later, or is in no host group of the cloud",
    )


def _is_configured(target: HostRecord, cloud_id: str) -> bool:
    """Return whether a host has the pairing's port, and what it proves itself with there."""
    wanted = target.replica_ports.get(cloud_id)
    if wanted is not None and wanted.authentication is Authentication.KERBEROS:
        return target.keytab is not None
    return target.port_of(cloud_id) is not None and target.certificate_thumbprint is not None


def _unseen_disk(inventory: Inventory, machine: MachineRecord, target: HostRecord) -> str | None:
    seen = [each for each in inventory.fabric.stores if visible_to(each, target)]
    for disk in machine.disks:
        if not any(lies_in(store, disk.path) for store in seen):
            return disk.name
    return None


def _state(message: str, action: str = "") -> RefusedError:
    return RefusedError(Code.INVALID_STATE, message, action)
