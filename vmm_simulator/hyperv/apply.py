"""Writing change sets into disk files: whole, durable, and the same when done twice."""

import os
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from vmm_simulator.hyperv.backend import BackendStateError, DiskFile
from vmm_simulator.hyperv.disks import empty, punch_hole, write_fully
from vmm_simulator.hyperv.frames import Frame, FrameKind
from vmm_simulator.hyperv.redo_log import RedoLog


class OpenDisks:
    """The disk files of a machine, open for writing."""

    def __init__(self, disks: Sequence[DiskFile]) -> None:
        self.sizes = tuple(disk.size_bytes for disk in disks)
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

    def empty(self) -> None:
        """Drop all bytes: every disk reads as zeros."""
        for descriptor, size in zip(self.descriptors, self.sizes, strict=True):
            empty(descriptor, size)

    def sync(self) -> None:
        """Return when all that was written is durable."""
        for descriptor in self.descriptors:
            os.fdatasync(descriptor)

    def close(self) -> None:
        """Close the files."""
        for descriptor in self.descriptors:
            os.close(descriptor)
        self.descriptors = []


def apply_log(log: RedoLog, disks: Sequence[DiskFile]) -> None:
    """Bring a committed log onto the disks and return when that is durable.

    The log is verified to its end before the first byte is written: a damaged one changes nothing.
    May be repeated after any interruption.
    """
    with OpenDisks(disks) as opened:
        if opened.sizes != log.sizes:
            raise BackendStateError(
                f"{log.path} is for disks of {log.sizes} bytes, these have {opened.sizes}"
            )
        for _ in log.frames():
            pass
        for frame in log.frames():
            opened.write(frame)
        opened.sync()
