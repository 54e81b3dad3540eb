"""Why a replica's host refuses an offer or a transfer; pure."""

from collections.abc import Iterable

from vmm_simulator.hyperv.host_control import Offer
from vmm_simulator.hyperv.replication import Operation
from vmm_simulator.problems import Code, RefusedError
from vmm_simulator.vmm.capacity import Needs, host_short_of
from vmm_simulator.vmm.records import HostRecord, MachineRecord
from vmm_simulator.vmm.relationship_records import RelationshipRecord
from wire_contract.vocabulary import ReplicationState


def refuse_lower(machine: MachineRecord, epoch: int) -> None:
    """The epoch comes before the state: who was passed by has to learn just that."""
    if epoch < machine.epoch:
        raise RefusedError(
            Code.LOWER_EPOCH,
            f"epoch {epoch} has been passed by: this host has seen {machine.epoch}",
        )


def check_offered(machine: MachineRecord, offer: Offer, peer_fqdn: str) -> None:
    """Refuse an offer in another host's name, and one of a machine that is another."""
    if offer.primary_host.lower() != peer_fqdn.lower():
        raise RefusedError(
            Code.ACCESS_DENIED, f"{peer_fqdn} may not speak for {offer.primary_host}"
        )
    sizes = tuple(disk.size_bytes for disk in machine.disks)
    offered = tuple(disk.size_bytes for disk in offer.disks)
    if (offer.hyperv_id, offered) != (machine.hyperv_id, sizes):
        raise RefusedError(
            Code.INVALID_PARAMETER,
            f"machine {machine.machine_id} is not the replica of what {peer_fqdn} offers",
            "place a replica with the primary's id and disk sizes",
        )


def check_same_relationship(machine: MachineRecord, offer: Offer, *, trusted: bool) -> None:
    """Refuse another source, or another relationship: two sources never feed one replica.

    The source may have moved since its relationship was made: to a host that is `trusted` together
    with the one it was on (behaviour 1.4).
    """
    relationship = machine.relationship
    if relationship is None:
        return
    same = relationship.relationship_id == offer.relationship_id and (
        relationship.peer_machine_id == offer.primary_machine_id
    )
    at_home = relationship.peer_host.lower() == offer.primary_host.lower()
    if not (same and (at_home or trusted)):
        raise RefusedError(
            Code.INVALID_STATE,
            f"machine {machine.machine_id} belongs to another relationship"
            f" ({relationship.relationship_id} with {relationship.peer_host})",
            "prepare it for this relationship first",
        )


def refuse_altered(machine: MachineRecord, reason: str) -> None:
    """A replica in state 8 whose bytes are not what it took needs a whole copy (1.6).

    Without such a reason its disks fail, or failed: each change set tries them anew.
    """
    if machine.state is ReplicationState.CRITICAL and reason:
        raise RefusedError(
            Code.RESYNCHRONIZATION_REQUIRED,
            f"replica {machine.machine_id} stands still for an error ({reason}); it needs a whole"
            " copy",
        )


def require_awaited(machine: MachineRecord, relationship: RelationshipRecord) -> None:
    """Refuse changes before the first copy, unless its import is awaited."""
    if not relationship.awaits_import:
        raise RefusedError(
            Code.INVALID_STATE,
            f"replica {machine.machine_id} takes no changes before its first copy is complete",
            "start the initial replication, or import the exported copy",
        )


def refused_by_bytes(name: str, error: Exception) -> RefusedError:
    """Return the refusal for what the bytes of a machine do not allow now."""
    return RefusedError(
        Code.NOT_AVAILABLE,
        f"the disks of machine {name} do not allow it: {error}",
        "look at the disks and at the folder of the machine",
    )


def refuse_changes(machine: MachineRecord, operation: Operation) -> None:
    """Refuse changes alone for a replica that was written to."""
    if operation is Operation.RECEIVE_CHANGES:
        raise RefusedError(
            Code.RESYNCHRONIZATION_REQUIRED,
            f"replica {machine.machine_id} was written to; it needs a resynchronization",
        )


def check_source(
    machine: MachineRecord, relationship: RelationshipRecord, source: str | None
) -> None:
    """Refuse the changes of another machine: they are of other disks, whoever sends them."""
    if source is not None and source != relationship.peer_machine_id:
        raise RefusedError(
            Code.INVALID_STATE,
            f"replica {machine.machine_id} is fed by machine {relationship.peer_machine_id},"
            f" not by {source}",
            "remove one of the two relationships; place a replica of its own for this machine",
        )


def check_room(
    host: HostRecord, machines: Iterable[MachineRecord], replica: MachineRecord, offer: Offer
) -> None:
    """Refuse a machine that, as its primary's host describes it, has no room on this host."""
    others = (each for each in machines if each.machine_id != replica.machine_id)
    short = host_short_of(host, others, Needs(offer.processors, offer.memory_megabytes))
    if short is not None:
        raise RefusedError(
            Code.NO_SUITABLE_HOST,
            f"host {host.fqdn} has no room for machine {replica.name}: {short}",
            "free some of it, or place the replica on another host",
        )
