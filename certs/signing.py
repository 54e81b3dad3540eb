"""Signed events: JWS compact (RFC 7515), ES256, verified up to the pinned root."""

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.x509 import verification
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey

from certs.identity import (
    CERTIFICATE_BYTES_MAX,
    CertificateDamagedError,
    certificate_pem,
    load_certificate,
    thumbprint,
)
from certs.profiles import EVENT_SIGNING

ALGORITHM: Final = "ES256"
TYPE: Final = "event+jws"
JWS_BYTES_MAX: Final = 8_388_608
"""Largest signed event (wire_contract: SignedEvent.jws)."""
HEADER_BYTES_MAX: Final = 16_384
CURVE: Final = "secp256r1"
"""The curve of ES256, P-256 (RFC 7518, section 3.4)."""
P256_BYTES: Final = 32
CHAIN_LENGTH_MAX: Final = 2
"""Leaf and issuing authority; the root is pinned and never taken from the message."""

CHAIN_TRUSTED_FOR: Final = timedelta(minutes=1)
"""How long a chain that was verified is not verified anew: a hub signs thousands of events with it.
"""

CHAINS_KEPT_MAX: Final = 8
"""A hub has one signer, two while it is replaced; who sends others only has them verified again."""


class UnverifiableError(Exception):
    """The event proves nothing; `reason` says why, for the report to the hub."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the event cannot be verified: {reason}")
        self.reason = reason


class _EventRegistry(jws.JWSRegistry):
    """The library's limits, raised to ours: x5c alone exceeds its 512 bytes of header."""

    max_header_length = HEADER_BYTES_MAX
    max_payload_length = JWS_BYTES_MAX


def _registry() -> jws.JWSRegistry:
    return _EventRegistry(algorithms=[ALGORITHM])


class EventSigner:
    """Signs events with an event signer's key; the chain travels in the header."""

    def __init__(self, key: ec.EllipticCurvePrivateKey, chain_pem: str) -> None:
        chain = x509.load_pem_x509_certificates(chain_pem.encode())
        if chain[0].public_key() != key.public_key():
            raise ValueError("the event signer's key does not belong to its certificate")
        self.chain_pem = chain_pem
        if key.curve.name != CURVE:
            raise ValueError(f"the event signer's key is on {key.curve.name}; {ALGORITHM} is P-256")
        self._key = key
        header = {
            "alg": ALGORITHM,
            "typ": TYPE,
            "kid": thumbprint(chain[0]),
            "x5c": [_x5c_entry(each) for each in chain[:CHAIN_LENGTH_MAX]],
        }
        # The same for every event, so it is written once: it is longer than most payloads.
        self._header = _base64url(_compact(header)) + b"."

    def sign(self, payload: Mapping[str, object] | bytes) -> str:
        """Return the JWS compact form; a mapping is written as compact JSON first.

        May be called in any thread. Raises ValueError when the result is larger than any receiver
        takes.
        """
        if not isinstance(payload, bytes):
            payload = _compact(payload)
        signed = self._header + _base64url(payload)
        # RFC 7518, section 3.4: the two numbers, each of 32 bytes, and no DER around them.
        numbers = decode_dss_signature(self._key.sign(signed, ec.ECDSA(hashes.SHA256())))
        signature = b"".join(number.to_bytes(P256_BYTES, "big") for number in numbers)
        compact = signed + b"." + _base64url(signature)
        if len(compact) > JWS_BYTES_MAX:
            raise ValueError(f"the event is larger than {JWS_BYTES_MAX} bytes")
        return compact.decode("ascii")


@dataclass(frozen=True, slots=True)
class _TrustedChain:
    """A signer's key, and when its chain was verified; `until`: the chain's own end."""

    key: ec.EllipticCurvePublicKey
    verified_at: datetime
    until: datetime

    def holds(self, now: datetime) -> bool:
        """Whether the chain need not be verified again at this moment."""
        return self.verified_at <= now <= self.until and now - self.verified_at <= CHAIN_TRUSTED_FOR


