"""The guests of one host: processes that are started, questioned, stopped; never remembered."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from vmm_simulator.guest.interface import (
    GuestHandle,
    GuestSpec,
    GuestStartError,
    GuestState,
    GuestStorage,
)
from vmm_simulator.hyperv.backend import BackendStateError, DiskFile, ReplicationBackend
from vmm_simulator.problems import Code, RefusedError
from vmm_simulator.vmm.records import MachineRecord
from wire_contract.vocabulary import RunState

UNLOCK_SECONDS_MAX: Final = 10.0
"""Longest a start waits for the images: a guest of a killed host ends within moments."""

CHALLENGE_SECONDS: Final = 5.0
"""Longest a guest may take to answer a nonce."""

FREEZE_SECONDS: Final = 5.0
"""Longest a guest may take to hold still for a cut; then the cut is a crash-consistent one."""

THAW_SECONDS: Final = 5.0

_POLL_SECONDS: Final = 0.05

log = structlog.get_logger(__name__)

StartGuest = Callable[[GuestSpec, GuestStorage], Awaitable[GuestHandle]]
ImagesLocked = Callable[[Sequence[Path]], bool]


@dataclass(frozen=True, slots=True)
class GuestSurroundings:
    """What guests need from their host; `start` and `locked` are the supervisor's."""

    start: StartGuest
    locked: ImagesLocked
    ledger_socket: Path | None
    log_directory: Path


class HostedStorage:
    """A guest's writes on their way through the host, where changes are noted.

    While the machine moves to another host they are held, in their order: a guest waits for its
    flush before it goes on, so they are few.
    """

    def __init__(self, backend: ReplicationBackend, machine_id: str) -> None:
        self._backend = backend
        self._machine_id = machine_id
        self._held: list[tuple[int, int, bytes, int]] | None = None
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._lost: Exception | None = None

    def write(self, disk_index: int, offset: int, data: bytes, record: int) -> None:
        """Write (not yet durable); PermissionError when this copy may not write any more."""
        if self._held is not None:
            self._held.append((disk_index, offset, data, record))
            return
        self._backend.write(self._machine_id, disk_index, offset, data, record)

    async def flush(self) -> None:
        """Return when all writes so far are durable."""
        await self._flowing.wait()
        if self._lost is not None:
            raise self._lost
        await self._backend.flush(self._machine_id)

    def hold(self) -> None:
        """Take writes without bringing them to the disks, and finish no flush."""
        self._held = [] if self._held is None else self._held
        self._flowing.clear()

    def drop(self) -> None:
        """Lose what is held, and say so to the guest's flush."""
        self._held = []
        self._lost = OSError("no host serves the machine's disks any more")
        self._flowing.set()

    def go_on(self, backend: ReplicationBackend) -> None:
        """Bring what was held to this back end's disks, and all further writes."""
        held, self._held = self._held or [], None
        self._backend = backend
        try:
            for write in held:
                backend.write(self._machine_id, *write)
        except Exception as error:  # noqa: BLE001 -- the guest's next flush raises it
            self._lost = error
        self._flowing.set()


@dataclass(frozen=True, slots=True)
class MovingGuest:
    """A guest between two hosts; its writes are held."""

    handle: GuestHandle
    storage: HostedStorage

    async def end(self) -> None:
        """End a guest that no host can serve; what was held of it is not written."""
        self.storage.drop()
        await self.handle.kill()


