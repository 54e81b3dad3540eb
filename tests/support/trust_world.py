"""The hub's enrolment behind its real listener: real store, trust chain, tokens and use cases."""

import asyncio
import base64
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from certs.chain import TrustChain
from certs.enrolment import chain_for, decode_certs_only
from certs.identity import (
    PrivateKey,
    certificate_request,
    new_private_key,
    private_key_pem,
    thumbprint,
)
from certs.profiles import Profile
from certs.signing import EventSigner
from certs.tls import client_context, provider_listener_context
from certs.tokens import unwrap_token
from service_hub.channel.event_source import SignedEvents
from service_hub.channel.wakeups import Wakeups
from service_hub.domain.records import Provider, RegistrationKey, Vault
from service_hub.engine.committer import GroupCommitter
from service_hub.ports.changes import NEW, Change, Save
from service_hub.provider_api.api import ProviderApi
from service_hub.provider_api.certificate_office import TrustOffice
from service_hub.provider_api.routes import provider_application
from service_hub.services.approvals import ApprovalService
from service_hub.services.certificates import CertificateService
from service_hub.services.enrolment import EnrolmentService
from service_hub.services.providers import ProviderService
from service_hub.store.database import open_store
from service_hub.store.record_store import RecordStore
from wire_contract import paths
from wire_contract.reports import Registration, RegistrationAnswer

VAULT_ID = "0f0f0f0f-0000-4000-8000-000000000001"
VMM_ID = "33333333-3333-4333-8333-333333333333"
ISSUER = "https://hub.test"
REQUEST_SECONDS_MAX = 30.0


@dataclass
class MovedClock:
    """The real time, moved by what a test says."""

    ahead: timedelta = timedelta(0)

    def now(self) -> datetime:
        """Return the moved time."""
        return datetime.now(UTC) + self.ahead

    def new_id(self) -> str:
        """Return a GUID."""
        return str(uuid4())


@dataclass
class KickedConnections:
    """Remembers who was kicked."""

    kicked: list[str] = field(default_factory=list)

    def kick(self, provider_id: str) -> None:
        """Note it."""
        self.kicked.append(provider_id)


