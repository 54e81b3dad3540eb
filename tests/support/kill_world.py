"""Two sites, a hub and two agents in one process, to be killed at any failpoint of an operation.

Each trial begins on a copy of the operation's start state, which is made once.

Over 400 lines because what runs, when it has settled and how its end is pictured fit together.
"""

import asyncio
import json
import re
import shutil
import threading
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from pydantic import JsonValue
from sqlalchemy import Connection

from service_hub.domain.jobs import Job
from service_hub.domain.records import (
    ContainerMapping,
    FabricInventory,
    ProtectedItem,
    Provider,
    ProviderStream,
)
from service_hub.ports.use_cases import RequestIdentity
from service_hub.store import database
from service_hub.store.schema import bring_up_to_date, newer_schema, present_schema
from service_shell.clock import SystemClock
from tests.support.hub_world import HubWorld
from tests.support.kill_forks import make_its_own
from tests.support.kill_programs import (
    AgentPlace,
    Program,
    RunningAgent,
    RunningHub,
    clock_of,
    hub_life,
)
from tests.support.played_loop import QUIET_SECONDS, PlayedLoop, SameThread
from tests.support.simulator_estate import CLOUD, Estate
from tests.support.small_guest import SmallGuest
from vmm_simulator.config import SecuredListenSettings, SimulatorSettings
from vmm_simulator.guest.interface import GuestHandle, GuestSpec, GuestStorage
from vmm_simulator.guest.locks import images_locked
from vmm_simulator.hyperv import host_credentials, incoming, sender
from vmm_simulator.hyperv.backend import DiskFile
from vmm_simulator.hyperv.frames import FRAME_BYTES_MAX
from vmm_simulator.hyperv.replica_record import FileGuard
from vmm_simulator.hyperv.source_origin import ORIGIN_FILE
from vmm_simulator.journal import Effect
from vmm_simulator.site import GuestPrograms, Site, open_site
from wire_contract.vocabulary import Verb

HUB = "hub"
SITES = ("tokyo", "osaka")
PROGRAMS = (HUB, *SITES)
SECONDS_MAX = 60.0
LOOK_SECONDS = 0.002
PLAYED_LOOK_SECONDS = 0.01
"""Time that is played passes when nobody has anything to do: a look finds all done that can be."""

DATABASE_THREADS = (
    "service_hub.store.sqlite_store.ThreadPoolExecutor",
    "provider_agent.journal.ThreadPoolExecutor",
    "vmm_simulator.journal.ThreadPoolExecutor",
)
CYCLE_SECONDS = 30.0
DISK_BYTES = (3 * 65_536, 2 * 65_536)
FURTHER_DISK_BYTES = 65_536
BUFFER_BYTES = FRAME_BYTES_MAX + 65_536

VOLATILE = {
    "transferred_bytes",
    "last_cut",
    "last_cut_record",
    # Which transfers a source knows as its own goes with how many there were.
    "acknowledged",
    "attempts",
    "statistics",
    "last_error",
    "certificate_thumbprint",
    # A copy that is fenced has learnt it from the other host or from the hub, who was first.
    "fenced_at_epoch",
}

_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|[0-9a-f]{32}")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)?")


@dataclass(frozen=True, order=True)
class Boundary:
    """A failpoint that a program reaches for the nth time within an operation."""

    program: str
    name: str
    nth: int

    def __str__(self) -> str:
        return f"{self.program}/{self.name}@{self.nth}"


@dataclass(frozen=True, order=True)
class Kill:
    """Who is killed when a boundary is reached."""

    boundary: Boundary
    victims: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.boundary} kills {'+'.join(self.victims)}"


class KillSwitch:
    """Counts failpoints from `arm` on, and cuts programs off at one of them."""

    def __init__(self) -> None:
        self.trace: list[Boundary] = []
        self.struck = False
        self.programs: dict[str, Program[Any]] = {}
        self._victims_at: VictimsAt | None = None
        self._counting = False
        self._counts: Counter[tuple[str, str]] = Counter()
        self._lock = threading.RLock()

    def arm(self, victims_at: "VictimsAt | None") -> None:
        """Count from here on; at each boundary it is asked who is to be cut off, once."""
        self._victims_at, self._counting = victims_at, True

    def disarm(self) -> None:
        """Count no more."""
        self._counting = False

    def reached(self, program: str, name: str) -> None:
        """Note a failpoint; cut off who is to be killed there."""
        with self._lock:
            if not self._counting:
                return
            self._counts[program, name] += 1
            boundary = Boundary(program, name, self._counts[program, name])
            self.trace.append(boundary)
            if self.struck or self._victims_at is None:
                return
            victims = self._victims_at(boundary)
            self.struck = bool(victims)
            for victim in victims:
                self.programs[victim].cut()


