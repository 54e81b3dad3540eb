"""What commits have told of outboxes, made ready for sending; pure.

Only what surely is the end of a stream can be sent unread: its number follows without a gap on all
that was told and sent before. All else is read from the database, which is the queue.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from service_hub.domain.records import ProviderStream
from service_hub.ports.changes import NumberedEvent, Stored


@dataclass(slots=True)
class HandedOver:
    """A provider's stream as the last commit left it, and what is new and unacknowledged in it."""

    stream: ProviderStream
    events: list[NumberedEvent] = field(default_factory=list)

    @property
    def first(self) -> int:
        """The number from which on everything is here."""
        return self.stream.next_seq - len(self.events)

    def is_whole(self) -> bool:
        """Whether the events are the end of the stream, without a gap."""
        numbers = range(self.first, self.stream.next_seq)
        return all(each.seq == seq for each, seq in zip(self.events, numbers, strict=True))


def handed_over(stored: Iterable[Stored]) -> Mapping[str, HandedOver]:
    """Return by provider what the commits, given in order, have left to send."""
    found: dict[str, HandedOver] = {}
    for each in stored:
        for stream in each.streams:
            before = found.get(stream.id)
            found[stream.id] = HandedOver(stream, [] if before is None else before.events)
        for event in each.events:
            known = found.get(event.event.provider_id)
            if known is not None:
                known.events.append(event)
    for known in found.values():
        stream = known.stream
        known.events = [
            each
            for each in known.events
            if each.stream == stream.stream and each.seq > stream.acknowledged_seq
        ]
    return found
