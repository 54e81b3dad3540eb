"""`make bench-channel`: measures the channel, prints a table, writes .bench/channel.json.

    python -m benchmarks.channel [PROVIDERS]

Exit 0: everything was measured (a goal that was missed is said, and is no error); 1 otherwise.
"""

import asyncio
import base64
import json
import platform
import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from benchmarks.channel.figures import (
    CATALOGUE,
    MILLISECONDS,
    Metric,
    median,
    percentile,
    save,
    table,
)
from benchmarks.channel.processes import (
    Crowd,
    Hub,
    NotMeasuredError,
    bare_server,
    crowd,
    free_ports,
    mosquitto,
    wait_until,
)
from benchmarks.channel.provision import HEARTBEAT_SECONDS, Ground, provision, write_configuration
from service_shell.clock import SystemClock
from wire_contract.topics import event_topic

PROVIDERS: Final = 1000
PROCESSES: Final = 2
RUNS: Final = 5
EVENTS: Final = 200
PACE_SECONDS: Final = 0.05
ARRIVAL_SECONDS_MAX: Final = 60.0
RECONNECT_SECONDS_MAX: Final = 180.0
KB: Final = 1024
HEADER_BYTES: Final = 2400
SIGNATURE_BYTES: Final = 500
"""With these a published payload is as long as a signed event with its two certificates."""

RESULT: Final = Path(".bench/channel.json")


def _same_chance() -> random.Random:
    return random.Random(7)  # noqa: S311 -- which providers get an event, the same in every run


@dataclass(slots=True)
class Bench:
    """A run: what was provisioned, the processes, and what was found."""

    ground: Ground
    ground_file: Path
    hub: Hub
    metrics: dict[str, Metric] = field(default_factory=lambda: dict(CATALOGUE))
    problems: list[str] = field(default_factory=list)
    committed: dict[str, list[float]] = field(default_factory=dict)
    chance: random.Random = field(default_factory=_same_chance)

    @property
    def names(self) -> list[str]:
        """The providers of the large crowd; the last one stands alone."""
        return [each.provider_id for each in self.ground.providers[:-1]]

    def add(
        self, name: str, value: float, baseline: float | None = None, peer: str | None = None
    ) -> None:
        """Keep a figure and say it at once."""
        self.metrics[name] = replace(CATALOGUE[name], value=value, baseline=baseline, peer=peer)
        say(f"  {name}: {value:.4g}")

    def add_latency(self, way: str, samples: Sequence[float]) -> None:
        """Keep median and 99th percentile of milliseconds from commit to journal."""
        for name, part in (("p50", 0.5), ("p99", 0.99)):
            self.add(f"{way}: commit to journal, {name}", percentile(samples, part))

    def commit(self, names: Sequence[str]) -> None:
        """Commit one event for each name at once."""
        before = self.hub.commit(self.ground, names)
        for name in names:
            self.committed.setdefault(name, []).append(before)

    def pace(self, names: Sequence[str]) -> None:
        """Commit event after event, at an even pace."""
        for name in names:
            self.commit([name])
            time.sleep(PACE_SECONDS)

    def due(self, names: Sequence[str]) -> int:
        """Return how many events these providers must have written down."""
        return sum(len(self.committed.get(name, ())) for name in names)

    def arrived(self, people: Crowd, names: Sequence[str], seconds: float) -> None:
        """Return once everything that was committed is written down."""
        wait_until(
            lambda: people.count("written") >= self.due(names), "all events are written", seconds
        )

    def receipts(self, people: Crowd) -> None:
        """Let all receipts be reported now, and go on when the hub has them."""
        people.ask("start", what="report")
        wait_until(
            lambda: people.count("unreported") == 0, "receipts are reported", ARRIVAL_SECONDS_MAX
        )
        people.ask("stop", what="report")

    def latencies(self, people: Crowd, marks: dict[str, int], names: Sequence[str]) -> list[float]:
        """Return milliseconds from commit to journal of what came after the marks."""
        journal = people.journal()
        return [
            (journal[name][seq] - self.committed[name][seq - 1]) * MILLISECONDS
            for name in set(names)
            for seq in range(marks.get(name, 0) + 1, len(self.committed[name]) + 1)
        ]

    def marks(self) -> dict[str, int]:
        """Return how many events were committed for each provider until now."""
        return {name: len(moments) for name, moments in self.committed.items()}


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def one_provider(bench: Bench) -> None:
    """Latency with one provider, which journals as a real agent does; then by long poll."""
    name = bench.ground.providers[-1].provider_id
    with crowd(bench.ground_file, [(len(bench.names), 1)]) as alone:
        alone.ask("connect")
        alone.ask("start", what="listen")
        alone.ask("start", what="report")
        for way in ("MQTT", "long poll"):
            if way == "long poll":
                alone.ask("disconnect")
                alone.ask("start", what="poll")
            bench.commit([name])
            bench.arrived(alone, [name], ARRIVAL_SECONDS_MAX)
            marks = bench.marks()
            bench.pace([name] * EVENTS)
            bench.arrived(alone, [name], ARRIVAL_SECONDS_MAX)
            bench.add_latency(f"1 provider, {way}", bench.latencies(alone, marks, [name]))


