"""A pump with a clock in hand, an outbox in memory and a delivery that keeps what it is given."""

from collections.abc import Callable, Mapping

from service_hub.channel.delivery import Publication
from service_hub.channel.event_source import SignedEvents
from service_hub.channel.outbox_pump import OutboxPump
from service_hub.channel.wakeups import Wakeups
from tests.support.channel_world import OSAKA, TOKYO
from tests.support.memory_outbox import MemoryOutbox
from wire_contract.events import EventEnvelope


class PlainSigner:
    """The number and the filling are enough to see what was sent; can be made to fail."""

    fails = False

    def sign(self, payload: bytes) -> str:
        """Return something that shows what was signed."""
        if self.fails:
            raise OSError("no signer")
        said = EventEnvelope.model_validate_json(payload)
        return f"{said.stream}/{said.seq}{said.body.get('filling', '')}"


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
        self.wakeups = Wakeups()
        self.signer = PlainSigner()
        self.may_send = True
        self.pump = OutboxPump(
            reader=self.outbox,
            source=SignedEvents(self.outbox, self.signer, self.wakeups),
            delivery=self.delivery,
            wakeups=self.wakeups,
            monotonic=lambda: self.now,
            may_send=lambda: self.may_send,
        )
        for provider_id in (TOKYO, OSAKA):
            self.outbox.follow(provider_id)

    def crowd(self, count: int, *, events: int = 1) -> list[str]:
        """Connect so many providers, each with events that wait."""
        names = [f"site-{number:04}" for number in range(count)]
        for name in names:
            self.outbox.follow(name)
            self.delivery.numbers[name] = 1
            for _ in range(events):
                self.outbox.add(name)
        return names

    async def look(self, provider_id: str = TOKYO) -> list[tuple[str, str]]:
        """Let the pump look at one provider; return what it sent."""
        await self.pump._look_at([provider_id])
        return self.delivery.taken()
