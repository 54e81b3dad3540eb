"""Live migration: a machine goes to another node of its cluster while its guest goes on.

Its change log, its marks, what a replica holds, its state and its statistics travel along
(behaviour 1.5), so that replication goes on without a resynchronization. The disks stay where they
are: both nodes see their store. The guest's writes are held while the folder changes its host.
"""

from pathlib import Path

import structlog

from vmm_simulator.host_maker import HostMaker
from vmm_simulator.hyperv.backend import BackendStateError
from vmm_simulator.hyperv.disks import sync_folder
from vmm_simulator.hyperv.host import Host
from vmm_simulator.hyperv.host_guests import MovingGuest, disk_files
from vmm_simulator.problems import Code, RefusedError
from vmm_simulator.store import InventoryStore
from vmm_simulator.verbs.call import Fabric
from vmm_simulator.vmm.inventory import Edit, Inventory
from vmm_simulator.vmm.migration import check_migration
from vmm_simulator.vmm.records import MachineRecord

log = structlog.get_logger(__name__)


class LiveMigration:
    """Moves machines; the caller holds the machine's lock, so that no verb runs meanwhile."""

    def __init__(self, fabric: Fabric, maker: HostMaker) -> None:
        self._fabric = fabric
        self._maker = maker

    async def move(self, machine_id: str, target_fqdn: str) -> None:
        """Move a machine; refused before anything happens, or back where it was on an error."""
        store = self._fabric.store
        target = store.host(target_fqdn)
        if store.machine(machine_id).host == target_fqdn:
            return

        def begin(inventory: Inventory) -> Edit:
            machine = inventory.machines[machine_id]
            check_migration(inventory, machine, target)
            return Edit(put=(machine.model_copy(update={"migrating_to": target_fqdn}),))

        await store.edit(begin)
        machine = store.machine(machine_id)
        source = self._fabric.host_of(machine)
        await self._fabric.cycles.stop(machine_id)
        guest = source.guests.let_go(machine_id)
        try:
            await self._carry(machine, source, target_fqdn)
        except (OSError, BackendStateError, RefusedError) as error:
            await self._serve(machine, source, guest)
            raise RefusedError(
                Code.FAILED,
                f"machine {machine.name} could not be moved to {target_fqdn}: {error}",
                "look at the simulator's data directory; the machine is where it was",
            ) from error
        await self._serve(store.machine(machine_id), self._fabric.hosts[target_fqdn], guest)
        log.info("machine_migrated", machine_id=machine_id, source=source.fqdn, host=target_fqdn)

    async def _carry(self, machine: MachineRecord, source: Host, target_fqdn: str) -> None:
        """Bring what is kept of the machine to the target and note it, or leave both as they were.

        A kill in between is settled at the next start: the machine is where its folder is.
        """
        machine_id, store = machine.machine_id, self._fabric.store
        try:
            folder = await source.backend.let_go(machine_id)
            target = self._maker.folder_of(target_fqdn, machine_id)
            if folder.exists():
                _rename(folder, target)
            try:
                await store.change_machine(machine_id, lambda each: _placed(each, target_fqdn))
            except RefusedError:
                if target.exists():
                    _rename(target, folder)
                raise
        except (OSError, BackendStateError, RefusedError):
            await store.change_machine(machine_id, lambda each: _placed(each, source.fqdn))
            raise

    async def _serve(self, machine: MachineRecord, host: Host, guest: MovingGuest | None) -> None:
        """Have the machine's replication and its guest go on where it is."""
        try:
            await host.backend.recover({machine.machine_id: disk_files(machine)})
            if guest is not None:
                await host.guests.take(machine, guest)
        except (OSError, BackendStateError) as error:
            if guest is not None:
                await guest.end()
            raise RefusedError(
                Code.FAILED,
                f"machine {machine.name} is on {host.fqdn}, but its disks cannot be used: {error}",
                "look at the disks, then start the machine",
            ) from error
        self._fabric.cycles.ensure(machine.machine_id)


async def finish_migrations(store: InventoryStore, maker: HostMaker) -> None:
    """After a start: a machine that was being moved is where its folder is."""
    for machine in list(store.machines.values()):
        if machine.migrating_to is None:
            continue
        host = machine.migrating_to if _is_moved(machine, maker) else machine.host
        await store.change_machine(
            machine.machine_id,
            lambda each, host=host: _placed(each, host),  # type: ignore[misc]
        )
        log.warning("migration_ended_at_start", machine_id=machine.machine_id, host=host)


def _is_moved(machine: MachineRecord, maker: HostMaker) -> bool:
    assert machine.migrating_to is not None
    there = maker.folder_of(machine.migrating_to, machine.machine_id)
    return there.exists() and not maker.folder_of(machine.host, machine.machine_id).exists()


def _placed(machine: MachineRecord, fqdn: str) -> MachineRecord:
    return machine.model_copy(update={"host": fqdn, "migrating_to": None})


def _rename(folder: Path, target: Path) -> None:
    """Move a folder in one step that survives a power cut."""
    target.parent.mkdir(parents=True, exist_ok=True)
    folder.rename(target)
    sync_folder(target.parent)
    sync_folder(folder.parent)
