"""Verbs of failover, on the end that they are addressed to."""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import structlog

from vmm_simulator.hyperv.backend import (
    AppliedCut,
    BackendStateError,
    CutKind,
    RecoveryPoint,
)
from vmm_simulator.hyperv.host_guests import disk_files
from vmm_simulator.hyperv.point_keeping import keep_planned_point
from vmm_simulator.hyperv.replica_finding import other_end
from vmm_simulator.hyperv.replication import Operation, advance
from vmm_simulator.problems import Code, RefusedError
from vmm_simulator.verbs.adapters import check_adapters, connect
from vmm_simulator.verbs.arguments import ChangeRecoveryPoint, FailOver, NoArguments
from vmm_simulator.verbs.call import Call, Result, refuse_present_fence, refused_state
from vmm_simulator.verbs.replication import refuse_open_test
from vmm_simulator.vmm.records import MachineRecord
from vmm_simulator.vmm.relationship_records import PointRecord
from vmm_simulator.vmm.transitions import (
    moved,
    position,
    requiring_resynchronization,
    with_relationship,
)
from wire_contract.vocabulary import ReplicationMode, ReplicationState, RunState

CANCEL_SHUTDOWN_SECONDS: Final = 30.0
"""How long a failed-over guest may take to end before it is turned off (behaviour 1.3)."""

ASK_SECONDS_MAX: Final = 10.0
"""Longest the primary's host is asked: one that cannot be reached must not hold a failover up."""

S = ReplicationState

log = structlog.get_logger(__name__)


def check_prepare(call: Call[NoArguments]) -> None:
    """Refuse a machine that runs or does not replicate."""
    advance(position(call.machine), Operation.PREPARE_FAILOVER)
    require_off(call, call.machine)


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
    stands = call.machine.state is S.RECOVERED
    if not stands:
        # Before the machine can run: its guest wakes up with the networks and addresses it keeps.
        await connect(call)
    # Also where an earlier failover was not taken back: the fence ends that was set meanwhile.
    await call.change(lambda each: moved(each, Operation.INITIATE_FAILOVER))
    if stands:
        # Startable before, and told since that another copy is the active one: now this one is.
        call.fabric.confirmed.add(call.target)
    call.reached("initiated")
    if not stands:
        await _stand_at(call, call.arguments.recovery_point, planned=call.arguments.planned)
    call.reached("failed over")
    return _stand_of(call.machine)


def check_change(call: Call[ChangeRecoveryPoint]) -> None:
    """Refuse a copy that is not failed over, or has no such point."""
    advance(position(call.machine), Operation.CHANGE_RECOVERY_POINT)
    _check_point(call, call.machine, call.arguments.recovery_point)


async def change_recovery_point(call: Call[ChangeRecoveryPoint]) -> Result:
    """Turn the machine off, throw away what it wrote, and stand at another point (1.3)."""
    machine = call.machine
    wanted = call.arguments.recovery_point
    if machine.state is not S.RECOVERED or not _stands_at(machine, wanted):
        await call.change(
            lambda each: moved(each, Operation.CHANGE_RECOVERY_POINT).model_copy(
                update={"desired_running": False}
            )
        )
        call.reached("initiated")
        await _turn_off(call, machine)
        if not await _revert_bytes(call, machine):
            raise RefusedError(
                Code.NOT_AVAILABLE,
                f"the other recovery points of machine {machine.name} are lost",
                "cancel the failover; the primary then compares the two copies",
            )
        call.reached("reverted")
        await _stand_at(call, wanted, planned=False)
    call.reached("failed over")
    return _stand_of(call.machine)


def check_cancel(call: Call[NoArguments]) -> None:
    """Refuse where no failover can be undone."""
    advance(position(call.machine), Operation.REVERT_FAILOVER)


async def cancel_failover(call: Call[NoArguments]) -> Result:
    """Undo a failover that was not committed, on this end."""
    machine = call.machine
    if machine.mode is ReplicationMode.REPLICA:
        await _revert_replica(call, machine)
    else:
        # Decision 4: the hub makes this copy the active one again, under this command's epoch;
        # a fence ends with it.
        now = call.fabric.clock.now()
        noted = call.host.backend.is_tracking(call.target)
        await call.change(lambda each: _active_again(each, now, noted=noted))
        call.fabric.confirmed.add(call.target)
        call.fabric.cycles.ensure(call.target)
    call.reached("reverted")
    return {}


