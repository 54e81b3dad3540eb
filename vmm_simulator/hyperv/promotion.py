"""Failing a replica over to a point, and back: a promotion, until it is reverted or committed.

The disks are changed in place; what that overwrites, and what a guest overwrites afterwards, is
kept in a revert log. Each phase is durable before its first byte, and each can be repeated.
"""

from collections.abc import Sequence
from dataclasses import replace

import structlog

from vmm_simulator.hyperv.apply import OpenDisks, write_log
from vmm_simulator.hyperv.backend import BackendStateError, DiskFile, RecoveryPoint
from vmm_simulator.hyperv.change_map import boot_id
from vmm_simulator.hyperv.frames import FrameError
from vmm_simulator.hyperv.replica import Replica
from vmm_simulator.hyperv.replica_record import (
    KeptPoint,
    Phase,
    Promotion,
    ReplicaRecord,
    guards_of,
    newest_point,
)
from vmm_simulator.hyperv.revert_log import RevertLog, delete_revert_files
from vmm_simulator.hyperv.threads import run_to_end
from vmm_simulator.hyperv.transfer_header import CopyState

log = structlog.get_logger(__name__)

CLOSED_BY = "it is failed over"


class PromotedCopy:
    """What a replica is while it is failed over."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        self._revert_log: RevertLog | None = None
        if replica.record.promotion is not None:
            replica.closed_by = CLOSED_BY

    @property
    def active(self) -> bool:
        """Whether the copy is promoted, or on its way there or back."""
        promotion = self._replica.record.promotion
        return promotion is not None and promotion.phase is not Phase.COMMITTED

    @property
    def point(self) -> RecoveryPoint | None:
        """The point that the disks were promoted to."""
        promotion = self._replica.record.promotion
        if promotion is None or promotion.point is None or promotion.phase is Phase.REVERTING:
            return None
        return promotion.point.public(self._replica.machine_id)

    @property
    def revertible(self) -> bool:
        """Whether all that was changed by it is kept."""
        return self._revert_log is not None

    def changed_blocks(self) -> list[bytes]:
        """Return which blocks may differ from the newest change set, where it is revertible."""
        return [] if self._revert_log is None else self._revert_log.bitmaps()

    def preserve(self, disk_index: int, descriptor: int, offset: int, length: int) -> None:
        """Keep what a guest is about to overwrite; when that fails the revert is lost, no write."""
        revert_log = self._revert_log
        if revert_log is None:
            return
        try:
            revert_log.preserve(disk_index, descriptor, offset, length)
        except OSError as error:
            revert_log.give_up()
            self._close_log()
            log.warning("revert_lost", machine_id=self._replica.machine_id, cause=str(error))

    async def promote(self, point_id: str | None) -> RecoveryPoint | None:
        """Make the disks those of the point."""
        replica = self._replica
        self._require_not_committed()
        if not self.active:
            await replica.close(CLOSED_BY)
        try:
            async with replica.alone():
                await replica.apply_committed()
                await run_to_end(self.reopen)
                if self.active:
                    self._require_same(point_id)
                else:
                    await run_to_end(self._promote, point_id)
        finally:
            if not self.active:
                replica.closed_by = ""
        point = self.point
        if point is not None:
            replica.noted(point.last_record)
        return point

    def _require_not_committed(self) -> None:
        promotion = self._replica.record.promotion
        if promotion is not None and promotion.phase is Phase.COMMITTED:
            raise BackendStateError(
                f"the failover of {self._replica.machine_id} is committed: nothing leads back or "
                "to another point; begin a new lineage"
            )

    def _require_same(self, point_id: str | None) -> None:
        point = self.point
        if point_id is not None and (point is None or point.point_id != point_id):
            raise BackendStateError(
                f"the copy {self._replica.machine_id} is failed over to "
                f"{'its newest state' if point is None else point.point_id}: revert that first"
            )

    def _promote(self, point_id: str | None) -> None:
        replica = self._replica
        replica.require_usable()
        record = replica.record
        point = None if record.held is None else newest_point(record.held, replica.sizes)
        if point_id is None or (point is not None and point.header.transfer_id == point_id):
            self._revert_log = RevertLog.create(replica.folder, replica.sizes)
            self._revert_log.sync()
            self._save(Promotion(Phase.PROMOTED, point, boot_id()))
            return
        point = self._older_point(point_id)
        newest = 0 if record.held is None else record.held.cut
        _, bitmaps = replica.undo.verified(point, newest)
        bitmaps += [b""] * (len(replica.sizes) - len(bitmaps))
        with OpenDisks(replica.disks) as opened:
            revert_log = RevertLog.create(replica.folder, replica.sizes)
            try:
                revert_log.preserve_all(opened, bitmaps)
            except BaseException:
                revert_log.close()
                raise
        self._revert_log = revert_log
        self._save(Promotion(Phase.RESTORING, point, None))
        self._restore(point)

    def _older_point(self, point_id: str) -> KeptPoint:
        replica = self._replica
        held = replica.record.held
        reachable = replica.undo.reachable(replica.record.points, 0 if held is None else held.cut)
        for point in reachable:
            if point.header.transfer_id == point_id:
                before = zip(point.sizes, replica.sizes, strict=False)
                if any(was > now for was, now in before):
                    raise BackendStateError(
                        f"the recovery point {point_id} is from before a disk was made smaller: "
                        "choose a newer one"
                    )
                return point
        raise BackendStateError(
            f"the copy {replica.machine_id} has no recovery point {point_id}: "
            "choose one that it lists, or the newest"
        )

    def _restore(self, point: KeptPoint) -> None:
        replica = self._replica
        newest = 0 if replica.record.held is None else replica.record.held.cut
        with OpenDisks(replica.disks) as opened:
            for undo in replica.undo.logs(point, newest):
                write_log(undo, opened)
            opened.sync()
        self._save(Promotion(Phase.PROMOTED, point, boot_id()))
        log.info("point_restored", machine_id=replica.machine_id, point_id=point.header.transfer_id)

    def reopen(self) -> None:
        """Go on after a stop or a kill: finish what was begun (blocks)."""
        replica = self._replica
        promotion = replica.record.promotion
        if promotion is None or promotion.phase is Phase.COMMITTED:
            delete_revert_files(replica.folder)
            return
        if self._revert_log is not None or not replica.disks:
            return
        running_since = promotion.running_since
        if running_since is not None and running_since != boot_id():
            log.error("revert_lost", machine_id=replica.machine_id, cause="the machine went down")
            return
        self._revert_log = RevertLog.reopen(replica.folder, replica.sizes)
        if promotion.phase is Phase.RESTORING and promotion.point is not None:
            try:
                self._restore(promotion.point)
            except FrameError as error:
                log.warning("restore_given_up", machine_id=replica.machine_id, cause=str(error))
                self._revert()
        elif promotion.phase is Phase.REVERTING:
            self._revert()
        elif self._revert_log is not None:
            self._save(replace(promotion, running_since=boot_id()))

    async def revert(self) -> bool:
        """Take the promotion back; whether the disks are those of the newest change set again."""
        replica = self._replica
        self._require_not_committed()
        async with replica.alone():
            await run_to_end(self.reopen)
            if self.active:
                await run_to_end(self._revert)
                replica.noted(0 if replica.record.held is None else replica.record.held.last_record)
        return replica.record.state is not CopyState.ALTERED

    def _revert(self) -> None:
        replica = self._replica
        promotion, revert_log = replica.record.promotion, self._revert_log
        record = replace(replica.record, promotion=None)
        if revert_log is None or promotion is None:
            # Points and all: what the undo logs are relative to is not there any more.
            record = ReplicaRecord(state=CopyState.ALTERED, held=record.held)
            replica.save(record)
            replica.undo.prune(())
        else:
            # Durable first: from here on it holds whatever happens to the machine.
            revert_log.sync()
            self._save(replace(promotion, phase=Phase.REVERTING, running_since=None))
            with OpenDisks(replica.disks) as opened:
                revert_log.restore(opened)
            replica.save(replace(record, guards=guards_of(replica.disks)))
        self._close_log()
        delete_revert_files(replica.folder)
        replica.closed_by = ""
        log.info("promotion_reverted", machine_id=replica.machine_id, state=replica.record.state)

    async def commit(self) -> None:
        """Keep the disks as they are; kept points and the way back go."""
        replica = self._replica
        async with replica.alone():
            await replica.apply_committed()
            await run_to_end(self.reopen)
            await run_to_end(self._commit)

    def _commit(self) -> None:
        replica = self._replica
        record, promotion = replica.record, replica.record.promotion
        if promotion is not None:
            held = record.held if promotion.point is None else promotion.point.header
            # The copy goes its own way from here; only a new lineage makes it take anything again.
            committed = replace(promotion, phase=Phase.COMMITTED, running_since=None)
            replica.save(replace(record, held=held, points=(), promotion=committed))
        elif record.points:
            replica.save(replace(record, points=()))
        self._close_log()
        delete_revert_files(replica.folder)
        replica.undo.prune(())

    def discard(self) -> None:
        """Forget the way back: a new lineage has begun (blocks)."""
        self._close_log()
        delete_revert_files(self._replica.folder)

    def go_back(self, copies: Sequence[DiskFile], point_id: str) -> None:
        """Bring copies of the disks, as of the newest change set, back to a point (blocks)."""
        held = self._replica.record.held
        if held is None or held.transfer_id == point_id:
            return
        point = self._older_point(point_id)
        logs, _ = self._replica.undo.verified(point, held.cut)
        with OpenDisks(copies) as opened:
            for undo in logs:
                write_log(undo, opened)
            opened.sync()

    def close(self) -> None:
        """End cleanly: the log is durable, and can be trusted whatever happens to the machine."""
        promotion = self._replica.record.promotion
        if self._revert_log is not None and promotion is not None:
            self._revert_log.sync()
            self._save(replace(promotion, running_since=None))
        self._close_log()

    def _close_log(self) -> None:
        revert_log, self._revert_log = self._revert_log, None
        if revert_log is not None:
            revert_log.close()

    def _save(self, promotion: Promotion) -> None:
        self._replica.save(replace(self._replica.record, promotion=promotion))
