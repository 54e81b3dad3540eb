"""How a machine becomes the replica of what another host offers.

It was placed for that, or it was there before: an administrator had its host take it as a replica
(Enable-VMReplication -AsReplica, behaviour 1.2), with what it has on its disks to compare with.
"""

from collections.abc import Sequence
from datetime import datetime

from vmm_simulator.hyperv.backend import DiskFile
from vmm_simulator.hyperv.host_control import Offer
from vmm_simulator.hyperv.replication import Operation
from vmm_simulator.problems import Code, RefusedError
from vmm_simulator.vmm.records import MachineRecord
from vmm_simulator.vmm.relationship_records import RelationshipRecord
from vmm_simulator.vmm.transitions import moved
from wire_contract.vocabulary import ReplicationMode, ReplicationState


def check_may_become_replica(machine: MachineRecord, *, runs: bool) -> None:
    """Refuse a machine that nobody has meant as a replica, and one that is in use."""
    if machine.reserved:
        return
    if not machine.as_replica:
        raise RefusedError(
            Code.IN_USE,
            f"machine {machine.machine_id} is a machine of its own on {machine.host}",
            "turn it off and have its host take it as a replica, or remove it",
            "a replica was left there when a protection ended, or the machine was restored from"
            " a backup",
        )
    if runs or machine.saved:
        raise RefusedError(
            Code.INVALID_STATE,
            f"machine {machine.name} on {machine.host} {'runs' if runs else 'is saved'}",
            "turn it off: what it writes would be lost",
            "somebody has started it after it was meant as a replica",
        )


def require_disks_of_its_own(machine: MachineRecord, disks: Sequence[DiskFile]) -> None:
    """Refuse a machine whose disks are not there to be compared with (blocks)."""
    if not machine.as_replica:
        return
    for disk in disks:
        if not disk.path.is_file() or disk.path.stat().st_size != disk.size_bytes:
            raise RefusedError(
                Code.INVALID_PARAMETER,
                f"disk {disk.path} of machine {machine.name} is missing, or has not the"
                f" {disk.size_bytes} bytes of its primary's",
                "bring the disk there, or place a replica and copy over the network",
                "the disk was moved, or was changed in size at one end alone",
            )


def as_replica(
    machine: MachineRecord, offer: Offer, peer_broker: str | None, now: datetime
) -> MachineRecord:
    """Return the machine as the replica of what is offered, waiting for its first copy."""
    relationship = RelationshipRecord(
        relationship_id=offer.relationship_id,
        mode=ReplicationMode.NONE,
        state=ReplicationState.DISABLED,
        peer_host=offer.primary_host,
        peer_port=offer.primary_port,
        peer_broker=peer_broker,
        peer_machine_id=offer.primary_machine_id,
        interval_seconds=offer.interval_seconds,
        recovery_points=offer.recovery_points,
        application_consistent_hours=offer.application_consistent_hours,
        compression=offer.compression,
        authentication=offer.authentication,
        bypass_proxy=offer.bypass_proxy,
        established_at=now,
    )
    shell = machine.model_copy(
        update={
            "relationship": relationship,
            "reserved": False,
            "as_replica": False,
            "records_per_second": offer.records_per_second,
            "processors": offer.processors,
            "memory_megabytes": offer.memory_megabytes,
        }
    )
    return moved(shell, Operation.CREATE_REPLICA)
