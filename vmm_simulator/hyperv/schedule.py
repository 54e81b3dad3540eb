"""When something of a relationship is due; pure. Hosts keep UTC.

Sources: behaviour 1.2 and 1.6 (starts at most 7 days ahead), 1.4 (intervals, window), 1.5 (log
size), 1.7 (points), 1.9.2 (retries).
"""

from dataclasses import dataclass
from datetime import datetime, time, timedelta
from typing import Final

from pydantic import BaseModel, ConfigDict

from vmm_simulator.hyperv.backend import Consistency, PointKind
from vmm_simulator.problems import bad_arguments

INTERVALS_SECONDS: Final = (30, 300, 900)
INTERVAL_SECONDS_2012: Final = 300
"""Windows Server 2012 knows no other."""

RECOVERY_POINTS_MAX: Final = {"2012": 15, "2012R2": 24}
"""Additional hourly points by version of the host."""

START_AHEAD_MAX: Final = timedelta(days=7)
POINT_EVERY: Final = timedelta(hours=1)
LOG_SHARE_MAX: Final = 0.5

OTHER_FAILURES_MAX: Final = 5
"""Tries after which an error that is not the network's ends in state 8."""

PAUSE_SECONDS_MIN: Final = 0.5
PAUSE_SECONDS_MAX: Final = 60.0

_DAY: Final = timedelta(days=1)


class Window(BaseModel):
    """When a host may resynchronize by itself; it may cross midnight.

    The field's own default is never (18:30 to 06:00 once switched on); ours is always, since
    nobody sits at a simulated host.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    automatic: bool = True
    begins: time = time(0, 0)
    ends: time = time(23, 59, 59)

    def contains(self, moment: datetime) -> bool:
        """Return whether the moment lies in the window, its ends included."""
        now = moment.time().replace(microsecond=0)
        if self.begins <= self.ends:
            return self.begins <= now <= self.ends
        return now >= self.begins or now <= self.ends

    def due(self, now: datetime) -> datetime | None:
        """Return when a resynchronization that became necessary now begins; null: by hand."""
        if not self.automatic:
            return None
        if self.contains(now):
            return now
        start = now.replace(
            hour=self.begins.hour,
            minute=self.begins.minute,
            second=self.begins.second,
            microsecond=0,
        )
        return start if start > now else start + _DAY


def start_at(asked: datetime | None, now: datetime) -> datetime | None:
    """Return when to start: null is now, as is a moment that has passed; at most 7 days ahead."""
    if asked is None:
        return None
    if asked.tzinfo is None:
        raise bad_arguments("start_at: give the time zone")
    if asked - now > START_AHEAD_MAX:
        raise bad_arguments("start_at: at most 7 days ahead")
    return asked if asked > now else None


def check_policy(version: str, interval_seconds: int, recovery_points: int) -> None:
    """Refuse an interval or a number of points that a host of this version does not know."""
    intervals = (INTERVAL_SECONDS_2012,) if version == "2012" else INTERVALS_SECONDS
    if interval_seconds not in intervals:
        allowed = ", ".join(map(str, intervals))
        raise bad_arguments(
            f"interval_seconds: a host of version {version} replicates every {allowed} seconds"
        )
    check_points(version, recovery_points)


def check_points(version: str, recovery_points: int) -> None:
    """Refuse a number of points that a host of this version does not know."""
    most = RECOVERY_POINTS_MAX.get(version, RECOVERY_POINTS_MAX["2012R2"])
    if recovery_points > most:
        raise bad_arguments(
            f"recovery_points: a host of version {version} keeps at most {most} additional points"
        )


def points_kept(version: str, asked: int, at_machine: int | None) -> int:
    """Return how many additional points a relationship keeps (seed, step 4.7).

    What is set at the machine counts where it is more than what its cloud asks for; a host keeps
    at most what its version knows.
    """
    most = RECOVERY_POINTS_MAX.get(version, RECOVERY_POINTS_MAX["2012R2"])
    return min(max(asked, at_machine or 0), most)


def log_is_too_large(log_bytes: int, disk_bytes: int) -> bool:
    """Return whether a resynchronization is required because so much has changed."""
    return log_bytes > LOG_SHARE_MAX * disk_bytes


def application_consistent_due(
    hours: int, recovery_points: int, last_at: datetime | None, now: datetime
) -> bool:
    """Return whether the next cut is to be an application-consistent one.

    Without additional points there is none to keep: the setting counts as switched off.
    """
    if not hours or not recovery_points:
        return False
    return last_at is None or now - last_at >= hours * POINT_EVERY


@dataclass(frozen=True, slots=True)
class KeptPoints:
    """What a replica keeps: how many additional points it may, and when the newest was taken."""

    recovery_points: int
    newest_at: datetime | None


def point_due(kept: KeptPoints, taken_at: datetime, consistency: Consistency) -> PointKind | None:
    """Return as which kind of point the state that has just arrived is kept, or null.

    An application-consistent state is always kept: it was made for that.
    """
    if not kept.recovery_points:
        return None
    if consistency is Consistency.APPLICATION:
        return PointKind.APPLICATION_CONSISTENT
    if kept.newest_at is None or taken_at - kept.newest_at >= POINT_EVERY:
        return PointKind.STANDARD
    return None


def pause_seconds(interval_seconds: float, failures_in_a_row: int) -> float:
    """Return the longest pause before the next try: it doubles, up to the interval or a minute."""
    longest = max(PAUSE_SECONDS_MIN, min(interval_seconds, PAUSE_SECONDS_MAX))
    return min(longest, PAUSE_SECONDS_MIN * 2.0 ** min(failures_in_a_row, 16))
