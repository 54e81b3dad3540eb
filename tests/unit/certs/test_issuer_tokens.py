"""Tokens and keys of an external issuer: what is taken, and that nothing else is."""

import base64
import hashlib
import hmac
import json
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given, settings
from hypothesis import strategies as st
from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey

from certs.issuer_tokens import (
    ALGORITHMS,
    KEYS_BYTES_MAX,
    IssuerKeysError,
    UnknownKeyError,
    read_keys,
    unverified_issuer,
    verify_issuer_token,
)
from certs.tokens import TokenRefusedError
from service_hub.domain.access import Grant, Role
from service_hub.domain.errors import UnauthenticatedError
from service_hub.domain.issuer_claims import ClaimGrant, ClaimRules, identity_in
from service_hub.hub_api.issuer_keys import keys_address

ISSUER = "https://issuer.example/realm"
PRIVATE = rsa.generate_private_key(65537, 2048)
CURVE = ec.generate_private_key(ec.SECP256R1())
WEAK = base64.urlsafe_b64encode(b"\xff" * 128).decode().rstrip("=")
RSA = RSAKey(PRIVATE, PRIVATE)
EC = ECKey(CURVE, CURVE)


def published(*described: dict[str, Any]) -> bytes:
    return json.dumps({"keys": list(described)}).encode()


def public(key: RSAKey | ECKey, **more: Any) -> dict[str, Any]:
    return {**key.as_dict(private=False), **more}


KEYS = read_keys(published(public(RSA, kid="r", use="sig"), public(EC, kid="e", alg="ES256")))


def claims(now: datetime, **more: Any) -> dict[str, Any]:
    at = int(now.timestamp())
    return {"iss": ISSUER, "aud": ["x", "hub"], "sub": "ines", "exp": at + 60, "iat": at, **more}


def signed(claims: dict[str, Any], algorithm: str = "RS256", **header: Any) -> str:
    key: RSAKey | ECKey = EC if algorithm.startswith("ES") else RSA
    named = {"kid": "e" if algorithm.startswith("ES") else "r", **header}
    named = {name: value for name, value in named.items() if value is not None}
    return jwt.encode({"alg": algorithm, **named}, claims, key, algorithms=[algorithm])


def verified(token: str, now: datetime, **more: Any) -> Any:
    asked: dict[str, Any] = {"audience": "hub", "algorithms": ("RS256", "ES256"), **more}
    return verify_issuer_token(token, KEYS, issuer=ISSUER, now=now, tolerance_seconds=60, **asked)


def test_both_kinds_of_key_are_taken(now: datetime) -> None:
    for algorithm in ("RS256", "ES256"):
        assert verified(signed(claims(now), algorithm), now)["sub"] == "ines"
    assert verified(signed(claims(now), kid=None), now)["sub"] == "ines"


@pytest.mark.parametrize(
    "changed",
    [
        {"iss": "https://issuer.example/realm/"},
        {"iss": None},
        {"aud": "another"},
        {"aud": []},
        {"aud": {"hub": 1}},
        {"exp": 0},
        {"exp": None},
        {"exp": "9999999999"},
        {"exp": float("nan")},
        {"exp": float("inf")},
        {"nbf": 99_999_999_999},
        {"iat": 99_999_999_999},
        {"sub": 7},
        {"sub": None},
    ],
)
def test_each_claim_counts(changed: dict[str, Any], now: datetime) -> None:
    with pytest.raises(TokenRefusedError):
        verified(signed(claims(now, **changed)), now)
    left_out = {k: v for k, v in claims(now, **changed).items() if v is not None}
    with pytest.raises(TokenRefusedError):
        verified(signed(left_out), now)


def test_the_tolerance_ends_where_it_says(now: datetime) -> None:
    token = signed(claims(now))
    assert verified(token, now + timedelta(seconds=119))
    with pytest.raises(TokenRefusedError, match="expired"):
        verified(token, now + timedelta(seconds=121))


def test_no_shared_secret_and_no_nothing_is_taken_for_a_signature(now: datetime) -> None:
    def part(value: dict[str, Any]) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    secret = PRIVATE.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    body = f"{part({'alg': 'HS256', 'kid': 'r'})}.{part(claims(now))}"
    mac = hmac.new(secret, body.encode(), hashlib.sha256).digest()
    forged = [
        f"{part({'alg': 'none', 'kid': 'r'})}.{part(claims(now))}.",
        f"{body}.{base64.urlsafe_b64encode(mac).decode().rstrip('=')}",
    ]
    for token in forged:
        with pytest.raises(TokenRefusedError, match="its algorithm is"):
            verified(token, now)
    assert not {"none", "HS256", "HS512"} & ALGORITHMS


def test_a_key_signs_with_its_own_algorithm_alone(now: datetime) -> None:
    with pytest.raises(UnknownKeyError):
        verified(signed(claims(now), kid="e"), now)
    with pytest.raises(UnknownKeyError):
        verified(signed(claims(now), kid="new"), now)
    with pytest.raises(TokenRefusedError, match="its algorithm"):
        verified(signed(claims(now), "PS256"), now)
    several = read_keys(published(public(RSA, kid="r"), public(RSA, kid="s")))
    with pytest.raises(TokenRefusedError, match="does not name its key"):
        verify_issuer_token(
            signed(claims(now), kid=None),
            several,
            issuer=ISSUER,
            audience="hub",
            algorithms=("RS256",),
            now=now,
            tolerance_seconds=0,
        )


