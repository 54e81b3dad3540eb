"""The replication ports that a host listens on at one address: its own, or a broker's."""

from collections.abc import Callable, Mapping

import structlog

from service_shell.errors import ProgramError
from service_shell.listener import open_listener
from vmm_simulator.hyperv.peer_proof import PeerProof
from vmm_simulator.hyperv.replica_listener import ReplicaListener
from vmm_simulator.problems import Code, RefusedError

log = structlog.get_logger(__name__)


class ListeningPorts:
    """Ports open at one address; `make` gives the service behind each."""

    def __init__(self, name: str, make: Callable[[], ReplicaListener]) -> None:
        self._name = name
        self._make = make
        self._listeners: dict[int, ReplicaListener] = {}

    async def have(self, address: str, proofs: Mapping[int, PeerProof]) -> None:
        """Have just these ports open at the address; may be repeated with the same address."""
        for port, proof in proofs.items():
            if port in self._listeners:
                self._listeners[port].replace_proof(proof)
            else:
                await self._open(address, port, proof)
        for port in self._listeners.keys() - proofs.keys():
            await self._close(port)

    async def close(self) -> None:
        """Close them all; may be repeated."""
        for port in list(self._listeners):
            await self._close(port)

    def prove_encrypted_by(self, proof: Callable[[], PeerProof]) -> None:
        """Have the encrypted ports prove themselves anew, for new connections."""
        for listener in self._listeners.values():
            if listener.encrypted:
                listener.replace_proof(proof())

    async def _open(self, address: str, port: int, proof: PeerProof) -> None:
        try:
            listening = open_listener(address, port)
        except ProgramError as error:
            raise RefusedError(
                Code.NOT_AVAILABLE,
                f"{self._name} cannot listen for replication: {error}",
                "free the port on its address",
            ) from error
        listener = self._make()
        await listener.start(listening, proof)
        self._listeners[port] = listener
        log.info("replication_port_opened", host=self._name, port=port, encrypted=bool(proof.tls))

    async def _close(self, port: int) -> None:
        await self._listeners.pop(port).aclose()
        log.info("replication_port_closed", host=self._name, port=port)
