from datetime import UTC, datetime, time, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmm_simulator.hyperv.statistics import (
    Monitoring,
    Statistics,
    interval_begin,
    reset,
    rolled,
    with_crash_consistent_fallback,
    with_failure,
    with_missed,
    with_success,
)

NINE = datetime(2026, 3, 4, 9, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    ("now", "begin"),
    [
        (NINE, NINE),
        (NINE + 11 * HOUR, NINE),
        (NINE + 12 * HOUR, NINE + 12 * HOUR),
        (NINE - timedelta(microseconds=1), NINE - 12 * HOUR),
    ],
)
def test_intervals_begin_at_nine_and_every_twelve_hours(now: datetime, begin: datetime) -> None:
    assert interval_begin(Monitoring(), now) == begin


@given(
    st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1)),  # noqa: DTZ001 -- the zone follows
    st.integers(3_600, 604_800),
    st.times(),
)
def test_a_moment_lies_in_its_interval(now: datetime, seconds: int, begins: time) -> None:
    moment = now.replace(tzinfo=UTC)
    begin = interval_begin(Monitoring(interval_seconds=seconds, begins=begins), moment)
    assert begin <= moment < begin + timedelta(seconds=seconds)


def test_counters_begin_anew_with_the_interval_and_keep_the_last_test() -> None:
    first = rolled(Statistics(last_test_failover_at=NINE), Monitoring(), NINE + HOUR)
    assert first.begins_at == NINE + HOUR
    counted = with_missed(with_success(first, 100, 2.0), 3)
    assert rolled(counted, Monitoring(), NINE + 11 * HOUR) is counted
    anew = rolled(counted, Monitoring(), NINE + 13 * HOUR)
    assert anew == Statistics(begins_at=NINE + 12 * HOUR, last_test_failover_at=NINE)


def test_figures() -> None:
    figures = Statistics()
    assert (figures.missed_share, figures.average_size_bytes) == (0.0, 0)
    assert figures.average_latency_seconds == 0.0
    figures = with_success(with_success(figures, 100, 1.0), 301, 4.0)
    figures = with_missed(figures, 2)
    figures = with_failure(with_failure(figures, network=True), network=False)
    figures = with_crash_consistent_fallback(figures)
    assert (figures.cycle_count, figures.missed_share) == (4, 0.5)
    assert (figures.size_bytes, figures.size_bytes_max) == (401, 301)
    assert (figures.average_size_bytes, figures.average_latency_seconds) == (200, 2.5)
    assert figures.latency_seconds_max == 4.0
    assert (figures.network_failure_count, figures.failure_count) == (1, 1)
    assert figures.application_consistent_failure_count == 1
    assert reset(figures, NINE) == Statistics(begins_at=NINE)
