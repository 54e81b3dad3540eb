"""Tokens: JWT (RFC 7519) with ES256, for providers bound to their certificate (RFC 8705)."""

import base64
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from joserfc import jwe, jws, jwt
from joserfc.errors import BadSignatureError, ClaimError, ExpiredTokenError, JoseError
from joserfc.jwk import ECKey, RSAKey
from joserfc.jwt import ClaimsOption

from certs.identity import PrivateKey, strong_public_key

ALGORITHM: Final = "ES256"
TOKEN_BYTES_MAX: Final = 8_192
WRAPPED_BYTES_MAX: Final = 16_384

CLOCK_TOLERANCE_SECONDS: Final = 30
"""Several hubs verify each other's tokens; their clocks differ by at most this."""

# The type in the header and the audience keep one kind of token from being taken for the other
# (RFC 8725, section 3.11).
_PROVIDER_TYPE: Final = "provider+jwt"
_OPERATOR_TYPE: Final = "operator+jwt"

_CONTENT_ENCRYPTION: Final = "A256GCM"
_EC_KEY_WRAPPING: Final = "ECDH-ES+A256KW"
_RSA_KEY_WRAPPING: Final = "RSA-OAEP-256"


class TokenRefusedError(Exception):
    """The token gives no right; `reason` says why and holds nothing of the token."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the token is refused: {reason}")
        self.reason = reason


@dataclass(frozen=True)
class ProviderClaims:
    """What a provider's token says."""

    provider_id: str
    vault_id: str
    expires_at: datetime


@dataclass(frozen=True)
class OperatorClaims:
    """What an operator's token says."""

    principal: str
    role: str
    token_id: str
    expires_at: datetime
    account: str | None = None


def issue_provider_token(
    signing_key: ec.EllipticCurvePrivateKey,
    *,
    issuer: str,
    provider_id: str,
    vault_id: str,
    certificate: x509.Certificate,
    now: datetime,
    lifetime: timedelta,
) -> str:
    """Return a token that is worth something only together with the key of `certificate`."""
    claims = {
        "iss": issuer,
        "sub": provider_id,
        "aud": _PROVIDER_TYPE,
        "vault": vault_id,
        "cnf": {"x5t#S256": _certificate_hash(certificate)},
    }
    return _issue(signing_key, _PROVIDER_TYPE, claims, now, lifetime)


def verify_provider_token(
    token: str,
    public_keys: Sequence[ec.EllipticCurvePublicKey],
    *,
    issuer: str,
    certificate: x509.Certificate,
    now: datetime,
) -> ProviderClaims:
    """Return the claims of a valid token that is bound to the peer's `certificate`."""
    claims = _verify(
        token,
        public_keys,
        kind=_PROVIDER_TYPE,
        issuer=issuer,
        now=now,
        essential=("vault", "cnf"),
    )
    confirmation = claims["cnf"]
    bound_to = confirmation.get("x5t#S256") if isinstance(confirmation, dict) else None
    if not isinstance(bound_to, str) or not hmac.compare_digest(
        bound_to.encode(), _certificate_hash(certificate).encode()
    ):
        raise TokenRefusedError("it is bound to another certificate")
    return ProviderClaims(claims["sub"], _string(claims, "vault"), _expiry(claims))


def issue_operator_token(
    signing_key: ec.EllipticCurvePrivateKey,
    *,
    issuer: str,
    principal: str,
    role: str,
    now: datetime,
    lifetime: timedelta,
    token_id: str,
    account: str | None = None,
    tenant: str = "",
) -> str:
    """Return a bearer token for an operator; `token_id` is what it is revoked by.

    With `account` it is of a service account, and has the claims that clients of the original read
    of their own token (tid, oid, appid; arm-api.md, section 6).
    """
    claims = {
        "iss": issuer,
        "sub": principal,
        "aud": _OPERATOR_TYPE,
        "role": role,
        "jti": token_id,
    }
    if account is not None:
        claims |= {"account": account, "tid": tenant, "oid": account, "appid": account}
    return _issue(signing_key, _OPERATOR_TYPE, claims, now, lifetime)


def verify_operator_token(
    token: str, public_keys: Sequence[ec.EllipticCurvePublicKey], *, issuer: str, now: datetime
) -> OperatorClaims:
    """Return the claims of a valid token; whether it was revoked is for the caller to look up."""
    claims = _verify(
        token,
        public_keys,
        kind=_OPERATOR_TYPE,
        issuer=issuer,
        now=now,
        essential=("role", "jti"),
    )
    account = _string(claims, "account") if "account" in claims else None
    return OperatorClaims(
        claims["sub"], _string(claims, "role"), claims["jti"], _expiry(claims), account
    )


def wrap_token(token: str, certificate: x509.Certificate) -> str:
    """Return the token encrypted (JWE compact) so that only the certificate's key reads it.

    Raises ValueError for a key that cannot decrypt anything.
    """
    public_key = strong_public_key(certificate)
    if isinstance(public_key, rsa.RSAPublicKey):
        key: ECKey | RSAKey = RSAKey(public_key, public_key)
        wrapping = _RSA_KEY_WRAPPING
    else:
        key = ECKey(public_key, public_key)
        wrapping = _EC_KEY_WRAPPING
    header = {"alg": wrapping, "enc": _CONTENT_ENCRYPTION, "cty": "JWT"}
    return jwe.encrypt_compact(header, token, key, algorithms=[wrapping, _CONTENT_ENCRYPTION])


