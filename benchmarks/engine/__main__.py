"""`make bench-engine`: measures the job engine, prints a table, writes .bench/engine.json.

    python -m benchmarks.engine [ITEMS [RUNS]]

Exit 0: everything was measured (a goal that was missed is said, and is no error); 1 otherwise.
"""

import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from benchmarks.channel.figures import Metric, median, save, table
from benchmarks.channel.processes import NotMeasuredError
from benchmarks.engine.catalogue import CATALOGUE, DATABASES, plan_row
from benchmarks.engine.databases import Databases, databases
from benchmarks.engine.workload import TASKS, ideal_seconds

ITEMS: Final = 1000
RUNS: Final = 5
GENERAL_RUNS: Final = 1
"""Runs of the general engine: one takes longer than all of ours."""

LARGER: Final = 10
SETTLE_SECONDS: Final = 3.0
WAIT_SECONDS: Final = 15.0
LEASE_SECONDS: Final = 2.0
PROCESS_SECONDS_MAX: Final = 900.0
KB: Final = 1024
PERCENT: Final = 100.0

RESULT: Final = Path(".bench/engine.json")


@dataclass(slots=True)
class Bench:
    """A run: where it works, and what was found."""

    folder: Path
    databases: Databases
    items: int
    runs: int
    metrics: dict[str, Metric] = field(default_factory=lambda: dict(CATALOGUE))
    problems: list[str] = field(default_factory=list)

    def add(
        self, name: str, value: float, baseline: float | None = None, peer: str | None = None
    ) -> None:
        """Keep a figure and say it at once."""
        self.metrics[name] = replace(CATALOGUE[name], value=value, baseline=baseline, peer=peer)
        say(f"  {name}: {value:.4g}")

    def hub(self, what: str, database: dict[str, Any], items: int, **more: Any) -> dict[str, Any]:
        """Measure in a new process of the hub's side."""
        order = {
            "what": what,
            "database": database,
            "items": items,
            "log": str(self.folder / "hub.log"),
            "spawned": time.monotonic(),
            **more,
        }
        return self._process("hub_process", order)

    def general(self, kind: str) -> dict[str, Any]:
        """Run the plan on the general engine."""
        url = self.databases.new_url(kind)
        return self._process("general_engine_process", {"database": url, "items": self.items})

    def _process(self, module: str, order: dict[str, Any]) -> dict[str, Any]:
        command = (sys.executable, "-m", f"benchmarks.engine.{module}", json.dumps(order))
        try:
            ended = subprocess.run(  # noqa: S603 -- our own programs
                command, capture_output=True, text=True, check=False, timeout=PROCESS_SECONDS_MAX
            )
        except subprocess.TimeoutExpired as error:
            raise NotMeasuredError(f"{module}: not within {PROCESS_SECONDS_MAX:g} s") from error
        last = ended.stdout.strip().rpartition("\n")[2]
        if ended.returncode != 0 or not last:
            why = ended.stderr.strip().rpartition("\n")[2]
            raise NotMeasuredError(f"{module} ended with {ended.returncode}: {why}")
        told: dict[str, Any] = json.loads(last)
        return told


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def plan_and_peer(bench: Bench, found: dict[str, list[dict[str, Any]]]) -> None:
    """Run the plan on both databases by turns, the general engine beside it."""
    ideal = ideal_seconds(bench.items)
    general: dict[str, list[dict[str, Any]]] = {kind: [] for kind in DATABASES}
    for run in range(bench.runs):
        for kind in DATABASES:
            told = bench.hub("plan", bench.databases.new(kind), bench.items)
            found[kind].append(told)
            say(f"  run {run + 1}, {kind}: {told['seconds']:.2f} s, CPU {_processor(told):.2f} s")
            if run < GENERAL_RUNS:
                general[kind].append(bench.general(kind))
                say(f"  run {run + 1}, {kind}, dbos: {general[kind][-1]['seconds']:.1f} s")
    for kind in DATABASES:
        makespan = median([each["seconds"] for each in found[kind]])
        bench.add(plan_row(kind, "makespan"), makespan, ideal, "the longest item's answers")
        bench.add(plan_row(kind, "makespan / ideal"), makespan / ideal, ideal)
        bench.add(plan_row(kind, "hub CPU"), median([_processor(each) for each in found[kind]]))
        played = median([each["played_seconds"] for each in found[kind]])
        bench.add(plan_row(kind, "played providers' CPU"), played)
        theirs = median([each["seconds"] for each in general[kind]])
        peer = f"dbos {general[kind][0]['version']}, asynchronous workflows, {kind}"
        bench.add(f"dbos, {kind}: makespan", theirs, peer=peer)
        bench.add(f"dbos, {kind}: makespan / ours", theirs / makespan, makespan, peer)


