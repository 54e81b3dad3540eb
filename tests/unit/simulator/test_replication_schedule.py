from datetime import UTC, datetime, time, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmm_simulator.hyperv.backend import Consistency, PointKind
from vmm_simulator.hyperv.schedule import (
    INTERVALS_SECONDS,
    PAUSE_SECONDS_MAX,
    PAUSE_SECONDS_MIN,
    KeptPoints,
    Window,
    application_consistent_due,
    check_policy,
    log_is_too_large,
    pause_seconds,
    point_due,
    start_at,
)
from vmm_simulator.problems import Code, RefusedError

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
NIGHT = Window(begins=time(18, 30), ends=time(6, 0))
MORNING = Window(begins=time(8, 0), ends=time(11, 0))


@pytest.mark.parametrize(
    ("window", "now", "due"),
    [
        (Window(), NOON, NOON),
        (
            Window(),
            NOON.replace(hour=23, minute=59, second=59),
            NOON.replace(hour=23, minute=59, second=59),
        ),
        (Window(automatic=False), NOON, None),
        (NIGHT, NOON, NOON.replace(hour=18, minute=30)),
        (NIGHT, NOON.replace(hour=18, minute=30), NOON.replace(hour=18, minute=30)),
        (NIGHT, NOON.replace(hour=23), NOON.replace(hour=23)),
        (NIGHT, NOON.replace(hour=3), NOON.replace(hour=3)),
        (NIGHT, NOON.replace(hour=6, minute=1), NOON.replace(hour=18, minute=30)),
        (MORNING, NOON, NOON.replace(day=5, hour=8)),
        (MORNING, NOON.replace(hour=7), NOON.replace(hour=8)),
        (MORNING, NOON.replace(hour=9), NOON.replace(hour=9)),
    ],
)
def test_a_resynchronization_waits_for_its_window(
    window: Window, now: datetime, due: datetime | None
) -> None:
    assert window.due(now) == due


@given(st.times(), st.times(), st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1)))  # noqa: DTZ001 -- the zone follows
def test_what_is_due_lies_in_the_window_and_within_a_day(
    begins: time, ends: time, now: datetime
) -> None:
    window = Window(begins=begins.replace(microsecond=0), ends=ends.replace(microsecond=0))
    moment = now.replace(tzinfo=UTC)
    due = window.due(moment)
    assert due is not None
    assert window.contains(due)
    assert moment <= due <= moment + timedelta(days=1)


def test_a_start_is_at_most_seven_days_ahead() -> None:
    assert start_at(None, NOON) is None
    assert start_at(NOON - HOUR, NOON) is None
    assert start_at(NOON + timedelta(days=7), NOON) == NOON + timedelta(days=7)
    for asked in (NOON + timedelta(days=7, seconds=1), NOON.replace(tzinfo=None)):
        with pytest.raises(RefusedError) as refusal:
            start_at(asked, NOON)
        assert refusal.value.code == Code.INVALID_PARAMETER


@pytest.mark.parametrize(
    ("version", "interval", "points", "fits"),
    [
        *(("2012R2", interval, 24, True) for interval in INTERVALS_SECONDS),
        ("2012R2", 60, 0, False),
        ("2012R2", 300, 25, False),
        ("2012", 300, 15, True),
        ("2012", 30, 0, False),
        ("2012", 300, 16, False),
    ],
)
def test_what_a_version_of_a_host_knows(
    version: str, interval: int, points: int, fits: bool
) -> None:
    if fits:
        check_policy(version, interval, points)
        return
    with pytest.raises(RefusedError) as refusal:
        check_policy(version, interval, points)
    assert refusal.value.code == Code.INVALID_PARAMETER


def test_a_log_of_over_half_the_disks_is_too_large() -> None:
    assert not log_is_too_large(50, 100)
    assert log_is_too_large(51, 100)
    assert not log_is_too_large(0, 0)


@pytest.mark.parametrize(
    ("hours", "points", "last_at", "due"),
    [
        (0, 24, None, False),
        (1, 0, None, False),
        (1, 24, None, True),
        (2, 24, NOON - HOUR, False),
        (2, 24, NOON - 2 * HOUR, True),
    ],
)
def test_when_an_application_consistent_cut_is_due(
    hours: int, points: int, last_at: datetime | None, due: bool
) -> None:
    assert application_consistent_due(hours, points, last_at, NOON) is due


@pytest.mark.parametrize(
    ("points", "newest_at", "consistency", "kind"),
    [
        (0, None, Consistency.CRASH, None),
        (0, None, Consistency.APPLICATION, None),
        (3, None, Consistency.CRASH, PointKind.STANDARD),
        (3, NOON - HOUR / 2, Consistency.CRASH, None),
        (3, NOON - HOUR, Consistency.CRASH, PointKind.STANDARD),
        (3, NOON - HOUR / 2, Consistency.APPLICATION, PointKind.APPLICATION_CONSISTENT),
    ],
)
def test_which_states_a_replica_keeps(
    points: int, newest_at: datetime | None, consistency: Consistency, kind: PointKind | None
) -> None:
    assert point_due(KeptPoints(points, newest_at), NOON, consistency) is kind


def test_pauses_grow_up_to_the_interval_or_a_minute() -> None:
    assert [pause_seconds(300, failures) for failures in (0, 1, 2, 7, 99)] == [
        PAUSE_SECONDS_MIN,
        1.0,
        2.0,
        PAUSE_SECONDS_MAX,
        PAUSE_SECONDS_MAX,
    ]
    assert pause_seconds(30, 99) == 30
    assert pause_seconds(0.05, 99) == PAUSE_SECONDS_MIN
