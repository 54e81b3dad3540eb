"""The vault credentials file: `RSVaultAsrCreds`, as the portal of the original writes it.

Source: the element order and literals of the recorded file (design: channel, registration key).
"""

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit
from xml.etree import ElementTree as ET
from xml.parsers import expat

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import pkcs12

from certs.identity import PrivateKey, strong_public_key
from certs.strict_parsing import strict_parsing

CREDENTIALS_BYTES_MAX: Final = 1_048_576
PFX_BYTES_MAX: Final = 262_144
DEPTH_MAX: Final = 8
ELEMENTS_MAX: Final = 256

NAMESPACE: Final = (
    "http://schemas.datacontract.org/2004/07/Microsoft.Azure.Portal.RecoveryServices.Models.Common"
)
_INSTANCE_NAMESPACE: Final = "http://www.w3.org/2001/XMLSchema-instance"
_ROOT: Final = "RSVaultAsrCreds"
_VERSION: Final = "2.0"
_RESOURCE_TYPE: Final = "Vaults"
_RESOURCE_ID_MAX: Final = 2**63 - 1
# XML 1.0 has no way to write these characters (section 2.2).
_NOT_XML: Final = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class CredentialsDamagedError(Exception):
    """The file or the PFX inside it cannot be used; the message says what is wrong."""


@dataclass(frozen=True)
class VaultCredentials:
    """What a server needs to register with one vault; the PFX holds a private key."""

    subscription_id: str
    resource_group: str
    vault_name: str
    resource_id: int
    location: str
    management_pfx: bytes = field(repr=False)
    aad_authority: str
    aad_tenant_id: str
    service_principal_client_id: str
    vault_audience: str
    provider_url: str
    channel_integrity_key: str = field(repr=False)


@dataclass(frozen=True)
class PfxContents:
    """A private key, its certificate, and the certificates that came along (the hub's root)."""

    key: PrivateKey = field(repr=False)
    certificate: x509.Certificate
    extra: tuple[x509.Certificate, ...]


def render(credentials: VaultCredentials) -> bytes:
    """Return the file: UTF-8 without byte order mark; ValueError where `parse` would refuse it."""
    root = ET.Element(_ROOT, {"xmlns:i": _INSTANCE_NAMESPACE, "xmlns": NAMESPACE})
    for path, text in _texts(credentials).items():
        if _NOT_XML.search(text):
            raise ValueError(f"{'/'.join(path)} holds a character that XML cannot carry")
        parent = root
        for name in path[:-1]:
            found = parent.find(name)
            parent = ET.SubElement(parent, name) if found is None else found
        ET.SubElement(parent, path[-1]).text = text
    data: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=False)
    try:
        readable = parse(data) == credentials
    except CredentialsDamagedError as error:
        raise ValueError(f"these credentials cannot be written: {error}") from error
    if not readable:
        raise ValueError("these credentials do not survive being written: white space at an edge?")
    return data


def parse(data: bytes) -> VaultCredentials:
    """Return the credentials in the file, or raise CredentialsDamagedError."""
    if len(data) > CREDENTIALS_BYTES_MAX:
        raise CredentialsDamagedError(f"the file is larger than {CREDENTIALS_BYTES_MAX} bytes")
    texts = _Reader().read(data)
    _require_literal(texts, ("Version",), _VERSION)
    _require_literal(texts, ("VaultDetails", "ResourceType"), _RESOURCE_TYPE)
    return VaultCredentials(
        subscription_id=_text(texts, "VaultDetails", "SubscriptionId"),
        resource_group=_text(texts, "VaultDetails", "ResourceGroup"),
        vault_name=_text(texts, "VaultDetails", "ResourceName"),
        resource_id=_resource_id(_text(texts, "VaultDetails", "ResourceId")),
        location=_text(texts, "VaultDetails", "Location"),
        management_pfx=_pfx(_text(texts, "ManagementCert")),
        aad_authority=_text(texts, "AadDetails", "AadAuthority", may_be_empty=True),
        aad_tenant_id=_text(texts, "AadDetails", "AadTenantId", may_be_empty=True),
        service_principal_client_id=_text(
            texts, "AadDetails", "ServicePrincipalClientId", may_be_empty=True
        ),
        vault_audience=_text(texts, "AadDetails", "AadVaultAudience", may_be_empty=True),
        provider_url=_https_url(_text(texts, "AadDetails", "ArmManagementEndpoint")),
        channel_integrity_key=_text(texts, "ChannelIntegrityKey", may_be_empty=True),
    )


_Path = tuple[str, ...]


def _texts(credentials: VaultCredentials) -> dict[_Path, str]:
    """Return every element with its text, in the order of the original."""
    return {
        ("VaultDetails", "SubscriptionId"): credentials.subscription_id,
        ("VaultDetails", "ResourceGroup"): credentials.resource_group,
        ("VaultDetails", "ResourceName"): credentials.vault_name,
        ("VaultDetails", "ResourceId"): str(credentials.resource_id),
        ("VaultDetails", "Location"): credentials.location,
        ("VaultDetails", "ResourceType"): _RESOURCE_TYPE,
        ("VaultDetails", "ProviderNamespace"): "Microsoft.RecoveryServices",
        ("ManagementCert",): base64.b64encode(credentials.management_pfx).decode("ascii"),
        ("Version",): _VERSION,
        ("AadDetails", "AadAuthority"): credentials.aad_authority,
        ("AadDetails", "AadTenantId"): credentials.aad_tenant_id,
        ("AadDetails", "ServicePrincipalClientId"): credentials.service_principal_client_id,
        ("AadDetails", "AadVaultAudience"): credentials.vault_audience,
        ("AadDetails", "ArmManagementEndpoint"): credentials.provider_url,
        ("ChannelIntegrityKey",): credentials.channel_integrity_key,
        # Empty for VMM servers; they name the site of a Hyper-V server without VMM.
        ("SiteId",): "",
        ("SiteName",): "",
        ("PrivateEndpointStateForSiteRecovery",): "None",
    }


