"""Real handshakes, in memory where no transport is needed: who is let in, and who is not.

Over 400 lines because every pair of certificate and listener has its own line here.
"""

import asyncio
import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given, settings
from hypothesis import strategies as st

from certs.chain import TrustChain
from certs.identity import (
    certificate_pem,
    name_of,
    new_private_key,
    private_key_pem,
    self_signed_certificate,
    thumbprint,
)
from certs.profiles import Profile
from certs.tls import (
    TlsMaterialError,
    UploadRefusedError,
    check_uploaded_certificate,
    client_context,
    load_certificate_chain,
    peer_certificate,
    provider_listener_context,
    server_context,
    trust_uploaded_certificate,
)

# TLS compares with the real clock; certificates begin a little earlier by themselves.
NOW = datetime.now(UTC)
TRUST = TrustChain.create(NOW, "Contoso")
HUB = "hub.example"
ROUNDS_MAX = 10


class Identity:
    """A key with its chain, as TLS takes them."""

    def __init__(self, profile: Profile, name: str, trust: TrustChain = TRUST) -> None:
        key = new_private_key()
        issued = trust.issue(profile, key.public_key(), name, NOW, dns_names=[name])
        self.chain_pem = issued.chain_pem
        self.certificate = issued.certificate
        self.key_pem = private_key_pem(key)

    def client(self) -> ssl.SSLContext:
        """Return a context that presents this identity to the hub."""
        return client_context(TRUST.root_pem, chain_pem=self.chain_pem, key_pem=self.key_pem)


SERVER = Identity(Profile.HUB_SERVER, HUB)
PROVIDER = Identity(Profile.PROVIDER_MANAGEMENT, "tokyo")
REGISTRATION = Identity(Profile.VAULT_REGISTRATION, "vault")


