import base64
from datetime import datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import pkcs7
from hypothesis import given, settings
from hypothesis import strategies as st

from certs.chain import TrustChain
from certs.enrolment import (
    EnrolmentDamagedError,
    chain_for,
    decode_certs_only,
    decode_request_body,
    encode_certs_only,
    encode_request_body,
)
from certs.identity import (
    RequestRefusedError,
    certificate_request,
    check_request,
    load_certificate,
    new_private_key,
)
from certs.profiles import Profile


def test_certificates_survive_the_network(trust: TrustChain, now: datetime) -> None:
    key = new_private_key()
    issued = trust.issue(Profile.PROVIDER_MANAGEMENT, key.public_key(), "tokyo", now)
    answer = encode_certs_only([issued.chain_pem, trust.root_pem])
    certificates = decode_certs_only(answer)
    assert len(certificates) == 3
    assert load_certificate(trust.root_pem.encode()) in certificates
    assert chain_for(certificates, key.public_key()) == issued.chain_pem


def test_an_answer_for_another_key_is_refused(trust: TrustChain, now: datetime) -> None:
    issued = trust.issue(Profile.PROVIDER_MANAGEMENT, new_private_key().public_key(), "tokyo", now)
    certificates = decode_certs_only(encode_certs_only([issued.chain_pem]))
    with pytest.raises(EnrolmentDamagedError, match="no certificate for the key"):
        chain_for(certificates, new_private_key().public_key())


def test_an_answer_without_certificates_is_refused() -> None:
    # ContentInfo{signedData{v1, {}, {data}, certificates absent, {}}}: well-formed, and empty.
    empty = bytes.fromhex(
        "302306092a864886f70d010702a01630140201013100300b06092a864886f70d0107013100"
    )
    with pytest.raises(EnrolmentDamagedError):
        decode_certs_only(base64.b64encode(empty))


def test_an_answer_with_too_many_certificates_is_refused(trust: TrustChain) -> None:
    roots = [trust.root_pem, trust.service_ca_pem, trust.management_ca_pem] * 3
    with pytest.raises(EnrolmentDamagedError, match="holds 9"):
        decode_certs_only(encode_certs_only(roots))


def test_a_request_survives_the_network() -> None:
    request = certificate_request(new_private_key(), "tokyo")
    body = encode_request_body(request)
    assert b"\n" in body
    der = decode_request_body(body)
    assert check_request(der) == x509.load_pem_x509_csr(request)
    assert decode_request_body(base64.b64encode(der)) == der


@pytest.mark.parametrize("body", [b"!", b"AAA", b"x" * 50_000, b"\xff\xfe"])
def test_a_body_that_is_not_base64_is_refused(body: bytes) -> None:
    with pytest.raises(RequestRefusedError):
        decode_request_body(body)


def test_a_huge_answer_is_refused_unread() -> None:
    with pytest.raises(EnrolmentDamagedError, match="larger"):
        decode_certs_only(b"A" * 100_000)


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=400), st.booleans())
def test_arbitrary_bytes_are_no_answer(data: bytes, encoded: bool) -> None:
    with pytest.raises(EnrolmentDamagedError):
        decode_certs_only(base64.b64encode(data) if encoded else data)


@settings(deadline=None, max_examples=300)
@given(data=st.data())
def test_a_mutated_answer_is_certificates_or_refused(
    trust: TrustChain, data: st.DataObject
) -> None:
    root = load_certificate(trust.root_pem.encode())
    der = bytearray(pkcs7.serialize_certificates([root], serialization.Encoding.DER))
    for _ in range(data.draw(st.integers(1, 4))):
        der[data.draw(st.integers(0, len(der) - 1))] = data.draw(st.integers(0, 255))
    try:
        certificates = decode_certs_only(base64.b64encode(bytes(der)))
    except EnrolmentDamagedError:
        return
    assert all(isinstance(each, x509.Certificate) for each in certificates)


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=400))
def test_arbitrary_bodies_are_refused_somewhere(data: bytes) -> None:
    with pytest.raises(RequestRefusedError):
        check_request(decode_request_body(data))