def larger_plan(bench: Bench, found: dict[str, list[dict[str, Any]]]) -> None:
    """Run a plan of ten times as many items; compare what an item takes."""
    items = bench.items * LARGER
    for kind in DATABASES:
        told = bench.hub("plan", bench.databases.new(kind), items)
        say(f"  {items} items, {kind}: {told['seconds']:.2f} s, CPU {_processor(told):.2f} s")
        small = found[kind]
        name = f"10 times as many items, {kind}"
        for what, key in (("time", "seconds"), ("memory", "memory_bytes")):
            base = median([each[key] for each in small]) / bench.items
            if what == "memory":
                bench.add(f"{name}: memory per item", told[key] / items / KB, base / KB)
            bench.add(f"{name}: {what} per item / plan's", told[key] / items / base, base)
        base = median([_processor(each) for each in small]) / bench.items
        bench.add(f"{name}: hub CPU per item / plan's", _processor(told) / items / base, base)


def waiting(bench: Bench) -> None:
    """Let as many jobs wait as the plan has items."""
    for kind in DATABASES:
        told = bench.hub(
            "wait",
            bench.databases.new(kind),
            bench.items,
            settle_seconds=SETTLE_SECONDS,
            seconds=WAIT_SECONDS,
        )
        bench.add(f"waiting jobs, {kind}: of one core", told["share"] * PERCENT)


def starting(bench: Bench) -> None:
    """Leave jobs behind as a killed hub does, each with an unfinished task; start a hub on them."""
    items = bench.items * LARGER
    for kind in DATABASES:
        database = bench.databases.new(kind)
        shared = {"checks": True, "lease_seconds": LEASE_SECONDS}
        bench.hub("prepare", database, items, **shared)
        time.sleep(LEASE_SECONDS)  # the killed hub's leases must have run out
        told = bench.hub("take_up", database, items, **shared)
        name = f"start on unfinished tasks, {kind}"
        bench.add(f"{name}: to first command", told["from_opening"])
        bench.add(f"{name}: from exec", told["from_process"])


def _processor(told: dict[str, Any]) -> float:
    return float(told["processor_seconds"] - told["played_seconds"])


def _step(bench: Bench, what: str, work: Callable[[], None]) -> None:
    say(f"{what} ...")
    try:
        work()
    except NotMeasuredError as error:
        bench.problems.append(f"{what}: {error}")
        say(f"  NOT MEASURED: {error}")


@contextlib.contextmanager
def _ground(items: int, runs: int) -> Iterator[Bench]:
    with tempfile.TemporaryDirectory(prefix="bench-engine-") as name:
        folder = Path(name)
        with databases(folder) as found:
            yield Bench(folder, found, items, runs)


def main(items: int, runs: int) -> int:
    """Measure, print, keep; return the exit code."""
    started = time.monotonic()
    say(f"{items} items x {len(TASKS)} tasks, {runs} runs, ideal {ideal_seconds(items):.2f} s")
    with _ground(items, runs) as bench:
        found: dict[str, list[dict[str, Any]]] = {kind: [] for kind in DATABASES}
        _step(bench, "the plan", lambda: plan_and_peer(bench, found))
        _step(bench, "a larger plan", lambda: larger_plan(bench, found))
        _step(bench, "waiting jobs", lambda: waiting(bench))
        _step(bench, "start on unfinished tasks", lambda: starting(bench))
    metrics = list(bench.metrics.values())
    save(metrics, RESULT)
    say(f"\n{table(metrics)}\n")
    for problem in bench.problems:
        say(f"not measured: {problem}")
    say(f"{RESULT}, {time.monotonic() - started:.0f} s")
    return int(any(each.value is None for each in metrics))


if __name__ == "__main__":
    arguments = [int(each) for each in sys.argv[1:]]
    sys.exit(main(*[*arguments, *(ITEMS, RUNS)[len(arguments) :]]))
