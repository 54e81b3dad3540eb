"""Sending one machine's change sets: cut, send, acknowledge, and what a failure means.

Errors are of three kinds (behaviour 1.9.2). What passes by itself, of the network or of the other
end's state, is tried again for ever. What says that the copies differ leads to state 9. All else
is tried a few times and then leads to state 8, which waits for an administrator.
"""

import asyncio
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

import structlog

from service_shell.clock import Clock
from vmm_simulator.hyperv.backend import (
    AppliedCut,
    BackendStateError,
    ChangeSet,
    Consistency,
    CutKind,
    TransferHeader,
    TransferRefusedError,
)
from vmm_simulator.hyperv.counting import Counting
from vmm_simulator.hyperv.cutting import Member, cut_application_consistent
from vmm_simulator.hyperv.disk_errors import STORAGE_ERRORS, is_of_disks
from vmm_simulator.hyperv.host import Host
from vmm_simulator.hyperv.host_guests import disk_files
from vmm_simulator.hyperv.replica_finding import ReplicaFinder
from vmm_simulator.hyperv.schedule import OTHER_FAILURES_MAX, application_consistent_due
from vmm_simulator.hyperv.source_chain import (
    ancestor_of,
    is_own,
    other_source,
    with_acknowledged,
    with_attempt,
    with_foreign,
)
from vmm_simulator.hyperv.statistics import (
    Statistics,
    with_crash_consistent_fallback,
    with_failure,
    with_success,
)
from vmm_simulator.problems import Code, RefusedError
from vmm_simulator.store import InventoryStore
from vmm_simulator.vmm.records import MachineRecord
from vmm_simulator.vmm.relationship_records import AcknowledgedRecord, RelationshipRecord
from vmm_simulator.vmm.transitions import with_relationship
from wire_contract.vocabulary import ReplicationMode

ERROR_CHARACTERS_MAX: Final = 1000

PASSING_CODES: Final = frozenset(
    {
        Code.INVALID_STATE,
        Code.IN_USE,
        Code.NOT_AVAILABLE,
        Code.TIMEOUT,
        Code.NO_CONNECTION,
        Code.EPOCH_NOT_CONFIRMED,
        Code.MACHINE_MOVED,
        # Its disk is full, or fails: somebody will make room.
        Code.FAILED,
        # These lead elsewhere: to a fence, to state 9.
        Code.LOWER_EPOCH,
        Code.RESYNCHRONIZATION_REQUIRED,
    }
)
"""Refusals of a replica's host that are no error of this end."""

_FOR_SOMEBODY: Final = frozenset({Code.DISK_SIZES_DIFFER, Code.OTHER_SOURCE})
"""Refusals that only a person ends: by a disk's size (behaviour 1.5), by choosing the source."""

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Progress:
    """How far the transfer under way is; `begun`: the replica has agreed to take it."""

    bytes_total: int = 0
    bytes_done: int = 0
    begun: bool = False

    @property
    def percent(self) -> float:
        """0 to 100; an empty change set is done."""
        return 100.0 * self.bytes_done / self.bytes_total if self.bytes_total else 100.0


