import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from service_hub.domain.job_log import encode
from service_hub.domain.jobs import Job, JobState, TaskState
from service_hub.domain.records import ProviderStream
from service_hub.engine import takeover
from service_hub.ports.changes import NEW, Change, Lease, Message, Save
from service_hub.store.database import open_store
from tests.support.engine_world import (
    CHECK,
    FIRST,
    TOKYO,
    EngineWorld,
    PlayedClock,
    engine_world,
    new_job,
    succeeded,
    until,
)
from tests.support.played_store import PlayedStore


@dataclass
class Noted:
    """Followers that remember whom they were told of, and can be held up."""

    told: list[str] = field(default_factory=list)
    failures: int = 0
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    def awaits(self, job: Job) -> bool:
        """Whether it wants to be told."""
        return job.state is JobState.SUCCEEDED

    async def job_ended(self, job: Job) -> None:
        """Note it, once the gate is open."""
        await self.gate.wait()
        if self.failures:
            self.failures -= 1
            raise OSError("not now")
        self.told.append(job.id)


async def test_a_stopped_engine_gives_its_jobs_back_and_the_next_goes_on_at_once() -> None:
    store = PlayedStore()
    job = new_job(1)
    async with engine_world(store) as world:
        await world.engine.start(job, Change())
    async with engine_world(store) as world:
        assert world.engine.held_count == 1
        assert store.job(job.id).fence == 2
        await world.report(job.id, "First")
        await world.report(job.id, "Second")
        assert store.job(job.id).state is JobState.SUCCEEDED
        assert store.events[-1].body["fence"] == 2


async def test_a_dead_hubs_jobs_are_taken_over_when_its_lease_has_run_out() -> None:
    store, clock = PlayedStore(), PlayedClock()
    async with engine_world(store, clock, shared=True) as first:
        jobs = [new_job(number, CHECK, FIRST) for number in range(5)]
        first.checks.broken = RuntimeError("dies before it is checked")
        await first.engine.start_all(jobs, Change())
        await until(lambda: len(first.checks.made) == 5)
        async with engine_world(store, clock, shared=True) as second:
            assert second.engine.held_count == 0
            dead(first)
            store.now += store.lease_seconds + 1
            await until(lambda: second.engine.held_count == 5)
            # What the first had begun and not ended is made again.
            await until(lambda: len(store.events) == 5)
            for job in jobs:
                await second.report(job.id, "First")
            assert {store.job(job.id).state for job in jobs} == {JobState.SUCCEEDED}


async def test_a_zombie_commits_nothing_and_what_it_is_told_reaches_the_new_holder() -> None:
    store, clock = PlayedStore(), PlayedClock()
    async with engine_world(store, clock, shared=True) as first:
        job = new_job(1)
        await first.engine.start(job, Change())
        store.steal(job.id)
        fence = store.leases[job.id][0].fence
        await first.report(job.id, "First")
        assert first.engine.held_count == 0
        assert store.job(job.id).tasks[0].state is TaskState.IN_PROGRESS
        assert [each.job_id for each in store.inbox.values()] == [job.id]
        assert store.leases[job.id][0].fence == fence
        store.now += store.lease_seconds + 1
        async with engine_world(store, clock, shared=True) as second:
            await until(lambda: store.job(job.id).tasks[0].state is TaskState.SUCCEEDED)
            assert not store.inbox
            assert second.engine.held_count + first.engine.held_count == 1


async def test_a_lease_that_is_lost_while_a_decision_is_committed_stores_nothing() -> None:
    store = PlayedStore()
    async with engine_world(store, shared=True) as world:
        job = new_job(1)
        await world.engine.start(job, Change())

        def steal_once() -> None:
            store.before_apply = None
            store.steal(job.id)

        store.before_apply = steal_once
        version = store.records[Job, job.id].version
        await world.report(job.id, "First")
        assert store.records[Job, job.id].version == version
        assert len(store.inbox) == 1


async def test_renewal_names_only_what_is_held_and_drops_what_was_lost() -> None:
    store = PlayedStore()
    async with engine_world(store, shared=True, lease_seconds=0.3) as world:
        held, lost = new_job(1), new_job(2)
        await world.engine.start_all([held, lost], Change())
        store.steal(lost.id)
        await until(lambda: world.engine.held_count == 1)
        store.now = 10.0
        before = store.leases[held.id][1]
        await until(lambda: store.leases[held.id][1] > before)
        assert store.leases[lost.id][0].owner == "another hub"


async def test_an_engine_is_sure_only_while_its_leases_were_confirmed_lately() -> None:
    store = PlayedStore()
    async with engine_world(store, lease_seconds=15.0) as world:
        assert world.engine.tenure.is_sure
        world.boot[0] = 10.1
        assert not world.engine.tenure.is_sure
        await world.engine.tenure.renew([])
        assert world.engine.tenure.is_sure


