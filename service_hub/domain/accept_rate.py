"""How many providers may come in each second, and when the others are to come again; pure.

A thousand providers that lost their hub at one moment come back at one moment. Each costs a
handshake, a verified token and what it missed (design: channel, reconnect): the hub takes as many
as leave it room for its work, and gives each of the others a second of its own.
"""

import math
from typing import Final

RETRY_SECONDS_MAX: Final = 300
"""The longest wait that providers honour (design: channel, reconnect)."""


class AcceptRate:
    """A bucket of `burst` places that fills with `per_second`; time is an argument.

    Who finds it empty is told a moment at which there will be room also for all who were told so
    before. That is advice and no reservation: who comes first comes in.
    """

    def __init__(self, per_second: float, burst: int) -> None:
        if per_second <= 0 or burst < max(per_second, 1):
            # Waits are told in whole seconds: all who were told the same one come at once.
            raise ValueError("per_second must be above 0, burst must be at least per_second and 1")
        self._per_second = per_second
        self._burst = burst
        self._free = float(burst)
        self._turned_away = 0.0
        self._at: float | None = None

    def ask(self, now: float) -> int | None:
        """Take a place and return None, or return in how many seconds to come again."""
        self._pass_time(now)
        if self._free >= 1:
            self._free -= 1
            return None
        self._turned_away += 1
        wait = math.ceil(self._turned_away / self._per_second)
        return min(max(wait, 1), RETRY_SECONDS_MAX)

    def give_back(self) -> None:
        """Return a place that was not used: who is refused must not keep others out."""
        self._free = min(self._free + 1, float(self._burst))

    def _pass_time(self, now: float) -> None:
        elapsed = 0.0 if self._at is None else max(now - self._at, 0.0)
        self._at = now
        room = elapsed * self._per_second
        self._free = min(self._free + room, float(self._burst))
        self._turned_away = max(self._turned_away - room, 0.0)
