"""What an administrator does at VMM's console: each a job, checked, durable, with its effect."""

import asyncio
import errno
from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Final

from vmm_simulator import seed
from vmm_simulator.estate_requests import DiskChange, NewDisk, NewMachine
from vmm_simulator.host_life import HostLife
from vmm_simulator.hyperv.backend import BackendStateError
from vmm_simulator.hyperv.disks import make_empty
from vmm_simulator.hyperv.host_guests import disk_files
from vmm_simulator.hyperv.starting import start_blocked_by
from vmm_simulator.job_history import JobHistory
from vmm_simulator.live_migration import LiveMigration
from vmm_simulator.problems import Code, RefusedError, bad_arguments, unknown
from vmm_simulator.verbs.call import Fabric
from vmm_simulator.vmm.estate_edits import checked
from vmm_simulator.vmm.fitness import Status
from vmm_simulator.vmm.inventory import Edit, Inventory
from vmm_simulator.vmm.machine_edits import (
    ask_for_end_of_protection,
    ask_for_protection,
    create_machine,
    put_disk,
    remove_machine,
    take_as_replica,
)
from vmm_simulator.vmm.records import DiskRecord, HostRecord, MachineRecord
from wire_contract.vocabulary import ReplicationMode, RunState

STOP_SECONDS: Final = 60.0
"""How long a guest may take to shut down before it is turned off."""

_STATE_JOBS: Final = {
    Status.RUNNING: "Start virtual machine",
    Status.PAUSED: "Pause virtual machine",
    Status.SAVED: "Save virtual machine",
    Status.POWER_OFF: "Shut down virtual machine",
}

Holding = Callable[[Iterable[str]], AbstractAsyncContextManager[None]]
"""Holds the locks of machines, so that no verb runs on them meanwhile."""


