"""Verbs that bring a machine under replication: place, enable, copy."""

import asyncio
from pathlib import Path

import structlog

from vmm_simulator.hyperv.backend import Authentication, BackendStateError
from vmm_simulator.hyperv.host_control import Offer, OfferAnswer, OfferedDisk, ReplicaLocation
from vmm_simulator.hyperv.host_guests import disk_files
from vmm_simulator.hyperv.replication import Operation, advance
from vmm_simulator.hyperv.schedule import check_policy, points_kept, start_at
from vmm_simulator.problems import Code, RefusedError, bad_arguments, unknown
from vmm_simulator.verbs.arguments import (
    EnableReplication,
    InOfflineFolder,
    NoArguments,
    PlaceReplica,
    ReverseReplicate,
    StartInitialReplication,
)
from vmm_simulator.verbs.call import Call, Result, refused_state
from vmm_simulator.vmm.capacity import Needs
from vmm_simulator.vmm.fitness import unfit_for_protection
from vmm_simulator.vmm.inventory import Edit, Inventory
from vmm_simulator.vmm.placement import Place, Wish, check_cloud_capacity, place_replica
from vmm_simulator.vmm.records import (
    DiskRecord,
    FabricRecord,
    HostRecord,
    MachineRecord,
    NicRecord,
    disk_folder,
)
from vmm_simulator.vmm.relationship_records import RelationshipRecord
from vmm_simulator.vmm.transitions import moved, position, with_relationship
from wire_contract.vocabulary import ReplicationMode, ReplicationState

log = structlog.get_logger(__name__)


async def place(call: Call[PlaceReplica]) -> Result:
    """Reserve a machine record on a host of the cloud, and in the best store that it sees."""
    arguments = call.arguments
    present = call.fabric.store.machines.get(call.target)
    if present is None:
        _refuse_twin(call)
        # Chosen and reserved at once: no host goes, and no room is taken, in between.
        await call.fabric.store.edit(lambda inventory: _reservation(call, inventory))
        present = call.fabric.store.machine(call.target)
    elif (present.hyperv_id, present.cloud_id) != (arguments.hyperv_id, arguments.cloud_id):
        raise bad_arguments(f"the machine id {call.target} belongs to another machine")
    call.reached("reserved")
    host = call.fabric.store.host(present.host)
    return found_at(call.fabric.store.fabric, host, arguments.cloud_id)


def found_at(fabric: FabricRecord, host: HostRecord, cloud_id: str) -> Result:
    """Return where a primary's host finds a replica on this host.

    A clustered one is asked for at its cluster's replica broker, by who knows the address.
    """
    found: Result = {"replica_host": host.fqdn, "replica_port": host.port_of(cloud_id)}
    cluster = fabric.cluster(host.cluster)
    if cluster is not None and cluster.broker is not None:
        found["replica_broker"] = cluster.broker.name
    return found


def check_enable(call: Call[EnableReplication]) -> None:
    """Refuse a machine that replicates already, is a test machine, or cannot be protected now."""
    advance(position(call.machine), Operation.CREATE_PRIMARY)
    _refuse_other_relationship(call)
    check_host_policy(call)
    check_way(call)
    run_state = call.host.guests.run_state(call.machine)
    unfit = unfit_for_protection(call.fabric.store.inventory, call.machine, run_state)
    if unfit is not None:
        raise refused_state(f"machine {call.machine.name} cannot be protected: {unfit}")


async def enable(call: Call[EnableReplication]) -> Result:
    """Create the relationship on both ends: replica shell in state 2, primary in state 1."""
    arguments = call.arguments
    place, replica = await offer_to_broker(call, call.machine)
    call.reached("replica created")
    now = call.fabric.clock.now()

    def create(present: MachineRecord) -> MachineRecord:
        if present.relationship is not None:
            # It replicates already: it goes on with the settings of now (behaviour 2.3).
            return with_relationship(
                moved(present, Operation.CREATE_PRIMARY),
                interval_seconds=arguments.interval_seconds,
                recovery_points=points_of(call),
                application_consistent_hours=arguments.application_consistent_hours,
                compression=arguments.compression,
                self_fence_seconds=arguments.self_fence_seconds,
                consistency_group=arguments.consistency_group,
                window=arguments.window,
            )
        relationship = RelationshipRecord(
            relationship_id=arguments.relationship_id,
            mode=ReplicationMode.NONE,
            state=ReplicationState.DISABLED,
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
            established_at=now,
        )
        unrelated = present.model_copy(update={"relationship": relationship})
        return moved(unrelated, Operation.CREATE_PRIMARY)

    await call.change(create)
    # Until now nothing else could be the active copy: what runs here may go on.
    call.fabric.confirmed.add(call.target)
    call.reached("primary created")
    return {}


