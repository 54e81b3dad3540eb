"""What must not get in, over the real port: requests, tokens and keys that are wrong in one thing.

Each is followed by a good one, which is served.
"""

import base64
import json
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey

from certs.enrolment import chain_for, decode_certs_only
from certs.identity import name_of, new_private_key
from certs.tokens import issue_operator_token, issue_provider_token
from service_hub.domain.records import ManagementCertificate, RegistrationKey
from service_hub.ports.changes import Change, Delete, Save
from tests.support.trust_world import (
    ISSUER,
    VAULT_ID,
    VMM_ID,
    Answer,
    Server,
    TrustWorld,
    request_body,
    trust_world,
)
from wire_contract import paths
from wire_contract.reports import Heartbeat

BEAT = Heartbeat(boot_id="boot-1", last=None).model_dump_json().encode()


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[TrustWorld]:
    async with trust_world(tmp_path) as opened:
        yield opened


async def beat(world: TrustWorld, server: Server | None, token: str | None) -> Answer:
    return await world.call(paths.HEARTBEAT, server, BEAT, token)


# -------------------------------------------------------------------------- certificate requests


def weak_key() -> bytes:
    key = rsa.generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505 -- the point
    return signed(key)


def odd_curve() -> bytes:
    return signed(ec.generate_private_key(ec.SECP256K1()))


def bad_signature() -> bytes:
    der = bytearray(base64.b64decode(request_body(new_private_key(), VMM_ID)))
    der[-1] ^= 1
    return base64.encodebytes(bytes(der))


def signed(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    builder = x509.CertificateSigningRequestBuilder().subject_name(name_of(VMM_ID))
    der = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)
    return base64.encodebytes(der)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (weak_key, "weaker than RSA 2048"),
        (odd_curve, "curve"),
        (bad_signature, "signature"),
        (lambda: request_body(new_private_key(), "vmm.tokyo.test"), "GUID"),
        (lambda: base64.encodebytes(b"\x30\x03\x02\x01\x05"), "refused"),
    ],
)
async def test_a_bad_request_is_named_and_a_good_one_is_served_after_it(
    world: TrustWorld, make: Callable[[], bytes], words: str
) -> None:
    holder = await world.registration_key()
    answer = await world.call(paths.EST_SIMPLEENROLL, holder, make())
    assert answer.code == 400
    assert words in answer.content["message"]
    assert answer.content["remedy"]
    assert (await world.enrol(holder, new_private_key())).code == 200


async def test_a_revoked_or_expired_registration_key_enrols_nobody(world: TrustWorld) -> None:
    holder = await world.registration_key()
    found = await world.store.get(RegistrationKey, holder.thumbprint)
    assert found is not None
    for change in (
        {"revoked_at": datetime.now(UTC)},
        {"revoked_at": None, "expires_at": datetime.now(UTC)},
    ):
        record = found.record.model_copy(update=change)
        await world.committer.commit(Change(saves=(Save(record, None),)))
        answer = await world.enrol(holder, new_private_key())
        assert (answer.code, answer.content["code"]) == (403, "RegistrationKeyRefused")
        assert "new registration key" in answer.content["remedy"]
    await world.committer.commit(Change(saves=(Save(found.record, None),)))
    assert (await world.enrol(holder, new_private_key())).code == 200


# --------------------------------------------------------------------------------------- tokens


def without_signature(token: str) -> str:
    """Say algorithm none, and all else as the hub does."""
    first, claims, _ = token.split(".")
    said = json.loads(base64.urlsafe_b64decode(first + "=" * (-len(first) % 4)))
    header = base64.urlsafe_b64encode(json.dumps({**said, "alg": "none"}).encode())
    return f"{header.decode().rstrip('=')}.{claims}."


def claims_of(token: str) -> dict[str, object]:
    payload = token.split(".")[1]
    content: dict[str, object] = json.loads(
        base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))
    )
    return content


def key_confusion(token: str, public_key: ec.EllipticCurvePublicKey) -> str:
    """Sign with the public key as if it were a shared secret."""
    pem = public_key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    header = {
        "alg": "HS256",
        "typ": "provider+jwt",
        "kid": ECKey(public_key, public_key).thumbprint(),
    }
    secret = OctKey.import_key(base64.b64encode(pem))
    return jwt.encode(header, claims_of(token), secret, algorithms=["HS256"])


