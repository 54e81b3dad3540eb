"""Every metric of a run, with its goal."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from benchmarks.channel.figures import Metric

PLANNED: Final = "planned"
UNPLANNED: Final = "unplanned"
KINDS: Final = (PLANNED, UNPLANNED)
PERCENTILES: Final = (0.5, 0.95, 0.99)
PROGRAMS: Final = {"hub": "hub", "agents'": "agent", "VMM servers'": "vmm"}
"""Whose CPU is told, and the last part of the name of its processes."""


def row(machines: int, kind: str, what: str) -> str:
    """Return the name of a metric of a plan."""
    return f"{machines} machines, {kind}: {what}"


def _of(machines: int, kind: str) -> list[Metric]:
    return [
        Metric(row(machines, kind, "makespan"), None, "s", None, "lower"),
        Metric(row(machines, kind, "makespan / critical path"), None, "x", 1.2, "lower"),
        Metric(row(machines, kind, "beyond the critical path"), None, "s", None, "lower"),
        *(
            Metric(row(machines, kind, recovery(part)), None, "s", None, "lower")
            for part in PERCENTILES
        ),
        *(Metric(row(machines, kind, f"{who} CPU"), None, "s", None, "lower") for who in PROGRAMS),
        Metric(row(machines, kind, "CPU per machine"), None, "ms", None, "lower"),
    ]


def recovery(part: float) -> str:
    """Return what the recovery time that this part of the machines does not exceed is called."""
    return f"recovery time of a machine, p{part * 100:g}"


def growth(smaller: int, larger: int, kind: str) -> str:
    """Return the name of the metric that compares two sizes."""
    return f"{smaller} to {larger} machines, {kind}: time per machine"


def sizes_of(kind: str, sizes: Sequence[int], largest: int) -> list[int]:
    """Return the sizes that a kind is measured at; the largest is only failed over as planned."""
    return [*sizes, *([largest] if largest and kind == PLANNED else [])]


def catalogue(sizes: Sequence[int], largest: int) -> dict[str, Metric]:
    """Return every metric of a run over these sizes."""
    listed = [
        each
        for kind in KINDS
        for machines in sizes_of(kind, sizes, largest)
        for each in _of(machines, kind)
    ]
    listed += [
        Metric(growth(smaller, larger, kind), None, "x", 1.3, "lower")
        for kind in KINDS
        for smaller, larger in pairwise(sizes_of(kind, sizes, largest))
    ]
    return {each.metric: each for each in listed}
