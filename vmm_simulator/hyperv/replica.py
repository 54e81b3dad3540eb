"""One machine's copy as a replica: it takes change sets whole, in order, or not at all."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import structlog

from vmm_simulator.hyperv.apply import OpenDisks, apply_log
from vmm_simulator.hyperv.backend import (
    AppliedCut,
    BackendStateError,
    DiskFile,
    TransferHeader,
    TransferRefusedError,
)
from vmm_simulator.hyperv.digests import disk_digests
from vmm_simulator.hyperv.disks import sync_folder, write_durably
from vmm_simulator.hyperv.frames import FrameError
from vmm_simulator.hyperv.incoming import Destination, DirectCopy, Incoming, SpooledCopy
from vmm_simulator.hyperv.redo_log import UNFINISHED_SUFFIX, RedoLog, committed_logs
from vmm_simulator.hyperv.threads import run_to_end
from vmm_simulator.hyperv.transfer_header import (
    CopyState,
    Decision,
    applied_by,
    decide,
    decode_header,
    encode_header,
)
from vmm_simulator.problems import Code

log = structlog.get_logger(__name__)

RECORD_FILE: Final = "replica.json"
WAIT_SECONDS_MAX: Final = 120
"""Longest a transfer or a question waits for what is being done with the same disks."""

_RECORD_BYTES_MAX: Final = 65_536


class Replica:
    """The durable state of a copy (replica.json and committed logs) and the one way to change it.

    `noted` is told the newest guest record of every change set that is taken.
    """

    def __init__(self, machine_id: str, folder: Path, noted: Callable[[int], None]) -> None:
        self.machine_id = machine_id
        self.disks: tuple[DiskFile, ...] = ()
        self.closed_by = ""
        self._folder = folder
        self._noted = noted
        self._state, self._held = _read_record(folder / RECORD_FILE)
        self._committed: TransferHeader | None = None
        self._lock = asyncio.Lock()
        self._opening = asyncio.Lock()
        self._incoming: Incoming | None = None
        self._find_committed()

    @property
    def state(self) -> CopyState | None:
        """What the disk files are worth as a replica; None when they never were one."""
        return self._state

    @property
    def held(self) -> TransferHeader | None:
        """The newest change set that is held durably, applied or about to be."""
        return self._committed or self._held

    def _find_committed(self) -> None:
        for path in committed_logs(self._folder):
            try:
                self._committed = RedoLog(path).header
            except (FrameError, ValueError, KeyError, TypeError) as error:
                self._quarantine(path, str(error))

    def delete_unfinished(self) -> None:
        """Delete what a kill left half written."""
        if self._folder.exists():
            for path in self._folder.glob(f"*{UNFINISHED_SUFFIX}"):
                path.unlink()

    def require_usable(self) -> None:
        """Raise BackendStateError unless the disks are those of one moment."""
        if self._state in (CopyState.EMPTY, CopyState.INCOMPLETE):
            raise BackendStateError(
                f"the copy {self.machine_id} is {self._state}: "
                "finish its full copy or resynchronize it first"
            )

    async def create(self, disks: Sequence[DiskFile], *, remade: bool) -> None:
        """Become a replica over these disks; remade ones hold nothing yet."""
        await self._drop_incoming()
        async with self._alone():
            if remade:
                await run_to_end(self._drop_logs)
                self._save(CopyState.EMPTY, None)
            elif self._state is None:
                self._save(CopyState.BASE, None)
            self.disks = tuple(disks)
            self.closed_by = ""

    async def forget(self) -> None:
        """Begin a new lineage over the same bytes."""
        await self._drop_incoming()
        async with self._alone():
            await self._apply_committed()
            if self._state is not None:
                state = CopyState.BASE if self._state is CopyState.COMPLETE else self._state
                self._save(state, None)

    async def close(self, reason: str) -> None:
        """Take nothing more: what is under way is dropped, what is committed is applied."""
        self.closed_by = reason
        await self.settle()

    async def settle(self) -> None:
        """Return when no transfer is under way and all committed change sets are applied."""
        await self._drop_incoming()
        async with self._alone():
            await self._apply_committed()

    async def apply(self) -> None:
        """Apply what is committed, without disturbing a transfer under way."""
        async with self._alone():
            await self._apply_committed()

    @asynccontextmanager
    async def quiet(self) -> AsyncIterator[None]:
        """Hold the disks at the newest applied change set."""
        async with self._alone():
            await self._apply_committed()
            self.require_usable()
            yield

    async def digests(self, disk_index: int, first: int, count: int) -> bytes:
        """Return the digests of blocks as they are after all committed change sets."""
        if not 0 <= disk_index < len(self.disks):
            raise TransferRefusedError(Code.INVALID_PARAMETER, f"there is no disk {disk_index}")
        self._require_open()
        disk = self.disks[disk_index]
        async with self._alone():
            await self._apply_committed()
            return await run_to_end(disk_digests, disk.path, disk.size_bytes, first, count)

    async def open(self, header: TransferHeader) -> Incoming | AppliedCut:
        """Begin to take a change set, or acknowledge again the one that is already held.

        A transfer that is still under way is dropped first: its sender has given it up. Whoever
        gets an Incoming calls `end` with it.
        """
        async with asyncio.timeout(WAIT_SECONDS_MAX), self._opening:
            await self._drop_incoming()
            decision = self._decide(header)
            if decision is Decision.ACKNOWLEDGE_AGAIN and self.held is not None:
                return self._acknowledge(self.held)
            destination: Destination
            if decision is Decision.WRITE_DIRECTLY:
                destination = await self._open_directly(header)
            else:
                destination = SpooledCopy(
                    self._folder, header, self._sizes, lambda: self._note_committed(header)
                )
            self._incoming = Incoming(destination, self._sizes)
            return self._incoming

    async def _open_directly(self, header: TransferHeader) -> DirectCopy:
        # Held until the transfer ends: nobody may read disks that are being replaced.
        await self._lock.acquire()
        try:
            await self._apply_committed()
            self._decide(header)
            disks = OpenDisks(self.disks)
            try:
                self._save(CopyState.INCOMPLETE, None)
                await run_to_end(disks.empty)
            except BaseException:
                disks.close()
                raise
        except BaseException:
            self._lock.release()
            raise
        return DirectCopy(disks, header, lambda: self._save(CopyState.COMPLETE, header))

    async def commit(self, incoming: Incoming) -> AppliedCut:
        """Make a received change set durable under its header; then it may be acknowledged."""
        destination = incoming.destination
        if isinstance(destination, DirectCopy):
            self._require_open()
            await incoming.commit()
        else:
            async with self._alone():
                await self._apply_committed()
                self._decide(destination.header)
                await incoming.commit()
        return self._acknowledge(destination.header)

    async def end(self, incoming: Incoming) -> None:
        """Close a transfer, committed or not."""
        try:
            await incoming.close()
        finally:
            if isinstance(incoming.destination, DirectCopy):
                self._lock.release()
            if self._incoming is incoming:
                self._incoming = None

    def _note_committed(self, header: TransferHeader) -> None:
        self._committed = header

    def _acknowledge(self, header: TransferHeader) -> AppliedCut:
        self._noted(header.last_record)
        return AppliedCut(header.cut, header.last_record, header.taken_at, header.consistency)

    def _decide(self, header: TransferHeader) -> Decision:
        self._require_open()
        return decide(self._state or CopyState.EMPTY, self.held, header)

    def _require_open(self) -> None:
        if self.closed_by or not self.disks or self._state is None:
            raise TransferRefusedError(
                Code.INVALID_STATE,
                f"the copy {self.machine_id} takes no change sets: "
                f"{self.closed_by or 'it is no replica'}",
                applied_by(self.held),
            )

    @property
    def _sizes(self) -> tuple[int, ...]:
        return tuple(disk.size_bytes for disk in self.disks)

    async def _drop_incoming(self) -> None:
        incoming = self._incoming
        if incoming is not None:
            incoming.drop()
            async with asyncio.timeout(WAIT_SECONDS_MAX):
                await incoming.closed.wait()

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[None]:
        async with asyncio.timeout(WAIT_SECONDS_MAX):
            await self._lock.acquire()
        try:
            yield
        finally:
            self._lock.release()

    async def _apply_committed(self) -> None:
        for path in committed_logs(self._folder):
            await run_to_end(self._apply_one, path)

    def _apply_one(self, path: Path) -> None:
        try:
            redo = RedoLog(path)
            if redo.header != self._held:
                apply_log(redo, self.disks)
                self._save(CopyState.COMPLETE, redo.header)
        except FrameError as error:
            self._quarantine(path, str(error))
            return
        path.unlink()
        sync_folder(self._folder)
        self._committed = None
        log.info("change_set_applied", machine_id=self.machine_id, cut=redo.header.cut)

    def _quarantine(self, path: Path, cause: str) -> None:
        # The disks stay at the change set before; the next delta is refused for its gap, and the
        # primary is told to resynchronize.
        path.rename(path.with_name(path.name + ".damaged"))
        self._committed = None
        log.error("redo_log_damaged", machine_id=self.machine_id, log=path.name, cause=cause)

    def _drop_logs(self) -> None:
        for path in committed_logs(self._folder):
            path.unlink()
        self._committed = None

    def _save(self, state: CopyState, held: TransferHeader | None) -> None:
        record = {"state": state, "held": None if held is None else encode_header(held)}
        self._folder.mkdir(parents=True, exist_ok=True)
        write_durably(self._folder / RECORD_FILE, json.dumps(record).encode())
        self._state, self._held = state, held


def _read_record(path: Path) -> tuple[CopyState | None, TransferHeader | None]:
    try:
        with path.open("rb") as file:
            record = json.loads(file.read(_RECORD_BYTES_MAX))
        held = None if record["held"] is None else decode_header(record["held"])
        return CopyState(record["state"]), held
    except FileNotFoundError:
        return None, None
    except (ValueError, KeyError, TypeError) as error:
        raise BackendStateError(
            f"{path} is damaged ({error}); delete it and resynchronize the machine"
        ) from error
