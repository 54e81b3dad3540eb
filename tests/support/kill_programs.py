"""A hub and two agents with real parts on real files, each of which can be cut off at a failpoint.

What a cut leaves is a copy of the files made in that moment: what SQLite had committed is there,
a transaction in flight is not. The next life begins on the copy; the former one talks to nobody.
"""

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from certs.identity import new_private_key
from certs.profiles import Profile
from certs.signing import EventSigner, EventVerifier
from provider_agent.config import TaskLimits
from provider_agent.credentials import Identity, IdentityFacts
from provider_agent.executor import Executor, Signals
from provider_agent.host_certificates import HostCertificates
from provider_agent.hub_client import HubClient
from provider_agent.intake import EventIntake
from provider_agent.journal import Journal
from provider_agent.operator_orders import OperatorOrders
from provider_agent.pinned_roots import PinnedRoots
from provider_agent.puller import EventPuller
from provider_agent.reporter import Reporter
from provider_agent.scripts import Scripts
from provider_agent.session import Session
from provider_agent.update_policy import UpdatePolicy
from provider_agent.wake import Wake
from provider_agent.watcher import Watcher
from service_hub.channel.event_source import SignedEvents
from service_hub.channel.outbox_pump import open_pump
from service_hub.channel.wakeups import Wakeups
from service_hub.domain.records import Provider
from service_hub.provider_api.api import ProviderApi
from service_hub.provider_api.certificate_office import TrustOffice
from service_hub.services.enrolment import EnrolmentService
from tests.integration.agent_fakes.waiting import HastyClock
from tests.support.hub_world import SITES, HubWorld, hub_world
from tests.support.joined_world import LateReader, RealTime
from tests.support.kill_transport import (
    FabricLines,
    FixedToken,
    HubDoor,
    HubLines,
    Life,
    MailSubscriber,
    owned_by,
)
from tests.support.played_loop import PlayedLoop
from tests.support.simulator_estate import trust
from vmm_simulator.site import Site

END_SECONDS_MAX = 10.0
READ_BACK_SECONDS = 3.0
FactsT = TypeVar("FactsT")


class QuickClock(HastyClock):
    """The real time, but retries wait a thousandth of their bound."""

    def jitter(self, low: float, high: float) -> float:
        """Return a thousandth of the bound."""
        return low + (high - low) / 1000


def clock_of(name: str) -> Any:
    """Return a program's clock: of the loop, where its time is played."""
    loop = asyncio.get_running_loop()
    return loop.clock(name) if isinstance(loop, PlayedLoop) else QuickClock()


class HubClock(RealTime):
    """The hub's clock."""

    def __init__(self) -> None:
        super().__init__()
        self._clock = clock_of("hub")

    def now(self) -> datetime:
        """Return the present moment."""
        moment: datetime = self._clock.now()
        return moment

    def new_id(self) -> str:
        """Return a GUID that nobody has had."""
        return str(self._clock.new_id())


class NoUpdates(UpdatePolicy):
    """Spares each session a look at what is installed."""

    def available_version(self) -> str | None:
        """Return nothing."""
        return None


class CutOffError(Exception):
    """Raised at a failpoint in a life that has been cut off: nothing that follows counts."""


class Watch(Protocol):
    """Told of every failpoint that is reached."""

    def reached(self, program: str, name: str) -> None:
        """Note it; cuts lives off when it is the place for that."""


class Trap:
    """The fault points of one life."""

    def __init__(self, program: str, life: Life, watch: Watch) -> None:
        self._program = program
        self._life = life
        self._watch = watch

    async def reach(self, name: str) -> None:
        """Go on, unless this life is over."""
        self.reach_now(name)

    def reach_now(self, name: str) -> None:
        """Go on, unless this life is over."""
        if not self._life.is_cut:
            self._watch.reached(self._program, name)
        if self._life.is_cut:
            raise CutOffError(f"{self._program} was cut off at {name}")


OpenLife = Callable[[Path, Life, Trap], AbstractAsyncContextManager[FactsT]]


