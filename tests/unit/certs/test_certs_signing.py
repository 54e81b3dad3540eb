import base64
import json
from datetime import datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from hypothesis import given, settings
from hypothesis import strategies as st
from joserfc import jws
from joserfc.jwk import ECKey

from certs.chain import TrustChain
from certs.identity import name_of, new_private_key, thumbprint
from certs.profiles import EVENT_SIGNING, LIFETIMES, Profile
from certs.signing import JWS_BYTES_MAX, EventSigner, EventVerifier, UnverifiableError

PAYLOAD: dict[str, object] = {"id": "1", "aud": "provider", "seq": 1, "body": {"verb": "start"}}


@pytest.fixture(scope="module")
def key() -> ec.EllipticCurvePrivateKey:
    return new_private_key()


@pytest.fixture(scope="module")
def chain_pem(trust: TrustChain, now: datetime, key: ec.EllipticCurvePrivateKey) -> str:
    return trust.issue(Profile.EVENT_SIGNER, key.public_key(), "hub", now).chain_pem


@pytest.fixture(scope="module")
def signed(key: ec.EllipticCurvePrivateKey, chain_pem: str) -> str:
    return EventSigner(key, chain_pem).sign(PAYLOAD)


@pytest.fixture(scope="module")
def verifier(trust: TrustChain) -> EventVerifier:
    return EventVerifier(trust.root_pem)


def _header(signed: str) -> dict[str, Any]:
    segment = signed.split(".", maxsplit=1)[0]
    header = json.loads(base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4)))
    assert isinstance(header, dict)
    return header


def _sign_with(header: dict[str, Any], key: ec.EllipticCurvePrivateKey) -> str:
    class Generous(jws.JWSRegistry):
        max_header_length = 100_000

    registry = Generous(algorithms=["ES256"])
    return jws.serialize_compact(header, b"{}", ECKey(key, key), ["ES256"], registry)


def test_a_signed_event_is_verified(verifier: EventVerifier, signed: str, now: datetime) -> None:
    assert verifier.verify(signed, now) == PAYLOAD


def test_bytes_are_signed_as_they_are(
    key: ec.EllipticCurvePrivateKey, chain_pem: str, verifier: EventVerifier, now: datetime
) -> None:
    assert verifier.verify(EventSigner(key, chain_pem).sign(b'{ "a": 1 }'), now) == {"a": 1}


def test_the_header_names_the_signer(signed: str, chain_pem: str) -> None:
    header = _header(signed)
    chain = x509.load_pem_x509_certificates(chain_pem.encode())
    assert header["alg"] == "ES256"
    assert header["kid"] == thumbprint(chain[0])
    assert [base64.b64decode(each) for each in header["x5c"]] == [
        each.public_bytes(serialization.Encoding.DER) for each in chain
    ]


def test_a_small_event_fits_into_one_mqtt_message(signed: str) -> None:
    assert len(signed) < 4_096


def test_a_large_event_is_verified(
    key: ec.EllipticCurvePrivateKey, chain_pem: str, verifier: EventVerifier, now: datetime
) -> None:
    payload = {"text": "x" * 1_000_000}
    assert verifier.verify(EventSigner(key, chain_pem).sign(payload), now) == payload


def test_an_event_that_nobody_would_take_is_not_signed(
    key: ec.EllipticCurvePrivateKey, chain_pem: str
) -> None:
    with pytest.raises(ValueError, match="larger"):
        EventSigner(key, chain_pem).sign(b"x" * JWS_BYTES_MAX)


def test_a_huge_event_is_refused_unread(verifier: EventVerifier, now: datetime) -> None:
    with pytest.raises(UnverifiableError, match="larger"):
        verifier.verify("x" * (JWS_BYTES_MAX + 1), now)


def test_many_signatures_are_what_the_library_makes_of_them(
    key: ec.EllipticCurvePrivateKey, chain_pem: str
) -> None:
    # Numbers with leading zeros come up in 1 of 128: they keep their 32 bytes.
    signer = EventSigner(key, chain_pem)
    registry = jws.JWSRegistry(algorithms=["ES256"])
    registry.max_header_length = 100_000
    for seq in range(300):
        signed = signer.sign({"seq": seq})
        read = jws.deserialize_compact(signed, ECKey(key, key), ["ES256"], registry)
        assert json.loads(read.payload) == {"seq": seq}
        assert len(signed.rpartition(".")[2]) == 86
        assert "=" not in signed


