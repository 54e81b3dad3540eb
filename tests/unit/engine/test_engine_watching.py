"""Timers, chores, and ends that a job can do without."""

import asyncio
from datetime import datetime, timedelta
from random import Random

import pytest

from service_hub.domain.jobs import TaskState
from service_hub.domain.scenarios import Target, TaskSpec
from service_hub.engine.chores import Chore, doing
from service_hub.engine.timers import Timers
from service_hub.ports.changes import Change
from tests.support.engine_world import BEGIN, SECOND, TOKYO, engine_world, new_job, until
from tests.support.played_store import PlayedStore
from wire_contract.vocabulary import Side, Verb


@pytest.mark.parametrize("seed", range(5))
def test_timers_give_what_is_due_in_order_whatever_was_set_before(seed: int) -> None:
    chance, timers = Random(seed), Timers()  # noqa: S311 -- the same steps for each seed
    due: dict[str, datetime] = {}
    for _ in range(2000):
        name = f"job {chance.randrange(100)}"
        moment = BEGIN + timedelta(seconds=chance.randrange(1000))
        if chance.random() < 0.2:
            timers.set(name, None)
            due.pop(name, None)
        else:
            timers.set(name, moment)
            due[name] = moment
    assert timers.next_at() == min(due.values())
    now = BEGIN + timedelta(seconds=500)
    taken = timers.take(now, 1000)
    assert set(taken) == {name for name, moment in due.items() if moment <= now}
    assert [due[name] for name in taken] == sorted(due[name] for name in taken)
    assert timers.take(now, 1000) == []
    assert len(timers._heap) <= 2 * len(timers._due) + 64


def test_timers_are_taken_in_bounded_portions() -> None:
    timers = Timers()
    for number in range(25):
        timers.set(str(number), BEGIN)
    assert [len(timers.take(BEGIN, 10)) for _ in range(4)] == [10, 10, 5, 0]


async def test_a_chore_that_fails_is_done_again_and_stops_no_other() -> None:
    done: list[str] = []

    async def broken() -> None:
        done.append("broken")
        raise OSError("away")

    async def whole() -> None:
        done.append("whole")

    async with doing([Chore("broken", 0.01, broken), Chore("whole", 0.01, whole)]):
        await until(lambda: done.count("broken") > 2 and done.count("whole") > 2)
    count = len(done)
    await asyncio.sleep(0.03)
    assert len(done) == count


async def test_a_task_that_may_fail_does_not_wait_for_a_provider_that_is_gone() -> None:
    may_fail = TaskSpec(
        "First",
        "First",
        "First",
        (Side.PRIMARY,),
        Verb.SHUT_DOWN,
        target=Target.SERVER,
        go_on_after_failure=True,
    )
    store = PlayedStore()
    async with engine_world(store) as world:
        job = new_job(1, may_fail, SECOND)
        await world.engine.start(job, Change())
        await asyncio.sleep(1.2)
        assert store.job(job.id).tasks[0].state is TaskState.IN_PROGRESS
        world.present.gone.add(TOKYO)
        await until(lambda: store.job(job.id).tasks[0].state is TaskState.FAILED)
        assert store.job(job.id).tasks[1].state is TaskState.IN_PROGRESS
