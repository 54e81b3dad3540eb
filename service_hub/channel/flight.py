"""Which events are sent now, and which again; pure (design: channel, event stream, pressure)."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from wire_contract.topics import EVENT_BYTES_MAX

IN_FLIGHT_MAX: Final = 20
"""Events that one provider may have received without having acknowledged them."""

REPEAT_SECONDS: Final = (2.0, 5.0, 15.0)
"""After these waits an unacknowledged event is published again; then only hints follow, each after
the last of them."""

BUSY_SECONDS: Final = 0.5
"""How long a connection that took nothing more is left alone."""


@dataclass(frozen=True, slots=True)
class Publish:
    """Send this event now."""

    seq: int


@dataclass(frozen=True, slots=True)
class Hint:
    """Tell the provider to pull: this event, or (None) all that is beyond the window."""

    seq: int | None


Step = Publish | Hint


@dataclass(frozen=True, slots=True)
class _Flight:
    sent_at: float
    sent_count: int
    is_hint: bool

    @property
    def due_at(self) -> float:
        return self.sent_at + REPEAT_SECONDS[min(self.sent_count, len(REPEAT_SECONDS)) - 1]

    @property
    def is_exhausted(self) -> bool:
        return self.sent_count > len(REPEAT_SECONDS)


class FlightLog:
    """What one connection was sent and has not acknowledged; a new connection has a new log."""

    def __init__(self) -> None:
        self._stream = ""
        self._acknowledged = 0
        self._flights: dict[int | None, _Flight] = {}
        self._held_until: float | None = None

    def acknowledge(self, stream: str, seq: int) -> None:
        """Forget what is acknowledged; a new stream begins with nothing in flight."""
        if stream != self._stream:
            self._stream = stream
            self._flights.clear()
        self._acknowledged = seq
        self._keep({each for each in self._flights if each is None or each > seq})

    def goes_on(self, stream: str, acknowledged: int, first: int, following: int) -> bool:
        """Whether what has the numbers from `first` on, below `following`, can be sent unread.

        It can when everything unacknowledged below is in flight, nothing of it stands in the way,
        there is room in the window, and no later state of the stream is known. Then what is
        acknowledged is forgotten.
        """
        if self._stream not in {stream, ""} or following - 1 - acknowledged > IN_FLIGHT_MAX:
            return False
        if acknowledged < self._acknowledged or any(
            seq is not None and seq >= following for seq in self._flights
        ):
            return False
        for seq in range(acknowledged + 1, following):
            flight = self._flights.get(seq)
            if (flight is None) is (seq < first):
                return False
            if flight is not None and (flight.is_hint or flight.is_exhausted):
                return False
        self._stream = stream
        self._acknowledged = acknowledged
        self._keep(set(range(acknowledged + 1, following)))
        return True

    def steps(self, waiting: Sequence[tuple[int, int]], now: float) -> list[Step]:
        """Return what to do for the unacknowledged events, given in order as (seq, bytes).

        At most IN_FLIGHT_MAX are sent, then one hint. An event that is too large for MQTT, or was
        sent often enough, is only hinted at, and none above it is sent: it would show as a gap.
        """
        self._held_until = None
        steps: list[Step] = []
        seen: set[int | None] = set()
        for seq, size in waiting[:IN_FLIGHT_MAX]:
            seen.add(seq)
            blocks = size > EVENT_BYTES_MAX or self._is_exhausted(seq)
            if self._is_due(seq, now):
                steps.append(Hint(seq) if blocks else Publish(seq))
            if blocks:
                break
        else:
            if len(waiting) > IN_FLIGHT_MAX:
                seen.add(None)
                if self._is_due(None, now):
                    steps.append(Hint(None))
        self._keep(seen)
        return steps

    def done(self, step: Step, now: float) -> None:
        """Note that the step was taken; one that was not is due again."""
        flight = self._flights.get(step.seq)
        count = 1 if flight is None else flight.sent_count + 1
        self._flights[step.seq] = _Flight(now, count, isinstance(step, Hint))

    def hold(self, now: float, seconds: float = BUSY_SECONDS) -> None:
        """Note that nothing more can be sent for the moment."""
        self._held_until = now + seconds

    def due_at(self) -> float | None:
        """Return when steps() has something new to say though nothing has happened."""
        if self._held_until is not None:
            return self._held_until
        return min((flight.due_at for flight in self._flights.values()), default=None)

    def _keep(self, seen: Collection[int | None]) -> None:
        self._flights = {seq: flight for seq, flight in self._flights.items() if seq in seen}

    def _is_due(self, seq: int | None, now: float) -> bool:
        flight = self._flights.get(seq)
        return flight is None or now >= flight.due_at

    def _is_exhausted(self, seq: int) -> bool:
        flight = self._flights.get(seq)
        return flight is not None and flight.is_exhausted
