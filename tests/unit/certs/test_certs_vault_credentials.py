import base64
from dataclasses import replace
from datetime import datetime

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import pkcs12
from hypothesis import given, settings
from hypothesis import strategies as st

from certs.chain import TrustChain
from certs.identity import load_certificate, new_private_key
from certs.profiles import Profile
from certs.vault_credentials import (
    CREDENTIALS_BYTES_MAX,
    NAMESPACE,
    CredentialsDamagedError,
    VaultCredentials,
    make_pfx,
    open_pfx,
    parse,
    render,
)

CREDENTIALS = VaultCredentials(
    subscription_id="00000000-0000-0000-0000-000000000001",
    resource_group="dr",
    vault_name="vault",
    resource_id=4_611_686_018_427_387_904,
    location="lab",
    management_pfx=b"\x30\x03abc",
    aad_authority="https://hub.example:8443",
    aad_tenant_id="00000000-0000-0000-0000-000000000002",
    service_principal_client_id="00000000-0000-0000-0000-000000000003",
    vault_audience="https://RecoveryServiceVault/lab/vault/1",
    provider_url="https://hub.example:9443",
    channel_integrity_key="key <&> 鍵",
)
FILE = render(CREDENTIALS)


def test_credentials_survive_being_written_and_read() -> None:
    assert parse(FILE) == CREDENTIALS


def test_the_file_has_the_form_of_the_original() -> None:
    text = FILE.decode()
    assert text.startswith("<RSVaultAsrCreds ")
    assert f'xmlns="{NAMESPACE}"' in text
    order = [
        "<VaultDetails><SubscriptionId>",
        "<ResourceGroup>",
        "<ResourceName>",
        "<ResourceId>4611686018427387904</ResourceId>",
        "<Location>",
        "<ResourceType>Vaults</ResourceType>",
        "<ProviderNamespace>Microsoft.RecoveryServices</ProviderNamespace></VaultDetails>",
        "<ManagementCert>",
        "<Version>2.0</Version>",
        "<AadDetails><AadAuthority>",
        "<AadTenantId>",
        "<ServicePrincipalClientId>",
        "<AadVaultAudience>",
        "<ArmManagementEndpoint>",
        "<ChannelIntegrityKey>",
        "<SiteId",
        "<SiteName",
        "<PrivateEndpointStateForSiteRecovery>None<",
    ]
    positions = [text.index(part) for part in order]
    assert positions == sorted(positions)


def test_secrets_are_not_in_the_representation() -> None:
    assert "鍵" not in repr(CREDENTIALS)
    assert "abc" not in repr(CREDENTIALS)


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        (b"<Version>2.0<", b"<Version>3.0<", "Version"),
        (b">Vaults<", b">Disks<", "ResourceType"),
        (b"<Location>lab</Location>", b"", "Location is missing"),
        (b"<Location>lab</Location>", b"<Location/>", "Location is missing or empty"),
        (b"<Version>2.0</Version>", b"<Version>2.0</Version><Version>2.0</Version>", "twice"),
        (b"4611686018427387904", b"9223372036854775808", "64 bits"),
        (b"4611686018427387904", b"-1", "not a number"),
        (b"4611686018427387904", "\u0664".encode(), "not a number"),
        (b"https://hub.example:9443", b"http://hub.example:9443", "https"),
        (b"https://hub.example:9443", b"https://hub.example:99999999", "https"),
        (b"https://hub.example:9443", b"https://", "https"),
        (base64.b64encode(b"\x30\x03abc"), b"!!", "base64"),
        (b"Models.Common", b"Models.Other", "not a vault credentials file"),
        (b"</RSVaultAsrCreds>", b"", "well-formed"),
        (b"<SiteId", b"<x:SiteId xmlns:x='urn:x'/><SiteId", "foreign namespace"),
    ],
)
def test_what_is_wrong_is_named(old: bytes, new: bytes, complaint: str) -> None:
    assert old in FILE
    with pytest.raises(CredentialsDamagedError, match=complaint):
        parse(FILE.replace(old, new))


