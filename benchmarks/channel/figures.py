"""Metrics as they are printed and kept: a figure, its goal, and what it was measured beside."""

import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

MILLISECONDS: Final = 1000.0


@dataclass(frozen=True, slots=True)
class Metric:
    """One line of the result; `value` None: it could not be measured."""

    metric: str
    value: float | None
    unit: str
    goal: float | None
    better: str
    baseline: float | None = None
    peer: str | None = None

    @property
    def verdict(self) -> str:
        """Whether the goal is reached."""
        if self.value is None:
            return "NOT MEASURED"
        if self.goal is None:
            return ""
        reached = self.value <= self.goal if self.better == "lower" else self.value >= self.goal
        return "ok" if reached else "MISSED"


LATENCIES: Final[dict[str, float | None]] = {
    "1 provider, MQTT": None,
    "1 provider, long poll": 3000.0,
    "all providers, MQTT": None,
    "all providers, publishes dropped": 65_000.0,
    "all providers, long poll": 3000.0,
}
"""Ways from commit to journal, and the longest that the 99th percentile may take (ms)."""


def _catalogue() -> dict[str, Metric]:
    listed = [
        Metric(f"{way}: commit to journal, {part}", None, "ms", goal, "lower")
        for way, longest in LATENCIES.items()
        for part, goal in (("p50", None), ("p99", longest))
    ]
    listed += [
        Metric("memory per connected provider", None, "KB", 80.0, "lower"),
        Metric("connects per second", None, "1/s", None, "higher"),
        Metric("connects per second / bare mTLS", None, "x", 0.7, "higher"),
        Metric("fan-out to all, from commit, p99", None, "ms", None, "lower"),
        Metric("fan-out to all, from commit, p99 / bare mosquitto", None, "x", None, "lower"),
        Metric("fan-out to all, from first publish, p99", None, "ms", None, "lower"),
        Metric("fan-out to all, from first publish, p99 / bare mosquitto", None, "x", 1.5, "lower"),
        Metric("hub restart: until all are connected again", None, "s", None, "lower"),
        Metric("hub restart: providers lost", None, "count", 0.0, "lower"),
        Metric("hub restart: providers with a lost or doubled event", None, "count", 0.0, "lower"),
    ]
    return {each.metric: each for each in listed}


CATALOGUE: Final = _catalogue()
"""Every metric of a run, with its goal; a run gives each of them its value."""


def percentile(samples: Sequence[float], part: float) -> float:
    """Return the smallest sample that at least this part of the samples doesn't exceed."""
    ordered = sorted(samples)
    return ordered[max(0, math.ceil(part * len(ordered)) - 1)]


def median(samples: Sequence[float]) -> float:
    """Return the median."""
    return statistics.median(samples)


def table(metrics: Sequence[Metric]) -> str:
    """Return the metrics as lines of a table."""
    lines = [f"{'metric':60} {'value':>10} {'unit':6} {'goal':>8} {'baseline':>10}  verdict"]
    for each in metrics:
        goal = "" if each.goal is None else ("<=" if each.better == "lower" else ">=")
        lines.append(
            f"{each.metric:60} {_number(each.value):>10} {each.unit:6}"
            f" {goal + _number(each.goal):>8} {_number(each.baseline):>10}  {each.verdict}"
        )
    return "\n".join(lines)


def save(metrics: Sequence[Metric], path: Path) -> None:
    """Write the metrics as a list of objects."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([asdict(each) for each in metrics], indent=2) + "\n")


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}" if value < MILLISECONDS else f"{value:.0f}"
