"""How many come in each second, and what the others are told."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service_hub.config import AcceptSettings
from service_hub.domain.accept_rate import RETRY_SECONDS_MAX, AcceptRate


def test_a_burst_comes_in_and_the_others_get_a_second_each() -> None:
    rate = AcceptRate(per_second=2, burst=3)
    assert [rate.ask(100.0) for _ in range(9)] == [None, None, None, 1, 1, 2, 2, 3, 3]


def test_places_come_back_with_time_and_never_more_than_the_burst() -> None:
    rate = AcceptRate(per_second=2, burst=3)
    for _ in range(3):
        assert rate.ask(0.0) is None
    assert rate.ask(0.4) == 1
    assert rate.ask(0.5) is None
    assert rate.ask(0.5) == 1
    assert [rate.ask(1e6) for _ in range(4)] == [None, None, None, 1]


def test_a_place_that_was_not_used_is_anothers() -> None:
    rate = AcceptRate(per_second=0.001, burst=1)
    assert rate.ask(0.0) is None
    rate.give_back()
    assert rate.ask(0.0) is None
    assert rate.ask(0.0) == RETRY_SECONDS_MAX, "never longer than providers would wait"


def test_a_clock_that_stands_or_goes_back_gives_nothing_away() -> None:
    rate = AcceptRate(per_second=1, burst=1)
    assert rate.ask(10.0) is None
    assert rate.ask(5.0) is not None


@pytest.mark.parametrize(("per_second", "burst"), [(0, 1), (-1, 1), (0.5, 0), (2, 1)])
def test_a_rate_that_cannot_work_is_refused(per_second: float, burst: int) -> None:
    with pytest.raises(ValueError, match="burst must be at least"):
        AcceptRate(per_second, burst)


@given(
    st.integers(1, 400),
    st.floats(1, 100),
    st.integers(0, 50),
    st.floats(0, 0.999),
)
def test_a_herd_comes_in_as_told_and_no_faster(
    herd: int, per_second: float, more: int, lateness: float
) -> None:
    burst = math.ceil(per_second) + more
    rate = AcceptRate(per_second, burst)
    due = [(0.0, number) for number in range(herd)]
    came: list[float] = []
    asked = 0
    while due:
        due.sort()
        now, number = due.pop(0)
        asked += 1
        seconds = rate.ask(now)
        if seconds is None:
            came.append(now)
        else:
            # Late by a part of a second of its own, as chance makes providers.
            due.append((now + seconds + (number * lateness) % 1, number))
    for index, moment in enumerate(came):
        assert index < burst + moment * per_second + 1e-6, "never faster than the rate"
    assert asked <= 6 * herd, "who comes when told is not sent away without end"
    assert came[-1] <= 4 * math.ceil(herd / per_second) + 8


def test_the_defaults_are_a_rate() -> None:
    assert AcceptSettings().rate().ask(0.0) is None
