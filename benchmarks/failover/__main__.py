"""`make bench-failover`: measures plans of many machines, prints a table, writes a JSON file.

    python -m benchmarks.failover [--machines 100 1000] [--runs 5 1] [--largest 5000]
        [--delay shut_down=8 ...]

Exit 0: everything was measured (a goal that was missed is said, and is no error); 1 otherwise.
"""

import argparse
import asyncio
import itertools
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from azure.core.exceptions import AzureError

from benchmarks.channel.figures import MILLISECONDS, Metric, median, percentile, save, table
from benchmarks.channel.processes import NotMeasuredError
from benchmarks.failover.catalogue import (
    KINDS,
    PERCENTILES,
    PLANNED,
    PROGRAMS,
    catalogue,
    growth,
    recovery,
    row,
    sizes_of,
)
from benchmarks.failover.world import Delays, FailoverWorld, PlanRun, failover_world
from service_shell.errors import ProgramError, program_error_in
from wire_contract.vocabulary import Verb

RESULT: Final = Path(".bench/failover.json")
BENCH_SECONDS_MAX: Final = 3600.0
"""Longest that a run may take; what is not measured by then is not measured."""

DELAYS: Final[Mapping[str, float]] = {
    Verb.SHUT_DOWN.value: 30.0,
    Verb.PREPARE_FAILOVER.value: 3.0,
    Verb.FAIL_OVER.value: 13.0,
    Verb.START.value: 15.0,
}
"""Seconds beside what the simulator does (docs/benchmarks.md says where they are from)."""

ON_PATH: Final[Mapping[str, Sequence[str]]] = {
    "planned": tuple(DELAYS),
    "unplanned": (Verb.FAIL_OVER.value, Verb.START.value),
}
"""The verbs that a machine waits for, one after the other (service_hub/domain/scenarios)."""


@dataclass(slots=True)
class Bench:
    """A run: what is asked for, and what was found."""

    sizes: tuple[int, ...]
    largest: int
    runs: Mapping[int, int]
    delays: Delays
    metrics: dict[str, Metric] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    found: dict[tuple[int, str], list[PlanRun]] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)

    def elapsed(self) -> float:
        """Return the seconds since the run began."""
        return time.monotonic() - self.began

    def path_seconds(self, kind: str) -> float:
        """Return the critical path: what one machine takes where nothing else takes time."""
        return sum(self.delays.get(verb, 0.0) for verb in ON_PATH[kind])

    def add(self, name: str, value: float, baseline: float | None = None) -> None:
        """Keep a figure, and say it at once."""
        self.metrics[name] = replace(self.metrics[name], value=value, baseline=baseline)
        say(f"  {name}: {value:.4g}")


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


async def measure(bench: Bench, world: FailoverWorld, sizes: Sequence[int]) -> None:
    """Protect machines up to each size, and run its plans; the kinds by turns.

    What was measured of a size is told and kept before the next one is begun.
    """
    for size in sizes:
        await _take_back(bench, world)
        await _protect(bench, world, size)
        kinds = [kind for kind in KINDS if size in sizes_of(kind, bench.sizes, bench.largest)]
        for _ in range(bench.runs.get(size, 1)):
            for kind in kinds:
                await _take_back(bench, world)
                run = await _run(bench, world, size, kind)
                bench.found.setdefault((size, kind), []).append(run)
        for kind in kinds:
            _tell(bench, size, kind, bench.found[size, kind])


def compare(bench: Bench) -> None:
    """Tell how the time per machine grows from size to size, where both were measured."""
    for kind in KINDS:
        for pair in itertools.pairwise(sizes_of(kind, bench.sizes, bench.largest)):
            if all((size, kind) in bench.found for size in pair):
                smaller, larger = (
                    median([run.seconds for run in bench.found[size, kind]]) / size for size in pair
                )
                bench.add(growth(*pair, kind), larger / smaller, smaller)


async def _protect(bench: Bench, world: FailoverWorld, size: int) -> None:
    before, began = len(world.machines), time.monotonic()
    await world.protect(size)
    took = time.monotonic() - began
    say(f"{bench.elapsed():.0f} s: {size - before} machines more are protected, in {took:.0f} s")


