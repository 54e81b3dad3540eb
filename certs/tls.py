"""TLS contexts that trust only what they are given, and the certificate of a connected peer.

Session tickets are off everywhere: a resumed session would bypass a later revocation.
"""

import os
import ssl
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import ExtendedKeyUsageOID

from certs.identity import CertificateDamagedError, load_certificate
from certs.strict_parsing import strict_parsing


class UploadRefusedError(Exception):
    """A self-signed certificate that must not become an anchor; the message says why."""


class TlsMaterialError(Exception):
    """A chain, key or authority that TLS cannot use; the message says which."""


def server_context(
    chain_pem: str,
    key_pem: bytes,
    *,
    client_ca_pems: Sequence[str] = (),
    require_client: bool = False,
) -> ssl.SSLContext:
    """Return a context for a listener; clients are verified against `client_ca_pems` alone.

    Without `require_client` a client may come without a certificate, but not with a foreign one.
    """
    if require_client and not client_ca_pems:
        raise ValueError("require_client without client_ca_pems would refuse everybody")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _harden(context)
    load_certificate_chain(context, chain_pem, key_pem)
    if client_ca_pems:
        # The issuing authority itself is the anchor: with the root as anchor every certificate of
        # the hub would do.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        context.verify_mode = ssl.CERT_REQUIRED if require_client else ssl.CERT_OPTIONAL
        for pem in client_ca_pems:
            _trust(context, pem)
    return context


