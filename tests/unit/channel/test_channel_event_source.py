"""Signed events: the same bytes for the same event, fresh ones when asked for, no lost wake."""

import asyncio
from collections.abc import Mapping

import pytest

from service_hub.channel.event_source import SignedEvents
from service_hub.channel.wakeups import Wakeups
from service_hub.domain.errors import NotFoundError
from service_hub.domain.records import OutboxEvent
from service_hub.ports.stores import StreamPage
from tests.support.channel_world import OSAKA, TOKYO
from tests.support.memory_outbox import MemoryOutbox
from wire_contract.events import EventEnvelope


class CountingSigner:
    """Signs with a number, so that a second signature shows; takes at most 5,000 bytes."""

    def __init__(self) -> None:
        self.count = 0

    def sign(self, payload: bytes) -> str:
        """Return something that shows what was signed."""
        text = payload.decode()
        if len(text) > 5_000:
            raise ValueError("the event is larger than 5000 bytes")
        self.count += 1
        return f"{self.count}|{text}"


def world() -> tuple[MemoryOutbox, CountingSigner, Wakeups, SignedEvents]:
    outbox, signer, wakeups = MemoryOutbox(), CountingSigner(), Wakeups()
    outbox.follow(TOKYO)
    return outbox, signer, wakeups, SignedEvents(outbox, signer, wakeups, poll_seconds=30.0)


def envelope(jws: str) -> EventEnvelope:
    return EventEnvelope.model_validate_json(jws.partition("|")[2])


async def test_an_event_is_signed_with_all_that_the_envelope_says() -> None:
    outbox, _, _, source = world()
    event = outbox.add(TOKYO)
    stream, ((seq, jws),) = await source.signed_after(TOKYO, 0, 10)
    assert (stream.stream, seq) == ("stream-1", 1)
    signed = envelope(jws)
    assert (signed.id, signed.aud, signed.vault) == (event.id, TOKYO, event.vault_id)
    assert (signed.stream, signed.seq, signed.type) == (event.stream, 1, event.type)


async def test_the_same_event_gives_the_same_bytes_until_it_is_to_be_signed_anew() -> None:
    outbox, signer, _, source = world()
    outbox.add(TOKYO)
    first = await source.signed_after(TOKYO, 0, 10)
    assert await source.signed_after(TOKYO, 0, 10) == first
    source.sign_anew(TOKYO, 1)
    source.sign_anew(TOKYO, 99)
    assert await source.signed_after(TOKYO, 0, 10) != first
    source.replace_signer(signer)
    await source.signed_after(TOKYO, 0, 10)
    assert signer.count == 3


async def test_another_event_under_the_same_number_is_never_taken_for_it() -> None:
    outbox, signer, _, source = world()
    outbox.add(TOKYO)
    await source.signed_after(TOKYO, 0, 10)
    outbox.follow(TOKYO, "stream-2")
    outbox.add(TOKYO)
    _, ((_, jws),) = await source.signed_after(TOKYO, 0, 10)
    assert envelope(jws).stream == "stream-2"
    assert signer.count == 2


async def test_events_of_an_older_stream_are_left_out() -> None:
    outbox, _, _, source = world()
    old: OutboxEvent = outbox.add(TOKYO)
    outbox.follow(TOKYO, "stream-2")
    outbox.events[TOKYO].append(old)
    _, events = await source.signed_after(TOKYO, 0, 10)
    assert events == []


async def test_an_event_that_cannot_be_signed_is_voided_under_its_number() -> None:
    outbox, _, _, source = world()
    outbox.add(TOKYO, filling="x" * 9_000)
    outbox.add(TOKYO)
    _, events = await source.signed_after(TOKYO, 0, 10)
    assert [envelope(jws).type.value for _, jws in events] == ["tombstone", "refresh"]
    assert [seq for seq, _ in events] == [1, 2]


async def test_an_unknown_provider_has_no_stream() -> None:
    _, _, _, source = world()
    with pytest.raises(NotFoundError):
        await source.signed_after("nobody", 0, 10)


async def test_a_wait_ends_at_once_when_the_event_is_there_already() -> None:
    outbox, _, _, source = world()
    outbox.add(TOKYO)
    async with asyncio.timeout(5):
        _, events = await source.signed_when_there(TOKYO, "stream-1", 0, 10, 25)
    assert [seq for seq, _ in events] == [1]


