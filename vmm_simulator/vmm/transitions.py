"""From records to the replication table and back; pure."""

from datetime import datetime

from vmm_simulator.hyperv.replication import SENDING_STATES, Operation, Position, advance
from vmm_simulator.hyperv.starting import Claim, ends_fence
from vmm_simulator.hyperv.statistics import Statistics
from vmm_simulator.vmm.records import MachineRecord
from vmm_simulator.vmm.relationship_records import RelationshipRecord
from wire_contract.vocabulary import ReplicationMode, ReplicationState


def position(machine: MachineRecord) -> Position:
    """Return mode and state of a copy, for the table."""
    before = None if machine.relationship is None else machine.relationship.before
    return Position(machine.mode, machine.state, before)


def moved(machine: MachineRecord, operation: Operation) -> MachineRecord:
    """Return the machine after an operation of the table, or refuse with 32775.

    Its fence ends where the operation ends it under the machine's epoch (`ends_fence`).
    """
    target = advance(position(machine), operation)
    if machine.fenced and ends_fence(operation, machine.epoch, machine.fenced_at_epoch):
        machine = machine.model_copy(update={"fenced": False})
    return with_relationship(machine, mode=target.mode, state=target.state, before=target.before)


def with_relationship(machine: MachineRecord, **changes: object) -> MachineRecord:
    """Return the machine with these fields of its relationship changed; it must have one."""
    assert machine.relationship is not None
    return machine.model_copy(
        update={"relationship": machine.relationship.model_copy(update=changes)}
    )


def without_relationship(machine: MachineRecord) -> MachineRecord:
    """Return the machine as an ordinary one, or refuse; `without_fence` ends what forbids it."""
    advance(position(machine), Operation.REMOVE)
    return machine.model_copy(update={"relationship": None})


def requiring_resynchronization(machine: MachineRecord, now: datetime) -> MachineRecord:
    """Return the primary in state 9, with the moment at which its window lets it begin."""
    required = moved(machine, Operation.REQUIRE_RESYNCHRONIZATION)
    assert required.relationship is not None
    return with_relationship(required, resynchronize_at=required.relationship.window.due(now))


def with_statistics(machine: MachineRecord, statistics: Statistics) -> MachineRecord:
    """Return the machine with these counters."""
    return with_relationship(machine, statistics=statistics)


def sends(machine: MachineRecord) -> bool:
    """Return whether this copy has a replication cycle."""
    relationship = machine.relationship
    if relationship is None or relationship.mode is not ReplicationMode.PRIMARY or machine.fenced:
        return False
    return relationship.state in SENDING_STATES or _is_scheduled(relationship)


def _is_scheduled(relationship: RelationshipRecord) -> bool:
    ready = relationship.state is ReplicationState.READY
    return ready and relationship.scheduled_at is not None


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
    """Return the copy as fenced; a higher epoch, a new role or the end of protection ends it."""
    if machine.fenced:
        return machine
    return machine.model_copy(update={"fenced": True, "fenced_at_epoch": machine.epoch})


def without_fence(machine: MachineRecord) -> MachineRecord:
    """Return a copy that is protected no longer as a machine that its site may start, and has off.

    No hub decides any more between it and another one. What still has a relationship stays fenced.
    """
    if not machine.fenced or machine.relationship is not None:
        return machine
    return machine.model_copy(update={"fenced": False, "desired_running": False})


def with_epoch(machine: MachineRecord, epoch: int) -> MachineRecord:
    """Return the machine with this epoch, unless it knows a higher one."""
    return machine.model_copy(update={"epoch": max(epoch, machine.epoch)})
