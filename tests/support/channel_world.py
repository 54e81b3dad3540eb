"""The hub's channel with a real listener and real trust; only the database is in memory."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from certs.chain import TrustChain
from certs.identity import (
    PrivateKey,
    load_certificate,
    new_private_key,
    private_key_pem,
    thumbprint,
)
from certs.profiles import Profile
from certs.signing import EventSigner
from certs.tls import client_context, server_context
from certs.tokens import TokenRefusedError, issue_provider_token, verify_provider_token
from service_hub.channel.admission import Admission
from service_hub.channel.event_source import SignedEvents
from service_hub.channel.limits import EndpointLimits
from service_hub.channel.mqtt_endpoint import MqttEndpoint, open_endpoint
from service_hub.channel.outbox_pump import OutboxPump, open_pump
from service_hub.channel.wakeups import Wakeups
from service_hub.domain.accept_rate import AcceptRate
from service_hub.domain.errors import KeyRefusedError, UnauthenticatedError
from service_hub.domain.records import (
    Provider,
    Record,
    RegistrationKey,
)
from service_hub.ports.channel import IssuedPem
from tests.support.memory_outbox import MemoryOutbox
from wire_contract.events import Presence
from wire_contract.reports import Registration, RegistrationAnswer

ISSUER = "https://hub.test"
VAULT_ID = "0f0f0f0f-0000-4000-8000-000000000001"
TOKYO = "11111111-1111-4111-8111-111111111111"
OSAKA = "22222222-2222-4222-8222-222222222222"
WAIT_SECONDS_MAX = 10.0

R = TypeVar("R", bound=Record)


class SystemTime:
    """The clock that the tests' parts use; certificates and tokens are real, so is time."""

    def __init__(self) -> None:
        self.ahead = timedelta(0)

    def now(self) -> datetime:
        """Return the real time, or one so far ahead of it."""
        return datetime.now(UTC) + self.ahead

    def new_id(self) -> str:
        """Return an id."""
        return TOKYO


@dataclass
class Holder:
    """A key with its certificate: a provider, or whoever pretends to be one."""

    key: PrivateKey
    chain_pem: str

    @property
    def certificate(self) -> x509.Certificate:
        """Return the leaf."""
        return x509.load_pem_x509_certificates(self.chain_pem.encode())[0]

    @property
    def thumbprint(self) -> str:
        """Return the leaf's thumbprint."""
        return thumbprint(self.certificate)

    @property
    def key_pem(self) -> bytes:
        """Return the key."""
        return private_key_pem(self.key)

    def tls(self, root_pem: str) -> ssl.SSLContext:
        """Return a client context with this certificate that trusts the root."""
        return client_context(root_pem, chain_pem=self.chain_pem, key_pem=self.key_pem)


@dataclass
class Trust:
    """A chain of trust and a signing key for tokens."""

    chain: TrustChain
    token_key: ec.EllipticCurvePrivateKey = field(default_factory=new_private_key)

    @classmethod
    def create(cls) -> "Trust":
        """Make a new chain."""
        return cls(TrustChain.create(datetime.now(UTC), "Tests"))

    def holder(self, profile: Profile, common_name: str, **names: Any) -> Holder:
        """Issue a certificate for a new key."""
        key = new_private_key()
        issued = self.chain.issue(
            profile, key.public_key(), common_name, datetime.now(UTC), **names
        )
        return Holder(key, issued.chain_pem)

    def hub_server(self) -> Holder:
        """Issue the listener's certificate."""
        return self.holder(Profile.HUB_SERVER, "hub.test", ip_addresses=["127.0.0.1"])

    def signer(self) -> EventSigner:
        """Return a signer of events."""
        holder = self.holder(Profile.EVENT_SIGNER, "event signer")
        assert isinstance(holder.key, ec.EllipticCurvePrivateKey)
        return EventSigner(holder.key, holder.chain_pem)

    def token(self, provider_id: str, certificate: x509.Certificate) -> str:
        """Return an access token."""
        return issue_provider_token(
            self.token_key,
            issuer=ISSUER,
            provider_id=provider_id,
            vault_id=VAULT_ID,
            certificate=certificate,
            now=datetime.now(UTC),
            lifetime=timedelta(hours=1),
        )


class CheckedTokens:
    """ProviderTokens with real tokens."""

    def __init__(self, trust: Trust) -> None:
        self._trust = trust

    def verify(self, token: str, certificate_pem: str, now: datetime) -> str:
        """Return the bearer of a valid token."""
        try:
            claims = verify_provider_token(
                token,
                [self._trust.token_key.public_key()],
                issuer=ISSUER,
                certificate=load_certificate(certificate_pem.encode()),
                now=now,
            )
        except TokenRefusedError as error:
            raise UnauthenticatedError(str(error)) from error
        return claims.provider_id


def provider_record(provider_id: str, *, registered: bool = True) -> Provider:
    return Provider(
        id=provider_id,
        vault_id=VAULT_ID,
        vmm_id=provider_id,
        fabric_name="f" * 64,
        enrolled_at=datetime.now(UTC),
        registered_at=datetime.now(UTC) if registered else None,
    )


