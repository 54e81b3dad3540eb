import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from benchmarks.failover import __main__ as bench_program
from benchmarks.failover.__main__ import DELAYS, Bench, compare, main
from benchmarks.failover.catalogue import (
    KINDS,
    PLANNED,
    UNPLANNED,
    catalogue,
    growth,
    row,
    sizes_of,
)
from benchmarks.failover.world import PlanRun, look_seconds
from service_shell.errors import ProgramError
from vmm_simulator.vmm.rules import MACHINES_MAX

SIZES = (100, 1000)
LARGEST = 5000


def test_a_server_takes_as_many_machines_as_the_largest_plan_has() -> None:
    assert LARGEST <= MACHINES_MAX


def run(seconds: float) -> PlanRun:
    return PlanRun(seconds, [seconds / 2, seconds], {"hub": 2.0, "agent": 3.0, "vmm": 5.0})


def bench() -> Bench:
    made = Bench(SIZES, LARGEST, {100: 5, 1000: 1}, DELAYS)
    made.metrics = catalogue(SIZES, LARGEST)
    return made


def test_every_metric_has_a_figure_once_every_size_was_measured() -> None:
    made = bench()
    for kind in KINDS:
        for size in sizes_of(kind, SIZES, LARGEST):
            made.found[size, kind] = [run(70.0), run(90.0), run(80.0)]
            bench_program._tell(made, size, kind, made.found[size, kind])
    compare(made)
    assert not [each.metric for each in made.metrics.values() if each.value is None]
    assert made.metrics[row(100, PLANNED, "makespan")].value == 80
    assert made.metrics[row(100, PLANNED, "beyond the critical path")].value == 19
    assert made.metrics[row(100, UNPLANNED, "CPU per machine")].value == 100
    # As long for ten times as many machines: a tenth of the time for each.
    assert made.metrics[growth(100, 1000, UNPLANNED)].value == pytest.approx(0.1)


async def test_what_could_not_be_measured_is_null_and_an_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    @asynccontextmanager
    async def nothing(folder: Path, machines: int, say: object) -> AsyncIterator[None]:
        del folder, say
        if machines > 0:
            raise ProgramError("no room for an estate")
        yield

    result = tmp_path / "bench" / "failover.json"
    monkeypatch.setattr(bench_program, "RESULT", result)
    monkeypatch.setattr(bench_program, "failover_world", nothing)
    made = bench()
    assert await main(made) == 1
    assert made.problems == ["no room for an estate"] * 2
    kept = json.loads(result.read_text())
    assert {each["metric"] for each in kept} == set(catalogue(SIZES, LARGEST))
    assert all(each["value"] is None for each in kept)


def test_many_machines_are_looked_at_less_often() -> None:
    assert (look_seconds(100), look_seconds(1000), look_seconds(5000)) == (2, 4, 20)
