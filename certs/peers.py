"""What the certificates of peers say, read once: the same servers come again and again."""

import hashlib
from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cryptography import x509

from certs.identity import certificate_pem, common_name
from certs.tls import peer_certificate_der

PEERS_MAX: Final = 4096
"""Certificates remembered; the longest unused ones go first."""


@dataclass(frozen=True, slots=True)
class PeerCertificate:
    """A verified certificate, as far as anybody asks; `thumbprint` as certs.identity has it."""

    common_name: str
    thumbprint: str
    pem: str
    not_valid_after: datetime


class PeerCertificates:
    """Reads peers' certificates; what one says depends on nothing but its bytes.

    Whether it holds, and whose it is, is for the caller to ask at each use.
    """

    def __init__(self, peers_max: int = PEERS_MAX) -> None:
        self._peers_max = peers_max
        self._known: OrderedDict[str, PeerCertificate] = OrderedDict()

    def of(self, connection: object) -> PeerCertificate | None:
        """Return the verified certificate of the peer; None as `tls.peer_certificate` says."""
        der = peer_certificate_der(connection)
        return None if der is None else self.read(der)

    def read(self, der: bytes) -> PeerCertificate:
        """Return what these bytes say; ValueError when they are no certificate."""
        thumbprint = hashlib.sha256(der).hexdigest()
        known = self._known.get(thumbprint)
        if known is None:
            certificate = x509.load_der_x509_certificate(der)
            known = PeerCertificate(
                common_name=common_name(certificate),
                thumbprint=thumbprint,
                pem=certificate_pem(certificate),
                not_valid_after=certificate.not_valid_after_utc,
            )
            self._known[thumbprint] = known
            if len(self._known) > self._peers_max:
                self._known.popitem(last=False)
        else:
            self._known.move_to_end(thumbprint)
        return known
