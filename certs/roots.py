"""Which roots to trust, said by a root that is trusted already (design: channel, trust).

A statement lists all roots of a hub and is signed by one of them (JWS compact, ES256). Whoever
signs is in the list: so a root is added by its predecessor and removed by its successor. Statements
are numbered; an older one than what is known already says nothing.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey

from certs.identity import (
    CertificateDamagedError,
    certificate_pem,
    load_certificate,
    thumbprint,
)

ALGORITHM: Final = "ES256"
TYPE: Final = "roots+jws"
STATEMENT_CHARACTERS_MAX: Final = 32_768
ROOTS_MAX: Final = 2
"""The present root and the next one: two rotations never run at once."""
SERIAL_MAX: Final = 2**53 - 1


class RootsRefusedError(Exception):
    """The statement changes nothing; the message says why."""


class _Registry(jws.JWSRegistry):
    max_payload_length = STATEMENT_CHARACTERS_MAX


def _registry() -> jws.JWSRegistry:
    return _Registry(algorithms=[ALGORITHM])


@dataclass(frozen=True, slots=True)
class Roots:
    """The roots to trust, newest last, by the statement of this number."""

    serial: int
    pem: str

    @property
    def thumbprints(self) -> tuple[str, ...]:
        """The SHA-256 of each root, newest last."""
        return thumbprints_of(self.pem)


def certificates_of(bundle_pem: str) -> list[x509.Certificate]:
    """Return the certificates in a bundle, in its order; ValueError when it is damaged."""
    return x509.load_pem_x509_certificates(bundle_pem.encode())


def thumbprints_of(bundle_pem: str) -> tuple[str, ...]:
    """Return the SHA-256 of each certificate in a bundle, in its order."""
    return tuple(thumbprint(each) for each in certificates_of(bundle_pem))


def sign_roots(
    key: ec.EllipticCurvePrivateKey,
    signer: x509.Certificate,
    roots: Sequence[x509.Certificate],
    serial: int,
) -> str:
    """Return the statement that `roots`, among them `signer` itself, are to be trusted."""
    assert signer in roots, "a root cannot end itself: its successor does"
    payload = {"serial": serial, "roots": [certificate_pem(each) for each in roots]}
    header = {"alg": ALGORITHM, "typ": TYPE, "kid": thumbprint(signer)}
    return jws.serialize_compact(
        header,
        json.dumps(payload, separators=(",", ":")).encode(),
        ECKey(key, key),
        algorithms=[ALGORITHM],
        registry=_registry(),
    )


def verify_roots(statement: str, trusted_pem: str, now: datetime) -> Roots:
    """Return what a statement says, if one of the trusted roots has signed it.

    Raises RootsRefusedError for everything else. Whether it is newer than what is known is for the
    caller to judge.
    """
    if len(statement) > STATEMENT_CHARACTERS_MAX:
        raise RootsRefusedError(f"it is larger than {STATEMENT_CHARACTERS_MAX} characters")
    try:
        header = jws.extract_compact(statement.encode("ascii"), None, _registry()).headers()
        signer = _signer(header, trusted_pem, now)
        key = signer.public_key()
        if not isinstance(key, ec.EllipticCurvePublicKey):
            raise RootsRefusedError(f"the key of its root does not fit {ALGORITHM}")
        verified = jws.deserialize_compact(
            statement, ECKey(key, key), algorithms=[ALGORITHM], registry=_registry()
        )
        payload = json.loads(verified.payload)
    except JoseError as error:
        raise RootsRefusedError(f"its signature or form is wrong: {error}") from error
    except (ValueError, RecursionError) as error:
        raise RootsRefusedError(f"it is damaged: {error}") from error
    return _roots(payload, signer, now)


def _signer(header: dict[str, Any], trusted_pem: str, now: datetime) -> x509.Certificate:
    if header.get("typ") != TYPE:
        raise RootsRefusedError("it is a signature of another kind")
    for root in certificates_of(trusted_pem):
        if header.get("kid") == thumbprint(root):
            if not root.not_valid_before_utc <= now < root.not_valid_after_utc:
                raise RootsRefusedError("the root that signed it is not valid now")
            return root
    raise RootsRefusedError("it is signed by no root that is trusted here")


def _roots(payload: object, signer: x509.Certificate, now: datetime) -> Roots:
    serial = payload.get("serial") if isinstance(payload, dict) else None
    pems = payload.get("roots") if isinstance(payload, dict) else None
    if type(serial) is not int or not 1 <= serial <= SERIAL_MAX:
        raise RootsRefusedError("it has no number")
    if not isinstance(pems, list) or not 1 <= len(pems) <= ROOTS_MAX:
        raise RootsRefusedError(f"it does not list 1 to {ROOTS_MAX} roots")
    roots = [_root(pem, now) for pem in pems]
    if signer not in roots:
        raise RootsRefusedError("its own signer is not among its roots")
    if len(set(roots)) != len(roots):
        raise RootsRefusedError("it lists a root twice")
    return Roots(serial, "".join(certificate_pem(each) for each in roots))


def _root(pem: object, now: datetime) -> x509.Certificate:
    if not isinstance(pem, str) or not pem.isascii():
        raise RootsRefusedError("a root in it is no certificate")
    try:
        root = load_certificate(pem.encode())
    except CertificateDamagedError as error:
        raise RootsRefusedError(f"a root in it is damaged: {error}") from error
    if not is_root(root):
        raise RootsRefusedError("a certificate in it is no root: it must be a self-signed CA")
    if now >= root.not_valid_after_utc:
        raise RootsRefusedError("a root in it has ended")
    return root


def is_root(certificate: x509.Certificate) -> bool:
    """Return whether a certificate is a self-signed authority."""
    if certificate.issuer != certificate.subject:
        return False
    try:
        certificate.verify_directly_issued_by(certificate)
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
        return False
    return constraints.value.ca
