"""The composition root: one simulated site, from its configuration to its end."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import structlog

from service_shell.clock import Clock, SystemClock
from service_shell.errors import ProgramError
from service_shell.readiness import ready
from vmm_simulator import seed
from vmm_simulator.commands import Commands
from vmm_simulator.config import SimulatorSettings
from vmm_simulator.faults import FaultSet
from vmm_simulator.guest.supervisor import images_locked, start_guest
from vmm_simulator.https import serve
from vmm_simulator.hyperv.addresses import read_hosts
from vmm_simulator.hyperv.backend import BackendStateError
from vmm_simulator.hyperv.cycle import ReplicationCycle
from vmm_simulator.hyperv.cycles import Cycles
from vmm_simulator.hyperv.embedded import EmbeddedBackend
from vmm_simulator.hyperv.host import Host
from vmm_simulator.hyperv.host_client import HostClient
from vmm_simulator.hyperv.host_credentials import HostCredentials
from vmm_simulator.hyperv.host_guests import (
    GuestSurroundings,
    HostGuests,
    ImagesLocked,
    StartGuest,
    disk_files,
)
from vmm_simulator.hyperv.receiver import ReplicaReceiver
from vmm_simulator.journal import Journal
from vmm_simulator.lookout import Lookout
from vmm_simulator.problems import RefusedError
from vmm_simulator.run_as import RunAsStore
from vmm_simulator.server import Management, VmmInterface
from vmm_simulator.service import VmmService
from vmm_simulator.store import InventoryStore
from vmm_simulator.verbs.call import Fabric
from vmm_simulator.vmm.records import HostRecord

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
    vmm_port: int
    management_port: int


@dataclass(frozen=True, slots=True)
class GuestPrograms:
    """How guests are started and seen: the supervisor's functions."""

    start: StartGuest = start_guest
    locked: ImagesLocked = images_locked


async def run_site(settings: SimulatorSettings, stop: asyncio.Event) -> None:
    """Run the site until `stop` is set."""
    async with open_site(settings, SystemClock()) as site:
        facts = {
            "site": settings.site,
            "vmm_port": site.vmm_port,
            "management_port": site.management_port,
        }
        with ready(settings.ready_file, facts):
            log.info("site_ready", **facts)
            await stop.wait()


@asynccontextmanager
async def open_site(
    settings: SimulatorSettings, clock: Clock, programs: GuestPrograms | None = None
) -> AsyncIterator[Site]:
    """Bring a site up, and down in reverse; guests end with it."""
    async with AsyncExitStack() as stack:
        journal = await stack.enter_async_context(
            Journal(settings.data_directory / "journal.sqlite")
        )
        store = await _inventory(settings, journal)
        service = VmmService(store, RunAsStore(settings.data_directory / "run-as.json"))
        if store.service.running:
            await service.run_as.service_started()
        hosts = _hosts(settings, store, clock, programs or GuestPrograms())
        for host in hosts.values():
            stack.push_async_callback(host.close)
        await _recover(store, hosts)
        group = await stack.enter_async_context(_site_tasks())
        cycles = Cycles(store, group, _cycle_maker(settings, store, hosts, clock))
        fabric = Fabric(store=store, hosts=hosts, cycles=cycles, clock=clock)
        faults = FaultSet()
        commands = Commands(fabric, journal, faults, group)
        lookout = Lookout(fabric, settings.replication.interval_seconds)
        await _open_ports(store, hosts)
        await _start_guests(fabric)
        cycles.ensure_all()
        interface = VmmInterface(fabric, commands, lookout, service)
        management = Management(store, journal, faults, lookout, service)
        vmm_port = await stack.enter_async_context(serve(settings.vmm_interface, interface.routes))
        management_port = await stack.enter_async_context(
            serve(settings.management, management.routes)
        )
        yield Site(
            fabric=fabric,
            commands=commands,
            lookout=lookout,
            service=service,
            faults=faults,
            journal=journal,
            vmm_port=vmm_port,
            management_port=management_port,
        )


async def _inventory(settings: SimulatorSettings, journal: Journal) -> InventoryStore:
    """Return what the journal holds; a new one gets what the configuration says."""
    store = InventoryStore(journal)
    try:
        if not await store.load():
            await store.seed(
                seed.fabric(settings),
                seed.clouds(settings),
                seed.hosts(settings),
                seed.machines(settings),
            )
        if not store.has_service:
            await store.put_service(seed.service(settings))
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


def _hosts(
    settings: SimulatorSettings, store: InventoryStore, clock: Clock, programs: GuestPrograms
) -> Mapping[str, Host]:
    addresses = read_hosts(settings.hosts_file)
    surroundings = GuestSurroundings(
        start=programs.start,
        locked=programs.locked,
        ledger_socket=settings.ledger_socket,
        log_directory=settings.data_directory / "guests",
    )
    surroundings.log_directory.mkdir(parents=True, exist_ok=True)

    def make(record: HostRecord) -> Host:
        if record.fqdn.lower() not in addresses:
            raise ProgramError(
                f"{settings.hosts_file} has no address for host {record.fqdn}; add a line for it"
            )
        folder = settings.data_directory / "hosts" / record.fqdn
        credentials = HostCredentials(record.fqdn, folder / "certificate")
        client = HostClient(lambda: credentials.contexts()[1])
        backend = EmbeddedBackend(folder / "replication", client)
        return Host(
            record.fqdn,
            addresses=addresses,
            credentials=credentials,
            client=client,
            backend=backend,
            guests=HostGuests(backend, surroundings),
            receiver=ReplicaReceiver(record.fqdn, store, backend, clock),
        )

    return {record.fqdn: make(record) for record in store.hosts.values()}


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


async def _recover(store: InventoryStore, hosts: Mapping[str, Host]) -> None:
    """Let the back ends finish what a kill has interrupted, and the records follow them."""
    for host in hosts.values():
        own = [machine for machine in store.machines.values() if machine.host == host.fqdn]
        disks = {each.machine_id: () if each.reserved else disk_files(each) for each in own}
        try:
            await host.backend.recover(disks)
        except (BackendStateError, OSError) as error:
            raise ProgramError(
                f"the replication state of host {host.fqdn} cannot be recovered: {error}"
            ) from error
        await host.receiver.recover()


async def _open_ports(store: InventoryStore, hosts: Mapping[str, Host]) -> None:
    for record in store.hosts.values():
        if record.replica_port is None:
            continue
        try:
            await hosts[record.fqdn].listen(record.replica_port)
        except RefusedError as refusal:
            raise ProgramError(f"{refusal.message}; {refusal.action}") from refusal


async def _start_guests(fabric: Fabric) -> None:
    """Start again what ran and is not protected: a protected machine waits for its epoch."""
    for machine in list(fabric.store.machines.values()):
        if not machine.desired_running or machine.protected:
            continue
        try:
            await fabric.host_of(machine).guests.start(machine)
        except RefusedError as refusal:
            # One machine that does not start must not keep the site down.
            log.warning("guest_not_started", machine_id=machine.machine_id, cause=refusal.message)
