"""Who calls: the credential that a route asks for, and how it is checked (design: channel, trust).

The certificate comes from the TLS connection and from nowhere else; forwarded headers are never
read. The database is asked for every request, so that a revocation acts at once.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Final

from aiohttp import web

from certs.peers import PeerCertificate, PeerCertificates
from service_hub.domain.errors import KeyRefusedError
from service_hub.domain.records import Provider, RegistrationKey
from service_hub.ports.channel import EnrolmentUseCases, ProviderTokens
from service_hub.ports.surroundings import Clock
from service_hub.provider_api.problems import forbidden, unauthenticated
from wire_contract.paths import VAULT_HEADER

_BEARER: Final = "Bearer "


class Credential(Enum):
    """What a route asks of its caller."""

    NONE = "none"
    REGISTRATION = "registration certificate"
    MANAGEMENT = "management certificate"
    ENROLLED_TOKEN = "management certificate and token"  # noqa: S105 -- words, not a secret
    REGISTERED_TOKEN = "as before, of a registered server"  # noqa: S105 -- words, not a secret


@dataclass(frozen=True, slots=True)
class RegistrationCaller:
    """Somebody with a registration key that is valid now."""

    key: RegistrationKey


@dataclass(frozen=True, slots=True)
class ProviderCaller:
    """A provider, with the certificate it has just used."""

    provider: Provider
    certificate_pem: str


Caller = RegistrationCaller | ProviderCaller | None


class Callers:
    """Finds out who calls, and refuses who may not."""

    def __init__(self, enrolment: EnrolmentUseCases, tokens: ProviderTokens, clock: Clock) -> None:
        self._enrolment = enrolment
        self._tokens = tokens
        self._clock = clock
        self._peers = PeerCertificates()

    async def identify(self, request: web.Request, credential: Credential) -> Caller:
        """Return the caller that holds what the route asks for; ProblemError otherwise."""
        if credential is Credential.NONE:
            return None
        certificate = self._peers.of(request.transport)
        if certificate is None:
            raise unauthenticated(
                f"This path needs a client certificate ({credential.value}).",
                "Connect with the certificate of the registration key or of this server.",
            )
        if credential is Credential.REGISTRATION:
            return await self._registration(certificate, request.headers.get(VAULT_HEADER))
        return await self._provider(request, certificate, credential)

    async def _registration(
        self, certificate: PeerCertificate, named_vault: str | None
    ) -> RegistrationCaller:
        try:
            key = await self._enrolment.registration_key(certificate.thumbprint, named_vault)
        except KeyRefusedError as error:
            raise forbidden(
                "RegistrationKeyRefused",
                str(error),
                "Generate a new registration key in the vault and use its credentials file.",
            ) from error
        return RegistrationCaller(key)

    async def _provider(
        self, request: web.Request, certificate: PeerCertificate, credential: Credential
    ) -> ProviderCaller:
        provider = await self._enrolment.provider_of(certificate.thumbprint)
        if provider is None:
            raise forbidden(
                "CertificateRefused",
                await self._enrolment.refusal_of(certificate.thumbprint),
                "Register the server again with a new registration key.",
            )
        caller = ProviderCaller(provider, certificate.pem)
        if credential is Credential.MANAGEMENT:
            return caller
        self._check_token(request, caller)
        if credential is Credential.REGISTERED_TOKEN and provider.registered_at is None:
            raise forbidden(
                "NotRegistered",
                "The server is enrolled but not registered.",
                "Complete the registration.",
            )
        return caller

    def _check_token(self, request: web.Request, caller: ProviderCaller) -> None:
        header = request.headers.get("Authorization", "")
        if not header.startswith(_BEARER):
            raise unauthenticated(
                "This path needs an access token.", "Fetch one and send it as a bearer token."
            )
        token = header.removeprefix(_BEARER)
        # Raises UnauthenticatedError, which says what is wrong.
        bearer = self._tokens.verify(token, caller.certificate_pem, self._clock.now())
        if bearer != caller.provider.id:
            raise unauthenticated("The token is another server's.", "Fetch a new access token.")
