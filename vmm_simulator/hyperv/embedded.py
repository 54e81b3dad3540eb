"""The embedded back end: sparse raw files, 64 KiB change maps, redo logs (design: replication)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import structlog

from vmm_simulator.hyperv.backend import (
    AppliedCut,
    BackendStateError,
    ChangeSet,
    Consistency,
    CutKind,
    DiskFile,
    PeerAddress,
    PointKind,
    RecoveryPoint,
    ReplicationBackend,
    TransferHeader,
)
from vmm_simulator.hyperv.copy_before_write import FrozenCut
from vmm_simulator.hyperv.disks import copy_sparse, delete_disks
from vmm_simulator.hyperv.export_folder import Export, in_loop, write_export
from vmm_simulator.hyperv.frames import DISKS_MAX
from vmm_simulator.hyperv.host_client import HostClient
from vmm_simulator.hyperv.machine import HostedMachine
from vmm_simulator.hyperv.received_bytes import ReceivedBytes
from vmm_simulator.hyperv.sender import send_cut
from vmm_simulator.hyperv.source_origin import origin_in
from vmm_simulator.hyperv.threads import run_to_end
from vmm_simulator.hyperv.transfer_header import applied_by

log = structlog.get_logger(__name__)


class EmbeddedBackend(ReceivedBytes, ReplicationBackend):
    """Keeps what it knows of a machine in `folder`/machine id, beside nothing else.

    One event loop, one process per folder. Sends through `client`; what comes in is brought by a
    ReplicaListener.
    """

    def __init__(self, folder: Path, client: HostClient) -> None:
        super().__init__(folder)
        self._client = client

    # A guest's machine.

    async def attach(self, machine_id: str, disks: Sequence[DiskFile]) -> None:
        """Open the disks for writing by the guest's host; disks that are missing are an error."""
        machine = self._machine(machine_id)
        if machine.attached and machine.disks == tuple(disks):
            return
        await self.detach(machine_id)
        machine.set_disks(disks)
        machine.replica.require_usable()
        try:
            await machine.replica.close("a guest is attached to it")
            await run_to_end(machine.promoted.reopen)
            machine.open_disks()
        finally:
            machine.say_why_closed()

    async def detach(self, machine_id: str) -> None:
        """Flush and close the disks."""
        machine = self._machine(machine_id)
        await run_to_end(machine.sync())
        machine.close_disks()
        machine.say_why_closed()

    def write(
        self, machine_id: str, disk_index: int, offset: int, data: bytes, record: int
    ) -> None:
        """Take a guest's write: mark it as changed first, then write; not yet durable."""
        self._machine(machine_id).write(disk_index, offset, data, record)

    async def flush(self, machine_id: str) -> None:
        """Return when all writes taken so far are durable."""
        await run_to_end(self._machine(machine_id).sync())

    def forbid_writes(self, machine_id: str) -> None:
        """Refuse further guest writes at once (the epoch has passed this copy by)."""
        self._machine(machine_id).writes_forbidden = True

    def allow_writes(self, machine_id: str) -> None:
        """Take guest writes again."""
        self._machine(machine_id).writes_forbidden = False

    # A primary.

    async def start_tracking(self, machine_id: str) -> None:
        """Begin to note changed blocks; survives kill -9 (a mark is set before its write)."""
        machine = self._machine(machine_id)
        machine.require_disks()
        machine.replica.require_usable()
        try:
            await machine.replica.close("it notes its own changes")
            machine.start_tracking()
        finally:
            machine.say_why_closed()

    async def stop_tracking(self, machine_id: str) -> None:
        """Forget the marks."""
        machine = self._machine(machine_id)
        machine.stop_tracking()
        machine.say_why_closed()

    def is_tracking(self, machine_id: str) -> bool:
        """Return whether changes are noted."""
        return self._machine(machine_id).tracked is not None

    def pending_bytes(self, machine_id: str) -> int:
        """Return how much is marked and not yet acknowledged by the replica."""
        return self._machine(machine_id).pending_bytes()

    async def cut(self, machine_id: str, kind: CutKind, cut: int, now: datetime) -> ChangeSet:
        """Freeze what is marked (FULL: what is allocated) on all disks at one moment."""
        return self._machine(machine_id).cut(kind, cut, now, Consistency.CRASH)

    async def send(
        self,
        change_set: ChangeSet,
        peer: PeerAddress,
        header: TransferHeader,
        progress: Callable[[int], None],
    ) -> AppliedCut:
        """Ship the set and return once the replica holds it durably."""
        machine, header, frozen = await self._described(change_set, header)
        return await send_cut(
            self._client, frozen, peer, header, progress=progress, tracked=machine.tracked
        )

    async def _described(
        self, change_set: ChangeSet, header: TransferHeader
    ) -> tuple[HostedMachine, TransferHeader, FrozenCut]:
        machine = self._machine(change_set.machine_id)
        frozen = machine.frozen_for(change_set)
        described = (change_set.cut, change_set.kind, change_set.taken_at, change_set.last_record)
        if described != (header.cut, header.kind, header.taken_at, header.last_record):
            raise ValueError("the transfer header does not describe the change set")
        origin = await run_to_end(origin_in, machine.folder, header.transfer_id)
        header = replace(header, consistency=change_set.consistency, origin=origin)
        return machine, replace(header, sizes=frozen.sizes), frozen

    async def release(self, change_set: ChangeSet, *, acknowledged: bool) -> None:
        """Drop an acknowledged set; give the marks of another back to the next cut."""
        self._machine(change_set.machine_id).release(change_set, acknowledged=acknowledged)

    # A replica.

    async def create_replica_disks(self, machine_id: str, disks: Sequence[DiskFile]) -> None:
        """Make empty sparse files for a replica, or keep those that exist with the right size."""
        machine = self._machine(machine_id)
        if machine.attached:
            raise BackendStateError(f"{machine_id} serves a guest: detach it first")
        machine.stop_tracking()
        machine.set_disks(disks)
        await machine.replica.create(disks, [disk for disk in disks if not _fits(disk)])
        if machine.replica.record.promotion is None:
            await run_to_end(machine.promoted.discard)
        machine.say_why_closed()

    def applied_cut(self, machine_id: str) -> AppliedCut | None:
        """Return the newest change set that this replica holds, read from its own files."""
        return applied_by(self._machine(machine_id).replica.held)

    async def forget_applied_cut(self, machine_id: str) -> None:
        """Begin a new lineage (the copy became a primary, or a replica of another primary)."""
        machine = self._machine(machine_id)
        await machine.replica.forget()
        await run_to_end(machine.promoted.discard)
        machine.say_why_closed()

    async def recover(self, machine_ids: Mapping[str, Sequence[DiskFile]]) -> None:
        """At start: finish committed change sets, delete unfinished ones, reopen the marks."""
        for machine_id, disks in machine_ids.items():
            machine = self._machine(machine_id)
            if not disks:
                continue
            intended = await run_to_end(machine.finish_disk_change)
            if intended is None or intended == tuple(disks):
                machine.set_disks(disks)
            machine.replica.delete_unfinished()
            await run_to_end(machine.promoted.reopen)
            await machine.replica.settle()
            log.info(
                "machine_recovered",
                machine_id=machine_id,
                applied_cut=None if machine.replica.held is None else machine.replica.held.cut,
                pending_bytes=machine.pending_bytes(),
            )

    async def cut_group(
        self,
        machine_ids: Sequence[str],
        kind: CutKind,
        cuts: Mapping[str, int],
        now: datetime,
        consistency: Consistency,
    ) -> Mapping[str, ChangeSet]:
        """Cut several machines of this host at one moment: all of them, or none."""
        done: dict[str, ChangeSet] = {}
        try:
            # Nothing is awaited in between: no guest of this host writes meanwhile.
            for machine_id in machine_ids:
                machine = self._machine(machine_id)
                done[machine_id] = machine.cut(kind, cuts[machine_id], now, consistency)
        except BaseException:
            for machine_id, change_set in done.items():
                self._machine(machine_id).release(change_set, acknowledged=False)
            raise
        return done

    def tracked_bytes(self, machine_id: str) -> int:
        """Return how much has changed since the newest acknowledged set: the log's size."""
        return self._machine(machine_id).tracked_bytes()

    def last_record(self, machine_id: str) -> int:
        """Return the newest guest record on this copy's disks, 0 where none was ever named."""
        return self._machine(machine_id).last_record

    async def resize_disk(
        self, machine_id: str, disk_index: int, size_bytes: int
    ) -> Sequence[DiskFile]:
        """Give a disk another size, on either end; returns the disks as they are now."""
        machine = self._machine(machine_id)
        disks = list(machine.require_disks())
        if not 0 <= disk_index < len(disks) or size_bytes < 0:
            raise ValueError(f"there is no disk {disk_index}, or no size of {size_bytes} bytes")
        disks[disk_index] = replace(disks[disk_index], size_bytes=size_bytes)
        return await self._change_disks(machine, disks)

    async def add_disk(self, machine_id: str, disk: DiskFile) -> Sequence[DiskFile]:
        """Add a disk behind the others (a missing file is made, empty); returns all disks."""
        machine = self._machine(machine_id)
        present = machine.require_disks()
        if disk in present:
            return present
        if len(present) >= DISKS_MAX or disk.path in {each.path for each in present}:
            raise ValueError(f"{disk.path} cannot be one more disk of {machine_id}")
        return await self._change_disks(machine, [*present, disk])

    async def _change_disks(
        self, machine: HostedMachine, disks: Sequence[DiskFile]
    ) -> Sequence[DiskFile]:
        async with machine.replica.changing_disks():
            if tuple(disks) != machine.disks:
                # In the loop: no guest writes while its disks are opened anew.
                machine.change_disks(disks)
        return machine.disks

    async def export(
        self,
        change_set: ChangeSet,
        header: TransferHeader,
        folder: Path,
        progress: Callable[[int], None],
    ) -> None:
        """Write a FULL set into a folder (made if missing) that `import_seed` takes elsewhere."""
        if change_set.kind is not CutKind.FULL:
            raise ValueError("only a full change set can be exported")
        machine, header, frozen = await self._described(change_set, header)
        await write_export(
            folder,
            cut=frozen,
            header=header,
            machine_id=machine.machine_id,
            disks=machine.disks,
            progress=progress,
        )

    async def await_import(self, machine_id: str) -> None:
        """Hold the change sets that come until `import_seed` has brought what they build on."""
        await self._machine(machine_id).replica.await_import()

    async def import_seed(
        self, machine_id: str, folder: Path, progress: Callable[[int, int], None]
    ) -> AppliedCut:
        """Bring an exported folder onto a replica's disks, then what was held meanwhile."""
        replica = self._machine(machine_id).replica
        export = await run_to_end(Export, folder)
        # It is all read before the first byte is written: half of the way each.
        half = export.manifest.frames_bytes
        tell = in_loop(progress)
        await run_to_end(export.verify, lambda done: tell(done, 2 * half))
        return await replica.import_whole(
            export, lambda done: tell(half + min(done, half), 2 * half)
        )

    def resynchronization_reason(self, machine_id: str) -> str:
        """Return why this replica takes only a whole copy or a comparison, or nothing."""
        return self._machine(machine_id).replica.resynchronization_reason()

    def recovery_points(self, machine_id: str) -> Sequence[RecoveryPoint]:
        """Return what can be failed over to, the newest first."""
        return self._machine(machine_id).replica.points()

    async def make_point(self, machine_id: str, kind: PointKind) -> RecoveryPoint:
        """Keep the state after the newest change set that is held; again: the same point."""
        return await self._machine(machine_id).replica.make_point(kind)

    async def merge_points(self, machine_id: str, keep_at_most: int) -> None:
        """Drop the oldest kept points over that number; the newest state stays in any case."""
        await self._machine(machine_id).replica.keep_points(keep_at_most)

    async def drop_points(self, machine_id: str) -> None:
        """Drop all kept points; the newest state stays."""
        await self._machine(machine_id).replica.keep_points(0)

    async def promote(self, machine_id: str, point_id: str | None) -> RecoveryPoint | None:
        """Make the disks those of a point (null: the newest), until `revert` or `commit`."""
        machine = self._machine(machine_id)
        machine.require_disks()
        if not machine.promoted.active and (machine.attached or machine.tracked is not None):
            raise BackendStateError(f"{machine_id} {machine.replica.closed_by}: it is no replica")
        return await machine.promoted.promote(point_id)

    def promoted_point(self, machine_id: str) -> RecoveryPoint | None:
        """Return the point that the disks were promoted to; None when they are not promoted."""
        return self._machine(machine_id).promoted.point

    async def revert(self, machine_id: str) -> bool:
        """Take a promotion back, with all that a guest has written since; detach it first."""
        machine = self._machine(machine_id)
        machine.require_disks()
        if machine.attached:
            raise BackendStateError(f"{machine_id} serves a guest: detach it first")
        reverted = await machine.promoted.revert()
        machine.stop_tracking()
        machine.say_why_closed()
        return reverted

    async def commit(self, machine_id: str) -> None:
        """Accept a promotion: nothing can be reverted any more, all kept points go."""
        await self._machine(machine_id).promoted.commit()

    async def copy_for_test(
        self, machine_id: str, test_machine_id: str, folder: Path, point_id: str | None = None
    ) -> Sequence[DiskFile]:
        """Copy a replica's disks as of a point (null: the newest), sparse, all at one moment."""
        source, target = self._machine(machine_id), self._machine(test_machine_id)
        if target.attached:
            return target.disks
        if source.attached:
            raise BackendStateError(f"{machine_id} serves a guest: only a replica can be copied")
        disks = source.require_disks()
        copies = _beside(disks, test_machine_id, folder)
        if source.promoted.active:
            raise BackendStateError(f"{machine_id} is failed over: only a replica can be copied")
        async with source.replica.quiet():
            for disk, copy in zip(disks, copies, strict=True):
                await run_to_end(copy_sparse, disk.path, copy.path, disk.size_bytes)
            if point_id is not None:
                await run_to_end(source.promoted.go_back, copies, point_id)
        target.set_disks(copies)
        return copies

    async def copy_aside(
        self, machine_id: str, disks: Sequence[DiskFile], kept_id: str, folder: Path
    ) -> Sequence[DiskFile]:
        """Copy the disks of a machine that is off, sparse, into a machine of their own."""
        copies = _beside(disks, kept_id, folder)
        async with self._machine(machine_id).replica.alone():
            for disk, copy in zip(disks, copies, strict=True):
                await run_to_end(copy_sparse, disk.path, copy.path, disk.size_bytes)
        return copies

    async def remove_disks(self, machine_id: str, disks: Sequence[DiskFile]) -> None:
        """Delete the files of a test machine and all that was kept beside them."""
        machine = self._machine(machine_id)
        if machine.attached:
            raise BackendStateError(f"{machine_id} serves a guest: detach it first")
        await machine.replica.close("its disks are deleted")
        machine.stop_tracking()
        await run_to_end(machine.close)
        del self._machines[machine_id]
        paths = [disk.path for disk in disks]
        await run_to_end(delete_disks, machine_id, paths, machine.folder)


def _beside(disks: Sequence[DiskFile], machine_id: str, folder: Path) -> Sequence[DiskFile]:
    return tuple(
        DiskFile(disk.disk_id, folder / f"{machine_id}-{index}{disk.path.suffix}", disk.size_bytes)
        for index, disk in enumerate(disks)
    )


def _fits(disk: DiskFile) -> bool:
    return disk.path.is_file() and disk.path.stat().st_size == disk.size_bytes
