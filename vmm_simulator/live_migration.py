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
        node = store.host(target_fqdn)
        if store.machine(machine_id).host == target_fqdn:
            return

        def begin(inventory: Inventory) -> Edit:
            machine = inventory.machines[machine_id]
            check_migration(inventory, machine, node)
            return Edit(put=(machine.model_copy(update={"migrating_to": target_fqdn}),))

        await store.edit(begin)
        machine, target = store.machine(machine_id), self._fabric.hosts[target_fqdn]
        source = self._fabric.host_of(machine)
        await self._fabric.cycles.stop(machine_id)
        guest = source.guests.let_go(machine_id)
        try:
            await self._carry(machine, source, target)
        except (OSError, BackendStateError, RefusedError) as error:
            await self._stay(machine, source, guest)
            raise RefusedError(
                Code.FAILED,
                f"machine {machine.name} could not be moved to {target_fqdn}: {error}",
                "look at the simulator's data directory; the machine is where it was",
            ) from error
        except BaseException:
            # The site ends: no host will serve this guest any more.
            if guest is not None:
                await guest.end()
            raise
        await self._go_on(store.machine(machine_id), target, guest)
        log.info("machine_migrated", machine_id=machine_id, source=source.fqdn, host=target_fqdn)

    async def _carry(self, machine: MachineRecord, source: Host, target: Host) -> None:
        """Bring what is kept of the machine to the target and note it, or undo both.

        The record changes last: who asks the target finds everything there. A kill in between is
        settled at the next start: the machine is where its folder is.
        """
        machine_id = machine.machine_id
        here = await source.backend.let_go(machine_id)
        there = self._maker.folder_of(target.fqdn, machine_id)
        if here.exists():
            _rename(here, there)
        try:
            await _open(target, machine)
            await self._fabric.store.change_machine(
                machine_id, lambda each: _placed(each, target.fqdn)
            )
        except (OSError, BackendStateError, RefusedError):
            await target.backend.let_go(machine_id)
            if there.exists():
                _rename(there, here)
            raise

    async def _stay(self, machine: MachineRecord, source: Host, guest: MovingGuest | None) -> None:
        """Go on where the machine was."""
        try:
            await _open(source, machine)
        except (OSError, BackendStateError) as error:
            if guest is not None:
                await guest.end()
            raise _unusable(machine, source, error) from error
        await self._go_on(machine, source, guest)
        await self._fabric.store.change_machine(
            machine.machine_id, lambda each: _placed(each, source.fqdn)
        )

    async def _go_on(self, machine: MachineRecord, host: Host, guest: MovingGuest | None) -> None:
        """Have the machine's guest and its replication go on where its bytes are open."""
        if guest is not None:
            try:
                await host.guests.take(machine, guest)
            except (OSError, BackendStateError) as error:
                await guest.end()
                raise _unusable(machine, host, error) from error
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


async def _open(host: Host, machine: MachineRecord) -> None:
    host.backend.take_in(machine.machine_id)
    await host.backend.recover({machine.machine_id: disk_files(machine)})


def _unusable(machine: MachineRecord, host: Host, error: Exception) -> RefusedError:
    return RefusedError(
        Code.FAILED,
        f"machine {machine.name} is on {host.fqdn}, but its disks cannot be used: {error}",
        "look at the disks, then start the machine",
    )


def _placed(machine: MachineRecord, fqdn: str) -> MachineRecord:
    return machine.model_copy(update={"host": fqdn, "migrating_to": None})


def _rename(folder: Path, target: Path) -> None:
    """Move a folder in one step that survives a power cut."""
    target.parent.mkdir(parents=True, exist_ok=True)
    folder.rename(target)
    sync_folder(target.parent)
    sync_folder(folder.parent)
