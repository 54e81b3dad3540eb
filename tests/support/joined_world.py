"""A hub's real channel, provider API, store and engine, and a real agent, in one process.

Only the VMM server is played, and signatures can be spoilt on their way out.
"""

import asyncio
import contextlib
import json
import socket
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

from aiohttp import web
from cryptography import x509

from certs.profiles import Profile
from certs.signing import EventSigner
from certs.tls import provider_listener_context, server_context
from certs.tokens import wrap_token
from provider_agent.agent import run_agent
from provider_agent.config import AgentSettings
from provider_agent.credentials import Identity, IdentityFacts, save_identity
from service_hub.channel.admission import Admission
from service_hub.channel.event_source import SignedEvents
from service_hub.channel.limits import EndpointLimits
from service_hub.channel.mqtt_endpoint import MqttEndpoint, open_endpoint
from service_hub.channel.outbox_pump import open_pump
from service_hub.channel.wakeups import Wakeups
from service_hub.channel.websocket import WebSocketDoor
from service_hub.config import AcceptSettings
from service_hub.domain.accept_rate import AcceptRate
from service_hub.domain.records import OutboxEvent, Provider, ProviderStream
from service_hub.ports.changes import Change, NewEvent
from service_hub.ports.stores import Reader
from service_hub.provider_api.api import ProviderApi
from service_hub.provider_api.routes import provider_application
from service_shell.secret_files import write_secret
from tests.integration.agent_fakes.fake_vmm import TOKEN, FakeVmm
from tests.integration.agent_fakes.waiting import HastyClock, until
from tests.support.channel_world import CheckedTokens, Holder, KnownServers, Trust
from tests.support.hub_world import HubWorld, TickingClock, hub_world
from tests.support.provider_api_world import TrustCertificates
from wire_contract.events import Assignment
from wire_contract.reports import Receipt, ReportBatch
from wire_contract.vocabulary import EventType, ReceiptKind, Verb

SITE = "tokyo"


class RealTime(TickingClock):
    """The real time and real ids, for parts that were made for a clock that stands still."""

    def now(self) -> datetime:
        """Return the real time."""
        return datetime.now(UTC)

    def new_id(self) -> str:
        """Return a GUID that nobody has had."""
        return str(uuid4())


class MovedClock(HastyClock):
    """A clock that is `ahead` of the real time; a test may let it jump."""

    def __init__(self, ahead: timedelta = timedelta(0)) -> None:
        super().__init__()
        self.ahead = ahead

    def now(self) -> datetime:
        """Return the moved time."""
        return super().now() + self.ahead


class Spoiler(Protocol):
    """Spoils one event on its way out."""

    def __call__(self, signer: EventSigner, payload: dict[str, object]) -> str:
        """Return what is sent instead."""
        ...


class SpoiltSigner:
    """Signs as the hub does, but a test may spoil a number so many times."""

    def __init__(self, signer: EventSigner) -> None:
        self._signer = signer
        self.spoilt: dict[int, tuple[Spoiler, int]] = {}
        self.types: defaultdict[int, list[object]] = defaultdict(list)

    def spoil(self, seq: int, spoiler: Spoiler, times: int) -> None:
        """Spoil the next `times` signatures of this number."""
        self.spoilt[seq] = (spoiler, times)

    def sign(self, payload: Mapping[str, object] | bytes) -> str:
        """Return a signature, or what a test wants instead."""
        if isinstance(payload, bytes):
            payload = json.loads(payload)
        assert isinstance(payload, Mapping)
        seq = payload["seq"]
        assert isinstance(seq, int)
        spoiler, times = self.spoilt.get(seq, (None, 0))
        self.types[seq].append(payload["type"])
        if spoiler is None or len(self.types[seq]) > times or payload["type"] == "tombstone":
            return self._signer.sign(payload)
        return spoiler(self._signer, dict(payload))


class SealingServers(KnownServers):
    """Gives tokens as the hub does: readable with the certificate's key alone."""

    def __init__(self, trust: Trust) -> None:
        super().__init__()
        self._trust = trust

    async def token(
        self, provider: Provider, certificate_pem: str, *further: Any
    ) -> tuple[str, int]:
        """Return an access token."""
        del further  # what else the hub notes when it gives a token
        certificate = x509.load_pem_x509_certificate(certificate_pem.encode())
        return wrap_token(self._trust.token(provider.id, certificate), certificate), 3600


