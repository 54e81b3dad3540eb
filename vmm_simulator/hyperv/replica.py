"""One machine's copy as a replica: it takes change sets whole, in order, or not at all."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import structlog

from vmm_simulator.hyperv.apply import OpenDisks
from vmm_simulator.hyperv.backend import (
    AppliedCut,
    BackendStateError,
    CutKind,
    DiskFile,
    PointKind,
    RecoveryPoint,
    TransferHeader,
    TransferRefusedError,
)
from vmm_simulator.hyperv.comparison import ComparedCopy, compared_place, open_comparison
from vmm_simulator.hyperv.digests import RUNS_MAX, allocated_runs, disk_digests
from vmm_simulator.hyperv.disks import make_empty
from vmm_simulator.hyperv.frame_log import FrameLog
from vmm_simulator.hyperv.incoming import Destination, DirectCopy, Incoming, SpooledCopy
from vmm_simulator.hyperv.replica_record import (
    POINTS_MAX,
    KeptPoint,
    PartialCopy,
    ReplicaRecord,
    guards_of,
    newest_point,
)
from vmm_simulator.hyperv.replica_state import WAIT_SECONDS_MAX, ReplicaState
from vmm_simulator.hyperv.threads import run_to_end
from vmm_simulator.hyperv.transfer_header import (
    UNUSABLE,
    CopyState,
    Decision,
    applied_by,
    decide,
)
from vmm_simulator.problems import Code

log = structlog.get_logger(__name__)


class Replica(ReplicaState):
    """What is taken, kept and answered; the state beneath, and applying, are ReplicaState's."""

    def __init__(self, machine_id: str, folder: Path, noted: Callable[[int], None]) -> None:
        super().__init__(machine_id, folder, noted)
        self._opening = asyncio.Lock()
        self._incoming: Incoming | None = None

    async def create(self, disks: Sequence[DiskFile], missing: Sequence[DiskFile]) -> None:
        """Become a replica over these disks; where some are missing all hold nothing yet."""
        await self._drop_incoming()
        async with self.alone():
            self.disks = tuple(disks)
            if missing:
                # Before the first file is made anew: a copy of nothing must not pass for one.
                await run_to_end(self.begin_empty)
                for disk in missing:
                    await run_to_end(make_empty, disk.path, disk.size_bytes)
            elif self.record.state is None:
                base = ReplicaRecord(state=CopyState.BASE, guards=guards_of(disks))
                await run_to_end(self.save, base)
            self.closed_by = ""

    async def await_import(self) -> None:
        """Hold what comes until an export is imported."""
        async with self.alone():
            if self.record.state is CopyState.AWAITING_IMPORT:
                return
            if self.record.state is not CopyState.EMPTY or not self.disks:
                raise BackendStateError(
                    f"the copy {self.machine_id} is {self.record.state or 'no replica'}: only an "
                    "empty replica can wait for an import"
                )
            await run_to_end(self.save, ReplicaRecord(state=CopyState.AWAITING_IMPORT))

    async def import_whole(self, whole: FrameLog, progress: Callable[[int], None]) -> AppliedCut:
        """Make the disks those of an exported copy, then apply what was held for it."""
        header = whole.header
        async with self.alone():
            held, state = self.held, self.record.state
            if state is CopyState.COMPLETE and held is not None and _follows(held, header):
                return self._acknowledge(held)
            if state not in UNUSABLE or self.closed_by or not self.disks:
                raise BackendStateError(
                    f"the copy {self.machine_id} takes no import: "
                    f"{self.closed_by or state or 'it is no replica'}; make it an empty replica"
                )
            if whole.sizes != self.sizes:
                raise BackendStateError(
                    f"the export is of disks of {whole.sizes} bytes, the replica's have "
                    f"{self.sizes}: give the replica the same disks"
                )
            await run_to_end(self.write_whole, whole, progress)
            await self.apply_committed()
            return self._acknowledge(self.held or header)

    async def forget(self) -> None:
        """Begin a new lineage over the same bytes."""
        await self._drop_incoming()
        async with self.alone():
            await self.apply_committed()
            state = self.record.state
            if state is not None:
                state = CopyState.BASE if state is CopyState.COMPLETE else state
                fresh = ReplicaRecord(state=state, guards=guards_of(self.disks))
                await run_to_end(self.save, fresh)
                await run_to_end(self.undo.prune, ())

    async def close(self, reason: str) -> None:
        """Take nothing more: what is under way is dropped, what is committed is applied."""
        self.closed_by = reason
        await self.settle()

    async def settle(self) -> None:
        """Return when no transfer is under way and all committed change sets are applied."""
        await self._drop_incoming()
        async with self.alone():
            await self.apply_committed()
            await self.look_for_alteration()

    async def apply(self) -> None:
        """Apply what is committed, without disturbing a transfer under way."""
        async with self.alone():
            await self.apply_committed()

    @asynccontextmanager
    async def quiet(self) -> AsyncIterator[None]:
        """Hold the disks at the newest applied change set."""
        async with self.alone():
            await self.apply_committed()
            self.require_usable()
            yield

    @asynccontextmanager
    async def changing_disks(self) -> AsyncIterator[None]:
        """Hold the disks while their sizes change: no transfer, all that is committed applied."""
        if self.record.promotion is not None:
            raise BackendStateError(
                f"the copy {self.machine_id} is failed over: commit or revert that first"
            )
        await self._drop_incoming()
        async with self.alone():
            if self.record.state is CopyState.AWAITING_IMPORT:
                raise BackendStateError(
                    f"the copy {self.machine_id} waits for an import: import it first"
                )
            await self.apply_committed()
            await self.look_for_alteration()
            yield
            if self.record.guards:
                await run_to_end(self.save, replace(self.record, guards=guards_of(self.disks)))

    async def digests(self, disk_index: int, first: int, count: int) -> bytes:
        """Return the digests of blocks as they are after all committed change sets."""
        if not 0 <= disk_index < len(self.disks):
            raise TransferRefusedError(Code.INVALID_PARAMETER, f"there is no disk {disk_index}")
        self._require_open()
        disk = self.disks[disk_index]
        async with self.alone():
            await self.apply_committed()
            return await run_to_end(disk_digests, disk.path, disk.size_bytes, first, count)

    async def allocated(self, disk_index: int, first: int) -> list[tuple[int, int]]:
        """Return runs of blocks that are no holes after all committed change sets."""
        if not 0 <= disk_index < len(self.disks):
            raise TransferRefusedError(Code.INVALID_PARAMETER, f"there is no disk {disk_index}")
        self._require_open()
        disk = self.disks[disk_index]
        async with self.alone():
            await self.apply_committed()
            return await run_to_end(allocated_runs, disk.path, disk.size_bytes, first, RUNS_MAX)

    def resynchronization_reason(self) -> str:
        """Return why nothing but a whole copy or a comparison is taken; empty when it is not so."""
        match self.record.state:
            case CopyState.ALTERED:
                return "the disks of the replica were altered by someone else"
            case CopyState.INCOMPLETE:
                return "a whole copy or a change set is only in part on the disks of the replica"
            case _:
                return ""

    # Recovery points.

    def points(self) -> list[RecoveryPoint]:
        """Return what can be failed over to, the newest first."""
        held, applied = self.held, self.record.held
        if held is None or self.record.state is not CopyState.COMPLETE:
            return []
        newest = held.cut if applied is None else applied.cut
        kept = self.undo.reachable(self.record.points, newest)
        if not kept or kept[0].header != held:
            kept.insert(0, newest_point(held, self.sizes))
        return [point.public(self.machine_id) for point in kept]

    async def make_point(self, kind: PointKind) -> RecoveryPoint:
        """Keep the state after the newest change set that is held."""
        async with self.alone():
            held = self.held
            if held is None or self.record.state is not CopyState.COMPLETE or self.closed_by:
                raise BackendStateError(
                    f"the copy {self.machine_id} holds no state that could be kept: "
                    f"{self.closed_by or self.record.state or 'it is no replica'}"
                )
            point = KeptPoint(kind, held, self.sizes)
            others = tuple(each for each in self.record.points if each.header != held)
            if len(others) >= POINTS_MAX:
                raise BackendStateError(
                    f"{POINTS_MAX} recovery points of {self.machine_id} are kept: "
                    "drop older ones first"
                )
            await run_to_end(self.save, replace(self.record, points=(*others, point)))
        return point.public(self.machine_id)

    async def keep_points(self, at_most: int) -> None:
        """Drop the oldest kept points over that number, and the logs that only they need."""
        async with self.alone():
            if at_most < len(self.record.points):
                points = self.record.points[len(self.record.points) - at_most :]
                await run_to_end(self.save, replace(self.record, points=points))
            # Also when nothing was dropped: a kill may have come between the record and the logs.
            await run_to_end(self.undo.prune, self.record.points)

    # Transfers.

    async def open(self, header: TransferHeader) -> Incoming | AppliedCut:
        """Begin to take a change set, or acknowledge again the one that is already held.

        A transfer that is still under way is dropped first: its sender has given it up. Whoever
        gets an Incoming calls `end` with it.
        """
        async with asyncio.timeout(WAIT_SECONDS_MAX), self._opening:
            await self._drop_incoming()
            if not self.being_applied:
                async with self.alone():
                    await self.look_for_alteration()
            decision = self._decide(header)
            if decision is Decision.ACKNOWLEDGE_AGAIN and self.held is not None:
                return self._acknowledge(self.held)
            destination: Destination
            if decision is Decision.WRITE_DIRECTLY:
                destination = await self._open_directly(header)
            elif header.kind is CutKind.DIFFERENCES and header.copy_id is not None:
                destination = await self._open_comparison(header)
            else:
                destination = SpooledCopy(
                    self.folder, header, self.sizes, partial(self.note_committed, header)
                )
            self._incoming = Incoming(destination, self.sizes)
            return self._incoming

    async def copied(self, header: TransferHeader) -> tuple[int, int] | None:
        """Return how far the whole copy or comparison that would be gone on with is durably here.

        Who asks has given up the transfer that may still be under way: it is dropped.
        """
        self._require_open()
        await self._drop_incoming()
        if header.kind is CutKind.DIFFERENCES:
            async with self.alone():
                await self.apply_committed()
                await self.look_for_alteration()
                return await run_to_end(
                    compared_place, self.folder, header, self.disks, self.record.held
                )
        partial = self.record.partial
        if partial is None or partial.copy_id != header.copy_id:
            return None
        return partial.disk, partial.offset

    async def _open_comparison(self, header: TransferHeader) -> ComparedCopy:
        async with self.alone():
            await self.apply_committed()
            held = self.record.held
            return await run_to_end(
                open_comparison, self.folder, header, self.disks, held, self.note_committed
            )

    async def _open_directly(self, header: TransferHeader) -> DirectCopy:
        # Held until the transfer ends: nobody may read disks that are being replaced.
        await self._lock.acquire()
        try:
            await self.apply_committed()
            self._decide(header)
            disks = OpenDisks(self.disks)
            try:
                partial = await run_to_end(self._begin_copy, header, disks)
                return DirectCopy(disks, header, partial, self._save_partial, self._complete)
            except BaseException:
                disks.close()
                raise
        except BaseException:
            self._lock.release()
            raise

    def _begin_copy(self, header: TransferHeader, disks: OpenDisks) -> PartialCopy:
        partial = self.record.partial
        if header.copy_id is not None and header.copy_id != header.transfer_id:
            if partial is None or partial.copy_id != header.copy_id:
                raise TransferRefusedError(
                    Code.INVALID_STATE,
                    f"nothing is here of the whole copy {header.copy_id}: begin it again",
                    applied_by(self.held),
                )
            return partial
        self.begin_empty(CopyState.INCOMPLETE)
        disks.empty()
        # Durably empty before the record says that the copy may be gone on with.
        disks.sync()
        partial = PartialCopy(header.transfer_id)
        self._save_partial(partial)
        return partial

    def _save_partial(self, partial: PartialCopy) -> None:
        self.save(replace(self.record, partial=partial))

    def _complete(self, header: TransferHeader) -> None:
        self.save_complete(replace(header, copy_id=None))

    async def commit(self, incoming: Incoming) -> AppliedCut:
        """Make a received change set durable under its header; then it may be acknowledged."""
        destination = incoming.destination
        if isinstance(destination, DirectCopy):
            self._require_open()
            await incoming.commit()
        else:
            async with self.alone():
                await self.apply_committed()
                self._decide(destination.header)
                await incoming.commit()
        return self._acknowledge(destination.header)

    async def end(self, incoming: Incoming) -> None:
        """Close a transfer, committed or not."""
        try:
            await incoming.close()
        finally:
            if isinstance(incoming.destination, DirectCopy):
                self._lock.release()
            if self._incoming is incoming:
                self._incoming = None

    def _acknowledge(self, header: TransferHeader) -> AppliedCut:
        self.noted(header.last_record)
        applied = applied_by(header)
        assert applied is not None
        return applied

    def _decide(self, header: TransferHeader) -> Decision:
        self._require_open()
        state = self.record.state or CopyState.EMPTY
        if self._committed is not None and state is not CopyState.AWAITING_IMPORT:
            # A whole copy that is committed counts, also before it is on the disks.
            state = CopyState.COMPLETE
        decision = decide(state, self.held, header)
        if decision is not Decision.ACKNOWLEDGE_AGAIN and header.sizes not in ((), self.sizes):
            raise TransferRefusedError(
                Code.DISK_SIZES_DIFFER,
                f"the change set is of disks of {header.sizes} bytes, the replica's have "
                f"{self.sizes}: give both ends the same disks",
                applied_by(self.held),
            )
        return decision

    def _require_open(self) -> None:
        if self.closed_by or not self.disks or self.record.state is None:
            raise TransferRefusedError(
                Code.INVALID_STATE,
                f"the copy {self.machine_id} takes no change sets: "
                f"{self.closed_by or 'it is no replica'}",
                applied_by(self.held),
            )

    @property
    def receiving(self) -> CutKind | None:
        """What kind of change set is arriving now."""
        return None if self._incoming is None else self._incoming.destination.header.kind

    async def _drop_incoming(self) -> None:
        incoming = self._incoming
        if incoming is not None:
            incoming.drop()
            async with asyncio.timeout(WAIT_SECONDS_MAX):
                await incoming.closed.wait()


def _follows(held: TransferHeader, header: TransferHeader) -> bool:
    return held.relationship_id == header.relationship_id and held.cut >= header.cut
