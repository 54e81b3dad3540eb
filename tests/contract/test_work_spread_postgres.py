"""A hub that comes to a database where another holds all jobs gets its share of them."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from service_hub.channel.wakeups import Wakeups
from service_hub.database_settings import DatabaseSettings
from service_hub.domain.jobs import Job, JobState, TaskState
from service_hub.domain.records import ProviderStream
from service_hub.ports.changes import NEW, Change, Save
from service_hub.several_hubs import Neighbours
from service_hub.store.postgres_database import open_postgres_store
from service_hub.store.postgres_store import PostgresStore
from tests.support.engine_world import (
    SECONDS_MAX,
    TOKYO,
    EngineWorld,
    PlayedClock,
    engine_world,
    new_job,
    until,
)
from tests.support.postgres_server import PostgresServer

pytestmark = pytest.mark.needs("postgresql")

LEASE_SECONDS = 6.0
COUNT = 24


@asynccontextmanager
async def hub(settings: DatabaseSettings, clock: PlayedClock) -> AsyncIterator[EngineWorld]:
    """Run an engine that hears the others as a hub does."""
    async with (
        open_postgres_store(settings, lease_seconds=LEASE_SECONDS) as store,
        engine_world(store, clock, shared=True, lease_seconds=LEASE_SECONDS) as world,
        asyncio.TaskGroup() as group,
    ):
        nobody: Any = None
        neighbours = Neighbours(
            hub_id=world.engine.tenure.hub_id,
            bell=store,
            reader=store,
            engine=world.engine,
            wakeups=Wakeups(),
            own=nobody,
            delivery=nobody,
        )
        listening = group.create_task(neighbours.listen())
        yield world
        listening.cancel()


async def until_stored(store: PostgresStore, holds: Callable[[Job], bool]) -> None:
    """Return once all jobs are stored so; bounded."""
    async with asyncio.timeout(SECONDS_MAX):
        while not all(holds(each.record) for each in await store.find(Job)):
            await asyncio.sleep(0.05)


async def test_a_second_hub_gets_half_and_a_hub_that_goes_leaves_all(
    postgres_server: PostgresServer, tmp_path: Path
) -> None:
    told = postgres_server.settings(postgres_server.emptied_database(), tmp_path / "password")
    settings, clock = DatabaseSettings.model_validate(told), PlayedClock()
    jobs = [new_job(number) for number in range(COUNT)]
    async with hub(settings, clock) as second:
        async with hub(settings, clock) as first:
            stream = ProviderStream(id=TOKYO, vault_id="vault", stream="tokyo-stream")
            await first.store.apply([Change(saves=(Save(stream, NEW),))])
            await first.engine.start_all(jobs, Change())
            assert first.engine.held_count == COUNT
            await until(lambda: second.engine.held_count == COUNT // 2)
            assert first.engine.held_count == COUNT // 2
            # Any hub takes a report: it reaches the holder.
            for job in jobs:
                await first.report(job.id, "First")
            await until_stored(first.store, lambda job: job.tasks[0].state is TaskState.SUCCEEDED)
        await until(lambda: second.engine.held_count == COUNT)
        for job in jobs:
            await second.report(job.id, "Second")
        await until_stored(second.store, lambda job: job.state is JobState.SUCCEEDED)