def unwrap_token(wrapped: str, private_key: PrivateKey) -> str:
    """Return the token inside, or raise TokenRefusedError; what it says is for the hub to judge."""
    if len(wrapped) > WRAPPED_BYTES_MAX:
        raise TokenRefusedError(f"it is larger than {WRAPPED_BYTES_MAX} bytes")
    if isinstance(private_key, rsa.RSAPrivateKey):
        key: ECKey | RSAKey = RSAKey(private_key, private_key)
        wrapping = _RSA_KEY_WRAPPING
    else:
        key = ECKey(private_key, private_key)
        wrapping = _EC_KEY_WRAPPING
    try:
        # No compression is among the algorithms: a small message stays small.
        opened = jwe.decrypt_compact(wrapped, key, algorithms=[wrapping, _CONTENT_ENCRYPTION])
        return (opened.plaintext or b"").decode("ascii")
    except (JoseError, ValueError) as error:
        raise TokenRefusedError("it cannot be decrypted with this server's key") from error


def _issue(
    signing_key: ec.EllipticCurvePrivateKey,
    kind: str,
    claims: Mapping[str, Any],
    now: datetime,
    lifetime: timedelta,
) -> str:
    key = ECKey(signing_key, signing_key)
    header = {"alg": ALGORITHM, "kid": key.thumbprint()}
    times = {"iat": int(now.timestamp()), "exp": int((now + lifetime).timestamp())}
    token = jwt.encode(header, {**claims, **times}, key, algorithms=[ALGORITHM], default_type=kind)
    if len(token) > TOKEN_BYTES_MAX:
        raise ValueError(f"the token is larger than {TOKEN_BYTES_MAX} bytes: shorten the names")
    return token


def _verify(
    token: str,
    public_keys: Sequence[ec.EllipticCurvePublicKey],
    *,
    kind: str,
    issuer: str,
    now: datetime,
    essential: Sequence[str],
) -> dict[str, Any]:
    if len(token) > TOKEN_BYTES_MAX:
        raise TokenRefusedError(f"it is larger than {TOKEN_BYTES_MAX} bytes")
    options: dict[str, ClaimsOption] = {
        name: {"essential": True} for name in ("sub", "exp", "iat", *essential)
    }
    options["iss"] = {"essential": True, "value": issuer}
    options["aud"] = {"essential": True, "value": kind}
    registry = jwt.JWTClaimsRegistry(
        now=int(now.timestamp()), leeway=CLOCK_TOLERANCE_SECONDS, **options
    )
    try:
        key = _key_of(token, public_keys)
        decoded = jwt.decode(token, key, algorithms=[ALGORITHM])
        if decoded.header.get("typ") != kind:
            raise TokenRefusedError("it is a token for another purpose")
        registry.validate(decoded.claims)
    except ExpiredTokenError as error:
        raise TokenRefusedError("it has expired") from error
    except ClaimError as error:
        raise TokenRefusedError(f"its claim {error.claim} is missing or wrong") from error
    except BadSignatureError as error:
        raise TokenRefusedError("its signature does not hold") from error
    except JoseError as error:
        raise TokenRefusedError(f"signature or form: {error.error}") from error
    except (ValueError, RecursionError) as error:
        raise TokenRefusedError("it is damaged") from error
    return decoded.claims


def _key_of(token: str, public_keys: Sequence[ec.EllipticCurvePublicKey]) -> ECKey:
    """Return the key that the header names: signing keys rotate, several are valid at a time."""
    header = jws.extract_compact(token.encode("ascii")).headers()
    if (algorithm := header.get("alg")) != ALGORITHM:
        # "none", or a public key used as a shared secret (RFC 8725, 2.1).
        raise TokenRefusedError(
            f"its algorithm is {str(algorithm)[:16]!r}, and only {ALGORITHM} is taken"
        )
    key_id = header.get("kid")
    for public_key in public_keys:
        key = ECKey(public_key, public_key)
        if key.thumbprint() == key_id:
            return key
    raise TokenRefusedError("it is signed with a key that this hub does not know")


def _certificate_hash(certificate: x509.Certificate) -> str:
    # RFC 8705, section 3.1: base64url of the SHA-256 of the DER form, without padding.
    return base64.urlsafe_b64encode(certificate.fingerprint(hashes.SHA256())).decode().rstrip("=")


def _string(claims: Mapping[str, Any], name: str) -> str:
    value = claims[name]
    if not isinstance(value, str):
        raise TokenRefusedError(f"its claim {name} is not text")
    return value


def _expiry(claims: Mapping[str, Any]) -> datetime:
    try:
        return datetime.fromtimestamp(claims["exp"], UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise TokenRefusedError("its expiry is no moment in time") from error