class EstateControl:
    """Changes of the estate; every method is one job of VMM's history."""

    def __init__(
        self,
        fabric: Fabric,
        history: JobHistory,
        hosts: HostLife,
        migration: LiveMigration,
        holding: Holding,
    ) -> None:
        self._fabric = fabric
        self._history = history
        self._hosts = hosts
        self._migration = migration
        self._holding = holding

    async def edit(self, name: str, target: str, decide: Callable[[Inventory], Edit]) -> None:
        """Do a change of the inventory alone, in one transaction."""
        async with self._history.job(name, target):
            await self._fabric.store.edit(checked(decide))
            await self._fabric.brokers.settle()

    async def edit_machine(
        self, name: str, machine_id: str, decide: Callable[[Inventory], Edit]
    ) -> None:
        """Do the same to a machine; no verb runs on it meanwhile."""
        async with self._history.job(name, machine_id), self._holding([machine_id]):
            await self._fabric.store.edit(checked(decide))

    async def ask_for_protection(self, machine_id: str) -> None:
        """Note that an administrator wants a machine protected; its provider tells the hub."""
        now = self._fabric.clock.now()
        await self.edit_machine(
            "Change properties of virtual machine",
            machine_id,
            lambda each: ask_for_protection(each, machine_id, now),
        )

    async def ask_for_end_of_protection(self, machine_id: str) -> None:
        """Note that an administrator wants a machine's protection to end; its provider tells."""
        now = self._fabric.clock.now()
        await self.edit_machine(
            "Change properties of virtual machine",
            machine_id,
            lambda each: ask_for_end_of_protection(each, machine_id, now),
        )

    async def put_host(self, record: HostRecord) -> None:
        """Add a host, or change it."""
        async with self._history.job("Add or change host", record.fqdn):
            await self._hosts.put(record)

    async def remove_host(self, fqdn: str) -> None:
        """Take a host without machines away."""
        async with self._history.job("Remove host", fqdn):
            await self._hosts.remove(fqdn)

    async def restart_host(self, fqdn: str) -> None:
        """Restart a host, as hard as a crash for its guests."""
        machines = self._fabric.store.machines.values()
        own = [each.machine_id for each in machines if each.host == fqdn]
        async with self._history.job("Restart host", fqdn), self._holding(own):
            self._fabric.store.host(fqdn)
            await self._hosts.restart(fqdn)

    async def power_off(self) -> None:
        """Have every host go down at once, as hard as a crash for its guests."""
        async with self._holding(self._fabric.store.machines):
            for fqdn in self._fabric.store.hosts:
                await self._hosts.go_down(fqdn)

    async def power_on(self) -> None:
        """Have every host come up again; protected machines wait for their epochs."""
        async with self._holding(self._fabric.store.machines):
            for fqdn in self._fabric.store.hosts:
                await self._hosts.come_up(fqdn)

    async def migrate(self, machine_id: str, fqdn: str) -> None:
        """Move a machine to another node of its cluster while it runs."""
        self._fabric.store.machine(machine_id)
        async with (
            self._history.job("Live migrate virtual machine", machine_id),
            self._holding([machine_id]),
        ):
            await self._migration.move(machine_id, fqdn)

    async def create(self, wanted: NewMachine) -> None:
        """Create a machine: make its empty disks, then its record, then start it if asked."""
        async with (
            self._history.job("Create virtual machine", wanted.id),
            self._holding([wanted.id]),
        ):
            store = self._fabric.store
            record = self._record_of(wanted)
            # Refused before a file is made; decided again, with the record, in the transaction.
            checked(lambda inventory: create_machine(inventory, record))(store.inventory)
            made = await self._make_disks(wanted, record)
            try:
                await store.edit(checked(lambda inventory: create_machine(inventory, record)))
            except RefusedError:
                await asyncio.to_thread(_delete, made)
                raise
            if wanted.running:
                await self._fabric.host_of(record).guests.start(store.machine(wanted.id))

    async def remove(self, machine_id: str) -> None:
        """Take an unprotected machine that is off away; the files of its disks stay."""
        async with (
            self._history.job("Remove virtual machine", machine_id),
            self._holding([machine_id]),
        ):
            machine = self._fabric.store.machine(machine_id)
            host = self._fabric.host_of(machine)
            if host.guests.pid(machine_id) is not None:
                raise RefusedError(
                    Code.INVALID_STATE, f"machine {machine.name} runs", "turn it off first"
                )
            await self._fabric.store.edit(
                checked(lambda inventory: remove_machine(inventory, machine_id))
            )
            await host.backend.remove_disks(machine_id, ())

    async def take_as_replica(self, machine_id: str, *, wanted: bool) -> None:
        """Have a machine that is off wait for a primary of the same id, or no longer."""
        async with (
            self._history.job("Enable replication as replica", machine_id),
            self._holding([machine_id]),
        ):
            machine = self._fabric.store.machine(machine_id)
            run_state = self._fabric.host_of(machine).guests.run_state(machine)
            if wanted and (run_state is not RunState.OFF or machine.saved):
                raise RefusedError(
                    Code.INVALID_STATE, f"machine {machine.name} is not off", "turn it off first"
                )
            await self._fabric.store.edit(
                checked(lambda inventory: take_as_replica(inventory, machine_id, wanted=wanted))
            )

    async def set_state(self, machine_id: str, state: Status) -> None:
        """Start a machine or let it go on, pause it, save it, or shut it down."""
        async with (
            self._history.job(_STATE_JOBS[state], machine_id),
            self._holding([machine_id]),
        ):
            machine = self._fabric.store.machine(machine_id)
            if state is Status.RUNNING:
                await self._start(machine)
            elif state is Status.PAUSED:
                await self._pause(machine)
            else:
                await self._stop(machine, saved=state is Status.SAVED)

    async def put_disk(self, machine_id: str, disk_id: str, change: DiskChange) -> None:
        """Add a disk, or make one larger; of a replica too, as it has to be done on both ends."""
        async with (
            self._history.job("Change virtual disk", machine_id),
            self._holding([machine_id]),
        ):
            machine = self._fabric.store.machine(machine_id)
            disk = self._disk_after(machine, disk_id, change)
            decide = checked(lambda inventory: put_disk(inventory, machine_id, disk))
            decide(self._fabric.store.inventory)
            # No cycle sees disks that the record does not name yet.
            await self._fabric.cycles.stop(machine_id)
            try:
                await self._bring_disk_to(machine, disk)
                await self._fabric.store.edit(decide)
            finally:
                self._fabric.cycles.ensure(machine_id)

    async def _start(self, machine: MachineRecord) -> None:
        block = start_blocked_by(self._fabric.claim(machine))
        if block is not None:
            raise RefusedError(
                block.code,
                f"machine {machine.name} cannot be started: {block.reason}",
                "start the active copy",
            )
        running = {"desired_running": True, "saved": False}
        changed = await self._fabric.store.change_machine(
            machine.machine_id, lambda each: each.model_copy(update=running)
        )
        await self._fabric.host_of(changed).guests.start(changed)

    async def _pause(self, machine: MachineRecord) -> None:
        """Hold the guest; a host that goes down loses its memory: the machine then is off."""
        guests = self._fabric.host_of(machine).guests
        if guests.run_state(machine) is RunState.PAUSED:
            return
        await guests.pause(machine)
        await self._fabric.store.change_machine(
            machine.machine_id, lambda each: each.model_copy(update={"desired_running": False})
        )

    async def _stop(self, machine: MachineRecord, *, saved: bool) -> None:
        guests = self._fabric.host_of(machine).guests
        was_running = guests.pid(machine.machine_id) is not None
        if saved and not was_running and not machine.saved:
            raise RefusedError(
                Code.INVALID_STATE, f"machine {machine.name} is off", "only a running one is saved"
            )
        stopped = {"desired_running": False, "saved": saved}
        changed = await self._fabric.store.change_machine(
            machine.machine_id, lambda each: each.model_copy(update=stopped)
        )
        # A paused guest cannot end by itself; what it acknowledged is on the disks.
        paused = guests.run_state(changed) is RunState.PAUSED
        if paused or not await guests.stop(changed, STOP_SECONDS):
            await guests.kill(changed)

    def _record_of(self, wanted: NewMachine) -> MachineRecord:
        folder = self._folder_for(wanted)
        return MachineRecord(
            machine_id=wanted.id,
            hyperv_id=wanted.id,
            name=wanted.name,
            cloud_id=wanted.cloud,
            host=wanted.host,
            generation=wanted.generation,
            disks=tuple(
                DiskRecord(
                    disk_id=disk.id,
                    name=disk.name,
                    kind=disk.kind,
                    size_bytes=_size_of(disk),
                    path=str(disk.path or folder / f"disk{index}.img"),
                )
                for index, disk in enumerate(wanted.disks)
            ),
            nics=tuple(seed.nic(each) for each in wanted.nics),
            records_per_second=wanted.records_per_second,
            desired_running=wanted.running,
            processors=wanted.processors,
            memory_megabytes=wanted.memory_megabytes,
            owner=wanted.owner,
            recovery_points=wanted.recovery_points,
        )

    def _folder_for(self, wanted: NewMachine) -> Path:
        store = self._fabric.store
        root = store.host(wanted.host).disks_directory
        if wanted.store is not None:
            chosen = (each for each in store.fabric.stores if each.store_id == wanted.store)
            found = next(chosen, None)
            if found is None:
                raise unknown("store", wanted.store)
            root = found.folder
        return Path(root) / "Virtual Hard Disks" / wanted.id

    async def _make_disks(self, wanted: NewMachine, record: MachineRecord) -> list[Path]:
        made: list[Path] = []
        try:
            for disk, kept in zip(wanted.disks, record.disks, strict=True):
                if disk.size_bytes is not None:
                    await asyncio.to_thread(_make_new, Path(kept.path), disk.size_bytes)
                    made.append(Path(kept.path))
        except OSError as error:
            await asyncio.to_thread(_delete, made)
            raise _disk_failure(record.name, error) from error
        return made

    def _disk_after(self, machine: MachineRecord, disk_id: str, change: DiskChange) -> DiskRecord:
        former = next((each for each in machine.disks if each.disk_id == disk_id), None)
        if former is not None:
            return former.model_copy(update={"size_bytes": change.size_bytes})
        if change.name is None:
            raise bad_arguments(
                f"machine {machine.name} has no disk {disk_id}; give the name of the disk to add"
            )
        folder = Path(machine.disks[0].path).parent
        path = folder / f"{machine.machine_id}-{len(machine.disks)}.img"
        return DiskRecord(
            disk_id=disk_id,
            name=change.name,
            kind=change.kind,
            size_bytes=change.size_bytes,
            path=str(path),
        )

    async def _bring_disk_to(self, machine: MachineRecord, disk: DiskRecord) -> None:
        """Have the file as the record will say; what is tracked or held of the machine goes on."""
        machine_id = machine.machine_id
        backend = self._fabric.host_of(machine).backend
        ids = [each.disk_id for each in machine.disks]
        try:
            if machine.mode is not ReplicationMode.REPLICA:
                # Not by attaching: a change that a kill has interrupted is fulfilled here first.
                await backend.recover({machine_id: disk_files(machine)})
            if disk.disk_id in ids:
                await backend.resize_disk(machine_id, ids.index(disk.disk_id), disk.size_bytes)
            else:
                after = machine.model_copy(update={"disks": (*machine.disks, disk)})
                await backend.add_disk(machine_id, disk_files(after)[-1])
        except (BackendStateError, ValueError) as error:
            raise RefusedError(Code.INVALID_STATE, str(error)) from error
        except OSError as error:
            raise _disk_failure(machine.name, error) from error
        finally:
            if self._fabric.host_of(machine).guests.pid(machine_id) is None:
                await backend.detach(machine_id)


def _size_of(disk: NewDisk) -> int:
    if disk.size_bytes is not None:
        return disk.size_bytes
    assert disk.path is not None
    try:
        return disk.path.stat().st_size
    except OSError as error:
        raise bad_arguments(f"the image {disk.path} cannot be read: {error.strerror}") from error


def _make_new(path: Path, size_bytes: int) -> None:
    if path.exists():
        raise FileExistsError(errno.EEXIST, "there is such a file already", str(path))
    make_empty(path, size_bytes)


def _delete(paths: Iterable[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


def _disk_failure(machine: str, error: OSError) -> RefusedError:
    return RefusedError(
        Code.NOT_AVAILABLE,
        f"a disk of machine {machine} cannot be made: {error.filename}: {error.strerror}",
        "look at the space and the rights of its folder",
    )
