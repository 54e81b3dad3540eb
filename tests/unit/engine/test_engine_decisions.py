import asyncio

import pytest

from service_hub.domain import errors
from service_hub.domain.checks import job_error
from service_hub.domain.decide import decide
from service_hub.domain.errors import StaleVersionError
from service_hub.domain.job_log import decode, decode_first, replay
from service_hub.domain.jobs import (
    CancelRequested,
    Event,
    Job,
    JobState,
    PartFailed,
    RestartRequested,
    TaskState,
)
from service_hub.domain.records import Alert
from service_hub.engine import decider
from service_hub.ports.changes import NEW, Change, Save, Versioned
from tests.support.engine_world import (
    CHECK,
    FIRST,
    SECOND,
    TOKYO,
    EngineWorld,
    engine_world,
    later,
    new_job,
    succeeded,
    until,
)
from tests.support.played_store import PlayedStore
from wire_contract.vocabulary import EventType, Side

DECIDE = "service_hub.engine.decider.decide"


def alert(name: str) -> Alert:
    return Alert(
        id=name,
        vault_id="vault",
        provider_id=TOKYO,
        code="AuthorityDecided",
        message="m",
        raised_at=new_job(0).created_at,
    )


async def test_a_job_runs_to_its_end_and_its_log_replays() -> None:
    store = PlayedStore()
    async with engine_world(store) as world:
        job = new_job(1, CHECK, FIRST, SECOND)
        await world.engine.start(job, Change())
        await until(lambda: len(store.events) == 1)
        assert world.engine.held_count == 1
        await world.report(job.id, "First")
        await world.report(job.id, "Second")
        assert store.job(job.id).state is JobState.SUCCEEDED
        assert world.engine.held_count == 0
    assert job.id not in store.leases
    entries = store.logs[job.id]
    assert [entry.number for entry in entries] == list(range(len(entries)))
    first, events = decode_first(entries[0].event), [decode(each.event) for each in entries[1:]]
    assert replay(first, events) == store.job(job.id)


async def test_one_decision_is_one_change_with_job_log_command_and_guard() -> None:
    store = PlayedStore()
    async with engine_world(store) as world:
        job = new_job(1)
        await world.engine.start(job, Change())
        changes = store.changes
        await world.report(job.id, "First")
        assert store.changes == changes + 1
        assert [event.type for event in store.events] == [EventType.ASSIGNMENT] * 2


async def test_a_waiting_job_is_decided_on_in_memory_without_reading_it() -> None:
    store = PlayedStore()
    async with engine_world(store) as world:
        job = new_job(1)
        await world.engine.start(job, Change())
        reads = store.reads
        await world.report(job.id, "First")
        assert store.reads == reads


async def test_repeated_late_and_foreign_events_change_nothing() -> None:
    store = PlayedStore()
    async with engine_world(store) as world:
        job = new_job(1)
        await world.engine.start(job, Change())
        await world.report(job.id, "First")
        changes, stored = store.changes, store.job(job.id)
        await world.report(job.id, "First")
        await world.report(job.id, "Second", attempt=7)
        await world.engine.feed("no such job", succeeded(world.clock, "First"))
        assert (store.changes, store.job(job.id)) == (changes, stored)


async def test_events_of_one_job_keep_their_order() -> None:
    store = PlayedStore()
    specs = [FIRST, SECOND]
    async with engine_world(store) as world:
        job = new_job(1, *specs)
        await world.engine.start(job, Change())
        await asyncio.gather(*(world.report(job.id, spec.task_id) for spec in specs))
        assert store.job(job.id).state is JobState.SUCCEEDED


async def test_batches_are_bounded_and_hold_several_jobs() -> None:
    store = PlayedStore()
    async with engine_world(store) as world:
        jobs = [new_job(number) for number in range(250)]
        await world.engine.start_all(jobs, Change())
        store.batches.clear()
        await asyncio.gather(*(world.report(job.id, "First") for job in jobs))
        assert sum(store.batches) == 250
        assert max(store.batches) <= 2 * decider.DECISIONS_MAX
        assert len(store.batches) < 125


async def test_what_is_stored_with_an_event_is_stored_whatever_is_decided() -> None:
    store = PlayedStore()
    async with engine_world(store) as world:
        job = new_job(1)
        await world.engine.start(job, Change())
        event = succeeded(world.clock, "First")
        await world.engine.feed(job.id, event, Change(saves=(Save(alert("a"), NEW),)))
        await world.engine.feed(job.id, event, Change(saves=(Save(alert("b"), NEW),)))
        assert {key for kind, key in store.records if kind is Alert} == {"a", "b"}
        before = store.job(job.id)
        second = succeeded(world.clock, "Second")
        with pytest.raises(StaleVersionError):
            await world.engine.feed(job.id, second, Change(saves=(Save(alert("a"), NEW),)))
        assert store.job(job.id) == before


async def test_a_job_changed_by_another_hand_is_read_again() -> None:
    store = PlayedStore()
    async with engine_world(store) as world:
        job = new_job(1)
        await world.engine.start(job, Change())
        present = store.records[Job, job.id]
        other = present.record.model_copy(update={"epoch": 9})
        store.records[Job, job.id] = Versioned(other, present.version + 1)
        await world.report(job.id, "First")
        stored = store.job(job.id)
        assert stored.epoch == 9
        assert stored.tasks[0].state is TaskState.SUCCEEDED