async def _run(bench: Bench, world: FailoverWorld, size: int, kind: str) -> PlanRun:
    run = await world.fail_over(
        size, bench.path_seconds(kind), planned=kind == PLANNED, delays=bench.delays
    )
    used = ", ".join(f"{part} {seconds:.1f} s" for part, seconds in run.processor.items())
    say(f"{bench.elapsed():.0f} s: {size} machines, {kind}: {run.seconds:.1f} s; CPU {used}")
    return run


async def _take_back(bench: Bench, world: FailoverWorld) -> None:
    """Have all machines protected at their own site, where a plan has failed them over."""
    began = time.monotonic()
    if await world.take_back():
        say(f"{bench.elapsed():.0f} s: taken back in {time.monotonic() - began:.0f} s")


def _tell(bench: Bench, size: int, kind: str, runs: Sequence[PlanRun]) -> None:
    makespan, path = median([run.seconds for run in runs]), bench.path_seconds(kind)
    bench.add(row(size, kind, "makespan"), makespan, path)
    bench.add(row(size, kind, "beyond the critical path"), makespan - path)
    if path:
        bench.add(row(size, kind, "makespan / critical path"), makespan / path, path)
    for part in PERCENTILES:
        times = [percentile(run.recoveries, part) for run in runs]
        bench.add(row(size, kind, recovery(part)), median(times), path)
    for who, program in PROGRAMS.items():
        bench.add(row(size, kind, f"{who} CPU"), median([run.processor[program] for run in runs]))
    together = [sum(run.processor[program] for program in PROGRAMS.values()) for run in runs]
    bench.add(row(size, kind, "CPU per machine"), MILLISECONDS * median(together) / size)


async def main(bench: Bench) -> int:
    """Measure, print, keep; return the exit code."""
    bench.metrics = catalogue(bench.sizes, bench.largest)
    delays = ", ".join(f"{verb} {seconds:g} s" for verb, seconds in bench.delays.items())
    say(f"delays: {delays}")
    # The largest has an estate of its own: what it does not get through costs the others nothing.
    for sizes in (bench.sizes, (bench.largest,) if bench.largest else ()):
        if sizes:
            await _measured(bench, sizes)
    compare(bench)
    metrics = list(bench.metrics.values())
    save(metrics, RESULT)
    say(f"\n{table(metrics)}\n")
    for problem in bench.problems:
        say(f"not measured: {problem}")
    say(f"{RESULT}, {bench.elapsed():.0f} s")
    return int(any(each.value is None for each in metrics))


async def _measured(bench: Bench, sizes: Sequence[int]) -> None:
    say(f"{bench.elapsed():.0f} s: an estate of {max(sizes)} machines is raised")
    with tempfile.TemporaryDirectory(prefix="bench-failover-", dir=_ground()) as name:
        try:
            async with (
                asyncio.timeout(max(0.0, BENCH_SECONDS_MAX - bench.elapsed())),
                failover_world(Path(name), max(sizes), say) as world,
            ):
                say(f"{bench.elapsed():.0f} s: it runs, and its clouds are paired")
                await measure(bench, world, sizes)
        except (NotMeasuredError, ProgramError, AzureError, TimeoutError, ExceptionGroup) as error:
            known = program_error_in(error) or error
            bench.problems.append(str(known) or f"not done after {bench.elapsed():.0f} s")


def _ground() -> Path:
    """Return the folder on the checkout's file system that runs work in."""
    RESULT.parent.mkdir(exist_ok=True)
    return RESULT.parent.absolute()


def _arguments(words: Sequence[str]) -> Bench:
    parser = argparse.ArgumentParser(prog="benchmarks.failover")
    parser.add_argument("--machines", type=int, nargs="*", default=[100, 1000])
    parser.add_argument("--largest", type=int, default=5000)
    parser.add_argument("--runs", type=int, nargs="*", default=[5, 1])
    parser.add_argument("--delay", nargs="*", default=[])
    given = parser.parse_args(words)
    if len(given.runs) != len(given.machines):
        parser.error("--runs says how often each size of --machines is measured")
    delays = dict(DELAYS)
    for each in given.delay:
        verb, _, seconds = each.partition("=")
        delays[Verb(verb).value] = float(seconds)
    sizes = tuple(given.machines)
    runs = dict(zip(sizes, given.runs, strict=True))
    return Bench(sizes, given.largest, runs, delays)


if __name__ == "__main__":
    sys.exit(asyncio.run(main(_arguments(sys.argv[1:]))))