class Shipping:
    """One machine's transfers, one at a time, also when a verb asks for one."""

    def __init__(self, machine_id: str, *, store: InventoryStore, host: Host, clock: Clock) -> None:
        self._machine_id = machine_id
        self._store = store
        self._host = host
        self._clock = clock
        self._counting = Counting(store, clock)
        self._finder = ReplicaFinder(machine_id, store=store, host=host)
        self._sending = asyncio.Lock()
        self._handed: ChangeSet | None = None
        self.progress: Progress | None = None
        self._lost: str | None = None
        self.sent_epoch = 0
        """The epoch that the newest transfer was announced under."""

        self.failures_in_a_row = 0
        self.other_failures_in_a_row = 0

    @property
    def given_up(self) -> bool:
        """Whether an error that does not pass by itself has been tried often enough."""
        return self.other_failures_in_a_row >= OTHER_FAILURES_MAX

    def forgive(self) -> None:
        """Begin to count failures anew: an administrator has looked."""
        self.failures_in_a_row = self.other_failures_in_a_row = 0

    def sender(self) -> tuple[MachineRecord, RelationshipRecord]:
        """Return the machine as the primary of its relationship, or refuse."""
        machine = self._store.machine(self._machine_id)
        if machine.relationship is None or machine.mode is not ReplicationMode.PRIMARY:
            raise RefusedError(
                Code.INVALID_STATE, f"machine {machine.name} is not the primary of a relationship"
            )
        return machine, machine.relationship

    async def ship(self, kind: CutKind) -> AppliedCut:
        """Cut, send and return once the replica holds it; the record then says so durably."""
        async with self._sending:
            machine, relationship = self.sender()
            backend, faults = self._host.backend, self._host.faults
            await faults.reach("simulator.before_cut")
            change_set = await self._cut(kind)
            await faults.reach("simulator.cut")
            header = self._header(machine, relationship, change_set)
            await self._note_attempt(header)
            await faults.reach("simulator.before_send")
            began = asyncio.get_running_loop().time()
            self.progress = Progress(change_set.bytes_total)
            sent = self.progress
            acknowledged = False
            try:
                peer = self._host.peer_of(relationship)
                applied = await backend.send(change_set, peer, header, self._note_progress)
                acknowledged = True
            finally:
                self.progress = None
                # What the replica never agreed to take cannot have arrived.
                self._lost = None if sent.begun else header.transfer_id
                await backend.release(change_set, acknowledged=acknowledged)
            took = asyncio.get_running_loop().time() - began
            await faults.reach("simulator.sent")
            await self._acknowledged(applied, header, sent.bytes_done, took)
            await faults.reach("simulator.acknowledged")
            self.forgive()
            return applied

    async def ship_until_held(self, kind: CutKind) -> AppliedCut:
        """As ship; when the replica holds a set whose acknowledgement was lost, go on from there.

        Raises RefusedError: the peer's refusal, or that it cannot be reached.
        """
        try:
            try:
                return await self.ship(kind)
            except TransferRefusedError as refusal:
                moved = refusal.code == Code.MACHINE_MOVED
                if not (await self._adopt(refusal) or (moved and await self._finder.follow())):
                    raise
                return await self.ship(kind)
            except OSError as error:
                # Its node may be down, and the replica on another one by now.
                if not (is_network(error) and await self._finder.follow(by_broker_alone=True)):
                    raise
                return await self.ship(kind)
        except TransferRefusedError as refusal:
            await self.note_refusal(refusal.code, str(refusal), refusal.applied)
            raise RefusedError(refusal.code, str(refusal)) from refusal
        except (OSError, BackendStateError) as error:
            await self.note_error(error)
            raise RefusedError(
                Code.NO_CONNECTION if is_network(error) else Code.NOT_AVAILABLE,
                f"the changes could not be sent: {error}",
                "look at the replica host, its port and its certificate, and at this host's disks",
            ) from error

    async def export(self, folder: Path) -> None:
        """Write the whole copy into a folder; from then on changes follow it (behaviour 1.2)."""
        async with self._sending:
            machine, relationship = self.sender()
            backend = self._host.backend
            change_set = await self._cut(CutKind.FULL)
            header = self._header(machine, relationship, change_set)
            self.progress = Progress(change_set.bytes_total)
            done = False
            try:
                await backend.export(change_set, header, folder, self._note_progress)
                done = True
            finally:
                self.progress = None
                await backend.release(change_set, acknowledged=done)
            await self._store.change_machine(
                self._machine_id,
                lambda each: with_relationship(
                    each,
                    exported=True,
                    last_cut=header.cut,
                    last_cut_record=header.last_record,
                    acknowledged=AcknowledgedRecord(cut=header.cut, transfer_id=header.transfer_id),
                    last_error=None,
                ),
            )
            self.forgive()

    async def note_refusal(self, code: int, cause: str, applied: AppliedCut | None = None) -> None:
        """Count a cycle that the other end has refused."""
        other = code not in PASSING_CODES
        if code == Code.OTHER_SOURCE and applied is not None:
            await self._store.change_machine(
                self._machine_id, lambda each: with_foreign(each, applied.cut)
            )
        if code in _FOR_SOMEBODY:
            self.other_failures_in_a_row = OTHER_FAILURES_MAX
        await self._note_failure(cause, network=False, other=other)

    async def note_error(self, error: Exception) -> None:
        """Count a cycle that an error has ended."""
        passing = isinstance(error, OSError) and error.errno not in STORAGE_ERRORS
        await self._note_failure(
            str(error) or repr(error), network=is_network(error), other=not passing
        )

    def _header(
        self, machine: MachineRecord, relationship: RelationshipRecord, change_set: ChangeSet
    ) -> TransferHeader:
        self.sent_epoch = machine.epoch
        return TransferHeader(
            relationship_id=relationship.relationship_id,
            transfer_id=self._clock.new_id(),
            epoch=machine.epoch,
            cut=change_set.cut,
            kind=change_set.kind,
            taken_at=change_set.taken_at,
            last_record=change_set.last_record,
            source=machine.machine_id,
            ancestor=ancestor_of(relationship),
        )

    async def _note_attempt(self, header: TransferHeader) -> None:
        """Note durably what is about to be sent: a clone of this source never knows of it."""
        lost, self._lost = self._lost, None
        await self._store.change_machine(
            self._machine_id, lambda each: with_attempt(each, header.transfer_id, lost)
        )

    def member(self) -> Member:
        """Return this machine as one that can be cut with others at one moment."""
        machine, relationship = self.sender()
        return Member(machine, self._host, relationship.last_cut + 1)

    def application_consistency_due(self, now: datetime) -> bool:
        """Return whether the next cut of changes is to be an application-consistent one."""
        _, relationship = self.sender()
        return application_consistent_due(
            relationship.application_consistent_hours,
            relationship.recovery_points,
            relationship.application_consistent_tried_at,
            now,
        )

    def hand(self, change_set: ChangeSet) -> None:
        """Take a change set that was cut together with others, to be shipped next."""
        self._handed = change_set

    @property
    def busy(self) -> bool:
        """Whether a change set is being sent, or waits to be."""
        return self._handed is not None or self._sending.locked()

    @property
    def has_handed(self) -> bool:
        """Whether a change set that was cut together with others waits to be shipped."""
        return self._handed is not None

    async def give_back(self) -> None:
        """Let what was handed over be cut again."""
        handed, self._handed = self._handed, None
        if handed is not None:
            await self._host.backend.release(handed, acknowledged=False)

    async def _cut(self, kind: CutKind) -> ChangeSet:
        handed, self._handed = self._handed, None
        if handed is not None and kind is CutKind.DELTA:
            return handed
        if handed is not None:
            await self._host.backend.release(handed, acknowledged=False)
        member = self.member()
        await self._host.backend.attach(self._machine_id, disk_files(member.machine))
        now = self._clock.now()
        if kind is CutKind.DELTA and self.application_consistency_due(now):
            sets = await cut_application_consistent([member], self._clock)
            await self.note_application_consistency(found=sets is not None)
            if sets is not None:
                return sets[self._machine_id]
        return await self._host.backend.cut(
            self._machine_id, kind, member.number, self._clock.now()
        )

    async def note_application_consistency(self, *, found: bool) -> None:
        """Note that an application-consistent cut was tried, and count one that failed."""
        now = self._clock.now()

        def change(machine: MachineRecord) -> MachineRecord:
            return with_relationship(machine, application_consistent_tried_at=now)

        def count(statistics: Statistics) -> Statistics:
            return statistics if found else with_crash_consistent_fallback(statistics)

        await self._counting.count(self._machine_id, count, change)
        log.info("application_consistent_cut", machine_id=self._machine_id, succeeded=found)

    async def _acknowledged(
        self, applied: AppliedCut, header: TransferHeader, size_bytes: int, seconds: float
    ) -> None:
        now = self._clock.now()

        def change(machine: MachineRecord) -> MachineRecord:
            relationship = machine.relationship
            if relationship is None or relationship.relationship_id != header.relationship_id:
                return machine
            consistent_at = relationship.last_application_consistent_at
            if applied.consistency is Consistency.APPLICATION:
                consistent_at = applied.taken_at
            return with_relationship(
                with_acknowledged(machine, applied),
                last_replication_at=now,
                last_application_consistent_at=consistent_at,
                transferred_bytes=relationship.transferred_bytes + size_bytes,
                last_error=None,
            )

        def count(statistics: Statistics) -> Statistics:
            return with_success(statistics, size_bytes, seconds)

        await self._counting.count(self._machine_id, count, change)

    async def _adopt(self, refusal: TransferRefusedError) -> bool:
        """Take over what the replica holds; whether that explains the refusal."""
        applied = refusal.applied
        _, relationship = self.sender()
        if applied is None or applied.cut <= relationship.last_cut:
            return False
        if not is_own(relationship, applied):
            raise other_source(applied) from refusal
        await self._store.change_machine(
            self._machine_id, lambda each: with_acknowledged(each, applied)
        )
        log.info("acknowledgement_recovered", machine_id=self._machine_id, cut=applied.cut)
        return True

    async def _note_failure(self, cause: str, *, network: bool, other: bool) -> None:
        self.failures_in_a_row += 1
        if other:
            self.other_failures_in_a_row += 1
        if self._machine_id not in self._store.machines:
            return

        def change(machine: MachineRecord) -> MachineRecord:
            return with_relationship(machine, last_error=cause[:ERROR_CHARACTERS_MAX])

        def count(statistics: Statistics) -> Statistics:
            return with_failure(statistics, network=network)

        await self._counting.count(self._machine_id, count, change)

    def _note_progress(self, bytes_done: int) -> None:
        if self.progress is not None:
            self.progress.bytes_done = bytes_done
            self.progress.begun = True


def is_network(error: Exception) -> bool:
    """Return whether an error is of the way to the other host, and not of this host's disks."""
    return isinstance(error, OSError) and not is_of_disks(error)