@pytest.mark.parametrize(
    "described",
    [
        {"kty": "oct", "k": "c2VjcmV0", "kid": "r"},
        public(RSA, use="enc"),
        public(RSA, key_ops=["encrypt"]),
        public(RSA, alg="HS256"),
        public(RSA, kid=7),
        public(RSA, n=WEAK),
        public(RSA, n="!"),
        public(RSA, n=["a"]),
        public(EC, crv="secp256k1"),
        public(EC, x="AA"),
        {"kty": "RSA"},
        "key",
    ],
)
def test_a_key_that_must_not_verify_is_left_out(described: Any) -> None:
    with pytest.raises(IssuerKeysError, match="no usable"):
        read_keys(published(described))
    assert len(read_keys(published(described, public(RSA)))) == 1


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=6,
)
NAMES = st.sampled_from(["kty", "crv", "x", "y", "n", "e", "kid", "use", "alg", "key_ops", "d"])
DESCRIBED = st.dictionaries(NAMES, VALUES, max_size=6).map(lambda more: {**public(RSA), **more})


@settings(max_examples=150, deadline=None)
@given(
    st.binary(max_size=200)
    | VALUES.map(lambda value: json.dumps(value).encode())
    | st.lists(DESCRIBED, max_size=3).map(lambda keys: published(*keys))
    | st.sampled_from([b"[" * 100_000, b" " * (KEYS_BYTES_MAX + 1), b'{"keys": [1' + b",1" * 200])
)
def test_whatever_is_published_gives_keys_or_the_error_that_is_promised(document: bytes) -> None:
    with suppress(IssuerKeysError):
        assert read_keys(document)


@settings(max_examples=150, deadline=None)
@given(
    st.text(max_size=200)
    | st.binary(max_size=200).map(lambda b: base64.urlsafe_b64encode(b).decode())
    | st.lists(VALUES, min_size=3, max_size=3).map(
        lambda parts: ".".join(
            base64.urlsafe_b64encode(json.dumps(each).encode()).decode().rstrip("=")
            for each in parts
        )
    )
    | st.sampled_from(["a" * 9_000, ".." * 4_000, "é.é.é"])
)
def test_whatever_is_sent_as_a_token_is_refused(token: str) -> None:
    unverified_issuer(token)
    with pytest.raises(TokenRefusedError):
        verified(token, datetime.fromisoformat("2026-01-01T00:00:00+00:00"))


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.sampled_from(["issuer", "jwks_uri", "x"]), VALUES))
def test_whatever_is_discovered_names_an_address_or_the_error_that_is_promised(
    found: dict[str, Any],
) -> None:
    for document in (found, {**found, "issuer": ISSUER}):
        with suppress(IssuerKeysError):
            assert keys_address(document, ISSUER).startswith("https://")


@pytest.mark.parametrize(
    "address", ["http://a/keys", "https://", "https://[", "https://u@a/k", "/keys", "file:///k"]
)
def test_keys_are_read_over_tls_alone(address: str) -> None:
    with pytest.raises(IssuerKeysError, match="jwks_uri"):
        keys_address({"issuer": ISSUER, "jwks_uri": address}, ISSUER)


RULES = ClaimRules(
    principal=("sub",),
    roles=("realm", "roles"),
    prefix="oidc:",
    grants=(ClaimGrant("a", Role.READER), ClaimGrant("b", Role.OPERATOR, "v")),
)


@pytest.mark.parametrize(
    ("found", "grants"),
    [
        ({"realm": {"roles": ["b", "a", "c", 7]}}, (Grant(Role.READER), Grant(Role.OPERATOR, "v"))),
        ({"realm": {"roles": "a"}}, (Grant(Role.READER),)),
        ({"realm": {"roles": "a b"}}, ()),
        ({"realm": ["a"]}, ()),
        ({"roles": ["a"]}, ()),
        ({}, ()),
    ],
)
def test_roles_are_read_where_the_configuration_says(
    found: dict[str, Any], grants: tuple[Grant, ...]
) -> None:
    identity = identity_in({"sub": "ines", **found}, RULES)
    assert (identity.principal, identity.grants) == ("oidc:ines", grants)


def test_the_words_of_a_scope_are_each_a_value() -> None:
    rules = ClaimRules(("sub",), ("scope",), "oidc:", (ClaimGrant("a", Role.READER),))
    assert identity_in({"sub": "i", "scope": "openid a"}, rules).grants == (Grant(Role.READER),)


@pytest.mark.parametrize("name", [None, "", 7, "a" * 129, "a\nb", ["a"]])
def test_who_has_no_name_is_nobody(name: object) -> None:
    with pytest.raises(UnauthenticatedError, match="is no name"):
        identity_in({"sub": name}, RULES)
