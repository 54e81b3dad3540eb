"""Which change sets of a relationship are this source's own; pure.

A clone of a source (its journal and disks, brought back from a backup or copied) has the same ids,
epoch and numbers: nothing that was agreed once tells the two apart. So every change set names the
transfer before it, its ancestor (behaviour 1.5), and a source notes the id of each transfer before
it sends it. Of two sources the one whose change set is held goes on; the other one finds a change
set that it never sent, or is refused for its ancestor, and waits for an administrator: only a
resynchronization that is asked for makes it the source again.
"""

from typing import Final

from vmm_simulator.hyperv.backend import AppliedCut, TransferRefusedError
from vmm_simulator.problems import Code
from vmm_simulator.vmm.records import MachineRecord
from vmm_simulator.vmm.relationship_records import AcknowledgedRecord, RelationshipRecord
from vmm_simulator.vmm.transitions import with_relationship

ATTEMPTS_MAX: Final = 64
"""Transfers of one change set that may have arrived unheard of; the oldest are forgotten first."""


def ancestor_of(relationship: RelationshipRecord) -> str | None:
    """Return the transfer that the next change set builds on; None where it is not known."""
    newest = relationship.acknowledged
    if newest is None or newest.cut != relationship.last_cut:
        return None
    return newest.transfer_id


def with_attempt(machine: MachineRecord, transfer_id: str, lost: str | None) -> MachineRecord:
    """Return the machine with a transfer that is about to begin; `lost` is one that never did."""
    assert machine.relationship is not None
    known = [each for each in machine.relationship.attempts if each != lost]
    return with_relationship(machine, attempts=(*known, transfer_id)[-ATTEMPTS_MAX:])


def with_acknowledged(machine: MachineRecord, applied: AppliedCut) -> MachineRecord:
    """Return the machine with its newest change set: all others are of no interest any more."""
    acknowledged = None
    if applied.transfer_id is not None:
        acknowledged = AcknowledgedRecord(cut=applied.cut, transfer_id=applied.transfer_id)
    return with_relationship(
        machine,
        last_cut=applied.cut,
        last_cut_record=applied.last_record,
        acknowledged=acknowledged,
        attempts=(),
        foreign_cut=None,
    )


def is_own(relationship: RelationshipRecord, applied: AppliedCut) -> bool:
    """Return whether this source may have sent what a replica holds.

    A replica, or a journal, of before transfers were noted says nothing: then it counts as own.
    """
    noted = relationship.acknowledged is not None or relationship.last_cut == 0
    return not noted or applied.transfer_id in (None, *relationship.attempts)


def other_source(applied: AppliedCut) -> TransferRefusedError:
    """Return the refusal to go on where another source has sent."""
    return TransferRefusedError(
        Code.OTHER_SOURCE,
        f"the replica holds change set {applied.cut} ({applied.transfer_id}), which this machine"
        " never sent: another source claims the same replica. Find the other copy of this machine"
        " (a clone, or one from a backup) and remove its replication; then resynchronize the one"
        " that is to go on",
        applied,
    )


def with_foreign(machine: MachineRecord, cut: int) -> MachineRecord:
    """Return the machine with the number up to which another source has sent."""
    return with_relationship(machine, foreign_cut=cut)


def taking_over(machine: MachineRecord) -> MachineRecord:
    """Return the machine as the source from now on, whoever sent meanwhile (an administrator's)."""
    relationship = machine.relationship
    if relationship is None or relationship.foreign_cut is None:
        return machine
    return with_relationship(
        machine,
        last_cut=max(relationship.last_cut, relationship.foreign_cut),
        acknowledged=None,
        attempts=(),
        foreign_cut=None,
    )
