"""How fast a host may send, by time of day; pure. Hosts keep UTC, as in schedule.

The limit is one of the whole host: what its transfers send together. A token bucket in debt: who
takes more than there is waits until it is paid back, and whoever comes next waits behind him, so
that transfers share the line evenly.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, time
from typing import Final, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

WINDOWS_MAX: Final = 32
BYTES_PER_SECOND_MIN: Final = 8_192
"""So that each of as many transfers as a host takes has its turn before it counts as silent."""

BURST_SECONDS: Final = 0.25
"""What may be sent at once after a silence, in seconds of the limit."""

PIECE_BYTES_MIN: Final = 4_096
PIECE_BYTES_MAX: Final = 262_144


class BandwidthWindow(BaseModel):
    """A limit from `begins` (included) to `ends` (not included); equal times: the whole day.

    It may cross midnight.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    begins: time = time(0, 0)
    ends: time = time(0, 0)
    bytes_per_second: int = Field(ge=BYTES_PER_SECOND_MIN, le=2**40)

    def contains(self, moment: datetime) -> bool:
        """Return whether the limit is in force at the moment."""
        now = moment.time()
        if self.begins == self.ends:
            return True
        if self.begins < self.ends:
            return self.begins <= now < self.ends
        return now >= self.begins or now < self.ends


def limit_at(windows: Sequence[BandwidthWindow], now: datetime) -> int | None:
    """Return the lowest limit in force, in bytes per second; None: as fast as it goes."""
    limits = [window.bytes_per_second for window in windows if window.contains(now)]
    return min(limits, default=None)


def piece_bytes(limit: int | None) -> int:
    """Return how much to send at a time: what takes about a quarter of a second."""
    if limit is None:
        return PIECE_BYTES_MAX
    return max(PIECE_BYTES_MIN, min(PIECE_BYTES_MAX, int(limit * BURST_SECONDS)))


@dataclass(frozen=True, slots=True)
class Bucket:
    """What may still be sent (below zero: owed) as of a moment of a steady clock, in seconds."""

    tokens: float = 0.0
    updated_at: float = 0.0


class Taken(NamedTuple):
    """The bucket afterwards, and how long to wait before sending."""

    bucket: Bucket
    wait_seconds: float


def take(bucket: Bucket, limit: int | None, count: int, now: float) -> Taken:
    """Take bytes out of the bucket; without a limit nothing is owed and nobody waits."""
    if limit is None:
        return Taken(Bucket(0.0, now), 0.0)
    earned = max(0.0, now - bucket.updated_at) * limit
    tokens = min(bucket.tokens + earned, limit * BURST_SECONDS) - count
    return Taken(Bucket(tokens, now), max(0.0, -tokens / limit))