async def test_a_commit_that_fails_is_told_and_the_job_goes_on_afterwards() -> None:
    store = PlayedStore()
    async with engine_world(store) as world:
        job = new_job(1)
        await world.engine.start(job, Change())
        store.fail = OSError("the disk is full")
        with pytest.raises(OSError, match="disk is full"):
            await world.report(job.id, "First")
        assert store.job(job.id).tasks[0].state is TaskState.IN_PROGRESS
        store.fail = None
        await world.report(job.id, "First")
        await world.report(job.id, "Second")
        assert store.job(job.id).state is JobState.SUCCEEDED


async def test_a_commit_of_which_nobody_knows_whether_it_happened_is_acted_on_once_read() -> None:
    store = PlayedStore()
    async with engine_world(store) as world:
        job = new_job(1, FIRST, CHECK)
        await world.engine.start(job, Change())
        store.fail_after = ConnectionError("the connection was lost")
        with pytest.raises(ConnectionError):
            await world.report(job.id, "First")
        await world.report(job.id, "First")
        await until(lambda: store.job(job.id).state is JobState.SUCCEEDED)
        assert (job.id, "Check") in world.checks.made


async def test_the_engines_own_events_survive_a_database_that_is_away() -> None:
    store = PlayedStore()
    async with engine_world(store) as world:
        job = new_job(1, CHECK, FIRST)
        store.before_apply = lambda: None
        await world.engine.start(job, Change())
        store.fail = OSError("away")
        await asyncio.sleep(0.1)
        store.fail = None
        await until(lambda: bool(store.events))


async def test_a_stale_neighbour_does_not_cost_the_others_of_its_batch() -> None:
    store = PlayedStore()
    async with engine_world(store) as world:
        jobs = [new_job(number) for number in range(20)]
        await world.engine.start_all(jobs, Change())
        present = store.records[Job, jobs[7].id]
        store.records[Job, jobs[7].id] = Versioned(present.record, present.version + 1)
        await asyncio.gather(*(world.report(job.id, "First") for job in jobs))
        states = {store.job(job.id).tasks[0].state for job in jobs}
        assert states == {TaskState.SUCCEEDED}


async def test_a_poison_event_stops_its_job_alone_and_is_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store, whole = PlayedStore(), decide
    async with engine_world(store) as world:
        good, bad = new_job(1), new_job(2)
        await world.engine.start_all([good, bad], Change())

        def poisoned(job: Job, event: Event) -> object:
            if job.id == bad.id:
                raise ZeroDivisionError
            return whole(job, event)

        monkeypatch.setattr(DECIDE, poisoned)
        await asyncio.gather(world.report(bad.id, "First"), world.report(good.id, "First"))
        assert store.job(good.id).tasks[0].state is TaskState.SUCCEEDED
        assert list(world.engine.standing_still) == [bad.id]
        raised = store.records[Alert, f"stands-still/{bad.id}"].record
        assert "stands still" in raised.message  # type: ignore[attr-defined]
        await world.report(bad.id, "Second")
        assert len(store.inbox) == 2
        monkeypatch.setattr(DECIDE, whole)
    async with engine_world(store) as world:
        # A mended version finds what was kept.
        await until(lambda: store.job(bad.id).state is JobState.SUCCEEDED)
        assert not store.inbox


async def test_a_check_that_breaks_off_is_made_again_by_the_next_start() -> None:
    store = PlayedStore()
    job = new_job(1, CHECK, FIRST)
    async with engine_world(store) as world:
        world.checks.broken = RuntimeError("broken")
        await world.engine.start(job, Change())
        await until(lambda: bool(world.checks.made))
        assert not store.events
    async with engine_world(store):
        await until(lambda: bool(store.events))


async def test_a_failed_job_is_restarted_under_a_higher_fence_by_any_engine() -> None:
    store = PlayedStore()
    job = new_job(1)
    async with engine_world(store) as world:
        await world.engine.start(job, Change())
        await fail(world, job)
        assert store.job(job.id).state is JobState.FAILED
        assert job.id not in store.leases
    async with engine_world(store) as world:
        await world.engine.feed(job.id, RestartRequested(world.clock.now(), "olga"))
        restarted = store.job(job.id)
        assert restarted.state is JobState.IN_PROGRESS
        assert store.leases[job.id][0].fence == restarted.fence > 1
        attempt = restarted.tasks[0].attempt
        await world.report(job.id, "First", attempt)
        await world.report(job.id, "Second")
        assert store.job(job.id).state is JobState.SUCCEEDED


async def test_a_cancelled_job_ends_cancelled() -> None:
    store = PlayedStore()
    job = new_job(1)
    async with engine_world(store) as world:
        await world.engine.start(job, Change())
        await world.engine.feed(job.id, CancelRequested(world.clock.now(), "olga"))
        await fail(world, job)
        assert store.job(job.id).state is JobState.CANCELLED


async def test_deadlines_and_scheduled_starts_come_from_the_clock() -> None:
    store = PlayedStore()
    async with engine_world(store) as world:
        clock = world.clock
        later(clock, 0)
        waits = new_job(1, start_at=clock.now().replace(hour=6))
        runs = new_job(2)
        await world.engine.start_all([waits, runs], Change())
        assert store.job(waits.id).state is JobState.NOT_STARTED
        later(clock, 7 * 3600)
        await until(lambda: store.job(waits.id).state is JobState.IN_PROGRESS)
        await until(lambda: store.job(runs.id).tasks[0].withdrawing is not None)


async def fail(world: EngineWorld, job: Job) -> None:
    now = world.clock.now()
    error = job_error(errors.PROVIDER_FAILED, now, name="web01", detail="no")
    await world.engine.feed(job.id, PartFailed(now, "First", Side.PRIMARY, 1, error))
