"""`make bench-replication`: measures replication, prints a table, writes .bench/replication.json.

    python -m benchmarks.replication [RUNS [SCALE [STEP...]]]

SCALE divides the sizes, for a run that only tries; with steps (the first word of their names) only
these are measured, and nothing is kept. Exit 0: everything was measured (a goal that was
missed is said, and is no error); 1 otherwise.
"""

import contextlib
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from benchmarks.channel.figures import Metric, median, save, table
from benchmarks.channel.processes import NotMeasuredError
from benchmarks.replication.catalogue import CATALOGUE, MACHINES, SPARSE
from benchmarks.replication.ground import Ground, write_data
from benchmarks.replication.hosts import Pair
from benchmarks.replication.peers import (
    Qemu,
    Rsync,
    build_pump,
    nbdcopy_seconds,
    pump_seconds,
    require_equal,
)

RUNS: Final = 5
MACHINE: Final = "machine"
GUEST_WRITES: Final = 20_000
GUEST_TURN_WRITES: Final = 2_000
SPARSE_BYTES: Final = 2**40
SPARSE_DATA_BYTES: Final = 200_000_000
FULL: Final = "full"
DELTA: Final = "delta"
MEBI: Final = 2**20
MICRO: Final = 1e6
MILLI: Final = 1e3
PERCENT: Final = 100.0
RESULT: Final = Path(".bench/replication.json")
FOLDER: Final = Path(".bench")
"""Everything is measured on the file system of the checkout: a memory file system syncs nothing."""


@dataclass(slots=True)
class Bench:
    """A run: where it works, and what was found."""

    ground: Ground
    runs: int
    metrics: dict[str, Metric] = field(default_factory=lambda: dict(CATALOGUE))
    problems: list[str] = field(default_factory=list)

    def add(self, name: str, value: float, baseline: float | None = None, peer: str = "") -> None:
        """Keep a figure and say it at once."""
        metric = replace(CATALOGUE[name], value=value, baseline=baseline, peer=peer or None)
        self.metrics[name] = metric
        say(f"  {name}: {value:.4g}")


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def copies(bench: Bench) -> None:
    """Full copies and deltas, ours and rsync's of the same disk; nbdcopy and the pump by turns."""
    ground = bench.ground
    found: dict[str, list[float]] = {}

    def note(name: str, seconds: float) -> None:
        found.setdefault(name, []).append(seconds)
        say(f"  {name}: {seconds:.2f} s")

    pump = build_pump(ground.folder)
    with Pair.opened(ground) as pair, Rsync.opened(ground) as rsync:
        pair.add(MACHINE, ground.source, ground.disk_bytes)
        for run in range(bench.runs):
            say(f"  run {run + 1}")
            pair.renew(MACHINE, ground.disk_bytes)
            for name, work in _by_turns(
                run,
                [
                    ("ours", lambda: _full_seconds(pair, found)),
                    ("nbdcopy", lambda: nbdcopy_seconds(ground)),
                    ("pump", lambda: pump_seconds(ground, pump)),
                    ("rsync", rsync.full_seconds),
                ],
            ):
                os.sync()
                before = _children_processor()
                note(name, work())
                found.setdefault(f"{name}, processor", []).append(_children_processor() - before)
            require_equal(ground.source, pair.copy_of(MACHINE))
        # Afterwards: what they write lies in the holes too, and the disk is another one then.
        for run in range(bench.runs):
            pair.primary.ask(
                "change", machine=MACHINE, folder=str(ground.folder), scale=ground.scale, seed=run
            )
            os.sync()
            began = time.perf_counter()
            note("our delta", float(pair.send([MACHINE], DELTA, 2 + run)["seconds"]))
            pair.replica.ask("applied", machines=[MACHINE])
            note("our delta, applied", time.perf_counter() - began)
            require_equal(ground.source, pair.copy_of(MACHINE))
            note("rsync's delta", rsync.delta_seconds())
    _copies_found(bench, {name: median(each) for name, each in found.items()})


def _children_processor() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _by_turns(
    run: int, works: list[tuple[str, Callable[[], float]]]
) -> list[tuple[str, Callable[[], float]]]:
    """Return the works in another order in each run."""
    first = run % len(works)
    return works[first:] + works[:first]


def _full_seconds(pair: Pair, found: dict[str, list[float]]) -> float:
    before = pair.processor()
    seconds = float(pair.send([MACHINE], FULL, 1)["seconds"])
    found.setdefault("processor", []).append(pair.processor() - before)
    return seconds


