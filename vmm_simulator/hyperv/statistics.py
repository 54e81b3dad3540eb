"""What Msvm_ReplicationStatistics counts in one monitoring interval; pure (behaviour 1.9).

At the end of a monitoring interval the counters begin anew. `rolled` is the rule; whoever counts
applies it first, and tells the former figures (event 29174).
"""

from datetime import UTC, datetime, time, timedelta
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

INTERVAL_EVENT: Final = 29174
"""Number of the event that tells the figures of a monitoring interval that has ended."""

MONITORING_SECONDS_MIN: Final = 3_600
MONITORING_SECONDS_MAX: Final = 604_800
MONITORING_SECONDS: Final = 43_200

_BEGIN: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Monitoring(BaseModel):
    """How a host measures and judges: interval and start of day (UTC), limits of its health.

    `late_seconds` is when code 67512 is raised, `test_due_seconds` when 161011 is: that one was
    recorded some hours after a protection began.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    interval_seconds: int = Field(
        default=MONITORING_SECONDS, ge=MONITORING_SECONDS_MIN, le=MONITORING_SECONDS_MAX
    )
    begins: time = time(9, 0)
    missed_share_max: float = Field(default=0.2, ge=0, le=1)
    age_seconds_max: int = Field(default=3_600, ge=1, le=604_800)
    latency_seconds_max: float = Field(default=300, gt=0, le=86_400)
    late_seconds: int = Field(default=600, ge=1, le=604_800)
    test_due_seconds: int = Field(default=14_400, ge=0, le=31_536_000)


class Statistics(BaseModel):
    """Counters of one end since `begins_at` (null: nothing was counted yet).

    Sizes are bytes of change sets that were sent and acknowledged (on a replica: received);
    latency is from the start of sending to the acknowledgement. A last test failover is no counter
    and outlives the interval.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    begins_at: datetime | None = None
    success_count: int = 0
    size_bytes: int = 0
    size_bytes_max: int = 0
    latency_seconds: float = 0.0
    latency_seconds_max: float = 0.0
    miss_count: int = 0
    network_failure_count: int = 0
    failure_count: int = 0
    application_consistent_failure_count: int = 0
    last_test_failover_at: datetime | None = None

    @property
    def cycle_count(self) -> int:
        """Cycles that were due: those that succeeded and those that were missed."""
        return self.success_count + self.miss_count

    @property
    def missed_share(self) -> float:
        """Part of the cycles that was missed, 0 to 1."""
        return self.miss_count / self.cycle_count if self.cycle_count else 0.0

    @property
    def average_latency_seconds(self) -> float:
        """Mean latency; 0 before the first success."""
        return self.latency_seconds / self.success_count if self.success_count else 0.0

    @property
    def average_size_bytes(self) -> int:
        """Mean size of a change set; 0 before the first success."""
        return self.size_bytes // self.success_count if self.success_count else 0


def interval_begin(monitoring: Monitoring, now: datetime) -> datetime:
    """Return when the monitoring interval of this moment began: whole intervals from `begins`."""
    start = monitoring.begins
    anchor = _BEGIN + timedelta(hours=start.hour, minutes=start.minute, seconds=start.second)
    span = timedelta(seconds=monitoring.interval_seconds)
    return anchor + (now - anchor) // span * span


def rolled(statistics: Statistics, monitoring: Monitoring, now: datetime) -> Statistics:
    """Return the counters to count on: the same, or new ones when their interval is over."""
    if statistics.begins_at is None:
        return statistics.model_copy(update={"begins_at": now})
    begin = interval_begin(monitoring, now)
    if statistics.begins_at >= begin:
        return statistics
    return reset(statistics, begin)


def reset(statistics: Statistics, now: datetime) -> Statistics:
    """Return counters that begin now (Reset-VMReplicationStatistics)."""
    return Statistics(begins_at=now, last_test_failover_at=statistics.last_test_failover_at)


def with_success(statistics: Statistics, size_bytes: int, latency_seconds: float) -> Statistics:
    """Count one change set that was sent, or received."""
    return statistics.model_copy(
        update={
            "success_count": statistics.success_count + 1,
            "size_bytes": statistics.size_bytes + size_bytes,
            "size_bytes_max": max(statistics.size_bytes_max, size_bytes),
            "latency_seconds": statistics.latency_seconds + latency_seconds,
            "latency_seconds_max": max(statistics.latency_seconds_max, latency_seconds),
        }
    )


def with_missed(statistics: Statistics, count: int) -> Statistics:
    """Count cycles that were due while a transfer was still under way."""
    return statistics.model_copy(update={"miss_count": statistics.miss_count + count})


def with_failure(statistics: Statistics, *, network: bool) -> Statistics:
    """Count a cycle that failed, for the network or for another cause."""
    field = "network_failure_count" if network else "failure_count"
    return statistics.model_copy(update={field: getattr(statistics, field) + 1})


def with_crash_consistent_fallback(statistics: Statistics) -> Statistics:
    """Count an application-consistent point that was due and became a crash-consistent one."""
    count = statistics.application_consistent_failure_count + 1
    return statistics.model_copy(update={"application_consistent_failure_count": count})
