"""Finding the other end's copy when it was moved to another node (behaviour 1.5, 1.10)."""

import structlog

from vmm_simulator.hyperv.backend import PeerAddress
from vmm_simulator.hyperv.host import Host
from vmm_simulator.hyperv.host_control import ReplicaLocation
from vmm_simulator.hyperv.host_questions import OtherEnd
from vmm_simulator.problems import Code, RefusedError
from vmm_simulator.store import InventoryStore
from vmm_simulator.vmm.relationship_records import RelationshipRecord
from vmm_simulator.vmm.transitions import with_relationship

log = structlog.get_logger(__name__)


async def other_end(host: Host, relationship: RelationshipRecord) -> OtherEnd:
    """Return how the other end of a relationship is, on whichever node of its cluster.

    Refused where neither the host that it was on nor its broker can say.
    """
    known = host.peer_of(relationship)
    try:
        return await host.ask(known, relationship.relationship_id)
    except RefusedError as refusal:
        broker = host.broker_of(relationship)
        if refusal.code == Code.NO_CONNECTION and broker is not None:
            # Its node may be down, and the copy on another one by now.
            asked = broker
        elif refusal.code == Code.MACHINE_MOVED:
            asked = broker or known
        else:
            raise
    place = await host.replica_location(asked, relationship.relationship_id)
    way = host.peer(place.host, place.port, relationship)
    return await host.ask(way, relationship.relationship_id)


class ReplicaFinder:
    """Asks the broker of the other end's cluster for one primary machine, on its host."""

    def __init__(self, machine_id: str, *, store: InventoryStore, host: Host) -> None:
        self._machine_id = machine_id
        self._store = store
        self._host = host

    async def follow(self, *, by_broker_alone: bool = False) -> bool:
        """Note on which node the replica is now; whether there is another place to send to.

        A broker that is not there leaves the question to the node that was sent to, unless
        `by_broker_alone`: that node did not answer. Hosts that the pairing does not name are not
        followed to.
        """
        relationship = self._store.machine(self._machine_id).relationship
        if relationship is None:
            return False
        location = await self._ask(
            self._places(relationship, by_broker_alone=by_broker_alone), relationship
        )
        if location is None or location.host.lower() not in self._partners():
            return False
        if (location.host, location.port) == (relationship.peer_host, relationship.peer_port):
            return False
        await self._store.change_machine(
            self._machine_id,
            lambda each: with_relationship(each, peer_host=location.host, peer_port=location.port),
        )
        log.info("replica_followed", machine_id=self._machine_id, replica_host=location.host)
        return True

    async def _ask(
        self, places: list[PeerAddress], relationship: RelationshipRecord
    ) -> ReplicaLocation | None:
        for place in places:
            try:
                return await self._host.replica_location(place, relationship.relationship_id)
            except RefusedError as refusal:
                facts = {"machine_id": self._machine_id, "asked": place.fqdn}
                log.warning("replica_not_found", **facts, cause=refusal.message)
        return None

    def _places(
        self, relationship: RelationshipRecord, *, by_broker_alone: bool
    ) -> list[PeerAddress]:
        broker = self._host.broker_of(relationship)
        places = [] if broker is None else [broker]
        if not by_broker_alone:
            places.append(self._host.peer_of(relationship))
        return places

    def _partners(self) -> frozenset[str]:
        """Hosts that the pairing allows this machine's host to replicate with."""
        return frozenset(name.lower() for name in self._store.host(self._host.fqdn).authorised)