class EventVerifier:
    """Verifies events against the pinned root, or against two while a root is replaced."""

    def __init__(self, root_pem: str) -> None:
        self._store = _store(root_pem)
        self._trusted: dict[tuple[str, ...], _TrustedChain] = {}

    def trust(self, root_pem: str) -> None:
        """Verify against these roots from now on."""
        self._store = _store(root_pem)
        self._trusted.clear()

    def verify(self, jws_compact: str, now: datetime) -> dict[str, Any]:
        """Return the payload of an event that a signer of this hub has signed, valid at `now`.

        Raises UnverifiableError for everything else. Audience, number and expiry are in the
        payload and for the caller to judge.
        """
        if len(jws_compact) > JWS_BYTES_MAX:
            raise UnverifiableError(f"larger than {JWS_BYTES_MAX} bytes")
        try:
            unverified = jws.extract_compact(jws_compact.encode("ascii"), None, _registry())
            header = unverified.headers()
            key = self._trusted_key(header, now)
            verified = jws.deserialize_compact(
                jws_compact, ECKey(key, key), algorithms=[ALGORITHM], registry=_registry()
            )
            payload = json.loads(verified.payload)
        except JoseError as error:
            raise UnverifiableError(f"signature or form: {error}") from error
        except (ValueError, RecursionError) as error:
            raise UnverifiableError(f"damaged: {error}") from error
        if not isinstance(payload, dict):
            raise UnverifiableError("its payload is not a JSON object")
        return payload

    def _trusted_key(self, header: Mapping[str, Any], now: datetime) -> ec.EllipticCurvePublicKey:
        """Return the signer's key, after its chain has been verified up to the root."""
        words = _words_of(header)
        known = self._trusted.pop(words, None)
        if known is None or not known.holds(now):
            known = self._verified_chain(header, now)
        self._trusted[words] = known
        if len(self._trusted) > CHAINS_KEPT_MAX:
            del self._trusted[next(iter(self._trusted))]
        return known.key

    def _verified_chain(self, header: Mapping[str, Any], now: datetime) -> _TrustedChain:
        chain = _chain_in(header)
        leaf = chain[0]
        if header.get("kid") != thumbprint(leaf):
            raise UnverifiableError("its key id is not that of its certificate")
        verifier = (
            verification.PolicyBuilder()
            .store(self._store)
            .time(now)
            .max_chain_depth(CHAIN_LENGTH_MAX - 1)
            .extension_policies(
                ca_policy=verification.ExtensionPolicy.webpki_defaults_ca(),
                ee_policy=_signer_policy(),
            )
            .build_client_verifier()
        )
        try:
            verifier.verify(leaf, chain[1:])
        except verification.VerificationError as error:
            raise UnverifiableError(f"its certificate is not trusted: {error}") from error
        key = leaf.public_key()
        if not isinstance(key, ec.EllipticCurvePublicKey):
            raise UnverifiableError(f"its certificate's key does not fit {ALGORITHM}")
        return _TrustedChain(key, now, min(each.not_valid_after_utc for each in chain))


def _store(root_pem: str) -> verification.Store:
    roots = x509.load_pem_x509_certificates(root_pem.encode())
    return verification.Store([load_certificate(certificate_pem(each).encode()) for each in roots])


def _signer_policy() -> verification.ExtensionPolicy:
    return (
        verification.ExtensionPolicy.permit_all()
        .require_present(x509.BasicConstraints, verification.Criticality.CRITICAL, _require_leaf)
        .require_present(
            x509.ExtendedKeyUsage, verification.Criticality.AGNOSTIC, _require_event_signing
        )
    )


def _require_leaf(
    _policy: verification.Policy, _certificate: x509.Certificate, value: x509.BasicConstraints
) -> None:
    if value.ca:
        raise ValueError("an authority does not sign events")


def _require_event_signing(
    _policy: verification.Policy, _certificate: x509.Certificate, value: x509.ExtendedKeyUsage
) -> None:
    if EVENT_SIGNING not in value:
        raise ValueError("its extended key usage does not allow signing events")


def _x5c_entry(certificate: x509.Certificate) -> str:
    # RFC 7515, section 4.1.6: standard base64, not base64url.
    return base64.b64encode(certificate.public_bytes(serialization.Encoding.DER)).decode("ascii")


def _words_of(header: Mapping[str, Any]) -> tuple[str, ...]:
    """Return all of a header that the trust in its signer depends on."""
    entries = header.get("x5c")
    listed = entries if isinstance(entries, list) else []
    return (repr(header.get("kid")), *(repr(each) for each in listed[: CHAIN_LENGTH_MAX + 1]))


def _chain_in(header: Mapping[str, Any]) -> list[x509.Certificate]:
    entries = header.get("x5c")
    if not isinstance(entries, list) or not 1 <= len(entries) <= CHAIN_LENGTH_MAX:
        raise UnverifiableError("its header carries no certificate chain of the expected length")
    chain = []
    for entry in entries:
        if not isinstance(entry, str) or len(entry) > CERTIFICATE_BYTES_MAX:
            raise UnverifiableError("its certificate chain is damaged")
        try:
            chain.append(load_certificate(base64.b64decode(entry, validate=True)))
        except (binascii.Error, ValueError, CertificateDamagedError) as error:
            raise UnverifiableError("its certificate chain is damaged") from error
    return chain


def _compact(value: Mapping[str, object]) -> bytes:
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()


def _base64url(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")