async def test_a_wait_ends_with_the_wake_that_follows_a_commit() -> None:
    outbox, _, wakeups, source = world()
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        waiting = group.create_task(source.signed_when_there(TOKYO, "stream-1", 0, 10, 25))
        while not wakeups._waiting:
            await asyncio.sleep(0)
        wakeups.wake(["somebody else"])
        outbox.add(TOKYO)
        wakeups.wake([TOKYO])
    assert [seq for seq, _ in waiting.result()[1]] == [1]


async def test_a_wake_without_an_event_does_not_end_the_wait() -> None:
    outbox, _, wakeups, source = world()
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        waiting = group.create_task(source.signed_when_there(TOKYO, "stream-1", 0, 10, 25))
        while outbox.reads < 1:
            await asyncio.sleep(0)
        wakeups.wake([TOKYO])
        while outbox.reads < 2:
            await asyncio.sleep(0)
        assert not waiting.done()
        outbox.add(TOKYO)
        wakeups.wake([TOKYO])


async def test_another_stream_ends_the_wait() -> None:
    outbox, _, wakeups, source = world()
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        waiting = group.create_task(source.signed_when_there(TOKYO, "stream-1", 0, 10, 25))
        while not wakeups._waiting:
            await asyncio.sleep(0)
        outbox.follow(TOKYO, "stream-2")
        wakeups.wake([TOKYO])
    assert waiting.result()[0].stream == "stream-2"


async def test_missed_wakes_are_made_good_by_one_poll_for_all_who_wait() -> None:
    outbox, signer, wakeups, _ = world()
    source = SignedEvents(outbox, signer, wakeups, poll_seconds=0.01)
    names = [f"site-{number}" for number in range(50)]
    for name in names:
        outbox.follow(name)
    async with asyncio.timeout(5), source.polling(), asyncio.TaskGroup() as group:
        waiting = [
            group.create_task(source.signed_when_there(name, "stream-1", 0, 10, 25))
            for name in names
        ]
        while set(names) not in outbox.asked:
            await asyncio.sleep(0)
        for name in names[:-1]:
            outbox.add(name)
        outbox.follow(names[-1], "stream-2")
        before = outbox.reads
        await asyncio.wait(waiting)
    # The poll, and the reads of those that it woke; not one for each who waits.
    assert outbox.reads - before < len(names) / 2
    assert [each.result()[0].stream for each in waiting] == ["stream-1"] * 49 + ["stream-2"]


async def test_what_is_acknowledged_above_the_cursor_ends_no_wait() -> None:
    outbox, signer, wakeups, _ = world()
    source = SignedEvents(outbox, signer, wakeups, poll_seconds=0.01)
    outbox.add(TOKYO)
    outbox.acknowledge(TOKYO, 1)
    async with asyncio.timeout(5), source.polling(), asyncio.TaskGroup() as group:
        waiting = group.create_task(source.signed_when_there(TOKYO, "stream-1", 0, 10, 25))
        while outbox.reads < 10:
            await asyncio.sleep(0)
        assert not waiting.done()
        wakeups.close()
    assert waiting.result()[1] == []


class UnreachableOutbox(MemoryOutbox):
    """A database that can be away."""

    is_away = False

    async def pages(self, after: Mapping[str, int], limit: int) -> Mapping[str, StreamPage]:
        """Return streams and events, or fail."""
        if self.is_away:
            self.reads += 1
            raise OSError("disk")
        return await super().pages(after, limit)


async def test_a_poll_that_fails_is_made_again() -> None:
    outbox, wakeups = UnreachableOutbox(), Wakeups()
    outbox.follow(TOKYO)
    source = SignedEvents(outbox, CountingSigner(), wakeups, poll_seconds=0.01)
    async with asyncio.timeout(5), source.polling(), asyncio.TaskGroup() as group:
        group.create_task(source.signed_when_there(TOKYO, "stream-1", 0, 10, 25))
        while outbox.reads < 2:
            await asyncio.sleep(0)
        outbox.is_away = True
        failed = outbox.reads + 3
        while outbox.reads < failed:
            await asyncio.sleep(0)
        outbox.add(TOKYO)
        outbox.is_away = False


