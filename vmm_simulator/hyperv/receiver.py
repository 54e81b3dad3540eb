"""The replica's end: who may create a relationship here, and who may send into it."""

import asyncio
from collections.abc import Callable
from typing import Final

import structlog

from service_shell.clock import Clock
from vmm_simulator.hyperv.backend import (
    AppliedCut,
    BackendStateError,
    CutKind,
    ReplicationBackend,
    TransferHeader,
    TransferRefusedError,
)
from vmm_simulator.hyperv.counting import Counting
from vmm_simulator.hyperv.host_control import (
    Offer,
    OfferAnswer,
    ReplicaLocation,
    asked_relationship,
    parse_offer,
)
from vmm_simulator.hyperv.host_guests import disk_files
from vmm_simulator.hyperv.host_questions import Asked, OtherEnd, Question, question
from vmm_simulator.hyperv.known_peers import KnownPeers
from vmm_simulator.hyperv.point_keeping import keep_point
from vmm_simulator.hyperv.replica_location import location_of, offer_elsewhere
from vmm_simulator.hyperv.replica_making import (
    as_replica,
    check_may_become_replica,
    require_disks_of_its_own,
)
from vmm_simulator.hyperv.replica_refusals import (
    check_offered,
    check_room,
    check_same_relationship,
    check_source,
    refuse_altered,
    refuse_changes,
    refuse_lower,
    refused_by_bytes,
    require_awaited,
)
from vmm_simulator.hyperv.replication import Operation, advance, allowed, receiving
from vmm_simulator.hyperv.statistics import with_success
from vmm_simulator.problems import Code, RefusedError, unknown
from vmm_simulator.store import InventoryStore
from vmm_simulator.vmm.brokering import Peer, replica_for, replica_machine, trusts
from vmm_simulator.vmm.records import HostRecord, MachineRecord
from vmm_simulator.vmm.transitions import moved, position, with_epoch, with_relationship
from wire_contract.model import WireModel
from wire_contract.vocabulary import ReplicationMode, ReplicationState

ERROR_CHARACTERS_MAX: Final = 1_000

_TAKING_WHOLE: Final = frozenset(
    {ReplicationState.WAITING_TO_COMPLETE_INITIAL_REPLICATION, ReplicationState.CRITICAL}
)
"""States in which nothing but a whole copy is taken: the first one leads on."""

_TAKING: Final = _TAKING_WHOLE | {ReplicationState.REPLICATING, ReplicationState.SUSPENDED}
"""States of a replica that has not been failed over."""

log = structlog.get_logger(__name__)