def _active_again(machine: MachineRecord, now: datetime, *, noted: bool) -> MachineRecord:
    """Return the source as before the failover; a comparison that it cancelled is due again.

    So is one where its changes are noted no more, because a removal broke off.
    """
    back = moved(machine, Operation.REVERT_FAILOVER)
    if back.state is ReplicationState.REPLICATING and not noted:
        return requiring_resynchronization(back, now)
    if back.state is ReplicationState.WAITING_TO_START_RESYNCHRONIZE:
        return requiring_resynchronization(back, now)
    return back


def check_commit(call: Call[NoArguments]) -> None:
    """Refuse a copy that was not failed over."""
    advance(position(call.machine), Operation.COMMIT_FAILOVER)


async def commit(call: Call[NoArguments]) -> Result:
    """Accept the point that was failed over to; the others go, nothing can be cancelled."""
    try:
        await call.host.backend.commit(call.target)
    except (OSError, BackendStateError) as error:
        raise RefusedError(
            Code.NOT_AVAILABLE,
            f"the failover of machine {call.machine.name} cannot be committed: {error}",
            "look at the disks of the machine, then ask again",
        ) from error
    call.reached("points gone")
    await call.change(lambda each: moved(each, Operation.COMMIT_FAILOVER))
    call.reached("committed")
    return {}


def check_fail_over(call: Call[FailOver]) -> None:
    """Refuse what cannot be failed over to now; it is not an error to have failed over."""
    arguments = call.arguments
    machine = call.machine
    advance(position(machine), Operation.INITIATE_FAILOVER)
    refuse_present_fence(call, machine)
    if machine.state is S.RECOVERED:
        if not _stands_at(machine, arguments.recovery_point, default=True):
            raise refused_state(
                f"machine {machine.name} is failed over to another recovery point",
                "change the recovery point instead",
            )
        return
    refuse_open_test(call, machine)
    backend = call.host.backend
    if arguments.planned and backend.receiving(machine.machine_id) is CutKind.DIFFERENCES:
        raise refused_state(
            f"the copies of machine {machine.name} are being compared",
            "wait for the end of the resynchronization",
        )
    _check_point(call, machine, arguments.recovery_point)
    check_adapters(call)
    held = _held(machine, backend.applied_cut(machine.machine_id))
    expected = arguments.expected_cut or 0
    if arguments.planned and held < expected:
        raise refused_state(
            f"the replica holds change set {held}, the primary's last is {expected}",
            "prepare the failover again, so that the last changes arrive",
        )


async def ask_primary(call: Call[FailOver]) -> None:
    """Refuse while the primary can be reached and says that the machine runs there (1.3).

    A host that cannot be reached, or that knows nothing of the machine any more, blocks nothing.
    """
    machine = call.machine
    relationship = machine.relationship
    begun = machine.state in (S.FAILOVER_IN_PROGRESS, S.RECOVERED)
    if not call.arguments.ask_primary or relationship is None or begun:
        return
    try:
        async with asyncio.timeout(ASK_SECONDS_MAX):
            other = await other_end(call.host, relationship)
    except (RefusedError, TimeoutError) as error:
        log.warning("primary_not_asked", machine_id=call.target, cause=str(error))
        return
    if other.mode is ReplicationMode.PRIMARY and other.running:
        raise refused_state(
            f"machine {machine.name} runs on {relationship.peer_host}",
            "shut it down there first, or make a planned failover",
        )


async def _stand_at(
    call: Call[FailOver] | Call[ChangeRecoveryPoint], point_id: str | None, *, planned: bool
) -> None:
    """Make the disks those of a point; the copy then notes its own changes."""
    machine, backend = call.machine, call.host.backend
    try:
        fresh = backend.promoted_point(call.target) is None
        if planned and fresh and backend.recovery_points(call.target):
            await keep_planned_point(backend, call.target)
        newest = _newest(backend.recovery_points(call.target))
        # From here on the back end takes no transfer: one under way is dropped, a committed one
        # is applied. What it holds then is what is failed over to.
        point = await backend.promote(call.target, point_id)
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
        return moved(_standing(present, point, applied, newest), Operation.COMPLETE_FAILOVER)

    machine = await call.change(complete)
    call.fabric.confirmed.add(call.target)
    log.info("failed_over", machine_id=call.target, epoch=machine.epoch, **_cut_of(machine))


