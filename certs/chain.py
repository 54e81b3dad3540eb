"""The hub's chain of trust: a root, three issuing authorities, and what they issue."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Self

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from certs.identity import (
    CertificateDamagedError,
    KeyDamagedError,
    PrivateKey,
    PublicKey,
    certificate_pem,
    load_certificate,
    load_private_key,
    name_of,
    new_private_key,
    private_key_pem,
    subject_alternative_name,
    thumbprint,
)
from certs.profiles import (
    AUTHORITY_LIFETIME,
    CLOCK_TOLERANCE,
    LIFETIMES,
    PROFILES,
    REVOKED_LIFETIME,
    ROOT_LIFETIME,
    Authority,
    Profile,
)
from certs.roots import sign_roots

_ROOT: Final = "root"


class DamagedTrustError(Exception):
    """A file of the chain is missing, damaged or does not belong to it; the message names it."""


@dataclass(frozen=True)
class IssuedCertificate:
    """A new certificate, and the text that its holder presents: leaf, then issuing authority."""

    chain_pem: str
    certificate: x509.Certificate


@dataclass(frozen=True, repr=False)
class _Issuer:
    certificate: x509.Certificate
    key: PrivateKey


class TrustChain:
    """The root and its issuing authorities, with their keys; the root's may be kept elsewhere."""

    def __init__(
        self,
        root: x509.Certificate,
        root_key: PrivateKey | None,
        issuers: Mapping[Authority, _Issuer],
    ) -> None:
        self._root = root
        self._root_key = root_key
        self._issuers = dict(issuers)

    @classmethod
    def create(cls, now: datetime, organization: str, generation: int = 1) -> Self:
        """Return a new chain with new keys, valid from now on.

        From the second generation on, its number is part of the authorities' names: chains of one
        hub are told apart by them.
        """
        suffix = f" {generation}" if generation > 1 else ""
        root_key = new_private_key()
        root_name = _authority_name(organization, f"{_ROOT}{suffix}")
        root = _authority_certificate(
            root_name,
            root_key.public_key(),
            issuer_name=root_name,
            issuer_key=root_key,
            now=now,
            lifetime=ROOT_LIFETIME,
            path_length=1,
        )
        issuers = {}
        for authority in Authority:
            key = new_private_key()
            name = _authority_name(organization, f"{authority} authority{suffix}")
            certificate = _authority_certificate(
                name,
                key.public_key(),
                issuer_name=root_name,
                issuer_key=root_key,
                now=now,
                lifetime=AUTHORITY_LIFETIME,
                path_length=0,
            )
            issuers[authority] = _Issuer(certificate, key)
        return cls(root, root_key, issuers)

    @property
    def root_pem(self) -> str:
        """The anchor that everybody pins."""
        return certificate_pem(self._root)

    @property
    def root_made_at(self) -> datetime:
        """When the root was made."""
        return self._root.not_valid_before_utc + CLOCK_TOLERANCE

    @property
    def root_thumbprint(self) -> str:
        """The SHA-256 of the root."""
        return thumbprint(self._root)

    @property
    def has_root_key(self) -> bool:
        """Whether the root's key is here, or kept offline."""
        return self._root_key is not None

    def state_roots(self, serial: int, successor: "TrustChain | None" = None) -> str:
        """Return the root's own word on which roots to trust: itself, and then its successor.

        Raises DamagedTrustError when the root's key is kept elsewhere.
        """
        if not isinstance(self._root_key, ec.EllipticCurvePrivateKey):
            raise DamagedTrustError(
                f"{_key_file(_ROOT)} is missing: put the root's key back while the root is replaced"
            )
        roots = [self._root]
        if successor is not None:
            roots.append(load_certificate(successor.root_pem.encode()))
        return sign_roots(self._root_key, self._root, roots, serial)

    @property
    def management_ca_pem(self) -> str:
        """The authority of provider certificates."""
        return certificate_pem(self._issuers[Authority.MANAGEMENT].certificate)

    @property
    def registration_ca_pem(self) -> str:
        """The authority of vault registration certificates."""
        return certificate_pem(self._issuers[Authority.REGISTRATION].certificate)

    @property
    def service_ca_pem(self) -> str:
        """The authority of the hub's servers, event signers, Hyper-V hosts and operators."""
        return certificate_pem(self._issuers[Authority.SERVICE].certificate)

    def revoked_pem(self, revoked: Mapping[int, datetime], now: datetime) -> str:
        """Return the list (CRL) of revoked provider certificates, by serial number, as PEM."""
        issuer = self._issuers[Authority.MANAGEMENT]
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(issuer.certificate.subject)
            .last_update(now - CLOCK_TOLERANCE)
            .next_update(now + REVOKED_LIFETIME)
            .add_extension(_authority_key_identifier(issuer.certificate), critical=False)
            .add_extension(x509.CRLNumber(int(now.timestamp())), critical=False)
        )
        for serial, revoked_at in sorted(revoked.items()):
            builder = builder.add_revoked_certificate(
                x509.RevokedCertificateBuilder()
                .serial_number(serial)
                .revocation_date(revoked_at)
                .build()
            )
        signed = builder.sign(issuer.key, hashes.SHA256())
        return signed.public_bytes(serialization.Encoding.PEM).decode("ascii")

    def to_files(self, password: bytes) -> dict[str, bytes]:
        """Return file names and contents; keys are encrypted with `password`."""
        files = {_certificate_file(_ROOT): self.root_pem.encode()}
        if self._root_key is not None:
            files[_key_file(_ROOT)] = private_key_pem(self._root_key, password)
        for authority, issuer in self._issuers.items():
            files[_certificate_file(authority)] = certificate_pem(issuer.certificate).encode()
            files[_key_file(authority)] = private_key_pem(issuer.key, password)
        return files

    @classmethod
    def from_files(cls, files: Mapping[str, bytes], password: bytes) -> Self:
        """Return the chain of `to_files`; DamagedTrustError names the file that is wrong.

        The root's key may be absent: it is kept offline where the operator wants that.
        """
        root = _read_certificate(files, _certificate_file(_ROOT), issuer=None)
        root_key = None
        if _key_file(_ROOT) in files:
            root_key = _read_key(files, _key_file(_ROOT), root, password)
        issuers = {}
        for authority in Authority:
            certificate = _read_certificate(files, _certificate_file(authority), issuer=root)
            key = _read_key(files, _key_file(authority), certificate, password)
            issuers[authority] = _Issuer(certificate, key)
        return cls(root, root_key, issuers)

    def issue(
        self,
        profile: Profile,
        public_key: PublicKey,
        common_name: str,
        now: datetime,
        *,
        dns_names: Sequence[str] = (),
        ip_addresses: Sequence[str] = (),
        lifetime: timedelta | None = None,
    ) -> IssuedCertificate:
        """Return a certificate of `profile` for `common_name`, never valid beyond its issuer.

        It lives as long as its profile says, or for `lifetime`. Raises ValueError for a name that
        cannot stand in a certificate.
        """
        rules = PROFILES[profile]
        issuer = self._issuers[rules.authority]
        end = now + (LIFETIMES[profile] if lifetime is None else lifetime)
        builder = (
            x509.CertificateBuilder()
            .subject_name(name_of(common_name))
            .issuer_name(issuer.certificate.subject)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - CLOCK_TOLERANCE)
            .not_valid_after(min(end, issuer.certificate.not_valid_after_utc))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_leaf_key_usage(public_key), critical=True)
            .add_extension(x509.ExtendedKeyUsage(rules.usages), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
            .add_extension(_authority_key_identifier(issuer.certificate), critical=False)
        )
        if dns_names or ip_addresses:
            names = subject_alternative_name(dns_names, ip_addresses)
            builder = builder.add_extension(names, critical=False)
        certificate = builder.sign(issuer.key, hashes.SHA256())
        chain_pem = certificate_pem(certificate) + certificate_pem(issuer.certificate)
        return IssuedCertificate(chain_pem, certificate)


