from datetime import UTC, datetime, timedelta, timezone

import pytest

from service_hub.arm.times import fine_time, request_time, whole_seconds

MOMENT = datetime(2017, 9, 18, 13, 54, 53, 559095, tzinfo=UTC)


def test_fine_times_have_seven_digits_in_utc() -> None:
    assert fine_time(MOMENT) == "2017-09-18T13:54:53.5590950Z"
    elsewhere = MOMENT.astimezone(timezone(timedelta(hours=9)))
    assert fine_time(elsewhere) == fine_time(MOMENT)
    assert fine_time(MOMENT.replace(microsecond=0)) == "2017-09-18T13:54:53.0000000Z"


def test_whole_seconds_are_cut_off() -> None:
    assert whole_seconds(MOMENT.replace(microsecond=999_999)) == "2017-09-18T13:54:53Z"


@pytest.mark.parametrize(
    ("hour", "text"),
    [(0, "12:54:53 AM"), (11, "11:54:53 AM"), (12, "12:54:53 PM"), (23, "11:54:53 PM")],
)
def test_request_times_count_twice_twelve_hours(hour: int, text: str) -> None:
    assert request_time(MOMENT.replace(hour=hour)) == f"9/18/2017 {text}"