class _Reader:
    """Collects the text of each leaf; refuses document types, so that no entity is ever defined."""

    def __init__(self) -> None:
        self._path: list[str] = []
        self._texts: dict[_Path, str] = {}
        self._pieces: list[str] = []
        self._element_count = 0

    def read(self, data: bytes) -> Mapping[_Path, str]:
        parser = expat.ParserCreate(namespace_separator="\n")
        parser.buffer_text = True
        parser.StartDoctypeDeclHandler = self._refuse_document_type
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._pieces.append
        try:
            parser.Parse(data, True)  # noqa: FBT003 -- the parser's own "this is all"
        except expat.ExpatError as error:
            raise CredentialsDamagedError(f"the file is not well-formed XML: {error}") from error
        except (ValueError, LookupError) as error:
            # An encoding in the XML declaration that is unknown or no text encoding.
            raise CredentialsDamagedError(f"the file cannot be decoded: {error}") from error
        return self._texts

    def _refuse_document_type(self, *_declaration: object) -> None:
        raise CredentialsDamagedError("the file has a document type declaration, which is refused")

    def _start(self, name: str, _attributes: object) -> None:
        self._element_count += 1
        if self._element_count > ELEMENTS_MAX or len(self._path) >= DEPTH_MAX:
            raise CredentialsDamagedError("the file has more elements than credentials have")
        namespace, _, local = name.rpartition("\n")
        if not self._path and (namespace, local) != (NAMESPACE, _ROOT):
            raise CredentialsDamagedError(
                f"the file is not a vault credentials file: it begins with {local}, not {_ROOT}"
            )
        if namespace != NAMESPACE:
            raise CredentialsDamagedError(f"the element {local} is of a foreign namespace")
        self._path.append(local)
        self._pieces.clear()

    def _end(self, _name: str) -> None:
        path = tuple(self._path[1:])
        self._path.pop()
        if path in self._texts:
            raise CredentialsDamagedError(f"the element {'/'.join(path)} stands twice")
        self._texts[path] = "".join(self._pieces).strip()
        self._pieces.clear()


def _text(texts: Mapping[_Path, str], *path: str, may_be_empty: bool = False) -> str:
    text = texts.get(path)
    if text is None or not (text or may_be_empty):
        raise CredentialsDamagedError(f"the element {'/'.join(path)} is missing or empty")
    return text


def _require_literal(texts: Mapping[_Path, str], path: _Path, expected: str) -> None:
    found = _text(texts, *path)
    if found != expected:
        raise CredentialsDamagedError(
            f"the element {'/'.join(path)} is {found[:64]!r}; only {expected!r} is understood"
        )


def _resource_id(text: str) -> int:
    # isdecimal() alone would take digits of other scripts, and int() of thousands of digits.
    if not (text.isascii() and text.isdecimal() and len(text) <= len(str(_RESOURCE_ID_MAX))):
        raise CredentialsDamagedError("the element VaultDetails/ResourceId is not a number")
    number = int(text)
    if number > _RESOURCE_ID_MAX:
        raise CredentialsDamagedError("the element VaultDetails/ResourceId exceeds 64 bits")
    return number


def _pfx(text: str) -> bytes:
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise CredentialsDamagedError("the element ManagementCert is not base64") from error


def _https_url(text: str) -> str:
    try:
        parts = urlsplit(text)
        usable = parts.scheme == "https" and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise CredentialsDamagedError("the element ArmManagementEndpoint is not an https URL")
    return text


def make_pfx(
    key: PrivateKey, certificate: x509.Certificate, extra: Sequence[x509.Certificate]
) -> bytes:
    """Return a PFX without password, as the original's credentials file carries it."""
    return pkcs12.serialize_key_and_certificates(
        None, key, certificate, list(extra), serialization.NoEncryption()
    )


def open_pfx(pfx: bytes) -> PfxContents:
    """Return the contents; CredentialsDamagedError unless key and certificate fit together."""
    if len(pfx) > PFX_BYTES_MAX:
        raise CredentialsDamagedError(f"the PFX is larger than {PFX_BYTES_MAX} bytes")
    try:
        with strict_parsing():
            contents = pkcs12.load_pkcs12(pfx, None)
            key, certificate = contents.key, contents.cert
            if certificate is None:
                raise CredentialsDamagedError(
                    "the PFX holds no certificate that belongs to its private key"
                )
            public_key = strong_public_key(certificate.certificate)
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion) as error:
        raise CredentialsDamagedError(f"the PFX is damaged or has a password: {error}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise CredentialsDamagedError("the PFX holds no EC or RSA private key")
    if key.public_key() != public_key:
        raise CredentialsDamagedError(
            "the private key of the PFX does not belong to its certificate"
        )
    extra = tuple(each.certificate for each in contents.additional_certs)
    return PfxContents(key, certificate.certificate, extra)
