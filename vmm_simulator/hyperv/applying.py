"""What tells after a kill that change sets may be half on the disks, and who wrote to them since.

An empty file beside the logs: there while change sets are being written to the disks. Its time is
set anew as the writing goes on, by the clock that dates the disks' own changes: a disk that was
changed much later than that was changed by somebody else. It is never synced: after the machine
as a whole went down the boot id tells that nothing is known (replica_record.ReplicaRecord.boot).
"""

import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from vmm_simulator.hyperv.backend import DiskFile
from vmm_simulator.hyperv.replica_record import FileGuard

APPLYING_FILE: Final = "applying"
TOUCHED_FRAMES: Final = 16
"""So many frames are written between two settings of the time."""

STRANGER_NANOSECONDS: Final = 5_000_000_000
"""A change of a disk that is so much later than the file's time is not ours."""


class Applying:
    """The file of one machine's folder; all methods block."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / APPLYING_FILE
        self._descriptor: int | None = None
        self._frames = 0
        self._keeps_time = False
        try:
            self._left_at: int | None = self._path.stat().st_mtime_ns
        except FileNotFoundError:
            self._left_at = None
        self._present = self.was_left = self._left_at is not None

    def altered_since(self, disks: Sequence[DiskFile]) -> bool:
        """Return whether somebody wrote to a disk after a kill had ended the writing here.

        Found once, it is found again after any further kill, until `end`.
        """
        left_at, self._left_at = self._left_at, None
        if left_at is not None:
            latest = max(FileGuard.of(disk).changed for disk in disks)
            self._keeps_time = latest > left_at + STRANGER_NANOSECONDS
        return self._keeps_time

    def __enter__(self) -> Self:
        """Say that writing begins; it counts as going on until `end`."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC
        self._descriptor = os.open(self._path, flags, 0o600)
        self._present = True
        self._frames = 0
        self.before_write()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def before_write(self) -> None:
        """Keep the time up: asked before each frame that is written."""
        due = self._frames % TOUCHED_FRAMES == 0 and not self._keeps_time
        if self._descriptor is not None and due:
            os.utime(self._descriptor)
        self._frames += 1

    def end(self) -> None:
        """Say that all is whole on the disks, or will never be."""
        self._left_at, self._keeps_time = None, False
        if self._present:
            self._path.unlink(missing_ok=True)
            self._present = False