async def test_a_wait_is_bounded_and_the_end_of_the_hub_ends_it() -> None:
    _, _, wakeups, source = world()
    async with asyncio.timeout(5):
        await source.signed_when_there(TOKYO, "stream-1", 0, 10, 0.01)
        async with asyncio.TaskGroup() as group:
            group.create_task(source.signed_when_there(TOKYO, "stream-1", 0, 10, 25))
            while not wakeups._waiting:
                await asyncio.sleep(0)
            wakeups.close()
        await source.signed_when_there(TOKYO, "stream-1", 0, 10, 25)
    assert not wakeups._waiting


async def test_questions_at_the_same_time_are_one_read() -> None:
    outbox, _, _, source = world()
    names = [f"site-{number}" for number in range(300)]
    for name in names:
        outbox.follow(name)
        outbox.add(name)
    found = await asyncio.gather(*(source.signed_after(name, 0, 10) for name in names))
    assert [[seq for seq, _ in events] for _, events in found] == [[1]] * len(names)
    assert outbox.reads <= 3


async def test_places_of_one_provider_that_differ_are_answered_each() -> None:
    outbox, _, _, source = world()
    for _ in range(3):
        outbox.add(TOKYO)
    found = await asyncio.gather(*(source.signed_after(TOKYO, place, 2) for place in range(4)))
    assert [[seq for seq, _ in events] for _, events in found] == [[1, 2], [2, 3], [3], []]


async def test_who_is_cancelled_while_it_reads_leaves_the_others_their_answers() -> None:
    outbox, _, _, source = world()
    outbox.follow(OSAKA)
    outbox.add(OSAKA)
    async with asyncio.timeout(5):
        first = asyncio.ensure_future(source.signed_after(TOKYO, 0, 10))
        second = asyncio.ensure_future(source.signed_after(OSAKA, 0, 10))
        while outbox.reads < 1:
            await asyncio.sleep(0)
        first.cancel()
        _, events = await second
    assert first.cancelled()
    assert [seq for seq, _ in events] == [1]


async def test_a_read_that_fails_fails_for_all_who_asked_and_for_nobody_later() -> None:
    outbox = UnreachableOutbox()
    source = SignedEvents(outbox, CountingSigner(), Wakeups())
    for name in (TOKYO, OSAKA):
        outbox.follow(name)
    outbox.is_away = True
    asked = [source.signed_after(name, 0, 10) for name in (TOKYO, OSAKA)]
    failures = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(each) for each in failures] == [OSError, OSError]
    outbox.is_away = False
    assert (await source.signed_after(TOKYO, 0, 10))[1] == []


async def test_many_events_are_signed_in_order_and_once() -> None:
    outbox, signer, _, source = world()
    outbox.follow(OSAKA)
    for _ in range(10):
        outbox.add(TOKYO)
        outbox.add(OSAKA)
    found = await source.signed_waiting([TOKYO, OSAKA, "nobody"], 10)
    assert found.keys() == {TOKYO, OSAKA}
    for name, (_, events) in found.items():
        signed = [(seq, envelope(jws)) for seq, jws in events]
        assert [(seq, each.seq, each.aud) for seq, each in signed] == [
            (number, number, name) for number in range(1, 11)
        ]
    assert await source.signed_waiting([TOKYO, OSAKA], 10) == found
    assert signer.count == 20


async def test_signatures_are_dropped_when_there_are_too_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("service_hub.channel.signatures.SIGNATURES_MAX", 2)
    outbox, signer, _, source = world()
    for _ in range(3):
        outbox.add(TOKYO)
    await source.signed_after(TOKYO, 0, 10)
    await source.signed_after(TOKYO, 2, 10)
    assert signer.count == 3
    await source.signed_after(TOKYO, 0, 1)
    assert signer.count == 4


async def test_while_many_are_signed_others_have_their_turn() -> None:
    outbox, signer, _, source = world()
    for _ in range(300):
        outbox.add(TOKYO)
    seen: list[int] = []

    async def look_on() -> None:
        while signer.count < 300:
            seen.append(signer.count)
            await asyncio.sleep(0)

    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        group.create_task(look_on())
        await source.signed_waiting([TOKYO], 300)
    assert len(set(seen)) >= 4