def _copies_found(bench: Bench, found: dict[str, float]) -> None:
    ours, delta = found["ours"], found["our delta"]
    processor = found["processor"]
    for name, peer in (("nbdcopy", "nbdcopy"), ("C mTLS pump", "pump")):
        theirs = found[f"{peer}, processor"]
        bench.add(f"full copy, processor: {name} / ours", theirs / processor, theirs, peer)
    bench.add("full copy", ours)
    bench.add("full copy: processor, both ends", found["processor"])
    for name, peer in (
        ("full copy: nbdcopy, TLS, 4 connections / ours", "nbdcopy"),
        ("full copy: C mTLS pump / ours", "pump"),
        ("full copy: rsync / ours", "rsync"),
    ):
        bench.add(name, found[peer] / ours, found[peer], peer)
    bench.add("5 % delta, acknowledged", delta)
    bench.add("5 % delta, applied", found["our delta, applied"])
    theirs = found["rsync's delta"]
    bench.add("5 % delta: rsync / ours", theirs / delta, theirs, "rsync")


def incremental(bench: Bench) -> None:
    """Deltas against QEMU's incremental backup of the same writes."""
    ground = bench.ground
    ours: list[float] = []
    theirs: list[float] = []
    with Pair.opened(ground) as pair, Qemu.opened(ground) as qemu:
        disk = ground.folder / "ours.raw"
        write_data(disk, ground.disk_bytes, ground.data_bytes)
        pair.add(MACHINE, disk, ground.disk_bytes)
        pair.send([MACHINE], FULL, 1)
        for run in range(bench.runs):
            pair.primary.ask(
                "change", machine=MACHINE, folder=str(ground.folder), scale=ground.scale, seed=run
            )
            qemu.write(run)
            os.sync()
            ours.append(float(pair.send([MACHINE], DELTA, 2 + run)["seconds"]))
            pair.replica.ask("applied", machines=[MACHINE])
            os.sync()
            theirs.append(qemu.incremental_seconds())
            say(f"  run {run + 1}: ours {ours[-1]:.2f} s, QEMU {theirs[-1]:.2f} s")
        disk.unlink()
    ratio = median(theirs) / median(ours)
    bench.add("5 % delta: QEMU incremental / ours", ratio, median(theirs), "QEMU")


def commits(bench: Bench) -> None:
    """A change set made durable and applied, beside the same bytes written in place and synced."""
    ground = bench.ground
    durable: list[float] = []
    in_place: list[float] = []
    with Pair.opened(ground) as pair:
        pair.renew(MACHINE, ground.disk_bytes)
        order = {"machine": MACHINE, "folder": str(ground.folder), "scale": ground.scale}
        for run in range(bench.runs):
            os.sync()
            durable.append(pair.replica.ask("commit", **order, cut=run + 1)["seconds"])
            os.sync()
            in_place.append(pair.replica.ask("in_place", **order, seed=run)["seconds"])
            say(f"  run {run + 1}: {durable[-1]:.3f} s, in place {in_place[-1]:.3f} s")
    bench.add("durable commit", median(durable) * MILLI)
    name = "durable commit / in place and fdatasync"
    bench.add(name, median(durable) / median(in_place), median(in_place) * MILLI, "pwrite")


def guest_writes(bench: Bench) -> None:
    """Processor time of a guest's write through its host, tracked or not, by turns."""
    ground = bench.ground
    found: dict[bool, list[float]] = {False: [], True: []}
    with Pair.opened(ground) as pair:
        pair.add(MACHINE, ground.source, ground.disk_bytes)
        for run in range(2 * bench.runs + 1):
            seconds = {False: 0.0, True: 0.0}
            # In short turns: what else the machine does meets both alike.
            for turn, first in enumerate(range(0, GUEST_WRITES, GUEST_TURN_WRITES)):
                for tracked in (False, True) if (run + turn) % 2 else (True, False):
                    told = pair.primary.ask(
                        "guest_writes",
                        machine=MACHINE,
                        first=first,
                        count=GUEST_TURN_WRITES,
                        tracked=tracked,
                    )
                    seconds[tracked] += float(told["seconds"])
            for tracked, each in seconds.items():
                found[tracked].append(each)
    # The first of each also fills holes of the disk.
    plain, tracked_seconds = (median(found[each][1:]) for each in (False, True))
    bench.add("guest write of 16 KiB, tracked", tracked_seconds / GUEST_WRITES * MICRO)
    slower = (tracked_seconds / plain - 1.0) * PERCENT
    name = "guest write of 16 KiB: slower by tracking"
    bench.add(name, slower, plain / GUEST_WRITES * MICRO, "not tracked, us")


