"""Tokens of an OpenID Connect issuer: its published keys, and what a valid token of it says.

Everything here comes from elsewhere: keys and tokens have limits, and only algorithms with a public
key are known (RFC 8725, 2.1 and 3.1).
"""

import base64
import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from joserfc import jws, jwt
from joserfc.errors import BadSignatureError, ClaimError, ExpiredTokenError, JoseError
from joserfc.jwk import ECKey, RSAKey
from joserfc.jwt import ClaimsOption

from certs.tokens import TOKEN_BYTES_MAX, TokenRefusedError

ALGORITHMS: Final = frozenset({"RS256", "RS384", "RS512", "PS256", "ES256", "ES384", "ES512"})
"""What a configuration may choose from; no shared secret and no `none` is among them."""

KEYS_BYTES_MAX: Final = 262_144
KEYS_MAX: Final = 100
KEY_ID_CHARACTERS_MAX: Final = 256
RSA_BITS_MIN: Final = 2_048
RSA_BITS_MAX: Final = 8_192
"""A larger key costs more than a request is worth; nobody publishes one."""

_CURVES: Final = {"ES256": "P-256", "ES384": "P-384", "ES512": "P-521"}


class IssuerKeysError(Exception):
    """What an issuer published is no set of keys; the message says why."""


@dataclass(frozen=True, slots=True)
class IssuerKey:
    """A public key of an issuer; `algorithm` is the only one that it may be used with, if any."""

    key_id: str | None
    algorithm: str | None
    key: RSAKey | ECKey

    def fits(self, algorithm: str) -> bool:
        """Whether a signature of this algorithm can be the key's."""
        if self.algorithm not in {None, algorithm}:
            return False
        if isinstance(self.key, RSAKey):
            return algorithm not in _CURVES
        return _CURVES.get(algorithm) == self.key.curve_name


class UnknownKeyError(TokenRefusedError):
    """The token is signed with a key that is not among those known: it may be a new one."""

    def __init__(self) -> None:
        super().__init__("it is signed with a key that its issuer does not publish")


def read_keys(document: bytes) -> tuple[IssuerKey, ...]:
    """Return the usable signing keys of a JWK set (RFC 7517, 5); IssuerKeysError.

    Keys of other kinds or for other uses are left out, as the document asks of its readers.
    """
    if len(document) > KEYS_BYTES_MAX:
        raise IssuerKeysError(f"the keys are larger than {KEYS_BYTES_MAX} bytes")
    listed = json_object(document).get("keys")
    if not isinstance(listed, list) or len(listed) > KEYS_MAX:
        raise IssuerKeysError(f"'keys' is no list of at most {KEYS_MAX} keys")
    keys = tuple(key for each in listed if (key := _usable(each)) is not None)
    if not keys:
        raise IssuerKeysError("there is no usable signing key among them")
    return keys


def json_object(document: bytes) -> Mapping[str, Any]:
    """Return the JSON object of a document; IssuerKeysError."""
    try:
        content = json.loads(document)
    except (ValueError, RecursionError):
        raise IssuerKeysError("the answer is no JSON") from None
    if not isinstance(content, dict):
        raise IssuerKeysError("the answer is no JSON object")
    return content