class ReplicaReceiver:
    """Answers the replication port of one host; the peer is known by its certificate."""

    def __init__(
        self, fqdn: str, store: InventoryStore, backend: ReplicationBackend, clock: Clock
    ) -> None:
        self._fqdn = fqdn
        self._store = store
        self._backend = backend
        self._clock = clock
        self._counting = Counting(store, clock)
        self._arriving: dict[str, CutKind] = {}
        self.peers = KnownPeers()
        self.runs: Callable[[MachineRecord], bool] = _never

    async def control(
        self, peer_fqdn: str, method: str, path: str, body: bytes
    ) -> tuple[int, bytes]:
        """Answer a control request: status and JSON body."""
        answer: WireModel
        try:
            asked = question(method, path)
            if asked is not None:
                answer = await self._answer(peer_fqdn, asked)
            elif method == "GET":
                answer = self._say_where(peer_fqdn, path)
            else:
                answer = await self._take_offer(peer_fqdn, parse_offer(method, path, body))
        except RefusedError as refusal:
            log.warning("host_request_refused", peer=peer_fqdn, cause=refusal.message)
            return refusal.status, refusal.problem().model_dump_json().encode()
        return 200, answer.model_dump_json().encode()

    async def authorize_transfer(self, peer_fqdn: str, header: TransferHeader) -> str:
        """Return the machine that the transfer is for, or refuse (TransferRefusedError).

        The epoch comes first: a sender that was passed by has to learn that before all else.
        """
        try:
            machine = self._replica_of(header.relationship_id, peer_fqdn)
            refuse_lower(machine, header.epoch)
            operation = receiving(header.kind)
            if operation is Operation.RECEIVE_CHANGES:
                reason = self._backend.resynchronization_reason(machine.machine_id)
                refuse_altered(machine, reason)
            advance(position(machine), operation)
            relationship = machine.relationship
            assert relationship is not None
            check_source(machine, relationship, header.source)
            if relationship.diverged:
                refuse_changes(machine, operation)
            copying = machine.state is ReplicationState.WAITING_TO_COMPLETE_INITIAL_REPLICATION
            if copying and operation is Operation.RECEIVE_CHANGES:
                require_awaited(machine, relationship)
            await self._take_epoch(machine, header.epoch)
            await self._follow(machine, peer_fqdn)
            self._arriving[machine.machine_id] = header.kind
        except RefusedError as refusal:
            applied = self._applied_of(header.relationship_id, peer_fqdn)
            raise TransferRefusedError(refusal.code, refusal.message, applied) from refusal
        return machine.machine_id

    async def applied(self, machine_id: str, applied: AppliedCut) -> None:
        """Note a change set that the back end holds durably."""
        present = self._store.machine(machine_id)
        if present.mode is not ReplicationMode.REPLICA:
            return
        kind = self._arriving.pop(machine_id, None)
        changes = kind in (CutKind.DELTA, CutKind.FINAL)
        cause = None
        if not (changes and _awaits_import(present)):
            cause = await keep_point(self._backend, present, applied, kind)
        now = self._clock.now()

        def note(machine: MachineRecord) -> MachineRecord:
            if machine.mode is not ReplicationMode.REPLICA:
                return machine
            if changes and _awaits_import(machine):
                return with_relationship(machine, last_replication_at=now)
            whole = machine.state in _TAKING_WHOLE
            arrived = moved(machine, Operation.RECEIVE_WHOLE) if whole else machine
            return with_relationship(
                arrived,
                last_cut=applied.cut,
                last_cut_record=applied.last_record,
                last_replication_at=now,
                # Changes are refused while the copy has diverged: what arrives is whole.
                diverged=False,
                awaits_import=False,
                last_error=cause,
            )

        await self._counting.count(machine_id, lambda each: with_success(each, 0, 0.0), note)

    async def failed(self, machine_id: str, cause: str) -> None:
        """Note that the disks of a replica fail; the next change set that is taken ends it."""
        machine = self._store.machines.get(machine_id)
        if machine is None or Operation.FAIL not in allowed(position(machine)):
            return
        relationship = machine.relationship
        assert relationship is not None
        known = machine.state is ReplicationState.CRITICAL and relationship.last_error == cause
        if machine.mode is not ReplicationMode.REPLICA or known:
            return
        await self._store.change_machine(
            machine_id,
            lambda each: with_relationship(
                moved(each, Operation.FAIL), last_error=cause[:ERROR_CHARACTERS_MAX]
            ),
        )
        log.error("replica_disks_failed", machine_id=machine_id, cause=cause)

    async def _answer(self, peer_fqdn: str, asked: Question) -> OtherEnd:
        machine = self._replica_of(asked.relationship_id, peer_fqdn)
        if asked.asked is Asked.AWAIT_IMPORT:
            machine = await self._await_import(machine)
        relationship = machine.relationship
        return OtherEnd(
            machine_id=machine.machine_id,
            mode=machine.mode,
            state=machine.state,
            running=self.runs(machine),
            epoch=machine.epoch,
            last_cut=0 if relationship is None else relationship.last_cut,
        )

    async def _await_import(self, machine: MachineRecord) -> MachineRecord:
        """Hold what comes until the import; a replica that holds its copy needs none."""
        if machine.state is ReplicationState.REPLICATING:
            return machine
        advance(position(machine), Operation.IMPORT_INITIAL_REPLICATION)
        try:
            await self._backend.await_import(machine.machine_id)
        except BackendStateError as error:
            raise refused_by_bytes(machine.name, error) from error
        return await self._store.change_machine(
            machine.machine_id, lambda each: with_relationship(each, awaits_import=True)
        )

    async def recover(self) -> None:
        """After a start: let the records say what the back end holds."""
        for machine in list(self._store.machines.values()):
            if machine.host != self._fqdn or machine.mode is not ReplicationMode.REPLICA:
                continue
            relationship = machine.relationship
            if machine.state not in _TAKING or relationship is None or relationship.awaits_import:
                # Failed over it stands where it stands; what awaits an import counts with it.
                continue
            if await self._fail_altered(machine):
                continue
            applied = self._backend.applied_cut(machine.machine_id)
            if applied is not None and applied.cut > relationship.last_cut:
                await self.applied(machine.machine_id, applied)

    async def _fail_altered(self, machine: MachineRecord) -> bool:
        """Let a replica whose disks somebody else has changed wait for a comparison."""
        reason = self._backend.resynchronization_reason(machine.machine_id)
        if reason and machine.state is ReplicationState.REPLICATING:
            await self._store.change_machine(
                machine.machine_id,
                lambda each: with_relationship(
                    moved(each, Operation.FAIL), last_error=reason[:ERROR_CHARACTERS_MAX]
                ),
            )
            log.error("replica_altered", machine_id=machine.machine_id, cause=reason)
        return bool(reason)

    async def _take_offer(self, peer_fqdn: str, offer: Offer) -> OfferAnswer:
        machine, peer = self._store.machines.get(offer.replica_machine_id), self._peer(peer_fqdn)
        if machine is None:
            raise unknown("machine", offer.replica_machine_id)
        if machine.host != self._fqdn:
            # As the broker of our cluster, which knows where the machine was placed.
            self._check_authorised(peer_fqdn)
            return offer_elsewhere(self._store.inventory, self._fqdn, machine)
        if machine.migrating_to is not None:
            raise RefusedError(
                Code.NOT_AVAILABLE,
                f"machine {machine.machine_id} is being moved to {machine.migrating_to}",
                "ask again in a moment",
            )
        self._check_authorised(peer_fqdn)
        check_offered(machine, offer, peer_fqdn)
        refuse_lower(machine, offer.epoch)
        check_same_relationship(machine, offer, trusted=trusts(self._host, machine, peer))
        if machine.relationship is None:
            check_may_become_replica(machine, runs=self.runs(machine))
            check_room(self._host, self._store.machines.values(), machine, offer)
        advance(position(machine), Operation.CREATE_REPLICA)
        await self._take_epoch(machine, offer.epoch)
        machine = self._store.machine(machine.machine_id)
        if machine.relationship is None:
            machine = await self._create(machine, offer, peer)
        else:
            machine = await self._store.change_machine(
                machine.machine_id, lambda present: _with_settings(present, offer, peer)
            )
        applied = self._backend.applied_cut(machine.machine_id)
        cluster = self._store.fabric.cluster(self._host.cluster)
        return OfferAnswer(
            machine_id=machine.machine_id,
            state=int(machine.state),
            last_cut=0 if applied is None else applied.cut,
            broker=None if cluster is None or cluster.broker is None else cluster.broker.name,
            node=location_of(self._store.inventory, machine),
        )

    async def _create(self, machine: MachineRecord, offer: Offer, peer: Peer) -> MachineRecord:
        machine_id, disks = machine.machine_id, disk_files(machine)
        await asyncio.to_thread(require_disks_of_its_own, machine, disks)
        try:
            await self._backend.create_replica_disks(machine_id, disks)
            await self._backend.forget_applied_cut(machine_id)
        except (OSError, BackendStateError) as error:
            raise RefusedError(
                Code.NOT_AVAILABLE,
                f"the disks of the replica cannot be made: {error}",
                "look at the space and the rights of the host's disks folder",
            ) from error
        now, broker = self._clock.now(), next(iter(peer.brokers), None)
        created = await self._store.change_machine(
            machine_id, lambda present: as_replica(present, offer, broker, now)
        )
        log.info("replica_created", machine_id=machine_id, primary_host=offer.primary_host)
        return created

    @property
    def _host(self) -> HostRecord:
        return self._store.host(self._fqdn)

    def _peer(self, fqdn: str) -> Peer:
        return self.peers.peer(fqdn, self._host)

    def _check_authorised(self, peer_fqdn: str) -> None:
        if not self._host.authorises(*self._peer(peer_fqdn)):
            raise RefusedError(
                Code.ACCESS_DENIED,
                f"{peer_fqdn} is not authorised to replicate to {self._fqdn}",
                "pair the clouds again, so that every host authorises its partners, or enter it "
                "among the host's authorisations",
            )

    def _say_where(self, peer_fqdn: str, path: str) -> ReplicaLocation:
        """Answer in the broker's place on which node of the cluster a replica is now."""
        relationship_id = asked_relationship(path)
        peer = self._peer(peer_fqdn)
        replica = replica_machine(self._store.inventory, self._fqdn, relationship_id, peer)
        return location_of(self._store.inventory, replica)

    async def _follow(self, machine: MachineRecord, peer_fqdn: str) -> None:
        """Note to which node of its cluster the primary was moved."""
        relationship = machine.relationship
        if relationship is None or relationship.peer_host.lower() == peer_fqdn.lower():
            return
        await self._store.change_machine(
            machine.machine_id, lambda each: with_relationship(each, peer_host=peer_fqdn)
        )
        log.info("primary_followed", machine_id=machine.machine_id, primary_host=peer_fqdn)

    async def _take_epoch(self, machine: MachineRecord, epoch: int) -> None:
        """Store a higher epoch before anything is done under it."""
        if epoch > machine.epoch:
            await self._store.change_machine(
                machine.machine_id,
                lambda each: with_epoch(each, epoch),
            )

    def _replica_of(self, relationship_id: str, peer_fqdn: str) -> MachineRecord:
        self._check_authorised(peer_fqdn)
        peer = self._peer(peer_fqdn)
        return replica_for(self._store.inventory, self._fqdn, relationship_id, peer)

    def _applied_of(self, relationship_id: str, peer_fqdn: str) -> AppliedCut | None:
        try:
            machine = self._replica_of(relationship_id, peer_fqdn)
        except RefusedError:
            return None
        return self._backend.applied_cut(machine.machine_id)


def _never(_: MachineRecord) -> bool:
    """Nothing runs before the host has said how to look."""
    return False


def _awaits_import(machine: MachineRecord) -> bool:
    return machine.relationship is not None and machine.relationship.awaits_import


def _with_settings(machine: MachineRecord, offer: Offer, peer: Peer) -> MachineRecord:
    """Return a replica that is there already with what its primary, and where it is, is now."""
    return with_relationship(
        machine,
        peer_host=peer.fqdn,
        peer_broker=next(iter(peer.brokers), None),
        interval_seconds=offer.interval_seconds,
        recovery_points=offer.recovery_points,
        application_consistent_hours=offer.application_consistent_hours,
        compression=offer.compression,
    )
