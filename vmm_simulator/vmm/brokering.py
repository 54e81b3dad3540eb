"""Which copy a host may be asked about, and where it went; what a replica broker knows; pure.

Behaviour 1.5 and 1.10: after a live migration of the replica the primary asks the broker for its
new node, and so does the replica that has a question to the primary; a machine that migrates among
the members of a trust group keeps replicating (1.4). The partners that one pairing authorises on a
host are a trust group. The node that the broker is on answers for it, and any other node in its
place, where the cluster has one.
"""

from typing import NamedTuple

from vmm_simulator.hyperv.authorisation import same_group
from vmm_simulator.problems import Code, RefusedError, unknown
from vmm_simulator.vmm.clusters import share_cluster
from vmm_simulator.vmm.inventory import Inventory
from vmm_simulator.vmm.records import HostRecord, MachineRecord


class Peer(NamedTuple):
    """Another host as it has proved itself, and the brokers that it stands for as a node."""

    fqdn: str
    brokers: tuple[str, ...] = ()


def replica_for(inventory: Inventory, fqdn: str, relationship_id: str, peer: Peer) -> MachineRecord:
    """Return the copy on this host that a peer means; refused when it is not here, or not its.

    A copy on another node of the same cluster is refused with 91013: ask the broker.
    """
    host = inventory.hosts[fqdn]
    copies = inventory.copies_of(relationship_id)
    here = [each for each in copies if each.host == fqdn]
    for machine in here:
        if machine.relationship is not None and _same(machine.relationship.peer_host, peer.fqdn):
            return _settled(machine)
    for machine in here:
        if trusts(host, machine, peer):
            return _settled(machine)
    moved = _moved_copy(inventory, host, copies)
    if moved is not None and trusts(inventory.hosts[moved.host], moved, peer):
        raise RefusedError(
            Code.MACHINE_MOVED,
            f"the copy of relationship {relationship_id} was moved from {fqdn} to {moved.host}",
            "ask the replica broker of the cluster where it is, and send there",
        )
    raise unknown("relationship", relationship_id)


def replica_machine(
    inventory: Inventory, fqdn: str, relationship_id: str, peer: Peer
) -> MachineRecord:
    """Return a copy on the node that it is on now, as the broker of this host's cluster does."""
    host = inventory.hosts[fqdn]
    copies = inventory.copies_of(relationship_id)
    here = [each for each in copies if each.host == fqdn]
    found = here[0] if here else _moved_copy(inventory, host, copies)
    if found is None or not trusts(inventory.hosts[found.host], found, peer):
        raise unknown("relationship", relationship_id)
    cluster = inventory.fabric.cluster(host.cluster)
    if found.host != fqdn and (cluster is None or cluster.broker is None):
        raise RefusedError(
            Code.INVALID_STATE,
            f"cluster {host.cluster} has no Hyper-V Replica Broker that could say where it is",
            "create the broker",
        )
    return found


def _settled(machine: MachineRecord) -> MachineRecord:
    """Refuse, for now, a copy that is on its way to another node."""
    if machine.migrating_to is not None:
        raise RefusedError(
            Code.NOT_AVAILABLE,
            f"machine {machine.machine_id} is being moved to {machine.migrating_to}",
            "ask again in a moment",
        )
    return machine


def _moved_copy(
    inventory: Inventory, host: HostRecord, copies: list[MachineRecord]
) -> MachineRecord | None:
    for machine in copies:
        if share_cluster(host, inventory.hosts[machine.host]):
            return machine
    return None


def trusts(host: HostRecord, machine: MachineRecord, peer: Peer) -> bool:
    """Whether a peer is of the machine's pairing, or trusted together with its partner here."""
    partners = host.allowed_primaries.get(machine.cloud_id, ())
    if any(_same(each, peer.fqdn) for each in partners):
        return True
    relationship, entered = machine.relationship, host.authorisations
    if relationship is None:
        return False
    known = () if relationship.peer_broker is None else (relationship.peer_broker,)
    partner, paired = relationship.peer_host, host.allowed_primaries
    return same_group(partner, peer.fqdn, entered, paired, (known, peer.brokers))


def _same(one: str, other: str) -> bool:
    return one.lower() == other.lower()
