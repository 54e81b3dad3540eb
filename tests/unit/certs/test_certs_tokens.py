import base64
import json
from datetime import datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given, settings
from hypothesis import strategies as st
from joserfc import jwe, jwt
from joserfc.jwk import ECKey

from certs.chain import TrustChain
from certs.identity import new_private_key
from certs.profiles import Profile
from certs.tokens import (
    OperatorClaims,
    ProviderClaims,
    TokenRefusedError,
    issue_operator_token,
    issue_provider_token,
    unwrap_token,
    verify_operator_token,
    verify_provider_token,
    wrap_token,
)

HOUR = timedelta(hours=1)
ISSUER = "https://hub.example"
SIGNING_KEY = new_private_key()
KEYS = (SIGNING_KEY.public_key(),)
MANAGEMENT_KEY = new_private_key()
RSA_KEY = rsa.generate_private_key(65537, 2048)


def _certificate(
    trust: TrustChain, now: datetime, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
) -> x509.Certificate:
    return trust.issue(Profile.PROVIDER_MANAGEMENT, key.public_key(), "tokyo", now).certificate


@pytest.fixture(scope="module")
def certificate(trust: TrustChain, now: datetime) -> x509.Certificate:
    return _certificate(trust, now, MANAGEMENT_KEY)


@pytest.fixture(scope="module")
def provider_token(certificate: x509.Certificate, now: datetime) -> str:
    return issue_provider_token(
        SIGNING_KEY,
        issuer=ISSUER,
        provider_id="tokyo",
        vault_id="vault",
        certificate=certificate,
        now=now,
        lifetime=HOUR,
    )


@pytest.fixture(scope="module")
def operator_token(now: datetime) -> str:
    return issue_operator_token(
        SIGNING_KEY,
        issuer=ISSUER,
        principal="ann",
        role="Contributor",
        now=now,
        lifetime=HOUR,
        token_id="t1",  # noqa: S106 -- an id, no secret
    )


def test_a_provider_token_says_who_and_where(
    provider_token: str, certificate: x509.Certificate, now: datetime
) -> None:
    claims = verify_provider_token(
        provider_token, KEYS, issuer=ISSUER, certificate=certificate, now=now
    )
    assert claims == ProviderClaims("tokyo", "vault", now + HOUR)


def test_an_operator_token_says_who_and_as_what(operator_token: str, now: datetime) -> None:
    claims = verify_operator_token(operator_token, KEYS, issuer=ISSUER, now=now)
    assert claims == OperatorClaims("ann", "Contributor", "t1", now + HOUR)


def test_an_older_signing_key_still_verifies(operator_token: str, now: datetime) -> None:
    keys = (new_private_key().public_key(), *KEYS)
    assert verify_operator_token(operator_token, keys, issuer=ISSUER, now=now).principal == "ann"


def test_a_stolen_token_is_worth_nothing_with_another_certificate(
    provider_token: str, trust: TrustChain, now: datetime
) -> None:
    other = _certificate(trust, now, new_private_key())
    with pytest.raises(TokenRefusedError, match="another certificate"):
        verify_provider_token(provider_token, KEYS, issuer=ISSUER, certificate=other, now=now)


def test_a_renewed_certificate_of_the_same_key_needs_its_own_token(
    provider_token: str, trust: TrustChain, now: datetime
) -> None:
    renewed = _certificate(trust, now, MANAGEMENT_KEY)
    with pytest.raises(TokenRefusedError, match="another certificate"):
        verify_provider_token(provider_token, KEYS, issuer=ISSUER, certificate=renewed, now=now)


@pytest.mark.parametrize(
    ("moment", "reason"),
    [(HOUR + timedelta(seconds=31), "expired"), (timedelta(seconds=-31), "iat")],
)
def test_a_token_is_valid_for_its_time_only(
    operator_token: str, now: datetime, moment: timedelta, reason: str
) -> None:
    with pytest.raises(TokenRefusedError, match=reason):
        verify_operator_token(operator_token, KEYS, issuer=ISSUER, now=now + moment)


