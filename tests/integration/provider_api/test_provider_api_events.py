"""The pull: pages, long polls, streams that ended, and how much one server may ask at once."""

import asyncio
from collections.abc import AsyncIterator
from urllib.parse import urlencode

import pytest

from certs.signing import EventVerifier
from service_hub.provider_api.api import POLLS_PARALLEL_MAX, REQUESTS_PARALLEL_MAX
from service_hub.provider_api.event_pull import EVENTS_PER_PAGE_MAX, PAGE_BYTES_MAX, page_of
from tests.support.channel_world import OSAKA, TOKYO, Holder, SystemTime
from tests.support.provider_api_world import Answer, ApiWorld, api_world
from wire_contract import paths
from wire_contract.events import EventPage


@pytest.fixture
async def world() -> AsyncIterator[ApiWorld]:
    """Give an open provider listener."""
    async with api_world() as opened:
        yield opened


async def ask(world: ApiWorld, holder: Holder, **query: object) -> Answer:
    return await world.call("GET", f"{paths.EVENTS}?{urlencode(query)}", holder)


async def page(world: ApiWorld, holder: Holder, **query: object) -> EventPage:
    answer = await ask(world, holder, **query)
    assert answer.code == 200, answer.content
    return EventPage.model_validate_json(answer.body)


def numbers(found: EventPage) -> list[int]:
    return [event.seq for event in found.events]


async def polling(world: ApiWorld, count: int = 1) -> None:
    """Wait until so many long polls wait."""
    async with asyncio.timeout(10):
        while sum(len(each) for each in world.wakeups._waiting.values()) < count:
            await asyncio.sleep(0.005)


async def test_events_come_in_order_signed_and_from_the_cursor_on(world: ApiWorld) -> None:
    holder = world.provider()
    for _ in range(3):
        world.outbox.add(TOKYO)
    found = await page(world, holder, stream="stream-1", after=1)
    assert (found.stream, found.highest_seq, numbers(found)) == ("stream-1", 3, [2, 3])
    verifier = EventVerifier(world.trust.chain.root_pem)
    payload = verifier.verify(found.events[0].jws, SystemTime().now())
    assert (payload["aud"], payload["seq"]) == (TOKYO, 2)


async def test_a_provider_never_sees_events_of_another(world: ApiWorld) -> None:
    world.provider(TOKYO)
    holder = world.provider(OSAKA)
    world.outbox.add(TOKYO)
    answer = await world.call(
        "GET",
        f"{paths.EVENTS}?stream=stream-1&after=0",
        holder,
        token=False,
        headers=world.bearer(holder, OSAKA),
    )
    assert answer.content["events"] == []


async def test_a_long_poll_ends_with_the_event(world: ApiWorld) -> None:
    holder = world.provider()
    async with asyncio.TaskGroup() as group:
        poll = group.create_task(page(world, holder, stream="stream-1", after=0, wait=25))
        await polling(world)
        world.outbox.add(TOKYO)
        world.wakeups.wake([TOKYO])
    assert numbers(poll.result()) == [1]


async def test_a_long_poll_ends_empty_when_its_time_is_over(world: ApiWorld) -> None:
    found = await page(world, world.provider(), stream="stream-1", after=0, wait="0.05")
    assert (found.highest_seq, found.events) == (0, ())


async def test_long_polls_answer_when_the_hub_stops(world: ApiWorld) -> None:
    holder = world.provider()
    async with asyncio.TaskGroup() as group:
        poll = group.create_task(page(world, holder, stream="stream-1", after=0, wait=25))
        await polling(world)
        world.wakeups.close()
    assert poll.result().events == ()


async def test_another_stream_is_answered_at_once_with_the_present_from_its_beginning(
    world: ApiWorld,
) -> None:
    holder = world.provider()
    world.outbox.follow(TOKYO, "stream-2")
    empty = await page(world, holder, stream="stream-1", after=7, wait=25)
    assert (empty.stream, empty.highest_seq, empty.events) == ("stream-2", 0, ())
    for _ in range(9):
        world.outbox.add(TOKYO)
    found = await page(world, holder, stream="stream-1", after=7, wait=25)
    assert numbers(found) == list(range(1, 10))
    assert {event.stream for event in found.events} == {"stream-2"}


