"""Moments as the recorded service writes them (recorded.md, section 0)."""

from datetime import UTC, datetime
from typing import Final

UNSET_TIME: Final = "0001-01-01T00:00:00"
"""A task that has not begun, or not ended."""

NO_SCENARIO_TIME: Final = "1753-01-01T01:01:01Z"
"""Start of the scenario of an item on which no job runs."""


def fine_time(moment: datetime) -> str:
    """Return a moment with seven fractional digits: `2017-09-18T13:54:53.5590957Z`."""
    utc = moment.astimezone(UTC)
    # The seventh digit is a tenth of a microsecond, which nobody here measures.
    return f"{utc:%Y-%m-%dT%H:%M:%S}.{utc.microsecond:06d}0Z"


def whole_seconds(moment: datetime) -> str:
    """Return a moment in whole seconds, as the end of a job is written."""
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def request_time(moment: datetime) -> str:
    """Return a moment as it stands in `x-ms-request-id`: `9/18/2017 1:54:53 PM`."""
    utc = moment.astimezone(UTC)
    hour = utc.hour % 12 or 12
    half = "AM" if utc.hour < 12 else "PM"  # noqa: PLR2004 -- noon
    return f"{utc.month}/{utc.day}/{utc.year} {hour}:{utc:%M:%S} {half}"
