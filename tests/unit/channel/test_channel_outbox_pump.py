"""The pump with a clock in hand: what is sent to whom, when, and what trouble does to others."""

import asyncio
from collections.abc import Mapping

from service_hub.channel.delivery import Publication
from service_hub.channel.outbox_pump import PART_MAX
from service_hub.ports.stores import StreamPage
from tests.support.channel_world import TOKYO
from tests.support.memory_outbox import MemoryOutbox
from tests.support.pump_bench import Bench
from wire_contract.topics import EVENT_BYTES_MAX


async def test_nothing_is_sent_to_who_is_not_connected() -> None:
    bench = Bench()
    bench.outbox.add(TOKYO)
    assert await bench.look() == []
    assert await bench.pump._behind() == set()


async def test_a_connection_gets_what_is_not_acknowledged_and_nothing_twice() -> None:
    bench = Bench()
    for _ in range(3):
        bench.outbox.add(TOKYO)
    bench.outbox.acknowledge(TOKYO, 1)
    bench.delivery.numbers[TOKYO] = 1
    assert await bench.pump._behind() == {TOKYO}
    assert await bench.look() == [(TOKYO, "stream-1/2"), (TOKYO, "stream-1/3")]
    assert await bench.look() == []
    bench.outbox.acknowledge(TOKYO, 3)
    assert await bench.pump._behind() == set()
    bench.now = 100.0
    assert await bench.look() == []


async def test_what_is_not_acknowledged_is_published_again() -> None:
    bench = Bench()
    bench.outbox.add(TOKYO)
    bench.delivery.numbers[TOKYO] = 1
    seen = []
    for half_seconds in range(80):
        bench.now = half_seconds / 2
        seen += [(bench.now, text) for _, text in await bench.look()]
    again = [(moment, "stream-1/1") for moment in (0.0, 2.0, 7.0, 22.0)]
    assert seen == [*again, (37.0, "hint")]


async def test_a_new_connection_is_sent_everything_again() -> None:
    bench = Bench()
    bench.outbox.add(TOKYO)
    bench.delivery.numbers[TOKYO] = 1
    assert await bench.look() == [(TOKYO, "stream-1/1")]
    bench.delivery.numbers[TOKYO] = 2
    assert await bench.look() == [(TOKYO, "stream-1/1")]


async def test_a_new_stream_is_sent_from_its_beginning() -> None:
    bench = Bench()
    bench.outbox.add(TOKYO)
    bench.delivery.numbers[TOKYO] = 1
    await bench.look()
    bench.outbox.follow(TOKYO, "stream-2")
    bench.outbox.add(TOKYO)
    assert await bench.look() == [(TOKYO, "stream-2/1")]


async def test_a_large_event_is_hinted_at() -> None:
    bench = Bench()
    bench.outbox.add(TOKYO, filling="x" * EVENT_BYTES_MAX)
    bench.outbox.add(TOKYO)
    bench.delivery.numbers[TOKYO] = 1
    assert await bench.look() == [(TOKYO, "hint")]
    bench.outbox.acknowledge(TOKYO, 1)
    assert await bench.look() == [(TOKYO, "stream-1/2")]


async def test_what_the_peer_cannot_take_at_all_becomes_a_hint() -> None:
    bench = Bench()
    bench.outbox.add(TOKYO)
    bench.delivery.numbers[TOKYO] = 1
    bench.delivery.answer = lambda: Publication.TOO_LARGE
    assert await bench.look() == [(TOKYO, "hint")]


async def test_a_busy_connection_gets_the_rest_later_and_in_order() -> None:
    bench = Bench()
    for _ in range(3):
        bench.outbox.add(TOKYO)
    bench.delivery.numbers[TOKYO] = 1
    answers = iter([Publication.SENT, Publication.BUSY])
    bench.delivery.answer = lambda: next(answers)
    assert await bench.look() == [(TOKYO, "stream-1/1")]
    assert 0 < bench.pump._pause(until=100.0) <= 1.0
    bench.delivery.answer = lambda: Publication.SENT
    assert await bench.look() == [(TOKYO, "stream-1/2"), (TOKYO, "stream-1/3")]