VictimsAt = Callable[[Boundary], tuple[str, ...]]
"""Says who is to be cut off at a boundary; nobody, for it to be gone by."""


@dataclass
class KillWorld:
    """What runs, and how a story asks for things in spite of kills."""

    root: Path
    estate: Estate
    switch: KillSwitch
    hub: Program[RunningHub]
    absent: frozenset[str] = frozenset()
    agents: dict[str, Program[RunningAgent]] = field(default_factory=dict)
    sites: dict[str, Site] = field(default_factory=dict)
    starts: Counter[str] = field(default_factory=Counter)
    guests: dict[tuple[str, str], SmallGuest] = field(default_factory=dict)
    begun: str = field(default_factory=lambda: str(clock_of("world").new_id()))
    begun_at: datetime = field(default_factory=lambda: SystemClock().now())
    requests: int = 0

    async def call(self, ask: Callable[[HubWorld], Any]) -> Any:
        """Have the hub do something, as a client that repeats a request until it is answered."""
        return await self.ask(lambda running: ask(running.world))

    async def ask(self, ask: Callable[[RunningHub], Any]) -> Any:
        """Do the same with all parts of the hub."""
        while True:
            running = self.hub.facts
            if running is not None:
                try:
                    return await running.door.life.serve(ask(running))
                except ConnectionError:
                    continue
            await asyncio.sleep(LOOK_SECONDS)

    def identity(self) -> RequestIdentity:
        """Return the identity of a new request."""
        self.requests += 1
        return RequestIdentity(
            principal="operator",
            client_request_id=f"{self.begun}-{self.requests}",
            correlation_id=f"correlation-{self.requests}",
            method="POST",
            path="/somewhere",
            body_digest="digest",
        )

    async def ready(self) -> None:
        """Return once everything runs and every agent that has a server can be commanded.

        What an agent had to report of before is with the hub.
        """

        async def holds() -> bool:
            present = await self._servers()
            if present is None:
                return False
            are_ready = all(
                program.facts is not None and program.facts.is_ready
                for name, program in self.agents.items()
                if name in present
            )
            return are_ready and await self._are_idle(present)

        await self.until(holds, "hub and agents are ready")

    async def settled(self, over: Callable[[HubWorld], Any]) -> None:
        """Return once a condition holds and nothing is on its way any more; counts no more."""
        seen = -1
        loop = asyncio.get_running_loop()

        async def holds() -> bool:
            nonlocal seen
            if isinstance(loop, PlayedLoop):
                await loop.quiet()
                seen = len(self.switch.trace)
            running = self.hub.facts
            if running is None:
                return False
            if seen != len(self.switch.trace):
                seen = len(self.switch.trace)
                return False  # something is on its way: not worth a look into databases
            try:
                if not await running.door.life.serve(over(running.world)):
                    return False
                if not await running.door.life.serve(self._nothing_waits(running.world)):
                    return False
            except ConnectionError:
                return False
            present = await self._servers()
            return present is not None and await self._are_idle(present)

        try:
            what = "the operation is over and nothing is on its way"
            await self.until(holds, what, QUIET_SECONDS)
        except TimeoutError as error:
            raise TimeoutError(f"{error}\n{await self._standstill()}") from error
        self.switch.disarm()
        await self._told_again()

    async def _told_again(self) -> None:
        """Return once every agent has had the hub's word on its copies in a new session.

        A kill brings a new session, and that the word; without one it comes with the next session.
        """
        await self.ready()
        present = await self._servers() or set()
        sessions = [
            agent.facts.session
            for name, agent in self.agents.items()
            if name in present and agent.facts
        ]
        numbers = [session.number for session in sessions]
        for session in sessions:
            session.confirmed.clear()
            session.renew()

        async def holds() -> bool:
            return all(
                session.number > number and session.confirmed.is_set()
                for session, number in zip(sessions, numbers, strict=True)
            )

        await self.until(holds, "every agent has had a new session")

    async def _standstill(self) -> str:
        """Return in words what everybody waits for."""
        lines = [f"reached last: {', '.join(map(str, self.switch.trace[-6:]))}"]
        for name, agent in self.agents.items():
            facts = agent.facts
            if facts is None:
                lines.append(f"{name}: is not there")
                continue
            unfinished = [each.assignment.command_id for each in await facts.journal.unfinished()]
            waiting = [each.report_id for each in await facts.journal.outbox(9, 99_999)]
            lines.append(
                f"{name}: ready {facts.is_ready}, connected {facts.session.connected.is_set()},"
                f" confirmed {facts.session.confirmed.is_set()}, mail"
                f" {facts.subscriber.connected.is_set()}, unfinished {unfinished}, to report"
                f" {waiting}, at {await facts.journal.position()}"
            )
        running = self.hub.facts
        if running is None:
            return "\n".join([*lines, "hub: is not there"])
        streams = [each.record for each in await running.world.store.find(ProviderStream)]
        lines += [f"stream {stream.model_dump_json()}" for stream in streams]
        return "\n".join([*lines, *await _hub_lines(running.world)])

    async def _nothing_waits(self, world: HubWorld) -> bool:
        gone = {world.providers[name].id for name in self.absent}
        streams = [each.record for each in await world.store.find(ProviderStream)]
        there = [stream for stream in streams if stream.id not in gone]
        return all(stream.acknowledged_seq + 1 == stream.next_seq for stream in there)

    async def _servers(self) -> set[str] | None:
        """Return the sites whose servers the hub knows, and that are there; None: no answer."""
        running = self.hub.facts
        if running is None:
            return None
        try:
            found = await running.door.life.serve(running.world.store.find(Provider))
        except ConnectionError:
            return None
        return {each.record.friendly_name for each in found} - self.absent

    async def _are_idle(self, names: set[str]) -> bool:
        for name in names & self.agents.keys():
            agent = self.agents[name].facts
            if agent is None:
                return False
            if await agent.journal.unfinished() or await agent.journal.outbox(1, 1):
                return False
        return True

    async def is_idle(self) -> bool:
        """Whether everything runs, every agent can be commanded and nothing is on its way."""
        running = self.hub.facts
        if running is None:
            return False
        try:
            waits = not await running.door.life.serve(self._nothing_waits(running.world))
        except ConnectionError:
            return False
        present = await self._servers()
        if waits or present is None or not await self._are_idle(present):
            return False
        agents = [self.agents[name].facts for name in present]
        return all(facts is not None and facts.is_ready for facts in agents)

    async def known(self, *machines: str) -> None:
        """Return once the hub knows machines: a pairing may end before its inventory is there."""

        async def holds() -> bool:
            found = await self.call(lambda hub: hub.store.find(FabricInventory))
            seen = {machine.machine_id for each in found for machine in each.record.view.machines}
            return seen.issuperset(machines)

        await self.until(holds, f"the hub knows {', '.join(machines)}")

    async def until(
        self,
        holds: Callable[[], Any],
        what: str,
        played: float = PLAYED_LOOK_SECONDS,
        seconds_max: float = SECONDS_MAX,
    ) -> None:
        """Return once a condition holds; TimeoutError by name when it does not.

        Where time is played, so much of it passes between two looks.
        """
        is_played = isinstance(asyncio.get_running_loop(), PlayedLoop)
        pause = played if is_played else LOOK_SECONDS
        try:
            async with asyncio.timeout(seconds_max):
                while not await holds():
                    await asyncio.sleep(pause)
        except TimeoutError:
            raise TimeoutError(f"this did not happen in {seconds_max} s: {what}") from None

    async def picture(self) -> str:
        """Return all that must be the same in the end: records, fabrics, effects, guest starts."""
        running = self.hub.facts
        assert running is not None
        lines = await _hub_lines(running.world)
        for name, site in self.sites.items():
            lines += await _site_lines(name, site)
        lines += [f"guest starts {name}: {count}" for name, count in sorted(self.starts.items())]
        return _without_names("\n".join(lines))


