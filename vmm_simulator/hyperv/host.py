"""One Hyper-V host at run time: its address, certificate, replication port, bytes and guests."""

import ssl
from collections.abc import Collection, Mapping
from typing import Protocol

import structlog

from service_shell.errors import ProgramError
from service_shell.listener import open_listener
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
from vmm_simulator.hyperv.peer_proof import CertificateProof, PeerProof, TicketProof
from vmm_simulator.hyperv.receiver import ReplicaReceiver
from vmm_simulator.hyperv.replica_listener import ReplicaListener
from vmm_simulator.problems import Code, RefusedError
from vmm_simulator.vmm.relationship_records import RelationshipRecord
from vmm_simulator.vmm.replication_ports import PairPort
from wire_contract.vocabulary import RunState

log = structlog.get_logger(__name__)


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
    ) -> None:
        self.fqdn = fqdn
        self.credentials = credentials
        self.backend = backend
        self.guests = guests
        self.receiver = receiver
        self._addresses = addresses
        self._client = client
        receiver.runs = lambda machine: guests.run_state(machine) is RunState.RUNNING
        self._tickets = tickets
        self._listeners: dict[int, ReplicaListener] = {}

    async def listen(self, ports: Collection[PairPort]) -> None:
        """Have just these replication ports open on the host's own address; may be repeated."""
        proofs = {each.port: self._proof(each.authentication) for each in ports}
        for port, proof in proofs.items():
            if port in self._listeners:
                self._listeners[port].replace_proof(proof)
            else:
                await self._open(port, proof)
        for port in self._listeners.keys() - proofs.keys():
            await self._listeners.pop(port).aclose()
            log.info("replication_port_closed", host=self.fqdn, port=port)

    def _proof(self, authentication: Authentication) -> PeerProof:
        if authentication is Authentication.CERTIFICATE:
            return CertificateProof(self.credentials.contexts()[0])
        return TicketProof(self.tickets())

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

    async def _open(self, port: int, proof: PeerProof) -> None:
        try:
            listening = open_listener(self.address_of(self.fqdn), port)
        except ProgramError as error:
            raise RefusedError(
                Code.NOT_AVAILABLE,
                f"host {self.fqdn} cannot listen for replication: {error}",
                "free the port on the host's address",
            ) from error
        listener = ReplicaListener(
            self.backend,
            control=self.receiver.control,
            authorize_transfer=self.receiver.authorize_transfer,
            applied=self.receiver.applied,
        )
        await listener.start(listening, proof)
        self._listeners[port] = listener
        log.info("replication_port_opened", host=self.fqdn, port=port, encrypted=bool(proof.tls))

    async def stop_listening(self) -> None:
        """Close all replication ports; may be repeated."""
        await self.listen(())

    async def use_certificate(self) -> None:
        """Use the certificate files as they are now for new connections."""
        for listener in self._listeners.values():
            if listener.encrypted:
                listener.replace_proof(CertificateProof(self.credentials.contexts()[0]))

    async def offer(self, peer: PeerAddress, offer: Offer) -> OfferAnswer:
        """Offer a relationship to a replica host; its answer, or its refusal as ours."""
        path = offer_path(offer.relationship_id)
        body = offer.model_dump_json().encode()
        status, answer = await self._ask(peer, "PUT", path, body)
        return read_answer(peer.fqdn, status, answer, OfferAnswer)

    async def replica_location(self, peer: PeerAddress, relationship_id: str) -> ReplicaLocation:
        """Ask the broker of a replica's cluster, at one of its nodes, where the replica is now."""
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
