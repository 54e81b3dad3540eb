"""What is remembered of peers' certificates: what their bytes say, and of so many."""

from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives import serialization

from certs.chain import TrustChain
from certs.identity import certificate_pem, common_name, new_private_key, thumbprint
from certs.peers import PeerCertificates
from certs.profiles import Profile

NAMES = [f"{number:08x}-0000-4000-8000-000000000000" for number in range(4)]


def test_it_says_what_the_certificate_says_and_remembers_the_last_ones() -> None:
    chain = TrustChain.create(datetime.now(UTC), "Tests")
    peers = PeerCertificates(peers_max=3)
    ders = []
    for name in NAMES:
        certificate = chain.issue(
            Profile.PROVIDER_MANAGEMENT, new_private_key().public_key(), name, datetime.now(UTC)
        ).certificate
        der = certificate.public_bytes(serialization.Encoding.DER)
        ders.append(der)
        read = peers.read(der)
        assert read.common_name == common_name(certificate) == name
        assert read.thumbprint == thumbprint(certificate)
        assert read.pem == certificate_pem(certificate)
        assert read.not_valid_after == certificate.not_valid_after_utc
        assert peers.read(der) is read
    assert len(peers._known) == 3
    assert peers.read(ders[0]).common_name == NAMES[0]


def test_what_is_no_certificate_is_refused_and_not_remembered() -> None:
    peers = PeerCertificates()
    for foreign in (b"", b"\x30", b"\x00" * 1000):
        with pytest.raises(ValueError, match=r"\S"):
            peers.read(foreign)
    assert not peers._known


def test_a_plain_connection_has_none() -> None:
    assert PeerCertificates().of(object()) is None
