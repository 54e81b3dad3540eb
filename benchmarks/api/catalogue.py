"""Every metric of a run, with its goal."""

from typing import Final

from benchmarks.channel.figures import Metric

ITEM: Final = "GET one item"
ITEMS: Final = "page of 100 of 1,000 protected items"
JOBS_FEW: Final = "page of 100 of 1,000 jobs"
JOBS: Final = "page of 100 of 10,000 jobs"
ASKED: Final = (ITEM, ITEMS, JOBS_FEW, JOBS)
LRO: Final = "1,000 operations polled every second: hub CPU"
GROWTH: Final = "page of 10,000 jobs / page of 1,000 jobs, time"

_GOALS: Final = {ITEM: 0.5}


def _of(asked: str) -> list[Metric]:
    return [
        Metric(f"{asked}: per second", None, "1/s", None, "higher"),
        Metric(f"{asked}: per second / bare handler", None, "x", _GOALS.get(asked), "higher"),
        Metric(f"{asked}: p99", None, "ms", None, "lower"),
        Metric(f"{asked}: p99 / bare handler", None, "x", None, "lower"),
    ]


CATALOGUE: Final = {
    each.metric: each
    for each in (
        *(metric for asked in ASKED for metric in _of(asked)),
        Metric(GROWTH, None, "x", 1.1, "lower"),
        Metric(LRO, None, "cores", 1.0, "lower"),
    )
}
"""A run gives each of them its value."""
