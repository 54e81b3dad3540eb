"""Verbs of a test failover: a copy of the replica beside it; replication goes on untouched."""

from pathlib import Path

import structlog

from vmm_simulator.hyperv.backend import BackendStateError, CutKind, DiskFile
from vmm_simulator.hyperv.host_guests import disk_files
from vmm_simulator.hyperv.replication import Operation, advance
from vmm_simulator.hyperv.threads import run_to_end
from vmm_simulator.problems import Code, RefusedError, bad_arguments, unknown
from vmm_simulator.verbs.arguments import CreateTestMachine, NoArguments, PrepareTestMachine
from vmm_simulator.verbs.call import Call, Result, refused_state
from vmm_simulator.verbs.failover import check_recovery_point
from vmm_simulator.vmm.drill_adapters import connecting
from vmm_simulator.vmm.estate_edits import checked
from vmm_simulator.vmm.inventory import Edit, Inventory
from vmm_simulator.vmm.records import MachineRecord, NicRecord, disk_folder
from vmm_simulator.vmm.transitions import position, with_relationship

STOP_SECONDS = 10.0
"""How long a test guest may take to end before it is turned off: its bytes are thrown away."""

log = structlog.get_logger(__name__)


def check_create(call: Call[CreateTestMachine]) -> None:
    """Refuse an id that is taken, a replica that cannot be tested, a second test beside one."""
    replica = call.fabric.store.machine(call.arguments.replica_machine_id)
    present = call.fabric.store.machines.get(call.target)
    if present is None:
        advance(position(replica), Operation.TEST_REPLICA)
        _check_replica(call, replica)
    elif present.test_machine_of != replica.machine_id:
        raise bad_arguments(f"the machine id {call.target} belongs to another machine")


async def create(call: Call[CreateTestMachine]) -> Result:
    """Copy the replica's disks as of a recovery point into a machine of its own."""
    arguments = call.arguments
    replica = call.fabric.store.machine(arguments.replica_machine_id)
    if call.target in call.fabric.store.machines:
        call.reached("created")
        return {}
    host = call.fabric.host_of(replica)
    folder = Path(disk_folder(call.fabric.store.host(replica.host), call.target))
    try:
        copies = await host.backend.copy_for_test(
            replica.machine_id, call.target, folder, arguments.recovery_point
        )
    except (OSError, BackendStateError) as error:
        raise RefusedError(
            Code.NOT_AVAILABLE,
            f"the disks of replica {replica.name} cannot be copied: {error}",
            "look at the space of the host's disks folder",
        ) from error
    call.reached("disks copied")
    disks = tuple(
        disk.model_copy(update={"path": str(copy.path), "size_bytes": copy.size_bytes})
        for disk, copy in zip(replica.disks, copies, strict=True)
    )
    machine = MachineRecord(
        machine_id=call.target,
        hyperv_id=call.target,
        name=arguments.name,
        cloud_id=replica.cloud_id,
        host=replica.host,
        generation=replica.generation,
        disks=disks,
        # Adapters of its own: an address that one of them is granted goes with the machine.
        nics=tuple(NicRecord(nic_id=f"{nic.nic_id}-test") for nic in replica.nics),
        records_per_second=replica.records_per_second,
        epoch=call.command.epoch,
        test_machine_of=replica.machine_id,
    )
    await call.fabric.store.add_machine(machine)
    await _note_test(call, replica.machine_id)
    log.info("test_machine_created", machine_id=call.target, replica=replica.machine_id)
    call.reached("created")
    return {}


async def _note_test(call: Call[CreateTestMachine], replica_id: str) -> None:
    now = call.fabric.clock.now()

    def note(replica: MachineRecord) -> MachineRecord:
        relationship = replica.relationship
        assert relationship is not None
        tested = relationship.statistics.model_copy(update={"last_test_failover_at": now})
        return with_relationship(replica, statistics=tested)

    await call.fabric.store.change_machine(replica_id, note)


