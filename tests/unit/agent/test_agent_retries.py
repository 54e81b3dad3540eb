from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provider_agent.domain.retries import (
    FABRIC,
    RECONNECT,
    RETRY_AFTER_SECONDS_MAX,
    seconds_asked,
    seconds_left,
    wait_seconds,
)

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def test_reconnecting_starts_at_one_second_and_never_waits_longer_than_thirty() -> None:
    assert [RECONNECT.bound_seconds(failures) for failures in range(8)] == [
        1.0,
        1.0,
        2.0,
        4.0,
        8.0,
        16.0,
        30.0,
        30.0,
    ]
    assert RECONNECT.bound_seconds(10**9) == 30.0


@given(st.integers(min_value=0, max_value=10**6))
def test_bounds_never_fall_and_never_pass_the_cap(failures: int) -> None:
    for backoff in (RECONNECT, FABRIC):
        bound = backoff.bound_seconds(failures)
        assert backoff.first_seconds <= bound <= backoff.cap_seconds
        assert backoff.bound_seconds(failures + 1) >= bound


def test_the_hub_may_ask_for_a_longer_wait_but_not_for_any_length() -> None:
    assert wait_seconds(2.0, None) == 2.0
    assert wait_seconds(2.0, 60.0) == 62.0
    assert wait_seconds(20.0, 1.0) == 21.0
    assert wait_seconds(2.0, 1e9) == 2.0 + RETRY_AFTER_SECONDS_MAX
    assert wait_seconds(2.0, -5.0) == 2.0


def test_nothing_is_left_after_a_deadline() -> None:
    assert seconds_left(NOW, NOW + timedelta(seconds=5)) == 5.0
    assert seconds_left(NOW, NOW) == 0.0
    assert seconds_left(NOW, NOW - timedelta(days=1)) == 0.0


@pytest.mark.parametrize(
    ("words", "seconds"),
    [
        ("3", 3.0),
        ("0", 0.0),
        ("9" * 40, 999_999_999.0),
        ("", None),
        ("-1", None),
        ("1.5", None),
        ("Wed, 21 Oct 2026 07:28:00 GMT", None),
        ("\u0663", None),
        (None, None),
    ],
)
def test_only_whole_seconds_are_a_wait(words: str | None, seconds: float | None) -> None:
    assert seconds_asked(words) == seconds