async def test_an_event_for_another_hubs_job_is_durable_and_decided_on_there() -> None:
    store, clock = PlayedStore(), PlayedClock()
    async with (
        engine_world(store, clock, shared=True) as holder,
        engine_world(store, clock, shared=True) as other,
    ):
        job = new_job(1)
        await holder.engine.start(job, Change())
        await other.report(job.id, "First")
        assert [each.job_id for each in store.inbox.values()] == [job.id]
        holder.engine.message_for(job.id)
        await until(lambda: store.job(job.id).tasks[0].state is TaskState.SUCCEEDED)
        assert not store.inbox
        await other.report(job.id, "First")
        # Without the bell the poll finds it, and a repeated event changes nothing.
        await until(lambda: not store.inbox)
        assert len(store.events) == 2


async def test_a_damaged_message_stops_its_job_alone_and_is_kept() -> None:
    store = PlayedStore()
    jobs = [new_job(1), new_job(2)]
    async with engine_world(store) as world:
        await world.engine.start_all(jobs, Change())
    store.inbox["m"] = Message("m", jobs[0].id, '{"v": 99}')
    store.inbox["n"] = Message("n", jobs[1].id, encode(succeeded(PlayedClock(), "First")))
    async with engine_world(store) as world:
        await until(lambda: store.job(jobs[1].id).tasks[0].state is TaskState.SUCCEEDED)
        assert list(world.engine.standing_still) == [jobs[0].id]
        assert list(store.inbox) == ["m"]


async def test_what_follows_from_an_end_is_found_again_after_a_kill() -> None:
    store, clock = PlayedStore(), PlayedClock()
    job, killed = new_job(1, FIRST), Noted()
    async with engine_world(store, clock, followers=[killed]) as world:
        await world.engine.start(job, Change())
        await world.report(job.id, "First")
        assert store.job(job.id).state is JobState.SUCCEEDED
        assert job.id in store.leases
    assert killed.told == []
    after = Noted(failures=2)
    after.gate.set()
    async with engine_world(store, clock, followers=[after]) as world:
        await until(lambda: job.id not in store.leases)
        assert after.told == [job.id]
    async with engine_world(store, clock, followers=[after]):
        assert after.told == [job.id]


async def test_the_lease_of_a_job_that_ended_long_ago_is_not_claimed_again_and_again() -> None:
    store, job = PlayedStore(), new_job(1, FIRST)
    async with engine_world(store) as world:
        await world.engine.start(job, Change())
        await world.report(job.id, "First")
    store.leases[job.id] = (Lease(job.id, "a former version", 1), 0.0)
    async with engine_world(store) as world:
        await until(lambda: not store.leases)
        assert world.engine.held_count == 0


async def test_large_stocks_are_claimed_in_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    store = PlayedStore()
    monkeypatch.setattr(takeover, "PORTION", 10)
    async with engine_world(store) as world:
        await world.engine.start_all([new_job(number) for number in range(35)], Change())
    async with (
        engine_world(store, shared=True) as first,
        engine_world(store, shared=True) as second,
    ):
        await until(lambda: first.engine.held_count + second.engine.held_count == 35)
        assert min(first.engine.held_count, second.engine.held_count) >= 10


async def test_two_engines_on_one_database_file_end_every_job_once(tmp_path: Path) -> None:
    """Real leases in real time: one engine is gone without a word, the other ends its jobs."""
    clock = PlayedClock()
    async with open_store(tmp_path / "hub.db", lease_seconds=1.0) as store:
        stream = ProviderStream(id=TOKYO, vault_id="vault", stream="s")
        await store.apply([Change(saves=(Save(stream, NEW),))])
        jobs = [new_job(number, CHECK, FIRST) for number in range(20)]
        async with engine_world(store, clock, shared=True, lease_seconds=1.0) as second:
            async with engine_world(store, clock, shared=True, lease_seconds=1.0) as first:
                await first.engine.start_all(jobs[:10], Change())
                await second.engine.start_all(jobs[10:], Change())
                dead(first)
                await answer_all(second, store, jobs)
            for job in jobs:
                found = await store.get(Job, job.id)
                assert found is not None
                assert found.record.state is JobState.SUCCEEDED
        commands = [
            (each.body["job"], each.body["task"], each.body["attempt"])
            for each in await store.events_after(TOKYO, 0, 1000)
        ]
        assert len(commands) == len(set(commands)) == 20


def dead(world: EngineWorld) -> None:
    """Let an engine know nothing of its jobs any more, and renew nothing."""
    for held in world.engine._jobs:
        world.engine._jobs.drop(held)

    async def never(limit: int) -> list[Lease]:
        del limit
        return []

    world.engine.tenure.claim = never  # type: ignore[method-assign]


async def answer_all(world: EngineWorld, store: Any, jobs: list[Job]) -> None:
    """Answer what is in the outbox until all have ended."""
    answered: set[str] = set()
    async with asyncio.timeout(20):
        while len(answered) < len(jobs):
            for event in await store.events_after(TOKYO, 0, 1000):
                job_id = str(event.body["job"])
                if job_id not in answered:
                    answered.add(job_id)
                    await world.report(job_id, "First")
            await asyncio.sleep(0.02)
        while not all([(await store.get(Job, job.id)).record.finished for job in jobs]):
            await asyncio.sleep(0.02)
