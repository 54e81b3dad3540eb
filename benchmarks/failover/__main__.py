"""`make bench-failover`: measures plans of many machines, prints a table, writes a JSON file.

    python -m benchmarks.failover [--machines 100 1000] [--largest 5000] [--runs 3 1]
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

from benchmarks.channel.figures import Metric, median, percentile, save, table
from benchmarks.channel.processes import NotMeasuredError
from benchmarks.failover.catalogue import KINDS, PERCENTILES, catalogue, growth, recovery, row
from benchmarks.failover.world import Delays, FailoverWorld, PlanRun, failover_world
from service_shell.errors import ProgramError
from wire_contract.vocabulary import Verb

RESULT: Final = Path(".bench/failover.json")
DELAYS: Final[Mapping[str, float]] = {
    Verb.SHUT_DOWN.value: 12.0,
    Verb.PREPARE_FAILOVER.value: 3.0,
    Verb.FAIL_OVER.value: 3.0,
    Verb.START.value: 15.0,
}
"""Seconds beside what the simulator does: a small server that ends its services and is up again.
Larger ones take minutes, which would only make everything else look smaller."""

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

    @property
    def machines(self) -> int:
        """How many machines have to be protected: plans share them, one after the other."""
        return max(self.largest, *self.sizes)

    def path_seconds(self, kind: str) -> float:
        """Return the critical path: what one machine takes where nothing else takes time."""
        return sum(self.delays.get(verb, 0.0) for verb in ON_PATH[kind])

    def add(self, name: str, value: float, baseline: float | None = None) -> None:
        """Keep a figure and say it at once."""
        self.metrics[name] = replace(self.metrics[name], value=value, baseline=baseline)
        say(f"  {name}: {value:.4g}")


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


async def measure(bench: Bench, world: FailoverWorld) -> None:
    """Run all plans, the sizes and kinds by turns, the largest at the end."""
    found: dict[tuple[int, str], list[PlanRun]] = {}
    for turn in range(max(bench.runs.values(), default=0)):
        for size in bench.sizes:
            for kind in KINDS:
                if turn < bench.runs[size]:
                    found.setdefault((size, kind), []).append(await _run(bench, world, size, kind))
    if bench.largest:
        found[bench.largest, "planned"] = [await _run(bench, world, bench.largest, "planned")]
    for (size, kind), runs in found.items():
        _tell(bench, size, kind, runs)
    planned = sorted(size for size, kind in found if kind == "planned")
    for smaller, larger in itertools.pairwise(planned):
        each = {
            size: median([run.seconds for run in found[size, "planned"]]) / size
            for size in (smaller, larger)
        }
        bench.add(growth(smaller, larger), each[larger] / each[smaller], each[smaller])


async def _run(bench: Bench, world: FailoverWorld, size: int, kind: str) -> PlanRun:
    run = await world.fail_over(
        size, bench.path_seconds(kind), planned=kind == "planned", delays=bench.delays
    )
    used = ", ".join(f"{part} {seconds:.1f} s" for part, seconds in run.processor.items())
    say(f"  {size} machines, {kind}: {run.seconds:.1f} s; CPU {used}")
    return run


def _tell(bench: Bench, size: int, kind: str, runs: Sequence[PlanRun]) -> None:
    makespan, path = median([run.seconds for run in runs]), bench.path_seconds(kind)
    bench.add(row(size, kind, "makespan"), makespan, path)
    if path:
        bench.add(row(size, kind, "makespan / critical path"), makespan / path, path)
    for part in PERCENTILES:
        times = [percentile(run.recoveries, part) for run in runs]
        bench.add(row(size, kind, recovery(part)), median(times), path)
    for what, program in (("hub", "hub"), ("agents'", "agent"), ("VMM servers'", "vmm")):
        used = median([run.processor[program] for run in runs])
        bench.add(row(size, kind, f"{what} CPU"), used)


async def main(bench: Bench) -> int:
    """Measure, print, keep; return the exit code."""
    started = time.monotonic()
    bench.metrics = catalogue(bench.sizes, bench.largest)
    delays = ", ".join(f"{verb} {seconds:g} s" for verb, seconds in bench.delays.items())
    say(f"{bench.machines} machines are protected first; delays: {delays}")
    with tempfile.TemporaryDirectory(prefix="bench-failover-", dir=_ground()) as name:
        try:
            async with failover_world(Path(name), bench.machines) as world:
                say(f"  protected after {time.monotonic() - started:.0f} s")
                await measure(bench, world)
        except (NotMeasuredError, ProgramError, TimeoutError) as error:
            bench.problems.append(str(error))
    metrics = list(bench.metrics.values())
    save(metrics, RESULT)
    say(f"\n{table(metrics)}\n")
    for problem in bench.problems:
        say(f"not measured: {problem}")
    say(f"{RESULT}, {time.monotonic() - started:.0f} s")
    return int(any(each.value is None for each in metrics))


def _ground() -> Path:
    """Return the folder on the checkout's file system that runs work in."""
    RESULT.parent.mkdir(exist_ok=True)
    return RESULT.parent.absolute()


def _arguments(words: Sequence[str]) -> Bench:
    parser = argparse.ArgumentParser(prog="benchmarks.failover")
    parser.add_argument("--machines", type=int, nargs="*", default=[100, 1000])
    parser.add_argument("--largest", type=int, default=0)
    parser.add_argument("--runs", type=int, nargs="*", default=[3, 1])
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