def connects(bench: Bench, people: Crowd) -> None:
    """Connects per second beside bare TLS, interleaved; memory at the first crowd."""
    count, ours, bare = len(bench.names), [], []
    before = bench.hub.memory_bytes()
    with bare_server(bench.ground_file) as port:
        for run in range(RUNS):
            ours.append(count / people.span("connect"))
            if run == 0:
                per_connection = (bench.hub.memory_bytes() - before) / count / KB
            bare.append(count / people.span("bare", port=port))
            if run < RUNS - 1:
                people.ask("disconnect")
    rate, base = median(ours), median(bare)
    peer = f"asyncio.start_server, uvloop, TLS 1.3, Python {platform.python_version()}"
    bench.add("memory per connected provider", per_connection)
    bench.add("connects per second", rate, base, peer)
    bench.add("connects per second / bare mTLS", rate / base, base, peer)


def fan_out(bench: Bench, people: Crowd) -> None:
    """One event for each provider, in one transaction, beside mosquitto; receipts come later.

    Ours is counted twice: from the beginning of the commit, and from the first publication as
    mosquitto's is.
    """
    ours, published, theirs, shares = [], [], [], _shares(len(bench.names))
    with (
        mosquitto(bench.ground_file.parent, bench.ground) as (port, peer),
        crowd(bench.ground_file, shares, port) as others,
        crowd(bench.ground_file, [(len(bench.names), 1)], port) as publisher,
    ):
        others.ask("connect")
        others.ask("start", what="listen")
        publisher.ask("connect")
        publisher.ask("start", what="listen")
        topics = [event_topic(name) for name in bench.names]
        for run in range(RUNS):
            marks = bench.marks()
            bench.commit(bench.names)
            bench.arrived(people, bench.names, ARRIVAL_SECONDS_MAX)
            ours.append(percentile(bench.latencies(people, marks, bench.names), 0.99))
            began = bench.hub.first_publication() - bench.committed[bench.names[0]][-1]
            published.append(ours[-1] - began * MILLISECONDS)
            bench.receipts(people)
            before = publisher.ask("publish", topics=topics, payload=_like_an_event(run + 1))[0][
                "before"
            ]
            wanted = (run + 1) * len(topics)
            wait_until(
                lambda wanted=wanted: others.count("written") >= wanted,  # type: ignore[misc]
                "mosquitto has delivered",
                ARRIVAL_SECONDS_MAX,
            )
            late = [lines[run + 1] - before for lines in others.journal().values()]
            theirs.append(percentile([each * MILLISECONDS for each in late if each], 0.99))
    base = median(theirs)
    for way, samples in (("commit", ours), ("first publish", published)):
        mine = median(samples)
        bench.add(f"fan-out to all, from {way}, p99", mine, base, peer)
        bench.add(f"fan-out to all, from {way}, p99 / bare mosquitto", mine / base, base, peer)


def with_all_connected(bench: Bench, people: Crowd) -> None:
    """Latency of single events while everybody is connected."""
    people.ask("start", what="report")
    names = bench.chance.choices(bench.names, k=EVENTS)
    marks = bench.marks()
    bench.pace(names)
    bench.arrived(people, bench.names, ARRIVAL_SECONDS_MAX)
    bench.add_latency("all providers, MQTT", bench.latencies(people, marks, names))


def with_publishes_dropped(bench: Bench, people: Crowd) -> None:
    """Latency when every publish and hint is lost after its PUBACK: only heartbeats tell."""
    people.ask("drops", value=True)
    people.ask("start", what="beat")
    names = bench.chance.sample(bench.names, min(EVENTS, len(bench.names)))
    marks = bench.marks()
    bench.commit(names)
    bench.arrived(people, bench.names, HEARTBEAT_SECONDS + ARRIVAL_SECONDS_MAX)
    bench.add_latency("all providers, publishes dropped", bench.latencies(people, marks, names))
    people.ask("stop", what="beat")
    people.ask("drops", value=False)