class Program(Generic[FactsT]):
    """One life after the other on what the former one left."""

    def __init__(self, name: str, root: Path, watch: Watch, open_life: OpenLife[FactsT]) -> None:
        self.name = name
        self._root = root
        self._watch = watch
        self._open = open_life
        self._number = 0
        self._life: Life | None = None
        self._facts: FactsT | None = None

    @property
    def folder(self) -> Path:
        """Where the present life keeps its files."""
        return self._root / f"{self.name}-{self._number}"

    @property
    def facts(self) -> FactsT | None:
        """What the present life is made of, once it has begun; None in between."""
        return None if self._life is None or self._life.is_cut else self._facts

    def cut(self) -> None:
        """End the present life at once; may be called from any of its threads."""
        if self._life is None or self._life.is_cut:
            return
        following = self._root / f"{self.name}-{self._number + 1}"
        following.mkdir()
        for file in self.folder.iterdir():
            if file.is_file() and not file.name.endswith("-shm"):
                shutil.copyfile(file, following / file.name)
        self._life.cut()

    async def run(self) -> None:
        """Live for ever; an end that nobody asked for is an error."""
        while True:
            self.folder.mkdir(exist_ok=True)
            life = self._life = Life(self.name)
            loop = asyncio.get_running_loop()
            task = loop.create_task(self._live(life), context=owned_by(self.name))
            try:
                await asyncio.wait({task, life.ended}, return_when=asyncio.FIRST_COMPLETED)
                if not life.is_cut:
                    task.result()
                    raise AssertionError(f"{self.name} ended by itself")
            finally:
                self._facts = None
                await _end(task)
                await life.close()
            self._number += 1

    async def _live(self, life: Life) -> None:
        async with self._open(self.folder, life, Trap(self.name, life, self._watch)) as facts:
            self._facts = facts
            await life.hang()


async def _end(task: "asyncio.Task[None]") -> None:
    """End a life's task; what it says to that is of no interest any more."""
    loop = asyncio.get_running_loop()
    until = loop.time() + END_SECONDS_MAX
    while not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=0.5)
        if loop.time() > until:
            others = "\n".join(str(each) for each in asyncio.all_tasks())
            raise TimeoutError(f"{task} does not end; all there is:\n{others}")
    with suppress(asyncio.CancelledError, Exception):
        task.result()


# --------------------------------------------------------------------------------------------- hub


@dataclass(frozen=True)
class RunningHub:
    """One life of the hub."""

    world: HubWorld
    door: HubDoor
    enrolment: EnrolmentService


@cache
def _signer() -> EventSigner:
    key = new_private_key()
    issued = trust().issue(Profile.EVENT_SIGNER, key.public_key(), "signer", datetime.now(UTC))
    return EventSigner(key, issued.chain_pem)


@cache
def _office() -> TrustOffice:
    return TrustOffice(trust(), new_private_key(), issuer="https://hub.example")


@asynccontextmanager
async def hub_life(
    folder: Path, life: Life, trap: Trap, sites: Sequence[str] = SITES
) -> AsyncIterator[RunningHub]:
    """Open the parts of a hub on the files in a folder."""
    wakeups, late = Wakeups(), LateReader()
    reader: Any = late
    source = SignedEvents(reader, _signer(), wakeups, faults=trap)
    async with AsyncExitStack() as stack:
        opening = hub_world(
            folder, clock=HubClock(), outbox=wakeups, resigner=source, faults=trap, sites=sites
        )
        world = await stack.enter_async_context(opening)
        late.reader = world.store
        enrolment = EnrolmentService(
            reader=world.store,
            committer=world.committer,
            clock=world.clock,
            office=_office(),
            jobs=world.servers,
            mqtt=("hub.example", 8883),
            heartbeat=timedelta(seconds=60),
        )
        api = ProviderApi(
            enrolment=enrolment,
            providers=world.reports,
            office=_office(),
            tokens=_office(),
            events=source,
            clock=world.clock,
            leaving=world.servers,
            faults=trap,
        )
        door = HubDoor(life, api, wakeups)
        await stack.enter_async_context(
            open_pump(
                reader=world.store,
                source=source,
                delivery=door.delivery,
                wakeups=wakeups,
                faults=trap,
            )
        )
        stack.callback(wakeups.close)
        yield RunningHub(world, door, enrolment)