@pytest.mark.parametrize(
    "declaration",
    [
        b'<!DOCTYPE r [<!ENTITY a "b">]>',
        b'<!DOCTYPE r SYSTEM "file:///etc/passwd">',
        b'<!DOCTYPE r [<!ENTITY a SYSTEM "file:///etc/passwd">]>',
        b"<!DOCTYPE r>",
    ],
)
def test_a_document_type_is_refused_before_anything_is_expanded(declaration: bytes) -> None:
    with pytest.raises(CredentialsDamagedError, match="document type"):
        parse(declaration + FILE)


def test_an_undefined_entity_is_refused() -> None:
    with pytest.raises(CredentialsDamagedError):
        parse(FILE.replace(b">lab<", b">&lab;<"))


@pytest.mark.parametrize("encoding", ["utf-32", "no-such", "base64"])
def test_an_unusable_encoding_is_refused(encoding: str) -> None:
    declaration = f'<?xml version="1.0" encoding="{encoding}"?>'.encode()
    with pytest.raises(CredentialsDamagedError):
        parse(declaration + FILE)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not xml",
        b"x" * (CREDENTIALS_BYTES_MAX + 1),
        b"<a>" * 200_000,
        b"\x00" * 100,
        FILE.replace(b"<Version>", b"<Filler/>" * 300 + b"<Version>"),
    ],
    ids=["empty", "text", "large", "deep", "zeros", "many"],
)
def test_hostile_files_are_refused(data: bytes) -> None:
    with pytest.raises(CredentialsDamagedError):
        parse(data)


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=2000))
def test_arbitrary_bytes_never_parse_and_never_escape(data: bytes) -> None:
    with pytest.raises(CredentialsDamagedError):
        parse(data)


@settings(deadline=None, max_examples=500)
@given(st.integers(0, len(FILE) - 1), st.binary(max_size=8), st.integers(0, 8))
def test_a_mutated_file_parses_or_is_refused(position: int, piece: bytes, cut: int) -> None:
    mutated = FILE[:position] + piece + FILE[position + cut :]
    try:
        credentials = parse(mutated)
    except CredentialsDamagedError:
        return
    assert credentials.provider_url.lower().startswith("https://")
    assert 0 <= credentials.resource_id < 2**63


@settings(deadline=None, max_examples=200)
@given(st.text(max_size=40))
def test_any_text_survives_or_is_refused_when_written(text: str) -> None:
    credentials = replace(CREDENTIALS, channel_integrity_key=text)
    try:
        data = render(credentials)
    except ValueError:
        return
    assert parse(data) == credentials


def test_what_could_not_be_read_is_not_written() -> None:
    with pytest.raises(ValueError, match="https"):
        render(replace(CREDENTIALS, provider_url="http://hub.example"))


def test_a_pfx_survives_being_written_and_read(trust: TrustChain, now: datetime) -> None:
    key = new_private_key()
    issued = trust.issue(Profile.VAULT_REGISTRATION, key.public_key(), "vault", now)
    root = load_certificate(trust.root_pem.encode())
    contents = open_pfx(make_pfx(key, issued.certificate, [root]))
    assert contents.key.public_key() == key.public_key()
    assert contents.certificate == issued.certificate
    assert contents.extra == (root,)


def test_a_pfx_with_a_password_is_refused(trust: TrustChain, now: datetime) -> None:
    key = new_private_key()
    issued = trust.issue(Profile.VAULT_REGISTRATION, key.public_key(), "vault", now)
    pfx = pkcs12.serialize_key_and_certificates(
        None, key, issued.certificate, [], serialization.BestAvailableEncryption(b"secret")
    )
    with pytest.raises(CredentialsDamagedError, match="password"):
        open_pfx(pfx)


def test_a_pfx_without_key_or_certificate_is_refused(trust: TrustChain) -> None:
    root = load_certificate(trust.root_pem.encode())
    only_certificates = pkcs12.serialize_key_and_certificates(
        None, None, None, [root], serialization.NoEncryption()
    )
    with pytest.raises(CredentialsDamagedError):
        open_pfx(only_certificates)


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=400))
def test_arbitrary_bytes_are_no_pfx(data: bytes) -> None:
    with pytest.raises(CredentialsDamagedError):
        open_pfx(data)


def test_a_huge_pfx_is_refused_unread() -> None:
    with pytest.raises(CredentialsDamagedError, match="larger"):
        open_pfx(b"\x30" * 300_000)
