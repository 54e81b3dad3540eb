"""Verbs of failover and reversal, on the end that they are addressed to."""

from typing import Final

import structlog

from vmm_simulator.hyperv.backend import AppliedCut, BackendStateError, CutKind
from vmm_simulator.hyperv.host_guests import disk_files
from vmm_simulator.hyperv.replication import Operation, advance
from vmm_simulator.hyperv.statistics import Statistics
from vmm_simulator.problems import Code, RefusedError
from vmm_simulator.verbs.arguments import FailOver, NoArguments, PrepareReverse, ReverseReplicate
from vmm_simulator.verbs.call import Call, Result, refused_state
from vmm_simulator.verbs.protection import offer
from vmm_simulator.vmm.records import MachineRecord
from vmm_simulator.vmm.transitions import moved, position, with_relationship
from wire_contract.vocabulary import ReplicationMode, ReplicationState, RunState

CANCEL_SHUTDOWN_SECONDS: Final = 30.0
"""How long a failed-over guest may take to end before it is turned off (behaviour 1.3)."""

S = ReplicationState

log = structlog.get_logger(__name__)


def check_prepare(call: Call[NoArguments]) -> None:
    """Refuse a machine that runs or does not replicate."""
    advance(position(call.machine), Operation.PREPARE_FAILOVER)
    _require_off(call, call.machine)


async def prepare_failover(call: Call[NoArguments]) -> Result:
    """Send what is left of a machine that is off, and lock it against a start."""
    machine = call.machine
    if machine.state is not S.SYNCED_REPLICATION_COMPLETE:
        await call.fabric.cycles.cycle(call.target).ship_until_held(CutKind.FINAL)
        call.reached("final changes sent")
        await call.change(lambda each: moved(each, Operation.PREPARE_FAILOVER))
        await call.fabric.cycles.stop(call.target)
    call.reached("prepared")
    return _cut_of(call.machine)


def check_synchronize(call: Call[NoArguments]) -> None:
    """Refuse a machine that does not replicate."""
    advance(position(call.machine), Operation.SEND_CHANGES)


async def synchronize(call: Call[NoArguments]) -> Result:
    """Send what is pending now."""
    await call.fabric.cycles.cycle(call.target).ship_until_held(CutKind.DELTA)
    call.reached("changes sent")
    return _cut_of(call.machine)


async def fail_over(call: Call[FailOver]) -> Result:
    """Make the replica startable; from here on it takes nothing and notes its own changes."""
    machine = call.machine
    if machine.state is S.RECOVERED:
        return {**_cut_of(machine), "last_cut_record": _record_of(machine)}
    await call.change(lambda each: moved(each, Operation.INITIATE_FAILOVER))
    call.reached("initiated")
    backend = call.host.backend
    try:
        # From here on the back end takes no transfer: one under way is dropped, a committed one
        # is applied. What it holds then is what is failed over to.
        await backend.attach(call.target, disk_files(machine))
        await backend.start_tracking(call.target)
    except (OSError, BackendStateError) as error:
        raise RefusedError(
            Code.NOT_AVAILABLE,
            f"the replica {machine.name} cannot be made startable: {error}",
            "look at the replica's disks; cancel the failover to go on replicating",
        ) from error
    applied = backend.applied_cut(call.target)

    def complete(present: MachineRecord) -> MachineRecord:
        return moved(_holding(present, applied), Operation.COMPLETE_FAILOVER)

    machine = await call.change(complete)
    call.fabric.confirmed.add(call.target)
    log.info("failed_over", machine_id=call.target, epoch=machine.epoch, **_cut_of(machine))
    call.reached("failed over")
    return {**_cut_of(machine), "last_cut_record": _record_of(machine)}


def check_cancel(call: Call[NoArguments]) -> None:
    """Refuse where no failover can be undone."""
    advance(position(call.machine), Operation.REVERT_FAILOVER)


async def cancel_failover(call: Call[NoArguments]) -> Result:
    """Undo a failover that was not committed, on this end."""
    machine = call.machine
    if machine.mode is ReplicationMode.REPLICA:
        await _revert_replica(call, machine)
    else:
        # Decision 4: the hub makes this copy the active one again, under this command's epoch.
        await call.change(
            lambda each: moved(each, Operation.REVERT_FAILOVER).model_copy(update={"fenced": False})
        )
        call.fabric.confirmed.add(call.target)
        call.fabric.cycles.ensure(call.target)
    call.reached("reverted")
    return {}