# ------------------------------------------------------------------------------------------- agent


@dataclass(frozen=True)
class RunningAgent:
    """One life of an agent."""

    journal: Journal
    session: Session
    watcher: Watcher
    subscriber: MailSubscriber

    @property
    def is_ready(self) -> bool:
        """Whether it can be commanded."""
        return (
            self.session.connected.is_set()
            and self.session.confirmed.is_set()
            and self.watcher.inventory_posted.is_set()
            and self.subscriber.connected.is_set()
        )


@cache
def _identity(provider: str, vmm_id: str) -> Identity:
    key = new_private_key()
    issued = trust().issue(
        Profile.PROVIDER_MANAGEMENT, key.public_key(), provider, datetime.now(UTC)
    )
    facts = IdentityFacts(
        provider_id=provider,
        vault_id="vault",
        vault_name="v",
        vmm_id=vmm_id,
        vmm_version="3.2",
        friendly_name=provider,
        provider_url="https://hub.example",
        mqtt_host="hub.example",
        mqtt_port=8883,
        heartbeat_seconds=60,
        registered_at=datetime.now(UTC),
    )
    return Identity(facts, key, issued.chain_pem, trust().root_pem)


@dataclass(frozen=True)
class AgentPlace:
    """Where an agent stands: whose it is, beside which VMM server, towards which hub."""

    provider: Provider
    site: Callable[[], Site]
    door: Callable[[], HubDoor | None]
    watch_seconds: float

    @asynccontextmanager
    async def life(self, folder: Path, life: Life, trap: Trap) -> AsyncIterator[RunningAgent]:
        """Run the parts of an agent on the files in a folder."""
        clock = clock_of(life.name)
        async with Journal.open(folder / "journal.db", clock.new_id()) as journal:
            parts = self._parts(folder, life, trap, journal, clock)
            async with asyncio.TaskGroup() as group:
                for loop in parts[1]:
                    group.create_task(loop)
                yield parts[0]

    def _parts(
        self, folder: Path, life: Life, trap: Trap, journal: Journal, clock: HastyClock
    ) -> tuple[RunningAgent, list[Any]]:
        identity = _identity(self.provider.id, self.provider.vmm_id)
        driver = FabricLines(life, self.site())
        lines: Any = HubLines(life, self.provider, self.door)
        token: Any = FixedToken()
        hub = HubClient(lines, token)
        verifier = EventVerifier(identity.root_pem)
        orders = OperatorOrders(folder, journal, driver, clock)
        session = Session(
            *(hub, driver, journal, clock, identity.facts.vmm_version),
            updates=NoUpdates(None),
            roots=PinnedRoots(identity, verifier, clock, folder),
            orders=orders,
        )
        intake = EventIntake(
            *(verifier, self.provider.id, journal, clock), session_due=session.due, faults=trap
        )
        subscriber = MailSubscriber(self.provider.id, intake, session, self.door)
        subscribed: Any = subscriber
        watcher = Watcher(
            *(hub, driver, journal, session, clock),
            reports_due=intake.reports_due,
            inventory_due=intake.inventory_due,
            watch_seconds=self.watch_seconds,
            inventory_seconds=3600,
        )
        executor = Executor(
            *(driver, journal, session, HostCertificates(hub, clock), clock),
            orders=orders,
            scripts=Scripts(driver, folder / "scripts"),
            signals=Signals(work=intake.work_due, reports=intake.reports_due, leaving=Wake()),
            limits=TaskLimits(read_back_seconds=READ_BACK_SECONDS),
            faults=trap,
        )
        loops = [
            session.run(),
            session.beat(),
            subscriber.run(),
            EventPuller(
                *(hub, intake, journal), session=session, subscriber=subscribed, clock=clock
            ).run(),
            Reporter(hub, journal, session, intake.reports_due, clock, faults=trap).run(),
            executor.run(),
            watcher.watch(),
            watcher.send(),
        ]
        return RunningAgent(journal, session, watcher, subscriber), loops
