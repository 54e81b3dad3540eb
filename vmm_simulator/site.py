"""The composition root: one simulated site, from its configuration to its end."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial

import structlog
from pydantic import JsonValue

from service_shell.clock import Clock, SystemClock
from service_shell.errors import ProgramError
from service_shell.failpoints import NONE, Failpoints, FaultPoints
from service_shell.readiness import ready
from vmm_simulator import seed
from vmm_simulator.broker_roles import BrokerRoles
from vmm_simulator.commands import Commands
from vmm_simulator.config import GuestKind, SimulatorSettings
from vmm_simulator.estate_control import EstateControl
from vmm_simulator.estate_interface import EstateInterface
from vmm_simulator.faults import FaultSet
from vmm_simulator.guest.supervisor import images_locked, start_guest
from vmm_simulator.guest.task import start_task_guest
from vmm_simulator.host_life import HostLife, open_ports, recover_host, start_guests
from vmm_simulator.host_maker import HostMaker
from vmm_simulator.https import serve
from vmm_simulator.hyperv.cycle import ReplicationCycle
from vmm_simulator.hyperv.cycles import Cycles
from vmm_simulator.hyperv.host import Host
from vmm_simulator.hyperv.host_guests import GuestSurroundings, ImagesLocked, StartGuest
from vmm_simulator.job_history import JobHistory
from vmm_simulator.journal import Journal
from vmm_simulator.link_control import LinkControl
from vmm_simulator.live_migration import LiveMigration, finish_migrations
from vmm_simulator.lookout import Lookout
from vmm_simulator.monitoring_interface import MonitoringInterface
from vmm_simulator.outage import Outage
from vmm_simulator.problems import RefusedError
from vmm_simulator.run_as import RunAsStore
from vmm_simulator.self_fencing import SelfFencing
from vmm_simulator.server import Management, VmmInterface
from vmm_simulator.service import VmmService
from vmm_simulator.store import InventoryStore
from vmm_simulator.verbs.call import Fabric

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Site:
    """A running site, as tests hold it; the ports are those in use."""

    fabric: Fabric
    commands: Commands
    lookout: Lookout
    service: VmmService
    faults: FaultSet
    journal: Journal
    control: EstateControl
    fencing: SelfFencing
    vmm_port: int
    management_port: int


@dataclass(frozen=True, slots=True)
class GuestPrograms:
    """How guests are started and seen: the supervisor's functions."""

    start: StartGuest = start_guest
    locked: ImagesLocked = images_locked


def guest_programs(kind: GuestKind, clock: Clock) -> GuestPrograms:
    """Return how the guests of a site are started: as processes, or as tasks of this one."""
    if kind is GuestKind.TASK:
        return GuestPrograms(partial(start_task_guest, clock=clock))
    return GuestPrograms()


async def run_site(
    settings: SimulatorSettings, stop: asyncio.Event, faults: Failpoints = NONE
) -> None:
    """Run the site until `stop` is set."""
    async with open_site(settings, SystemClock(), points=faults) as site:
        facts: dict[str, JsonValue] = {
            "site": settings.site,
            "vmm_port": site.vmm_port,
            "management_port": site.management_port,
            **({"failpoints": [*faults.described()]} if faults.described() else {}),
        }
        with ready(settings.ready_file, facts):
            log.info("site_ready", **facts)
            await stop.wait()


@asynccontextmanager
async def open_site(
    settings: SimulatorSettings,
    clock: Clock,
    programs: GuestPrograms | None = None,
    *,
    points: FaultPoints = NONE,
) -> AsyncIterator[Site]:
    """Bring a site up, and down in reverse; guests end with it. `points`: its failpoints."""
    async with AsyncExitStack() as stack:
        journal = await stack.enter_async_context(
            Journal(settings.data_directory / "journal.sqlite")
        )
        store = await _inventory(settings, journal)
        service = VmmService(store, RunAsStore(settings.data_directory / "run-as.json"))
        if store.service.running:
            await service.run_as.service_started()
        programs = programs or guest_programs(settings.guests, clock)
        maker = _maker(settings, store, clock, programs, points)
        await finish_migrations(store, maker)
        hosts = maker.make_all()
        stack.push_async_callback(_close_all, hosts)
        await _recover(store, hosts)
        group = await stack.enter_async_context(_site_tasks())
        cycles = Cycles(store, group, _cycle_maker(settings, store, hosts, clock), clock)
        fabric = Fabric(
            store=store,
            hosts=hosts,
            cycles=cycles,
            brokers=BrokerRoles(store, hosts),
            clock=clock,
        )
        faults = FaultSet()
        commands = Commands(fabric, journal, faults, group)
        history = JobHistory(journal, clock)
        await history.load()
        lookout = Lookout(fabric, history, settings.replication.interval_seconds)
        await _open_all_ports(store, hosts)
        await fabric.brokers.settle()
        fencing = await _begin(fabric, group)
        control = EstateControl(
            fabric,
            history,
            HostLife(fabric, hosts, maker),
            LiveMigration(fabric, maker),
            commands.holding,
        )
        interface = VmmInterface(fabric, commands, lookout, service, fencing)
        management = Management(
            store,
            journal,
            faults,
            lookout=lookout,
            service=service,
            estate=EstateInterface(control, lookout, service),
            monitoring=MonitoringInterface(store, clock, lookout),
            link=LinkControl(maker.link),
        )
        power = Outage(control)
        vmm_port = await stack.enter_async_context(
            serve(settings.vmm_interface, lambda: power.interface(interface.routes()))
        )
        management_port = await stack.enter_async_context(
            serve(settings.management, lambda: power.management(management.routes()))
        )
        yield Site(
            *(fabric, commands, lookout, service, faults, journal, control, fencing),
            vmm_port=vmm_port,
            management_port=management_port,
        )