class LateReader:
    """Lets the signing source be made before the store is open."""

    def __init__(self) -> None:
        self.reader: Reader | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.reader, name)


@dataclass
class JoinedWorld:
    """The hub and what a test needs to start agents of its one site."""

    folder: Path
    hub: HubWorld
    trust: Trust
    signer: SpoiltSigner
    source: SignedEvents
    endpoint: MqttEndpoint
    vmm: FakeVmm
    mqtt_port: int
    url: str
    holder: Holder
    servers: KnownServers
    mqtt: dict[str, str] = field(default_factory=dict)

    def register(self) -> None:
        """Give the agent its identity; a test may have named another MQTT port."""
        if (self.folder / "agent").exists():
            return
        facts = IdentityFacts(
            provider_id=self.provider.id,
            vault_id="vault",
            vault_name="v",
            vmm_id=self.provider.vmm_id,
            vmm_version="3.2",
            friendly_name=SITE,
            provider_url=self.url,
            mqtt_host="127.0.0.1",
            mqtt_port=self.mqtt_port,
            heartbeat_seconds=60,
            registered_at=datetime.now(UTC),
        )
        root_pem = self.trust.chain.root_pem
        identity = Identity(facts, self.holder.key, self.holder.chain_pem, root_pem)
        save_identity(self.folder / "agent", identity)

    @property
    def provider(self) -> Provider:
        """The site's provider as the hub knows it."""
        return self.hub.providers[SITE]

    async def stream(self) -> ProviderStream:
        """Return the numbering of the site's events."""
        found = await self.hub.store.get(ProviderStream, self.provider.id)
        assert found is not None
        return found.record

    async def event(self, seq: int) -> OutboxEvent | None:
        """Return a stored event."""
        events = await self.hub.store.events_after(self.provider.id, seq - 1, 1)
        return events[0] if events and events[0].seq == seq else None

    async def assign(self, name: str, **changes: Any) -> NewEvent:
        """Have the site shut its machine down, under a job of that name that nobody keeps."""
        now = datetime.now(UTC)
        values: dict[str, Any] = {
            "job": name,
            "task": "ShutdownVmOnPrimary.primary",
            "attempt": 1,
            "fence": 1,
            "item": "item-machine-1",
            "target": "machine-1",
            "epoch": 1,
            "verb": Verb.SHUT_DOWN.value,
            "arguments": {"seconds": 1},
            "deadline": now + timedelta(seconds=60),
        }
        body = Assignment.model_validate({**values, **changes})
        event = NewEvent(
            event_id=str(uuid4()),
            vault_id="vault",
            provider_id=self.provider.id,
            type=EventType.ASSIGNMENT,
            issued_at=now,
            expires_at=body.deadline,
            body=body.model_dump(mode="json"),
        )
        await self.hub.committer.commit(Change(events=(event,)))
        return event

    async def acknowledged(self, seq: int) -> None:
        """Return when the agent has journalled everything up to a number; bounded."""
        async with asyncio.timeout(20):
            while (await self.stream()).acknowledged_seq < seq:
                await asyncio.sleep(0.01)

    @property
    def ready_file(self) -> Path:
        """Where the agent says that it is ready."""
        return self.folder / "ready.json"

    @property
    def journal_file(self) -> Path:
        """The agent's journal."""
        return self.folder / "agent" / "journal.db"

    def settings(self) -> AgentSettings:
        """The agent's configuration."""
        return AgentSettings.model_validate(
            {
                "data_directory": self.folder / "agent",
                "ready_file": self.ready_file,
                "vmm": {
                    "url": self.vmm.url,
                    "ca_file": self.folder / "ca.pem",
                    "token_file": self.folder / "vmm.token",
                },
                "watch_seconds": 0.05,
                "tasks": {"read_back_seconds": 0.0},
                "mqtt": self.mqtt,
            }
        )

    @contextlib.asynccontextmanager
    async def agent(self, ahead: timedelta = timedelta(0)) -> AsyncIterator[MovedClock]:
        """Run the site's agent until the block is left; it is ready when the block begins.

        Its clock, which the block gets, is `ahead` of the hub's.
        """
        clock = MovedClock(ahead)
        self.register()
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            task = group.create_task(run_agent(self.settings(), clock, stop))
            try:
                await until(lambda: self.ready_file.exists() or task.done(), "the agent is ready")
                yield clock
            finally:
                stop.set()
                if not task.done():
                    await asyncio.wait({task}, timeout=10)


