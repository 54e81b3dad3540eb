"""Large writes around the page cache: a whole copy is not read again soon, and need not wait there.

Measured: 1.25 GB cost 0.3 to 3 s of processor time through the page cache (3 where its pages are
new to the machine) and 0.12 s around it, at the speed of the disk (docs/benchmarks.md).
"""

import ctypes
import errno
import mmap
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from vmm_simulator.hyperv.disks import write_fully
from vmm_simulator.hyperv.frames import ALIGNMENT_BYTES, HEADER_BYTES, PAYLOAD_BYTES_MAX

DIRECT_BYTES_MIN: Final = 262_144
"""Smaller pieces are faster through the page cache, which joins them."""

_CANNOT: Final = frozenset({errno.EINVAL, errno.EOPNOTSUPP})


def receive_buffer(length: int) -> memoryview:
    """Return room for frames; the payload of one that begins there can go directly."""
    # Anonymous memory begins at a page: what direct writes need.
    start = ALIGNMENT_BYTES - HEADER_BYTES
    return memoryview(mmap.mmap(-1, start + length))[start:]


class DirectWriter:
    """Disk files that are written around the page cache, where file system and platform allow it.

    What is written is not durable before a sync, as with any other write; both ways may be mixed.
    Used by one thread at a time.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._descriptors: list[int | None] = []
        self._aligned = memoryview(mmap.mmap(-1, PAYLOAD_BYTES_MAX))
        try:
            for path in paths:
                self._descriptors.append(_open(path))
        except BaseException:
            self.close()
            raise

    def write(self, disk: int, data: memoryview, offset: int) -> bool:
        """Write all of the data; False: nothing was written, take the other way."""
        descriptor, length = self._descriptors[disk], len(data)
        if descriptor is None or length < DIRECT_BYTES_MIN:
            return False
        if offset % ALIGNMENT_BYTES or length % ALIGNMENT_BYTES:
            return False
        piece = data
        if not _begins_at_block(data):
            piece = self._aligned[:length]
            piece[:] = data
        try:
            written = os.pwrite(descriptor, piece, offset)
        except OSError as error:
            if error.errno not in _CANNOT:
                raise
            # Disks with larger sectors than any that frames are aligned to.
            self._descriptors[disk] = None
            os.close(descriptor)
            return False
        if written < length:
            write_fully(descriptor, piece[written:], offset + written)
        return True

    def close(self) -> None:
        """Close the files."""
        for descriptor in self._descriptors:
            if descriptor is not None:
                os.close(descriptor)
        self._descriptors = []


def _begins_at_block(view: memoryview) -> bool:
    # What was unpacked is read-only, and its address cannot be asked for.
    if view.readonly:
        return False
    return ctypes.addressof(ctypes.c_char.from_buffer(view)) % ALIGNMENT_BYTES == 0


def _open(path: Path) -> int | None:
    direct = getattr(os, "O_DIRECT", None)
    if direct is None:
        return None
    try:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC | direct)
    except OSError as error:
        if error.errno not in _CANNOT:
            raise
        return None
