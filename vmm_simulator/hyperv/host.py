"""One Hyper-V host at run time: its address, certificate, replication port, bytes and guests."""

import ssl
from collections.abc import Collection, Mapping
from typing import Protocol

from service_shell.failpoints import NONE, FaultPoints
from vmm_simulator.hyperv.backend import Authentication, PeerAddress
from vmm_simulator.hyperv.embedded import EmbeddedBackend
from vmm_simulator.hyperv.host_client import HostClient
from vmm_simulator.hyperv.host_control import (
    Offer,
    OfferAnswer,
    ReplicaLocation,
    offer_path,
    read_answer,
)
from vmm_simulator.hyperv.host_credentials import HostCredentials
from vmm_simulator.hyperv.host_guests import HostGuests
from vmm_simulator.hyperv.host_questions import OtherEnd, import_path, state_path
from vmm_simulator.hyperv.kerberos import Tickets, require_extra
from vmm_simulator.hyperv.listening import ListeningPorts
from vmm_simulator.hyperv.peer_proof import CertificateProof, PeerProof, TicketProof
from vmm_simulator.hyperv.receiver import ReplicaReceiver
from vmm_simulator.hyperv.replica_listener import ReplicaListener
from vmm_simulator.problems import Code, RefusedError
from vmm_simulator.vmm.relationship_records import RelationshipRecord
from vmm_simulator.vmm.replication_ports import PairPort
from wire_contract.vocabulary import RunState


class TransportPolicy(Protocol):
    """What a policy says of the way between two hosts; a relationship keeps it."""

    @property
    def authentication(self) -> Authentication:
        """How both ends prove who they are."""

    @property
    def compression(self) -> bool:
        """Whether what is sent is compressed."""

    @property
    def bypass_proxy(self) -> bool:
        """Whether to go past the host's own proxy."""