class NoJobs:
    """The job side of the hub, which no test of trust reaches."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"{name} is not for tests of trust")


@dataclass
class PlainRegistrations:
    """Stores what registers a server, without the jobs that show it."""

    committer: GroupCommitter

    async def registered(self, provider: Provider, change: Change) -> None:
        """Store the change."""
        del provider
        await self.committer.commit(change)


@dataclass
class Server:
    """A VMM server as the hub sees it: a key, a certificate, an address."""

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


@dataclass
class Answer:
    """What came back."""

    code: int
    body: bytes
    headers: dict[str, str]
    content: Any


@dataclass
class TrustWorld:
    """A hub that enrols, renews and revokes, and the means to speak with it."""

    chain: TrustChain
    token_key: ec.EllipticCurvePrivateKey
    store: RecordStore
    clock: MovedClock
    enrolment: EnrolmentService
    approvals: ApprovalService
    certificates: CertificateService
    providers: ProviderService
    committer: GroupCommitter
    connections: KickedConnections
    source: SignedEvents
    url: str
    stack: AsyncExitStack

    async def registration_key(self) -> Server:
        """Return a registration key of the vault that is valid for 120 hours."""
        key = new_private_key()
        now = self.clock.now()
        issued = self.chain.issue(Profile.VAULT_REGISTRATION, key.public_key(), "vault", now)
        record = RegistrationKey(
            id=thumbprint(issued.certificate),
            vault_id=VAULT_ID,
            name="key",
            certificate_pem=issued.chain_pem,
            subject="CN=vault",
            issuer="CN=vault",
            sha1_thumbprint="00",
            resource_number=1,
            created_at=now,
            valid_from=now - timedelta(minutes=5),
            expires_at=now + timedelta(hours=120),
        )
        await self.committer.commit(Change(saves=(Save(record, NEW),)))
        return Server(key, issued.chain_pem)

    async def call(
        self, path: str, holder: Server | None, body: bytes = b"", token: str | None = None
    ) -> Answer:
        """Send one request over a connection of its own."""
        root = self.chain.root_pem
        tls = client_context(root)
        if holder is not None:
            key_pem = private_key_pem(holder.key)
            tls = client_context(root, chain_pem=holder.chain_pem, key_pem=key_pem)
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        timeout = aiohttp.ClientTimeout(total=REQUEST_SECONDS_MAX)
        async with (
            aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=tls), timeout=timeout
            ) as session,
            session.post(self.url + path, data=body, headers=headers) as response,
        ):
            data = await response.read()
            is_json = response.content_type == "application/json"
            content = await response.json() if is_json and data else None
            return Answer(response.status, data, dict(response.headers), content)

    async def get(self, path: str, holder: Server, token: str) -> int:
        """Send a GET and return what kind of answer came."""
        key_pem = private_key_pem(holder.key)
        tls = client_context(self.chain.root_pem, chain_pem=holder.chain_pem, key_pem=key_pem)
        async with (
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls)) as session,
            session.get(
                self.url + path,
                headers={"Authorization": f"Bearer {token}"},
                timeout=aiohttp.ClientTimeout(total=REQUEST_SECONDS_MAX),
            ) as response,
        ):
            await response.read()
            return response.status

    async def enrol(self, holder: Server, key: PrivateKey, vmm_id: str = VMM_ID) -> Answer:
        """Ask for a first certificate."""
        return await self.call(paths.EST_SIMPLEENROLL, holder, request_body(key, vmm_id))

    async def token(self, server: Server) -> str:
        """Fetch and open the access token of a server."""
        answer = await self.call(paths.TOKEN, server)
        assert answer.code == 200, answer.content
        return unwrap_token(answer.content["token"], server.key)

    async def register(self, server: Server, vmm_id: str = VMM_ID) -> RegistrationAnswer:
        """Take an enrolled server into the vault."""
        registration = Registration(
            vmm_id=vmm_id,
            vmm_fqdn="vmm.test",
            friendly_name="Tokyo",
            provider_version="1",
            vmm_version="1",
        )
        body = registration.model_dump_json().encode()
        answer = await self.call(paths.REGISTRATION, server, body, await self.token(server))
        assert answer.code == 200, answer.content
        return RegistrationAnswer.model_validate(answer.content)

    async def registered(self, vmm_id: str = VMM_ID) -> Server:
        """Return a new server that is registered."""
        key = new_private_key()
        answer = await self.enrol(await self.registration_key(), key, vmm_id)
        server = Server(key, chain_for(decode_certs_only(answer.body), key.public_key()))
        await self.register(server, vmm_id)
        return server

    async def provider(self, server: Server) -> Provider:
        """Return the provider that a server is."""
        found = await self.enrolment.provider_of(server.thumbprint)
        assert found is not None
        return found


def request_body(key: PrivateKey, common_name: str) -> bytes:
    """Return the body of an enrolment."""
    pem = certificate_request(key, common_name)
    der = x509.load_pem_x509_csr(pem).public_bytes(serialization.Encoding.DER)
    return base64.encodebytes(der)


@asynccontextmanager
async def trust_world(folder: Path) -> AsyncIterator[TrustWorld]:
    """Serve the provider API on a free port."""
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(open_store(folder / "hub.db"))
        wakeups = Wakeups()
        committer = GroupCommitter(store, wakeups)
        await stack.enter_async_context(committer.running())
        world = await _open(stack, store, committer, wakeups)
        vault = Vault(
            id=VAULT_ID,
            vault_id=VAULT_ID,
            subscription_id="s",
            resource_group="g",
            name="vault",
            location="l",
            resource_number=1,
            created_at=datetime.now(UTC),
        )
        await committer.commit(Change(saves=(Save(vault, NEW),)))
        yield world
        wakeups.close()
        # aiohttp's client closes its TLS connections in the next turns of the loop.
        await asyncio.sleep(0)


async def _open(
    stack: AsyncExitStack, store: RecordStore, committer: GroupCommitter, wakeups: Wakeups
) -> TrustWorld:
    clock, connections = MovedClock(), KickedConnections()
    chain = TrustChain.create(clock.now(), "Tests")
    token_key = new_private_key()
    office = TrustOffice(chain, token_key, issuer=ISSUER)
    source = SignedEvents(store, event_signer(chain, clock.now()), wakeups, poll_seconds=0.2)
    await stack.enter_async_context(source.polling())
    enrolment = EnrolmentService(
        reader=store,
        committer=committer,
        clock=clock,
        office=office,
        jobs=PlainRegistrations(committer),
        mqtt=("127.0.0.1", 8883),
        heartbeat=timedelta(seconds=60),
    )
    jobs: Any = NoJobs()
    providers = ProviderService(
        reader=store,
        committer=committer,
        clock=clock,
        runner=jobs,
        observers=jobs,
        resigner=source,
        heartbeat=timedelta(seconds=60),
    )
    url = await _serve(stack, chain, enrolment, providers, office, source, clock)
    parts: dict[str, Any] = {
        "reader": store,
        "committer": committer,
        "clock": clock,
        "connections": connections,
    }
    return TrustWorld(
        chain,
        token_key,
        store,
        clock,
        enrolment,
        ApprovalService(office=office, **parts),
        CertificateService(**parts),
        providers,
        committer,
        connections,
        source,
        url,
        stack,
    )


def event_signer(
    chain: TrustChain, now: datetime, lifetime: timedelta | None = None
) -> EventSigner:
    """Return a signer with a new key."""
    key = new_private_key()
    issued = chain.issue(
        Profile.EVENT_SIGNER, key.public_key(), "event signer", now, lifetime=lifetime
    )
    return EventSigner(key, issued.chain_pem)


async def _serve(stack: AsyncExitStack, chain: TrustChain, *parts: Any) -> str:
    enrolment, providers, office, source, clock = parts
    api = ProviderApi(
        enrolment=enrolment,
        providers=providers,
        office=office,
        tokens=office,
        events=source,
        clock=clock,
    )
    key = new_private_key()
    server = chain.issue(
        Profile.HUB_SERVER,
        key.public_key(),
        "hub.test",
        datetime.now(UTC),
        ip_addresses=("127.0.0.1",),
    )
    tls = provider_listener_context(
        server.chain_pem, private_key_pem(key), chain.management_ca_pem, chain.registration_ca_pem
    )
    listener = socket.create_server(("127.0.0.1", 0))
    runner = web.AppRunner(provider_application(api), access_log=None)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await web.SockSite(runner, listener, ssl_context=tls).start()
    return f"https://127.0.0.1:{listener.getsockname()[1]}"