class KnownServers:
    """EnrolmentUseCases over two dictionaries: what is in them is valid, what is not is not."""

    def __init__(self) -> None:
        self.by_thumbprint: dict[str, Provider] = {}
        self.keys: dict[str, RegistrationKey] = {}
        self.enrolled: list[bytes] = []
        self.hosts: list[str] = []
        self.issue: Callable[[bytes], IssuedPem] | None = None
        self.failure: Exception | None = None

    async def registration_key(
        self, thumbprint: str, named_vault: str | None = None
    ) -> RegistrationKey:
        """Return a known key."""
        if thumbprint not in self.keys:
            raise KeyRefusedError(f"no registration key of {named_vault}")
        return self.keys[thumbprint]

    async def enrol(self, key: RegistrationKey, request: bytes, address: str) -> IssuedPem:
        """Issue a certificate, or fail as told."""
        del key, address
        if self.failure is not None:
            raise self.failure
        assert self.issue is not None
        self.enrolled.append(request)
        return self.issue(request)

    async def renew(self, provider: Provider, thumbprint: str, request: bytes) -> IssuedPem:
        """Issue the next certificate."""
        del provider, thumbprint
        assert self.issue is not None
        return self.issue(request)

    async def provider_of(self, thumbprint: str) -> Provider | None:
        """Return a known server."""
        return self.by_thumbprint.get(thumbprint)

    async def refusal_of(self, thumbprint: str) -> str:
        """Say why a certificate is none of a known server."""
        return f"{thumbprint[:8]} is of no server"

    async def token(
        self, provider: Provider, certificate_pem: str, address: str
    ) -> tuple[str, int]:
        """Return an access token."""
        del certificate_pem, address
        return f"sealed-for-{provider.id}", 3600

    async def register(self, provider: Provider, registration: Registration) -> RegistrationAnswer:
        """Answer as a hub does."""
        del registration
        return RegistrationAnswer(
            provider_id=provider.id,
            vault_id=VAULT_ID,
            vault_name="vault",
            mqtt_host="127.0.0.1",
            mqtt_port=8883,
            heartbeat_seconds=60,
        )

    async def issue_host(self, provider: Provider, host: str, request: bytes) -> IssuedPem:
        """Issue a host certificate."""
        del provider
        assert self.issue is not None
        self.hosts.append(host)
        return self.issue(request)


class PresenceLog:
    """The PresenceSink: what was heard, in order."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, str]] = []
        self.failure: Exception | None = None

    async def presence(self, provider_id: str, presence: Presence) -> None:
        """Keep what was heard, or fail as told."""
        if self.failure is not None:
            raise self.failure
        self.heard.append((provider_id, presence.state))


class Peer(Protocol):
    """A client that a test has opened."""

    async def close(self) -> None:
        """Be gone."""


@dataclass
class ChannelWorld:
    """An open listener and all around it."""

    trust: Trust
    servers: KnownServers
    outbox: MemoryOutbox
    presence: PresenceLog
    wakeups: Wakeups
    source: SignedEvents
    endpoint: MqttEndpoint
    port: int
    pump: OutboxPump | None
    clock: SystemTime
    peers: list["Peer"] = field(default_factory=list)

    def provider(self, provider_id: str, **certificate: Any) -> Holder:
        """Return a registered server's key and certificate."""
        holder = self.trust.holder(Profile.PROVIDER_MANAGEMENT, provider_id, **certificate)
        self.servers.by_thumbprint[holder.thumbprint] = provider_record(provider_id)
        if provider_id not in self.outbox.streams:
            self.outbox.follow(provider_id)
        return holder

    def token(self, holder: Holder, provider_id: str) -> str:
        """Return the token that the holder's provider would have."""
        return self.trust.token(provider_id, holder.certificate)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for a condition, bounded."""
        async with asyncio.timeout(WAIT_SECONDS_MAX):
            while not condition():
                await asyncio.sleep(0.005)


@asynccontextmanager
async def channel_world(
    limits: EndpointLimits | None = None,
    *,
    pumping: bool = False,
    rate: AcceptRate | None = None,
) -> AsyncIterator[ChannelWorld]:
    """Open a listener on a free port; with `pumping` the outbox is moved too.

    Peers are taken in at this rate. The peers of a test are closed after the listener.
    """
    peers: list[Peer] = []
    async with AsyncExitStack() as stack:
        stack.push_async_callback(_close, peers)
        yield await _open(
            stack,
            peers,
            limits or EndpointLimits(held_off_seconds=0.0),
            pumping,
            rate=rate,
        )


async def _open(
    stack: AsyncExitStack,
    peers: list["Peer"],
    limits: EndpointLimits,
    pumping: bool,
    *,
    rate: AcceptRate | None,
) -> ChannelWorld:
    trust = Trust.create()
    server = trust.hub_server()
    tls = server_context(
        server.chain_pem,
        server.key_pem,
        client_ca_pems=[trust.chain.management_ca_pem],
        require_client=True,
    )
    servers, outbox, presence, wakeups = KnownServers(), MemoryOutbox(), PresenceLog(), Wakeups()
    clock = SystemTime()
    source = SignedEvents(outbox, trust.signer(), wakeups, poll_seconds=0.5)
    await stack.enter_async_context(source.polling())
    listener = socket.create_server(("127.0.0.1", 0))
    # Connections inherit it: that a peer does not read shows after kilobytes, not megabytes.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65_536)
    endpoint = await stack.enter_async_context(
        open_endpoint(
            listener=listener,
            tls=tls,
            admission=Admission(servers, CheckedTokens(trust), clock, rate),
            presence=presence,
            wakeups=wakeups,
            limits=limits,
        )
    )
    pump = None
    if pumping:
        pump = await stack.enter_async_context(
            open_pump(reader=outbox, source=source, delivery=endpoint, wakeups=wakeups)
        )
    port = int(listener.getsockname()[1])
    return ChannelWorld(
        trust, servers, outbox, presence, wakeups, source, endpoint, port, pump, clock, peers
    )


async def _close(peers: list["Peer"]) -> None:
    for peer in peers:
        await peer.close()
