"""How a replication port knows who is calling: by certificate, or by Kerberos ticket."""

import ssl
from collections.abc import Callable
from http import HTTPStatus
from typing import Final, Protocol

from vmm_simulator.hyperv.connection import Connection
from vmm_simulator.hyperv.host_certificates import (
    UnfitCertificateError,
    certificate_of,
    host_names,
    require_usages,
)
from vmm_simulator.hyperv.http1 import HttpError, RequestHead
from vmm_simulator.hyperv.kerberos import Tickets
from vmm_simulator.hyperv.replica_routes import peer_name

_ANSWER: Final = "WWW-Authenticate"


class PeerProof(Protocol):
    """What a port asks of its callers; `tls` is None where it speaks plain HTTP."""

    tls: ssl.SSLContext | None

    async def peer(self, connection: Connection, head: RequestHead) -> str:
        """Return the caller's FQDN, or raise HttpError; afterwards our answers prove us too."""


class CertificateProof:
    """Mutual TLS; the certificate has to be one of a host, for both usages.

    `introduce` is told what else a caller's certificate names: a node stands for its broker too.
    """

    def __init__(
        self,
        tls: ssl.SSLContext,
        introduce: Callable[[str, tuple[str, ...]], None] | None = None,
    ) -> None:
        if tls.verify_mode != ssl.CERT_REQUIRED:
            raise ValueError("the replication port needs a TLS context that requires certificates")
        self.tls: ssl.SSLContext | None = tls
        self._introduce = introduce

    async def peer(self, connection: Connection, head: RequestHead) -> str:
        """Return the caller's FQDN, or raise HttpError."""
        del head
        try:
            certificate = certificate_of(connection.transport)
            require_usages(certificate)
            names = host_names(certificate)
        except UnfitCertificateError as error:
            raise HttpError(
                HTTPStatus.FORBIDDEN, f"your certificate is not taken: {error}"
            ) from error
        fqdn = peer_name(connection.transport.get_extra_info("peercert"))
        if self._introduce is not None:
            self._introduce(fqdn, tuple(name for name in names if name != fqdn))
        return fqdn


class TicketProof:
    """Kerberos: every request carries a ticket, every answer the proof that it was for us."""

    def __init__(self, tickets: Tickets) -> None:
        tickets.require_usable()
        self.tls: ssl.SSLContext | None = None
        self._tickets = tickets

    async def peer(self, connection: Connection, head: RequestHead) -> str:
        """Return the caller's FQDN, or raise HttpError; afterwards our answers prove us too."""
        connection.proof = {_ANSWER: "Negotiate"}
        fqdn, answer = await self._tickets.accept(head.headers)
        connection.proof = {_ANSWER: answer}
        return fqdn
