"""The replication cycle of one primary machine: cut, send, acknowledge, every interval.

Procedure: behaviour 1.9.2. A transfer that outlasts its interval counts the intervals it missed;
an error is retried with a growing pause and shows in the health; a refusal because of the epoch
fences this copy (architecture, decision 4).
"""

import asyncio
import math
from dataclasses import dataclass
from typing import Final

import structlog

from service_shell.clock import Clock
from vmm_simulator.hyperv.backend import (
    AppliedCut,
    BackendStateError,
    CutKind,
    TransferHeader,
    TransferRefusedError,
)
from vmm_simulator.hyperv.fencing import fence
from vmm_simulator.hyperv.host import Host
from vmm_simulator.hyperv.host_guests import disk_files
from vmm_simulator.hyperv.replication import Operation
from vmm_simulator.hyperv.statistics import with_missed, with_success
from vmm_simulator.problems import Code, RefusedError
from vmm_simulator.store import InventoryStore
from vmm_simulator.vmm.records import MachineRecord
from vmm_simulator.vmm.relationship_records import RelationshipRecord
from vmm_simulator.vmm.transitions import moved, sends, with_relationship, with_statistics
from wire_contract.vocabulary import ReplicationMode, ReplicationState

PAUSE_SECONDS_MIN: Final = 0.5
PAUSE_SECONDS_MAX: Final = 60.0

S = ReplicationState

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Progress:
    """How far the transfer under way is."""

    bytes_total: int = 0
    bytes_done: int = 0

    @property
    def percent(self) -> float:
        """0 to 100; an empty change set is done."""
        return 100.0 * self.bytes_done / self.bytes_total if self.bytes_total else 100.0