def client_context(
    ca_pem: str, *, chain_pem: str | None = None, key_pem: bytes | None = None
) -> ssl.SSLContext:
    """Return a context that trusts `ca_pem` and nothing else, and checks the server's name."""
    if (chain_pem is None) != (key_pem is None):
        raise ValueError("a client certificate needs both chain_pem and key_pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _harden(context)
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | ssl.VERIFY_X509_STRICT
    _trust(context, ca_pem)
    if chain_pem is not None and key_pem is not None:
        load_certificate_chain(context, chain_pem, key_pem)
    return context


def provider_listener_context(
    chain_pem: str,
    key_pem: bytes,
    management_ca_pem: str,
    registration_ca_pem: str,
    uploaded_leaf_pems: Sequence[str] = (),
) -> ssl.SSLContext:
    """Return the context of the provider listener: a client certificate is optional.

    It may be issued by either authority or be one of the uploaded leaves. TLS then says only that
    the peer holds the key: which certificate it is, is for the route to decide, by thumbprint.
    """
    context = server_context(
        chain_pem, key_pem, client_ca_pems=(management_ca_pem, registration_ca_pem)
    )
    for pem in uploaded_leaf_pems:
        trust_uploaded_certificate(context, check_uploaded_certificate(pem.encode()))
    return context


def trust_authority(context: ssl.SSLContext, ca_pem: str) -> None:
    """Let the live context accept another authority from the next handshake on; may be repeated.

    A context cannot forget an authority again: that it has ended is for the caller to see to.
    """
    _trust(context, ca_pem)


def trust_uploaded_certificate(context: ssl.SSLContext, certificate: x509.Certificate) -> None:
    """Let the live context accept this very leaf from the next handshake on; may be repeated.

    A context cannot forget: that an uploaded certificate has ended is for the route to refuse.
    """
    _refuse_authority(certificate)
    context.load_verify_locations(
        cadata=certificate.public_bytes(serialization.Encoding.DER),
    )


def check_uploaded_certificate(pem_or_der: bytes) -> x509.Certificate:
    """Return an uploaded certificate that TLS will accept as a client's; UploadRefusedError."""
    try:
        certificate = load_certificate(pem_or_der)
        with strict_parsing():
            extensions = certificate.extensions
    except (
        CertificateDamagedError,
        ValueError,
        x509.DuplicateExtension,
        x509.UnsupportedGeneralNameType,
    ) as error:
        raise UploadRefusedError(str(error)) from error
    _refuse_authority(certificate)
    for extension in extensions:
        value = extension.value
        if isinstance(value, x509.ExtendedKeyUsage) and not {
            ExtendedKeyUsageOID.CLIENT_AUTH,
            ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,
        } & set(value):
            raise UploadRefusedError("its extended key usage does not allow client authentication")
        if isinstance(value, x509.KeyUsage) and not (
            value.digital_signature or value.key_agreement
        ):
            raise UploadRefusedError("its key usage does not allow digital signatures")
    return certificate


def load_certificate_chain(context: ssl.SSLContext, chain_pem: str, key_pem: bytes) -> None:
    """Give the context a certificate, also a live one: new handshakes then use it.

    OpenSSL reads files only; these are anonymous memory, so that no key reaches a disk.
    """
    with ExitStack() as stack:
        chain = stack.enter_context(_memory_file(chain_pem.encode()))
        key = stack.enter_context(_memory_file(key_pem))
        try:
            context.load_cert_chain(chain, key, password=_refuse_password)
        except (ssl.SSLError, ValueError) as error:
            raise TlsMaterialError(
                f"the certificate chain and its private key do not fit or are damaged: {error}"
            ) from error


def peer_certificate(connection: object) -> x509.Certificate | None:
    """Return the verified certificate of the peer, None where it presented none (or no TLS).

    A resumed session counts as none: nobody looked whether its certificate is still valid.
    Takes an asyncio transport or stream writer, an SSLObject or an SSLSocket.
    """
    der = peer_certificate_der(connection)
    return None if der is None else x509.load_der_x509_certificate(der)


def peer_certificate_der(connection: object) -> bytes | None:
    """Return the peer's certificate as it was sent; None where `peer_certificate` does."""
    # No isinstance of a Protocol: that costs more than all the rest, at each connection.
    extra_info = getattr(connection, "get_extra_info", None)
    if callable(extra_info):
        connection = extra_info("ssl_object")
    if not isinstance(connection, ssl.SSLObject | ssl.SSLSocket):
        # uvloop and asyncio both give an ssl.SSLObject; None means a plain connection.
        return None
    if connection.session_reused:
        # Tickets are off, but with TLS 1.2 OpenSSL keeps sessions by their number, and the ssl
        # module cannot turn that off.
        return None
    return connection.getpeercert(binary_form=True)


def _harden(context: ssl.SSLContext) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    if context.protocol == ssl.PROTOCOL_TLS_SERVER:
        context.num_tickets = 0


def _trust(context: ssl.SSLContext, ca_pem: str) -> None:
    try:
        context.load_verify_locations(cadata=ca_pem)
    except (ssl.SSLError, ValueError) as error:
        raise TlsMaterialError(f"a certificate authority is damaged: {error}") from error


def _refuse_authority(certificate: x509.Certificate) -> None:
    """Refuse everything that OpenSSL would let sign further certificates once it is an anchor."""
    if certificate.version is not x509.Version.v3:
        # check_ca() of OpenSSL takes a self-signed certificate without extensions for a CA.
        raise UploadRefusedError("it is not an X.509 version 3 certificate")
    for extension in certificate.extensions:
        value = extension.value
        if isinstance(value, x509.BasicConstraints) and value.ca:
            raise UploadRefusedError("it is a certificate authority (CA:TRUE); upload a leaf")
        if isinstance(value, x509.KeyUsage) and value.key_cert_sign:
            raise UploadRefusedError("its key usage allows signing certificates; upload a leaf")
        if extension.oid == _NETSCAPE_CERTIFICATE_TYPE:
            raise UploadRefusedError("it has the obsolete Netscape certificate type")


_NETSCAPE_CERTIFICATE_TYPE = x509.ObjectIdentifier("2.16.840.1.113730.1.1")


@contextmanager
def _memory_file(data: bytes) -> Iterator[str]:
    descriptor = os.memfd_create("tls", os.MFD_CLOEXEC)
    with open(descriptor, "wb", buffering=0) as stream:  # noqa: PTH123 -- a descriptor
        stream.write(data)
        yield f"/proc/self/fd/{descriptor}"


def _refuse_password() -> str:
    # Without this OpenSSL would ask on the terminal, and a daemon would wait for ever.
    raise ValueError("the private key is encrypted; decrypt it before")
