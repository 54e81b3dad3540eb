"""What crosses the network in EST (RFC 7030): requests in base64 DER, answers as PKCS#7."""

import base64
import binascii
from collections.abc import Sequence
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import pkcs7

from certs.identity import (
    REQUEST_BYTES_MAX,
    PublicKey,
    RequestRefusedError,
    certificate_pem,
    strong_public_key,
)
from certs.strict_parsing import strict_parsing

CERTS_ONLY_BYTES_MAX: Final = 65_536
CERTIFICATES_MAX: Final = 8
_BASE64_EXPANSION: Final = 2
"""Base64 with line ends is never twice as long as what it encodes."""


class EnrolmentDamagedError(Exception):
    """The answer of an enrolment cannot be used; the message says what is wrong."""


def encode_certs_only(pems: Sequence[str]) -> bytes:
    """Return the certificates of all `pems` as base64 PKCS#7 certs-only (RFC 7030, 4.1.3).

    PKCS#7 is a set: the order is lost; see `chain_for`.
    """
    certificates = [
        certificate for pem in pems for certificate in x509.load_pem_x509_certificates(pem.encode())
    ]
    return base64.encodebytes(
        pkcs7.serialize_certificates(certificates, serialization.Encoding.DER)
    )


def decode_certs_only(data: bytes) -> list[x509.Certificate]:
    """Return the certificates in an answer, in no particular order; EnrolmentDamagedError."""
    if len(data) > CERTS_ONLY_BYTES_MAX:
        raise EnrolmentDamagedError(f"the answer is larger than {CERTS_ONLY_BYTES_MAX} bytes")
    try:
        with strict_parsing():
            certificates = pkcs7.load_der_pkcs7_certificates(_decode_base64(data))
            for certificate in certificates:
                strong_public_key(certificate)
    except (ValueError, UnsupportedAlgorithm, x509.InvalidVersion) as error:
        raise EnrolmentDamagedError(f"the answer is not PKCS#7 certs-only: {error}") from error
    if not 1 <= len(certificates) <= CERTIFICATES_MAX:
        raise EnrolmentDamagedError(f"the answer holds {len(certificates)} certificates")
    return certificates


def decode_request_body(data: bytes) -> bytes:
    """Return the DER request in the body of simpleenroll; RequestRefusedError if it is none.

    The DER is not looked at here: hand it to `identity.check_request`.
    """
    if len(data) > REQUEST_BYTES_MAX * _BASE64_EXPANSION:
        raise RequestRefusedError(f"the request is larger than {REQUEST_BYTES_MAX} bytes")
    try:
        return _decode_base64(data)
    except ValueError as error:
        raise RequestRefusedError("the request is not base64 (RFC 8951, section 3)") from error


def encode_request_body(pem: bytes) -> bytes:
    """Return the body of simpleenroll for a PKCS#10 request in PEM."""
    request = x509.load_pem_x509_csr(pem)
    return base64.encodebytes(request.public_bytes(serialization.Encoding.DER))


def chain_for(certificates: Sequence[x509.Certificate], public_key: PublicKey) -> str:
    """Return the PEM chain, leaf first, of the certificate for `public_key` among the others.

    The root is left out: the peer has it pinned. EnrolmentDamagedError when there is no such leaf.
    """
    leaf = next((each for each in certificates if each.public_key() == public_key), None)
    if leaf is None:
        raise EnrolmentDamagedError("the answer holds no certificate for the key of the request")
    chain = [leaf]
    by_subject = {each.subject: each for each in certificates}
    while len(chain) <= len(certificates):
        issuer = by_subject.get(chain[-1].issuer)
        if issuer is None or issuer.subject == issuer.issuer:
            break
        chain.append(issuer)
    return "".join(certificate_pem(each) for each in chain)


def _decode_base64(data: bytes) -> bytes:
    # RFC 8951: white space of any kind between the digits is to be accepted, all else refused.
    try:
        return base64.b64decode(b"".join(data.split()), validate=True)
    except binascii.Error as error:
        raise ValueError("not base64") from error