async def test_a_stream_that_begins_anew_during_a_poll_is_named(world: ApiWorld) -> None:
    holder = world.provider()
    async with asyncio.TaskGroup() as group:
        poll = group.create_task(page(world, holder, stream="stream-1", after=5, wait=25))
        await polling(world)
        world.outbox.follow(TOKYO, "stream-2")
        world.outbox.add(TOKYO)
        world.wakeups.wake([TOKYO])
    assert (poll.result().stream, numbers(poll.result())) == ("stream-2", [1])


async def test_a_cursor_beyond_the_end_gets_an_empty_page(world: ApiWorld) -> None:
    found = await page(world, world.provider(), stream="stream-1", after=2**53 - 1)
    assert (found.highest_seq, found.events) == (0, ())


async def test_a_page_is_bounded_and_says_that_there_is_more(world: ApiWorld) -> None:
    holder = world.provider()
    for _ in range(EVENTS_PER_PAGE_MAX + 6):
        world.outbox.add(TOKYO)
    first = await page(world, holder, stream="stream-1", after=0)
    assert numbers(first) == list(range(1, EVENTS_PER_PAGE_MAX + 1))
    assert first.highest_seq == EVENTS_PER_PAGE_MAX + 6
    rest = await page(world, holder, stream="stream-1", after=EVENTS_PER_PAGE_MAX)
    assert len(rest.events) == 6


def test_a_page_holds_at_least_one_event_however_large(world: ApiWorld) -> None:
    world.outbox.follow(TOKYO)
    stream = world.outbox.streams[TOKYO]
    half = "x" * (PAGE_BYTES_MAX // 2)
    assert numbers(page_of(stream, [(1, half), (2, half), (3, "x")])) == [1, 2]
    assert page_of(stream, []).events == ()


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ({"after": 0}, "stream"),
        ({"stream": "", "after": 0}, "stream"),
        ({"stream": "x" * 65, "after": 0}, "stream"),
        ({"stream": "s"}, "after"),
        ({"stream": "s", "after": -1}, "after"),
        ({"stream": "s", "after": "1e3"}, "after"),
        ({"stream": "s", "after": 2**53}, "after"),
        ({"stream": "s", "after": "9" * 400}, "after"),
        ({"stream": "s", "after": "\u0661"}, "after"),
        ({"stream": "s", "after": 0, "wait": 26}, "wait"),
        ({"stream": "s", "after": 0, "wait": "nan"}, "wait"),
        ({"stream": "s", "after": 0, "wait": "-1"}, "wait"),
    ],
)
async def test_a_query_that_means_nothing_is_refused_by_name(
    world: ApiWorld, query: dict[str, object], name: str
) -> None:
    answer = await ask(world, world.provider(), **query)
    assert answer.code == 400
    assert answer.content["message"].startswith(f"{name}:")


async def test_a_server_has_two_long_polls_and_no_more(world: ApiWorld) -> None:
    holder = world.provider()
    async with asyncio.TaskGroup() as group:
        polls = [
            group.create_task(ask(world, holder, stream="stream-1", after=0, wait=25))
            for _ in range(POLLS_PARALLEL_MAX)
        ]
        await polling(world, POLLS_PARALLEL_MAX)
        third = await ask(world, holder, stream="stream-1", after=0, wait=25)
        assert (third.code, third.headers["Retry-After"]) == (429, "1")
        world.wakeups.close()
    assert [poll.result().code for poll in polls] == [200, 200]
    assert (await ask(world, holder, stream="stream-1", after=0)).code == 200


async def test_a_server_that_asks_too_much_at_once_is_told_to_wait(world: ApiWorld) -> None:
    holder = world.provider()
    release = asyncio.Event()

    async def slow_body() -> AsyncIterator[bytes]:
        yield b"{"
        await release.wait()
        yield b"}"

    async def heartbeat() -> Answer:
        return await world.call("POST", paths.HEARTBEAT, holder, body=slow_body())

    async with asyncio.TaskGroup() as group:
        beats = [group.create_task(heartbeat()) for _ in range(REQUESTS_PARALLEL_MAX)]
        async with asyncio.timeout(10):
            while (await world.call("POST", paths.TOKEN, holder)).code != 429:
                await asyncio.sleep(0.005)
        release.set()
    assert {beat.result().code for beat in beats} <= {400, 429}
    assert (await world.call("POST", paths.TOKEN, holder)).code == 200
