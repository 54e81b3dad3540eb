"""Verbs on a relationship that exists: pause, resume, resynchronize, remove; each on one end."""

from typing import Any

import structlog

from vmm_simulator.hyperv.backend import BackendStateError
from vmm_simulator.hyperv.host_guests import disk_files
from vmm_simulator.hyperv.replication import Operation, advance, allowed
from vmm_simulator.hyperv.schedule import start_at
from vmm_simulator.hyperv.source_chain import taking_over
from vmm_simulator.problems import Code, RefusedError
from vmm_simulator.verbs.arguments import DisableReplication, NoArguments, Resynchronize
from vmm_simulator.verbs.call import Call, Result, refused_state
from vmm_simulator.vmm.records import MachineRecord
from vmm_simulator.vmm.transitions import (
    moved,
    position,
    requiring_resynchronization,
    with_relationship,
    without_relationship,
)
from wire_contract.vocabulary import ReplicationMode, ReplicationState, RunState

S = ReplicationState

log = structlog.get_logger(__name__)


def check_pause(call: Call[NoArguments]) -> None:
    """Refuse where nothing replicates."""
    advance(position(call.machine), Operation.SUSPEND)


async def pause(call: Call[NoArguments]) -> Result:
    """Stop sending, or taking; what the guest writes goes on being noted (behaviour 1.5)."""
    await call.fabric.cycles.stop(call.target)
    call.reached("stopped")
    await call.change(lambda each: moved(each, Operation.SUSPEND))
    call.fabric.cycles.ensure(call.target)
    call.reached("paused")
    return {}


def check_resume(call: Call[NoArguments]) -> None:
    """Refuse where nothing was paused, failed or differs."""
    advance(position(call.machine), Operation.RESUME)


async def resume(call: Call[NoArguments]) -> Result:
    """Go on where it was; of two copies that differ the comparison begins now."""
    now = call.fabric.clock.now()

    def go_on(present: MachineRecord) -> MachineRecord:
        if present.state is S.WAITING_TO_START_RESYNCHRONIZE:
            return with_relationship(present, resynchronize_at=now)
        return with_relationship(moved(present, Operation.RESUME), last_error=None)

    if call.machine.state is not S.REPLICATING:
        # Its failures are counted anew: somebody has looked.
        await call.fabric.cycles.stop(call.target)
    call.reached("stopped")
    await call.change(go_on)
    call.fabric.cycles.ensure(call.target)
    call.reached("resumed")
    return {}


def check_resynchronize(call: Call[Resynchronize]) -> None:
    """Refuse where the copies need none and nothing was paused, and a start too far ahead."""
    possible = allowed(position(call.machine))
    if Operation.SCHEDULE_RESYNCHRONIZATION not in possible:
        advance(position(call.machine), Operation.RESYNCHRONIZE)
    start_at(call.arguments.start_at, call.fabric.clock.now())


async def resynchronize(call: Call[Resynchronize]) -> Result:
    """Have the two copies compared, now or at a time; only blocks that differ move."""
    now = call.fabric.clock.now()
    due = start_at(call.arguments.start_at, now) or now
    if call.machine.state is not S.RESYNCHRONIZING:
        await call.fabric.cycles.stop(call.target)
        call.reached("stopped")
        machine = await call.change(lambda each: _comparing(each, due))
        if machine.state is S.WAITING_TO_START_RESYNCHRONIZE:
            # Everything is compared: marks would say nothing more (behaviour 1.6).
            await call.host.backend.stop_tracking(call.target)
    call.fabric.cycles.ensure(call.target)
    call.reached("scheduled")
    return {}


def _comparing(machine: MachineRecord, due: object) -> MachineRecord:
    machine = taking_over(machine)
    if Operation.SCHEDULE_RESYNCHRONIZATION in allowed(position(machine)):
        scheduled = moved(machine, Operation.SCHEDULE_RESYNCHRONIZATION)
        return with_relationship(scheduled, resynchronize_at=due)
    return moved(machine, Operation.RESYNCHRONIZE)


def check_cancel(call: Call[NoArguments]) -> None:
    """Refuse where no comparison runs or waits."""
    advance(position(call.machine), Operation.CANCEL_RESYNCHRONIZATION)


async def cancel(call: Call[NoArguments]) -> Result:
    """End a comparison: what has arrived of it is dropped, the next one begins anew."""
    await call.fabric.cycles.stop(call.target)
    call.reached("stopped")
    await call.change(
        lambda each: with_relationship(
            moved(each, Operation.CANCEL_RESYNCHRONIZATION), resynchronize_at=None
        )
    )
    await call.host.backend.stop_tracking(call.target)
    call.fabric.cycles.ensure(call.target)
    call.reached("cancelled")
    return {}