def check_copy(call: Call[StartInitialReplication]) -> None:
    """Refuse a machine without a relationship to copy for, or a start too far ahead."""
    advance(position(call.machine), Operation.START_INITIAL_REPLICATION)
    start_at(call.arguments.start_at, call.fabric.clock.now())


async def start_copy(call: Call[StartInitialReplication]) -> Result:
    """Begin the whole copy now or at its time; changes are noted from before it on."""
    machine = call.machine
    if machine.state in (ReplicationState.READY, ReplicationState.CRITICAL):
        later = start_at(call.arguments.start_at, call.fabric.clock.now())
        # A cycle that has given up counts its failures anew.
        await call.fabric.cycles.stop(call.target)
        if later is None:
            await start_tracking(call, machine)
            call.reached("tracking")

        def begin(present: MachineRecord) -> MachineRecord:
            assert present.relationship is not None
            differences = call.arguments.resynchronize or present.relationship.resynchronize
            waiting = later is not None and present.state is ReplicationState.READY
            begun = present if waiting else moved(present, Operation.START_INITIAL_REPLICATION)
            return with_relationship(
                begun, resynchronize=differences, scheduled_at=later if waiting else None
            )

        await call.change(begin)
    call.fabric.cycles.ensure(call.target)
    call.reached("copying")
    return {}


def check_replicates(call: Call[NoArguments]) -> None:
    """Refuse a machine without a relationship."""
    machine = call.machine
    if machine.relationship is None:
        raise refused_state(f"machine {machine.name} does not replicate", "enable it first")


async def complete_copy(call: Call[NoArguments]) -> Result:
    """Return when replication is established, on either end; bounded by the deadline."""
    machine = call.machine
    try:
        async with asyncio.timeout(call.seconds_left()):
            await call.fabric.store.wait_for_machine(call.target, _established)
    except TimeoutError as error:
        raise RefusedError(
            Code.TIMEOUT,
            f"the initial replication of machine {machine.name} has not ended",
            "look at its progress and at its last error; ask again",
        ) from error
    call.reached("established")
    return {}


async def offer_to_broker(
    call: Call[EnableReplication] | Call[ReverseReplicate], machine: MachineRecord
) -> tuple[ReplicaLocation, OfferAnswer]:
    """Offer to the broker of the replica's cluster, and to the node that it names (1.10).

    A broker that has no address, or does not answer, leaves it to the node that was placed on.
    """
    arguments, broker = call.arguments, call.arguments.replica_broker
    place = ReplicaLocation(host=arguments.replica_host, port=arguments.replica_port)
    if broker is not None and call.host.knows(broker):
        asked = ReplicaLocation(host=broker, port=place.port)
        try:
            answer = await _offer(call, machine, asked)
        except RefusedError as refusal:
            if refusal.code != Code.NO_CONNECTION:
                raise
            log.warning("broker_not_reached", broker=broker, cause=refusal.message)
        else:
            place = answer.node or place
            if answer.made:
                return place, answer
    return place, await _offer(call, machine, place)


async def _offer(
    call: Call[EnableReplication] | Call[ReverseReplicate],
    machine: MachineRecord,
    place: ReplicaLocation,
) -> OfferAnswer:
    """Have the replica's host make the replica, or say that it is ready for this relationship."""
    arguments = call.arguments
    host = call.host
    return await host.offer(
        host.peer(place.host, place.port, arguments),
        Offer(
            relationship_id=arguments.relationship_id,
            epoch=machine.epoch,
            hyperv_id=machine.hyperv_id,
            replica_machine_id=arguments.replica_machine_id,
            primary_machine_id=machine.machine_id,
            primary_host=host.fqdn,
            primary_port=call.fabric.store.host(host.fqdn).port_of(machine.cloud_id) or 0,
            disks=tuple(
                OfferedDisk(disk_id=disk.disk_id, size_bytes=disk.size_bytes)
                for disk in machine.disks
            ),
            records_per_second=machine.records_per_second,
            processors=machine.processors,
            memory_megabytes=machine.memory_megabytes,
            interval_seconds=arguments.interval_seconds,
            recovery_points=points_of(call),
            application_consistent_hours=arguments.application_consistent_hours,
            compression=arguments.compression,
            authentication=arguments.authentication,
            bypass_proxy=arguments.bypass_proxy,
        ),
    )


async def start_tracking(
    call: Call[StartInitialReplication] | Call[InOfflineFolder], machine: MachineRecord
) -> None:
    """Note changes from here on; a refusal when the disks cannot be used."""
    try:
        await call.host.backend.attach(machine.machine_id, disk_files(machine))
        await call.host.backend.start_tracking(machine.machine_id)
    except (OSError, BackendStateError) as error:
        raise RefusedError(
            Code.NOT_AVAILABLE,
            f"the disks of machine {machine.name} cannot be tracked: {error}",
            "look at the disks of the machine",
        ) from error


