"""What a promotion changes, kept so that it can be taken back: old blocks, one file per disk.

An old block lies at its own offset in a sparse file; a bit in a shared map says that it is there.
Block, bit, write: in this order, so that a kill at any moment leaves nothing to doubt. When the
machine as a whole went down while a guest wrote, the order on its disks is not known: then the log
is worth nothing, which its owner knows by the boot id.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Self

from vmm_simulator.hyperv.apply import OpenDisks
from vmm_simulator.hyperv.blocks import (
    BLOCK_BYTES,
    blocks_touched,
    length_of_blocks,
    runs,
)
from vmm_simulator.hyperv.change_map import ChangeMap
from vmm_simulator.hyperv.digests import WINDOW_BLOCKS
from vmm_simulator.hyperv.disks import ZEROS, punch_hole, read_exactly, sync_folder, write_fully

_FILES: Final = "revert-*"


class RevertLog:
    """The old blocks of one promotion; synchronous on purpose, as guest writes are."""

    def __init__(self, folder: Path, sizes: Sequence[int], flags: int) -> None:
        self._folder = folder
        self._sizes = tuple(sizes)
        self._maps: list[ChangeMap] = []
        self._files: list[int] = []
        self._block = memoryview(bytearray(BLOCK_BYTES))
        try:
            for index, size in enumerate(self._sizes):
                path = folder / f"revert-{index:03d}.blocks"
                self._files.append(os.open(path, os.O_RDWR | os.O_CLOEXEC | flags, 0o600))
                self._maps.append(ChangeMap(folder / f"revert-{index:03d}.map", size))
        except BaseException:
            self.close()
            raise

    @classmethod
    def create(cls, folder: Path, sizes: Sequence[int]) -> Self:
        """Begin an empty log; what is left of another one goes."""
        folder.mkdir(parents=True, exist_ok=True)
        delete_revert_files(folder)
        log = cls(folder, sizes, os.O_CREAT)
        for file, size in zip(log._files, log._sizes, strict=True):
            os.ftruncate(file, size)
        return log

    @classmethod
    def reopen(cls, folder: Path, sizes: Sequence[int]) -> Self | None:
        """Go on after a stop or a kill; None where a part is missing."""
        names = [f"revert-{index:03d}" for index in range(len(sizes))]
        parts = [folder / f"{name}.{kind}" for name in names for kind in ("blocks", "map")]
        if not all(part.exists() for part in parts):
            return None
        return cls(folder, sizes, 0)

    def bitmaps(self) -> list[bytes]:
        """Return which blocks are kept, that is: which may differ from before the promotion."""
        return [each.snapshot() for each in self._maps]

    def preserve(self, disk: int, descriptor: int, offset: int, length: int) -> None:
        """Keep the old bytes of what is about to be overwritten, each block once."""
        bits = self._maps[disk]
        for block in blocks_touched(offset, length):
            if not bits.has(block):
                view = self._block[: length_of_blocks(block, 1, self._sizes[disk])]
                read_exactly(descriptor, view, block * BLOCK_BYTES)
                if not ZEROS.startswith(view):
                    write_fully(self._files[disk], view, block * BLOCK_BYTES)
                bits.mark(block * BLOCK_BYTES, 1)

    def preserve_all(self, disks: OpenDisks, bitmaps: Sequence[bytes]) -> None:
        """Return when the old bytes of all marked blocks are durably kept."""
        for disk, descriptor in enumerate(disks.descriptors):
            for first, count in runs(bitmaps[disk], WINDOW_BLOCKS):
                length = length_of_blocks(first, count, self._sizes[disk])
                self.preserve(disk, descriptor, first * BLOCK_BYTES, length)
        self.sync()

    def restore(self, disks: OpenDisks) -> None:
        """Return when the disks are durably what they were before the promotion; repeatable."""
        buffer = memoryview(bytearray(WINDOW_BLOCKS * BLOCK_BYTES))
        for disk, (descriptor, size) in enumerate(zip(disks.descriptors, self._sizes, strict=True)):
            for first, count in runs(self._maps[disk].snapshot(), WINDOW_BLOCKS):
                view = buffer[: length_of_blocks(first, count, size)]
                read_exactly(self._files[disk], view, first * BLOCK_BYTES)
                if ZEROS.startswith(view):
                    punch_hole(descriptor, first * BLOCK_BYTES, len(view))
                else:
                    write_fully(descriptor, view, first * BLOCK_BYTES)
        disks.sync()

    def sync(self) -> None:
        """Return when what is kept would survive the machine."""
        for file, bits in zip(self._files, self._maps, strict=True):
            os.fsync(file)
            bits.flush()
        sync_folder(self._folder)

    def give_up(self) -> None:
        """Say durably that an old block could not be kept; needs no room on the disk."""
        for each in self._maps:
            each.discard()

    def close(self) -> None:
        """Close the files; they stay."""
        for file in self._files:
            os.close(file)
        self._files, self._maps = [], []


def delete_revert_files(folder: Path) -> None:
    """Delete what is left of a log."""
    for path in folder.glob(_FILES):
        path.unlink()
