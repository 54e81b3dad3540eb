"""Verbs of reversal: the former primary becomes the replica, the copy that runs the primary."""

import structlog

from vmm_simulator.hyperv.backend import BackendStateError
from vmm_simulator.hyperv.host_control import OfferAnswer, ReplicaLocation
from vmm_simulator.hyperv.host_guests import disk_files
from vmm_simulator.hyperv.replication import Operation, advance
from vmm_simulator.hyperv.statistics import Statistics
from vmm_simulator.problems import Code, RefusedError
from vmm_simulator.verbs.arguments import PrepareReverse, ReverseReplicate
from vmm_simulator.verbs.call import Call, Result, refused_state
from vmm_simulator.verbs.failover import require_off
from vmm_simulator.verbs.protection import (
    check_host_policy,
    check_way,
    found_at,
    offer_to_broker,
    points_of,
)
from vmm_simulator.vmm.records import MachineRecord
from vmm_simulator.vmm.transitions import moved, position, with_relationship
from wire_contract.vocabulary import ReplicationMode, ReplicationState

S = ReplicationState

log = structlog.get_logger(__name__)


def check_prepare_reverse(call: Call[PrepareReverse]) -> None:
    """Refuse a copy that runs, or that cannot become a replica in this way."""
    machine = call.machine
    if not _is_replica_of(machine, call.arguments.relationship_id):
        advance(position(machine), _preparing(call.arguments))
        require_off(call, machine)
    if call.fabric.store.host(machine.host).port_of(machine.cloud_id) is None:
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
    return found_at(call.fabric.store.fabric, host, machine.cloud_id)


def check_reverse(call: Call[ReverseReplicate]) -> None:
    """Refuse a copy that was not failed over, or whose changes were not noted."""
    arguments = call.arguments
    machine = call.machine
    advance(position(machine), _reversing(arguments))
    check_host_policy(call)
    check_way(call)
    if arguments.resynchronize or machine.mode is ReplicationMode.PRIMARY:
        return
    stands_at = None if machine.relationship is None else machine.relationship.failed_over_to
    if stands_at is not None and not stands_at.newest:
        raise refused_state(
            f"machine {machine.name} stands at an older recovery point: changes alone would not"
            " make its former primary equal",
            "reverse it with resynchronization",
        )
    if not call.host.backend.is_tracking(call.target):
        raise refused_state(
            f"the changes of machine {machine.name} since its failover were not noted",
            "reverse it with resynchronization",
        )


async def reverse_replicate(call: Call[ReverseReplicate]) -> Result:
    """Make the failed-over copy the primary of the reversed relationship."""
    machine = call.machine
    place, replica = await offer_to_broker(call, machine)
    call.reached("replica ready")
    if machine.mode is ReplicationMode.REPLICA:
        try:
            # A reversal commits what was not committed (behaviour 1.3): the points go.
            await call.host.backend.commit(call.target)
            await call.host.backend.forget_applied_cut(call.target)
        except (OSError, BackendStateError) as error:
            raise RefusedError(
                Code.NOT_AVAILABLE,
                f"machine {machine.name} cannot become the primary: {error}",
                "look at the disks of the machine",
            ) from error
        await call.change(lambda each: _as_primary(call, each, place, replica))
        log.info("became_primary", machine_id=call.target, replica_host=place.host)
    call.fabric.cycles.ensure(call.target)
    call.reached("primary")
    return {}


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
        failed_over_to=None,
        resynchronize=arguments.resynchronize,
        statistics=Statistics(),
    )
    return reversed_machine.model_copy(update={"desired_running": False})


def _as_primary(
    call: Call[ReverseReplicate],
    machine: MachineRecord,
    place: ReplicaLocation,
    replica: OfferAnswer,
) -> MachineRecord:
    arguments = call.arguments
    return with_relationship(
        moved(machine, _reversing(arguments)),
        relationship_id=arguments.relationship_id,
        peer_host=place.host,
        peer_port=place.port,
        peer_broker=replica.broker,
        peer_machine_id=arguments.replica_machine_id,
        interval_seconds=arguments.interval_seconds,
        recovery_points=points_of(call),
        application_consistent_hours=arguments.application_consistent_hours,
        compression=arguments.compression,
        authentication=arguments.authentication,
        self_fence_seconds=arguments.self_fence_seconds,
        bypass_proxy=arguments.bypass_proxy,
        consistency_group=arguments.consistency_group,
        window=arguments.window,
        resynchronize=arguments.resynchronize,
        diverged=False,
        last_error=None,
        failed_over_to=None,
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
