"""The provider API behind its real listener: mutual TLS, real tokens, use cases that record."""

import asyncio
import base64
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from certs.enrolment import encode_certs_only
from certs.identity import (
    PrivateKey,
    certificate_pem,
    certificate_request,
    check_request,
    key_thumbprint,
    new_private_key,
    self_signed_certificate,
    strong_public_key,
    thumbprint,
)
from certs.profiles import Profile
from certs.tls import client_context, provider_listener_context, trust_uploaded_certificate
from service_hub.channel.event_source import SignedEvents
from service_hub.channel.wakeups import Wakeups
from service_hub.domain.records import Provider, ProviderStream, RegistrationKey
from service_hub.ports.channel import IssuedPem
from service_hub.provider_api.api import ProviderApi
from service_hub.provider_api.routes import provider_application
from tests.support.channel_world import (
    TOKYO,
    VAULT_ID,
    CheckedTokens,
    Holder,
    KnownServers,
    SystemTime,
    Trust,
    provider_record,
)
from tests.support.memory_outbox import MemoryOutbox
from wire_contract.reports import (
    EchoAnswer,
    Heartbeat,
    HeartbeatAnswer,
    ReportAnswer,
    ReportBatch,
    SessionAnswer,
    SessionRequest,
    StreamPosition,
)
from wire_contract.vmm_interface import InventoryView

VMM_ID = "33333333-3333-4333-8333-333333333333"
REQUEST_SECONDS_MAX = 30.0


class RecordedUseCases:
    """ProviderUseCases that keep what they were told, or fail as told."""

    def __init__(self, outbox: MemoryOutbox) -> None:
        self._outbox = outbox
        self.told: list[object] = []
        self.failure: Exception | None = None

    async def session(self, provider: Provider, request: SessionRequest) -> SessionAnswer:
        """Answer with the stream."""
        self._note(request)
        return SessionAnswer(
            position=self._position(provider), heartbeat_seconds=60, authorities=()
        )

    async def heartbeat(self, provider: Provider, beat: Heartbeat) -> HeartbeatAnswer:
        """Answer with the stream."""
        self._note(beat)
        return HeartbeatAnswer(highest=self._position(provider), server_time=datetime.now(UTC))

    async def echo(self, provider: Provider) -> EchoAnswer:
        """Answer with the stream's end."""
        self._note("echo")
        return EchoAnswer(event_id="event-1", after=self._position(provider))

    async def inventory(self, provider: Provider, view: InventoryView) -> None:
        """Keep the inventory."""
        del provider
        self._note(view)

    async def reports(self, provider: Provider, batch: ReportBatch) -> ReportAnswer:
        """Accept all of them."""
        del provider
        self._note(batch)
        accepted = tuple(each.report_id for each in batch.reports)
        return ReportAnswer(accepted=accepted, acknowledged=None)

    async def stream(self, provider: Provider) -> ProviderStream:
        """Return the stream."""
        return self._outbox.streams[provider.id]

    def _position(self, provider: Provider) -> StreamPosition:
        stream = self._outbox.streams[provider.id]
        return StreamPosition(stream=stream.stream, seq=stream.next_seq - 1)

    def _note(self, message: object) -> None:
        if self.failure is not None:
            raise self.failure
        self.told.append(message)


class TrustCertificates:
    """CertificateOffice over a real chain."""

    def __init__(self, trust: Trust) -> None:
        self._trust = trust

    @property
    def root_pem(self) -> str:
        """Return the root."""
        return self._trust.chain.root_pem

    def cacerts(self) -> bytes:
        """Return root and management authority."""
        return encode_certs_only([self.root_pem, self._trust.chain.management_ca_pem])

    def requested_name(self, request: bytes) -> str:
        """Return the subject that a request asks for."""
        return x509.load_der_x509_csr(request).subject.rfc4514_string()

    def thumbprint_of(self, certificate_pem: str) -> str:
        """Return the thumbprint of the leaf."""
        return thumbprint(x509.load_pem_x509_certificates(certificate_pem.encode())[0])

    def request_pem(self, request: bytes) -> str:
        """Return the request as text."""
        der = x509.load_der_x509_csr(request)
        return der.public_bytes(serialization.Encoding.PEM).decode("ascii")

    def requested_key(self, request: bytes) -> str:
        """Return the thumbprint of the key that a request is for."""
        return key_thumbprint(strong_public_key(check_request(request)))

    def issue_provider(
        self, request: bytes, provider_id: str, now: datetime, *, trusted_roots: Sequence[str] = ()
    ) -> IssuedPem:
        """Issue a management certificate."""
        del trusted_roots
        csr = x509.load_der_x509_csr(request)
        key: Any = csr.public_key()
        issued = self._trust.chain.issue(Profile.PROVIDER_MANAGEMENT, key, provider_id, now)
        return IssuedPem(issued.chain_pem, thumbprint(issued.certificate))

    def issue_host(
        self, request: bytes, host: str, now: datetime, *, further_names: Sequence[str] = ()
    ) -> IssuedPem:
        """Issue a host certificate."""
        names = [host, *further_names]
        key: Any = x509.load_pem_x509_csr(request).public_key()
        issued = self._trust.chain.issue(Profile.HYPERV_HOST, key, host, now, dns_names=names)
        return IssuedPem(issued.chain_pem, thumbprint(issued.certificate))

    def provider_token(
        self, provider: Provider, certificate_pem: str, now: datetime
    ) -> tuple[str, int]:
        """Return a word instead of a token."""
        del certificate_pem, now
        return f"sealed-for-{provider.id}", 3600


