"""The one source of time, ids and chance; everything else takes them as arguments."""

import secrets
import time
from datetime import UTC, datetime
from typing import Final, Protocol

NONCE_BYTES: Final = 16
ID_BYTES: Final = 16
IDS_DRAWN: Final = 64
"""Ids whose chance is drawn together: each visit to the kernel gives other threads their turn."""

_VARIANTS: Final = "89ab"
"""The first digit of a UUID's clock sequence: its upper two bits are 10 (RFC 9562, 4.1)."""

_RANDOM: Final = secrets.SystemRandom()


class Clock(Protocol):
    """Time, ids and chance as a shell may ask for them; a test passes its own."""

    def now(self) -> datetime:
        """Return the present moment, aware and in UTC."""
        ...

    def new_id(self) -> str:
        """Return an id that nobody has had: a UUID of version 4, lower case, with hyphens."""
        ...

    def new_nonce(self) -> str:
        """Return 32 hexadecimal digits that nobody can guess."""
        ...

    def jitter(self, low: float, high: float) -> float:
        """Return a number between `low` and `high`, evenly spread."""
        ...


class SystemClock:
    """The clock of the machine and the chance of its kernel."""

    def __init__(self) -> None:
        self._drawn: list[bytes] = []

    def now(self) -> datetime:
        """Return the present moment, aware and in UTC."""
        return datetime.now(UTC)

    def new_id(self) -> str:
        """Return a UUID of version 4."""
        try:
            chance = self._drawn.pop()
        except IndexError:
            drawn = secrets.token_bytes(ID_BYTES * IDS_DRAWN)
            chance, *self._drawn = (
                drawn[at : at + ID_BYTES] for at in range(0, len(drawn), ID_BYTES)
            )
        digits = chance.hex()
        variant = _VARIANTS[chance[8] & 3]
        # As str(uuid.UUID(bytes=chance, version=4)) writes it, in a third of its time.
        return (
            f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"
        )

    def new_nonce(self) -> str:
        """Return 32 hexadecimal digits that nobody can guess."""
        return secrets.token_hex(NONCE_BYTES)

    def jitter(self, low: float, high: float) -> float:
        """Return a number between `low` and `high`, evenly spread."""
        return _RANDOM.uniform(low, high)


def boottime() -> float:
    """Return the seconds since the machine started, those that it was suspended included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
