"""Keys, certificate requests and names of certificates; what is too weak is refused here."""

import hashlib
import ipaddress
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from certs.strict_parsing import strict_parsing

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey

REQUEST_BYTES_MAX: Final = 16_384
KEY_BYTES_MAX: Final = 16_384
CERTIFICATE_BYTES_MAX: Final = 16_384
RSA_BITS_MIN: Final = 2048
RSA_BITS_MAX: Final = 8192
"""Above this, one signature check costs so much that it serves an attacker only."""
COMMON_NAME_LENGTH_MAX: Final = 64
"""ub-common-name of RFC 5280, appendix A.1."""

_CURVES: Final = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)
_HASHES: Final = (hashes.SHA256, hashes.SHA384, hashes.SHA512)


class RequestRefusedError(Exception):
    """A certificate request that must not be signed; the message says why."""


class KeyDamagedError(Exception):
    """A private key that cannot be used; the message says why."""


class CertificateDamagedError(Exception):
    """Bytes that are not a certificate, or one too weak; the message says why."""


def new_private_key() -> ec.EllipticCurvePrivateKey:
    """Return a new P-256 key."""
    return ec.generate_private_key(ec.SECP256R1())


def private_key_pem(key: PrivateKey, password: bytes | None = None) -> bytes:
    """Return the key as PKCS#8, encrypted when there is a password."""
    encryption: serialization.KeySerializationEncryption = (
        serialization.NoEncryption()
        if password is None
        else serialization.BestAvailableEncryption(password)
    )
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
    )


def load_private_key(pem: bytes, password: bytes | None = None) -> PrivateKey:
    """Return the key in `pem`; refuse damaged, weak and foreign ones, and a wrong password."""
    if len(pem) > KEY_BYTES_MAX:
        raise KeyDamagedError(f"a private key is larger than {KEY_BYTES_MAX} bytes")
    try:
        with strict_parsing():
            key = serialization.load_pem_private_key(pem, password)
    except TypeError as error:
        # cryptography's word for both "encrypted, no password" and "password, not encrypted".
        raise KeyDamagedError(f"the private key cannot be opened: {error}") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise KeyDamagedError("the private key is damaged, or its password is wrong") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise KeyDamagedError("the private key is neither EC nor RSA")
    weakness = weakness_of(key.public_key())
    if weakness is not None:
        raise KeyDamagedError(f"the private key is {weakness}")
    return key


def weakness_of(key: object) -> str | None:
    """Return why a public key must not be trusted, None when it may be."""
    if isinstance(key, ec.EllipticCurvePublicKey):
        return None if isinstance(key.curve, _CURVES) else f"on the curve {key.curve.name}"
    if isinstance(key, rsa.RSAPublicKey):
        if key.key_size < RSA_BITS_MIN:
            return f"weaker than RSA {RSA_BITS_MIN}"
        return None if key.key_size <= RSA_BITS_MAX else f"larger than RSA {RSA_BITS_MAX}"
    return "neither EC nor RSA"


def strong_public_key(certificate: x509.Certificate | x509.CertificateSigningRequest) -> PublicKey:
    """Return the subject's key; raise ValueError where it is weak, damaged or of another kind."""
    try:
        key = certificate.public_key()
    except UnsupportedAlgorithm as error:
        raise ValueError("its key is of an unknown kind") from error
    weakness = weakness_of(key)
    if weakness is None and isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey):
        return key
    raise ValueError(f"its key is {weakness}")


def certificate_request(key: PrivateKey, common_name: str, dns_names: Sequence[str] = ()) -> bytes:
    """Return a PKCS#10 request (PEM) for `common_name`, signed with `key`."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(name_of(common_name))
    if dns_names:
        builder = builder.add_extension(subject_alternative_name(dns_names, ()), critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def check_request(pem_or_der: bytes) -> x509.CertificateSigningRequest:
    """Return the request if its key is strong and its signature proves possession of it.

    Raises RequestRefusedError. Names asked for in it are wishes: who signs decides on them.
    """
    if len(pem_or_der) > REQUEST_BYTES_MAX:
        raise RequestRefusedError(f"the request is larger than {REQUEST_BYTES_MAX} bytes")
    try:
        with strict_parsing():
            if pem_or_der.lstrip().startswith(b"-----"):
                request = x509.load_pem_x509_csr(pem_or_der)
            else:
                request = x509.load_der_x509_csr(pem_or_der)
            strong_public_key(request)
            signed_with = request.signature_hash_algorithm
            signature_is_valid = request.is_signature_valid
    except x509.InvalidVersion as error:
        raise RequestRefusedError("the request is of an unknown version") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise RequestRefusedError(f"the request is refused: {error}") from error
    if not isinstance(signed_with, _HASHES):
        raise RequestRefusedError("the request is signed with a weak hash; use SHA-256")
    if not signature_is_valid:
        raise RequestRefusedError("the request's signature is not by its own key")
    return request


def load_certificate(pem_or_der: bytes) -> x509.Certificate:
    """Return the one certificate in the bytes, its key checked to be strong."""
    if len(pem_or_der) > CERTIFICATE_BYTES_MAX:
        raise CertificateDamagedError(
            f"the certificate is larger than {CERTIFICATE_BYTES_MAX} bytes"
        )
    try:
        with strict_parsing():
            if pem_or_der.lstrip().startswith(b"-----"):
                certificate = x509.load_pem_x509_certificate(pem_or_der)
            else:
                certificate = x509.load_der_x509_certificate(pem_or_der)
            strong_public_key(certificate)
    except x509.InvalidVersion as error:
        raise CertificateDamagedError("the certificate is of an unknown version") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise CertificateDamagedError(f"the certificate is refused: {error}") from error
    return certificate


def certificate_pem(certificate: x509.Certificate) -> str:
    """Return the certificate as PEM text."""
    return certificate.public_bytes(serialization.Encoding.PEM).decode("ascii")


def thumbprint(certificate: x509.Certificate) -> str:
    """Return the SHA-256 of the DER form: 64 hexadecimal digits in lower case."""
    return certificate.fingerprint(hashes.SHA256()).hex()


def key_thumbprint(public_key: PublicKey) -> str:
    """Return the SHA-256 of the public key (SubjectPublicKeyInfo): the same for all it signs."""
    spki = public_key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return hashlib.sha256(spki).hexdigest()


def common_name(certificate: x509.Certificate) -> str:
    """Return the subject's only common name; empty when it has none or several."""
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if len(names) == 1 else ""


def name_of(common_name: str) -> x509.Name:
    """Return a subject that is this common name and nothing else."""
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def subject_alternative_name(
    dns_names: Sequence[str], ip_addresses: Sequence[str]
) -> x509.SubjectAlternativeName:
    """Return the extension for these names and addresses."""
    names: list[x509.GeneralName] = [x509.DNSName(name) for name in dns_names]
    names += [x509.IPAddress(ipaddress.ip_address(address)) for address in ip_addresses]
    return x509.SubjectAlternativeName(names)


def self_signed_certificate(
    key: PrivateKey, common_name: str, not_before: datetime, not_after: datetime
) -> x509.Certificate:
    """Return a leaf that only its own key vouches for: what a client of the ARM API uploads."""
    name = name_of(common_name)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(not_before)
        .not_valid_after(not_after)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
