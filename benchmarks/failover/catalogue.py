"""Every metric of a run, with its goal."""

from itertools import pairwise
from typing import Final

from benchmarks.channel.figures import Metric

KINDS: Final = ("planned", "unplanned")
PERCENTILES: Final = (0.5, 0.95, 0.99)


def row(machines: int, kind: str, what: str) -> str:
    """Return the name of a metric of a plan."""
    return f"{machines} machines, {kind}: {what}"


def _of(machines: int, kind: str) -> list[Metric]:
    return [
        Metric(row(machines, kind, "makespan"), None, "s", None, "lower"),
        Metric(row(machines, kind, "makespan / critical path"), None, "x", 1.2, "lower"),
        *(
            Metric(row(machines, kind, recovery(part)), None, "s", None, "lower")
            for part in PERCENTILES
        ),
        Metric(row(machines, kind, "hub CPU"), None, "s", None, "lower"),
        Metric(row(machines, kind, "agents' CPU"), None, "s", None, "lower"),
        Metric(row(machines, kind, "VMM servers' CPU"), None, "s", None, "lower"),
    ]


def recovery(part: float) -> str:
    """Return what the recovery time that this part of the machines does not exceed is called."""
    return f"recovery time of a machine, p{part * 100:g}"


def growth(smaller: int, larger: int) -> str:
    """Return the name of the metric that compares two sizes, planned."""
    return f"{smaller} to {larger} machines, planned: time per machine"


def catalogue(sizes: tuple[int, ...], largest: int) -> dict[str, Metric]:
    """Return every metric of a run over these sizes."""
    listed = [each for machines in sizes for kind in KINDS for each in _of(machines, kind)]
    listed += _of(largest, "planned") if largest else []
    all_sizes = (*sizes, *([largest] if largest else []))
    listed += [
        Metric(growth(smaller, larger), None, "x", 1.3, "lower")
        for smaller, larger in pairwise(all_sizes)
    ]
    return {each.metric: each for each in listed}
