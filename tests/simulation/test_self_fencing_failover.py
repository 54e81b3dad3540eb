"""Where sources stop by themselves, the copy is started only after they have."""

import asyncio
from datetime import timedelta
from pathlib import Path

from service_hub.domain.jobs import JobState, TaskState
from service_hub.domain.protection import Operation
from service_hub.domain.records import ReplicationPolicy
from service_hub.domain.self_fence import CLOCK_TOLERANCE_SECONDS, SELF_FENCE_TASK
from service_hub.ports.changes import Change, Save
from tests.support.hub_stories import ask, ended, protected, until_done
from tests.support.hub_world import HubWorld, hub_world

SECONDS = 60


async def with_self_fence(world: HubWorld) -> None:
    await protected(world)
    (policy,) = await world.store.find(ReplicationPolicy, vault_id=world.vault.id)
    changed = policy.record.model_copy(update={"self_fence_seconds": SECONDS})
    await world.committer.commit(Change(saves=(Save(changed, policy.version),)))


async def waits(world: HubWorld, job_id: str) -> None:
    """Return once the job waits for its source, everything before answered well."""
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        answering = group.create_task(until_done(world, job_id))
        while True:
            run = (await world.job(job_id)).run(SELF_FENCE_TASK)
            assert run is not None
            if run.state is TaskState.IN_PROGRESS:
                break
            await asyncio.sleep(0.01)
        answering.cancel()


async def verbs(world: HubWorld, job_id: str) -> list[str]:
    return [
        each.verb
        for site in ("tokyo", "osaka")
        for each in await world.assignments(site)
        if each.job == job_id
    ]


async def test_the_copy_is_not_started_before_the_time_is_over(tmp_path: Path) -> None:
    async with hub_world(tmp_path) as world:
        await with_self_fence(world)
        refreshes = await world.refreshes("tokyo")
        job_id = await ask(world, Operation.UNPLANNED_FAILOVER, source_operations_required=False)
        await waits(world, job_id)
        # The source is told, in case that it hears the hub: then it does not stop by itself.
        assert await world.refreshes("tokyo") == refreshes + 1
        world.clock.time += timedelta(seconds=SECONDS + CLOCK_TOLERANCE_SECONDS - 1)
        await asyncio.sleep(0)
        assert "start" not in await verbs(world, job_id)
        run = (await world.job(job_id)).run(SELF_FENCE_TASK)
        assert run is not None
        assert run.state is TaskState.IN_PROGRESS
        world.clock.time += timedelta(seconds=1)
        async with asyncio.timeout(30):
            assert await ended(world, job_id) is JobState.SUCCEEDED
        assert "start" in await verbs(world, job_id)


async def test_a_hub_that_begins_anew_waits_until_the_same_moment(tmp_path: Path) -> None:
    async with hub_world(tmp_path) as world:
        await with_self_fence(world)
        job_id = await ask(world, Operation.UNPLANNED_FAILOVER, source_operations_required=False)
        await waits(world, job_id)
        clock = world.clock
    clock.time += timedelta(seconds=SECONDS + CLOCK_TOLERANCE_SECONDS)
    async with hub_world(tmp_path, clock=clock) as world, asyncio.timeout(30):
        assert await ended(world, job_id) is JobState.SUCCEEDED
