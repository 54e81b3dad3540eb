"""The pump with a clock in hand: what is sent to whom, when, and what trouble does to others."""

from collections.abc import Callable, Mapping
from typing import TypeVar

from service_hub.channel.delivery import Publication
from service_hub.channel.event_source import SignedEvents
from service_hub.channel.outbox_pump import OutboxPump
from service_hub.channel.wakeups import Wakeups
from service_hub.domain.records import OutboxEvent, Record
from service_hub.ports import Versioned
from tests.support.channel_world import OSAKA, TOKYO, MemoryOutbox
from wire_contract.topics import EVENT_BYTES_MAX

R = TypeVar("R", bound=Record)


class PlainSigner:
    """The number and the filling are enough to see what was sent."""

    def sign(self, payload: Mapping[str, object] | bytes) -> str:
        """Return something that shows what was signed."""
        assert isinstance(payload, Mapping)
        body = payload["body"]
        assert isinstance(body, dict)
        return f"{payload['stream']}/{payload['seq']}{body.get('filling', '')}"


class RecordedDelivery:
    """A Delivery that says what it is told to say, and keeps what it was given."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}
        self.sent: list[tuple[str, str]] = []
        self.answer: Callable[[], Publication] = lambda: Publication.SENT

    def connections(self) -> Mapping[str, int]:
        """Return who is connected."""
        return dict(self.numbers)

    def connected(self, provider_id: str) -> int | None:
        """Return the number of a connection."""
        return self.numbers.get(provider_id)

    def publish(self, provider_id: str, payload: bytes) -> Publication:
        """Answer as told; keep what was sent."""
        answer = self.answer()
        if answer is Publication.SENT:
            self.sent.append((provider_id, payload.decode()[:10]))
        return answer

    def hint(self, provider_id: str) -> bool:
        """Keep that a hint was sent."""
        self.sent.append((provider_id, "hint"))
        return True

    def kick(self, provider_id: str) -> None:
        """Forget a connection."""
        self.numbers.pop(provider_id, None)

    def taken(self) -> list[tuple[str, str]]:
        """Return what was sent since the last call."""
        sent, self.sent = self.sent, []
        return sent


class Bench:
    """A pump whose time stands still until a test moves it."""

    def __init__(self, outbox: MemoryOutbox | None = None) -> None:
        self.outbox = outbox or MemoryOutbox()
        self.now = 0.0
        self.delivery = RecordedDelivery()
        wakeups = Wakeups()
        self.pump = OutboxPump(
            reader=self.outbox,
            source=SignedEvents(self.outbox, PlainSigner(), wakeups),
            delivery=self.delivery,
            wakeups=wakeups,
            monotonic=lambda: self.now,
        )
        for provider_id in (TOKYO, OSAKA):
            self.outbox.follow(provider_id)

    async def look(self, provider_id: str = TOKYO) -> list[tuple[str, str]]:
        """Let the pump look at one provider; return what it sent."""
        await self.pump._look_at(provider_id)
        return self.delivery.taken()


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
    assert 0 < bench.pump._pause(poll_at=100.0) <= 1.0
    bench.delivery.answer = lambda: Publication.SENT
    assert await bench.look() == [(TOKYO, "stream-1/2"), (TOKYO, "stream-1/3")]


async def test_who_has_gone_is_forgotten() -> None:
    bench = Bench()
    bench.outbox.add(TOKYO)
    bench.delivery.numbers[TOKYO] = 1
    await bench.look()
    bench.delivery.kick(TOKYO)
    await bench.pump._behind()
    assert bench.pump._pause(poll_at=100.0) == 100.0


class BrokenForTokyo(MemoryOutbox):
    """A database that fails for one provider, and for the poll when told to."""

    poll_fails = False

    async def find(self, kind: type[R], **columns: str) -> list[Versioned[R]]:
        """Return all streams."""
        if self.poll_fails:
            raise OSError("disk")
        return await super().find(kind, **columns)

    async def events_after(self, provider_id: str, seq: int, limit: int) -> list[OutboxEvent]:
        """Return stored events above a number."""
        if provider_id == TOKYO:
            raise OSError("disk")
        return await super().events_after(provider_id, seq, limit)


async def test_trouble_with_one_provider_does_not_end_the_delivery_to_others() -> None:
    outbox = BrokenForTokyo()
    bench = Bench(outbox)
    for provider_id in (TOKYO, OSAKA):
        outbox.add(provider_id)
        bench.delivery.numbers[provider_id] = 1
    assert await bench.look(TOKYO) == []
    assert await bench.look(OSAKA) == [(OSAKA, "stream-1/1")]
    outbox.poll_fails = True
    assert await bench.pump._behind() == set()
    outbox.poll_fails = False
    assert await bench.pump._behind() == {TOKYO, OSAKA}