def check_host_policy(call: Call[EnableReplication] | Call[ReverseReplicate]) -> None:
    """Refuse an interval or a number of points that the machine's host does not know."""
    version = call.fabric.store.host(call.machine.host).version
    check_policy(version, call.arguments.interval_seconds, call.arguments.recovery_points)


def points_of(call: Call[EnableReplication] | Call[ReverseReplicate]) -> int:
    """Return how many additional points the relationship of the call's machine keeps."""
    version = call.fabric.store.host(call.machine.host).version
    return points_kept(version, call.arguments.recovery_points, call.machine.recovery_points)


def check_way(call: Call[EnableReplication] | Call[ReverseReplicate]) -> None:
    """Refuse Kerberos on a host that cannot take part in it."""
    if call.arguments.authentication is Authentication.KERBEROS:
        call.host.tickets()


def _established(machine: MachineRecord) -> bool:
    return machine.state is ReplicationState.REPLICATING


def _refuse_twin(call: Call[PlaceReplica]) -> None:
    """One server may have both ends, in two clouds (seed, step 4), but each of them only once."""
    arguments = call.arguments
    for machine in call.fabric.store.machines.values():
        if machine.hyperv_id != arguments.hyperv_id or machine.test_machine_of is not None:
            continue
        is_a_replica = machine.reserved or machine.mode is ReplicationMode.REPLICA
        if is_a_replica or machine.cloud_id == arguments.cloud_id:
            raise RefusedError(
                Code.IN_USE,
                f"machine {machine.name} ({machine.machine_id}) is a copy of"
                f" {arguments.hyperv_id} already",
                "remove that copy first; one cloud holds one copy of a machine, and one site one"
                " replica",
            )


def _refuse_other_relationship(call: Call[EnableReplication]) -> None:
    relationship = call.machine.relationship
    if relationship is None:
        return
    if relationship.relationship_id != call.arguments.relationship_id:
        raise refused_state(
            f"machine {call.machine.name} replicates already"
            f" (relationship {relationship.relationship_id})",
            "remove that relationship first",
        )


def _reservation(call: Call[PlaceReplica], inventory: Inventory) -> Edit:
    cloud, wish = inventory.clouds.get(call.arguments.cloud_id), _wish(call.arguments)
    if cloud is None:
        raise unknown("cloud", call.arguments.cloud_id)
    others = tuple(inventory.machines.values())
    check_cloud_capacity(cloud, others, wish.needs)
    candidates, primary_host = inventory.hosts_of(cloud), call.arguments.primary_host
    chosen = place_replica(inventory.fabric, candidates, others, primary_host, wish)
    return Edit(put=(_reserved(call, chosen),))


def _wish(arguments: PlaceReplica) -> Wish:
    return Wish(
        needs=Needs(
            arguments.processors,
            arguments.memory_megabytes,
            sum(disk.size_bytes for disk in arguments.disks),
        ),
        classification_id=arguments.classification_id,
        network_ids=arguments.network_ids,
        cloud_id=arguments.cloud_id,
        primary_brokers=_brokers(arguments),
    )


def _brokers(arguments: PlaceReplica) -> tuple[str, ...]:
    return () if arguments.primary_broker is None else (arguments.primary_broker,)


def _reserved(call: Call[PlaceReplica], place: Place) -> MachineRecord:
    arguments = call.arguments
    host = place.host
    folder = disk_folder(
        host, call.target, place.store, arguments.primary_host, _brokers(arguments)
    )
    return MachineRecord(
        machine_id=call.target,
        hyperv_id=arguments.hyperv_id,
        name=arguments.name,
        cloud_id=arguments.cloud_id,
        host=host.fqdn,
        generation=arguments.generation,
        disks=tuple(
            DiskRecord(
                disk_id=disk.disk_id,
                name=disk.name,
                kind=disk.kind,
                size_bytes=disk.size_bytes,
                # The name comes from elsewhere: it does not become part of a path.
                path=str(Path(folder) / f"disk{index}.img"),
            )
            for index, disk in enumerate(arguments.disks)
        ),
        # A replica's adapters are connected by a network mapping alone (behaviour 2.5).
        nics=tuple(
            NicRecord(nic_id=each.nic_id, synthetic=each.synthetic) for each in arguments.adapters
        ),
        epoch=call.command.epoch,
        reserved=True,
        processors=arguments.processors,
        memory_megabytes=arguments.memory_megabytes,
    )
