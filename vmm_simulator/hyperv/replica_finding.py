"""Finding a replica that was moved to another node of its cluster (behaviour 1.5, 1.10)."""

import structlog

from vmm_simulator.hyperv.backend import PeerAddress
from vmm_simulator.hyperv.host import Host
from vmm_simulator.hyperv.host_control import ReplicaLocation
from vmm_simulator.problems import RefusedError
from vmm_simulator.store import InventoryStore
from vmm_simulator.vmm.relationship_records import RelationshipRecord
from vmm_simulator.vmm.transitions import with_relationship

log = structlog.get_logger(__name__)


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
