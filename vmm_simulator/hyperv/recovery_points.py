"""The undo logs of one replica: written before each change set, read to go back to a point."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import structlog

from vmm_simulator.hyperv.apply import OpenDisks, touched_blocks
from vmm_simulator.hyperv.backend import BackendStateError, TransferHeader
from vmm_simulator.hyperv.blocks import union
from vmm_simulator.hyperv.disks import sync_folder
from vmm_simulator.hyperv.frame_log import set_aside
from vmm_simulator.hyperv.frames import FrameError
from vmm_simulator.hyperv.replica_record import KeptPoint
from vmm_simulator.hyperv.undo_log import UndoLog, undo_cuts, undo_path, write_undo

log = structlog.get_logger(__name__)


class UndoChain:
    """All methods but `reachable` block: they run in threads, one at a time."""

    def __init__(self, machine_id: str, folder: Path) -> None:
        self._machine_id = machine_id
        self._folder = folder
        self._cuts = undo_cuts(folder)
        # What is kept since the newest point already; after a start nothing is known to be, which
        # costs space only: of two old versions of a block the older log is applied last.
        self._kept_since: tuple[int, tuple[int, ...]] | None = None
        self._kept: list[bytes] = []

    def preserve(
        self,
        header: TransferHeader,
        disks: OpenDisks,
        bitmaps: Sequence[bytes],
        points: Sequence[KeptPoint],
    ) -> None:
        """Return when what the change set overwrites is durably kept, if any point needs it.

        A log that is there already is of a time before a kill: the disks may have changed since.
        """
        older = [point.header.cut for point in points if point.header.cut < header.cut]
        if not older or self._is_preserved(header):
            return
        since = (max(older), disks.sizes)
        if self._kept_since != since:
            self._kept_since, self._kept = since, [bytes(len(bitmap)) for bitmap in bitmaps]
        fresh = [_without(*both) for both in zip(bitmaps, self._kept, strict=True)]
        write_undo(self._folder, header, disks.descriptors, disks.sizes, fresh)
        self._cuts.add(header.cut)
        self._kept = [union(*both) for both in zip(self._kept, fresh, strict=True)]

    def _is_preserved(self, header: TransferHeader) -> bool:
        path = undo_path(self._folder, header.cut)
        if header.cut not in self._cuts:
            return False
        try:
            return UndoLog(path).header == header
        except FrameError as error:
            # Nothing older than this change set can be gone back to, and that is all that is lost.
            self._lose(header.cut, str(error))
            return True

    def reachable(self, points: Sequence[KeptPoint], newest: int) -> list[KeptPoint]:
        """Return the points that all logs are there for, the newest first."""
        found: list[KeptPoint] = []
        cut = newest
        for point in sorted(points, key=lambda each: each.header.cut, reverse=True):
            while cut > point.header.cut and cut in self._cuts:
                cut -= 1
            if cut > point.header.cut:
                break
            found.append(point)
        return found

    def verified(self, point: KeptPoint, newest: int) -> tuple[list[UndoLog], list[bytes]]:
        """Return the logs back to a point, the newest first, and all blocks that they hold.

        BackendStateError when one is damaged; then the points that are older are gone, no others.
        """
        logs: list[UndoLog] = []
        everything: list[bytes] = []
        for cut in range(newest, point.header.cut, -1):
            try:
                undo = UndoLog(undo_path(self._folder, cut))
                bitmaps = touched_blocks(undo)
            except (FrameError, FileNotFoundError) as error:
                self._lose(cut, str(error))
                raise BackendStateError(
                    f"the undo log of change set {cut} is damaged ({error}): older recovery points "
                    "are lost; choose a newer one"
                ) from error
            logs.append(undo)
            everything = _union_of(everything, bitmaps)
        return logs, everything

    def logs(self, point: KeptPoint, newest: int) -> Iterator[UndoLog]:
        """Yield the logs back to a point, the newest first, each whole when it was verified."""
        for cut in range(newest, point.header.cut, -1):
            yield UndoLog(undo_path(self._folder, cut))

    def prune(self, points: Sequence[KeptPoint]) -> None:
        """Delete the logs that no point needs; the record without the others is durable before."""
        oldest = min((point.header.cut for point in points), default=None)
        unneeded = [cut for cut in self._cuts if oldest is None or cut <= oldest]
        for cut in unneeded:
            undo_path(self._folder, cut).unlink(missing_ok=True)
            self._cuts.discard(cut)
        if unneeded:
            sync_folder(self._folder)

    def _lose(self, cut: int, cause: str) -> None:
        path = undo_path(self._folder, cut)
        if path.exists():
            set_aside(path)
        self._cuts.discard(cut)
        log.error("undo_log_damaged", machine_id=self._machine_id, cut=cut, cause=cause)


def _without(bitmap: bytes, other: bytes) -> bytes:
    left = int.from_bytes(bitmap, "little") & ~int.from_bytes(other, "little")
    return left.to_bytes(len(bitmap), "little")


def _union_of(one: list[bytes], other: list[bytes]) -> list[bytes]:
    """Join bitmaps of disks that may have grown, or become more, between the two."""
    joined: list[bytes] = []
    for index in range(max(len(one), len(other))):
        parts = [each[index] for each in (one, other) if index < len(each)]
        length = max(len(part) for part in parts)
        padded = [part.ljust(length, b"\0") for part in parts]
        joined.append(union(padded[0], padded[-1]))
    return joined
