"""A session that is resumed shows no certificate: it would outlive the certificate's end."""

import ssl
from datetime import UTC, datetime

import pytest

from certs.chain import TrustChain
from certs.identity import common_name, new_private_key, private_key_pem
from certs.profiles import Profile
from certs.tls import client_context, peer_certificate, provider_listener_context, server_context

NOW = datetime.now(UTC)
TRUST = TrustChain.create(NOW, "Contoso")
HUB = "hub.example"
ROUNDS_MAX = 10


def _issued(profile: Profile, name: str) -> tuple[str, bytes]:
    key = new_private_key()
    names = [HUB] if profile is Profile.HUB_SERVER else []
    issued = TRUST.issue(profile, key.public_key(), name, NOW, dns_names=names)
    return issued.chain_pem, private_key_pem(key)


def _listener(port: str) -> ssl.SSLContext:
    chain_pem, key_pem = _issued(Profile.HUB_SERVER, HUB)
    management, registration = TRUST.management_ca_pem, TRUST.registration_ca_pem
    if port == "mqtt":
        return server_context(chain_pem, key_pem, client_ca_pems=[management], require_client=True)
    return provider_listener_context(chain_pem, key_pem, management, registration)


def _connect(
    listener: ssl.SSLContext, client: ssl.SSLContext, session: ssl.SSLSession | None
) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server_end = listener.wrap_bio(to_server, to_client, server_side=True)
    client_end = client.wrap_bio(to_client, to_server, server_hostname=HUB, session=session)
    waiting = [client_end, server_end]
    for _ in range(ROUNDS_MAX):
        waiting = [end for end in waiting if not _is_done(end)]
    assert not waiting
    # What a server has to say of sessions comes with its first bytes.
    server_end.write(b"s")
    assert client_end.read(1) == b"s"
    return server_end, client_end


def _is_done(end: ssl.SSLObject) -> bool:
    try:
        end.do_handshake()
    except ssl.SSLWantReadError:
        return False
    return True


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("port", ["providers", "mqtt"])
def test_a_resumed_session_shows_no_certificate(port: str, version: ssl.TLSVersion) -> None:
    listener = _listener(port)
    chain_pem, key_pem = _issued(Profile.PROVIDER_MANAGEMENT, "tokyo")
    client = client_context(TRUST.root_pem, chain_pem=chain_pem, key_pem=key_pem)
    client.maximum_version = version
    server_end, client_end = _connect(listener, client, None)
    certificate = peer_certificate(server_end)
    assert certificate is not None
    assert common_name(certificate) == "tokyo"
    again, client_again = _connect(listener, client, client_end.session)
    assert (peer_certificate(again) is None) is client_again.session_reused
    if version is ssl.TLSVersion.TLSv1_3:
        assert not client_again.session_reused