def check_prepare(call: Call[PrepareTestMachine]) -> None:
    """Refuse a machine that is no test machine, and a network that is not there."""
    _test_machine(call)
    known = {network.network_id for network in call.fabric.store.fabric.networks}
    for network_id in (call.arguments.network_id, *(call.arguments.network_ids or ())):
        if network_id is not None and network_id not in known:
            raise unknown("network", network_id)


async def prepare(call: Call[PrepareTestMachine]) -> Result:
    """Connect the adapters to the network, or leave them unconnected."""
    machine = call.machine
    each_its_own = call.arguments.network_ids
    nics = machine.nics or (NicRecord(nic_id=f"{machine.machine_id}-0"),)
    if each_its_own is None:
        networks = [call.arguments.network_id] * len(nics)
    else:
        networks = [*each_its_own, *[None] * len(nics)][: len(nics)]
    await call.change(lambda each: each.model_copy(update={"nics": nics}))
    store, environment = call.fabric.store, call.arguments.environment

    def connected(inventory: Inventory) -> Edit:
        return connecting(inventory, store.machine(call.target), networks, environment)

    await store.edit(checked(connected))
    call.reached("adapters")
    return {}


def check_remove(call: Call[NoArguments]) -> None:
    """Refuse a machine that is no test machine; one that is gone is no error."""
    if call.target in call.fabric.store.machines:
        _test_machine(call)


async def remove(call: Call[NoArguments]) -> Result:
    """End the test machine and delete its files; one that is gone is no error."""
    if call.target not in call.fabric.store.machines:
        await _remove_unfinished(call)
        call.reached("removed")
        return {}
    machine = call.machine
    host = call.host
    await call.change(lambda each: each.model_copy(update={"desired_running": False}))
    if not await host.guests.stop(machine, STOP_SECONDS):
        await host.guests.kill(machine)
    call.reached("stopped")
    try:
        await host.backend.remove_disks(machine.machine_id, disk_files(machine))
    except OSError as error:
        raise RefusedError(
            Code.NOT_AVAILABLE,
            f"the disks of test machine {machine.name} cannot be deleted: {error}",
            "look at the rights of the host's disks folder",
        ) from error
    await call.fabric.store.remove_machine(machine.machine_id)
    log.info("test_machine_removed", machine_id=machine.machine_id)
    call.reached("removed")
    return {}


async def _remove_unfinished(call: Call[NoArguments]) -> None:
    """Delete disks that were copied for a test machine which then was never noted."""
    for fqdn, host in call.fabric.hosts.items():
        folder = Path(disk_folder(call.fabric.store.host(fqdn), call.target))
        disks = await run_to_end(_copies_in, folder, call.target)
        if not disks:
            continue
        try:
            await host.backend.remove_disks(call.target, disks)
        except (OSError, BackendStateError) as error:
            raise RefusedError(
                Code.NOT_AVAILABLE,
                f"the disks of a test that broke off cannot be deleted from {folder}: {error}",
                "look at the rights of the host's disks folder",
            ) from error
        log.info("unfinished_test_removed", machine_id=call.target, host=fqdn, count=len(disks))


def _copies_in(folder: Path, machine_id: str) -> list[DiskFile]:
    found = sorted(folder.glob(f"{machine_id}-*"))
    return [DiskFile(path.name, path, path.stat().st_size) for path in found]


def _test_machine(call: Call[PrepareTestMachine] | Call[NoArguments]) -> MachineRecord:
    machine = call.machine
    if machine.test_machine_of is None:
        raise refused_state(f"machine {machine.name} is no test machine")
    return machine


def _check_replica(call: Call[CreateTestMachine], replica: MachineRecord) -> None:
    backend = call.fabric.host_of(replica).backend
    if backend.receiving(replica.machine_id) is CutKind.DIFFERENCES:
        raise refused_state(
            f"the copies of machine {replica.name} are being compared",
            "wait for the end of the resynchronization",
        )
    points = backend.recovery_points(replica.machine_id)
    check_recovery_point(points, replica, call.arguments.recovery_point)
    for machine in call.fabric.store.machines.values():
        if machine.test_machine_of == replica.machine_id:
            raise RefusedError(
                Code.IN_USE,
                f"a test failover of machine {replica.name} is in progress ({machine.name})",
                "clean up that test failover first",
            )
