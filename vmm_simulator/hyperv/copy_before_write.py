"""The bytes of a cut stay those of its moment while the guest writes on.

Before a guest's write reaches a block that is part of the cut, the block's old bytes go into an
unnamed file, once. A reader takes the disk's bytes and *then* looks whether the block was preserved
meanwhile: the note is made before the write, so a block without a note was not yet written to.
"""

import mmap
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import structlog

from vmm_simulator.hyperv.backend import ChangeSet, DiskFile
from vmm_simulator.hyperv.blocks import (
    BLOCK_BYTES,
    all_marked,
    blocks_touched,
    has_bit,
    length_of_blocks,
    set_bits,
)
from vmm_simulator.hyperv.disks import ZEROS, read_exactly, write_fully

log = structlog.get_logger(__name__)


class FrozenDisk:
    """One disk as of the cut; blocks outside the bitmap were holes or are not part of it."""

    def __init__(self, disk: DiskFile, folder: Path) -> None:
        self.size_bytes = disk.size_bytes
        self.bitmap = b""
        self.marked = b""
        self.parts: mmap.mmap | None = None
        self._folder = folder
        self._descriptor = os.open(disk.path, os.O_RDONLY | os.O_CLOEXEC)
        self._store: IO[bytes] | None = None
        self._preserved = bytearray()
        self._block = memoryview(bytearray(BLOCK_BYTES))

    @property
    def descriptor(self) -> int:
        """The disk, open for reading."""
        return self._descriptor

    def freeze(self, bitmap: bytes, marked: bytes = b"", parts: mmap.mmap | None = None) -> None:
        """Say which blocks are part of the cut, and which of them are so because they changed.

        `parts`: which parts of them are, where that is known of all (parts).
        """
        self.bitmap = bitmap
        self.marked = marked
        self.parts = parts
        self._preserved = bytearray(len(bitmap))

    def preserve(self, offset: int, length: int) -> None:
        """Keep the old bytes of what is about to be overwritten."""
        for block in blocks_touched(offset, length):
            if has_bit(self.bitmap, block) and not has_bit(self._preserved, block):
                self._preserve_block(block)

    def _preserve_block(self, block: int) -> None:
        if self._store is None:
            # Unnamed on purpose: a kill leaves nothing behind, the marks are merged back.
            self._store = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115 -- closed below
        view = self._block[: length_of_blocks(block, 1, self.size_bytes)]
        read_exactly(self._descriptor, view, block * BLOCK_BYTES)
        write_fully(self._store.fileno(), view, block * BLOCK_BYTES)
        set_bits(self._preserved, block, block)

    def read(self, first: int, count: int, view: memoryview) -> None:
        """Fill the view with the blocks as of the cut; what was a hole reads as zeros."""
        read_exactly(self._descriptor, view, first * BLOCK_BYTES)
        if self._store is None and all_marked(self.bitmap, first, count):
            return
        for block in range(first, first + count):
            start = (block - first) * BLOCK_BYTES
            part = view[start : start + BLOCK_BYTES]
            if not has_bit(self.bitmap, block):
                part[:] = ZEROS[: len(part)]
            elif has_bit(self._preserved, block) and self._store is not None:
                read_exactly(self._store.fileno(), part, block * BLOCK_BYTES)

    def close(self) -> None:
        """Let the old bytes go."""
        os.close(self._descriptor)
        if self._store is not None:
            self._store.close()


class FrozenCut:
    """All disks of a machine as of one cut; open until it is released and no one reads it."""

    def __init__(self, disks: Sequence[DiskFile], folder: Path) -> None:
        self.disks: list[FrozenDisk] = []
        self.change_set: ChangeSet | None = None
        self._failure: OSError | None = None
        self._readers = 0
        self._released = False
        try:
            for disk in disks:
                self.disks.append(FrozenDisk(disk, folder))
        except BaseException:
            self._close()
            raise

    @property
    def bitmaps(self) -> list[bytes]:
        """What is part of the cut, per disk."""
        return [disk.bitmap for disk in self.disks]

    @property
    def marks(self) -> list[bytes]:
        """What is part of it because it changed, per disk."""
        return [disk.marked for disk in self.disks]

    @property
    def sizes(self) -> tuple[int, ...]:
        """The sizes of the disks."""
        return tuple(disk.size_bytes for disk in self.disks)

    @property
    def in_use(self) -> bool:
        """Whether someone reads it."""
        return self._readers > 0

    def preserve(self, disk_index: int, offset: int, length: int) -> None:
        """Keep what is about to be overwritten; when that fails the cut is lost, not the guest."""
        if self._failure is not None:
            return
        try:
            self.disks[disk_index].preserve(offset, length)
        except OSError as error:
            self._failure = error
            log.warning("cut_lost", disk_index=disk_index, cause=str(error))

    def read(self, disk_index: int, first: int, count: int, view: memoryview) -> None:
        """Fill the view with the blocks as of the cut; OSError when they could not be kept."""
        self.disks[disk_index].read(first, count, view)
        if self._failure is not None:
            raise OSError(
                self._failure.errno,
                f"the old bytes of the cut could not be kept ({self._failure}); cut again",
            )

    def begin_reading(self) -> None:
        """Keep the files open, whatever happens, until `end_reading`."""
        self._readers += 1

    def end_reading(self) -> None:
        """Undo `begin_reading`."""
        self._readers -= 1
        self._close_unused()

    def release(self) -> None:
        """Let the old bytes go as soon as no one reads them."""
        self._released = True
        self._close_unused()

    def _close_unused(self) -> None:
        if self._released and self._readers == 0:
            self._close()

    def _close(self) -> None:
        for disk in self.disks:
            disk.close()
        self.disks = []
