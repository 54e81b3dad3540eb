"""A guest as a task of the simulator: for plans of so many machines that processes would be many.

It keeps to everything that a guest process keeps to: it locks its images, finds its last record by
reading them, writes through its host, makes each record durable before it goes to the ledger, and
answers a nonce from the blocks of its images. What it cannot show is that a machine survives, or
dies, apart from its host: labs and tests of two running copies use processes.
"""

import asyncio
import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import structlog

from service_shell.clock import Clock
from vmm_simulator.guest.filesystem import FileSystemError
from vmm_simulator.guest.frames import (
    LEDGER_FRAME_BYTES_MAX,
    FrameDecoder,
    FrameError,
    Kind,
    LedgerEntry,
    encode_entry,
    encode_frame,
    parse_number,
)
from vmm_simulator.guest.host_check import HostCheck
from vmm_simulator.guest.interface import (
    FREEZE_SECONDS_MAX,
    GuestExit,
    GuestHandle,
    GuestSpec,
    GuestStartError,
    GuestState,
    GuestStorage,
)
from vmm_simulator.guest.layout import GuestLayout, find_layout
from vmm_simulator.guest.locks import ImageLockedError, lock_images
from vmm_simulator.guest.manifest import ManifestError
from vmm_simulator.guest.records import Record, encode_record, genesis, parse_record
from vmm_simulator.guest.unix_address import unix_address
from vmm_simulator.guest.workload import (
    BEHIND_SECONDS_MAX,
    LEDGER_PAUSE_SECONDS,
    LEDGER_PAUSE_SECONDS_MAX,
    LEDGER_SECONDS_MAX,
)

_MICROSECOND: Final = timedelta(microseconds=1)
_EPOCH_BEGIN: Final = datetime(1970, 1, 1, tzinfo=UTC)

log = structlog.get_logger(__name__)


async def start_task_guest(spec: GuestSpec, storage: GuestStorage, clock: Clock) -> GuestHandle:
    """Return a guest that runs, has locked its images and found its last record in them.

    GuestStartError says why not otherwise (locked images, no file system, ...).
    """
    images: list[int] = []
    try:
        layout, top = await asyncio.to_thread(_open, spec, images)
    except ImageLockedError as error:
        _close(images)
        raise GuestStartError(f"{spec.name}: {error}", GuestExit.LOCKED) from error
    except (OSError, FileSystemError, ManifestError) as error:
        _close(images)
        raise GuestStartError(f"{spec.name}: {error}", GuestExit.UNREADABLE) from error
    except BaseException:
        _close(images)
        raise
    guest = TaskGuest(spec, storage, clock, layout=layout, top=top, images=images)
    guest.begin()
    log.info("guest_started", machine_id=spec.machine_id, task=True)
    return guest


@dataclass(frozen=True, slots=True)
class _Freeze:
    """One freeze, from the host's asking to its end: a later one is another."""

    frozen: asyncio.Event = field(default_factory=asyncio.Event)
    thawed: asyncio.Event = field(default_factory=asyncio.Event)


