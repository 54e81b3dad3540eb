"""Setting the disks of a copy aside, before the copy is overwritten: a machine of its own."""

from pathlib import Path

import structlog

from vmm_simulator.hyperv.backend import BackendStateError
from vmm_simulator.hyperv.host_guests import disk_files
from vmm_simulator.problems import Code, RefusedError, bad_arguments
from vmm_simulator.verbs.arguments import KeepCopy
from vmm_simulator.verbs.call import Call, Result, refused_state
from vmm_simulator.vmm.records import MachineRecord, NicRecord, disk_folder
from wire_contract.vocabulary import RunState

log = structlog.get_logger(__name__)


def check_keep(call: Call[KeepCopy]) -> None:
    """Refuse a copy that runs, and an id that belongs to another machine."""
    present = call.fabric.store.machines.get(call.target)
    if present is not None and present.kept_of != call.arguments.machine_id:
        raise bad_arguments(f"the machine id {call.target} belongs to another machine")
    if present is not None:
        return
    source = call.fabric.store.machine(call.arguments.machine_id)
    if call.fabric.host_of(source).guests.run_state(source) is not RunState.OFF:
        raise refused_state(f"machine {source.name} runs", "shut it down first")


async def keep(call: Call[KeepCopy]) -> Result:
    """Copy the disks into a machine that is off, unprotected and connected to no network."""
    store = call.fabric.store
    if call.target in store.machines:
        call.reached("kept")
        return {}
    source = store.machine(call.arguments.machine_id)
    host = call.fabric.host_of(source)
    folder = Path(disk_folder(store.host(source.host), call.target))
    try:
        copies = await host.backend.copy_aside(
            source.machine_id, disk_files(source), call.target, folder
        )
    except (OSError, BackendStateError) as error:
        raise RefusedError(
            Code.NOT_AVAILABLE,
            f"the disks of machine {source.name} cannot be copied: {error}",
            "look at the space of the host's disks folder",
        ) from error
    call.reached("disks copied")
    await store.add_machine(
        MachineRecord(
            machine_id=call.target,
            hyperv_id=call.target,
            name=call.arguments.name,
            cloud_id=source.cloud_id,
            host=source.host,
            generation=source.generation,
            disks=tuple(
                disk.model_copy(update={"path": str(copy.path), "size_bytes": copy.size_bytes})
                for disk, copy in zip(source.disks, copies, strict=True)
            ),
            nics=tuple(
                NicRecord(nic_id=f"{call.target}-{index}") for index in range(len(source.nics))
            ),
            kept_of=source.machine_id,
        )
    )
    log.info("copy_kept", machine_id=call.target, kept_of=source.machine_id)
    call.reached("kept")
    return {}
