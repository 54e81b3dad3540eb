"""The network of a played loop: hosts reach each other without sockets and without cryptography.

What TLS decides is decided: who has no certificate cannot listen, a wrong name is refused, and the
listener is told the name in the caller's certificate.
"""

import asyncio
import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, cast

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from certs.identity import load_certificate
from tests.support.played_loop import PlayedLoop
from vmm_simulator.hyperv import host_client, host_credentials, listening, replica_listener

END = "-----END CERTIFICATE-----"


class ShownCertificate(ssl.SSLObject):
    """A certificate as the other side of a connection sees it."""

    session_reused = False

    def __init__(self, leaf: x509.Certificate, names: Sequence[str]) -> None:
        self._leaf = leaf.public_bytes(Encoding.DER)
        self._names = names

    def getpeercert(self, binary_form: bool = False) -> Any:  # noqa: FBT002 -- as ssl has it
        """Return it whole, or its names."""
        if binary_form:
            return self._leaf
        return {"subjectAltName": [("DNS", each) for each in self._names]}


class PlayedTls:
    """What one side of a connection proves, and what it demands."""

    verify_mode = ssl.CERT_REQUIRED
    check_hostname = True

    def __init__(self, chain_pem: str, root_pem: str) -> None:
        self.root_pem = root_pem.strip()
        self.chain_pem = chain_pem.strip()
        first, end, _ = chain_pem.partition(END)
        leaf = load_certificate((first + end).encode())
        extension = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        self.names = [name.lower() for name in extension.value.get_values_for_type(x509.DNSName)]
        self.shown = ShownCertificate(leaf, self.names)


class PlayedEnd(asyncio.Transport):
    """One end of a connection; what is written arrives in the next round of the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._loop = loop
        self.tls: PlayedTls | None = None
        self.other: PlayedEnd | None = None
        self.accepted = loop.create_future()
        self._protocol: asyncio.BufferedProtocol | None = None
        self._arrived = bytearray()
        self._has_ended = False
        self._is_paused = False
        self._is_lost = False

    def attach(self, protocol: asyncio.BufferedProtocol) -> None:
        """Have the protocol told from now on."""
        self._protocol = protocol
        protocol.connection_made(self)
        self._loop.call_soon(self._deliver)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return the other side's certificate, as ssl tells it."""
        if self.other is None or self.other.tls is None:
            return default
        shown = self.other.tls.shown
        return {"peercert": shown.getpeercert(), "ssl_object": shown}.get(name, default)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Take no note: what is written is gone at once."""

    def write(self, data: Any) -> None:
        """Send."""
        if self.other is not None and not self._is_lost:
            self.other._arrived += data
            self._loop.call_soon(self.other._deliver)

    def pause_reading(self) -> None:
        """Let what arrives wait."""
        self._is_paused = True

    def resume_reading(self) -> None:
        """Hand over what has waited."""
        self._is_paused = False
        self._loop.call_soon(self._deliver)

    def is_closing(self) -> bool:
        """Whether it is closed."""
        return self._is_lost

    def close(self) -> None:
        """End the connection; the other side reads what is on its way."""
        self.abort()

    def abort(self) -> None:
        """End the connection."""
        if self._is_lost:
            return
        self._is_lost = True
        if self._protocol is not None:
            self._loop.call_soon(self._protocol.connection_lost, None)
        if self.other is not None:
            self.other._has_ended = True
            self._loop.call_soon(self.other._deliver)

    def _deliver(self) -> None:
        if self._protocol is None:
            return
        while self._arrived and not self._is_paused and not self._is_lost:
            view = memoryview(self._protocol.get_buffer(-1))
            count = min(len(view), len(self._arrived))
            view[:count] = self._arrived[:count]
            del self._arrived[:count]
            self._protocol.buffer_updated(count)
        if self._has_ended and not self._arrived and not self._is_lost:
            self._protocol.eof_received()
            self.abort()


class PlayedPort:
    """A port that somebody listens on."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.address = address
        self.callers: asyncio.Queue[PlayedEnd] = asyncio.Queue()

    def setblocking(self, flag: bool) -> None:
        """Take no note."""

    def close(self) -> None:
        """Listen no more."""
        loop = cast("NetworkLoop", asyncio.get_running_loop())
        loop.ports.pop(self.address, None)