async def _hub_lines(world: HubWorld) -> list[str]:
    lines = []
    for found in await world.store.find(Job):
        job = found.record
        tasks = [
            f"{task.task_id} {task.state.value} "
            + ",".join(f"{part.side.value}={part.state.value}" for part in task.parts)
            for task in job.tasks
        ]
        errors = [error.code for error in job.errors]
        lines.append(f"job {job.scenario_key} {job.state.value} e{job.epoch} {errors} {tasks}")
    lines.sort()
    items = [each.record for each in await world.store.find(ProtectedItem)]
    mappings = [each.record for each in await world.store.find(ContainerMapping)]
    lines += [f"{each.kind} {each.model_dump_json()}" for each in (*items, *mappings)]
    lines += sorted(f"server {each.record.id}" for each in await world.store.find(Provider))
    return lines


def _lasting(value: JsonValue) -> JsonValue:
    """Return a record without what depends on how often and how fast something was done."""
    if isinstance(value, dict):
        return {key: _lasting(each) for key, each in value.items() if key not in VOLATILE}
    return [_lasting(each) for each in value] if isinstance(value, list) else value


async def _site_lines(name: str, site: Site) -> list[str]:
    store = site.fabric.store
    machines = sorted(
        store.machines.values(), key=lambda each: (each.test_machine_of is not None, each.name)
    )
    records = [*store.clouds.values(), *store.hosts.values(), *machines]
    lines = [f"{name} {json.dumps(_lasting(each.model_dump(mode='json')))}" for each in records]
    for machine in machines:
        running = site.fabric.host_of(machine).guests.run_state(machine)
        lines.append(f"{name} {machine.name} {running}")
    return lines + _effect_lines(
        name, await site.journal.effects(), [each.machine_id for each in machines]
    )


