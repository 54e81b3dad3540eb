"""A comparison on its way in: what it has found outlives a broken connection, a pause and a kill.

`comparison.spool` is a redo log under way, `comparison.json` says durably how far it is. Whoever
goes on sends what changed since the comparison began once more, and compares only behind that
place. All of it becomes one committed log, or nothing: until then the disks stay as they were.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import structlog
from pydantic import TypeAdapter, ValidationError

from vmm_simulator.hyperv.backend import DiskFile, TransferHeader, TransferRefusedError
from vmm_simulator.hyperv.disks import append_fully, sync_folder, write_durably, write_fully
from vmm_simulator.hyperv.frames import FrameVerifier, FrameWriter
from vmm_simulator.hyperv.redo_log import REDO_HEAD_BYTES, redo_head, redo_path
from vmm_simulator.hyperv.replica_record import FileGuard, guards_of
from vmm_simulator.hyperv.transfer_header import applied_by
from vmm_simulator.problems import Code

log = structlog.get_logger(__name__)

COMPARISON_FILE: Final = "comparison.json"
SPOOL_FILE: Final = "comparison.spool"
CHECKPOINT_BYTES: Final = 1_073_741_824
"""After so much of the disks it is noted durably how far the comparison is."""

_FILE_BYTES_MAX: Final = 65_536


@dataclass(frozen=True, slots=True)
class Comparison:
    """How far a comparison is: all before `offset` of `disk` is equal or in the spool.

    Of the spool its first `log_bytes` count. `base` (the transfer that the disks hold) and `guards`
    tell with what was compared: with other bytes nothing of it counts.
    """

    copy_id: str
    base: str | None
    guards: tuple[FileGuard, ...]
    disk: int = 0
    offset: int = 0
    log_bytes: int = REDO_HEAD_BYTES

    @property
    def place(self) -> tuple[int, int]:
        """Disk and offset up to which is compared."""
        return self.disk, self.offset


_COMPARISON: Final = TypeAdapter(Comparison)


def compared_place(
    folder: Path, header: TransferHeader, disks: Sequence[DiskFile], held: TransferHeader | None
) -> tuple[int, int] | None:
    """Return how far the comparison that a transfer goes on with durably is (blocks).

    None: nothing of it counts. Another one was begun meanwhile, or the disks are not those any more
    that it was begun with.
    """
    found = _found(folder, header, disks, held)
    return None if found is None else (found.disk, found.offset)


def open_comparison(
    folder: Path,
    header: TransferHeader,
    disks: Sequence[DiskFile],
    held: TransferHeader | None,
    committed: Callable[[TransferHeader], None],
) -> "ComparedCopy":
    """Begin a comparison with these disks, or go on with one; or TransferRefusedError (blocks)."""
    found: Comparison | None
    if header.copy_id == header.transfer_id:
        found = _begun(header, disks, held)
    else:
        found = _found(folder, header, disks, held)
    if found is None:
        raise TransferRefusedError(
            Code.INVALID_STATE,
            f"nothing is here of the comparison {header.copy_id}: begin it again",
            applied_by(held),
        )
    sizes = tuple(disk.size_bytes for disk in disks)
    return ComparedCopy(folder, header, sizes, found, committed)


def _begun(
    header: TransferHeader, disks: Sequence[DiskFile], held: TransferHeader | None
) -> Comparison:
    base = None if held is None else held.transfer_id
    return Comparison(header.copy_id or header.transfer_id, base, guards_of(disks))


def _found(
    folder: Path, header: TransferHeader, disks: Sequence[DiskFile], held: TransferHeader | None
) -> Comparison | None:
    begun = _begun(header, disks, held)
    if held is not None and held.copy_id == header.copy_id:
        # It came to its end, and its sender has not heard of it: all of it is compared.
        return replace(begun, disk=len(disks))
    try:
        with (folder / COMPARISON_FILE).open("rb") as file:
            found = _COMPARISON.validate_json(file.read(_FILE_BYTES_MAX))
        spooled = (folder / SPOOL_FILE).stat().st_size
    except FileNotFoundError:
        return None
    except ValidationError as error:
        log.warning("comparison_damaged", folder=str(folder), cause=str(error.errors()[0]["msg"]))
        return None
    same = replace(begun, disk=found.disk, offset=found.offset, log_bytes=found.log_bytes)
    return found if found == same and spooled >= found.log_bytes else None


def drop_comparison(folder: Path) -> None:
    """Forget what a comparison has found, and give its room back (blocks)."""
    (folder / COMPARISON_FILE).unlink(missing_ok=True)
    (folder / SPOOL_FILE).unlink(missing_ok=True)


class ComparedCopy:
    """What a comparison sends goes to its spool, which becomes a redo log at the end.

    `committed` is told in the thread of the commit that the log is durable.
    """

    in_pieces = True

    def __init__(
        self,
        folder: Path,
        header: TransferHeader,
        sizes: Sequence[int],
        comparison: Comparison,
        committed: Callable[[TransferHeader], None],
    ) -> None:
        self.header = header
        self._folder = folder
        self._sizes = tuple(sizes)
        self._noted = self._comparison = comparison
        self._committed = committed
        self._completed = False
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        self._descriptor = os.open(folder / SPOOL_FILE, flags, 0o600)
        try:
            self._go_on(comparison)
        except BaseException:
            os.close(self._descriptor)
            raise

    def _go_on(self, comparison: Comparison) -> None:
        # What lies behind was not noted: it may be torn.
        os.ftruncate(self._descriptor, comparison.log_bytes)
        os.lseek(self._descriptor, 0, os.SEEK_END)
        if comparison.log_bytes > REDO_HEAD_BYTES:
            self._append(FrameWriter.resumed())
        self._note()

    def take(self, verifier: FrameVerifier, view: memoryview) -> None:
        """Verify complete frames and write them; not yet durable."""
        for _ in verifier.frames(view):
            pass  # verified is all that they have to be before the log is whole
        self._append(view)
        # What changed meanwhile is sent again before that: no progress.
        disk, offset = max(self._comparison.place, verifier.compared)
        self._comparison = replace(self._comparison, disk=disk, offset=offset)
        if self._done_bytes(self._comparison) - self._done_bytes(self._noted) >= CHECKPOINT_BYTES:
            self._note()

    def _append(self, frames: bytes | memoryview) -> None:
        append_fully(self._descriptor, frames)
        log_bytes = self._comparison.log_bytes + len(frames)
        self._comparison = replace(self._comparison, log_bytes=log_bytes)

    def _done_bytes(self, comparison: Comparison) -> int:
        return sum(self._sizes[: comparison.disk]) + comparison.offset

    def _note(self) -> None:
        os.fdatasync(self._descriptor)
        write_durably(self._folder / COMPARISON_FILE, _COMPARISON.dump_json(self._comparison))
        self._noted = self._comparison

    def commit(self) -> None:
        """Return when the change set is durable and counts."""
        write_fully(self._descriptor, redo_head(self.header, self._sizes), 0)
        os.fdatasync(self._descriptor)
        (self._folder / SPOOL_FILE).rename(redo_path(self._folder, self.header.cut))
        sync_folder(self._folder)
        self._completed = True
        self._committed(self.header)
        drop_comparison(self._folder)

    def close(self) -> None:
        """Close what is open; without a commit it can be gone on with, and nothing else counts."""
        try:
            if not self._completed:
                self._note()
        except OSError as error:
            # The transfer has failed already; a later one goes on from what was noted before.
            log.warning("comparison_not_noted", cause=str(error))
        finally:
            os.close(self._descriptor)
