"""Signed events: the same bytes for the same event, fresh ones when asked for, no lost wake."""

import asyncio
import json
from collections.abc import Mapping

import pytest

from service_hub.channel.event_source import SignedEvents
from service_hub.channel.wakeups import Wakeups
from service_hub.domain.errors import NotFoundError
from service_hub.domain.records import OutboxEvent
from tests.support.channel_world import TOKYO, MemoryOutbox
from wire_contract.events import EventEnvelope


class CountingSigner:
    """Signs with a number, so that a second signature shows; takes at most 5,000 bytes."""

    def __init__(self) -> None:
        self.count = 0

    def sign(self, payload: Mapping[str, object] | bytes) -> str:
        """Return something that shows what was signed."""
        text = json.dumps(payload) if isinstance(payload, Mapping) else payload.decode()
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
        await source.wait(TOKYO, 0, 25)


async def test_a_wait_ends_with_the_wake_that_follows_a_commit() -> None:
    outbox, _, wakeups, source = world()
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        group.create_task(source.wait(TOKYO, 0, 25))
        while not wakeups._waiting:
            await asyncio.sleep(0)
        wakeups.wake(["somebody else"])
        outbox.add(TOKYO)
        wakeups.wake([TOKYO])


async def test_a_wake_without_an_event_does_not_end_the_wait() -> None:
    outbox, _, wakeups, source = world()
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        waiting = group.create_task(source.wait(TOKYO, 0, 25))
        while outbox.reads < 1:
            await asyncio.sleep(0)
        wakeups.wake([TOKYO])
        while outbox.reads < 2:
            await asyncio.sleep(0)
        assert not waiting.done()
        outbox.add(TOKYO)
        wakeups.wake([TOKYO])


async def test_a_missed_wake_is_made_good_by_the_poll() -> None:
    outbox, signer, wakeups, _ = world()
    source = SignedEvents(outbox, signer, wakeups, poll_seconds=0.01)
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        group.create_task(source.wait(TOKYO, 0, 25))
        while outbox.reads < 1:
            await asyncio.sleep(0)
        outbox.add(TOKYO)


async def test_a_wait_is_bounded_and_the_end_of_the_hub_ends_it() -> None:
    _, _, wakeups, source = world()
    async with asyncio.timeout(5):
        await source.wait(TOKYO, 0, 0.01)
        async with asyncio.TaskGroup() as group:
            group.create_task(source.wait(TOKYO, 0, 25))
            while not wakeups._waiting:
                await asyncio.sleep(0)
            wakeups.close()
        await source.wait(TOKYO, 0, 25)
    assert not wakeups._waiting


async def test_signatures_are_dropped_when_there_are_too_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("service_hub.channel.event_source.SIGNATURES_MAX", 2)
    outbox, signer, _, source = world()
    for _ in range(3):
        outbox.add(TOKYO)
    await source.signed_after(TOKYO, 0, 10)
    await source.signed_after(TOKYO, 2, 10)
    assert signer.count == 3
    await source.signed_after(TOKYO, 0, 1)
    assert signer.count == 4