async def acknowledge_by_hand(world: JoinedWorld) -> None:
    """Take in all that was sent while somebody spoke for the agent."""
    events = await world.hub.store.events_after(world.provider.id, 0, 1000)
    receipts = tuple(
        Receipt(
            report_id=event.id,
            stream=event.stream,
            seq=event.seq,
            event_id=event.id,
            receipt=ReceiptKind.ACCEPTED,
            command_id=f"{event.body.get('job')}/{event.body.get('task')}",
        )
        for event in events
    )
    await world.hub.reports.reports(world.provider, ReportBatch(journal_id="", reports=receipts))


@contextlib.asynccontextmanager
async def joined_world(
    folder: Path, *, accept: AcceptSettings | None = None
) -> AsyncIterator[JoinedWorld]:
    """Open the hub's parts on free ports, with the site's identity in `folder`."""
    trust, wakeups, late = Trust.create(), Wakeups(), LateReader()
    (folder / "ca.pem").write_text(trust.chain.root_pem)
    write_secret(folder / "vmm.token", TOKEN.encode())
    signer = SpoiltSigner(trust.signer())
    reader: Any = late
    source = SignedEvents(reader, signer, wakeups, poll_seconds=0.5)
    async with AsyncExitStack() as stack:
        hub = await stack.enter_async_context(
            hub_world(folder, clock=RealTime(), outbox=wakeups, resigner=source)
        )
        late.reader = hub.store
        await stack.enter_async_context(source.polling())
        yield await _open(stack, folder, _Ground(hub, trust, wakeups, signer, source, accept))


@dataclass
class _Ground:
    """What the listeners stand on."""

    hub: HubWorld
    trust: Trust
    wakeups: Wakeups
    signer: SpoiltSigner
    source: SignedEvents
    accept: AcceptSettings | None

    def rate(self) -> AcceptRate | None:
        """Return a new bucket, where there is one."""
        return None if self.accept is None else self.accept.rate()


async def _open(stack: AsyncExitStack, folder: Path, ground: _Ground) -> JoinedWorld:
    hub, trust, wakeups, source = ground.hub, ground.trust, ground.wakeups, ground.source
    server, servers = trust.hub_server(), SealingServers(trust)
    tokens, clock = CheckedTokens(trust), RealTime()
    mqtt_tls = server_context(
        server.chain_pem,
        server.key_pem,
        client_ca_pems=[trust.chain.management_ca_pem],
        require_client=True,
    )
    listener = socket.create_server(("127.0.0.1", 0))
    endpoint = await stack.enter_async_context(
        open_endpoint(
            listener=listener,
            tls=mqtt_tls,
            admission=Admission(servers, tokens, clock, ground.rate()),
            presence=hub.reports,
            wakeups=wakeups,
            limits=EndpointLimits(held_off_seconds=0.0),
        )
    )
    await stack.enter_async_context(
        open_pump(reader=hub.store, source=source, delivery=endpoint, wakeups=wakeups)
    )
    api = ProviderApi(
        enrolment=servers,
        providers=hub.reports,
        office=TrustCertificates(trust),
        tokens=tokens,
        events=source,
        clock=clock,
        mqtt=WebSocketDoor(endpoint),
        arrivals=ground.rate(),
    )
    runner = web.AppRunner(provider_application(api), access_log=None, shutdown_timeout=2)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    https = socket.create_server(("127.0.0.1", 0))
    chain = trust.chain
    tls = provider_listener_context(
        server.chain_pem, server.key_pem, chain.management_ca_pem, chain.registration_ca_pem
    )
    await web.SockSite(runner, https, ssl_context=tls).start()
    stack.callback(wakeups.close)
    stack.callback(endpoint.stop)
    vmm = FakeVmm()
    vmm.add("machine-1", epoch=1)
    await stack.enter_async_context(vmm.serve(server_context(server.chain_pem, server.key_pem)))
    world = JoinedWorld(
        folder=folder,
        hub=hub,
        trust=trust,
        signer=ground.signer,
        source=source,
        endpoint=endpoint,
        vmm=vmm,
        mqtt_port=int(listener.getsockname()[1]),
        url=f"https://127.0.0.1:{https.getsockname()[1]}",
        holder=trust.holder(Profile.PROVIDER_MANAGEMENT, hub.providers[SITE].id),
        servers=servers,
    )
    servers.by_thumbprint[world.holder.thumbprint] = world.provider
    return world