class Host:
    """Everything of one host that is not in the journal."""

    def __init__(
        self,
        fqdn: str,
        *,
        addresses: Mapping[str, str],
        credentials: HostCredentials,
        client: HostClient,
        backend: EmbeddedBackend,
        guests: HostGuests,
        receiver: ReplicaReceiver,
        tickets: Tickets | None = None,
        faults: FaultPoints = NONE,
    ) -> None:
        self.fqdn = fqdn
        self.faults = faults
        self.credentials = credentials
        self.backend = backend
        self.guests = guests
        self.receiver = receiver
        self._addresses = addresses
        self._client = client
        receiver.runs = lambda machine: guests.run_state(machine) is not RunState.OFF
        self._tickets = tickets
        self._ports = ListeningPorts(fqdn, self._listener)
        self._broker: ListeningPorts | None = None

    async def listen(self, ports: Collection[PairPort]) -> None:
        """Have just these replication ports open on the host's own address; may be repeated."""
        proofs = {each.port: self._proof(each.authentication) for each in ports}
        await self._ports.have(self.address_of(self.fqdn), proofs)

    async def take_broker(self, name: str, ports: Collection[PairPort]) -> None:
        """Listen at the address of the cluster's replica broker too; may be repeated.

        Callers find this host's service there: it knows where every replica of the cluster is.
        They check that our certificate, or ticket, is in the broker's name.
        """
        if self._broker is None:
            self._broker = ListeningPorts(name, self._listener)
        proofs = {each.port: self._proof(each.authentication, name) for each in ports}
        await self._broker.have(self.address_of(name), proofs)

    async def leave_broker(self) -> None:
        """Give the broker's address up; may be repeated."""
        broker, self._broker = self._broker, None
        if broker is not None:
            await broker.close()

    def _proof(self, authentication: Authentication, name: str | None = None) -> PeerProof:
        if authentication is Authentication.CERTIFICATE:
            return self._certificate_proof()
        tickets = self.tickets()
        return TicketProof(tickets if name is None else tickets.of_name(name))

    def _certificate_proof(self) -> CertificateProof:
        return CertificateProof(self.credentials.contexts()[0], self.receiver.peers.introduce)

    def tickets(self) -> Tickets:
        """Return what proves this host in its realm, or refuse with what is missing."""
        if self._tickets is None:
            require_extra()
            raise RefusedError(
                Code.INVALID_STATE,
                f"host {self.fqdn} is in no Kerberos realm",
                "name the realm under kerberos in the simulator's configuration and the host's "
                "keytab_file, or use certificates",
            )
        self._tickets.require_usable()
        return self._tickets

    def _listener(self) -> ReplicaListener:
        return ReplicaListener(
            self.backend,
            control=self.receiver.control,
            authorize_transfer=self.receiver.authorize_transfer,
            applied=self.receiver.applied,
            failed=self.receiver.failed,
            faults=self.faults,
        )

    async def stop_listening(self) -> None:
        """Close all replication ports, the broker's too; may be repeated."""
        await self.leave_broker()
        await self._ports.close()

    async def use_certificate(self) -> None:
        """Use the certificate files as they are now for new connections."""
        for ports in (self._ports, self._broker):
            if ports is not None:
                ports.prove_encrypted_by(self._certificate_proof)

    async def offer(self, peer: PeerAddress, offer: Offer) -> OfferAnswer:
        """Offer a relationship to a replica host; its answer, or its refusal as ours."""
        path = offer_path(offer.relationship_id)
        body = offer.model_dump_json().encode()
        status, answer = await self._ask(peer, "PUT", path, body)
        return read_answer(peer.fqdn, status, answer, OfferAnswer)

    async def replica_location(self, peer: PeerAddress, relationship_id: str) -> ReplicaLocation:
        """Ask the broker of a replica's cluster, or a node, on which node the replica is now."""
        status, answer = await self._ask(peer, "GET", offer_path(relationship_id), b"")
        return read_answer(peer.fqdn, status, answer, ReplicaLocation)

    async def ask(self, peer: PeerAddress, relationship_id: str) -> OtherEnd:
        """Return how the other end of a relationship is; refused where it cannot be reached."""
        status, answer = await self._ask(peer, "GET", state_path(relationship_id), b"")
        return read_answer(peer.fqdn, status, answer, OtherEnd)

    async def have_import_awaited(self, peer: PeerAddress, relationship_id: str) -> OtherEnd:
        """Have a replica's host hold changes until the exported copy is brought to it."""
        status, answer = await self._ask(peer, "PUT", import_path(relationship_id), b"")
        return read_answer(peer.fqdn, status, answer, OtherEnd)

    async def _ask(
        self, peer: PeerAddress, method: str, path: str, body: bytes
    ) -> tuple[int, bytes]:
        try:
            return await self._client.request(peer, method, path, body)
        except (OSError, ssl.SSLError) as error:
            raise RefusedError(
                Code.NO_CONNECTION,
                f"the replica host {peer.fqdn}:{peer.port} could not be reached from {self.fqdn}: "
                f"{str(error) or type(error).__name__}",
                "look at the replica host, its port and its certificate or Kerberos key",
            ) from error

    def peer_of(self, relationship: RelationshipRecord) -> PeerAddress:
        """Return the way to the other end of a relationship."""
        return self.peer(relationship.peer_host, relationship.peer_port, relationship)

    def broker_of(self, relationship: RelationshipRecord) -> PeerAddress | None:
        """Return the way to the broker of the other end's cluster; None: none with an address."""
        broker = relationship.peer_broker
        if broker is None or not self.knows(broker):
            return None
        return self.peer(broker, relationship.peer_port, relationship)

    def knows(self, name: str) -> bool:
        """Return whether the estate has an address of this name."""
        return name.lower() in self._addresses

    def peer(self, fqdn: str, port: int, policy: TransportPolicy) -> PeerAddress:
        """Return the way to a host, and who has to answer there."""
        return PeerAddress(
            fqdn=fqdn,
            address=self.address_of(fqdn),
            port=port,
            authentication=policy.authentication,
            compression=policy.compression,
            bypass_proxy=policy.bypass_proxy,
        )

    def address_of(self, fqdn: str) -> str:
        """Return the address of a host of the estate."""
        address = self._addresses.get(fqdn.lower())
        if address is None:
            raise RefusedError(
                Code.NO_CONNECTION,
                f"there is no address for host {fqdn}",
                "add it to the hosts file of the simulator's configuration",
            )
        return address

    async def close(self) -> None:
        """Close the port, end the guests, flush the disks."""
        await self.stop_listening()
        await self.guests.close()
        await self.backend.aclose()