def _newest(points: Sequence[RecoveryPoint]) -> int:
    return points[0].cut if points else 0


def _standing(
    machine: MachineRecord,
    point: RecoveryPoint | None,
    applied: AppliedCut | None,
    newest: int,
) -> MachineRecord:
    if point is None:
        return with_relationship(_holding(machine, applied), failed_over_to=None)
    stand = PointRecord(
        point_id=point.point_id,
        taken_at=point.taken_at,
        kind=point.kind,
        newest=point.cut >= newest,
    )
    return with_relationship(
        machine, last_cut=point.cut, last_cut_record=point.last_record, failed_over_to=stand
    )


def _stands_at(machine: MachineRecord, point_id: str | None, *, default: bool = False) -> bool:
    """Return whether a failed-over copy is at that point; null is the newest, or any."""
    stand = None if machine.relationship is None else machine.relationship.failed_over_to
    if stand is None:
        return point_id is None
    return (default or stand.newest) if point_id is None else stand.point_id == point_id


def _check_point(call: Call[Any], machine: MachineRecord, point_id: str | None) -> None:
    check_recovery_point(call.host.backend.recovery_points(machine.machine_id), machine, point_id)


def check_recovery_point(
    points: Sequence[RecoveryPoint], machine: MachineRecord, point_id: str | None
) -> None:
    """Refuse a point that the machine does not list."""
    if point_id is not None and point_id not in {each.point_id for each in points}:
        raise RefusedError(
            Code.NOT_FOUND,
            f"machine {machine.name} has no recovery point {point_id}",
            "choose a point that the machine lists, or the newest",
        )


async def _turn_off(call: Call[Any], machine: MachineRecord) -> None:
    if not await call.host.guests.stop(machine, CANCEL_SHUTDOWN_SECONDS):
        await call.host.guests.kill(machine)


async def _revert_bytes(call: Call[Any], machine: MachineRecord) -> bool:
    """Take a promotion back; whether the disks are those of the newest change set again.

    A copy that was failed over by a former version has no way back once it was written to.
    """
    backend = call.host.backend
    promoted = backend.promoted_point(call.target) is not None
    tracks = backend.is_tracking(call.target)
    written = not promoted and tracks and backend.pending_bytes(call.target) > 0
    try:
        await backend.detach(call.target)
        exact = await backend.revert(call.target)
    except (OSError, BackendStateError) as error:
        raise RefusedError(
            Code.NOT_AVAILABLE,
            f"the failover of machine {machine.name} cannot be taken back: {error}",
            "look at the replica's disks, then ask again",
        ) from error
    if not written:
        await backend.stop_tracking(call.target)
    return exact and not written


async def _revert_replica(call: Call[NoArguments], machine: MachineRecord) -> None:
    backend = call.host.backend
    # Who came back meanwhile may have been told that it is not the active copy, and fenced it: as a
    # replica it need not be, and the next failover starts it.
    unfenced = {"desired_running": False, "fenced": False}
    await call.change(lambda each: each.model_copy(update=unfenced))
    await _turn_off(call, machine)
    if machine.state in (S.REPLICATING, S.SUSPENDED, S.CRITICAL):
        await call.change(lambda each: moved(each, Operation.REVERT_FAILOVER))
        return
    exact = await _revert_bytes(call, machine)
    applied = backend.applied_cut(call.target)

    def revert(present: MachineRecord) -> MachineRecord:
        relationship = present.relationship
        assert relationship is not None
        # What cannot be taken back exactly the primary has to compare.
        return with_relationship(
            _holding(moved(present, Operation.REVERT_FAILOVER), applied),
            diverged=relationship.diverged or not exact,
            failed_over_to=None,
        )

    await call.change(revert)
    # Only now: a restart in between must not forget that the copy was written to.
    await backend.stop_tracking(call.target)


def require_off(call: Call[Any], machine: MachineRecord) -> None:
    """Refuse a machine that runs."""
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


def _stand_of(machine: MachineRecord) -> Result:
    stand = None if machine.relationship is None else machine.relationship.failed_over_to
    return {
        **_cut_of(machine),
        "last_cut_record": _record_of(machine),
        "recovery_point": None if stand is None else stand.point_id,
    }


def _record_of(machine: MachineRecord) -> int:
    return 0 if machine.relationship is None else machine.relationship.last_cut_record
