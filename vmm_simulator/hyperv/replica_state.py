"""The durable state of a replica, and how committed change sets get onto its disks."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

import structlog

from vmm_simulator.hyperv.apply import (
    OpenDisks,
    TouchedBlocks,
    require_sizes,
    touched_blocks,
    write_log,
)
from vmm_simulator.hyperv.applying import Applying
from vmm_simulator.hyperv.backend import BackendStateError, CutKind, DiskFile, TransferHeader
from vmm_simulator.hyperv.change_map import boot_id
from vmm_simulator.hyperv.comparison import drop_comparison
from vmm_simulator.hyperv.frame_log import UNFINISHED_SUFFIX, FrameLog, set_aside
from vmm_simulator.hyperv.frames import FrameError
from vmm_simulator.hyperv.recovery_points import UndoChain
from vmm_simulator.hyperv.redo_log import RedoLog, committed_logs, cut_of, drop_logs
from vmm_simulator.hyperv.replica_record import ReplicaRecord, guards_of
from vmm_simulator.hyperv.threads import run_to_end
from vmm_simulator.hyperv.transfer_header import UNUSABLE, CopyState

log = structlog.get_logger(__name__)

WAIT_SECONDS_MAX: Final = 120
"""Longest a transfer or a question waits for what is being done with the same disks."""

GROUP_LOGS_MAX: Final = 64
"""Change sets that are made durable on the disks at once, where many wait."""


class _GapError(FrameError):
    """A log does not follow on what is held."""


class ReplicaState:
    """What a copy is as a replica (replica.json and its logs) and the one way to change it.

    `noted` is told the newest guest record of every change set that is taken. Who calls `save` or
    another method that blocks holds `alone`.
    """

    def __init__(self, machine_id: str, folder: Path, noted: Callable[[int], None]) -> None:
        self.machine_id = machine_id
        self.folder = folder
        self.disks: tuple[DiskFile, ...] = ()
        self.closed_by = ""
        self.in_use = False
        self.noted = noted
        self.record = ReplicaRecord.read(folder)
        self.undo = UndoChain(machine_id, folder)
        self.applying = Applying(folder)
        # Whether a log may be half on the disks already: left by a kill or a power cut.
        self._in_doubt = bool(committed_logs(folder)) and (
            self.applying.was_left or self.record.boot != boot_id()
        )
        self._committed: TransferHeader | None = None
        self._touched: tuple[TransferHeader, TouchedBlocks] | None = None
        self._lock = asyncio.Lock()
        self._find_committed()
        # Whether a change set may be half on the disks: then their guards say nothing.
        self.being_applied = self._committed is not None

    @property
    def held(self) -> TransferHeader | None:
        """The newest change set that is held durably, applied or about to be."""
        return self._committed or self.record.held

    @property
    def sizes(self) -> tuple[int, ...]:
        """The sizes of the disks."""
        return tuple(disk.size_bytes for disk in self.disks)

    def save(self, record: ReplicaRecord) -> None:
        """Return when this is what the copy durably knows of itself (blocks)."""
        record = replace(record, boot=boot_id())
        record.write(self.folder)
        self.record = record

    def _find_committed(self) -> None:
        for path in committed_logs(self.folder):
            try:
                self._committed = RedoLog(path).header
            except FrameError:
                # Applying comes to it in its turn: the ones before count.
                return

    def delete_unfinished(self) -> None:
        """Delete what a kill left half written, and logs that no recovery point needs."""
        if self.folder.exists():
            for path in self.folder.glob(f"*{UNFINISHED_SUFFIX}"):
                path.unlink()
        self.undo.prune(self.record.points)

    def require_usable(self) -> None:
        """Raise BackendStateError unless the disks are those of one moment."""
        if self.record.state in UNUSABLE:
            raise BackendStateError(
                f"the copy {self.machine_id} is {self.record.state}: "
                "finish its full copy or import, or resynchronize it first"
            )

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Be the only one who does something with the disks and the record."""
        async with asyncio.timeout(WAIT_SECONDS_MAX):
            await self._lock.acquire()
        try:
            yield
        finally:
            self._lock.release()

    def note_committed(self, header: TransferHeader, touched: TouchedBlocks | None = None) -> None:
        """Remember that a change set is held durably, in the thread that committed it.

        `touched`: what it changes, where that is known without reading it once more.
        """
        self.being_applied = True
        self._touched = None if touched is None else (header, touched)
        self._committed = header

    def begin_empty(self, state: CopyState = CopyState.EMPTY) -> None:
        """Forget all that the disks were worth (blocks)."""
        self.save(ReplicaRecord(state=state))
        drop_comparison(self.folder)
        self._drop_logs(committed_logs(self.folder))
        self._none_left()
        self.undo.prune(())

    def write_whole(self, whole: FrameLog, progress: Callable[[int], None]) -> None:
        """Make the disks those of a log that builds on nothing, unusable until the end (blocks)."""
        if self.record.partial is not None:
            self.save(replace(self.record, partial=None))
        with OpenDisks(self.disks) as opened:
            opened.empty()
            done = 0
            for frame in whole.frames():
                opened.write(frame)
                done += frame.length
                progress(done)
            opened.sync()
        self._drop_logs(self._not_building_on(whole.header))
        if not committed_logs(self.folder):
            self._none_left()
        self.save_complete(whole.header)

    def _not_building_on(self, header: TransferHeader) -> list[Path]:
        """Return the held logs that are part of a whole copy already, or leave a gap to it."""
        paths = committed_logs(self.folder)
        contained = [path for path in paths if cut_of(path) <= header.cut]
        later = [path for path in paths if cut_of(path) > header.cut]
        if later and not self._builds_on(later[0], header):
            return paths
        return contained

    def _builds_on(self, path: Path, header: TransferHeader) -> bool:
        try:
            found = RedoLog(path).header
        except FrameError:
            # Applying comes to it and gives it up as damaged.
            return True
        return (found.relationship_id, found.cut) == (header.relationship_id, header.cut + 1)

    def save_complete(self, header: TransferHeader) -> None:
        """Note that the disks, durable as they are now, are those of a change set (blocks)."""
        self.save(
            replace(
                self.record,
                state=CopyState.COMPLETE,
                held=header,
                partial=None,
                guards=guards_of(self.disks),
            )
        )

    async def look_for_alteration(self) -> None:
        """Notice that someone else wrote to the disks; a copy in use is not looked at."""
        if self.being_applied or self.in_use or self.record.promotion is not None:
            return
        if self.record.state not in (CopyState.BASE, CopyState.COMPLETE) or not self.record.guards:
            return
        if guards_of(self.disks) != self.record.guards:
            await run_to_end(self._note_alteration, self.record.held)

    async def apply_committed(self) -> None:
        """Bring all committed change sets onto the disks, in order."""
        if self.record.state is CopyState.AWAITING_IMPORT:
            return
        while paths := committed_logs(self.folder):
            for start in range(0, len(paths), GROUP_LOGS_MAX):
                group = paths[start : start + GROUP_LOGS_MAX]
                if not await run_to_end(self._apply_group, group):
                    break
        self._none_left()

    def _apply_group(self, paths: Sequence[Path]) -> bool:
        """Whether all of them, and so the next ones, could be applied (blocks)."""
        newest, unusable, cause = self.record.held, None, ""
        # All logs that a kill left were committed before anybody could write to the disks.
        strangers = self._altered_by_strangers()
        altered, in_doubt = self.record.state is CopyState.ALTERED, False
        with OpenDisks(self.disks) as opened, self.applying:
            for path in paths:
                try:
                    redo = RedoLog(path)
                    if not self._is_contained(redo.header, newest):
                        _require_next(redo.header, newest)
                        self._write(redo, opened)
                        newest = redo.header
                        altered = altered and newest.kind is not CutKind.DIFFERENCES
                except FrameError as error:
                    unusable, cause = path, str(error)
                    # What leaves a gap was never begun.
                    in_doubt = self._in_doubt and not isinstance(error, _GapError)
                    break
            opened.sync()
        if unusable is not None and in_doubt:
            return self._give_up_disks(unusable, cause)
        if newest is not None and newest != self.record.held:
            if altered or strangers:
                self._note_alteration(newest)
            else:
                self.save_complete(newest)
        if unusable is not None:
            self._give_up_from(unusable, cause)
        self._drop_logs([path for path in paths if unusable is None or path < unusable])
        if newest is not None:
            log.info("change_sets_applied", machine_id=self.machine_id, cut=newest.cut)
        return unusable is None

    def _altered_by_strangers(self) -> bool:
        """Return whether others wrote to the disks since a kill in the middle of an apply."""
        known = self._in_doubt and self.record.boot == boot_id()
        return known and self.applying.altered_since(self.disks)

    def _note_alteration(self, held: TransferHeader | None) -> None:
        log.error("replica_altered", machine_id=self.machine_id, found=guards_of(self.disks))
        # What undo logs lead back to is not known any more either.
        self.save(ReplicaRecord(state=CopyState.ALTERED, held=held))
        self.undo.prune(())

    def _is_contained(self, header: TransferHeader, newest: TransferHeader | None) -> bool:
        """Return whether a log is applied already, or never counts here.

        So it is with one of another relationship, and with changes that a kill has left behind
        where nothing is any more that they build on.
        """
        if newest is None:
            return self.record.state in UNUSABLE and header.kind is not CutKind.DIFFERENCES
        if header == newest:
            return True
        if header.relationship_id != newest.relationship_id:
            log.error("redo_log_foreign", machine_id=self.machine_id, cut=header.cut)
            return True
        return header.cut <= newest.cut

    def _write(self, redo: RedoLog, opened: OpenDisks) -> None:
        require_sizes(redo, opened)
        # Verified to its end before the first byte is written: a damaged one changes nothing. What
        # this process has verified as it came in is not read twice.
        known, self._touched = self._touched, None
        if known is None or known[0] != redo.header:
            touched = touched_blocks(redo)
        else:
            touched = known[1].bitmaps
        points = self.record.points
        if redo.header.kind is CutKind.DIFFERENCES and points:
            # After a resynchronization the old points are gone (behaviour 1.6, step 7).
            points = ()
            self.save(replace(self.record, points=()))
            self.undo.prune(())
        self.undo.preserve(redo.header, opened, touched, points)
        doubted, self._in_doubt = self._in_doubt, True
        write_log(redo, opened, self.applying.before_write)
        self._in_doubt = doubted

    def _give_up_disks(self, damaged: Path, cause: str) -> bool:
        """Note that the disks are of no one moment: part of a log that is lost is on them."""
        log.error("replica_half_applied", machine_id=self.machine_id, log=damaged.name, cause=cause)
        self.save(ReplicaRecord(state=CopyState.INCOMPLETE))
        self.undo.prune(())
        self._give_up_from(damaged, cause)
        self._drop_logs(committed_logs(self.folder))
        return False

    def _give_up_from(self, damaged: Path, cause: str) -> None:
        # The disks stay at the change set before; the next delta is refused for its gap, and the
        # primary is told to resynchronize. What follows a damaged log cannot be applied.
        log.error("redo_log_damaged", machine_id=self.machine_id, log=damaged.name, cause=cause)
        later = [path for path in committed_logs(self.folder) if path > damaged]
        set_aside(damaged)
        self._drop_logs(later)

    def _drop_logs(self, paths: Sequence[Path]) -> None:
        drop_logs(self.folder, paths, sum(self.sizes))

    def _none_left(self) -> None:
        self._committed = None
        self.being_applied = self._in_doubt = False
        self.applying.end()


def _require_next(header: TransferHeader, newest: TransferHeader | None) -> None:
    """Raise _GapError where a log does not follow on what is held (a comparison may skip some)."""
    if newest is None or header.kind is CutKind.DIFFERENCES or header.cut == newest.cut + 1:
        return
    raise _GapError(f"change set {header.cut} leaves a gap after {newest.cut}")