class NetworkLoop(PlayedLoop):
    """A played loop with the few calls that replication makes of a network."""

    def __init__(self, begin: datetime, seed: str) -> None:
        super().__init__(begin, seed)
        self.ports: dict[tuple[str, int], PlayedPort] = {}
        self._ways: list[PlayedEnd] = []
        self._is_cut = False

    def cut(self) -> None:
        """Let nobody reach anybody, and end what is under way; until it is healed."""
        self._is_cut = True
        for way in self._ways:
            way.abort()
        self._ways.clear()

    def heal(self) -> None:
        """Let everybody be reached again."""
        self._is_cut = False

    def listen(self, address: str, port: int) -> PlayedPort:
        """Return a port; only one may have it."""
        if (address, port) in self.ports:
            raise OSError(f"{address}:{port} is in use")
        self.ports[address, port] = PlayedPort((address, port))
        return self.ports[address, port]

    async def reach(self, address: str, port: int) -> PlayedEnd:
        """Return a way to who listens there, before anything is said."""
        listening = self.ports.get((address, port))
        if self._is_cut:
            raise TimeoutError(f"no way leads to {address}:{port}")
        if listening is None:
            raise ConnectionRefusedError(f"nobody listens on {address}:{port}")
        own, others = PlayedEnd(self), PlayedEnd(self)
        own.other, others.other = others, own
        self._ways = [way for way in self._ways if not way.is_closing()] + [own]
        listening.callers.put_nowait(others)
        return own

    async def connect_accepted_socket(
        self, protocol_factory: Callable[[], Any], sock: Any, **options: Any
    ) -> tuple[Any, Any]:
        """Speak with a caller, once he has shown what he has."""
        return await self._meet(protocol_factory, sock, options)

    async def create_connection(  # type: ignore[override]  # of all its forms this one is made use of
        self, protocol_factory: Callable[[], Any], *, sock: Any, **options: Any
    ) -> tuple[Any, Any]:
        """Speak with who listens at the other end, if its certificate is for that name."""
        met = await self._meet(protocol_factory, sock, options)
        wanted = options.get("server_hostname")
        if wanted is not None and wanted.lower() not in sock.other.tls.names:
            sock.abort()
            raise ssl.SSLCertVerificationError(f"this is not {wanted}")
        return met

    async def _meet(
        self, protocol_factory: Callable[[], Any], end: PlayedEnd, options: Mapping[str, Any]
    ) -> tuple[Any, Any]:
        """Wait for the other side, and be told of its bytes from then on."""
        assert end.other is not None
        end.tls = options.get("ssl")
        if not end.accepted.done():
            end.accepted.set_result(None)
        await end.other.accepted
        roots = {each.tls.root_pem if each.tls else "" for each in (end, end.other)}
        if len(roots) > 1:
            end.abort()
            raise ssl.SSLError("the other side's certificate is not trusted")
        protocol = protocol_factory()
        end.attach(protocol)
        return end, protocol


def _server(
    chain_pem: str, key_pem: bytes, *, client_ca_pems: tuple[str, ...], require_client: bool
) -> PlayedTls:
    del key_pem
    assert require_client
    return PlayedTls(chain_pem, client_ca_pems[0])


def _client(root_pem: str, *, chain_pem: str, key_pem: bytes) -> PlayedTls:
    del key_pem
    return PlayedTls(chain_pem, root_pem)


@contextmanager
def played_network() -> Iterator[None]:
    """Let hosts listen and connect on the played loop."""

    def listen(address: str, port: int) -> PlayedPort:
        return cast("NetworkLoop", asyncio.get_running_loop()).listen(address, port)

    async def next_caller(port: PlayedPort) -> PlayedEnd:
        return await port.callers.get()

    async def reach(address: str, port: int) -> PlayedEnd:
        return await cast("NetworkLoop", asyncio.get_running_loop()).reach(address, port)

    async def connect(
        protocol: asyncio.BufferedProtocol, sock: Any, context: Any, server_hostname: str
    ) -> None:
        await asyncio.get_running_loop().create_connection(
            lambda: protocol, sock=sock, ssl=context, server_hostname=server_hostname
        )

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(host_client, "connect_tls", connect)
        patch.setattr(listening, "open_listener", listen)
        patch.setattr(host_client, "open_connection", reach)
        patch.setattr(replica_listener, "next_caller", next_caller)
        patch.setattr(host_credentials, "server_context", _server)
        patch.setattr(host_credentials, "client_context", _client)
        yield