def _effect_lines(name: str, effects: Sequence[Effect], machines: Sequence[str]) -> list[str]:
    """Return a line for each effect: those on one target in their order, targets side by side."""
    by_target = defaultdict[str, list[str]](list)
    for effect in effects:
        if effect.verb != Verb.CONFIRM_EPOCH:
            by_target[effect.target].append(f"{effect.verb} e{effect.epoch} {effect.outcome}")
    places = {machine: place for place, machine in enumerate(machines)}
    ordered = sorted(
        by_target, key=lambda target: (places.get(target, len(places)), by_target[target])
    )
    return [f"{name} effect {target} {line}" for target in ordered for line in by_target[target]]


def _without_names(text: str) -> str:
    """Return the text with ids numbered as they come, and without times."""
    numbers: dict[str, str] = {}

    def number(match: re.Match[str]) -> str:
        return numbers.setdefault(match[0], f"id{len(numbers)}")

    return _ID.sub(number, _TIME.sub("TIME", text))


@asynccontextmanager
async def _site(world: KillWorld, name: str) -> AsyncIterator[Site]:
    async def start(spec: GuestSpec, storage: GuestStorage) -> GuestHandle:
        world.starts[f"{name} {spec.name}"] += 1
        guest = world.guests[name, spec.machine_id] = SmallGuest(spec, storage)
        return guest

    vmm = {"id": f"{name}-vmm", "fqdn": f"vmm.{name}.example"}
    clock = clock_of(f"site of {name}")
    told = world.estate.configuration(
        name, vmm=vmm, replication={"interval_seconds": CYCLE_SECONDS}
    )
    storage = _storage(world, name)
    storage["stores"] += told["inventory"].get("stores", [])
    told["inventory"] |= storage
    settings = SimulatorSettings.model_validate(told)
    async with open_site(settings, clock, GuestPrograms(start, images_locked)) as site:
        yield site


def _storage(world: KillWorld, name: str) -> dict[str, Any]:
    """Return storage of a classification, for mappings; nothing is ever placed there."""
    store = {
        "id": "store",
        "name": "store",
        "kind": "Local",
        "folder": str((world.root / name / "store").resolve()),
        "capacity_bytes": 0,
        "classification": "gold",
        "hosts": world.estate.fqdns(name)[:1],
    }
    return {"classifications": [{"id": "gold", "name": "gold"}], "stores": [store]}


@asynccontextmanager
async def _unserved(
    settings: SecuredListenSettings, routes: Callable[[], Iterable[web.RouteDef]]
) -> AsyncIterator[int]:
    """Serve nobody: agents call their site."""
    del settings, routes
    yield 0


def _remembered_schemas(patch: pytest.MonkeyPatch) -> None:
    """Ask Alembic once what is newest, not at each start of a hub."""
    known = set[str | None]()

    def bring(connection: Connection) -> None:
        if present_schema(connection) not in known:
            bring_up_to_date(connection)
            known.add(present_schema(connection))

    def newer(connection: Connection) -> str | None:
        return None if present_schema(connection) in known else newer_schema(connection)

    patch.setattr(database, "bring_up_to_date", bring)
    patch.setattr(database, "newer_schema", newer)


def _guard_of_size(disk: DiskFile) -> FileGuard:
    return FileGuard(0, disk.path.stat().st_size if disk.path.exists() else 0, 0, 0)


