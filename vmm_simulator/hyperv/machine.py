"""The bytes of one machine on its host: guest writes, marks, cuts. Synchronous on purpose.

Everything here runs between two turns of the event loop, so that a cut lies between two writes of
the guest on all disks, never inside one (design: replication).
"""

import os
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

from vmm_simulator.hyperv.apply import OpenDisks
from vmm_simulator.hyperv.backend import (
    BackendStateError,
    ChangeSet,
    Consistency,
    CutKind,
    DiskFile,
)
from vmm_simulator.hyperv.blocks import bitmap_bytes, blocks_touched, marked_bytes, set_bits, union
from vmm_simulator.hyperv.change_map import TrackedChanges
from vmm_simulator.hyperv.copy_before_write import FrozenCut
from vmm_simulator.hyperv.disk_change import forget_intent, fulfil, read_intent, write_intent
from vmm_simulator.hyperv.disks import allocated_extents, write_fully
from vmm_simulator.hyperv.frames import DISKS_MAX
from vmm_simulator.hyperv.last_record import LastRecord
from vmm_simulator.hyperv.promotion import CLOSED_BY, PromotedCopy
from vmm_simulator.hyperv.replica import Replica


class HostedMachine:
    """One copy of a machine on this host, whatever its role; `folder` holds what is kept of it."""

    def __init__(self, machine_id: str, folder: Path) -> None:
        self.machine_id = machine_id
        self.folder = folder
        self.disks: tuple[DiskFile, ...] = ()
        self.replica = Replica(machine_id, folder, self._set_last_record)
        self.tracked = TrackedChanges.reopen(folder)
        self.frozen: FrozenCut | None = None
        self.writes_forbidden = False
        # A whole copy was cut and not acknowledged: the next cut contains it, whatever its kind.
        self._owes_whole = False
        self._opened: OpenDisks | None = None
        self._last_record: LastRecord | None = None
        self.promoted = PromotedCopy(self.replica)
        self.say_why_closed()

    @property
    def attached(self) -> bool:
        """Whether a guest may be served."""
        return self._opened is not None

    def say_why_closed(self) -> None:
        """Have the replica refuse change sets while the copy is used in another way."""
        self.replica.in_use = self._opened is not None or self.tracked is not None
        if self._opened is not None:
            self.replica.closed_by = "a guest is attached to it"
        elif self.tracked is not None:
            self.replica.closed_by = "it notes its own changes"
        elif self.replica.record.promotion is not None:
            self.replica.closed_by = CLOSED_BY
        else:
            self.replica.closed_by = ""

    def set_disks(self, disks: Sequence[DiskFile]) -> None:
        """Say which files these are."""
        if not 0 < len(disks) <= DISKS_MAX:
            raise BackendStateError(
                f"the machine {self.machine_id} needs 1 to {DISKS_MAX} disks, not {len(disks)}"
            )
        intended = read_intent(self.folder)
        if intended is not None:
            if intended != tuple(disks):
                raise BackendStateError(
                    f"a change of the disks of {self.machine_id} was interrupted: repeat it, so "
                    "that the inventory names them as they are"
                )
            forget_intent(self.folder)
        sizes = tuple(disk.size_bytes for disk in disks)
        if self.tracked is not None and self.tracked.sizes != sizes:
            raise BackendStateError(
                f"the disks of {self.machine_id} have other sizes than those that were tracked: "
                "stop tracking and resynchronize"
            )
        self.disks = tuple(disks)
        self.replica.disks = self.disks

    def change_disks(self, disks: Sequence[DiskFile]) -> None:
        """Make the disks these, in other sizes or with more of them (blocks)."""
        self._take_back_frozen()
        write_intent(self.folder, disks)
        self.finish_disk_change()

    def finish_disk_change(self) -> tuple[DiskFile, ...] | None:
        """Fulfil what was intended for the disks, also before a kill; returns it (blocks)."""
        disks = read_intent(self.folder)
        if disks is None:
            return None
        attached = self.attached
        self.close_disks()
        fulfil(disks)
        if self.tracked is not None:
            added = disks[len(self.tracked.sizes) :]
            with OpenDisks(added) as opened:
                bitmaps = [
                    _allocated(*each) for each in zip(opened.descriptors, opened.sizes, strict=True)
                ]
            self.tracked.resize([disk.size_bytes for disk in disks], bitmaps)
        self.disks = self.replica.disks = disks
        if attached:
            self.open_disks()
        return disks

    def require_disks(self) -> tuple[DiskFile, ...]:
        """Return the disks, or say that nobody named them."""
        if not self.disks:
            raise BackendStateError(
                f"the disks of {self.machine_id} are not known: attach or recover it first"
            )
        return self.disks

    def open_disks(self) -> None:
        """Serve guest writes."""
        if self._opened is None:
            self._opened = OpenDisks(self.require_disks())

    def close_disks(self) -> None:
        """Serve no guest any more."""
        opened, self._opened = self._opened, None
        if opened is not None:
            opened.close()

    def sync(self) -> Callable[[], None]:
        """Return what makes marks and written bytes durable, the marks first (a thread's work).

        It has descriptors of its own: the disks may be closed meanwhile.
        """
        tracked = self.tracked
        descriptors = [os.dup(each) for each in self._opened.descriptors] if self._opened else []

        def work() -> None:
            try:
                if tracked is not None:
                    tracked.flush()
                for descriptor in descriptors:
                    os.fdatasync(descriptor)
            finally:
                for descriptor in descriptors:
                    os.close(descriptor)

        return work

    def write(self, disk_index: int, offset: int, data: bytes, record: int) -> None:
        """Take one guest write: mark, keep what a cut needs, write."""
        opened = self._opened
        if self.writes_forbidden or opened is None:
            raise PermissionError(
                f"the copy {self.machine_id} takes no writes: "
                + ("it is fenced" if self.writes_forbidden else "it is not attached")
            )
        if not 0 <= disk_index < len(opened.sizes):
            raise ValueError(f"there is no disk {disk_index}")
        if offset < 0 or not data or offset + len(data) > opened.sizes[disk_index]:
            raise ValueError(f"bytes {offset} to {offset + len(data)} are not on the disk")
        if self.tracked is not None:
            self.tracked.mark(disk_index, offset, len(data))
        if self.frozen is not None:
            self.frozen.preserve(disk_index, offset, len(data))
        if self.promoted.revertible:
            descriptor = opened.descriptors[disk_index]
            self.promoted.preserve(disk_index, descriptor, offset, len(data))
        write_fully(opened.descriptors[disk_index], data, offset)
        if record > self._records().number:
            self._set_last_record(record)

    def start_tracking(self) -> None:
        """Note changes from now on; goes on where it already does."""
        if self.tracked is None:
            sizes = [disk.size_bytes for disk in self.require_disks()]
            tracked = TrackedChanges.start(self.folder, sizes)
            if self.promoted.active:
                # Relative to the newest change set, a promotion to an older point is a change too.
                if self.promoted.revertible:
                    tracked.merge(self.promoted.changed_blocks())
                else:
                    tracked.mark_everything()
            self.tracked = tracked

    def stop_tracking(self) -> None:
        """Forget the marks, and a cut that was not released."""
        if self.frozen is not None:
            self.frozen.release()
            self.frozen = None
        self._owes_whole = False
        tracked, self.tracked = self.tracked, None
        if tracked is not None:
            tracked.stop()

    def pending_bytes(self) -> int:
        """Return how much is marked or cut, and not acknowledged."""
        if self.tracked is None:
            return 0
        return self.tracked.pending_bytes(self.frozen.bitmaps if self.frozen else None)

    def tracked_bytes(self) -> int:
        """Return how much has changed and is not acknowledged, whatever a cut sends besides."""
        if self.tracked is None:
            return 0
        return self.tracked.pending_bytes(self.frozen.marks if self.frozen else None)

    def cut(self, kind: CutKind, cut: int, now: datetime, consistency: Consistency) -> ChangeSet:
        """Freeze all disks at this moment."""
        disks = self.require_disks()
        if self.tracked is None:
            raise BackendStateError(f"{self.machine_id} is not tracked: start tracking first")
        self._take_back_frozen()
        frozen = FrozenCut(disks, self.folder)
        try:
            whole = kind in (CutKind.FULL, CutKind.DIFFERENCES) or self._owes_whole
            allocated = (
                [_allocated(disk.descriptor, disk.size_bytes) for disk in frozen.disks]
                if whole
                else None
            )
            marked = self.tracked.swap()
        except BaseException:
            frozen.release()
            raise
        self._owes_whole = whole
        bitmaps = marked
        if allocated is not None:
            bitmaps = [union(*both) for both in zip(marked, allocated, strict=True)]
        total = 0
        parts = [None] * len(marked) if whole else self.tracked.cut_parts
        for disk, bitmap, marks, known in zip(frozen.disks, bitmaps, marked, parts, strict=True):
            disk.freeze(bitmap, marks, known)
            total += marked_bytes(disk.bitmap, disk.size_bytes)
        frozen.change_set = ChangeSet(
            self.machine_id, cut, kind, now, self._records().number, total, consistency
        )
        self.frozen = frozen
        return frozen.change_set

    def _take_back_frozen(self) -> None:
        if self.frozen is None:
            return
        if self.frozen.in_use:
            raise BackendStateError(
                f"a cut of {self.machine_id} is being sent: release it before the next"
            )
        self._give_back(self.frozen)

    def frozen_for(self, change_set: ChangeSet) -> FrozenCut:
        """Return the frozen bytes of a change set that is not released."""
        if self.frozen is None or self.frozen.change_set != change_set:
            raise BackendStateError(
                f"cut {change_set.cut} of {self.machine_id} is not frozen any more: cut again"
            )
        return self.frozen

    def release(self, change_set: ChangeSet, *, acknowledged: bool) -> None:
        """Drop an acknowledged cut, give the marks of another back; repeated: nothing."""
        frozen = self.frozen
        if frozen is None or frozen.change_set != change_set:
            return
        if not acknowledged:
            self._give_back(frozen)
            return
        self.frozen = None
        self._owes_whole = False
        frozen.release()
        if self.tracked is not None:
            self.tracked.acknowledge()

    def _give_back(self, frozen: FrozenCut) -> None:
        marks = frozen.marks
        self.frozen = None
        frozen.release()
        if self.tracked is not None:
            self.tracked.give_back(marks)

    def close(self) -> None:
        """Close everything; marks and cuts stay for the next start (blocks: a thread)."""
        self.sync()()
        self.close_disks()
        self.promoted.close()
        if self.frozen is not None:
            self._give_back(self.frozen)
        if self.tracked is not None:
            self.tracked.close()
            self.tracked = None
        if self._last_record is not None:
            self._last_record.close()
            self._last_record = None

    @property
    def last_record(self) -> int:
        """The newest guest record on the disks, 0 where none was ever named."""
        if self._last_record is None and not (self.folder / "last-record").exists():
            return 0  # looking makes no file
        return self._records().number

    def _records(self) -> LastRecord:
        if self._last_record is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._last_record = LastRecord(self.folder / "last-record")
        return self._last_record

    def _set_last_record(self, number: int) -> None:
        self._records().set(number)


def _allocated(descriptor: int, size_bytes: int) -> bytes:
    bitmap = bytearray(max(1, bitmap_bytes(size_bytes)))
    for start, end in allocated_extents(descriptor, size_bytes):
        blocks = blocks_touched(start, end - start)
        set_bits(bitmap, blocks.start, blocks.stop - 1)
    return bytes(bitmap)
