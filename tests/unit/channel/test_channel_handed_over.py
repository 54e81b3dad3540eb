"""What commits hand over: sent unread where it is surely the end of a stream, else read."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from service_hub.channel.delivery import Publication
from service_hub.channel.flight import IN_FLIGHT_MAX, FlightLog, Publish
from service_hub.channel.handed_over import handed_over
from service_hub.channel.outbox_pump import LOOKS_APART_SECONDS, OutboxPump
from service_hub.channel.wakeups import STORED_MAX, Wakeups
from service_hub.domain.records import OutboxEvent, ProviderStream
from service_hub.ports.changes import NewEvent, NumberedEvent, Stored
from tests.support.channel_world import OSAKA, TOKYO
from tests.support.pump_bench import Bench
from wire_contract.topics import EVENT_BYTES_MAX
from wire_contract.vocabulary import EventType


def told(bench: Bench, *events: OutboxEvent, provider_id: str = TOKYO) -> Stored:
    """Return what a commit says that stored these as the newest."""
    numbered = [
        NumberedEvent(
            NewEvent(
                event_id=each.id,
                vault_id=each.vault_id,
                provider_id=each.provider_id,
                type=each.type,
                issued_at=each.issued_at,
                expires_at=each.expires_at,
                body=each.body,
            ),
            each.stream,
            each.seq,
        )
        for each in events
    ]
    return Stored([bench.outbox.streams[provider_id]], numbered)


def added(bench: Bench, provider_id: str = TOKYO, filling: str = "") -> Stored:
    """Store an event, and return what its commit says."""
    return told(bench, bench.outbox.add(provider_id, filling=filling), provider_id=provider_id)


async def sent(bench: Bench, *stored: Stored) -> list[str]:
    """Hand over; return what was sent to Tokyo, and check that nothing had to be read."""
    before = bench.outbox.reads
    assert await bench.pump._send_stored(stored) == set()
    assert bench.outbox.reads == before
    return [text for _, text in bench.delivery.taken()]


async def must_be_read(bench: Bench, *stored: Stored) -> None:
    assert await bench.pump._send_stored(stored) == {TOKYO}
    assert bench.delivery.taken() == []


def connected() -> Bench:
    bench = Bench()
    bench.delivery.numbers[TOKYO] = 1
    return bench


async def test_what_a_commit_hands_over_is_sent_and_not_read() -> None:
    bench = connected()
    assert await sent(bench, added(bench)) == ["stream-1/1"]
    assert await sent(bench, added(bench), added(bench)) == ["stream-1/2", "stream-1/3"]
    assert await bench.look() == []


async def test_who_is_not_connected_is_neither_sent_to_nor_read() -> None:
    bench = Bench()
    assert await sent(bench, added(bench)) == []


async def test_what_was_handed_over_is_published_again_like_all_else() -> None:
    bench = connected()
    await sent(bench, added(bench))
    bench.now = 2.0
    assert await bench.look() == [(TOKYO, "stream-1/1")]


async def test_an_event_that_nobody_told_of_is_read_first() -> None:
    bench = connected()
    await sent(bench, added(bench))
    bench.outbox.add(TOKYO)
    await must_be_read(bench, added(bench))
    assert await bench.look() == [(TOKYO, "stream-1/2"), (TOKYO, "stream-1/3")]


async def test_of_two_commits_with_one_of_another_hub_between_them_all_is_read() -> None:
    bench = connected()
    first = added(bench)
    bench.outbox.add(TOKYO)
    await must_be_read(bench, first, added(bench))


async def test_a_new_connection_is_read_for_unless_nothing_waits() -> None:
    bench = connected()
    await sent(bench, added(bench))
    bench.delivery.numbers[TOKYO] = 2
    await must_be_read(bench, added(bench))
    bench.outbox.acknowledge(TOKYO, 2)
    bench.delivery.numbers[TOKYO] = 3
    assert await sent(bench, added(bench)) == ["stream-1/3"]


async def test_a_receipt_is_heard_without_a_read_where_all_is_in_flight() -> None:
    bench = connected()
    await sent(bench, added(bench), added(bench))
    bench.outbox.acknowledge(TOKYO, 1)
    assert await sent(bench, told(bench)) == []
    bench.now = 2.0
    assert await bench.look() == [(TOKYO, "stream-1/2")]


async def test_a_receipt_that_makes_room_has_the_outbox_read() -> None:
    bench = connected()
    for _ in range(IN_FLIGHT_MAX + 1):
        bench.outbox.add(TOKYO)
    await bench.look()
    bench.outbox.acknowledge(TOKYO, 1)
    await must_be_read(bench, told(bench))
    assert await bench.look() == [(TOKYO, "stream-1/21"[:10])]


async def test_beyond_the_window_it_is_read_and_hinted_at() -> None:
    bench = connected()
    for _ in range(IN_FLIGHT_MAX):
        await sent(bench, added(bench))
    await must_be_read(bench, added(bench))
    assert await bench.look() == [(TOKYO, "hint")]


async def test_another_stream_is_read() -> None:
    bench = connected()
    await sent(bench, added(bench))
    bench.outbox.follow(TOKYO, "stream-2")
    await must_be_read(bench, added(bench))
    assert await bench.look() == [(TOKYO, "stream-2/1")]


async def test_a_late_word_of_an_older_state_sends_nothing() -> None:
    bench = connected()
    late = added(bench)
    bench.outbox.acknowledge(TOKYO, 1)
    await sent(bench, added(bench))
    await must_be_read(bench, late)


async def test_a_large_event_is_read_and_hinted_at_and_none_is_sent_above_it() -> None:
    bench = connected()
    await must_be_read(bench, added(bench, filling="x" * EVENT_BYTES_MAX))
    assert await bench.look() == [(TOKYO, "hint")]
    await must_be_read(bench, added(bench))


async def test_what_a_busy_connection_does_not_take_waits() -> None:
    bench = connected()
    bench.delivery.answer = lambda: Publication.BUSY
    assert await sent(bench, added(bench)) == []
    assert 0 < bench.pump._pause(until=100.0) <= 1.0
    bench.delivery.answer = lambda: Publication.SENT
    await must_be_read(bench, added(bench))
    assert await bench.look() == [(TOKYO, "stream-1/1"), (TOKYO, "stream-1/2")]


async def test_a_hub_that_may_not_send_sends_nothing() -> None:
    bench = connected()
    bench.may_send = False
    await must_be_read(bench, added(bench))
    assert await bench.look() == []


async def test_what_cannot_be_signed_now_is_read_later() -> None:
    bench = connected()
    bench.signer.fails = True
    await must_be_read(bench, added(bench))
    bench.signer.fails = False
    assert await bench.look() == [(TOKYO, "stream-1/1")]


async def test_one_connection_that_fails_costs_no_other_its_events() -> None:
    bench = connected()
    bench.delivery.numbers[OSAKA] = 1
    answers = iter([None, Publication.SENT])

    def answer() -> Publication:
        given_now = next(answers)
        if given_now is None:
            raise ConnectionResetError
        return given_now

    bench.delivery.answer = answer
    stored = added(bench) + added(bench, OSAKA)
    assert await bench.pump._send_stored([stored]) == set()
    assert bench.delivery.taken() == [(OSAKA, "stream-1/1")]
    bench.delivery.answer = lambda: Publication.SENT
    assert await bench.look() == [(TOKYO, "stream-1/1")]


async def test_many_are_sent_each_in_order() -> None:
    bench = Bench()
    names = bench.crowd(100, events=0)
    stored = [added(bench, name) for _ in range(3) for name in names]
    assert await bench.pump._send_stored(stored) == set()
    assert sorted(bench.delivery.taken()) == sorted(
        (name, f"stream-1/{seq}") for name in names for seq in (1, 2, 3)
    )
    assert bench.outbox.reads == 0


async def running(pump: OutboxPump, until: Sequence[asyncio.Event]) -> None:
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        pumping = group.create_task(pump.run())
        for event in until:
            await event.wait()
        pumping.cancel()


async def test_who_is_woken_besides_is_read_whatever_a_commit_told() -> None:
    # A ring of another hub must not be lost because a commit of this one was told in the same turn.
    wakeups, bench = Wakeups(), connected()
    wakeups.wake([TOKYO], added(bench))
    wakeups.wake([TOKYO])
    woken = await wakeups.take(5.0)
    assert woken.provider_ids == {TOKYO}
    assert len(woken.stored) == 1


async def test_who_was_told_of_is_not_read_and_who_was_not_is() -> None:
    wakeups, bench = Wakeups(), connected()
    wakeups.wake([TOKYO, OSAKA], added(bench))
    assert (await wakeups.take(5.0)).provider_ids == {OSAKA}


async def test_what_is_not_taken_is_bounded_and_read_instead() -> None:
    wakeups, bench = Wakeups(), connected()
    stored = added(bench)
    many = Stored(stored.streams, list(stored.events) * (STORED_MAX - 2))
    for each in (many, stored, stored):
        wakeups.wake([TOKYO], each)
    woken = await wakeups.take(5.0)
    assert [len(each.events) for each in woken.stored] == [STORED_MAX - 2]
    assert woken.provider_ids == {TOKYO}


async def test_a_crowd_that_comes_one_by_one_is_read_together() -> None:
    bench = Bench()
    names = bench.crowd(40)
    arrived = asyncio.Event()

    async def come() -> None:
        for name in names:
            bench.wakeups.wake([name])
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        while len(bench.delivery.sent) < len(names):
            bench.now += LOOKS_APART_SECONDS / 10
            await asyncio.sleep(0)
        arrived.set()

    async with asyncio.TaskGroup() as group:
        group.create_task(come())
        await running(bench.pump, [arrived])
    assert sorted(name for name, _ in bench.delivery.taken()) == names
    # The poll that a pump begins with reads twice; then the first who came, and all others.
    assert bench.outbox.reads <= 5


NUMBERS = st.integers(min_value=0, max_value=25)


@given(
    acknowledged=NUMBERS,
    in_flight=st.sets(st.integers(min_value=1, max_value=30)),
    first=st.integers(min_value=1, max_value=30),
    count=st.integers(min_value=0, max_value=25),
)
def test_what_goes_on_unread_is_what_a_read_would_send(
    acknowledged: int, in_flight: set[int], first: int, count: int
) -> None:
    first = max(first, acknowledged + 1)
    flights, read = FlightLog(), FlightLog()
    for log in (flights, read):
        log.acknowledge("s", acknowledged)
        for seq in sorted(in_flight):
            log.done(Publish(seq), 0.0)
    following = first + count
    if not flights.goes_on("s", acknowledged, first, following):
        return
    read.acknowledge("s", acknowledged)
    waiting = [(seq, 100) for seq in range(acknowledged + 1, following)]
    assert read.steps(waiting, 0.0) == [Publish(seq) for seq in range(first, following)]
    for log in (flights, read):
        for seq in range(first, following):
            log.done(Publish(seq), 0.0)
    assert flights.due_at() == read.due_at()
    assert flights.steps(waiting, 1.0) == []


@given(st.lists(st.tuples(st.booleans(), st.integers(min_value=0, max_value=3)), max_size=12))
def test_only_the_end_of_a_stream_without_a_gap_is_whole(batches: list[tuple[bool, int]]) -> None:
    # Commits of this hub (told) and of another one (not told), each with so many events.
    following, last_of_ours = 1, 1
    stored: list[Stored] = []
    for is_ours, count in batches:
        events = [_event(seq) for seq in range(following, following + count)]
        following += count
        if is_ours:
            last_of_ours = following
            stream = ProviderStream(id=TOKYO, vault_id="v", stream="s", next_seq=following)
            stored.append(Stored([stream], events))
    found = handed_over(stored)
    if not stored:
        assert not found
        return
    handed = found[TOKYO]
    numbers = [each.seq for each in handed.events]
    assert handed.is_whole() is (numbers == list(range(last_of_ours - len(numbers), last_of_ours)))


def _event(seq: int) -> NumberedEvent:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    event = NewEvent(f"e{seq}", "v", TOKYO, EventType.REFRESH, now, now + timedelta(hours=1), {})
    return NumberedEvent(event, "s", seq)