@contextmanager
def light_world() -> Iterator[None]:
    """Make trials quick: no HTTPS where nobody calls, TLS contexts made once, no thread hops."""
    with pytest.MonkeyPatch.context() as patch:
        _remembered_schemas(patch)
        # A copy of a file has the bytes of the file, and neither its number nor its times.
        patch.setattr(FileGuard, "of", _guard_of_size)
        # Small disks fit into small buffers, which are filled with zeros at each transfer.
        patch.setattr(incoming, "RECEIVE_BYTES", BUFFER_BYTES)
        patch.setattr(sender, "BATCH_BYTES", BUFFER_BYTES)
        patch.setattr("vmm_simulator.site.serve", _unserved)
        for place in DATABASE_THREADS:
            patch.setattr(place, SameThread)
        for name in ("server_context", "client_context"):
            made = cache(getattr(host_credentials, name))
            patch.setattr(host_credentials, name, made)
        yield


def _further_machine(folder: Path, name: str) -> dict[str, Any]:
    image = folder / f"{name}.img"
    if not image.exists():
        image.write_bytes(name.encode().ljust(FURTHER_DISK_BYTES, b"."))
    return {
        "id": name,
        "name": name.upper(),
        "host": "host1.tokyo.example",
        "cloud": CLOUD["tokyo"],
        "disks": [{"id": f"{name}-disk", "name": "disk", "path": str(image)}],
        "nics": [{"id": f"{name}-nic", "network": "network"}],
    }


@asynccontextmanager
async def kill_world(
    root: Path,
    *,
    watch_seconds: float,
    further: Sequence[str] = (),
    absent: Sequence[str] = (),
) -> AsyncIterator[KillWorld]:
    """Run everything on the files below `root`; programs that were cut off begin again.

    `further` machines are at tokyo beside the first. The providers of `absent` sites do not run.
    """
    (root / "estate").mkdir(parents=True, exist_ok=True)
    more = tuple(_further_machine(root / "estate", name) for name in further)
    estate = Estate(root / "estate", disk_bytes=DISK_BYTES, further=more, offline=True)
    async with estate_world(root, estate, SITES, watch_seconds=watch_seconds, absent=absent) as it:
        yield it


@asynccontextmanager
async def estate_world(
    root: Path,
    estate: Estate,
    sites: Sequence[str],
    *,
    watch_seconds: float,
    absent: Sequence[str] = (),
) -> AsyncIterator[KillWorld]:
    """Run the hub, and the sites of any estate with their providers."""
    if not (root / "estate" / "hosts").exists():
        estate.write()
    estate.prefix = (root / "estate" / "hosts").read_text().split(maxsplit=1)[0].rpartition(".")[0]
    switch = KillSwitch()
    hub = Program(HUB, root, switch, partial(hub_life, sites=sites))
    world = KillWorld(root, estate, switch, hub, frozenset(absent))
    switch.programs[HUB] = world.hub
    async with AsyncExitStack() as stack:
        for name in sites:
            world.sites[name] = await stack.enter_async_context(_site(world, name))
        group = await stack.enter_async_context(asyncio.TaskGroup())
        tasks = [group.create_task(world.hub.run())]
        stack.callback(lambda: [task.cancel() for task in tasks])
        await world.until(_answering(world.hub), "the hub is there")
        running = world.hub.facts
        assert running is not None
        for name in sites:
            place = AgentPlace(
                running.world.providers[name],
                lambda name=name: world.sites[name],  # type: ignore[misc]
                lambda: None if world.hub.facts is None else world.hub.facts.door,
                watch_seconds,
            )
            agent = Program(name, root, switch, place.life)
            world.agents[name] = switch.programs[name] = agent
            if name not in absent:
                tasks.append(group.create_task(agent.run()))
        await world.ready()
        yield world


def _answering(program: Program[Any]) -> Callable[[], Any]:
    async def holds() -> bool:
        return program.facts is not None

    return holds


def restore(snapshot: Path, root: Path) -> None:
    """Make `root` what it was when the snapshot was taken."""
    shutil.rmtree(root, ignore_errors=True)
    shutil.copytree(snapshot, root)
    for origin in root.rglob(ORIGIN_FILE):
        make_its_own(origin)


def settle_files(root: Path) -> None:
    """Let each program's files lie where its first life looks for them."""
    for name in PROGRAMS:
        lives = sorted(root.glob(f"{name}-*"), key=lambda each: int(each.name.rpartition("-")[2]))
        for former in lives[:-1]:
            shutil.rmtree(former)
        lives[-1].rename(root / f"{name}-0")
