"""Statements of roots: who may add one, who may remove one, and what is refused."""

import base64
import json
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jws
from joserfc.jwk import ECKey

from certs.chain import DamagedTrustError, TrustChain
from certs.identity import load_private_key, new_private_key, thumbprint
from certs.profiles import Profile
from certs.roots import (
    STATEMENT_CHARACTERS_MAX,
    TYPE,
    RootsRefusedError,
    sign_roots,
    thumbprints_of,
    verify_roots,
)

NOW = datetime(2026, 11, 1, tzinfo=UTC)
PASSWORD = b"password"
OLD = TrustChain.create(NOW, "Tests")
NEW = TrustChain.create(NOW, "Tests", 2)
FOREIGN = TrustChain.create(NOW, "Tests")
ANNOUNCEMENT = OLD.state_roots(1, NEW)
RETIREMENT = NEW.state_roots(2)


def root_of(chain: TrustChain) -> x509.Certificate:
    return x509.load_pem_x509_certificate(chain.root_pem.encode())


def key_of(chain: TrustChain) -> ec.EllipticCurvePrivateKey:
    key = load_private_key(chain.to_files(PASSWORD)["root-key.pem"], PASSWORD)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key


def stated(chain: TrustChain, payload: object, **header: str) -> str:
    """Return a statement by a root that says whatever a test wants."""
    fields = {"alg": "ES256", "typ": TYPE, "kid": chain.root_thumbprint, **header}
    key = key_of(chain)
    return jws.serialize_compact(fields, json.dumps(payload).encode(), ECKey(key, key))


def test_the_old_root_adds_the_new_one_and_that_removes_the_old() -> None:
    both = verify_roots(ANNOUNCEMENT, OLD.root_pem, NOW)
    assert (both.serial, both.pem) == (1, OLD.root_pem + NEW.root_pem)
    assert both.thumbprints == (OLD.root_thumbprint, NEW.root_thumbprint)
    alone = verify_roots(RETIREMENT, both.pem, NOW)
    assert (alone.serial, alone.pem) == (2, NEW.root_pem)
    assert thumbprints_of(alone.pem) == (thumbprint(root_of(NEW)),)


@pytest.mark.parametrize(
    ("statement", "trusted", "cause"),
    [
        (FOREIGN.state_roots(1, NEW), OLD.root_pem, "no root that is trusted"),
        (RETIREMENT, OLD.root_pem, "no root that is trusted"),
        (ANNOUNCEMENT, NEW.root_pem, "no root that is trusted"),
        (stated(OLD, {"serial": 1, "roots": [NEW.root_pem]}), OLD.root_pem, "not among its roots"),
        (stated(OLD, {"serial": 1, "roots": [OLD.root_pem] * 2}), OLD.root_pem, "twice"),
        (stated(OLD, {"serial": 1, "roots": [OLD.root_pem] * 3}), OLD.root_pem, "1 to 2"),
        (stated(OLD, {"serial": 1, "roots": []}), OLD.root_pem, "1 to 2"),
        (stated(OLD, {"serial": 1, "roots": "all"}), OLD.root_pem, "1 to 2"),
        (stated(OLD, {"serial": 1, "roots": [OLD.root_pem, 7]}), OLD.root_pem, "no certificate"),
        (stated(OLD, {"serial": 1, "roots": [OLD.root_pem, "x"]}), OLD.root_pem, "damaged"),
        (
            stated(OLD, {"serial": 1, "roots": [OLD.root_pem, NEW.management_ca_pem]}),
            OLD.root_pem,
            "no root: it must be a self-signed CA",
        ),
        (stated(OLD, {"serial": 0, "roots": [OLD.root_pem]}), OLD.root_pem, "no number"),
        (stated(OLD, {"serial": True, "roots": [OLD.root_pem]}), OLD.root_pem, "no number"),
        (stated(OLD, {"serial": 2**60, "roots": [OLD.root_pem]}), OLD.root_pem, "no number"),
        (stated(OLD, [1]), OLD.root_pem, "no number"),
        (stated(OLD, {"serial": 1}, typ="event+jws"), OLD.root_pem, "another kind"),
        ("", OLD.root_pem, "signature or form"),
        ("a.b.c", OLD.root_pem, "signature or form|damaged"),
        ("ä.b.c", OLD.root_pem, "damaged"),
        ("x" * (STATEMENT_CHARACTERS_MAX + 1), OLD.root_pem, "larger than"),
    ],
)
def test_what_no_trusted_root_has_said_is_refused(statement: str, trusted: str, cause: str) -> None:
    with pytest.raises(RootsRefusedError, match=cause):
        verify_roots(statement, trusted, NOW)


def test_a_statement_signed_with_another_key_is_refused() -> None:
    forged = sign_roots(new_private_key(), root_of(OLD), [root_of(OLD), root_of(FOREIGN)], 1)
    with pytest.raises(RootsRefusedError, match="signature"):
        verify_roots(forged, OLD.root_pem, NOW)


def test_no_algorithm_is_no_signature() -> None:
    header, payload, _ = ANNOUNCEMENT.split(".")
    fields = json.loads(base64.urlsafe_b64decode(header + "=="))
    unsigned = json.dumps({**fields, "alg": "none"}).encode()
    bare = base64.urlsafe_b64encode(unsigned).decode().rstrip("=")
    for signature in ("", "AAAA"):
        with pytest.raises(RootsRefusedError):
            verify_roots(f"{bare}.{payload}.{signature}", OLD.root_pem, NOW)


def test_an_event_signer_says_nothing_about_roots() -> None:
    key = new_private_key()
    issued = OLD.issue(Profile.EVENT_SIGNER, key.public_key(), "event signer", NOW)
    payload = json.dumps({"serial": 1, "roots": [OLD.root_pem, FOREIGN.root_pem]}).encode()
    fields = {"alg": "ES256", "typ": TYPE, "kid": thumbprint(issued.certificate)}
    with pytest.raises(RootsRefusedError, match="no root that is trusted"):
        verify_roots(jws.serialize_compact(fields, payload, ECKey(key, key)), OLD.root_pem, NOW)


def test_a_root_that_has_ended_says_nothing() -> None:
    with pytest.raises(RootsRefusedError, match="not valid now"):
        verify_roots(ANNOUNCEMENT, OLD.root_pem, NOW + timedelta(days=21 * 365))
    with pytest.raises(RootsRefusedError, match="not valid now"):
        verify_roots(ANNOUNCEMENT, OLD.root_pem, NOW - timedelta(days=1))


def test_a_root_whose_key_is_kept_elsewhere_cannot_sign() -> None:
    files = OLD.to_files(PASSWORD)
    del files["root-key.pem"]
    with pytest.raises(DamagedTrustError, match=r"root-key\.pem is missing"):
        TrustChain.from_files(files, PASSWORD).state_roots(1, NEW)


def test_the_chains_of_one_hub_have_different_names() -> None:
    assert root_of(OLD).subject != root_of(NEW).subject


@given(st.integers(0, len(ANNOUNCEMENT) - 1), st.characters(codec="ascii"))
def test_a_damaged_statement_is_refused_or_the_same(place: int, character: str) -> None:
    damaged = ANNOUNCEMENT[:place] + character + ANNOUNCEMENT[place + 1 :]
    try:
        roots = verify_roots(damaged, OLD.root_pem, NOW)
    except RootsRefusedError:
        return
    # The last digit of base64 may carry bits that mean nothing.
    assert roots == verify_roots(ANNOUNCEMENT, OLD.root_pem, NOW)
