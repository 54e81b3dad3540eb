"""One Hyper-V host at run time: its address, certificate, replication port, bytes and guests."""

import ssl
from collections.abc import Mapping

import structlog

from service_shell.errors import ProgramError
from service_shell.listener import open_listener
from vmm_simulator.hyperv.backend import PeerAddress
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
from vmm_simulator.hyperv.peer_proof import CertificateProof
from vmm_simulator.hyperv.receiver import ReplicaReceiver
from vmm_simulator.hyperv.replica_listener import ReplicaListener
from vmm_simulator.problems import Code, RefusedError
from wire_contract.vocabulary import RunState

log = structlog.get_logger(__name__)


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
    ) -> None:
        self.fqdn = fqdn
        self.credentials = credentials
        self.backend = backend
        self.guests = guests
        self.receiver = receiver
        self._addresses = addresses
        self._client = client
        receiver.runs = lambda machine: guests.run_state(machine) is RunState.RUNNING
        self._listener: ReplicaListener | None = None
        self._port: int | None = None

    async def listen(self, port: int) -> None:
        """Have the replication port open on the host's own address; may be repeated."""
        tls, _ = self.credentials.contexts()
        if self._listener is not None and self._port == port:
            self._listener.replace_proof(CertificateProof(tls))
            return
        try:
            listening = open_listener(self.address_of(self.fqdn), port)
        except ProgramError as error:
            raise RefusedError(
                Code.NOT_AVAILABLE,
                f"host {self.fqdn} cannot listen for replication: {error}",
                "free the port on the host's address",
            ) from error
        await self._close_listener()
        listener = ReplicaListener(
            self.backend,
            control=self.receiver.control,
            authorize_transfer=self.receiver.authorize_transfer,
            applied=self.receiver.applied,
        )
        await listener.start(listening, CertificateProof(tls))
        self._listener, self._port = listener, port
        log.info("replication_port_opened", host=self.fqdn, port=port)

    async def stop_listening(self) -> None:
        """Close the replication port; may be repeated."""
        await self._close_listener()

    async def use_certificate(self) -> None:
        """Use the certificate files as they are now for new connections."""
        if self._listener is not None:
            self._listener.replace_proof(CertificateProof(self.credentials.contexts()[0]))

    async def offer(self, fqdn: str, port: int, offer: Offer) -> OfferAnswer:
        """Offer a relationship to a replica host; its answer, or its refusal as ours."""
        path = offer_path(offer.relationship_id)
        body = offer.model_dump_json().encode()
        status, answer = await self._ask(fqdn, port, "PUT", path, body)
        return read_answer(fqdn, status, answer, OfferAnswer)

    async def replica_location(self, fqdn: str, port: int, relationship_id: str) -> ReplicaLocation:
        """Ask the broker of a replica's cluster, at one of its nodes, where the replica is now."""
        status, answer = await self._ask(fqdn, port, "GET", offer_path(relationship_id), b"")
        return read_answer(fqdn, status, answer, ReplicaLocation)

    async def ask(self, fqdn: str, port: int, relationship_id: str) -> OtherEnd:
        """Return how the other end of a relationship is; refused where it cannot be reached."""
        status, answer = await self._ask(fqdn, port, "GET", state_path(relationship_id), b"")
        return read_answer(fqdn, status, answer, OtherEnd)

    async def have_import_awaited(self, fqdn: str, port: int, relationship_id: str) -> OtherEnd:
        """Have a replica's host hold changes until the exported copy is brought to it."""
        status, answer = await self._ask(fqdn, port, "PUT", import_path(relationship_id), b"")
        return read_answer(fqdn, status, answer, OtherEnd)

    async def _ask(
        self, fqdn: str, port: int, method: str, path: str, body: bytes
    ) -> tuple[int, bytes]:
        try:
            return await self._client.request(self.peer(fqdn, port), method, path, body)
        except (OSError, ssl.SSLError) as error:
            raise RefusedError(
                Code.NO_CONNECTION,
                f"the replica host {fqdn}:{port} could not be reached from {self.fqdn}: "
                f"{str(error) or type(error).__name__}",
                "look at the replica host, its port and its certificate",
            ) from error

    def peer(self, fqdn: str, port: int) -> PeerAddress:
        """Return where to connect for a host, and whose certificate to expect there."""
        return PeerAddress(fqdn=fqdn, address=self.address_of(fqdn), port=port)

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
        await self._close_listener()
        await self.guests.close()
        await self.backend.aclose()

    async def _close_listener(self) -> None:
        listener, self._listener, self._port = self._listener, None, None
        if listener is not None:
            await listener.aclose()