def test_another_issuer_is_refused(operator_token: str, now: datetime) -> None:
    with pytest.raises(TokenRefusedError, match="iss"):
        verify_operator_token(operator_token, KEYS, issuer="https://other", now=now)


def test_an_unknown_signing_key_is_refused(operator_token: str, now: datetime) -> None:
    with pytest.raises(TokenRefusedError, match="does not know"):
        verify_operator_token(
            operator_token, (new_private_key().public_key(),), issuer=ISSUER, now=now
        )


def test_one_kind_of_token_is_never_taken_for_the_other(
    operator_token: str, provider_token: str, certificate: x509.Certificate, now: datetime
) -> None:
    with pytest.raises(TokenRefusedError, match="another purpose"):
        verify_operator_token(provider_token, KEYS, issuer=ISSUER, now=now)
    with pytest.raises(TokenRefusedError, match="another purpose"):
        verify_provider_token(operator_token, KEYS, issuer=ISSUER, certificate=certificate, now=now)


def _forge(claims: dict[str, Any], header: dict[str, Any] | None = None) -> str:
    key = ECKey(SIGNING_KEY, SIGNING_KEY)
    return jwt.encode(
        {"alg": "ES256", "typ": "operator+jwt", "kid": key.thumbprint(), **(header or {})},
        claims,
        key,
        algorithms=["ES256"],
    )


def _claims(now: datetime) -> dict[str, Any]:
    return {
        "iss": ISSUER,
        "sub": "ann",
        "aud": "operator+jwt",
        "role": "Reader",
        "jti": "1",
        "iat": int(now.timestamp()),
        "exp": int(now.timestamp()) + 60,
    }


@pytest.mark.parametrize("missing", ["iss", "sub", "aud", "role", "jti", "iat", "exp"])
def test_every_claim_is_essential(now: datetime, missing: str) -> None:
    claims = _claims(now)
    assert verify_operator_token(_forge(claims), KEYS, issuer=ISSUER, now=now)
    del claims[missing]
    with pytest.raises(TokenRefusedError, match=missing):
        verify_operator_token(_forge(claims), KEYS, issuer=ISSUER, now=now)


@pytest.mark.parametrize(
    "change",
    [
        {"sub": 7},
        {"sub": ""},
        {"role": ["Owner"]},
        {"role": {"a": 1}},
        {"jti": 7},
        {"exp": "tomorrow"},
        {"exp": True},
        {"exp": 10**400},
        {"exp": 10**15},
        {"aud": "other"},
        {"aud": [7]},
        {"iat": None},
    ],
)
def test_claims_of_a_wrong_shape_are_refused(now: datetime, change: dict[str, Any]) -> None:
    with pytest.raises(TokenRefusedError):
        verify_operator_token(_forge({**_claims(now), **change}), KEYS, issuer=ISSUER, now=now)


def test_a_header_of_another_type_is_refused(now: datetime) -> None:
    with pytest.raises(TokenRefusedError, match="another purpose"):
        verify_operator_token(_forge(_claims(now), {"typ": "JWT"}), KEYS, issuer=ISSUER, now=now)


@pytest.mark.parametrize("algorithm", ["none", "HS256", "ES384"])
def test_another_algorithm_is_refused(operator_token: str, now: datetime, algorithm: str) -> None:
    _, payload, signature = operator_token.split(".")
    kid = ECKey(SIGNING_KEY, SIGNING_KEY).thumbprint()
    header = {"alg": algorithm, "kid": kid, "typ": "operator+jwt"}
    segment = base64.urlsafe_b64encode(json.dumps(header).encode()).decode().rstrip("=")
    for each in (signature, ""):
        with pytest.raises(TokenRefusedError):
            verify_operator_token(f"{segment}.{payload}.{each}", KEYS, issuer=ISSUER, now=now)


