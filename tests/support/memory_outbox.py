"""The events of providers in memory: what the pump and the pull read, and the hand that stores."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TypeVar, cast

from service_hub.domain.records import OutboxEvent, ProviderStream, Record
from service_hub.ports.changes import Versioned
from service_hub.ports.stores import StreamPage
from wire_contract.vocabulary import EventType

_VAULT_ID = "0f0f0f0f-0000-4000-8000-000000000001"

R = TypeVar("R", bound=Record)


class MemoryOutbox:
    """The Reader of events and streams, and the hand that stores and acknowledges them."""

    def __init__(self) -> None:
        self.streams: dict[str, ProviderStream] = {}
        self.events: dict[str, list[OutboxEvent]] = {}
        self.reads = 0
        self.asked: list[set[str]] = []

    def follow(self, provider_id: str, stream: str = "stream-1") -> None:
        """Begin a stream."""
        self.streams[provider_id] = ProviderStream(
            id=provider_id, vault_id=_VAULT_ID, stream=stream
        )
        self.events[provider_id] = []

    def add(self, provider_id: str, *, filling: str = "") -> OutboxEvent:
        """Store the next event."""
        stream = self.streams[provider_id]
        event = OutboxEvent(
            id=f"{stream.stream}/{stream.next_seq}",
            vault_id=_VAULT_ID,
            provider_id=provider_id,
            stream=stream.stream,
            seq=stream.next_seq,
            type=EventType.REFRESH,
            issued_at=datetime.now(UTC),
            expires_at=datetime.now(UTC) + timedelta(hours=1),
            body={"filling": filling},
        )
        self.events[provider_id].append(event)
        self.streams[provider_id] = stream.model_copy(update={"next_seq": stream.next_seq + 1})
        return event

    def acknowledge(self, provider_id: str, seq: int) -> None:
        """Drop what is acknowledged."""
        stream = self.streams[provider_id]
        self.streams[provider_id] = stream.model_copy(update={"acknowledged_seq": seq})
        self.events[provider_id] = [each for each in self.events[provider_id] if each.seq > seq]

    async def get(self, kind: type[R], record_id: str) -> Versioned[R] | None:
        """Return a stream."""
        assert kind is ProviderStream
        stream = self.streams.get(record_id)
        return None if stream is None else Versioned(cast("R", stream), 1)

    async def find(self, kind: type[R], **columns: str) -> list[Versioned[R]]:
        """Return all streams."""
        assert kind is ProviderStream
        assert not columns
        return [Versioned(cast("R", stream), 1) for stream in self.streams.values()]

    async def events_after(self, provider_id: str, seq: int, limit: int) -> list[OutboxEvent]:
        """Return stored events above a number."""
        return [each for each in self.events.get(provider_id, []) if each.seq > seq][:limit]

    async def pages(self, after: Mapping[str, int], limit: int) -> Mapping[str, StreamPage]:
        """Return streams and events above a number; count the read and say who it was about."""
        self.reads += 1
        self.asked.append(set(after))
        await asyncio.sleep(0)
        return {
            each: StreamPage(
                self.streams[each],
                [event for event in self.events[each] if event.seq > seq][:limit],
            )
            for each, seq in after.items()
            if each in self.streams
        }
