"""Undo logs: what a change set is about to overwrite, as it was before it.

One log per change set while a recovery point is kept, also an empty one: a number that is missing
tells that older points are lost. Blocks that an older log holds already, written since the newest
point, are left out. Applied backwards from the newest log to the one after a point, they make the
disks those of that point; doing so twice does no harm.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from vmm_simulator.hyperv.backend import TransferHeader
from vmm_simulator.hyperv.blocks import BLOCK_BYTES, length_of_blocks, marked_blocks, runs
from vmm_simulator.hyperv.digests import WINDOW_BLOCKS
from vmm_simulator.hyperv.disks import ZEROS, read_exactly
from vmm_simulator.hyperv.frame_log import FrameLog, FrameLogWriter
from vmm_simulator.hyperv.frames import HEADER_BYTES, FrameWriter

_MAGIC: Final = b"SRHUNDO1"
_NAME: Final = re.compile(r"cut-(\d{19})\.undo")


class UndoLog(FrameLog):
    """A committed log; `header` is that of the change set that it undoes."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, _MAGIC)


def undo_path(folder: Path, cut: int) -> Path:
    """Return where the undo log of a change set lies."""
    return folder / f"cut-{cut:019d}.undo"


def undo_cuts(folder: Path) -> set[int]:
    """Return the numbers of the change sets that have an undo log."""
    if not folder.exists():
        return set()
    found = (_NAME.fullmatch(path.name) for path in folder.iterdir())
    return {int(match[1]) for match in found if match is not None}


def write_undo(
    folder: Path,
    header: TransferHeader,
    descriptors: Sequence[int],
    sizes: Sequence[int],
    bitmaps: Sequence[bytes],
) -> None:
    """Return when the marked blocks of the disks are durably kept as they are now."""
    writer = FrameLogWriter(undo_path(folder, header.cut), _MAGIC, header, sizes)
    try:
        frames = FrameWriter()
        blocks = min(WINDOW_BLOCKS, sum(map(marked_blocks, bitmaps)))
        buffer = memoryview(bytearray(HEADER_BYTES + blocks * BLOCK_BYTES))
        for disk, (descriptor, size) in enumerate(zip(descriptors, sizes, strict=True)):
            for first, count in runs(bitmaps[disk], WINDOW_BLOCKS):
                length = length_of_blocks(first, count, size)
                view = buffer[HEADER_BYTES : HEADER_BYTES + length]
                read_exactly(descriptor, view, first * BLOCK_BYTES)
                put = frames.zero if ZEROS.startswith(view) else frames.data
                end = put(buffer, 0, disk=disk, offset=first * BLOCK_BYTES, length=length)
                writer.append(buffer[:end])
        writer.append(frames.end())
        writer.commit()
    finally:
        writer.close()
