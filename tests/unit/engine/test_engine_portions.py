import asyncio
from collections.abc import Sequence

import pytest

from service_hub.domain.jobs import TakenUp
from service_hub.engine.held_jobs import Fed, HeldJob, HeldJobs
from service_hub.engine.portions import PORTIONS_AHEAD, STARTED_AT_ONCE, in_portions
from service_hub.ports.changes import NEW
from tests.support.engine_world import FIRST, new_job

SECONDS_MAX = 10.0


async def test_all_members_are_started_and_one_portion_is_made_while_another_is_stored() -> None:
    begun: list[int] = []
    under_way, most = 0, 0

    async def start(portion: Sequence[int]) -> None:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        assert len(portion) <= STARTED_AT_ONCE
        begun.extend(portion)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        under_way -= 1

    count = 3 * STARTED_AT_ONCE + 7
    assert await in_portions(range(count), start)
    assert begun == list(range(count))
    assert most == PORTIONS_AHEAD


async def test_a_portion_that_fails_ends_neither_the_one_beside_it_nor_begins_another() -> None:
    stored: list[int] = []
    second_is_made = asyncio.Event()

    async def start(portion: Sequence[int]) -> None:
        if portion[0] == 0:
            await second_is_made.wait()
            raise OSError("the database is gone")
        second_is_made.set()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        stored.extend(portion)

    async with asyncio.timeout(SECONDS_MAX):
        with pytest.raises(OSError, match="the database is gone"):
            await in_portions(range(5 * STARTED_AT_ONCE), start)
    assert stored == list(range(STARTED_AT_ONCE, 2 * STARTED_AT_ONCE))


async def test_no_further_portion_begins_once_it_was_said_to_stop() -> None:
    begun: list[int] = []

    async def start(portion: Sequence[int]) -> None:
        begun.append(portion[0])

    assert not await in_portions(range(900), start, lambda: len(begun) < 2)
    assert len(begun) <= 1 + PORTIONS_AHEAD
    assert await in_portions((), start, lambda: False), "nothing was left to be stopped"


def _held(number: int) -> HeldJob:
    return HeldJob(new_job(number, FIRST), NEW + 1, 1)


def _fed() -> Fed:
    return Fed(TakenUp(2))


async def test_what_is_not_taken_keeps_its_place_before_what_came_later() -> None:
    jobs = HeldJobs()
    all_of_them = [_held(number) for number in range(4)]
    for held in all_of_them[:3]:
        jobs.add(held)
        jobs.offer(held, _fed())
    first = jobs.take()
    assert first is all_of_them[0]
    jobs.add(all_of_them[3])
    jobs.offer(all_of_them[3], _fed())
    jobs.give_back(first)
    # It has an event left and comes again, behind those that wait longer.
    assert [jobs.take() for _ in range(4)] == [*all_of_them[1:], first]
    assert jobs.take() is None


async def test_who_waits_for_something_to_decide_is_not_woken_by_what_was_let_go() -> None:
    jobs, held = HeldJobs(), _held(1)
    jobs.add(held)
    jobs.offer(held, _fed())
    await asyncio.wait_for(jobs.some_ready(), SECONDS_MAX)
    jobs.drop(held)
    assert jobs.take() is None
    waiting = asyncio.ensure_future(jobs.some_ready())
    await asyncio.sleep(0)
    assert not waiting.done()
    jobs.add(held)
    jobs.offer(held, _fed())
    await asyncio.wait_for(waiting, SECONDS_MAX)