def test_a_key_on_another_curve_cannot_sign(trust: TrustChain, now: datetime) -> None:
    key = ec.generate_private_key(ec.SECP384R1())
    issued = trust.issue(Profile.EVENT_SIGNER, key.public_key(), "hub", now)
    with pytest.raises(ValueError, match="secp384r1"):
        EventSigner(key, issued.chain_pem)


def test_a_key_of_another_certificate_cannot_sign(chain_pem: str) -> None:
    with pytest.raises(ValueError, match="does not belong"):
        EventSigner(new_private_key(), chain_pem)


@pytest.mark.parametrize("profile", [each for each in Profile if each is not Profile.EVENT_SIGNER])
def test_no_other_profile_may_sign_events(
    trust: TrustChain, now: datetime, verifier: EventVerifier, profile: Profile
) -> None:
    key = new_private_key()
    chain_pem = trust.issue(profile, key.public_key(), "x", now).chain_pem
    with pytest.raises(UnverifiableError, match="extended key usage"):
        verifier.verify(EventSigner(key, chain_pem).sign(PAYLOAD), now)


def test_another_hubs_event_is_refused(signed: str, now: datetime) -> None:
    with pytest.raises(UnverifiableError, match="not trusted"):
        EventVerifier(TrustChain.create(now, "Contoso").root_pem).verify(signed, now)


@pytest.mark.parametrize(
    "moment", [timedelta(minutes=-6), LIFETIMES[Profile.EVENT_SIGNER] + timedelta(seconds=1)]
)
def test_the_signer_must_be_valid_now(
    verifier: EventVerifier, signed: str, now: datetime, moment: timedelta
) -> None:
    with pytest.raises(UnverifiableError, match="not valid at validation time"):
        verifier.verify(signed, now + moment)


def test_a_changed_payload_is_refused(verifier: EventVerifier, signed: str, now: datetime) -> None:
    header, _, signature = signed.split(".")
    other = base64.urlsafe_b64encode(b'{"verb":"commit"}').decode().rstrip("=")
    with pytest.raises(UnverifiableError, match="signature"):
        verifier.verify(f"{header}.{other}.{signature}", now)


def test_a_signature_by_another_key_is_refused(
    verifier: EventVerifier, signed: str, now: datetime
) -> None:
    with pytest.raises(UnverifiableError, match="bad_signature"):
        verifier.verify(_sign_with(_header(signed), new_private_key()), now)


@pytest.mark.parametrize(
    "change",
    [
        {"kid": "0" * 64},
        {"kid": None},
        {"x5c": None},
        {"x5c": []},
        {"x5c": ["AAAA", "AAAA"]},
        {"x5c": ["not base64!"]},
        {"crit": ["unknown"], "unknown": 1},
        {"b64": False, "crit": ["b64"]},
        {"jwk": {"kty": "EC"}},
    ],
)
def test_a_header_with_something_missing_or_foreign_is_refused(
    key: ec.EllipticCurvePrivateKey,
    verifier: EventVerifier,
    signed: str,
    now: datetime,
    change: dict[str, Any],
) -> None:
    changed = {**_header(signed), **change}
    header = {name: value for name, value in changed.items() if value is not None}
    segment = base64.urlsafe_b64encode(json.dumps(header).encode()).decode().rstrip("=")
    _, payload, _ = signed.split(".")
    signature = _es256(key, f"{segment}.{payload}")
    if change == {"jwk": {"kty": "EC"}}:
        # A key in the header is ignored: only the chain's key counts, and it has signed this.
        assert verifier.verify(f"{segment}.{payload}.{signature}", now) == PAYLOAD
        return
    with pytest.raises(UnverifiableError):
        verifier.verify(f"{segment}.{payload}.{signature}", now)


def _es256(key: ec.EllipticCurvePrivateKey, text: str) -> str:
    r, s = decode_dss_signature(key.sign(text.encode(), ec.ECDSA(hashes.SHA256())))
    raw = r.to_bytes(32, "big") + s.to_bytes(32, "big")
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


