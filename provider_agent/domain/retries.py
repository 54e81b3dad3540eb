"""How long to wait before the next attempt (design: channel, reconnect)."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

FAILURES_COUNTED_MAX: Final = 32
"""Beyond this the bound has long reached its cap; doubling on would only overflow."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """Bounds that double with each failure, from `first_seconds` up to `cap_seconds`."""

    first_seconds: float
    cap_seconds: float

    def bound_seconds(self, failures: int) -> float:
        """Return the longest wait after that many failures; the caller takes a random part of it.

        Full jitter: a herd that lost its hub at one moment does not come back at one moment.
        """
        doublings = min(max(failures - 1, 0), FAILURES_COUNTED_MAX)
        return float(min(self.cap_seconds, self.first_seconds * 2**doublings))


RECONNECT: Final = Backoff(first_seconds=1.0, cap_seconds=30.0)
"""Towards the hub, over both transports."""

FABRIC: Final = Backoff(first_seconds=0.5, cap_seconds=5.0)
"""Towards the VMM server beside us: it is near, and a failover may be waiting."""

RETRY_AFTER_SECONDS_MAX: Final = 300.0
"""The longest wait that a hub can ask for, with Retry-After or in CONNACK."""


def wait_seconds(jittered: float, retry_after: float | None) -> float:
    """Return the wait: what chance gave, after what the hub asked for (bounded).

    Chance comes on top: those who were told the same second must not come at the same moment.
    """
    return jittered + min(max(retry_after or 0.0, 0.0), RETRY_AFTER_SECONDS_MAX)


def seconds_left(now: datetime, deadline: datetime) -> float:
    """Return the seconds until the deadline, 0 when it has passed."""
    return max(0.0, (deadline - now).total_seconds())


def seconds_asked(words: str | None) -> float | None:
    """Return the whole seconds that a hub asked for, None when the words are no such number."""
    if words is None or not words.isascii() or not words.isdigit():
        return None
    return float(words[:9])
