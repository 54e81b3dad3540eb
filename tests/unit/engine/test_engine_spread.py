"""Jobs that are too many at one hub are given back at a safe point, and taken up by another."""

import pytest

from service_hub.domain.jobs import JobState
from service_hub.domain.protection import Operation
from service_hub.domain.scenarios import GroupSpec, TaskSpec
from service_hub.ports.changes import Change
from tests.support.engine_world import (
    CHECK,
    FIRST,
    EngineWorld,
    PlayedClock,
    engine_world,
    new_job,
    until,
)
from tests.support.played_store import PlayedStore

TURN_SECONDS = 5.0
COUNT = 40


async def turn(*worlds: EngineWorld) -> None:
    """Let each hub say what it holds, and look whether that is too much."""
    for world in worlds:
        await world.engine.spread.look()
        for other in worlds:
            other.engine.spread.heard(f"{world.engine.tenure.hub_id} {world.engine.held_count}")


async def test_a_hub_that_comes_gets_jobs_and_they_go_on_there() -> None:
    store, clock = PlayedStore(), PlayedClock()
    jobs = [new_job(number) for number in range(COUNT)]
    async with engine_world(store, clock, shared=True) as first:
        await first.engine.start_all(jobs, Change())
        await turn(first)
        assert first.engine.held_count == COUNT
        async with engine_world(store, clock, shared=True) as second:
            await turn(second, first, second)
            assert first.engine.held_count == COUNT // 2
            assert not first.engine.spread.may_claim
            second.engine.leases_freed()
            await until(lambda: second.engine.held_count == COUNT // 2)
            # Nothing goes to and fro.
            for _ in range(20):
                first.boot[0] += TURN_SECONDS
                second.boot[0] += TURN_SECONDS
                await turn(first, second)
            assert first.engine.held_count == second.engine.held_count == COUNT // 2
            assert first.engine.spread.may_claim
            for job in jobs:
                holder = first if first.engine._jobs.get(job.id) else second
                for task in ("First", "Second"):
                    await holder.report(job.id, task)
            assert {store.job(job.id).state for job in jobs} == {JobState.SUCCEEDED}
            # Told twice, sent once: what was asked before the move is not asked again.
            commands = [(each.body["job"], each.body["task"]) for each in store.events]
            assert len(commands) == len(set(commands)) == 2 * COUNT


async def test_a_hub_that_stops_says_so() -> None:
    store = PlayedStore()
    async with engine_world(store, shared=True) as world:
        await world.engine.start_all([new_job(number) for number in range(COUNT)], Change())
        for words in ("another 0", "another gone"):
            world.engine.spread.heard(words)
        await world.engine.spread.look()
        assert world.engine.held_count == COUNT


async def test_what_is_under_way_here_is_kept() -> None:
    store = PlayedStore()
    group = TaskSpec("Group", "Group", "Group", group=GroupSpec(Operation.COMMIT, ("i",)))
    async with engine_world(store, shared=True) as world:
        world.checks.broken = RuntimeError("the check does not end")
        jobs = [new_job(number, CHECK, FIRST) for number in range(COUNT)]
        await world.engine.start_all(jobs, Change())
        await until(lambda: len(world.checks.made) == COUNT)
        world.engine.spread.heard("another 0")
        await world.engine.spread.look()
        assert world.engine.held_count == COUNT
        await world.engine.start(new_job(COUNT, group), Change())
        assert world.engine.held_count == COUNT + 1


async def test_who_gave_back_takes_nothing_for_a_while_and_then_what_is_still_free() -> None:
    store = PlayedStore()
    async with engine_world(store, shared=True) as world:
        await world.engine.start_all([new_job(number) for number in range(COUNT)], Change())
        world.engine.spread.heard("another 0")
        await world.engine.spread.look()
        assert world.engine.held_count == COUNT // 2
        world.engine.leases_freed()
        # Nobody took them: the other hub is gone, and they are not left alone for good.
        world.boot[0] += 2 * TURN_SECONDS
        world.engine.leases_freed()
        await until(lambda: world.engine.held_count == COUNT)


@pytest.mark.parametrize("key", ["", " ", "hub", "hub -1", "hub x", "hub ٣", "hub 1 2", " 3"])
async def test_what_cannot_be_read_is_not_believed(key: str) -> None:
    store = PlayedStore()
    async with engine_world(store, shared=True) as world:
        await world.engine.start_all([new_job(number) for number in range(COUNT)], Change())
        world.engine.spread.heard(key)
        world.engine.spread.heard(f"{world.engine.tenure.hub_id} 0")
        await world.engine.spread.look()
        assert world.engine.held_count == COUNT