async def test_who_has_gone_is_forgotten() -> None:
    bench = Bench()
    bench.outbox.add(TOKYO)
    bench.delivery.numbers[TOKYO] = 1
    await bench.look()
    bench.delivery.kick(TOKYO)
    await bench.pump._behind()
    assert bench.pump._pause(until=100.0) == 100.0


class BrokenForTokyo(MemoryOutbox):
    """A database that fails for one provider's events, and for the poll when told to."""

    poll_fails = False

    async def pages(self, after: Mapping[str, int], limit: int) -> Mapping[str, StreamPage]:
        """Return streams and events, or fail."""
        if self.poll_fails if limit == 0 else TOKYO in after:
            raise OSError("disk")
        return await super().pages(after, limit)


async def test_trouble_with_one_provider_does_not_end_the_delivery_to_others() -> None:
    outbox = BrokenForTokyo()
    bench = Bench(outbox)
    names = bench.crowd(40)
    outbox.add(TOKYO)
    bench.delivery.numbers[TOKYO] = 1
    await bench.pump._look_at([*names[:20], TOKYO, *names[20:]])
    assert sorted(bench.delivery.taken()) == sorted((name, "stream-1/1") for name in names)
    outbox.poll_fails = True
    assert await bench.pump._behind() == set()
    outbox.poll_fails = False
    assert await bench.pump._behind() == {TOKYO, *names}


async def test_who_could_not_be_read_is_tried_again_and_not_at_once() -> None:
    outbox = BrokenForTokyo()
    bench = Bench(outbox)
    outbox.add(TOKYO)
    bench.delivery.numbers[TOKYO] = 1
    assert await bench.look() == []
    assert 1.0 <= bench.pump._pause(until=100.0) <= 2.0


async def test_a_delivery_that_fails_for_one_goes_on_for_the_others() -> None:
    bench = Bench()
    names = bench.crowd(5)
    answers = iter([Publication.SENT, Publication.SENT, None, Publication.SENT, Publication.SENT])

    def answer() -> Publication:
        told = next(answers)
        if told is None:
            raise ConnectionResetError
        return told

    bench.delivery.answer = answer
    await bench.pump._look_at(names)
    assert [name for name, _ in bench.delivery.taken()] == [*names[:2], *names[3:]]
    bench.delivery.answer = lambda: Publication.SENT
    await bench.pump._look_at(names)
    assert bench.delivery.taken() == [(names[2], "stream-1/1")]


async def test_reads_do_not_grow_with_the_providers_of_a_part() -> None:
    reads = []
    for count in (1, PART_MAX):
        bench = Bench()
        names = bench.crowd(count)
        await bench.pump._look_at(names)
        assert len(bench.delivery.taken()) == count
        reads.append(bench.outbox.reads)
    assert reads == [1, 1]


async def test_many_parts_are_sent_each_provider_once_and_in_order() -> None:
    bench = Bench()
    names = bench.crowd(3 * PART_MAX + 1, events=3)
    await bench.pump._look_at(names)
    sent = bench.delivery.taken()
    for name in names:
        assert [text for each, text in sent if each == name] == [
            f"stream-1/{seq}" for seq in (1, 2, 3)
        ]
    assert bench.outbox.reads == 4
    await bench.pump._look_at(names)
    assert bench.delivery.taken() == []


async def test_what_no_wake_told_is_found_by_the_poll() -> None:
    bench = Bench()
    names = bench.crowd(10)
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        pumping = group.create_task(bench.pump.run())
        while len(bench.delivery.sent) < len(names):
            await asyncio.sleep(0)
        pumping.cancel()
    assert sorted(bench.delivery.taken()) == sorted((name, "stream-1/1") for name in names)


class SmallReads(MemoryOutbox):
    """A database whose events are so large that few fit a read."""

    async def pages(self, after: Mapping[str, int], limit: int) -> Mapping[str, StreamPage]:
        """Return the first two."""
        return dict(list((await super().pages(after, limit)).items())[:2])


async def test_who_is_left_out_of_a_read_is_asked_for_again() -> None:
    bench = Bench(SmallReads())
    names = bench.crowd(7)
    bench.delivery.numbers["nobody"] = 1
    await bench.pump._look_at([*names, "nobody"])
    assert bench.delivery.taken() == [(name, "stream-1/1") for name in names]