class ReplicationCycle:
    """Sends one machine's changes; one transfer at a time, also when a verb asks for one."""

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
        self._sending = asyncio.Lock()
        self._woken = asyncio.Event()
        self._bytes_sent = 0
        self.progress: Progress | None = None
        self.failures_in_a_row = 0

    def wake(self) -> None:
        """Let the next cycle begin now."""
        self._woken.set()

    async def run(self) -> None:
        """Go on until this copy is no longer one that sends."""
        loop = asyncio.get_running_loop()
        next_at = loop.time()
        while self._has_work():
            await self._pause(next_at - loop.time())
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
                next_at = loop.time() + self._back_off(interval)

    async def ship(self, kind: CutKind) -> AppliedCut:
        """Cut, send and return once the replica holds it; the record then says so durably."""
        async with self._sending:
            machine, relationship = self._sender()
            backend = self._host.backend
            number = relationship.last_cut + 1
            await backend.attach(self._machine_id, disk_files(machine))
            change_set = await backend.cut(self._machine_id, kind, number, self._clock.now())
            header = TransferHeader(
                relationship_id=relationship.relationship_id,
                transfer_id=self._clock.new_id(),
                epoch=machine.epoch,
                cut=number,
                kind=kind,
                taken_at=change_set.taken_at,
                last_record=change_set.last_record,
            )
            self.progress = Progress(change_set.bytes_total)
            self._bytes_sent = 0
            acknowledged = False
            try:
                peer = self._host.peer(relationship.peer_host, relationship.peer_port)
                applied = await backend.send(change_set, peer, header, self._note_progress)
                acknowledged = True
            finally:
                self.progress = None
                await backend.release(change_set, acknowledged=acknowledged)
            await self._store.change_machine(
                self._machine_id, lambda each: self._acknowledged(each, applied, header)
            )
            self.failures_in_a_row = 0
            return applied

    async def ship_until_held(self, kind: CutKind) -> AppliedCut:
        """As ship; when the replica holds a set whose acknowledgement was lost, go on from there.

        Raises RefusedError: the peer's refusal, or that it cannot be reached.
        """
        try:
            try:
                return await self.ship(kind)
            except TransferRefusedError as refusal:
                if not (await self._adopt(refusal) or await self._find_replica(refusal)):
                    raise
                return await self.ship(kind)
        except TransferRefusedError as refusal:
            await self._refused(refusal)
            raise RefusedError(refusal.code, str(refusal)) from refusal
        except (OSError, BackendStateError) as error:
            await self._note_failure(str(error) or repr(error))
            raise RefusedError(
                Code.NO_CONNECTION,
                f"the replica host could not be reached: {error}",
                "look at the replica host, its port and its certificate",
            ) from error

    async def _cycle(self) -> bool:
        """Do what the state asks for; whether it succeeded."""
        try:
            match self._state():
                case S.WAITING_TO_COMPLETE_INITIAL_REPLICATION:
                    await self._copy_whole(Operation.COMPLETE_INITIAL_REPLICATION)
                case S.WAITING_TO_START_RESYNCHRONIZE:
                    await self._host.backend.start_tracking(self._machine_id)
                    await self._move(Operation.RESYNCHRONIZE)
                    await self._copy_whole(Operation.COMPLETE_RESYNCHRONIZATION)
                case S.RESYNCHRONIZING:
                    await self._copy_whole(Operation.COMPLETE_RESYNCHRONIZATION)
                case S.REPLICATING:
                    await self.ship_until_held(CutKind.DELTA)
                case _:
                    return True
        except RefusedError as refusal:
            log.warning(
                "replication_cycle_failed",
                machine_id=self._machine_id,
                code=refusal.code,
                cause=refusal.message,
            )
            return False
        except (OSError, BackendStateError) as error:
            await self._note_failure(str(error) or repr(error))
            log.warning("replication_cycle_failed", machine_id=self._machine_id, cause=repr(error))
            return False
        return True

    async def _copy_whole(self, completion: Operation) -> None:
        _, relationship = self._sender()
        resynchronizing = completion is Operation.COMPLETE_RESYNCHRONIZATION
        differences = relationship.resynchronize or resynchronizing
        await self.ship_until_held(CutKind.DIFFERENCES if differences else CutKind.FULL)
        # What was written while the copy was under way follows at once (behaviour 1.2).
        await self._move(completion)
        log.info("whole_copy_completed", machine_id=self._machine_id, differences=differences)
        await self.ship_until_held(CutKind.DELTA)

    async def _move(self, operation: Operation) -> None:
        await self._store.change_machine(
            self._machine_id, lambda machine: moved(machine, operation)
        )

    async def _adopt(self, refusal: TransferRefusedError) -> bool:
        """Take over what the replica holds; whether that explains the refusal."""
        applied = refusal.applied
        _, relationship = self._sender()
        if applied is None or applied.cut <= relationship.last_cut:
            return False
        await self._store.change_machine(
            self._machine_id,
            lambda each: with_relationship(
                each, last_cut=applied.cut, last_cut_record=applied.last_record
            ),
        )
        log.info("acknowledgement_recovered", machine_id=self._machine_id, cut=applied.cut)
        return True

    async def _find_replica(self, refusal: TransferRefusedError) -> bool:
        """Ask the broker where a replica was moved; whether there is another host to send to."""
        if refusal.code != Code.MACHINE_MOVED:
            return False
        _, relationship = self._sender()
        try:
            location = await self._host.replica_location(
                relationship.peer_host, relationship.peer_port, relationship.relationship_id
            )
        except RefusedError as unanswered:
            log.warning("replica_not_found", machine_id=self._machine_id, cause=str(unanswered))
            return False
        if location.host.lower() not in self._partners():
            return False
        await self._store.change_machine(
            self._machine_id,
            lambda each: with_relationship(each, peer_host=location.host, peer_port=location.port),
        )
        log.info("replica_followed", machine_id=self._machine_id, replica_host=location.host)
        return True

    def _partners(self) -> frozenset[str]:
        """Hosts that the pairing allows this machine's host to replicate with."""
        return frozenset(name.lower() for name in self._store.host(self._host.fqdn).authorised)

    async def _refused(self, refusal: TransferRefusedError) -> None:
        await self._note_failure(str(refusal))
        if refusal.code == Code.LOWER_EPOCH:
            await fence(self._store, self._host, self._machine_id, str(refusal))
        elif refusal.code == Code.RESYNCHRONIZATION_REQUIRED and self._state() is S.REPLICATING:
            await self._move(Operation.REQUIRE_RESYNCHRONIZATION)

    async def _note_failure(self, cause: str) -> None:
        self.failures_in_a_row += 1
        if self._has_relationship():
            await self._store.change_machine(
                self._machine_id, lambda each: with_relationship(each, last_error=cause[:1000])
            )

    async def _count_missed(self, missed: int) -> None:
        if missed and self._has_relationship():
            await self._store.change_machine(self._machine_id, lambda each: _missed(each, missed))

    def _acknowledged(
        self, machine: MachineRecord, applied: AppliedCut, header: TransferHeader
    ) -> MachineRecord:
        relationship = machine.relationship
        if relationship is None or relationship.relationship_id != header.relationship_id:
            return machine
        return with_relationship(
            machine,
            last_cut=applied.cut,
            last_cut_record=applied.last_record,
            last_replication_at=self._clock.now(),
            transferred_bytes=relationship.transferred_bytes + self._bytes_sent,
            statistics=with_success(relationship.statistics, self._bytes_sent, 0.0),
            last_error=None,
        )

    def _note_progress(self, bytes_done: int) -> None:
        self._bytes_sent = bytes_done
        if self.progress is not None:
            self.progress.bytes_done = bytes_done

    def _sender(self) -> tuple[MachineRecord, RelationshipRecord]:
        machine = self._store.machine(self._machine_id)
        if machine.relationship is None or machine.mode is not ReplicationMode.PRIMARY:
            raise RefusedError(
                Code.INVALID_STATE, f"machine {machine.name} is not the primary of a relationship"
            )
        return machine, machine.relationship

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
        return float(self._sender()[1].interval_seconds) if self._has_work() else 1.0

    def _back_off(self, interval: float) -> float:
        longest = max(PAUSE_SECONDS_MIN, min(interval, PAUSE_SECONDS_MAX))
        pause = min(longest, PAUSE_SECONDS_MIN * 2.0 ** min(self.failures_in_a_row, 16))
        return self._clock.jitter(pause / 2, pause)

    async def _pause(self, seconds: float) -> None:
        if seconds <= 0:
            return
        try:
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        except TimeoutError:
            return


def _missed(machine: MachineRecord, missed: int) -> MachineRecord:
    relationship = machine.relationship
    if relationship is None:
        return machine
    return with_statistics(machine, with_missed(relationship.statistics, missed))