WORDS = {
    "of another server": "it is bound to another certificate",
    "without signature": "its algorithm is 'none', and only ES256 is taken",
    "key confusion": "its algorithm is 'HS256', and only ES256 is taken",
    "expired": "it has expired",
    "of another hub": "its claim iss is missing or wrong",
    "of a foreign key": "it is signed with a key that this hub does not know",
    "cut": "its signature does not hold",
    "an operator's": "it is a token for another purpose",
}
"""What each caller is told."""


async def test_no_token_but_the_servers_own_is_taken(world: TrustWorld) -> None:
    server = await world.registered()
    other = await world.registered("44444444-4444-4444-8444-444444444444")
    provider = await world.provider(server)
    good, now = await world.token(server), datetime.now(UTC)

    def issued(key: ec.EllipticCurvePrivateKey, moment: datetime, issuer: str = ISSUER) -> str:
        return issue_provider_token(
            key,
            issuer=issuer,
            provider_id=provider.id,
            vault_id=VAULT_ID,
            certificate=server.certificate,
            now=moment,
            lifetime=timedelta(hours=1),
        )

    hub_key = world.token_key
    bad = {
        "of another server": await world.token(other),
        "without signature": without_signature(good),
        "key confusion": key_confusion(good, hub_key.public_key()),
        "expired": issued(hub_key, now - timedelta(hours=2)),
        "of another hub": issued(hub_key, now, "https://other.test"),
        "of a foreign key": issued(new_private_key(), now),
        "cut": good[:-4],
        "an operator's": issue_operator_token(
            hub_key,
            issuer=ISSUER,
            principal=provider.id,
            role="Owner",
            now=now,
            lifetime=timedelta(hours=1),
            token_id="t",  # noqa: S106 -- an id, no secret
        ),
    }
    for what, token in bad.items():
        answer = await beat(world, server, token)
        assert answer.code == 401, what
        assert WORDS[what] in answer.content["message"], what
        assert answer.content["remedy"] == "Fetch a new access token.", what
        assert "Bearer" in answer.headers["WWW-Authenticate"], what
    alone = await beat(world, None, good)
    assert (alone.code, "needs a client certificate" in alone.content["message"]) == (401, True)
    bare = await beat(world, server, None)
    assert (bare.code, "needs an access token" in bare.content["message"]) == (401, True)
    assert (await beat(world, other, good)).code == 401, "a stolen token"
    assert (await beat(world, server, good)).code == 200


async def test_a_certificate_that_is_no_good_is_refused_in_its_own_words(
    world: TrustWorld,
) -> None:
    server = await world.registered()
    found = await world.store.get(ManagementCertificate, server.thumbprint)
    assert found is not None
    token, now = await world.token(server), datetime.now(UTC)
    for change, words in (
        ({"revoked_at": now}, "This server's certificate was revoked at "),
        ({"expires_at": now}, "This server's certificate expired at "),
    ):
        record = found.record.model_copy(update=change)
        await world.committer.commit(Change(saves=(Save(record, None),)))
        answer = await beat(world, server, token)
        assert (answer.code, answer.content["code"]) == (403, "CertificateRefused")
        assert words in answer.content["message"]
        assert "Register the server again" in answer.content["remedy"]
    await world.committer.commit(Change(deletes=(Delete(ManagementCertificate, found.record.id),)))
    answer = await beat(world, server, token)
    assert "it was never registered, or was unregistered" in answer.content["message"]
    await world.committer.commit(Change(saves=(Save(found.record, None),)))
    assert (await beat(world, server, token)).code == 200


@pytest.mark.parametrize("hours", [-1, 1])
async def test_a_hub_whose_clock_is_an_hour_off_refuses_what_it_must(
    world: TrustWorld, hours: int
) -> None:
    """A token of the right time is over an hour later; one from the future is none yet."""
    server = await world.registered()
    token = await world.token(server)
    world.clock.ahead = timedelta(hours=hours, minutes=2 * hours)
    answer = await beat(world, server, token)
    assert answer.code == 401
    # It asks for another one, as the provider does by itself, and goes on.
    assert (await beat(world, server, await world.token(server))).code == 200
    world.clock.ahead = timedelta(0)


async def test_an_enrolled_server_that_never_registered_may_only_register(
    world: TrustWorld,
) -> None:
    key = new_private_key()
    answer = await world.enrol(await world.registration_key(), key)
    assert answer.code == 200
    server = Server(key, chain_for(decode_certs_only(answer.body), key.public_key()))
    token = await world.token(server)
    assert (await beat(world, server, token)).content["code"] == "NotRegistered"
    await world.register(server)
    assert (await beat(world, server, token)).code == 200
