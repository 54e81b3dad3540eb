"""The composition root of the hub: makes every part, hands each what it needs, owns them all.

Parts of it: use_case_parts, operator_parts, looker_parts, server_parts, trust_parts, broker_parts,
database_parts, several_hubs.
"""

import asyncio
import socket
from contextlib import AsyncExitStack
from datetime import timedelta

import structlog
from aiohttp import web
from pydantic import JsonValue

from service_hub.broker_parts import open_delivery
from service_hub.channel.admission import Admission
from service_hub.channel.event_source import SignedEvents
from service_hub.channel.mqtt_endpoint import MqttEndpoint, open_endpoint
from service_hub.channel.outbox_pump import open_pump
from service_hub.channel.wakeups import Wakeups
from service_hub.channel.websocket import WebSocketDoor
from service_hub.config import HubSettings
from service_hub.database_parts import is_shared, open_database
from service_hub.engine.chores import doing
from service_hub.engine.committer import GroupCommitter
from service_hub.engine.runner import Engine
from service_hub.looker_parts import LookerParts, looker_parts
from service_hub.operator_parts import operator_application
from service_hub.ports.channel import PresenceSink
from service_hub.provider_api.api import ProviderApi
from service_hub.provider_api.routes import provider_application
from service_hub.root_files import settle
from service_hub.services.audit import AuditedCommitter
from service_hub.several_hubs import (
    AnnouncedPresence,
    KickedEverywhere,
    Neighbours,
    Told,
    hearing,
)
from service_hub.token_parts import token_check
from service_hub.trust import HubTrust, event_signer, load
from service_hub.trust_parts import keeping_trust_fresh, listener_contexts, trust_office
from service_hub.use_case_parts import Parts, UseCases, use_cases
from service_shell.clock import Clock
from service_shell.failpoints import NONE, Failpoints
from service_shell.https_listener import https_served
from service_shell.listener import open_listener
from service_shell.readiness import ready

log = structlog.get_logger(__name__)


async def run_hub(
    settings: HubSettings, clock: Clock, stop: asyncio.Event, faults: Failpoints = NONE
) -> None:
    """Serve until `stop` is set; raises ProgramError when it cannot begin."""
    settle(settings.trust_directory)
    trust = load(settings, clock.now())
    async with AsyncExitStack() as stack:
        listeners = _listeners(stack, settings)
        store = await stack.enter_async_context(open_database(settings, faults))
        tls = await listener_contexts(settings, trust, store, clock)
        wakeups = Wakeups()
        group = GroupCommitter(store, wakeups)
        await stack.enter_async_context(group.running())
        committer = AuditedCommitter(group, clock)
        office = trust_office(settings, trust)
        signer = event_signer(trust, clock.now())
        source = SignedEvents(store, signer, wakeups, faults=faults)
        await stack.enter_async_context(source.polling())
        shared = is_shared(settings)
        parts = Parts(store, committer, office, source, tls, wakeups, faults, shared)
        engine, cases = use_cases(settings, trust, clock, parts)
        await stack.enter_async_context(engine.running())
        await stack.enter_async_context(doing(cases.chores))
        endpoint = await _channel(
            stack,
            settings,
            clock,
            listeners[2],
            trust=trust,
            engine=engine,
            cases=cases,
            parts=parts,
        )
        providers = _provider_application(settings, clock, cases, parts, WebSocketDoor(endpoint))
        await stack.enter_async_context(https_served(providers, listeners[1], tls.provider))
        lookers = _lookers(settings, clock, cases, parts)
        await stack.enter_async_context(lookers.running())
        tokens = await stack.enter_async_context(token_check(settings, trust, clock, store))
        operators = operator_application(
            settings,
            trust,
            clock,
            cases=cases,
            parts=parts,
            lookers=lookers,
            tokens=tokens,
            state=lambda: _state(settings, engine, faults),
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
        stack.callback(lookers.changes.close)
        stack.callback(endpoint.stop)
        facts = {**_addresses(settings), "hub_id": engine.tenure.hub_id}
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
    engine: Engine,
    cases: UseCases,
    parts: Parts,
) -> MqttEndpoint:
    """Open the MQTT listener, the external broker where there is one, and what feeds both."""
    told = Told(parts.committer)
    presence: PresenceSink = cases.providers
    if parts.shared:
        presence = AnnouncedPresence(presence, told, engine.tenure.hub_id)
    admission = Admission(cases.enrolment, parts.office, clock, settings.accept.rate())
    endpoint = await stack.enter_async_context(
        open_endpoint(
            listener=listener,
            tls=parts.tls.mqtt,
            admission=admission,
            presence=presence,
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
    cases.registered.connections.opened(
        KickedEverywhere(delivery, told) if parts.shared else delivery
    )
    if parts.shared:
        neighbours = Neighbours(
            hub_id=engine.tenure.hub_id,
            bell=parts.store,
            reader=parts.store,
            engine=engine,
            wakeups=parts.wakeups,
            own=endpoint,
            delivery=delivery,
        )
        await stack.enter_async_context(hearing(neighbours, told))
    await stack.enter_async_context(
        open_pump(
            reader=parts.store,
            source=parts.source,
            delivery=delivery,
            wakeups=parts.wakeups,
            may_send=lambda: engine.tenure.is_sure,
            faults=parts.faults,
        )
    )
    return endpoint


def _provider_application(
    settings: HubSettings, clock: Clock, cases: UseCases, parts: Parts, door: WebSocketDoor
) -> web.Application:
    """Return the routes of providers; `door` is where MQTT comes in over HTTPS."""
    return provider_application(
        ProviderApi(
            enrolment=cases.enrolment,
            providers=cases.providers,
            office=parts.office,
            tokens=parts.office,
            events=parts.source,
            clock=clock,
            mqtt=door,
            leaving=cases.servers,
            arrivals=settings.accept.rate(),
            faults=parts.faults,
        )
    )


def _lookers(settings: HubSettings, clock: Clock, cases: UseCases, parts: Parts) -> LookerParts:
    """Return what serves whoever looks on; it sends nothing and decides on no job."""
    return looker_parts(
        parts.store,
        parts.committer,
        clock,
        fabrics=cases.fabrics,
        checker=cases.registered.checker,
        plans=cases.plans,
        archive_directory=settings.archive_directory,
        retention=timedelta(days=settings.jobs.retention_days),
        interval=timedelta(seconds=settings.inventory_seconds),
    )


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


def _state(settings: HubSettings, engine: Engine, faults: Failpoints) -> dict[str, JsonValue]:
    """Return what /health says to anybody: nothing of what the hub protects."""
    return {
        "hub_id": engine.tenure.hub_id,
        "hub_name": settings.hub_name,
        "database": settings.database.kind.value,
        "held_jobs": engine.held_count,
        "jobs_standing_still": len(engine.standing_still),
        **({"failpoints": [*faults.described()]} if faults.described() else {}),
    }
