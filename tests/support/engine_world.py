"""Engines on a store, without use cases: jobs of a few commands, providers spoken for by tests."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol
from uuid import UUID, uuid5

from service_hub.domain.jobs import Job, JobError, PartSucceeded, TaskRun
from service_hub.domain.scenarios import Target, TaskSpec
from service_hub.engine.committer import GroupCommitter
from service_hub.engine.runner import Engine, Terms
from service_hub.ports.changes import NOTHING_STORED, Stored
from service_hub.ports.running import Followers
from service_hub.ports.stores import Leases, Store
from wire_contract.vocabulary import Side, Verb

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
SECONDS_MAX = 20.0
NAMES = UUID("00000000-0000-4000-8000-00000000abcd")
TOKYO = "tokyo-provider"

CHECK = TaskSpec("Check", "Check", "Prerequisites check")
FIRST = TaskSpec("First", "First", "First", (Side.PRIMARY,), Verb.SHUT_DOWN, target=Target.SERVER)
SECOND = TaskSpec("Second", "Second", "Second", (Side.PRIMARY,), Verb.START, target=Target.SERVER)


class StoreAndLeases(Store, Leases, Protocol):
    """What an engine stands on."""


@dataclass
class PlayedClock:
    """Time and ids of a test; every engine on it has its own boot time."""

    time: datetime = BEGIN
    ids: int = 0

    def now(self) -> datetime:
        """Return the present moment."""
        return self.time

    def new_id(self) -> str:
        """Return the next GUID."""
        self.ids += 1
        return str(UUID(int=self.ids))


class NoOutbox:
    """Nobody is woken."""

    def wake(self, provider_ids: Sequence[str], stored: Stored = NOTHING_STORED) -> None:
        """Do nothing."""


@dataclass
class Checks:
    """The hub's own checks, as a test wants them."""

    made: list[tuple[str, str]] = field(default_factory=list)
    error: JobError | None = None
    broken: Exception | None = None

    async def check(self, job: Job, task_id: str) -> JobError | None:
        """Note the check."""
        self.made.append((job.id, task_id))
        if self.broken is not None:
            raise self.broken
        return self.error


@dataclass
class Present:
    """Who is connected."""

    gone: set[str] = field(default_factory=set)

    async def connected(self, provider_id: str) -> bool:
        """Return whether it is."""
        return provider_id not in self.gone


@dataclass
class EngineWorld:
    """An engine and what it stands on."""

    engine: Engine
    store: Any
    clock: PlayedClock
    checks: Checks
    present: Present
    boot: list[float]

    async def report(self, job_id: str, task_id: str, attempt: int = 1) -> None:
        """Report a success of the provider."""
        await self.engine.feed(job_id, succeeded(self.clock, task_id, attempt))


def succeeded(clock: PlayedClock, task_id: str, attempt: int = 1) -> PartSucceeded:
    """Return the event of a provider's success."""
    return PartSucceeded(clock.now(), task_id, Side.PRIMARY, attempt, {}, clock.now())


def new_job(number: int, *specs: TaskSpec, **fields: Any) -> Job:
    """Return a job with these tasks, not begun."""
    specs = specs or (FIRST, SECOND)
    return Job(
        id=str(uuid5(NAMES, str(number))),
        vault_id="vault",
        scenario_key="create_policy",
        operation=None,
        target_object_id="target",
        target_object_name="web01",
        activity_id="activity",
        tasks=tuple(TaskRun(task_id=spec.task_id) for spec in specs),
        own_specs=specs,
        providers={Side.PRIMARY: TOKYO, Side.RECOVERY: "osaka-provider"},
        created_at=BEGIN,
        **fields,
    )


@asynccontextmanager
async def engine_world(
    store: StoreAndLeases,
    clock: PlayedClock | None = None,
    *,
    shared: bool = False,
    lease_seconds: float = 15.0,
    followers: Sequence[Followers] = (),
    prepare: Callable[[Engine], None] | None = None,
) -> AsyncIterator[EngineWorld]:
    """Run an engine on a store; several may run on the same one."""
    clock = clock or PlayedClock()
    committer = GroupCommitter(store, NoOutbox())
    checks, present, boot = Checks(), Present(), [0.0]
    engine = Engine(
        reader=store,
        committer=committer,
        checker=checks,
        liveness=present,
        clock=clock,
        leases=store,
        boottime=lambda: boot[0],
        terms=Terms(lease_seconds, shared),
    )
    for each in followers:
        engine.follow(each)
    if prepare is not None:
        prepare(engine)
    async with committer.running(), engine.running():
        yield EngineWorld(engine, store, clock, checks, present, boot)


async def until(holds: Callable[[], bool]) -> None:
    """Return once it holds; bounded."""
    async with asyncio.timeout(SECONDS_MAX):
        while not holds():
            await asyncio.sleep(0.005)


def later(clock: PlayedClock, seconds: float) -> None:
    """Move the time."""
    clock.time += timedelta(seconds=seconds)