def check_commit(call: Call[NoArguments]) -> None:
    """Refuse a copy that was not failed over."""
    advance(position(call.machine), Operation.COMMIT_FAILOVER)


async def commit(call: Call[NoArguments]) -> Result:
    """Accept the point that was failed over to; it cannot be cancelled any more."""
    await call.change(lambda each: moved(each, Operation.COMMIT_FAILOVER))
    call.reached("committed")
    return {}


def check_prepare_reverse(call: Call[PrepareReverse]) -> None:
    """Refuse a copy that runs, or that cannot become a replica in this way."""
    machine = call.machine
    if not _is_replica_of(machine, call.arguments.relationship_id):
        advance(position(machine), _preparing(call.arguments))
        _require_off(call, machine)
    if call.fabric.store.host(machine.host).replica_port is None:
        raise refused_state(
            f"host {machine.host} does not listen for replication", "prepare its cloud first"
        )


async def prepare_reverse(call: Call[PrepareReverse]) -> Result:
    """Make the former primary (off) a replica that accepts the new primary."""
    arguments = call.arguments
    machine = call.machine
    if not _is_replica_of(machine, arguments.relationship_id):
        await call.fabric.cycles.stop(call.target)
        await _become_replica_bytes(call, machine)
        call.reached("bytes ready")
        await call.change(lambda each: _as_replica(each, arguments))
        log.info("became_replica", machine_id=call.target, primary_host=arguments.primary_host)
    call.reached("replica")
    host = call.fabric.store.host(machine.host)
    return {"replica_host": host.fqdn, "replica_port": host.replica_port}


def check_reverse(call: Call[ReverseReplicate]) -> None:
    """Refuse a copy that was not failed over, or whose changes were not noted."""
    arguments = call.arguments
    machine = call.machine
    advance(position(machine), _reversing(arguments))
    if not arguments.resynchronize and not call.host.backend.is_tracking(call.target):
        raise refused_state(
            f"the changes of machine {machine.name} since its failover were not noted",
            "reverse it with resynchronization",
        )


async def reverse_replicate(call: Call[ReverseReplicate]) -> Result:
    """Make the failed-over copy the primary of the reversed relationship."""
    arguments = call.arguments
    machine = call.machine
    await offer(call, machine)
    call.reached("replica ready")
    if machine.mode is ReplicationMode.REPLICA:
        await call.host.backend.forget_applied_cut(call.target)
        await call.change(lambda each: _as_primary(each, arguments))
        log.info("became_primary", machine_id=call.target, replica_host=arguments.replica_host)
    call.fabric.cycles.ensure(call.target)
    call.reached("primary")
    return {}


def check_fail_over(call: Call[FailOver]) -> None:
    """Refuse what cannot be failed over to now; it is not an error to have failed over."""
    arguments = call.arguments
    machine = call.machine
    advance(position(machine), Operation.INITIATE_FAILOVER)
    if machine.state is S.RECOVERED:
        return
    open_tests = [
        each.name
        for each in call.fabric.store.machines.values()
        if each.test_machine_of == machine.machine_id
    ]
    if open_tests:
        raise RefusedError(
            Code.IN_USE,
            f"a test failover is in progress ({open_tests[0]})",
            "complete the test failover first",
        )
    if arguments.recovery_point is not None:
        raise RefusedError(
            Code.NOT_FOUND,
            f"machine {machine.name} has no recovery point {arguments.recovery_point}",
            "choose a point that the machine lists, or the newest",
        )
    applied = call.host.backend.applied_cut(machine.machine_id)
    held = _held(machine, applied)
    expected = arguments.expected_cut or 0
    if arguments.planned and held < expected:
        raise refused_state(
            f"the replica holds change set {held}, the primary's last is {expected}",
            "prepare the failover again, so that the last changes arrive",
        )


