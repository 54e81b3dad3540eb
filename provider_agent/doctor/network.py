"""The first steps of the walk, on bare sockets: name, connection, proxy, TLS. Blocking."""

import socket
import ssl
import time
from dataclasses import dataclass, field
from typing import Final

from cryptography import x509

from provider_agent.domain.diagnosis import (
    Fault,
    Way,
    connect_fault,
    credentials_fault,
    server_certificate_fault,
)
from provider_agent.domain.proxies import ConnectAnswer, Proxy
from provider_agent.tunnel import NotAProxyError, ask_for_tunnel

STEP_SECONDS_MAX: Final = 10.0
UNKNOWN_AUTHORITY: Final = "an authority that does not name itself"


class HopFailedError(Exception):
    """A step of the walk has failed; the words of it are the diagnosis'."""

    def __init__(self, fault: Fault, detail: str) -> None:
        super().__init__(detail)
        self.fault = fault
        self.detail = detail


@dataclass
class NetworkWalk:
    """One walk to a host and port; each method is a step and returns what it found."""

    host: str
    port: int
    proxy: Proxy | None
    tls: ssl.SSLContext
    way: Way
    _socket: socket.socket | None = None
    _answer: ConnectAnswer | None = field(default=None)

    def close(self) -> None:
        """Close what is open."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def resolve(self) -> str:
        """Look up the next hop's name."""
        host, port = self._next_hop
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise HopFailedError(Fault.NAME_UNKNOWN, _words(error)) from error
        addresses = sorted({str(each[4][0]) for each in found})
        return f"{host} is {', '.join(addresses[:4])}"

    def connect(self) -> str:
        """Connect to the next hop."""
        self.close()
        try:
            self._socket = socket.create_connection(self._next_hop, timeout=STEP_SECONDS_MAX)
        except ConnectionRefusedError as error:
            raise HopFailedError(Fault.PORT_CLOSED, _words(error)) from error
        except OSError as error:
            raise HopFailedError(Fault.NO_ANSWER, _words(error)) from error
        return f"connected to {self.way.next_hop}"

    def ask_proxy(self) -> str:
        """Ask the proxy for a tunnel."""
        assert self.proxy is not None, "a direct way has no such step"
        deadline = time.monotonic() + STEP_SECONDS_MAX
        try:
            self._answer = ask_for_tunnel(self._open, self.proxy, self.host, self.port, deadline)
        except NotAProxyError as error:
            raise HopFailedError(Fault.NOT_A_PROXY, _words(error)) from error
        except OSError as error:
            raise HopFailedError(Fault.NO_ANSWER, _words(error)) from error
        said = f"{self._answer.status} {self._answer.reason}".strip()
        if (fault := connect_fault(self._answer)) is not None:
            raise HopFailedError(fault, said)
        return f"the proxy answers {said}"

    def check_credentials(self) -> str:
        """Judge by the proxy's answer whether it believes who asks."""
        assert self.proxy is not None, "a direct way has no such step"
        assert self._answer is not None, "the proxy was asked before"
        if (fault := credentials_fault(self._answer, self.proxy)) is not None:
            raise HopFailedError(fault, f"{self._answer.status} {self._answer.reason}".strip())
        return f"accepted as {self.way.username}" if self.proxy.credentials else "it asks for none"

    def shake_hands(self) -> str:
        """Speak TLS with the hub; only the pinned root counts."""
        try:
            with self.tls.wrap_socket(self._open, server_hostname=self.host) as connection:
                self._socket = None
                cipher = connection.cipher()
                return f"{connection.version()}, {cipher[0] if cipher else 'no cipher'}"
        except ssl.SSLCertVerificationError as error:
            fault = server_certificate_fault(error.verify_code, self.way)
            detail = error.verify_message
            if fault in {Fault.INTERCEPTED, Fault.FOREIGN_SERVER}:
                detail = self._foreign_authority()
            raise HopFailedError(fault, detail) from error
        except OSError as error:
            raise HopFailedError(Fault.NOT_TLS, _words(error)) from error

    def _foreign_authority(self) -> str:
        """Name who issued the certificate that was refused; nothing is sent to its holder."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        try:
            self.connect()
            if self.proxy is not None:
                self.ask_proxy()
            with context.wrap_socket(self._open, server_hostname=self.host) as connection:
                self._socket = None
                der = connection.getpeercert(binary_form=True)
            return x509.load_der_x509_certificate(der or b"").issuer.rfc4514_string()
        except (OSError, ValueError, HopFailedError):
            return UNKNOWN_AUTHORITY

    @property
    def _next_hop(self) -> tuple[str, int]:
        if self.proxy is not None:
            return self.proxy.address, self.proxy.port
        return self.host, self.port

    @property
    def _open(self) -> socket.socket:
        assert self._socket is not None, "connected before"
        return self._socket


def _words(error: OSError) -> str:
    return error.strerror or str(error) or type(error).__name__
