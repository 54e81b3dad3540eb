from datetime import datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from certs.identity import (
    REQUEST_BYTES_MAX,
    CertificateDamagedError,
    KeyDamagedError,
    RequestRefusedError,
    certificate_pem,
    certificate_request,
    check_request,
    common_name,
    load_certificate,
    load_private_key,
    name_of,
    new_private_key,
    private_key_pem,
    self_signed_certificate,
    thumbprint,
)

REQUEST = certificate_request(new_private_key(), "TOKYO", ["tokyo.example"])
REQUEST_DER = x509.load_pem_x509_csr(REQUEST).public_bytes(serialization.Encoding.DER)


@pytest.mark.parametrize("password", [None, b"a password"])
def test_a_key_survives_being_written_and_read(password: bytes | None) -> None:
    key = new_private_key()
    assert load_private_key(private_key_pem(key, password), password).public_key() == (
        key.public_key()
    )


@pytest.mark.parametrize(
    ("written_with", "read_with"), [(b"right", b"wrong"), (b"right", None), (None, b"surplus")]
)
def test_a_key_does_not_open_with_another_password(
    written_with: bytes | None, read_with: bytes | None
) -> None:
    pem = private_key_pem(new_private_key(), written_with)
    with pytest.raises(KeyDamagedError):
        load_private_key(pem, read_with)


@pytest.mark.parametrize(
    "pem", [b"", b"nonsense", b"-----BEGIN PRIVATE KEY-----\nAAAA\n", b"x" * 20_000]
)
def test_a_damaged_key_is_named(pem: bytes) -> None:
    with pytest.raises(KeyDamagedError):
        load_private_key(pem)


def test_a_key_of_another_kind_is_refused() -> None:
    pem = ed25519.Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    with pytest.raises(KeyDamagedError, match="neither EC nor RSA"):
        load_private_key(pem)


@pytest.mark.parametrize("form", [REQUEST, REQUEST_DER])
def test_a_good_request_is_accepted_in_both_forms(form: bytes) -> None:
    assert check_request(form).subject == name_of("TOKYO")


def test_a_request_with_a_foreign_signature_is_refused() -> None:
    # The signature is the last part of the DER form.
    damaged = REQUEST_DER[:-1] + bytes([REQUEST_DER[-1] ^ 1])
    with pytest.raises(RequestRefusedError):
        check_request(damaged)


def test_a_request_with_a_weak_key_is_refused() -> None:
    weak = rsa.generate_private_key(65537, 1024)  # noqa: S505 -- the weak key is the point
    with pytest.raises(RequestRefusedError, match="weaker than RSA 2048"):
        check_request(certificate_request(weak, "TOKYO"))


def test_a_request_on_a_small_curve_is_refused() -> None:
    weak = ec.generate_private_key(ec.SECP224R1())
    with pytest.raises(RequestRefusedError, match="secp224r1"):
        check_request(certificate_request(weak, "TOKYO"))


def test_a_request_of_another_key_kind_is_refused() -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    request = x509.CertificateSigningRequestBuilder().subject_name(name_of("T")).sign(key, None)
    with pytest.raises(RequestRefusedError, match="neither EC nor RSA"):
        check_request(request.public_bytes(serialization.Encoding.DER))


def test_a_huge_request_is_refused_unread() -> None:
    with pytest.raises(RequestRefusedError, match=str(REQUEST_BYTES_MAX)):
        check_request(b"-----BEGIN " + b"A" * REQUEST_BYTES_MAX)


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=600))
def test_arbitrary_bytes_are_refused_as_a_request(data: bytes) -> None:
    with pytest.raises(RequestRefusedError):
        check_request(data)


@settings(deadline=None, max_examples=300)
@given(st.integers(0, len(REQUEST_DER) - 1), st.integers(1, 255))
def test_a_request_with_any_changed_byte_is_refused(position: int, change: int) -> None:
    damaged = bytearray(REQUEST_DER)
    damaged[position] ^= change
    with pytest.raises(RequestRefusedError):
        check_request(bytes(damaged))


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=600))
def test_arbitrary_bytes_are_no_certificate(data: bytes) -> None:
    with pytest.raises(CertificateDamagedError):
        load_certificate(data)


def test_a_self_signed_certificate_is_a_leaf_with_its_name(now: datetime) -> None:
    key = new_private_key()
    certificate = self_signed_certificate(key, "CB_vault", now, now + timedelta(hours=120))
    assert common_name(certificate) == "CB_vault"
    assert certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
    certificate.verify_directly_issued_by(certificate)
    assert load_certificate(certificate_pem(certificate).encode()) == certificate


def test_a_thumbprint_is_the_sha256_of_the_der_form(now: datetime) -> None:
    certificate = self_signed_certificate(new_private_key(), "x", now, now + timedelta(days=1))
    digest = hashes.Hash(hashes.SHA256())
    digest.update(certificate.public_bytes(serialization.Encoding.DER))
    assert thumbprint(certificate) == digest.finalize().hex()


def test_two_common_names_are_none(now: datetime) -> None:
    key = new_private_key()
    twice = x509.Name([*name_of("a"), *name_of("b")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(twice)
        .issuer_name(twice)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    assert common_name(certificate) == ""


def test_what_the_library_only_warns_of_is_refused(now: datetime) -> None:
    key = new_private_key()
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name_of("a"))
        .issuer_name(name_of("a"))
        .public_key(key.public_key())
        .serial_number(0x123456789ABC)
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    der = bytearray(certificate.public_bytes(serialization.Encoding.DER))
    der[der.index(bytes.fromhex("123456789ABC"))] |= 0x80  # negative: RFC 5280 forbids it
    with pytest.raises(CertificateDamagedError, match="serial number"):
        load_certificate(bytes(der))