@settings(deadline=None, max_examples=300)
@given(text=st.one_of(st.text(max_size=300), st.from_regex(r"[\w-]*\.[\w-]*\.[\w-]*")))
def test_arbitrary_text_is_no_token(now: datetime, text: str) -> None:
    with pytest.raises(TokenRefusedError):
        verify_operator_token(text, KEYS, issuer=ISSUER, now=now)


@settings(deadline=None, max_examples=300)
@given(data=st.data())
def test_a_changed_token_gives_no_other_right(
    operator_token: str, now: datetime, data: st.DataObject
) -> None:
    position = data.draw(st.integers(0, len(operator_token) - 1))
    character = data.draw(st.characters(max_codepoint=0x2FF))
    changed = operator_token[:position] + character + operator_token[position + 1 :]
    try:
        claims = verify_operator_token(changed, KEYS, issuer=ISSUER, now=now)
    except TokenRefusedError:
        return
    assert claims == OperatorClaims("ann", "Contributor", "t1", now + HOUR)


def test_a_refusal_holds_nothing_of_the_token(operator_token: str, now: datetime) -> None:
    with pytest.raises(TokenRefusedError) as refused:
        verify_operator_token(operator_token[:-6], KEYS, issuer=ISSUER, now=now)
    assert operator_token.split(".")[1] not in str(refused.value)


@pytest.mark.parametrize("key", [MANAGEMENT_KEY, RSA_KEY], ids=["EC", "RSA"])
def test_a_wrapped_token_opens_with_its_key_alone(
    trust: TrustChain,
    now: datetime,
    provider_token: str,
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey,
) -> None:
    wrapped = wrap_token(provider_token, _certificate(trust, now, key))
    assert provider_token not in wrapped
    assert unwrap_token(wrapped, key) == provider_token
    other_rsa = rsa.generate_private_key(65537, 2048)
    for other in (new_private_key(), other_rsa):
        with pytest.raises(TokenRefusedError):
            unwrap_token(wrapped, other)


def test_a_changed_wrapping_does_not_open(
    certificate: x509.Certificate, provider_token: str
) -> None:
    parts = wrap_token(provider_token, certificate).split(".")
    for index in range(len(parts)):
        changed = list(parts)
        changed[index] = ("A" if changed[index][0] != "A" else "B") + changed[index][1:]
        with pytest.raises(TokenRefusedError):
            unwrap_token(".".join(changed), MANAGEMENT_KEY)


def test_a_compressed_wrapping_is_refused() -> None:
    key = ECKey(MANAGEMENT_KEY, MANAGEMENT_KEY)
    bomb = jwe.encrypt_compact(
        {"alg": "ECDH-ES+A256KW", "enc": "A256GCM", "zip": "DEF"},
        b"a" * 1_000_000,
        key,
        algorithms=["ECDH-ES+A256KW", "A256GCM", "DEF"],
    )
    with pytest.raises(TokenRefusedError):
        unwrap_token(bomb, MANAGEMENT_KEY)


@settings(deadline=None, max_examples=200)
@given(text=st.one_of(st.text(max_size=300), st.from_regex(r"[\w-]*(\.[\w-]*){4}")))
def test_arbitrary_text_is_no_wrapping(text: str) -> None:
    with pytest.raises(TokenRefusedError):
        unwrap_token(text, MANAGEMENT_KEY)


@pytest.mark.parametrize("text", ["x" * 20_000, "é" * 100])
def test_huge_and_foreign_text_is_refused(now: datetime, text: str) -> None:
    with pytest.raises(TokenRefusedError):
        unwrap_token(text, MANAGEMENT_KEY)
    with pytest.raises(TokenRefusedError):
        verify_operator_token(text, KEYS, issuer=ISSUER, now=now)


def test_names_too_long_for_a_token_are_refused_at_issue(now: datetime) -> None:
    with pytest.raises(ValueError, match="larger"):
        issue_operator_token(
            SIGNING_KEY,
            issuer=ISSUER,
            principal="x" * 9_000,
            role="Reader",
            now=now,
            lifetime=HOUR,
            token_id="1",  # noqa: S106 -- an id, no secret
        )
