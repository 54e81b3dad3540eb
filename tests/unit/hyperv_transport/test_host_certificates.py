"""What a certificate must be to stand for a Hyper-V host."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import cache

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from vmm_simulator.hyperv.host_certificates import (
    UnfitCertificateError,
    host_names,
    require_chain,
    require_host,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
HOST = "host1.tokyo.example"
BROKER = "broker.tokyo.example"
BOTH = (ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH)


@cache
def key(name: str) -> ec.EllipticCurvePrivateKey:
    """Return a key, the same for the same name."""
    del name
    return ec.generate_private_key(ec.SECP256R1())


def certificate(
    *,
    common_name: str | None = None,
    names: Sequence[str] = (),
    usages: Sequence[x509.ObjectIdentifier] = BOTH,
    days: tuple[int, int] = (-1, 1),
    issuer: str = "authority",
) -> x509.Certificate:
    """Return a certificate of a host, or of what calls itself one."""
    subject = [] if common_name is None else [x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name(subject))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key("host").public_key())
        .serial_number(7)
        .not_valid_before(NOW + timedelta(days=days[0]))
        .not_valid_after(NOW + timedelta(days=days[1]))
    )
    if names:
        alternative = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
        builder = builder.add_extension(alternative, critical=False)
    if usages:
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    return builder.sign(key(issuer), hashes.SHA256())


def authority(name: str) -> x509.Certificate:
    """Return the authority of that name."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority")])
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key(name).public_key())
        .serial_number(1)
        .not_valid_before(NOW - timedelta(days=9))
        .not_valid_after(NOW + timedelta(days=9))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key(name), hashes.SHA256())
    )


@pytest.mark.parametrize(
    "fit",
    [
        certificate(names=[HOST]),
        certificate(common_name=HOST),
        certificate(common_name="other", names=["x.example", HOST.upper()]),
        certificate(common_name=HOST, names=["x.example"]),
        certificate(names=[HOST], usages=(*BOTH, ExtendedKeyUsageOID.CODE_SIGNING)),
    ],
)
def test_name_and_both_usages_make_a_host(fit: x509.Certificate) -> None:
    require_host(fit, [HOST], NOW)


@pytest.mark.parametrize(
    ("unfit", "why"),
    [
        (certificate(names=["host2.tokyo.example"]), "names another host"),
        (certificate(names=["*.tokyo.example"]), "names another host"),
        (certificate(), "names another host: nobody"),
        (certificate(names=[HOST], days=(-2, -1)), "valid from"),
        (certificate(names=[HOST], days=(1, 2)), "valid from"),
        (certificate(names=[HOST], usages=BOTH[:1]), "not for server authentication"),
        (certificate(names=[HOST], usages=BOTH[1:]), "not for client authentication"),
        (certificate(names=[HOST], usages=()), "client authentication and server"),
        (
            certificate(names=[HOST], usages=(ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,)),
            "client authentication and server",
        ),
    ],
)
def test_an_unfit_certificate_is_refused_with_its_reason(unfit: x509.Certificate, why: str) -> None:
    with pytest.raises(UnfitCertificateError, match=why):
        require_host(unfit, [HOST], NOW)


def test_a_node_of_a_cluster_stands_for_its_broker_too() -> None:
    require_host(certificate(names=[HOST, BROKER]), [HOST, BROKER], NOW)
    with pytest.raises(UnfitCertificateError, match=f"instead of {BROKER}"):
        require_host(certificate(names=[HOST]), [HOST, BROKER], NOW)


def test_names_are_told_once_dns_names_first() -> None:
    found = host_names(certificate(common_name=HOST, names=["b.example", HOST.upper()]))
    assert found == ("b.example", HOST)


def test_a_foreign_authority_of_the_same_name_is_noticed() -> None:
    leaf = certificate(names=[HOST])
    require_chain([leaf], authority("authority"))
    require_chain([leaf, authority("authority")], authority("authority"))
    with pytest.raises(UnfitCertificateError, match="not issued by the authority"):
        require_chain([leaf], authority("foreign"))
    with pytest.raises(UnfitCertificateError, match="not issued by the authority"):
        require_chain([leaf, authority("authority")], authority("foreign"))