def after_a_restart(bench: Bench, people: Crowd) -> None:
    """SIGKILL right after a commit for everybody: who comes back, and what was lost or doubled."""
    bench.commit(bench.names)
    bench.hub.kill()
    bench.hub.start()
    started, count = time.monotonic(), len(bench.names)
    deadline = started + RECONNECT_SECONDS_MAX
    while (connected := people.count("connected")) < count and time.monotonic() < deadline:
        time.sleep(PACE_SECONDS)
    back = time.monotonic() - started
    bench.add("hub restart: providers lost", float(count - connected))
    bench.arrived(people, bench.names, ARRIVAL_SECONDS_MAX)
    journal = people.journal()
    wrong = sum(
        sorted(journal[name]) != list(range(1, len(bench.committed[name]) + 1))
        for name in bench.names
    )
    bench.add("hub restart: until all are connected again", back)
    bench.add("hub restart: providers with a lost or doubled event", float(wrong))


def by_long_poll(bench: Bench, people: Crowd) -> None:
    """Latency of single events while nobody has MQTT."""
    people.ask("stop", what="stay")
    people.ask("disconnect")
    people.ask("start", what="poll")
    bench.commit(bench.names)
    bench.arrived(people, bench.names, ARRIVAL_SECONDS_MAX)
    # Everybody has opened its connections with that; what is measured are single events after it.
    wait_until(
        lambda: people.count("unreported") == 0, "receipts are reported", ARRIVAL_SECONDS_MAX
    )
    names = bench.chance.choices(bench.names, k=EVENTS)
    marks = bench.marks()
    bench.pace(names)
    bench.arrived(people, bench.names, ARRIVAL_SECONDS_MAX)
    bench.add_latency("all providers, long poll", bench.latencies(people, marks, names))


def run(folder: Path, count: int) -> Bench:
    """Measure everything; what cannot be measured has no value."""
    clock = SystemClock()
    first, second, third = free_ports(3)
    config = write_configuration(folder, (first, second, third))
    say(f"{count} registered providers and a hub in {folder} ...")
    ground = asyncio.run(provision(config, count + 1, clock))
    ground_file = folder / "ground.json"
    ground.save(ground_file)
    bench = Bench(ground, ground_file, Hub(config))
    try:
        bench.hub.start()
        _step(bench, "one provider", lambda: one_provider(bench))
        with crowd(ground_file, _shares(count)) as people:
            _step(bench, "connects and memory", lambda: connects(bench, people))
            people.ask("start", what="stay")
            for what, work in (
                ("fan-out", fan_out),
                ("all connected", with_all_connected),
                ("publishes dropped", with_publishes_dropped),
                ("hub restart", after_a_restart),
                ("long poll", by_long_poll),
            ):
                _step(bench, what, lambda work=work: work(bench, people))  # type: ignore[misc]
    except NotMeasuredError as error:
        bench.problems.append(f"the run ended early: {error}")
    finally:
        bench.hub.close()
    return bench


def _step(bench: Bench, what: str, work: Callable[[], None]) -> None:
    say(f"{what} ...")
    try:
        work()
    except NotMeasuredError as error:
        bench.problems.append(f"{what}: {error}")
        say(f"  NOT MEASURED: {error}")


def _like_an_event(seq: int) -> str:
    """Return what has the size and the form of a signed event."""
    body = base64.urlsafe_b64encode(json.dumps({"id": "bench", "seq": seq}).encode()).decode()
    return f"{'h' * HEADER_BYTES}.{body}.{'s' * SIGNATURE_BYTES}"


def _shares(count: int) -> list[tuple[int, int]]:
    size = count // PROCESSES
    shares = [(number * size, size) for number in range(PROCESSES)]
    return [*shares[:-1], (shares[-1][0], count - shares[-1][0])]


def main(count: int) -> int:
    """Measure, print, keep; return the exit code."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="bench-channel-") as folder:
        bench = run(Path(folder), count)
    metrics = list(bench.metrics.values())
    save(metrics, RESULT)
    say(f"\n{count} providers\n{table(metrics)}\n")
    for problem in bench.problems:
        say(f"not measured: {problem}")
    say(f"{RESULT}, {time.monotonic() - started:.0f} s")
    return int(any(each.value is None for each in metrics))


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else PROVIDERS))
