"""The composition root of `provider-agent run`: everything is made and passed in here."""

import asyncio
import contextlib
import os
import ssl
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass
from typing import Any, Final

import structlog

from certs.signing import EventVerifier
from certs.tls import TlsMaterialError, client_context
from provider_agent.config import AgentSettings, VmmSettings
from provider_agent.credentials import Identity, load_identity
from provider_agent.departure import Departure
from provider_agent.executor import Executor, Signals
from provider_agent.fabric.simulated_vmm import SimulatedVmm
from provider_agent.fabric.vmm_service import VmmService
from provider_agent.host_certificates import HostCertificates
from provider_agent.hub_client import AccessToken, HubClient
from provider_agent.hub_https import HubHttps
from provider_agent.intake import EventIntake
from provider_agent.journal import Journal
from provider_agent.operator_orders import OperatorOrders
from provider_agent.pinned_roots import PinnedRoots
from provider_agent.proxy import HubRoute, load_rules
from provider_agent.proxy_account import ProxyAccount
from provider_agent.puller import EventPuller
from provider_agent.renewal import Renewal
from provider_agent.reporter import Reporter
from provider_agent.scripts import Scripts
from provider_agent.session import Session
from provider_agent.subscriber import MqttAddresses, Subscriber
from provider_agent.update_policy import load_policy
from provider_agent.wake import Wake
from provider_agent.watcher import Watcher
from service_shell.clock import Clock
from service_shell.errors import ProgramError
from service_shell.failpoints import NONE, Failpoints, FaultPoints
from service_shell.readiness import ready
from service_shell.secret_files import read_secret

