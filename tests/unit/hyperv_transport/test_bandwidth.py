"""The limit of a host by time of day, and how its transfers share it."""

from datetime import UTC, datetime, time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmm_simulator.hyperv.bandwidth import (
    BURST_SECONDS,
    PIECE_BYTES_MAX,
    PIECE_BYTES_MIN,
    BandwidthWindow,
    Bucket,
    limit_at,
    piece_bytes,
    take,
)

OFFICE = BandwidthWindow(begins=time(8), ends=time(18), bytes_per_second=100_000)
NIGHT = BandwidthWindow(begins=time(22), ends=time(6), bytes_per_second=900_000)
ALWAYS = BandwidthWindow(bytes_per_second=500_000)


def at(hour: int, minute: int = 0) -> datetime:
    return datetime(2026, 1, 1, hour, minute, tzinfo=UTC)


@pytest.mark.parametrize(
    ("moment", "limit"),
    [
        (at(7, 59), None),
        (at(8), 100_000),
        (at(17, 59), 100_000),
        (at(18), None),
        (at(22), 900_000),
        (at(0), 900_000),
        (at(5, 59), 900_000),
        (at(6), None),
    ],
)
def test_a_window_begins_with_its_first_moment_and_may_cross_midnight(
    moment: datetime, limit: int | None
) -> None:
    assert limit_at((OFFICE, NIGHT), moment) == limit


def test_the_lowest_limit_in_force_counts() -> None:
    assert limit_at((OFFICE, ALWAYS), at(12)) == 100_000
    assert limit_at((OFFICE, ALWAYS), at(20)) == 500_000
    assert limit_at((), at(12)) is None


def test_without_a_limit_nobody_waits_and_nothing_is_owed() -> None:
    bucket, wait = take(Bucket(-1e9, 0.0), None, 10**9, 5.0)
    assert (bucket, wait) == (Bucket(0.0, 5.0), 0.0)


@given(
    limit=st.integers(1_024, 10**9),
    asked=st.lists(
        st.tuples(st.integers(1, PIECE_BYTES_MAX), st.floats(0, 30)), min_size=1, max_size=50
    ),
)
def test_no_more_is_sent_than_the_limit_allows(limit: int, asked: list[tuple[int, float]]) -> None:
    bucket, now, sent = Bucket(), 0.0, 0
    for count, silence in asked:
        now += silence
        bucket, wait = take(bucket, limit, count, now)
        assert wait >= 0
        sent += count
        now += wait
        # What was sent up to now was earned since the beginning, but for the burst.
        assert sent <= limit * (now + BURST_SECONDS) * (1 + 1e-9) + 1


def test_whoever_comes_second_waits_behind_the_first() -> None:
    first = take(Bucket(), 10_000, 10_000, 0.0)
    second = take(first.bucket, 10_000, 10_000, 0.0)
    assert first.wait_seconds == pytest.approx(1.0)
    assert second.wait_seconds == pytest.approx(2.0)


def test_pieces_take_about_a_quarter_of_a_second() -> None:
    assert piece_bytes(None) == PIECE_BYTES_MAX
    assert piece_bytes(100_000) == 25_000
    assert piece_bytes(1_024) == PIECE_BYTES_MIN
    assert piece_bytes(10**9) == PIECE_BYTES_MAX