async def _begin(fabric: Fabric, group: asyncio.TaskGroup) -> SelfFencing:
    """Have guests run and copies sent; return what stops sources that hear from nobody."""
    await start_guests(fabric, fabric.store.machines.values())
    fabric.cycles.ensure_all()
    fencing = SelfFencing(fabric)
    group.create_task(fencing.run(), name="self-fencing")
    return fencing


async def _inventory(settings: SimulatorSettings, journal: Journal) -> InventoryStore:
    """Return what the journal holds; a new one gets what the configuration says."""
    store = InventoryStore(journal)
    try:
        if not await store.load():
            first = seed.first_inventory(settings)
            await store.seed(
                first.fabric,
                first.clouds.values(),
                first.hosts.values(),
                first.machines.values(),
                first.grants.values(),
            )
            seed.make_library_folders(first.fabric.library_shares)
        if not store.has_service:
            await store.put_service(seed.service(settings))
        await store.begin_run()
    except RefusedError as refusal:
        raise ProgramError(f"{refusal.message}; {refusal.action}") from refusal
    return store


class _SiteEnds(Exception):  # noqa: N818 -- a signal between two lines, no error
    """Ends the task group of the site, and with it whatever is under way."""


@asynccontextmanager
async def _site_tasks() -> AsyncIterator[asyncio.TaskGroup]:
    """Own every command and cycle; what is still under way at the end is cancelled.

    An error of the block itself is raised as it is, not inside a group.
    """
    failure: Exception | None = None
    try:
        async with asyncio.TaskGroup() as group:
            try:
                yield group
            except Exception as error:  # noqa: BLE001 -- raised again below
                failure = error
            raise _SiteEnds  # noqa: TRY301 -- the documented way to end a task group
    except* _SiteEnds:
        log.debug("site_tasks_ended")
    if failure is not None:
        raise failure


def _maker(
    settings: SimulatorSettings,
    store: InventoryStore,
    clock: Clock,
    programs: GuestPrograms,
    points: FaultPoints,
) -> HostMaker:
    surroundings = GuestSurroundings(
        start=programs.start,
        locked=programs.locked,
        ledger_socket=settings.ledger_socket,
        log_directory=settings.data_directory / "guests",
    )
    surroundings.log_directory.mkdir(parents=True, exist_ok=True)
    return HostMaker(
        settings.data_directory,
        settings.hosts_file,
        surroundings,
        store,
        clock,
        kerberos=settings.kerberos,
        faults=points,
    )


def _cycle_maker(
    settings: SimulatorSettings, store: InventoryStore, hosts: Mapping[str, Host], clock: Clock
) -> Callable[[str], ReplicationCycle]:
    def make(machine_id: str) -> ReplicationCycle:
        return ReplicationCycle(
            machine_id,
            store=store,
            host=hosts[store.machine(machine_id).host],
            clock=clock,
            interval_override=settings.replication.interval_seconds,
        )

    return make


async def _close_all(hosts: Mapping[str, Host]) -> None:
    """Close the hosts that there are at the end: some may have come or gone meanwhile."""
    async with AsyncExitStack() as stack:
        for host in hosts.values():
            stack.push_async_callback(host.close)


async def _recover(store: InventoryStore, hosts: Mapping[str, Host]) -> None:
    """Let the back ends finish what a kill has interrupted, and the records follow them."""
    for host in hosts.values():
        try:
            await recover_host(store, host)
        except RefusedError as refusal:
            raise ProgramError(refusal.message) from refusal


async def _open_all_ports(store: InventoryStore, hosts: Mapping[str, Host]) -> None:
    try:
        await open_ports(store, hosts.values())
    except RefusedError as refusal:
        raise ProgramError(f"{refusal.message}; {refusal.action}") from refusal