def verify_issuer_token(
    token: str,
    keys: Sequence[IssuerKey],
    *,
    issuer: str,
    audience: str,
    algorithms: Collection[str],
    now: datetime,
    tolerance_seconds: int,
) -> Mapping[str, Any]:
    """Return the claims of a valid token; TokenRefusedError, UnknownKeyError.

    Checked are signature, issuer, audience, expiry, and where they are there the moments from which
    it is valid (OpenID Connect Core 3.1.3.7; RFC 9068, 4).
    """
    if len(token) > TOKEN_BYTES_MAX:
        raise TokenRefusedError(f"it is larger than {TOKEN_BYTES_MAX} bytes")
    options: dict[str, ClaimsOption] = {
        "sub": {"essential": True},
        "exp": {"essential": True},
        "iss": {"essential": True, "value": issuer},
        "aud": {"essential": True, "value": audience},
    }
    registry = jwt.JWTClaimsRegistry(now=int(now.timestamp()), leeway=tolerance_seconds, **options)
    try:
        key, algorithm = _key_of(token, keys, algorithms)
        claims = jwt.decode(token, key.key, algorithms=[algorithm]).claims
        registry.validate(claims)
        if not all(_is_moment(claims[name]) for name in ("exp", "nbf", "iat") if name in claims):
            raise TokenRefusedError("one of its moments is no number")
    except ExpiredTokenError as error:
        raise TokenRefusedError("it has expired") from error
    except ClaimError as error:
        raise TokenRefusedError(f"its claim {error.claim} is missing or wrong") from error
    except BadSignatureError as error:
        raise TokenRefusedError("its signature does not hold") from error
    except JoseError as error:
        raise TokenRefusedError(f"signature or form: {error.error}") from error
    except (ValueError, TypeError, RecursionError) as error:
        raise TokenRefusedError("it is damaged") from error
    return claims


def unverified_issuer(token: str) -> str | None:
    """Return who a token says that it is of, to choose by whom it is verified; never believed."""
    if len(token) > TOKEN_BYTES_MAX:
        return None
    try:
        payload = json.loads(jws.extract_compact(token.encode("ascii")).payload)
    except (JoseError, ValueError, TypeError, RecursionError):
        return None
    issuer = payload.get("iss") if isinstance(payload, dict) else None
    return issuer if isinstance(issuer, str) else None


def _key_of(
    token: str, keys: Sequence[IssuerKey], algorithms: Collection[str]
) -> tuple[IssuerKey, str]:
    """Return the key that the header names, and the algorithm, which must be allowed."""
    header = jws.extract_compact(token.encode("ascii")).headers()
    algorithm, key_id = header.get("alg"), header.get("kid")
    if not isinstance(algorithm, str) or algorithm not in algorithms:
        raise TokenRefusedError(
            f"its algorithm is {str(algorithm)[:16]!r}, and only"
            f" {', '.join(sorted(algorithms))} are taken from this issuer"
        )
    fitting = [each for each in keys if each.fits(algorithm)]
    if key_id is not None:
        fitting = [each for each in fitting if each.key_id == key_id]
    if not fitting:
        raise UnknownKeyError
    if len(fitting) > 1:
        # OpenID Connect Core 10.1: several keys need their names.
        raise TokenRefusedError("it does not name its key, and its issuer has several")
    return fitting[0], algorithm


def _usable(described: object) -> IssuerKey | None:
    """Return a key for signatures of a kind that we know, or None."""
    if not isinstance(described, dict) or described.get("use", "sig") != "sig":
        return None
    uses = described.get("key_ops")
    if uses is not None and (not isinstance(uses, list) or "verify" not in uses):
        return None
    key_id, algorithm = described.get("kid"), described.get("alg")
    if not (key_id is None or isinstance(key_id, str)) or len(key_id or "") > KEY_ID_CHARACTERS_MAX:
        return None
    if algorithm is not None and (not isinstance(algorithm, str) or algorithm not in ALGORITHMS):
        return None
    # What is not public has no business in a published set, and is not read.
    public = {
        name: described[name] for name in ("kty", "crv", "x", "y", "n", "e") if name in described
    }
    key = _imported(public)
    return None if key is None else IssuerKey(key_id, algorithm, key)


def _imported(public: dict[str, Any]) -> RSAKey | ECKey | None:
    if not all(isinstance(value, str) for value in public.values()):
        return None
    try:
        if public.get("kty") == "EC":
            return ECKey.import_key(public) if public.get("crv") in _CURVES.values() else None
        if public.get("kty") != "RSA":
            return None
        modulus = public["n"]
        if len(modulus) > RSA_BITS_MAX // 4:
            return None
        number = base64.urlsafe_b64decode(modulus + "=" * (-len(modulus) % 4))
        bits = int.from_bytes(number, "big").bit_length()
        return RSAKey.import_key(public) if RSA_BITS_MIN <= bits <= RSA_BITS_MAX else None
    except (JoseError, ValueError, TypeError, KeyError):
        return None


def _is_moment(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
