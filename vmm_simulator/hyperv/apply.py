"""Writing change sets into disk files: whole, durable, and the same when done twice."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Self

from vmm_simulator.hyperv.backend import BackendStateError, DiskFile
from vmm_simulator.hyperv.blocks import bitmap_bytes, blocks_touched, set_bits
from vmm_simulator.hyperv.disks import begin_writeback, empty, punch_hole, write_fully
from vmm_simulator.hyperv.frame_log import WRITEBACK_BYTES, FrameLog
from vmm_simulator.hyperv.frames import Frame, FrameKind


class OpenDisks:
    """The disk files of a machine, open for writing."""

    def __init__(self, disks: Sequence[DiskFile]) -> None:
        self.sizes = tuple(disk.size_bytes for disk in disks)
        self.paths = tuple(disk.path for disk in disks)
        self.descriptors: list[int] = []
        try:
            for disk in disks:
                self._open(disk)
        except BaseException:
            self.close()
            raise

    def _open(self, disk: DiskFile) -> None:
        try:
            descriptor = os.open(disk.path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            raise BackendStateError(
                f"the disk file {disk.path} is missing; restore it or copy the machine again"
            ) from None
        self.descriptors.append(descriptor)
        found = os.fstat(descriptor).st_size
        if found != disk.size_bytes:
            raise BackendStateError(
                f"the disk file {disk.path} has {found} bytes instead of {disk.size_bytes}"
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def write(self, frame: Frame) -> None:
        """Bring one change onto its disk; not yet durable."""
        descriptor = self.descriptors[frame.disk]
        if frame.kind is FrameKind.ZERO:
            punch_hole(descriptor, frame.offset, frame.length)
        else:
            write_fully(descriptor, frame.payload, frame.offset)

    def begin_writeback(self, disk: int, offset: int, length: int) -> None:
        """Have the kernel begin to bring a range onto its disk; promises nothing."""
        begin_writeback(self.descriptors[disk], offset, length)

    def empty(self) -> None:
        """Drop all bytes: every disk reads as zeros."""
        for descriptor, size in zip(self.descriptors, self.sizes, strict=True):
            empty(descriptor, size)

    def sync(self) -> None:
        """Return when all that was written is durable, the times of the files too.

        By these times a file is known again (replica_record.FileGuard): after a power cut they must
        not be older than what was noted.
        """
        for descriptor in self.descriptors:
            os.fsync(descriptor)

    def close(self) -> None:
        """Close the files."""
        for descriptor in self.descriptors:
            os.close(descriptor)
        self.descriptors = []


class TouchedBlocks:
    """Sums up which blocks frames change, per disk."""

    def __init__(self, sizes: Sequence[int]) -> None:
        self._bitmaps = [bytearray(max(1, bitmap_bytes(size))) for size in sizes]

    def add(self, frame: Frame) -> None:
        """Count a frame's blocks in."""
        blocks = blocks_touched(frame.offset, frame.length)
        set_bits(self._bitmaps[frame.disk], blocks.start, blocks.stop - 1)

    @property
    def bitmaps(self) -> list[bytes]:
        """What was counted so far."""
        return [bytes(bitmap) for bitmap in self._bitmaps]


def touched_blocks(log: FrameLog) -> list[bytes]:
    """Return the blocks that a log changes, per disk; FrameError unless it is whole."""
    touched = TouchedBlocks(log.sizes)
    for frame in log.frames():
        touched.add(frame)
    return touched.bitmaps


def require_sizes(log: FrameLog, disks: OpenDisks) -> None:
    """Raise BackendStateError unless the log is for disks of these sizes."""
    if disks.sizes != log.sizes:
        raise BackendStateError(
            f"{log.path} is for disks of {log.sizes} bytes, these have {disks.sizes}"
        )


def write_log(log: FrameLog, disks: OpenDisks, before: Callable[[], None] | None = None) -> None:
    """Bring a log that is known to be whole onto the disks; not yet durable, may be repeated.

    `before` is called before each write.
    """
    begun, waiting = (0, 0), 0
    with Writeback(disks) as writeback:
        for frame in log.frames():
            if before is not None:
                before()
            disks.write(frame)
            waiting += frame.length
            if frame.disk != begun[0]:
                begun = (frame.disk, frame.offset)
            if waiting >= WRITEBACK_BYTES:
                # Frames come in the order of their places.
                end = frame.offset + frame.length
                writeback.begin(frame.disk, begun[1], end - begun[1])
                begun, waiting = (frame.disk, end), 0


class Writeback:
    """Has the disks work while more is written: asking the kernel for it takes as long as it does.

    Promises nothing; a sync is due all the same. Ends when all that it was asked for is begun.
    """

    def __init__(self, disks: OpenDisks) -> None:
        self._disks = disks
        self._thread: ThreadPoolExecutor | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._thread is not None:
            self._thread.shutdown()

    def begin(self, disk: int, offset: int, length: int) -> None:
        """Have a range brought onto its disk."""
        if self._thread is None:
            # Most change sets are small and need none.
            self._thread = ThreadPoolExecutor(1, "writeback")
        self._thread.submit(self._disks.begin_writeback, disk, offset, length)