def many(bench: Bench) -> None:
    """Twenty machines at once, beside one machine with as many bytes."""
    ground = bench.ground
    names = [f"machine-{index}" for index in range(MACHINES)]
    size, data = ground.disk_bytes // MACHINES, ground.data_bytes // MACHINES
    together: list[float] = []
    alone: list[float] = []
    fairness: list[float] = []
    with Pair.opened(ground) as pair:
        for name in names:
            disk = ground.folder / f"{name}.raw"
            write_data(disk, size, data)
            pair.add(name, disk, size)
        pair.add(MACHINE, ground.source, ground.disk_bytes)
        for run in range(bench.runs):
            for name in names:
                pair.renew(name, size)
            pair.renew(MACHINE, ground.disk_bytes)
            os.sync()
            told = pair.send(names, FULL, 1)
            together.append(told["bytes"] / told["seconds"])
            fairness.append(max(told["each"]) / min(told["each"]))
            os.sync()
            told = pair.send([MACHINE], FULL, 1)
            alone.append(told["bytes"] / told["seconds"])
            say(
                f"  run {run + 1}: {together[-1] / MEBI:.0f} MiB/s together, "
                f"{alone[-1] / MEBI:.0f} alone, slowest / fastest {fairness[-1]:.2f}"
            )
        peak = pair.replica.ask("figures")["peak_bytes"]
        for name in names:
            require_equal(ground.folder / f"{name}.raw", pair.copy_of(name))
            (ground.folder / f"{name}.raw").unlink()
    name = f"{MACHINES} machines at once / one: throughput"
    bench.add(name, median(together) / median(alone), median(alone) / MEBI, "one, MiB/s")
    bench.add(f"{MACHINES} machines at once: slowest / fastest", median(fairness))
    bench.add(f"{MACHINES} machines at once: memory, replica's host", peak / MEBI)


def sparse(bench: Bench) -> None:
    """A disk of 1 TiB with little on it: copied, changed, sent again."""
    ground = bench.ground
    disk = ground.folder / "sparse.raw"
    write_data(disk, SPARSE_BYTES, SPARSE_DATA_BYTES // ground.scale)
    with Pair.opened(ground) as pair:
        pair.add(MACHINE, disk, SPARSE_BYTES)
        pair.send([MACHINE], FULL, 1)
        pair.primary.ask("change", machine=MACHINE, folder=str(ground.folder), scale=8, seed=1)
        pair.send([MACHINE], DELTA, 2)
        pair.replica.ask("applied", machines=[MACHINE])
        for host, name in ((pair.primary, "primary's host"), (pair.replica, "replica's host")):
            peak = host.ask("figures")["peak_bytes"]
            bench.add(f"{SPARSE}: memory, {name}", peak / MEBI)
    disk.unlink()


STEPS: Final[tuple[tuple[str, Callable[[Bench], None]], ...]] = (
    ("copies", copies),
    ("incremental", incremental),
    ("commits", commits),
    ("guest writes", guest_writes),
    ("many machines", many),
    ("sparse disk", sparse),
)


@contextlib.contextmanager
def _ground(scale: int) -> Iterator[Ground]:
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="replication-", dir=FOLDER) as name:
        ground = Ground(Path(name).resolve(), scale)
        ground.prepare()
        yield ground


def main(runs: int, scale: int, chosen: Sequence[str]) -> int:
    """Measure, print, keep; return the exit code."""
    started = time.monotonic()
    with _ground(scale) as ground:
        say(
            f"a disk of {ground.disk_bytes / MEBI:.0f} MiB with {ground.data_bytes / MEBI:.0f} MiB"
            f" of data, {ground.change_count} scattered writes, {runs} runs"
        )
        bench = Bench(ground, runs)
        for what, work in STEPS:
            if chosen and what.split()[0] not in chosen:
                continue
            say(f"{what} ...")
            try:
                work(bench)
            except NotMeasuredError as error:
                bench.problems.append(f"{what}: {error}")
                say(f"  NOT MEASURED: {error}")
    metrics = [each for each in bench.metrics.values() if not chosen or each.value is not None]
    if not chosen:
        save(metrics, RESULT)
    say(f"\n{table(metrics)}\n")
    for problem in bench.problems:
        say(f"not measured: {problem}")
    say(f"{'' if chosen else f'{RESULT}, '}{time.monotonic() - started:.0f} s")
    return int(bool(bench.problems) or any(each.value is None for each in metrics))


if __name__ == "__main__":
    numbers = [int(each) for each in sys.argv[1:3]]
    wanted_runs, wanted_scale = [*numbers, *(RUNS, 1)[len(numbers) :]]
    sys.exit(main(wanted_runs, wanted_scale, sys.argv[3:]))