async def _revert_replica(call: Call[NoArguments], machine: MachineRecord) -> None:
    backend = call.host.backend
    await call.change(lambda each: each.model_copy(update={"desired_running": False}))
    if not await call.host.guests.stop(machine, CANCEL_SHUTDOWN_SECONDS):
        await call.host.guests.kill(machine)
    if machine.state is S.REPLICATING:
        return
    # What was written since the failover cannot be taken back: the primary has to compare.
    written = backend.is_tracking(call.target) and backend.pending_bytes(call.target) > 0

    def revert(present: MachineRecord) -> MachineRecord:
        relationship = present.relationship
        assert relationship is not None
        diverged = written or relationship.diverged
        return with_relationship(present, diverged=diverged)

    # Durable before the marks go: a restart in between must not forget that it diverged.
    await call.change(revert)
    await backend.detach(call.target)
    await backend.stop_tracking(call.target)
    await call.change(lambda each: moved(each, Operation.REVERT_FAILOVER))


async def _become_replica_bytes(call: Call[PrepareReverse], machine: MachineRecord) -> None:
    backend = call.host.backend
    try:
        await backend.detach(call.target)
        await backend.stop_tracking(call.target)
        await backend.forget_applied_cut(call.target)
        await backend.create_replica_disks(call.target, disk_files(machine))
    except (OSError, BackendStateError) as error:
        raise RefusedError(
            Code.NOT_AVAILABLE,
            f"the disks of machine {machine.name} cannot become a replica's: {error}",
            "look at the disks of the machine",
        ) from error


def _preparing(arguments: PrepareReverse) -> Operation:
    if arguments.resynchronize:
        return Operation.PREPARE_REVERSE_BY_RESYNCHRONIZATION
    return Operation.PREPARE_REVERSE_BY_CHANGES


def _reversing(arguments: ReverseReplicate) -> Operation:
    if arguments.resynchronize:
        return Operation.REVERSE_BY_RESYNCHRONIZATION
    return Operation.REVERSE_BY_CHANGES


def _as_replica(machine: MachineRecord, arguments: PrepareReverse) -> MachineRecord:
    reversed_machine = with_relationship(
        moved(machine, _preparing(arguments)),
        relationship_id=arguments.relationship_id,
        peer_host=arguments.primary_host,
        peer_machine_id=arguments.primary_machine_id,
        interval_seconds=arguments.interval_seconds,
        diverged=False,
        last_error=None,
        resynchronize=arguments.resynchronize,
        statistics=Statistics(),
    )
    return reversed_machine.model_copy(update={"fenced": False, "desired_running": False})


def _as_primary(machine: MachineRecord, arguments: ReverseReplicate) -> MachineRecord:
    return with_relationship(
        moved(machine, _reversing(arguments)),
        relationship_id=arguments.relationship_id,
        peer_host=arguments.replica_host,
        peer_port=arguments.replica_port,
        peer_machine_id=arguments.replica_machine_id,
        interval_seconds=arguments.interval_seconds,
        recovery_points=arguments.recovery_points,
        application_consistent_hours=arguments.application_consistent_hours,
        compression=arguments.compression,
        resynchronize=arguments.resynchronize,
        diverged=False,
        last_error=None,
        statistics=Statistics(),
    )


def _is_replica_of(machine: MachineRecord, relationship_id: str) -> bool:
    relationship = machine.relationship
    return (
        relationship is not None
        and relationship.mode is ReplicationMode.REPLICA
        and relationship.relationship_id == relationship_id
        and relationship.state in (S.WAITING_TO_COMPLETE_INITIAL_REPLICATION, S.REPLICATING)
    )


def _require_off(call: Call[NoArguments] | Call[PrepareReverse], machine: MachineRecord) -> None:
    if call.host.guests.run_state(machine) is not RunState.OFF:
        raise refused_state(f"machine {machine.name} runs", "shut it down first")


def _held(machine: MachineRecord, applied: AppliedCut | None) -> int:
    recorded = 0 if machine.relationship is None else machine.relationship.last_cut
    return recorded if applied is None else max(recorded, applied.cut)


def _holding(machine: MachineRecord, applied: AppliedCut | None) -> MachineRecord:
    if applied is None:
        return machine
    return with_relationship(machine, last_cut=applied.cut, last_cut_record=applied.last_record)


def _cut_of(machine: MachineRecord) -> Result:
    return {"last_cut": 0 if machine.relationship is None else machine.relationship.last_cut}


def _record_of(machine: MachineRecord) -> int:
    return 0 if machine.relationship is None else machine.relationship.last_cut_record