def _authority_name(organization: str, role: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization),
            x509.NameAttribute(NameOID.COMMON_NAME, f"Site Recovery Hub {role}"),
        ]
    )


def _authority_certificate(
    name: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    *,
    issuer_name: x509.Name,
    issuer_key: ec.EllipticCurvePrivateKey,
    now: datetime,
    lifetime: timedelta,
    path_length: int,
) -> x509.Certificate:
    issuer_identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer_name)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_TOLERANCE)
        .not_valid_after(now + lifetime)
        .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(issuer_identifier, critical=False)
        .sign(issuer_key, hashes.SHA256())
    )


def _authority_key_identifier(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    identifier = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)


def _leaf_key_usage(public_key: PublicKey) -> x509.KeyUsage:
    # ECDH-ES needs keyAgreement; RSA-OAEP of the token needs keyEncipherment.
    is_rsa = isinstance(public_key, rsa.RSAPublicKey)
    return _key_usage(signs=True, agrees=not is_rsa, enciphers=is_rsa)


def _key_usage(
    *,
    signs: bool = False,
    agrees: bool = False,
    enciphers: bool = False,
    signs_certificates: bool = False,
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=signs,
        content_commitment=False,
        key_encipherment=enciphers,
        data_encipherment=False,
        key_agreement=agrees,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _certificate_file(role: str) -> str:
    return f"{role}.pem"


def _key_file(role: str) -> str:
    return f"{role}-key.pem"


def _read(files: Mapping[str, bytes], name: str) -> bytes:
    if name not in files:
        raise DamagedTrustError(f"{name} is missing; restore it from a backup of the trust folder")
    return files[name]


def _read_certificate(
    files: Mapping[str, bytes], name: str, issuer: x509.Certificate | None
) -> x509.Certificate:
    try:
        certificate = load_certificate(_read(files, name))
        certificate.verify_directly_issued_by(certificate if issuer is None else issuer)
    except CertificateDamagedError as error:
        raise DamagedTrustError(f"{name} is damaged: {error}") from error
    except (InvalidSignature, ValueError, TypeError) as error:
        raise DamagedTrustError(f"{name} is not issued by the root of this chain") from error
    return certificate


def _read_key(
    files: Mapping[str, bytes], name: str, certificate: x509.Certificate, password: bytes
) -> PrivateKey:
    try:
        key = load_private_key(_read(files, name), password)
    except KeyDamagedError as error:
        raise DamagedTrustError(f"{name} cannot be used: {error}") from error
    if key.public_key() != certificate.public_key():
        raise DamagedTrustError(f"{name} does not belong to the certificate beside it")
    return key
