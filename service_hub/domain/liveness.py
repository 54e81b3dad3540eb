"""When what is known of a site is too old to be relied on; pure.

Whoever observes promises to do so again within an interval: a provider sends its whole inventory
periodically, also when nothing changed. One observation may be missed, two in a row may not.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

MISSED_MAX: Final = 2
"""So many promised observations may be outstanding before a fact counts as stale."""


OBSERVATION_INTERVAL: Final = timedelta(seconds=300)
"""Default of how often a provider sends its inventory (configuration: inventory_seconds)."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """Who saw a fact and when; `boot_id` tells which run of the provider said so.

    It is empty for what was noted before boots were.
    """

    observed_at: datetime
    provider_id: str
    boot_id: str


@dataclass(frozen=True, slots=True)
class Freshness:
    """Until when a fact counts as fresh, and whether it does at the moment of the question."""

    stale_at: datetime
    stale: bool
    age_seconds: float


def freshness(observed_at: datetime, interval: timedelta, now: datetime) -> Freshness:
    """Return whether a fact is older than what its interval promises.

    One that seems to come from the future (the clocks differ) is as fresh as can be.
    """
    stale_at = observed_at + interval * MISSED_MAX
    age = max((now - observed_at).total_seconds(), 0.0)
    return Freshness(stale_at=stale_at, stale=now >= stale_at, age_seconds=age)