@dataclass
class Answer:
    """What came back."""

    code: int
    body: bytes
    headers: dict[str, str]
    content: Any


@dataclass
class ApiWorld:
    """An open provider listener and all around it."""

    trust: Trust
    servers: KnownServers
    outbox: MemoryOutbox
    cases: RecordedUseCases
    wakeups: Wakeups
    source: SignedEvents
    url: str
    stack: AsyncExitStack
    tls: Any
    sessions: dict[str, aiohttp.ClientSession] = field(default_factory=dict)

    def provider(self, provider_id: str = TOKYO, *, registered: bool = True) -> Holder:
        """Return a server's key and certificate."""
        holder = self.trust.holder(Profile.PROVIDER_MANAGEMENT, provider_id)
        record = provider_record(provider_id, registered=registered)
        self.servers.by_thumbprint[holder.thumbprint] = record
        if provider_id not in self.outbox.streams:
            self.outbox.follow(provider_id)
        return holder

    def registration_key(self, *, uploaded: bool = False) -> Holder:
        """Return a registration key: issued by the authority, or self-signed and uploaded."""
        now = datetime.now(UTC)
        if uploaded:
            key = new_private_key()
            certificate = self_signed_certificate(
                key, "uploaded", now - timedelta(hours=1), now + timedelta(days=1)
            )
            trust_uploaded_certificate(self.tls, certificate)
            holder = Holder(key, certificate_pem(certificate))
        else:
            holder = self.trust.holder(Profile.VAULT_REGISTRATION, "vault")
        self.servers.keys[holder.thumbprint] = RegistrationKey(
            id=holder.thumbprint,
            vault_id=VAULT_ID,
            name="key",
            certificate_pem=holder.chain_pem,
            subject="CN=key",
            issuer="CN=key",
            sha1_thumbprint="00",
            resource_number=1,
            created_at=now,
            valid_from=now,
            expires_at=now + timedelta(hours=120),
        )
        return holder

    def bearer(self, holder: Holder, provider_id: str = TOKYO) -> dict[str, str]:
        """Return the header with the holder's token."""
        token = self.trust.token(provider_id, holder.certificate)
        return {"Authorization": f"Bearer {token}"}

    async def call(
        self,
        method: str,
        path: str,
        holder: Holder | None = None,
        *,
        body: Any = None,
        token: bool = True,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """Send one request as the holder, with a valid token unless told otherwise."""
        session = await self.session(holder)
        sent = self.bearer(holder) if holder is not None and token else {}
        sent.update(headers or {})
        async with session.request(method, self.url + path, data=body, headers=sent) as response:
            data = await response.read()
            is_json = response.content_type == "application/json"
            content = await response.json() if is_json and data else None
            return Answer(response.status, data, dict(response.headers), content)

    async def session(self, holder: Holder | None) -> aiohttp.ClientSession:
        """Return the connections of a holder."""
        name = holder.thumbprint if holder is not None else ""
        if name not in self.sessions:
            root = self.trust.chain.root_pem
            tls = client_context(root) if holder is None else holder.tls(root)
            self.sessions[name] = await self.stack.enter_async_context(
                aiohttp.ClientSession(
                    connector=aiohttp.TCPConnector(ssl=tls),
                    timeout=aiohttp.ClientTimeout(total=REQUEST_SECONDS_MAX),
                )
            )
        return self.sessions[name]


@asynccontextmanager
async def api_world() -> AsyncIterator[ApiWorld]:
    """Serve the provider API on a free port."""
    trust = Trust.create()
    server = trust.hub_server()
    chain = trust.chain
    tls = provider_listener_context(
        server.chain_pem, server.key_pem, chain.management_ca_pem, chain.registration_ca_pem
    )
    servers, outbox, wakeups = KnownServers(), MemoryOutbox(), Wakeups()
    source = SignedEvents(outbox, trust.signer(), wakeups, poll_seconds=0.5)
    office, cases = TrustCertificates(trust), RecordedUseCases(outbox)
    servers.issue = lambda request: _issue(office, request)
    api = ProviderApi(
        enrolment=servers,
        providers=cases,
        office=office,
        tokens=CheckedTokens(trust),
        events=source,
        clock=SystemTime(),
    )
    listener = socket.create_server(("127.0.0.1", 0))
    runner = web.AppRunner(provider_application(api), access_log=None)
    await runner.setup()
    url = f"https://127.0.0.1:{listener.getsockname()[1]}"
    try:
        await web.SockSite(runner, listener, ssl_context=tls).start()
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(source.polling())
            yield ApiWorld(trust, servers, outbox, cases, wakeups, source, url, stack, tls)
            wakeups.close()
    finally:
        await runner.cleanup()
    # aiohttp's client closes its TLS connections in the next turns of the loop.
    await asyncio.sleep(0)


def _issue(office: TrustCertificates, request: bytes) -> IssuedPem:
    now = datetime.now(UTC)
    if request.startswith(b"-----"):
        return office.issue_host(request, "host.tokyo.test", now)
    return office.issue_provider(request, TOKYO, now)


def enrolment_body(common_name: str = VMM_ID, key: PrivateKey | None = None) -> bytes:
    """Return the body of simpleenroll."""
    pem = certificate_request(key or new_private_key(), common_name)
    der = x509.load_pem_x509_csr(pem).public_bytes(serialization.Encoding.DER)
    return base64.encodebytes(der)
