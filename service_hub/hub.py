"""The composition root of the hub: makes every part, hands each what it needs, owns them all."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

import structlog
from aiohttp import web

from certs.profiles import LIFETIMES, Profile
from service_hub.arm.api import ArmApi
from service_hub.arm.routes import arm_routes
from service_hub.broker_parts import open_delivery
from service_hub.channel.admission import Admission
from service_hub.channel.event_source import SignedEvents
from service_hub.channel.mqtt_endpoint import MqttEndpoint, open_endpoint
from service_hub.channel.outbox_pump import open_pump
from service_hub.channel.wakeups import Wakeups
from service_hub.channel.websocket import WebSocketDoor
from service_hub.config import HubSettings
from service_hub.engine.committer import GroupCommitter
from service_hub.engine.runner import Engine
from service_hub.hub_api.authority_routes import AuthorityApi, authority_routes
from service_hub.hub_api.operator_tokens import SignedOperatorTokens
from service_hub.hub_api.routes import HubApi, hub_routes
from service_hub.hub_api.server_routes import ServersApi, server_routes
from service_hub.hub_api.trust_routes import TrustApi, trust_routes
from service_hub.ports import Connections
from service_hub.provider_api.api import ProviderApi
from service_hub.provider_api.certificate_office import TrustOffice, UploadedRegistrations
from service_hub.provider_api.registration_office import RegistrationOffice
from service_hub.provider_api.routes import provider_application
from service_hub.root_files import settle
from service_hub.server_parts import ServerParts, server_parts
from service_hub.services.approvals import ApprovalService
from service_hub.services.certificates import CertificateService
from service_hub.services.completion import CompletionService
from service_hub.services.enrolment import EnrolmentService
from service_hub.services.fabrics import FabricService
from service_hub.services.jobs import JobService
from service_hub.services.operator_signatures import SignatureSettings
from service_hub.services.pairing import PairingService
from service_hub.services.policies import PolicyService
from service_hub.services.prerequisites import PrerequisitesService
from service_hub.services.protection import ProtectionService
from service_hub.services.providers import ProviderService
from service_hub.services.requests import RequestLedger
from service_hub.services.servers import ServerService
from service_hub.services.vaults import VaultService
from service_hub.store.backup import DatabaseInUseError, exclusive, make_private
from service_hub.store.database import DatabaseUnusableError, open_store
from service_hub.store.record_store import RecordStore
from service_hub.trust import HubTrust, event_signer, load
from service_hub.trust_parts import Tls, keeping_trust_fresh, listener_contexts, trust_office
from service_shell.clock import Clock, boottime
from service_shell.errors import ProgramError
from service_shell.failpoints import NONE, Failpoints
from service_shell.https_listener import https_served
from service_shell.listener import open_listener
from service_shell.readiness import ready

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _UseCases:
    """The parts that the edges call."""

    vaults: VaultService
    fabrics: FabricService
    policies: PolicyService
    pairing: PairingService
    protection: ProtectionService
    jobs: JobService
    enrolment: EnrolmentService
    providers: ProviderService
    servers: ServerService
    registered: ServerParts


@dataclass(frozen=True, slots=True)
class _Parts:
    """What the use cases stand on."""

    store: RecordStore
    committer: GroupCommitter
    office: TrustOffice
    source: SignedEvents
    tls: Tls
    wakeups: Wakeups
    faults: Failpoints


async def run_hub(
    settings: HubSettings, clock: Clock, stop: asyncio.Event, faults: Failpoints = NONE
) -> None:
    """Serve until `stop` is set; raises ProgramError when it cannot begin."""
    settle(settings.trust_directory)
    trust = load(settings, clock.now())
    async with AsyncExitStack() as stack:
        listeners = _listeners(stack, settings)
        store = await stack.enter_async_context(_store(settings, faults))
        tls = await listener_contexts(settings, trust, store, clock)
        wakeups = Wakeups()
        committer = GroupCommitter(store, wakeups)
        await stack.enter_async_context(committer.running())
        office = trust_office(settings, trust)
        signer = event_signer(trust, clock.now())
        source = SignedEvents(store, signer, wakeups, faults=faults)
        await stack.enter_async_context(source.polling())
        parts = _Parts(store, committer, office, source, tls, wakeups, faults)
        engine, cases = _use_cases(settings, trust, clock, parts)
        await stack.enter_async_context(engine.running())
        endpoint = await _channel(
            stack, settings, clock, listeners[2], trust=trust, cases=cases, parts=parts
        )
        provider_api = ProviderApi(
            enrolment=cases.enrolment,
            providers=cases.providers,
            office=office,
            tokens=office,
            events=source,
            clock=clock,
            mqtt=WebSocketDoor(endpoint),
            leaving=cases.servers,
            arrivals=settings.accept.rate(),
            faults=faults,
        )
        await stack.enter_async_context(
            https_served(provider_application(provider_api), listeners[1], tls.provider)
        )
        trust_api = _trust_api(
            settings,
            trust,
            clock,
            cases=cases,
            parts=parts,
            connections=cases.registered.connections,
        )
        operators = _operator_application(
            settings, trust, clock, cases=cases, trust_api=trust_api, faults=faults
        )
        await stack.enter_async_context(https_served(operators, listeners[0], tls.operator))
        await stack.enter_async_context(
            keeping_trust_fresh(
                settings,
                trust,
                clock,
                tls=tls,
                signer=signer,
                source=source,
                reader=store,
                committer=committer,
                connections=cases.registered.connections,
            )
        )
        stack.callback(wakeups.close)
        stack.callback(endpoint.stop)
        facts = _addresses(settings)
        stack.enter_context(ready(settings.ready_file, facts))
        log.info("hub_ready", **facts)
        await stop.wait()
        log.info("hub_stopping")


async def _channel(
    stack: AsyncExitStack,
    settings: HubSettings,
    clock: Clock,
    listener: socket.socket,
    *,
    trust: HubTrust,
    cases: _UseCases,
    parts: _Parts,
) -> MqttEndpoint:
    """Open the MQTT listener, the external broker where there is one, and what feeds both."""
    admission = Admission(cases.enrolment, parts.office, clock, settings.accept.rate())
    endpoint = await stack.enter_async_context(
        open_endpoint(
            listener=listener,
            tls=parts.tls.mqtt,
            admission=admission,
            presence=cases.providers,
            wakeups=parts.wakeups,
        )
    )
    delivery = await stack.enter_async_context(
        open_delivery(
            settings.broker,
            trust,
            clock,
            own=endpoint,
            reader=parts.store,
            presence=cases.providers,
            wakeups=parts.wakeups,
        )
    )
    cases.registered.connections.opened(delivery)
    await stack.enter_async_context(
        open_pump(
            reader=parts.store,
            source=parts.source,
            delivery=delivery,
            wakeups=parts.wakeups,
            faults=parts.faults,
        )
    )
    return endpoint


def _listeners(stack: AsyncExitStack, settings: HubSettings) -> list[socket.socket]:
    """Open the listeners of operators, providers and MQTT; the stack closes them."""
    listeners = []
    for listen in (settings.operator, settings.provider, settings.mqtt):
        listeners.append(open_listener(listen.host, listen.port))
        stack.callback(listeners[-1].close)
    return listeners


def _addresses(settings: HubSettings) -> dict[str, str]:
    return {
        "operator_url": settings.public_url,
        "provider_url": settings.provider.public_url,
        "mqtt_url": settings.mqtt_url,
    }


@asynccontextmanager
async def _store(settings: HubSettings, faults: Failpoints) -> AsyncIterator[RecordStore]:
    settings.data_directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        with exclusive(settings.database):
            make_private(settings.database)
            async with open_store(settings.database, faults, frees_leases=True) as store:
                yield store
    except (DatabaseUnusableError, DatabaseInUseError) as error:
        raise ProgramError(str(error)) from error


def _use_cases(
    settings: HubSettings, trust: HubTrust, clock: Clock, parts: _Parts
) -> tuple[Engine, _UseCases]:
    store, committer = parts.store, parts.committer
    heartbeat = timedelta(seconds=settings.heartbeat_seconds)
    fabrics = FabricService(reader=store, clock=clock, lease=settings.lease)
    office = RegistrationOffice(trust.chains, provider_url=settings.provider.public_url)
    checker = PrerequisitesService(reader=store, clock=clock, fabrics=fabrics)
    registered = server_parts(store, committer, clock, fabrics, checker=checker, office=office)
    engine = Engine(
        reader=store,
        committer=committer,
        checker=registered.checker,
        liveness=fabrics,
        clock=clock,
        leases=store,
        boottime=boottime,
        faults=parts.faults,
    )
    requests = RequestLedger(reader=store, clock=clock)
    policies = PolicyService(reader=store, runner=engine, clock=clock, requests=requests)
    protection = ProtectionService(
        reader=store, runner=engine, clock=clock, fabrics=fabrics, requests=requests
    )
    completion = CompletionService(reader=store, protection=protection)
    engine.follow(completion)
    servers = ServerService(
        reader=store,
        runner=engine,
        clock=clock,
        fabrics=fabrics,
        requests=requests,
        departures=registered.departures,
    )
    return engine, _UseCases(
        vaults=_vaults(settings, clock, parts, registered),
        fabrics=fabrics,
        policies=policies,
        pairing=PairingService(
            reader=store,
            runner=engine,
            clock=clock,
            fabrics=fabrics,
            policies=policies,
            requests=requests,
        ),
        protection=protection,
        jobs=JobService(reader=store, runner=engine, clock=clock, requests=requests),
        enrolment=EnrolmentService(
            reader=store,
            committer=committer,
            clock=clock,
            office=parts.office,
            jobs=servers,
            mqtt=(settings.mqtt.public_host, settings.mqtt.public_port or settings.mqtt.port),
            heartbeat=heartbeat,
        ),
        servers=servers,
        registered=registered,
        providers=ProviderService(
            reader=store,
            committer=committer,
            clock=clock,
            runner=engine,
            observers=completion,
            resigner=parts.source,
            heartbeat=heartbeat,
            roots=trust.chains,
            offered_version=settings.provider_version,
        ),
    )


def _vaults(
    settings: HubSettings, clock: Clock, parts: _Parts, registered: ServerParts
) -> VaultService:
    return VaultService(
        reader=parts.store,
        committer=parts.committer,
        clock=clock,
        authority=UploadedRegistrations(parts.tls.provider),
        departures=registered.departures,
        key_lifetime=LIFETIMES[Profile.VAULT_REGISTRATION],
        provider_url=settings.provider.public_url,
    )


def _trust_api(
    settings: HubSettings,
    trust: HubTrust,
    clock: Clock,
    *,
    cases: _UseCases,
    parts: _Parts,
    connections: Connections,
) -> TrustApi:
    return TrustApi(
        vaults=cases.vaults,
        approvals=ApprovalService(
            reader=parts.store,
            committer=parts.committer,
            clock=clock,
            office=parts.office,
            connections=connections,
        ),
        certificates=CertificateService(
            reader=parts.store, committer=parts.committer, clock=clock, connections=connections
        ),
        signatures=SignatureSettings(reader=parts.store, committer=parts.committer),
        tokens=SignedOperatorTokens(trust.token_key.public_key(), issuer=settings.public_url),
        clock=clock,
    )


def _operator_application(
    settings: HubSettings,
    trust: HubTrust,
    clock: Clock,
    *,
    cases: _UseCases,
    trust_api: TrustApi,
    faults: Failpoints,
) -> web.Application:
    tokens = SignedOperatorTokens(trust.token_key.public_key(), issuer=settings.public_url)
    hub_api = HubApi(
        vaults=cases.vaults,
        tokens=tokens,
        clock=clock,
        root_pem=lambda: trust.chains.roots_pem,
        failpoints=faults.described(),
    )
    arm_api = ArmApi(
        vaults=cases.vaults,
        fabrics=cases.fabrics,
        policies=cases.policies,
        pairing=cases.pairing,
        protection=cases.protection,
        jobs=cases.jobs,
        servers=cases.servers,
        tokens=tokens,
        clock=clock,
        public_url=settings.public_url,
        retry_after_seconds=settings.retry_after_seconds,
    )
    keys = cases.registered.keys
    servers_api = ServersApi(
        vaults=cases.vaults, keys=keys, servers=cases.servers, tokens=tokens, clock=clock
    )
    authority_api = AuthorityApi(door=servers_api, authorities=cases.registered.authorities)
    application = web.Application()
    # The ARM routes end with a catch-all: the hub's own come first.
    own = (*hub_routes(hub_api), *server_routes(servers_api), *trust_routes(trust_api))
    application.add_routes([*own, *authority_routes(authority_api), *arm_routes(arm_api)])
    return application
