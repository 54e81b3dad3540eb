"""The replication cycle of one primary machine: what its state asks for, every interval.

Procedure: behaviour 1.9.2. A transfer that outlasts its interval counts the intervals it missed;
an error is retried with a growing pause and shows in the health; a refusal because of the epoch
fences this copy (architecture, decision 4). What a network that was away has piled up goes with
the next change set. When something is due is decided in `schedule`, what an error means in
`shipping`.
"""

import asyncio
import math
from datetime import datetime
from pathlib import Path

import structlog

from service_shell.clock import Clock
from vmm_simulator.hyperv.backend import BackendStateError, CutKind
from vmm_simulator.hyperv.counting import Counting
from vmm_simulator.hyperv.fencing import fence
from vmm_simulator.hyperv.groups import Groups
from vmm_simulator.hyperv.host import Host
from vmm_simulator.hyperv.host_guests import disk_files
from vmm_simulator.hyperv.replica_finding import other_end
from vmm_simulator.hyperv.replication import Operation, allowed
from vmm_simulator.hyperv.schedule import log_is_too_large, pause_seconds
from vmm_simulator.hyperv.shipping import Progress, Shipping
from vmm_simulator.hyperv.statistics import with_missed
from vmm_simulator.problems import Code, RefusedError
from vmm_simulator.store import InventoryStore
from vmm_simulator.vmm.relationship_records import RelationshipRecord
from vmm_simulator.vmm.transitions import (
    moved,
    position,
    requiring_resynchronization,
    sends,
    with_relationship,
)
from wire_contract.vocabulary import ReplicationState

S = ReplicationState

log = structlog.get_logger(__name__)

__all__ = ["Progress", "ReplicationCycle"]