TOKEN_BYTES_MAX: Final = 4096
CA_BYTES_MAX: Final = 262_144
JOURNAL_FILE: Final = "journal.db"
SCRIPTS_FOLDER: Final = "scripts"
"""Where scripts of recovery plans have their working folders while they run."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Parts:
    """The loops of a running provider, and what tells that it is ready."""

    session: Session
    renewal: Renewal
    subscriber: Subscriber
    watcher: Watcher
    puller: EventPuller
    reporter: Reporter
    executor: Executor
    departure: Departure
    proxy_account: ProxyAccount

    def loops(self) -> tuple[Coroutine[Any, Any, None], ...]:
        """Return everything that runs for ever."""
        return (
            self.session.run(),
            self.session.beat(),
            self.renewal.run(),
            self.subscriber.run(),
            self.puller.run(),
            self.reporter.run(),
            self.executor.run(),
            self.watcher.watch(),
            self.watcher.send(),
            self.proxy_account.run(),
        )

    async def until_ready(self) -> None:
        """Return once the hub knows this provider and its fabric, and events arrive at once."""
        await self.session.connected.wait()
        await self.session.confirmed.wait()
        await self.watcher.inventory_posted.wait()
        await self.subscriber.connected.wait()


@contextlib.asynccontextmanager
async def vmm_driver(settings: VmmSettings) -> AsyncIterator[SimulatedVmm]:
    """Open the driver of the VMM server that the configuration names."""
    token = read_secret(settings.token_file, TOKEN_BYTES_MAX).decode(errors="replace").strip()
    if not token.isascii() or not token.isprintable() or not token:
        raise ProgramError(f"{settings.token_file} holds no token; write the VMM server's into it")
    try:
        with settings.ca_file.open("rb") as stream:
            ca_pem = stream.read(CA_BYTES_MAX).decode("ascii")
        tls = client_context(ca_pem)
    except (OSError, ValueError, TlsMaterialError) as error:
        raise ProgramError(
            f"cannot use vmm.ca_file {settings.ca_file}: {error};"
            " name the PEM file of the CA that issued the VMM server's certificate"
        ) from error
    async with SimulatedVmm.connect(settings.url, tls, token) as driver:
        yield driver


@contextlib.asynccontextmanager
async def assemble(
    settings: AgentSettings, identity: Identity, clock: Clock, faults: FaultPoints = NONE
) -> AsyncIterator[Parts]:
    """Make all parts of a provider and close what they hold open afterwards."""
    facts, data_directory = identity.facts, settings.data_directory
    tls = _identity_context(settings, identity)
    async with contextlib.AsyncExitStack() as stack:
        opening = Journal.open(data_directory / JOURNAL_FILE, clock.new_id())
        journal = await stack.enter_async_context(opening)
        driver = await stack.enter_async_context(vmm_driver(settings.vmm))
        route = HubRoute(load_rules(settings.proxy, data_directory, os.environ))
        https = await stack.enter_async_context(HubHttps.connect(facts.provider_url, tls, route))
        hub = HubClient(https, AccessToken(https, identity.key, clock.now))
        updates = load_policy(data_directory, settings.node)
        orders = OperatorOrders(data_directory, journal, driver, clock)
        verifier = EventVerifier(identity.root_pem)
        roots = PinnedRoots(identity, verifier, clock, data_directory)
        session = Session(
            *(hub, driver, journal, clock, facts.vmm_version),
            updates=updates,
            orders=orders,
            roots=roots,
        )
        intake = EventIntake(
            *(verifier, facts.provider_id, journal, clock), session_due=session.due, faults=faults
        )
        subscriber = Subscriber(
            *(hub, intake, session, clock),
            provider_id=facts.provider_id,
            addresses=MqttAddresses.of(facts.mqtt_host, facts.mqtt_port, facts.provider_url),
            transport=settings.mqtt.transport,
            tls=tls,
            route=route,
        )
        renewal = Renewal(
            hub,
            subscriber,
            identity,
            clock,
            data_directory=data_directory,
            connect=lambda tls: HubHttps.connect(facts.provider_url, tls, route),
            roots=roots,
        )
        leaving = Wake()
        reporter = Reporter(hub, journal, session, intake.reports_due, clock, faults=faults)
        yield Parts(
            session=session,
            renewal=renewal,
            subscriber=subscriber,
            watcher=_watcher(settings, hub, driver, journal, session, clock=clock, intake=intake),
            puller=EventPuller(
                hub, intake, journal, session=session, subscriber=subscriber, clock=clock
            ),
            reporter=reporter,
            departure=Departure(
                journal, reporter, leaving, driver=driver, service=VmmService(driver)
            ),
            executor=Executor(
                *(driver, journal, session, HostCertificates(hub, clock), clock),
                orders=orders,
                scripts=Scripts(driver, data_directory / SCRIPTS_FOLDER),
                signals=Signals(work=intake.work_due, reports=intake.reports_due, leaving=leaving),
                limits=settings.tasks,
                faults=faults,
            ),
            proxy_account=ProxyAccount(VmmService(driver), route, session.fabric_returned),
        )


def _watcher(
    settings: AgentSettings,
    hub: HubClient,
    driver: SimulatedVmm,
    journal: Journal,
    session: Session,
    *,
    clock: Clock,
    intake: EventIntake,
) -> Watcher:
    return Watcher(
        *(hub, driver, journal, session, clock),
        reports_due=intake.reports_due,
        inventory_due=intake.inventory_due,
        watch_seconds=settings.watch_seconds,
        inventory_seconds=settings.inventory_seconds,
        announcements=driver,
    )


def _identity_context(settings: AgentSettings, identity: Identity) -> ssl.SSLContext:
    try:
        return client_context(
            identity.root_pem, chain_pem=identity.chain_pem, key_pem=identity.key_pem
        )
    except TlsMaterialError as error:
        raise ProgramError(
            f"the identity in {settings.data_directory} is damaged: {error}; register again"
        ) from error


async def run_agent(
    settings: AgentSettings, clock: Clock, stop: asyncio.Event, faults: Failpoints = NONE
) -> None:
    """Run until `stop` is set; ready is said once the provider can be commanded."""
    identity = load_identity(settings.data_directory, clock.now())
    provider_id = identity.facts.provider_id
    async with assemble(settings, identity, clock, faults) as parts, asyncio.TaskGroup() as group:
        log.info("agent_started", provider_id=provider_id, vault=identity.facts.vault_name)
        loops = [group.create_task(loop) for loop in parts.loops()]
        loops.append(group.create_task(_leave(parts.departure, settings, stop)))
        stopped = group.create_task(_until(stop))
        becoming = group.create_task(parts.until_ready())
        await asyncio.wait({stopped, becoming}, return_when=asyncio.FIRST_COMPLETED)
        if becoming.done() and not stop.is_set():
            log.info("agent_ready", provider_id=provider_id)
            facts: dict[str, object] = {"provider_id": provider_id, "connected": True}
            if set_points := faults.described():
                facts["failpoints"] = set_points
            with ready(settings.ready_file, facts):
                await stop.wait()
        for task in (*loops, becoming):
            task.cancel()
    log.info("agent_stopped", provider_id=provider_id)


async def _leave(departure: Departure, settings: AgentSettings, stop: asyncio.Event) -> None:
    """End the program once this server has been taken out of its vault."""
    await departure.complete(settings.data_directory)
    stop.set()


async def _until(stop: asyncio.Event) -> None:
    await stop.wait()
