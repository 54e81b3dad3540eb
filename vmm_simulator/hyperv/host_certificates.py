"""What a certificate must be to stand for a Hyper-V host (behaviour 1.4); pure.

In date, for client and server authentication both, and with the host's FQDN as CN or DNS name. TLS
has looked at the chain; who else may use the certificate, and both usages, are looked at here: for
OpenSSL the usage of the role at hand is enough.
"""

import asyncio
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from certs.tls import peer_certificate

_BOTH: Final = {
    ExtendedKeyUsageOID.CLIENT_AUTH: "client authentication",
    ExtendedKeyUsageOID.SERVER_AUTH: "server authentication",
}


class UnfitCertificateError(Exception):
    """The certificate does not stand for a host; the message says why."""


def certificate_of(transport: asyncio.BaseTransport) -> x509.Certificate:
    """Return the verified certificate of a TLS peer; UnfitCertificateError where there is none."""
    try:
        certificate = peer_certificate(transport)
    except ValueError as error:
        raise UnfitCertificateError(f"it cannot be read: {error}") from error
    if certificate is None:
        raise UnfitCertificateError("the peer showed none")
    return certificate


def host_names(certificate: x509.Certificate) -> tuple[str, ...]:
    """Return the names that it stands for, in lower case: DNS names first, then the CN.

    Raises UnfitCertificateError when its names cannot be read.
    """
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        names = list(extension.value.get_values_for_type(x509.DNSName))
    except x509.ExtensionNotFound:
        names = []
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise UnfitCertificateError(f"its names cannot be read: {error}") from error
    common = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    names += [str(each.value) for each in common]
    return tuple(dict.fromkeys(name.lower() for name in names))


def require_usages(certificate: x509.Certificate) -> None:
    """Raise UnfitCertificateError unless it is for client and server authentication both."""
    try:
        usages = set(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    except x509.ExtensionNotFound:
        usages = set()
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise UnfitCertificateError(f"its usages cannot be read: {error}") from error
    missing = [name for usage, name in _BOTH.items() if usage not in usages]
    if missing:
        raise UnfitCertificateError(
            f"it is not for {' and '.join(missing)}: a host's certificate needs both usages"
        )


def require_host(certificate: x509.Certificate, fqdns: Iterable[str], now: datetime) -> None:
    """Raise UnfitCertificateError unless it stands for every one of these names now.

    A node of a cluster stands for two: its own and its broker's.
    """
    names = host_names(certificate)
    missing = [fqdn for fqdn in fqdns if fqdn.lower() not in names]
    if missing:
        raise UnfitCertificateError(
            f"it names another host: {', '.join(names) or 'nobody'} instead of {missing[0]}"
        )
    if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
        raise UnfitCertificateError(
            f"it is valid from {certificate.not_valid_before_utc} "
            f"to {certificate.not_valid_after_utc}, and now is {now}"
        )
    require_usages(certificate)


def require_chain(chain: Sequence[x509.Certificate], root: x509.Certificate) -> None:
    """Raise UnfitCertificateError unless each is issued by the next, and the last by the root."""
    for certificate, issuer in zip(chain, (*chain[1:], root), strict=True):
        if certificate == issuer:
            continue
        try:
            certificate.verify_directly_issued_by(issuer)
        except (ValueError, TypeError, InvalidSignature) as error:
            raise UnfitCertificateError(
                "it is not issued by the authority that the hosts of the estate trust"
            ) from error