class ReplicationCycle:
    """Does for one machine what its replication state asks for."""

    def __init__(
        self,
        machine_id: str,
        *,
        store: InventoryStore,
        host: Host,
        clock: Clock,
        interval_override: float | None,
    ) -> None:
        self._machine_id = machine_id
        self._store = store
        self._host = host
        self._clock = clock
        self._interval_override = interval_override
        self._counting = Counting(store, clock)
        self._woken = asyncio.Event()
        self.groups: Groups | None = None
        self.shipping = Shipping(machine_id, store=store, host=host, clock=clock)

    def wake(self) -> None:
        """Let the next cycle begin now."""
        self._woken.set()

    async def ship_until_held(self, kind: CutKind) -> None:
        """Send now what is pending; RefusedError as the cycle's own, which then shows."""
        try:
            await self.shipping.ship_until_held(kind)
        except RefusedError as refusal:
            await self._heed(refusal)
            raise

    async def run(self) -> None:
        """Go on until this copy has nothing to do as a primary."""
        loop = asyncio.get_running_loop()
        next_at = loop.time()
        while self._has_work():
            await self._pause(min(next_at - loop.time(), self._seconds_to_start()))
            if not self._has_work():
                return
            self._woken.clear()
            began = loop.time()
            replicating = self._state() is S.REPLICATING
            succeeded = await self._cycle()
            interval = self._interval()
            if succeeded:
                # A whole copy may take long; only cycles of changes can be missed.
                late = math.floor((loop.time() - began) / interval)
                await self._count_missed(late if replicating else 0)
                next_at = began + interval * (late + 1)
            else:
                longest = pause_seconds(interval, self.shipping.failures_in_a_row)
                next_at = loop.time() + self._clock.jitter(longest / 2, longest)

    async def _cycle(self) -> bool:
        """Do what the state asks for; whether it succeeded."""
        try:
            await self._act()
        except RefusedError as refusal:
            await self._heed(refusal)
            self._tell_failure(refusal.message, code=refusal.code)
        except (OSError, BackendStateError) as error:
            await self.shipping.note_error(error)
            await self._give_up()
            self._tell_failure(repr(error), code=None)
        else:
            return True
        return False

    async def _act(self) -> None:
        _, relationship = self.shipping.sender()
        match relationship.state:
            case S.READY if self._is_due(relationship.scheduled_at):
                await self._start_scheduled()
            case S.WAITING_TO_COMPLETE_INITIAL_REPLICATION if relationship.exported_to:
                await self._follow_export(relationship)
            case S.WAITING_TO_COMPLETE_INITIAL_REPLICATION:
                await self._copy_whole(Operation.COMPLETE_INITIAL_REPLICATION)
            case S.WAITING_TO_START_RESYNCHRONIZE if self._is_due(relationship.resynchronize_at):
                await self._start_resynchronization()
            case S.RESYNCHRONIZING:
                await self._copy_whole(Operation.COMPLETE_RESYNCHRONIZATION)
            case S.REPLICATING if not await self._log_is_too_large():
                await self._ship_changes()
            case S.SUSPENDED | S.CRITICAL if relationship.before is None:
                await self._log_is_too_large()

    async def _ship_changes(self) -> None:
        """Send what has changed; in a consistency group its first member cuts for all."""
        members = (
            [self._machine_id] if self.groups is None else self.groups.members(self._machine_id)
        )
        if len(members) > 1 and not self.shipping.has_handed:
            if members[0] != self._machine_id or self.groups is None:
                return
            await self.groups.cut(members)
        await self.shipping.ship_until_held(CutKind.DELTA)

    async def _start_scheduled(self) -> None:
        await self._track()
        await self._store.change_machine(
            self._machine_id,
            lambda each: with_relationship(
                moved(each, Operation.START_INITIAL_REPLICATION), scheduled_at=None
            ),
        )
        log.info("scheduled_copy_begins", machine_id=self._machine_id)
        await self._copy_whole(Operation.COMPLETE_INITIAL_REPLICATION)

    async def _start_resynchronization(self) -> None:
        await self._track()
        await self._store.change_machine(
            self._machine_id,
            lambda each: with_relationship(
                moved(each, Operation.RESYNCHRONIZE), resynchronize_at=None
            ),
        )
        log.info("resynchronization_begins", event_id=29242, machine_id=self._machine_id)
        await self._copy_whole(Operation.COMPLETE_RESYNCHRONIZATION)

    async def _track(self) -> None:
        machine, _ = self.shipping.sender()
        await self._host.backend.attach(self._machine_id, disk_files(machine))
        await self._host.backend.start_tracking(self._machine_id)

    async def _copy_whole(self, completion: Operation) -> None:
        _, relationship = self.shipping.sender()
        resynchronizing = completion is Operation.COMPLETE_RESYNCHRONIZATION
        differences = relationship.resynchronize or resynchronizing
        await self.shipping.ship_until_held(CutKind.DIFFERENCES if differences else CutKind.FULL)
        # What was written while the copy was under way follows at once (behaviour 1.2).
        await self._move(completion)
        if resynchronizing:
            log.info("resynchronization_ended", event_id=29244, machine_id=self._machine_id)
        log.info("whole_copy_completed", machine_id=self._machine_id, differences=differences)
        await self.shipping.ship_until_held(CutKind.DELTA)

    async def _follow_export(self, relationship: RelationshipRecord) -> None:
        """Export, then send changes, which the replica holds until its import (behaviour 1.2)."""
        if not relationship.exported:
            await self.shipping.export(Path(relationship.exported_to or ""))
            log.info("initial_copy_exported", machine_id=self._machine_id)
            return
        await self.shipping.ship_until_held(CutKind.DELTA)
        other = await other_end(self._host, relationship)
        if other.state == S.REPLICATING:
            await self._move(Operation.COMPLETE_INITIAL_REPLICATION)

    async def _log_is_too_large(self) -> bool:
        """Require a resynchronization when more than half of the disks has changed (1.5)."""
        machine, _ = self.shipping.sender()
        disk_bytes = sum(disk.size_bytes for disk in machine.disks)
        tracked = self._host.backend.tracked_bytes(self._machine_id)
        if not log_is_too_large(tracked, disk_bytes):
            return False
        await self._require_resynchronization(
            f"{tracked} of {disk_bytes} bytes have changed since the newest change set"
        )
        return True

    async def _require_resynchronization(self, cause: str) -> None:
        now = self._clock.now()
        await self._store.change_machine(
            self._machine_id,
            lambda each: with_relationship(
                requiring_resynchronization(each, now), last_error=cause[:1000]
            ),
        )
        # Durable first: a copy of which nobody knows that it differs must not lose its marks.
        await self._host.backend.stop_tracking(self._machine_id)
        log.warning("resynchronization_required", machine_id=self._machine_id, cause=cause)

    async def _heed(self, refusal: RefusedError) -> None:
        """Do what a refusal of the other end means for this copy."""
        if not self._has_relationship():
            return
        machine = self._store.machine(self._machine_id)
        possible = allowed(position(machine))
        if refusal.code == Code.LOWER_EPOCH:
            sent_epoch = self.shipping.sent_epoch
            if sent_epoch == machine.epoch and Operation.CANCEL_RESYNCHRONIZATION in possible:
                # The other copy was failed over meanwhile: what ran is cancelled (1.2).
                await self._store.change_machine(
                    self._machine_id,
                    lambda each: with_relationship(
                        moved(each, Operation.CANCEL_RESYNCHRONIZATION), resynchronize_at=None
                    ),
                )
            await fence(
                self._store,
                self._host,
                self._machine_id,
                refusal.message,
                sent_epoch=sent_epoch,
            )
        elif refusal.code == Code.RESYNCHRONIZATION_REQUIRED:
            if machine.state is S.REPLICATING:
                await self._require_resynchronization(refusal.message)
        else:
            await self._give_up()

    async def _give_up(self) -> None:
        """Wait for an administrator once an error was tried often enough (1.9.2)."""
        if not self.shipping.given_up or not self._has_relationship():
            return
        if Operation.FAIL in allowed(position(self._store.machine(self._machine_id))):
            await self._move(Operation.FAIL)
            log.error("replication_given_up", machine_id=self._machine_id)

    async def _move(self, operation: Operation) -> None:
        await self._store.change_machine(
            self._machine_id, lambda machine: moved(machine, operation)
        )

    async def _count_missed(self, missed: int) -> None:
        if missed and self._has_relationship():
            await self._counting.count(self._machine_id, lambda each: with_missed(each, missed))

    def _tell_failure(self, cause: str, *, code: int | None) -> None:
        log.warning("replication_cycle_failed", machine_id=self._machine_id, code=code, cause=cause)

    def _has_relationship(self) -> bool:
        machine = self._store.machines.get(self._machine_id)
        return machine is not None and machine.relationship is not None

    def _has_work(self) -> bool:
        machine = self._store.machines.get(self._machine_id)
        return machine is not None and sends(machine)

    def _state(self) -> ReplicationState:
        return self._store.machine(self._machine_id).state

    def _interval(self) -> float:
        if self._interval_override is not None:
            return self._interval_override
        return float(self.shipping.sender()[1].interval_seconds) if self._has_work() else 1.0

    def _is_due(self, moment: datetime | None) -> bool:
        return moment is not None and moment <= self._clock.now()

    def _seconds_to_start(self) -> float:
        """Return how long until something that is scheduled begins; for ever when nothing is."""
        _, relationship = self.shipping.sender()
        match relationship.state:
            case S.READY:
                at = relationship.scheduled_at
            case S.WAITING_TO_START_RESYNCHRONIZE:
                at = relationship.resynchronize_at
            case _:
                at = None
        seconds = math.inf if at is None else (at - self._clock.now()).total_seconds()
        # What is due already goes by the pauses between tries.
        return seconds if seconds > 0 else math.inf

    async def _pause(self, seconds: float) -> None:
        if seconds <= 0:
            return
        try:
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        except TimeoutError:
            return