class HostGuests:
    """The guest processes that this host has started."""

    def __init__(self, backend: ReplicationBackend, surroundings: GuestSurroundings) -> None:
        self._backend = backend
        self._surroundings = surroundings
        self._handles: dict[str, GuestHandle] = {}
        self._storages: dict[str, HostedStorage] = {}

    def let_go(self, machine_id: str) -> MovingGuest | None:
        """Hold a running guest's writes and give it away; None where none runs."""
        handle = self._handles.get(machine_id)
        if handle is None or not handle.running:
            return None
        storage = self._storages.pop(machine_id)
        storage.hold()
        return MovingGuest(self._handles.pop(machine_id), storage)

    async def take(self, machine: MachineRecord, guest: MovingGuest) -> None:
        """Serve a guest that another host gave away; its disks are opened here first."""
        await self._backend.attach(machine.machine_id, disk_files(machine))
        self._backend.allow_writes(machine.machine_id)
        self._handles[machine.machine_id] = guest.handle
        self._storages[machine.machine_id] = guest.storage
        guest.storage.go_on(self._backend)

    def run_state(self, machine: MachineRecord) -> RunState:
        """Return how the machine runs, read from its process or the locks on its images."""
        handle = self._handles.get(machine.machine_id)
        if handle is not None and handle.running:
            return RunState.PAUSED if handle.paused else RunState.RUNNING
        locked = self._surroundings.locked(_paths(machine))
        return RunState.RUNNING if locked else RunState.OFF

    def pid(self, machine_id: str) -> int | None:
        """Return the process id of a running guest."""
        handle = self._handles.get(machine_id)
        return handle.pid if handle is not None and handle.running else None

    async def start(self, machine: MachineRecord) -> None:
        """Return when a guest of this machine runs; one that is there stays, and goes on."""
        machine_id = machine.machine_id
        present = self._handles.get(machine_id)
        if present is not None and present.running:
            if present.paused:
                present.resume()
                log.info("guest_resumed", machine_id=machine_id)
            return
        await self.wait_unlocked(machine)
        spec = GuestSpec(
            machine_id=machine.hyperv_id,
            name=machine.name,
            epoch=machine.epoch,
            disks=_paths(machine),
            records_per_second=machine.records_per_second,
            # What a test machine writes is thrown away: it is nobody's loss.
            ledger_socket=(
                self._surroundings.ledger_socket if machine.test_machine_of is None else None
            ),
            log_file=self._surroundings.log_directory / f"guest-{machine_id}.log",
        )
        try:
            await self._backend.attach(machine_id, disk_files(machine))
            self._backend.allow_writes(machine_id)
            storage = HostedStorage(self._backend, machine_id)
            self._storages[machine_id] = storage
            self._handles[machine_id] = await self._surroundings.start(spec, storage)
        except (OSError, BackendStateError, GuestStartError) as error:
            raise RefusedError(
                Code.FAILED,
                f"machine {machine.name} cannot be started: {error}",
                "look at its disks and at the guest's log",
            ) from error
        log.info("guest_started", machine_id=machine_id, epoch=machine.epoch)

    async def pause(self, machine: MachineRecord) -> None:
        """Hold the guest where it stands; refused where none runs, or it cannot be held."""
        handle = self._handles.get(machine.machine_id)
        if handle is None or not handle.running:
            raise RefusedError(
                Code.INVALID_STATE, f"machine {machine.name} is off", "only a running one is paused"
            )
        try:
            await handle.pause()
        except TimeoutError as error:
            handle.resume()
            raise RefusedError(
                Code.TIMEOUT,
                f"the guest of machine {machine.name} could not be paused: {error}",
                "look whether it still runs",
            ) from error
        log.info("guest_paused", machine_id=machine.machine_id)

    async def stop(self, machine: MachineRecord, seconds: float) -> bool:
        """Have the guest finish and end; False when it did not within the bound and goes on."""
        handle = self._handles.get(machine.machine_id)
        if handle is not None and handle.running and not await handle.stop(seconds):
            return False
        await self._ended(machine)
        return True

    async def kill(self, machine: MachineRecord) -> None:
        """End the guest now; return when its images are free."""
        self._backend.forbid_writes(machine.machine_id)
        handle = self._handles.get(machine.machine_id)
        if handle is not None:
            await handle.kill()
        await self._ended(machine)

    async def challenge(self, machine_id: str, nonce: str) -> GuestState | None:
        """Return the guest's answer to a nonce; None where none runs or it stays silent."""
        handle = self._handles.get(machine_id)
        if handle is None or not handle.running or handle.paused:
            return None
        try:
            return await handle.challenge(nonce, CHALLENGE_SECONDS)
        except (TimeoutError, OSError) as error:
            log.warning("guest_silent", machine_id=machine_id, cause=repr(error))
            return None

    async def freeze(self, machine_id: str) -> bool:
        """Have the guest hold still for a cut; False when it does not within the bound.

        A paused one cannot: nobody in it can bring to the disks what it holds in memory.
        """
        handle = self._handles.get(machine_id)
        if handle is None or not handle.running or handle.paused:
            return False
        try:
            await handle.freeze(FREEZE_SECONDS)
        except (TimeoutError, OSError) as error:
            log.warning("guest_not_frozen", machine_id=machine_id, cause=repr(error))
            # It may still be on its way to hold still: it must not.
            await self.thaw(machine_id)
            return False
        return True

    async def thaw(self, machine_id: str) -> bool:
        """Let the guest go on; whether it held still until now.

        One that was paused meanwhile answers nobody: its freeze ends by itself when it goes on.
        """
        handle = self._handles.get(machine_id)
        if handle is None or not handle.running or handle.paused:
            return False
        try:
            held = await handle.thaw(THAW_SECONDS)
        except (TimeoutError, OSError) as error:
            log.warning("guest_not_thawed", machine_id=machine_id, cause=repr(error))
            return False
        return held

    async def close(self) -> None:
        """End all guests; they lose nothing that was acknowledged."""
        for machine_id, handle in self._handles.items():
            if handle.running:
                await handle.kill()
                log.info("guest_ended", machine_id=machine_id)
        self._handles.clear()
        self._storages.clear()

    async def wait_unlocked(self, machine: MachineRecord) -> None:
        """Return when nobody holds the images; a bounded wait, then a refusal."""
        paths = _paths(machine)
        try:
            async with asyncio.timeout(UNLOCK_SECONDS_MAX):
                while self._surroundings.locked(paths):  # noqa: ASYNC110 -- another process's lock
                    await asyncio.sleep(_POLL_SECONDS)
        except TimeoutError as error:
            raise RefusedError(
                Code.IN_USE,
                f"another process holds the disks of machine {machine.name}",
                "end that process; a machine has one guest at a time",
            ) from error

    async def _ended(self, machine: MachineRecord) -> None:
        self._handles.pop(machine.machine_id, None)
        self._storages.pop(machine.machine_id, None)
        await self.wait_unlocked(machine)
        await self._backend.detach(machine.machine_id)
        log.info("guest_ended", machine_id=machine.machine_id)


def disk_files(machine: MachineRecord) -> tuple[DiskFile, ...]:
    """Return a machine's disks as the back end names them."""
    return tuple(DiskFile(disk.disk_id, Path(disk.path), disk.size_bytes) for disk in machine.disks)


def _paths(machine: MachineRecord) -> list[Path]:
    return [Path(disk.path) for disk in machine.disks]
