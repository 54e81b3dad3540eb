"""What the listeners of providers ask: who they are, what they are sent, what they report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from service_hub.domain.records import Alert, Provider, ProviderStream, RegistrationKey
from service_hub.ports.changes import NumberedEvent
from wire_contract.events import Presence
from wire_contract.reports import (
    EchoAnswer,
    Heartbeat,
    HeartbeatAnswer,
    Registration,
    RegistrationAnswer,
    ReportAnswer,
    ReportBatch,
    SessionAnswer,
    SessionRequest,
)
from wire_contract.vmm_interface import InventoryView


@dataclass(frozen=True, slots=True)
class UploadedCertificate:
    """What is kept of an uploaded registration certificate."""

    pem: str
    thumbprint: str
    sha1_thumbprint: str
    subject: str
    issuer: str
    not_after: datetime


class RegistrationAuthority(Protocol):
    """Judges uploaded registration certificates and lets their holders connect."""

    def inspect(self, certificate: bytes) -> UploadedCertificate:
        """Return what is kept of it; InvalidRequestError when it is unfit."""

    def admit(self, certificate_pem: str) -> None:
        """Let the provider listener accept it from the next handshake on."""


class CertificateOffice(Protocol):
    """Issues certificates and tokens; a library of the hub's trust chain behind it."""

    @property
    def root_pem(self) -> str:
        """The roots that providers pin: two while the root is replaced."""

    def cacerts(self) -> bytes:
        """Return the chain as EST certs-only (base64 PKCS#7)."""

    def requested_name(self, request: bytes) -> str:
        """Return the CN that a request asks for, a GUID; InvalidRequestError when it is unfit."""

    def thumbprint_of(self, certificate_pem: str) -> str:
        """Return the SHA-256 thumbprint of a chain's leaf."""

    def request_pem(self, request: bytes) -> str:
        """Return a request as text; InvalidRequestError when it is unfit."""

    def requested_key(self, request: bytes) -> str:
        """Return the thumbprint of the key that a request is for; InvalidRequestError."""

    def issue_provider(
        self, request: bytes, provider_id: str, now: datetime, *, trusted_roots: Sequence[str] = ()
    ) -> "IssuedPem":
        """Issue a management certificate with the provider id as CN, below a root it trusts."""

    def issue_host(
        self, request: bytes, host: str, now: datetime, *, further_names: Sequence[str] = ()
    ) -> "IssuedPem":
        """Issue a Hyper-V host certificate with CN and SAN = the host's FQDN, and further SANs."""

    def provider_token(
        self, provider: Provider, certificate_pem: str, now: datetime
    ) -> tuple[str, int]:
        """Return the token, encrypted to the certificate, and its life in seconds."""


@dataclass(frozen=True, slots=True)
class IssuedPem:
    """An issued certificate: chain (leaf first) and the leaf's SHA-256 thumbprint.

    `key_thumbprint` is the SHA-256 of the public key, `root` the thumbprint of the root above,
    `serial` the certificate's number in hexadecimal digits.
    """

    chain_pem: str
    thumbprint: str
    key_thumbprint: str = ""
    expires_at: datetime | None = None
    root: str = ""
    serial: str = ""


class EnrolmentUseCases(Protocol):
    """Providers on their way in, and their tokens."""

    async def registration_key(
        self, thumbprint: str, named_vault: str | None = None
    ) -> RegistrationKey:
        """Return the key behind a presented certificate; KeyRefusedError says why it is none."""

    async def enrol(self, key: RegistrationKey, request: bytes, address: str) -> IssuedPem:
        """Issue a management certificate for a new server; ApprovalPendingError for a known one."""

    async def renew(self, provider: Provider, thumbprint: str, request: bytes) -> IssuedPem:
        """Issue the next management certificate to the holder of the present one."""

    async def provider_of(self, thumbprint: str) -> Provider | None:
        """Return the provider that a management certificate belongs to, if it is not revoked."""

    async def refusal_of(self, thumbprint: str) -> str:
        """Return in words why a certificate is good for nothing here."""

    async def token(
        self, provider: Provider, certificate_pem: str, address: str
    ) -> tuple[str, int]:
        """Return an encrypted token and its life in seconds."""

    async def register(self, provider: Provider, registration: Registration) -> RegistrationAnswer:
        """Take the server into the vault."""

    async def issue_host(self, provider: Provider, host: str, request: bytes) -> IssuedPem:
        """Issue a host certificate for a host of this provider's inventory."""


class Connections(Protocol):
    """The open connections of providers, over whichever transport."""

    def kick(self, provider_id: str) -> None:
        """End all of one provider's connections now; nothing happens when there is none."""


class CertificateUseCases(Protocol):
    """What operators decide about the certificates of servers."""

    async def revoke_server(self, vault_id: str, provider_id: str, principal: str) -> int:
        """Revoke all certificates of a server at once; return how many. NotFoundError."""

    async def alerts(self, vault_id: str) -> list[Alert]:
        """Return what was raised about the servers of a vault, oldest first."""


class ProviderUseCases(Protocol):
    """What registered providers say."""

    async def session(self, provider: Provider, request: SessionRequest) -> SessionAnswer:
        """Begin a session: stream, and which copies may run."""

    async def heartbeat(self, provider: Provider, beat: Heartbeat) -> HeartbeatAnswer:
        """Renew the lease."""

    async def echo(self, provider: Provider) -> EchoAnswer:
        """Put a refresh into the provider's stream; ConflictError where enough waits there."""

    async def inventory(self, provider: Provider, view: InventoryView) -> None:
        """Replace what is known of a fabric."""

    async def reports(self, provider: Provider, batch: ReportBatch) -> ReportAnswer:
        """Take reports in; durable when it returns."""

    async def stream(self, provider: Provider) -> ProviderStream:
        """Return the present numbering."""


class ProviderTokens(Protocol):
    """Checks the tokens of providers, which are bound to their certificates (RFC 8705)."""

    def verify(self, token: str, certificate_pem: str, now: datetime) -> str:
        """Return the provider id; UnauthenticatedError says why not."""


class PresenceSink(Protocol):
    """Hears what brokers say about who is there; a suspicion, never proof."""

    async def presence(self, provider_id: str, presence: Presence) -> None:
        """Note it."""


class Resigner(Protocol):
    """Signs an event again that a provider could not verify."""

    def sign_anew(self, provider_id: str, seq: int) -> None:
        """Forget the signature that was refused; the next sending makes a new one."""


class EventSource(Protocol):
    """Signed events for one provider, over whichever transport."""

    async def signed_after(
        self, provider_id: str, seq: int, limit: int
    ) -> tuple[ProviderStream, list[tuple[int, str]]]:
        """Return the stream and (seq, compact JWS) above `seq`, in order."""

    async def signed(self, events: Sequence[NumberedEvent]) -> list[str]:
        """Return the compact JWS of each event, in the same order; nothing is read."""

    async def signed_waiting(
        self, provider_ids: Sequence[str], limit: int
    ) -> Mapping[str, tuple[ProviderStream, list[tuple[int, str]]]]:
        """Return for each provider its stream and what it has not acknowledged, in one read.

        Who has no stream, or had to be left out since all were too large together, is missing.
        """

    async def signed_when_there(
        self, provider_id: str, stream: str, seq: int, limit: int, seconds: float
    ) -> tuple[ProviderStream, list[tuple[int, str]]]:
        """Return as signed_after does, once there is an event or a stream other than `stream`.

        At the latest when the time is over.
        """
