"""Issues what providers and hosts identify themselves with; the trust chain behind it."""

import ssl
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from certs.chain import IssuedCertificate, TrustChain
from certs.enrolment import encode_certs_only
from certs.identity import (
    RequestRefusedError,
    certificate_pem,
    check_request,
    key_thumbprint,
    load_certificate,
    strong_public_key,
    thumbprint,
)
from certs.profiles import LIFETIMES, Profile
from certs.tls import UploadRefusedError, check_uploaded_certificate, trust_uploaded_certificate
from certs.tokens import (
    ProviderClaims,
    TokenRefusedError,
    issue_provider_token,
    verify_provider_token,
    wrap_token,
)
from certs.trusted_chains import TrustedChains
from certs.verified_tokens import VerifiedTokens
from service_hub.domain.errors import InvalidRequestError, UnauthenticatedError
from service_hub.domain.records import Provider
from service_hub.ports.channel import IssuedPem, UploadedCertificate

TOKEN_LIFETIME: Final = timedelta(hours=1)
"""Life of a provider's token (channel.md, access token)."""


class TrustOffice:
    """The CertificateOffice and the ProviderTokens of the hub's ports."""

    def __init__(
        self,
        chain: TrustChain | TrustedChains,
        token_key: ec.EllipticCurvePrivateKey,
        *,
        issuer: str,
        management_lifetime: timedelta = LIFETIMES[Profile.PROVIDER_MANAGEMENT],
    ) -> None:
        self._management_lifetime = management_lifetime
        self._chains = chain if isinstance(chain, TrustedChains) else TrustedChains(chain)
        self._token_key = token_key
        self._issuer = issuer
        self._verified = VerifiedTokens()

    @property
    def root_pem(self) -> str:
        """The roots that providers pin."""
        return self._chains.roots_pem

    def cacerts(self) -> bytes:
        """Return what is trusted as EST certs-only (RFC 7030, section 4.1.3)."""
        return encode_certs_only((self._chains.roots_pem, self._chains.management_cas_pem))

    def requested_name(self, request: bytes) -> str:
        """Return the VMM server id that a request names, a GUID in lower case."""
        names = _checked(request)
        try:
            return str(UUID(names))
        except ValueError:
            raise InvalidRequestError(
                "the common name of the request is the VMM server's id, a GUID"
            ) from None

    def thumbprint_of(self, certificate_pem: str) -> str:
        """Return the thumbprint of the leaf, which stands first."""
        return thumbprint(x509.load_pem_x509_certificates(certificate_pem.encode())[0])

    def request_pem(self, request: bytes) -> str:
        """Return a request as PEM."""
        _checked(request)
        return check_request(request).public_bytes(serialization.Encoding.PEM).decode("ascii")

    def requested_key(self, request: bytes) -> str:
        """Return the thumbprint of the public key that a request is for."""
        _checked(request)
        return key_thumbprint(strong_public_key(check_request(request)))

    def issue_provider(
        self, request: bytes, provider_id: str, now: datetime, *, trusted_roots: Sequence[str] = ()
    ) -> IssuedPem:
        """Issue a management certificate; the name in it is ours, whatever was asked for.

        While the root is replaced it comes from the new chain once the server trusts that.
        """
        return self._issue(
            Profile.PROVIDER_MANAGEMENT,
            request,
            provider_id,
            now,
            lifetime=self._management_lifetime,
            chain=self._chains.known_by(trusted_roots),
        )

    def issue_host(
        self, request: bytes, host: str, now: datetime, *, further_names: Sequence[str] = ()
    ) -> IssuedPem:
        """Issue a Hyper-V host certificate with CN and SAN = the host's FQDN, and further SANs.

        It comes from the chain that all hosts trust: the former one until trust in that ends.
        """
        if _checked(request).lower() != host.lower():
            raise InvalidRequestError(f"the common name of the request is not {host}")
        return self._issue(
            Profile.HYPERV_HOST, request, host, now, dns_names=(host, *further_names)
        )

    def provider_token(
        self, provider: Provider, certificate_pem: str, now: datetime
    ) -> tuple[str, int]:
        """Return a token that only this certificate's key can read, and its life in seconds."""
        certificate = load_certificate(certificate_pem.encode())
        token = issue_provider_token(
            self._token_key,
            issuer=self._issuer,
            provider_id=provider.id,
            vault_id=provider.vault_id,
            certificate=certificate,
            now=now,
            lifetime=TOKEN_LIFETIME,
        )
        return wrap_token(token, certificate), int(TOKEN_LIFETIME.total_seconds())

    def verify(self, token: str, certificate_pem: str, now: datetime) -> str:
        """Return the provider id of a token bound to this certificate."""

        def fresh() -> ProviderClaims:
            return verify_provider_token(
                token,
                (self._token_key.public_key(),),
                issuer=self._issuer,
                certificate=load_certificate(certificate_pem.encode()),
                now=now,
            )

        try:
            claims = self._verified.claims(token, certificate_pem, now, fresh)
        except TokenRefusedError as error:
            raise UnauthenticatedError(str(error)) from error
        return claims.provider_id

    def _issue(
        self,
        profile: Profile,
        request: bytes,
        common_name: str,
        now: datetime,
        *,
        dns_names: Sequence[str] = (),
        lifetime: timedelta | None = None,
        chain: TrustChain | None = None,
    ) -> IssuedPem:
        public_key = strong_public_key(check_request(request))
        issuing = chain or self._chains.present
        issued: IssuedCertificate = issuing.issue(
            profile, public_key, common_name, now, dns_names=dns_names, lifetime=lifetime
        )
        return IssuedPem(
            issued.chain_pem,
            thumbprint(issued.certificate),
            key_thumbprint(public_key),
            issued.certificate.not_valid_after_utc,
            issuing.root_thumbprint,
            f"{issued.certificate.serial_number:x}",
        )


class UploadedRegistrations:
    """The RegistrationAuthority of the hub's ports: lets uploaded certificates connect."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context

    def inspect(self, certificate: bytes) -> UploadedCertificate:
        """Return what is kept of an uploaded certificate; never an authority, never a weak key."""
        try:
            uploaded = check_uploaded_certificate(certificate)
        except UploadRefusedError as error:
            raise InvalidRequestError(
                f"the certificate is refused: {error}", "properties.certificate"
            ) from error
        return UploadedCertificate(
            pem=certificate_pem(uploaded),
            thumbprint=thumbprint(uploaded),
            sha1_thumbprint=uploaded.fingerprint(hashes.SHA1()).hex().upper(),  # noqa: S303 -- shown, as the field does; never compared
            subject=uploaded.subject.rfc4514_string(),
            issuer=uploaded.issuer.rfc4514_string(),
            not_after=uploaded.not_valid_after_utc,
        )

    def admit(self, certificate_pem: str) -> None:
        """Let the provider listener accept it from the next handshake on."""
        trust_uploaded_certificate(self._context, load_certificate(certificate_pem.encode()))


def _checked(request: bytes) -> str:
    try:
        checked = check_request(request)
    except RequestRefusedError as error:
        raise InvalidRequestError(str(error)) from error
    names = checked.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    if len(names) != 1:
        raise InvalidRequestError("the request names no common name, or more than one")
    return str(names[0].value)
