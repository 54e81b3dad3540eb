"""How jobs are spread over the hubs of one database: how many a hub gives back; pure.

A hub that comes back holds nothing, and what is under way is held by the others. Who holds many
more than the average gives the surplus back; whoever holds less claims it.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

SLACK_PART: Final = 0.25
"""By how much of its share a hub may be above it: moving a job costs two transactions."""

SLACK_JOBS_MIN: Final = 4
RELEASED_AT_ONCE: Final = 1_000
"""As many as go into one statement; the rest follows at a later turn."""


@dataclass(frozen=True, slots=True)
class Load:
    """How many jobs another hub said that it holds, and when that was heard."""

    held_count: int
    heard_at: float


def surplus(held_count: int, others: Iterable[Load], now: float, silent_seconds: float) -> int:
    """Return how many jobs a hub should give back, 0 while it holds about its share.

    Whoever was not heard for `silent_seconds` counts for nothing: it may be gone. Times are in
    seconds of one clock that does not jump.
    """
    alive = [each for each in others if now - each.heard_at <= silent_seconds]
    if not alive:
        return 0
    total = held_count + sum(each.held_count for each in alive)
    share = -(-total // (len(alive) + 1))
    above = held_count - share
    if above <= max(SLACK_JOBS_MIN, share * SLACK_PART):
        return 0
    return min(above, RELEASED_AT_ONCE)
