"""From records to the replication table and back; pure."""

from vmm_simulator.hyperv.replication import SENDING_STATES, Claim, Operation, Position, advance
from vmm_simulator.vmm.records import MachineRecord
from wire_contract.vocabulary import ReplicationMode


def position(machine: MachineRecord) -> Position:
    """Return mode and state of a copy, for the table."""
    return Position(machine.mode, machine.state)


def moved(machine: MachineRecord, operation: Operation) -> MachineRecord:
    """Return the machine after an operation of the table, or refuse with 32775."""
    target = advance(position(machine), operation)
    return with_relationship(machine, mode=target.mode, state=target.state)


def with_relationship(machine: MachineRecord, **changes: object) -> MachineRecord:
    """Return the machine with these fields of its relationship changed; it must have one."""
    assert machine.relationship is not None
    return machine.model_copy(
        update={"relationship": machine.relationship.model_copy(update=changes)}
    )


def sends(machine: MachineRecord) -> bool:
    """Return whether this copy has a replication cycle."""
    primary = machine.mode is ReplicationMode.PRIMARY and machine.state in SENDING_STATES
    return primary and not machine.fenced


def claim(machine: MachineRecord, *, confirmed: bool) -> Claim:
    """Return what decides whether a machine may start."""
    return Claim(
        position=position(machine),
        epoch=machine.epoch,
        fenced=machine.fenced,
        reserved=machine.reserved,
        protected=machine.protected,
        epoch_confirmed=confirmed or not machine.protected,
    )


def fenced(machine: MachineRecord) -> MachineRecord:
    """Return the copy as fenced; only a higher epoch, or a new role, ends it."""
    if machine.fenced:
        return machine
    return machine.model_copy(update={"fenced": True, "fenced_at_epoch": machine.epoch})


def with_epoch(machine: MachineRecord, epoch: int) -> MachineRecord:
    """Return the machine with this epoch, unless it knows a higher one."""
    return machine.model_copy(update={"epoch": max(epoch, machine.epoch)})