def _handshake(
    server: ssl.SSLContext, client: ssl.SSLContext, name: str = HUB
) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """Return both ends after a handshake and one byte each way, or raise what the loser raised."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server_end = server.wrap_bio(to_server, to_client, server_side=True)
    client_end = client.wrap_bio(to_client, to_server, server_hostname=name)
    for _ in range(ROUNDS_MAX):
        done = [_step(end) for end in (client_end, server_end)]
        if all(done):
            # With TLS 1.3 a client learns only now that the server refused its certificate.
            server_end.write(b"s")
            assert client_end.read(1) == b"s"
            return server_end, client_end
    raise AssertionError("the handshake did not end")


def _step(end: ssl.SSLObject) -> bool:
    try:
        end.do_handshake()
    except ssl.SSLWantReadError:
        return False
    return True


def _mutual() -> ssl.SSLContext:
    return server_context(
        SERVER.chain_pem,
        SERVER.key_pem,
        client_ca_pems=[TRUST.management_ca_pem],
        require_client=True,
    )


def _provider_listener() -> ssl.SSLContext:
    return provider_listener_context(
        SERVER.chain_pem, SERVER.key_pem, TRUST.management_ca_pem, TRUST.registration_ca_pem
    )


def _uploaded(
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | None = None,
    *,
    begin: datetime = NOW - timedelta(minutes=5),
    end: datetime = NOW + timedelta(hours=120),
) -> tuple[x509.Certificate, ssl.SSLContext]:
    key = key or new_private_key()
    certificate = self_signed_certificate(key, "CB_vault", begin, end)
    pem = certificate_pem(certificate)
    return certificate, client_context(TRUST.root_pem, chain_pem=pem, key_pem=private_key_pem(key))


def test_the_server_sees_the_clients_certificate() -> None:
    server_end, client_end = _handshake(_mutual(), PROVIDER.client())
    assert peer_certificate(server_end) == PROVIDER.certificate
    assert peer_certificate(client_end) == SERVER.certificate
    assert client_end.version() == "TLSv1.3"


def test_a_client_without_certificate_is_refused_where_one_is_required() -> None:
    with pytest.raises(ssl.SSLError):
        _handshake(_mutual(), client_context(TRUST.root_pem))


@pytest.mark.parametrize(
    "profile", [Profile.VAULT_REGISTRATION, Profile.OPERATOR, Profile.HYPERV_HOST]
)
def test_a_certificate_of_another_authority_of_the_same_root_is_refused(profile: Profile) -> None:
    with pytest.raises(ssl.SSLError):
        _handshake(_mutual(), Identity(profile, "x").client())


def test_a_certificate_of_another_hub_is_refused() -> None:
    other = Identity(Profile.PROVIDER_MANAGEMENT, "tokyo", TrustChain.create(NOW, "Contoso"))
    with pytest.raises(ssl.SSLError):
        _handshake(_mutual(), other.client())


def test_a_server_of_another_hub_is_refused() -> None:
    other = TrustChain.create(NOW, "Contoso")
    with pytest.raises(ssl.SSLCertVerificationError):
        _handshake(_mutual(), client_context(other.root_pem))


def test_a_server_of_another_name_is_refused() -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="other"):
        _handshake(_mutual(), PROVIDER.client(), "other.example")


def test_a_client_certificate_cannot_pose_as_a_server() -> None:
    impostor = Identity(Profile.OPERATOR, HUB)
    with pytest.raises(ssl.SSLCertVerificationError):
        _handshake(
            server_context(impostor.chain_pem, impostor.key_pem), client_context(TRUST.root_pem)
        )


def test_the_old_protocol_versions_are_off() -> None:
    for context in (_mutual(), _provider_listener(), PROVIDER.client()):
        assert context.minimum_version is ssl.TLSVersion.TLSv1_2


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_no_session_ticket_is_given(version: ssl.TLSVersion) -> None:
    client = PROVIDER.client()
    client.maximum_version = version
    _, client_end = _handshake(_mutual(), client)
    assert client_end.session is None or not client_end.session.has_ticket


@pytest.mark.parametrize("identity", [PROVIDER, REGISTRATION], ids=["management", "registration"])
def test_the_provider_listener_takes_both_kinds(identity: Identity) -> None:
    server_end, _ = _handshake(_provider_listener(), identity.client())
    assert peer_certificate(server_end) == identity.certificate


def test_the_provider_listener_takes_no_certificate_at_all() -> None:
    server_end, _ = _handshake(_provider_listener(), client_context(TRUST.root_pem))
    assert peer_certificate(server_end) is None


def test_the_provider_listener_refuses_operators_and_hosts() -> None:
    for profile in (Profile.OPERATOR, Profile.HYPERV_HOST):
        with pytest.raises(ssl.SSLError):
            _handshake(_provider_listener(), Identity(profile, "x").client())


@pytest.mark.parametrize("kind", ["EC", "RSA"])
def test_an_uploaded_certificate_is_accepted_from_its_upload_on(kind: str) -> None:
    key = new_private_key() if kind == "EC" else rsa.generate_private_key(65537, 2048)
    certificate, client = _uploaded(key)
    listener = _provider_listener()
    with pytest.raises(ssl.SSLError):
        _handshake(listener, client)
    for _ in range(2):  # an upload may be repeated
        checked = check_uploaded_certificate(certificate.public_bytes(serialization.Encoding.DER))
        trust_uploaded_certificate(listener, checked)
        server_end, _ = _handshake(listener, client)
        peer = peer_certificate(server_end)
        assert peer is not None
        assert thumbprint(peer) == thumbprint(certificate)
    _handshake(listener, PROVIDER.client())


def test_uploads_of_before_are_trusted_from_the_start() -> None:
    certificate, client = _uploaded()
    listener = provider_listener_context(
        SERVER.chain_pem,
        SERVER.key_pem,
        TRUST.management_ca_pem,
        TRUST.registration_ca_pem,
        [certificate_pem(certificate)],
    )
    _handshake(listener, client)


def test_an_uploaded_certificate_vouches_for_nobody_else() -> None:
    key = new_private_key()
    certificate, _ = _uploaded(key)
    listener = _provider_listener()
    trust_uploaded_certificate(listener, certificate)
    child_key = new_private_key()
    child = (
        x509.CertificateBuilder()
        .subject_name(name_of("child"))
        .issuer_name(certificate.subject)
        .public_key(child_key.public_key())
        .serial_number(7)
        .not_valid_before(NOW - timedelta(minutes=5))
        .not_valid_after(NOW + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    client = client_context(
        TRUST.root_pem,
        chain_pem=certificate_pem(child) + certificate_pem(certificate),
        key_pem=private_key_pem(child_key),
    )
    with pytest.raises(ssl.SSLError):
        _handshake(listener, client)


def test_a_twin_of_an_uploaded_certificate_is_refused() -> None:
    certificate, _ = _uploaded()
    _, twin = _uploaded()  # the same subject, another key
    listener = _provider_listener()
    trust_uploaded_certificate(listener, certificate)
    with pytest.raises(ssl.SSLError):
        _handshake(listener, twin)


def test_an_expired_upload_is_refused_by_tls_too() -> None:
    certificate, client = _uploaded(begin=NOW - timedelta(days=2), end=NOW - timedelta(days=1))
    listener = _provider_listener()
    trust_uploaded_certificate(listener, certificate)
    with pytest.raises(ssl.SSLError):
        _handshake(listener, client)


def _self_signed(
    *extensions: x509.ExtensionType, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
) -> bytes:
    builder = (
        x509.CertificateBuilder()
        .subject_name(name_of("CB_vault"))
        .issuer_name(name_of("CB_vault"))
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW)
        .not_valid_after(NOW + timedelta(days=5))
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    certificate = builder.sign(key, hashes.SHA256())
    return certificate.public_bytes(serialization.Encoding.PEM)


def _usage(*, signs: bool = False, certificates: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=signs,
        content_commitment=False,
        key_encipherment=not signs,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=certificates,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )


SMALL_RSA = rsa.generate_private_key(65537, 1024)  # noqa: S505 -- the weak key is the point
# Self-signed, P-256, made with `openssl x509 -req -signkey`: the library writes version 3 only.
VERSION_ONE = b"""-----BEGIN CERTIFICATE-----
MIIBIzCByQIUT505bhf+LudaiSStsrRbEt/dcfkwCgYIKoZIzj0EAwIwEzERMA8G
A1UEAwwIQ0JfdmF1bHQwIBcNMjYxMTIzMDI0MzAxWhgPMjEyNjEwMzAwMjQzMDFa
MBMxETAPBgNVBAMMCENCX3ZhdWx0MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE
d4EVkRXNgCmLq5EMnGDkitp8hAepOt6wywcJkK5/oGGvP2MYaj9dD3k1KTWSPSXx
MwM6Ah9mbnvUbiSa3oA56zAKBggqhkjOPQQDAgNJADBGAiEA7gdLM6Ag4YJXUFSp
LAZk1r2wp2mmAyr3TAw8QGePE3cCIQCpt2yH7jYL5GOrzJN1JkSNnris+RZgr5oj
gQ5AfIFP+A==
-----END CERTIFICATE-----
"""
REFUSED_UPLOADS: dict[str, Callable[[], bytes]] = {
    "certificate authority": lambda: _self_signed(
        x509.BasicConstraints(ca=True, path_length=None), key=new_private_key()
    ),
    "signing certificates": lambda: _self_signed(
        _usage(signs=True, certificates=True), key=new_private_key()
    ),
    "digital signatures": lambda: _self_signed(_usage(), key=new_private_key()),
    "client authentication": lambda: _self_signed(
        x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), key=new_private_key()
    ),
    "weaker than RSA 2048": lambda: _self_signed(key=SMALL_RSA),
    "secp224r1": lambda: _self_signed(key=ec.generate_private_key(ec.SECP224R1())),
    "Netscape": lambda: _self_signed(
        x509.UnrecognizedExtension(
            x509.ObjectIdentifier("2.16.840.1.113730.1.1"), bytes.fromhex("03020204")
        ),
        key=new_private_key(),
    ),
    "version 3": lambda: VERSION_ONE,
    "refused": lambda: b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    "larger": lambda: b"x" * 20_000,
}


@pytest.mark.parametrize("complaint", list(REFUSED_UPLOADS))
def test_an_upload_that_must_not_be_an_anchor_is_refused(complaint: str) -> None:
    with pytest.raises(UploadRefusedError, match=complaint):
        check_uploaded_certificate(REFUSED_UPLOADS[complaint]())


@settings(deadline=None, max_examples=300)
@given(position=st.integers(0, 10_000), change=st.integers(1, 255))
def test_a_mutated_upload_is_a_leaf_or_refused(position: int, change: int) -> None:
    damaged = bytearray(REGISTRATION.certificate.public_bytes(serialization.Encoding.DER))
    damaged[position % len(damaged)] ^= change
    try:
        certificate = check_uploaded_certificate(bytes(damaged))
    except UploadRefusedError:
        return
    for extension in certificate.extensions:
        assert not (isinstance(extension.value, x509.BasicConstraints) and extension.value.ca)


def test_an_authority_is_never_added_to_a_live_context() -> None:
    authority = x509.load_pem_x509_certificate(TRUST.service_ca_pem.encode())
    with pytest.raises(UploadRefusedError):
        trust_uploaded_certificate(_provider_listener(), authority)


def test_a_live_context_takes_a_renewed_certificate() -> None:
    listener = _mutual()
    renewed = Identity(Profile.HUB_SERVER, HUB)
    load_certificate_chain(listener, renewed.chain_pem, renewed.key_pem)
    _, client_end = _handshake(listener, PROVIDER.client())
    assert peer_certificate(client_end) == renewed.certificate


@pytest.mark.parametrize(
    ("chain_pem", "key_pem"),
    [
        (SERVER.chain_pem, PROVIDER.key_pem),
        ("nonsense", SERVER.key_pem),
        (SERVER.chain_pem, b""),
        (SERVER.chain_pem, private_key_pem(new_private_key(), b"password")),
    ],
    ids=["foreign key", "no chain", "no key", "encrypted key"],
)
def test_unusable_material_is_named_and_never_asks_on_a_terminal(
    chain_pem: str, key_pem: bytes
) -> None:
    with pytest.raises(TlsMaterialError, match="private key"):
        server_context(chain_pem, key_pem)


def test_a_damaged_authority_is_named() -> None:
    with pytest.raises(TlsMaterialError, match="authority"):
        client_context("nonsense")


def test_half_a_client_identity_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="both"):
        client_context(TRUST.root_pem, chain_pem=PROVIDER.chain_pem)
    with pytest.raises(ValueError, match="refuse everybody"):
        server_context(SERVER.chain_pem, SERVER.key_pem, require_client=True)


@pytest.mark.parametrize("loop_factory", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_the_peer_is_known_from_a_transport_of_either_loop(
    loop_factory: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    async def talk() -> list[x509.Certificate | None]:
        seen: asyncio.Queue[x509.Certificate | None] = asyncio.Queue()

        async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            seen.put_nowait(peer_certificate(writer))
            seen.put_nowait(peer_certificate(writer.transport))
            writer.close()

        server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=_mutual())
        port = server.sockets[0].getsockname()[1]
        async with server, asyncio.timeout(30):
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", port, ssl=PROVIDER.client(), server_hostname=HUB
            )
            await reader.read()
            writer.close()
            return [await seen.get(), await seen.get()]

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        assert runner.run(talk()) == [PROVIDER.certificate, PROVIDER.certificate]


def test_a_plain_connection_has_no_peer_certificate() -> None:
    assert peer_certificate(object()) is None