class TaskGuest:
    """A guest as its host holds it; one task of its own works from its start to its end."""

    def __init__(
        self,
        spec: GuestSpec,
        storage: GuestStorage,
        clock: Clock,
        *,
        layout: GuestLayout,
        top: Record | None,
        images: list[int],
    ) -> None:
        self._spec = spec
        self._storage = storage
        self._clock = clock
        self._layout = layout
        self._images = images
        self._number = 0 if top is None else top.number
        self._previous = genesis(layout.seed) if top is None else top.checksum
        self._ledger = None if spec.ledger_socket is None else TaskLedger(spec.ledger_socket)
        self._check = HostCheck(spec, layout)
        self._stopping = False
        self._called = asyncio.Event()
        self._freeze: _Freeze | None = None
        self._going = asyncio.Event()
        self._going.set()
        self._exit: GuestExit | None = None
        self._working: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Begin to work; start_task_guest alone calls this."""
        loop = asyncio.get_running_loop()
        # The handle owns this task: stop, kill and wait end with it, and nothing else does.
        self._working = loop.create_task(self._work(), name=f"guest {self._spec.name}")

    @property
    def pid(self) -> int:
        """The process that the guest is a task of."""
        return os.getpid()

    @property
    def running(self) -> bool:
        """Whether the task goes on."""
        return self._working is not None and not self._working.done()

    @property
    def paused(self) -> bool:
        """Whether the task is held where it stands."""
        return self.running and not self._going.is_set()

    @property
    def exit_code(self) -> int | None:
        """How it ended (see GuestExit), None while it runs."""
        return None if self._exit is None else int(self._exit)

    async def pause(self) -> None:
        """Hold it before its next write, acknowledgement or end."""
        if not self.running:
            raise TimeoutError(f"the guest has ended with exit code {self.exit_code}")
        self._going.clear()

    def resume(self) -> None:
        """Let it go on from where it stood."""
        self._going.set()

    async def challenge(self, nonce: str, seconds: float) -> GuestState:
        """Return the guest's answer, checked against the host's own reading of the images."""
        if not self.running:
            raise TimeoutError(f"the guest has ended with exit code {self.exit_code}")
        if self.paused:
            raise TimeoutError("the guest is paused: it answers nothing")
        async with asyncio.timeout(seconds):
            answer = self._answer(nonce)
            verified = await asyncio.to_thread(self._check.holds, nonce, answer, self.pid)
        return GuestState(
            pid=self.pid,
            nonce=nonce,
            proof=str(answer["proof"]),
            verified=verified,
            file_system_uuid=answer["file_system_uuid"],
            last_record=int(answer["last_record"]),
            epoch=self._spec.epoch,
        )

    async def freeze(self, seconds: float) -> None:
        """Return when the guest has finished its record, flushed, and writes nothing."""
        if not self.running:
            raise TimeoutError(f"the guest has ended with exit code {self.exit_code}")
        self._end_freeze()
        freeze = self._freeze = _Freeze()
        self._called.set()
        try:
            async with asyncio.timeout(seconds):
                await freeze.frozen.wait()
        except BaseException:
            self._end_freeze()
            raise

    async def thaw(self, seconds: float) -> bool:
        """Let it go on; whether it had written nothing from the freeze until now."""
        del seconds  # A task of the same loop answers at once.
        held = self.running and self._freeze is not None and self._freeze.frozen.is_set()
        self._end_freeze()
        return held

    def _end_freeze(self) -> None:
        freeze, self._freeze = self._freeze, None
        if freeze is not None:
            freeze.thawed.set()

    async def stop(self, seconds: float) -> bool:
        """Ask it to finish its record, flush and end; False when it did not within the bound."""
        self._stopping = True
        self._called.set()
        self._end_freeze()
        try:
            async with asyncio.timeout(seconds):
                await self._ended()
        except TimeoutError:
            return False
        return True

    async def kill(self) -> None:
        """End it now; no write of it comes after the return."""
        if self._working is not None:
            self._working.cancel()
        await self._ended()

    async def wait(self) -> int:
        """Return the exit code once it has ended by itself or by others; bound it yourself."""
        await self._ended()
        assert self._exit is not None, "a task that has ended says how"
        return int(self._exit)

    async def _ended(self) -> None:
        if self._working is not None:
            await asyncio.wait([self._working])

    def _answer(self, nonce: str) -> Mapping[str, Any]:
        proof, _ = self._layout.proof(self._images, nonce, self._number)
        return {
            "pid": self.pid,
            "proof": proof,
            "file_system_uuid": self._layout.file_system_uuid,
            "last_record": self._number,
            "epoch": self._spec.epoch,
        }

    async def _work(self) -> None:
        # A kill is a cancellation: it ends here too, and the images are free afterwards.
        self._exit = GuestExit.HOST_GONE
        try:
            await self._write_records()
            await self._going.wait()
            await self._storage.flush()
            self._exit = GuestExit.STOPPED
        except PermissionError as error:
            self._end_badly(GuestExit.WRITE_REFUSED, error)
        except Exception as error:  # noqa: BLE001 -- the storage's error ends this guest alone
            self._end_badly(GuestExit.STORAGE_FAILED, error)
        finally:
            _close(self._images)
            if self._ledger is not None:
                self._ledger.close()
        log.info("guest_ended", machine_id=self._spec.machine_id, exit_code=self.exit_code)

    def _end_badly(self, code: GuestExit, error: Exception) -> None:
        self._exit = code
        log.warning(
            "guest_failed", machine_id=self._spec.machine_id, exit=code.name, cause=str(error)
        )

    async def _write_records(self) -> None:
        """Write records at the machine's pace until asked to stop; a slow disk is not caught up."""
        loop = asyncio.get_running_loop()
        pace = self._spec.records_per_second
        due = loop.time()
        while not self._stopping:
            if self._freeze is not None:
                await self._hold_still(self._freeze)
            elif pace <= 0:
                await self._called.wait()
            else:
                due = max(due + 1 / pace, loop.time() - BEHIND_SECONDS_MAX)
                if not await self._called_within(due - loop.time()):
                    await self._write_record()
            if not self._stopping and self._freeze is None:
                self._called.clear()

    async def _hold_still(self, freeze: "_Freeze") -> None:
        """Write nothing until the host has made its cut, or for as long as anybody may hold us."""
        await self._storage.flush()
        freeze.frozen.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FREEZE_SECONDS_MAX):
                await freeze.thawed.wait()
        # A freeze that was not ended by the host is over all the same.
        if self._freeze is freeze:
            self._freeze = None

    async def _called_within(self, seconds: float) -> bool:
        if seconds <= 0:
            # Others of this loop have their turn, however far behind this guest is.
            await asyncio.sleep(0)
            return self._called.is_set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._called.wait()
        return self._called.is_set()

    async def _write_record(self) -> None:
        """Rewrite, flush, record, flush, ledger: the order that loss and order are proved by."""
        number, layout = self._number + 1, self._layout
        place = layout.rewrite_place(number)
        content = layout.schedule.content(number)
        await self._going.wait()
        self._storage.write(place.disk_index, place.offset, content, number - 1)
        await self._storage.flush()
        data = encode_record(
            seed=layout.seed,
            number=number,
            epoch=self._spec.epoch,
            time_microseconds=(self._clock.now() - _EPOCH_BEGIN) // _MICROSECOND,
            previous=self._previous,
        )
        place = layout.record_place(number)
        await self._going.wait()
        self._storage.write(place.disk_index, place.offset, data, number)
        await self._storage.flush()
        record = parse_record(data)
        assert record is not None, "what was encoded is a record"
        self._number, self._previous = number, record.checksum
        if self._ledger is not None:
            await self._going.wait()
            await self._append(self._ledger, record)

    async def _append(self, ledger: "TaskLedger", record: Record) -> None:
        """Return when the ledger has the record; when asked to stop, after one more attempt."""
        entry = LedgerEntry(
            machine_id=self._spec.machine_id,
            epoch=record.epoch,
            number=record.number,
            hash=record.hash,
            time_microseconds=record.time_microseconds,
        )
        pause = LEDGER_PAUSE_SECONDS
        while not await ledger.append(entry) and not self._stopping:
            await self._called_within(pause)
            pause = min(pause * 2, LEDGER_PAUSE_SECONDS_MAX)