@pytest.mark.parametrize("algorithm", ["none", "HS256", "RS256", "ES384", "", 7])
def test_another_algorithm_is_refused(
    verifier: EventVerifier, signed: str, now: datetime, algorithm: object
) -> None:
    header = json.dumps({**_header(signed), "alg": algorithm}).encode()
    _, payload, signature = signed.split(".")
    changed = base64.urlsafe_b64encode(header).decode().rstrip("=")
    for each in (signature, ""):
        with pytest.raises(UnverifiableError):
            verifier.verify(f"{changed}.{payload}.{each}", now)


@pytest.mark.parametrize("payload", [b"[]", b"null", b"", b"{", b"[" * 100_000, b"\xff"])
def test_a_payload_that_is_no_object_is_refused(
    key: ec.EllipticCurvePrivateKey,
    chain_pem: str,
    verifier: EventVerifier,
    now: datetime,
    payload: bytes,
) -> None:
    with pytest.raises(UnverifiableError):
        verifier.verify(EventSigner(key, chain_pem).sign(payload), now)


def test_a_self_made_signer_is_refused(verifier: EventVerifier, now: datetime) -> None:
    key = new_private_key()
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name_of("hub"))
        .issuer_name(name_of("hub"))
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([EVENT_SIGNING]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM).decode()
    with pytest.raises(UnverifiableError, match="not trusted"):
        verifier.verify(EventSigner(key, pem).sign(PAYLOAD), now)


@settings(deadline=None, max_examples=300)
@given(data=st.data())
def test_any_changed_character_is_refused(
    verifier: EventVerifier, signed: str, now: datetime, data: st.DataObject
) -> None:
    position = data.draw(st.integers(0, len(signed) - 1))
    character = data.draw(st.characters(max_codepoint=0x2FF))
    changed = signed[:position] + character + signed[position + 1 :]
    try:
        payload = verifier.verify(changed, now)
    except UnverifiableError:
        return
    # The last character of a base64 segment has bits that stand for nothing.
    assert payload == PAYLOAD


@settings(deadline=None, max_examples=300)
@given(text=st.one_of(st.text(max_size=300), st.from_regex(r"[\w-]*\.[\w-]*\.[\w-]*")))
def test_arbitrary_text_is_refused(verifier: EventVerifier, now: datetime, text: str) -> None:
    with pytest.raises(UnverifiableError):
        verifier.verify(text, now)


def test_a_chain_that_was_verified_is_believed_until_it_ends_and_not_longer(
    verifier: EventVerifier, signed: str, chain_pem: str, now: datetime
) -> None:
    ends = min(
        each.not_valid_after_utc for each in x509.load_pem_x509_certificates(chain_pem.encode())
    )
    assert verifier.verify(signed, ends - timedelta(seconds=1)) == PAYLOAD
    with pytest.raises(UnverifiableError, match="not trusted"):
        verifier.verify(signed, ends + timedelta(seconds=1))
    # Neither does a clock that is set back find it trusted before it began.
    assert verifier.verify(signed, now) == PAYLOAD
    with pytest.raises(UnverifiableError, match="not trusted"):
        verifier.verify(signed, now - timedelta(days=400))


def test_a_chain_of_a_root_that_is_no_longer_pinned_is_not_believed(
    trust: TrustChain, signed: str, now: datetime
) -> None:
    replaced = EventVerifier(trust.root_pem)
    assert replaced.verify(signed, now) == PAYLOAD
    replaced.trust(TrustChain.create(now - timedelta(minutes=5), "another").root_pem)
    with pytest.raises(UnverifiableError, match="not trusted"):
        replaced.verify(signed, now)


def test_a_header_that_borrows_a_verified_chain_still_needs_its_key(
    verifier: EventVerifier, signed: str, now: datetime
) -> None:
    assert verifier.verify(signed, now) == PAYLOAD
    header = _header(signed)
    with pytest.raises(UnverifiableError):
        verifier.verify(_sign_with(header, new_private_key()), now)
    with pytest.raises(UnverifiableError, match="key id"):
        verifier.verify(_sign_with({**header, "kid": "other"}, new_private_key()), now)