def check_disable(call: Call[DisableReplication]) -> None:
    """Refuse while a test machine is there, and to delete what is no idle replica."""
    machine = call.fabric.store.machines.get(call.target)
    if machine is None:
        # Removed by hand, or by this verb before: there is no relationship, as was asked for.
        return
    refuse_open_test(call, machine)
    if machine.test_machine_of is not None:
        raise refused_state(f"machine {machine.name} is a test machine", "remove it as that")
    if call.arguments.delete_replica:
        _check_delete(call, machine)


def _check_delete(call: Call[DisableReplication], machine: MachineRecord) -> None:
    if machine.reserved:
        # Placed, and never made a replica: there is nothing but its record.
        return
    if machine.mode is not ReplicationMode.REPLICA:
        raise refused_state(f"machine {machine.name} is no replica", "delete it by itself")
    if machine.state in (S.FAILOVER_IN_PROGRESS, S.RECOVERED, S.COMMITTED):
        raise refused_state(
            f"machine {machine.name} is failed over", "it may be the only copy; keep it"
        )
    if call.fabric.host_of(machine).guests.run_state(machine) is not RunState.OFF:
        raise refused_state(f"machine {machine.name} runs", "shut it down first")


async def disable(call: Call[DisableReplication]) -> Result:
    """Remove the relationship on this end alone; a replica stays as a machine, or is deleted."""
    if call.target not in call.fabric.store.machines:
        call.reached("removed")
        return {}
    machine = call.machine
    await call.fabric.cycles.stop(call.target)
    try:
        await _release(call, machine)
        if call.arguments.delete_replica:
            await _delete(call, machine)
        else:
            await call.change(without_relationship)
    finally:
        # What is still a source, because this broke off, goes on.
        if call.target in call.fabric.store.machines:
            call.fabric.cycles.ensure(call.target)
    log.info("replication_removed", machine_id=call.target, mode=machine.mode.value)
    call.reached("removed")
    return {}


async def _release(call: Call[DisableReplication], machine: MachineRecord) -> None:
    if machine.mode is ReplicationMode.REPLICA:
        await _end_replica(call, machine)
    elif machine.mode is ReplicationMode.PRIMARY:
        await _stop_noting(call, machine)
    call.reached("bytes released")


async def _stop_noting(call: Call[DisableReplication], machine: MachineRecord) -> None:
    """Let the changes of a primary be noted no more.

    Durable first that its copy then differs: if the removal breaks off here, and the protection is
    used all the same, the copies are compared instead of standing still for a missing log.
    """
    if Operation.REQUIRE_RESYNCHRONIZATION in allowed(position(machine)):
        now = call.fabric.clock.now()
        await call.change(lambda each: requiring_resynchronization(each, now))
    await call.host.backend.stop_tracking(call.target)


async def _end_replica(call: Call[DisableReplication], machine: MachineRecord) -> None:
    """Let the disks be those of an ordinary machine: what was received is applied, points go."""
    backend = call.host.backend
    try:
        if machine.state in (S.RECOVERED, S.COMMITTED, S.FAILOVER_IN_PROGRESS):
            await backend.commit(call.target)
            await backend.stop_tracking(call.target)
        else:
            await backend.drop_points(call.target)
            await backend.forget_applied_cut(call.target)
    except (OSError, BackendStateError) as error:
        raise RefusedError(
            Code.NOT_AVAILABLE,
            f"the replica {machine.name} cannot be released: {error}",
            "look at the replica's disks, then ask again",
        ) from error


async def _delete(call: Call[DisableReplication], machine: MachineRecord) -> None:
    try:
        await call.host.backend.remove_disks(machine.machine_id, disk_files(machine))
    except OSError as error:
        raise RefusedError(
            Code.NOT_AVAILABLE,
            f"the disks of replica {machine.name} cannot be deleted: {error}",
            "look at the rights of the host's disks folder",
        ) from error
    await call.fabric.store.remove_machine(machine.machine_id)


def refuse_open_test(call: Call[Any], machine: MachineRecord) -> None:
    """Refuse while a test machine of this replica exists."""
    for each in call.fabric.store.machines.values():
        if each.test_machine_of == machine.machine_id:
            raise RefusedError(
                Code.IN_USE,
                f"a test failover is in progress ({each.name})",
                "complete the test failover first",
            )