class TaskLedger:
    """A task's way to the lab's ledger: one entry at a time, counted only when acknowledged."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._decoder = FrameDecoder(LEDGER_FRAME_BYTES_MAX)

    async def append(self, entry: LedgerEntry) -> bool:
        """Hand an entry over, connecting first where needed; False when that failed."""
        try:
            async with asyncio.timeout(LEDGER_SECONDS_MAX):
                reader, writer = self._connection or await self._connect()
                writer.write(encode_frame(Kind.APPEND, encode_entry(entry).rstrip()))
                while await self._acknowledged(reader) != entry.number:
                    pass
        except (OSError, FrameError, TimeoutError):
            self.close()
            return False
        return True

    def close(self) -> None:
        """Drop the connection; the next entry opens another."""
        if self._connection is not None:
            self._connection[1].close()
            self._connection = None

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        with unix_address(self._path) as address:
            self._connection = await asyncio.open_unix_connection(address)
        self._decoder = FrameDecoder(LEDGER_FRAME_BYTES_MAX)
        return self._connection

    async def _acknowledged(self, reader: asyncio.StreamReader) -> int | None:
        """Return the newest number in what the ledger sends next; a ledger only acknowledges."""
        data = await reader.read(4096)
        if not data:
            raise ConnectionResetError("the ledger closed the connection")
        frames = list(self._decoder.feed(data))
        if any(frame.kind is not Kind.APPENDED for frame in frames):
            raise FrameError("a ledger only acknowledges")
        return parse_number(frames[-1].body) if frames else None


def _open(spec: GuestSpec, images: list[int]) -> tuple[GuestLayout, Record | None]:
    """Open, lock and read the images (blocks: a thread); what was opened is in `images`."""
    # One by one: what was opened before an error is in the list, and will be closed.
    images.extend(os.open(path, os.O_RDONLY | os.O_CLOEXEC) for path in spec.disks)
    lock_images(images, list(spec.disks))
    layout = find_layout(list(spec.disks), images)
    return layout, layout.read_records(images).top


def _close(images: list[int]) -> None:
    while images:
        os.close(images.pop())
