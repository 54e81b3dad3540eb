"""Verbs of an initial replication by a medium, and of one that is given up (behaviour 1.2)."""

import asyncio
import re
import shutil
from pathlib import Path
from typing import Any, Final

import structlog

from vmm_simulator.hyperv.backend import BackendStateError, CutKind
from vmm_simulator.hyperv.point_keeping import keep_point
from vmm_simulator.hyperv.replication import Operation, advance
from vmm_simulator.problems import Code, RefusedError
from vmm_simulator.verbs.arguments import InOfflineFolder, NoArguments
from vmm_simulator.verbs.call import Call, Result, refused_state
from vmm_simulator.verbs.protection import start_tracking
from vmm_simulator.vmm.offline_folders import offline_folder, real_folder
from vmm_simulator.vmm.records import MachineRecord
from vmm_simulator.vmm.transitions import moved, position, with_relationship
from wire_contract.vocabulary import ReplicationState

S = ReplicationState

_UNFIT: Final = re.compile(r"[^A-Za-z0-9._-]")

log = structlog.get_logger(__name__)


def check_cancel(call: Call[NoArguments]) -> None:
    """Refuse a copy that is complete, and an export that has ended."""
    machine = call.machine
    advance(position(machine), Operation.CANCEL_INITIAL_REPLICATION)
    if machine.relationship is not None and machine.relationship.exported:
        raise refused_state(
            f"the export of machine {machine.name} is complete: it cannot be cancelled",
            "import it, or remove the relationship",
        )


async def cancel(call: Call[NoArguments]) -> Result:
    """End the copy; what was exported so far is deleted, the next one begins anew."""
    relationship = call.machine.relationship
    await call.fabric.cycles.stop(call.target)
    call.reached("stopped")
    if relationship is not None and relationship.exported_to is not None:
        await asyncio.to_thread(_delete_export, Path(relationship.exported_to))
    await call.change(
        lambda each: with_relationship(
            moved(each, Operation.CANCEL_INITIAL_REPLICATION),
            scheduled_at=None,
            exported_to=None,
            last_error=None,
        )
    )
    await call.host.backend.stop_tracking(call.target)
    call.reached("cancelled")
    return {}


def check_export(call: Call[InOfflineFolder]) -> None:
    """Refuse a machine whose copy has begun otherwise, and a folder that cannot be used."""
    machine = call.machine
    advance(position(machine), Operation.EXPORT_INITIAL_REPLICATION)
    relationship = machine.relationship
    if machine.state is not S.READY and relationship is not None and not relationship.exported_to:
        raise refused_state(
            f"the copy of machine {machine.name} has begun over the network", "cancel it first"
        )
    _folder(call, machine)


async def export(call: Call[InOfflineFolder]) -> Result:
    """Begin to write the copy into a folder of its own; changes follow, and are held there."""
    machine = call.machine
    relationship = machine.relationship
    assert relationship is not None
    name = f"{_UNFIT.sub('_', machine.name)}_{machine.hyperv_id}"
    folder = _folder(call, machine) / name
    if machine.state is S.READY:
        await call.host.have_import_awaited(
            call.host.peer_of(relationship), relationship.relationship_id
        )
        call.reached("import awaited")
        await start_tracking(call, machine)
        await call.change(
            lambda each: with_relationship(
                moved(each, Operation.EXPORT_INITIAL_REPLICATION),
                exported_to=str(folder),
                exported=False,
                scheduled_at=None,
            )
        )
        log.info("export_begins", machine_id=call.target, folder=str(folder))
    call.fabric.cycles.ensure(call.target)
    call.reached("exporting")
    return {"folder": f"{call.arguments.folder.rstrip(chr(92))}\\{name}"}


def check_import(call: Call[InOfflineFolder]) -> None:
    """Refuse a machine that awaits no copy, and a folder that cannot be used."""
    machine = call.machine
    advance(position(machine), Operation.IMPORT_INITIAL_REPLICATION)
    if machine.state is not S.REPLICATING:
        _folder(call, machine)


async def import_copy(call: Call[InOfflineFolder]) -> Result:
    """Bring the exported copy onto the replica's disks, then what was held meanwhile."""
    machine = call.machine
    if machine.state is not S.REPLICATING:
        backend = call.host.backend
        try:
            with call.fabric.cycles.importing(call.target) as progress:
                applied = await backend.import_seed(call.target, _folder(call, machine), progress)
        except ValueError as error:
            raise RefusedError(
                Code.INVALID_PARAMETER,
                f"the folder {call.arguments.folder} holds no copy of {machine.name}: {error}",
                "name the folder of this machine, or export it again",
            ) from error
        except (OSError, BackendStateError) as error:
            raise RefusedError(
                Code.NOT_AVAILABLE,
                f"the copy of {machine.name} cannot be imported: {error}",
                "look at the folder, and at the space of the host's disks folder",
            ) from error
        call.reached("imported")
        cause = await keep_point(backend, machine, applied, CutKind.FULL)

        def complete(present: MachineRecord) -> MachineRecord:
            return with_relationship(
                moved(present, Operation.IMPORT_INITIAL_REPLICATION),
                last_cut=applied.cut,
                last_cut_record=applied.last_record,
                last_replication_at=call.fabric.clock.now(),
                awaits_import=False,
                last_error=cause,
            )

        machine = await call.change(complete)
        log.info("initial_copy_imported", machine_id=call.target)
    call.reached("replicating")
    return {"last_cut": 0 if machine.relationship is None else machine.relationship.last_cut}


def _folder(call: Call[Any], machine: MachineRecord) -> Path:
    store = call.fabric.store
    share = offline_folder(
        call.arguments.folder,
        store.fabric.file_shares,
        service_account=store.service.service_account,
        using_hosts=(store.host(machine.host),),
        all_hosts=tuple(store.hosts),
        further_servers=call.arguments.further_servers,
    )
    return Path(real_folder(call.arguments.folder, share))


def _delete_export(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)
