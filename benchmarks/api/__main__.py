"""`make bench-api`: measures the ARM surface, prints a table, writes .bench/api.json.

The hub is the real one in its own process; its jobs are made by requests (a commit of items that
were not failed over: jobs that fail in their first task). Exit 0: everything was measured.
"""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Final
from uuid import UUID

import aiohttp
import uvloop

from benchmarks.api import catalogue
from benchmarks.channel.figures import MILLISECONDS, Metric, median, percentile, save, table
from benchmarks.channel.processes import NotMeasuredError, end, free_ports, wait_until
from benchmarks.channel.provision import HOST, Ground, provision, write_configuration
from certs.tls import client_context
from certs.tokens import issue_operator_token
from service_hub.config import HubSettings
from service_hub.domain.protection import ProtectionState
from service_hub.domain.records import ContainerMapping, ProtectedItem, ReplicationPolicy
from service_hub.ports.changes import NEW, Change, Save
from service_hub.store.database import open_store
from service_hub.trust import load
from service_shell.clock import SystemClock
from service_shell.configuration import load_configuration

ITEMS: Final = 1_000
JOBS_FEW: Final = 1_000
JOBS: Final = 10_000
CONNECTIONS: Final = 8
SECONDS: Final = 2.0
RUNS: Final = 3
POLLED: Final = 1_000
POLL_SECONDS: Final = 10
READY_SECONDS_MAX: Final = 60.0
VERSION: Final = "api-version=2025-08-01"
TAKE: Final = "$take=100"
RESULT: Final = Path(".bench/api.json")


@dataclass(slots=True)
class Bench:
    """A run: the hub, its client, and what was found."""

    session: aiohttp.ClientSession
    hub_url: str
    bare_url: str
    pid: int
    metrics: dict[str, Metric] = field(default_factory=lambda: dict(catalogue.CATALOGUE))

    def add(self, name: str, value: float, baseline: float | None = None) -> None:
        """Keep a figure and say it at once."""
        peer = None if baseline is None else f"aiohttp {aiohttp.__version__}, same TLS, same bytes"
        found = catalogue.CATALOGUE[name]
        self.metrics[name] = replace(found, value=value, baseline=baseline, peer=peer)
        sys.stdout.write(f"  {name}: {value:.4g}\n")
        sys.stdout.flush()

    async def get(self, url: str) -> bytes:
        """Return an answer, which must be 200."""
        async with self.session.get(url) as answer:
            body = await answer.read()
            if answer.status != 200:  # noqa: PLR2004 -- HTTP's OK
                raise NotMeasuredError(f"{url}: {answer.status} {body[:300]!r}")
            return body

    async def measured(self, name: str, path: str) -> None:
        """Measure a path at the hub and its bytes at the bare handler, by turns."""
        bare = f"{self.bare_url}/{catalogue.ASKED.index(name)}"
        rates: dict[str, list[float]] = {"hub": [], "bare": []}
        taken: dict[str, list[float]] = {"hub": [], "bare": []}
        for _ in range(RUNS):
            for who, url in (("hub", f"{self.hub_url}{path}"), ("bare", bare)):
                times = await self._load(url)
                rates[who].append(len(times) / SECONDS)
                taken[who] += times
        rate, base = median(rates["hub"]), median(rates["bare"])
        slow, quick = (percentile(taken[who], 0.99) * MILLISECONDS for who in ("hub", "bare"))
        self.add(f"{name}: per second", rate, base)
        self.add(f"{name}: per second / bare handler", rate / base, base)
        self.add(f"{name}: p99", slow, quick)
        self.add(f"{name}: p99 / bare handler", slow / quick, quick)

    async def _load(self, url: str) -> list[float]:
        """Return how long each request took that was sent in a while over some connections."""
        times: list[float] = []
        until = time.monotonic() + SECONDS

        async def ask() -> None:
            while (begun := time.monotonic()) < until:
                await self.get(url)
                times.append(time.monotonic() - begun)

        await _at_once(ask, CONNECTIONS)
        return times

    async def made_jobs(self, item: str, count: int) -> list[str]:
        """Have jobs made; return where clients poll for them."""
        left, urls = iter(range(count)), list[str]()

        async def ask() -> None:
            for _ in left:
                url = f"{self.hub_url}{item}/failoverCommit?{VERSION}"
                async with self.session.post(url) as answer:
                    urls.append(answer.headers["Azure-AsyncOperation"])

        await _at_once(ask, CONNECTIONS)
        return urls

    async def polled(self, urls: Sequence[str]) -> float:
        """Return the cores that the hub needs while each of them is asked for every second."""
        before, begun = _cpu_seconds(self.pid), time.monotonic()

        async def ask(number: int, url: str) -> None:
            for second in range(POLL_SECONDS):
                due = begun + second + number / len(urls)
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                await self.get(url)

        async with asyncio.TaskGroup() as group:
            for number, url in enumerate(urls):
                group.create_task(ask(number, url))
        return (_cpu_seconds(self.pid) - before) / (time.monotonic() - begun)


async def _at_once(ask: Callable[[], Awaitable[None]], count: int) -> None:
    async with asyncio.TaskGroup() as group:
        for _ in range(count):
            group.create_task(_awaited(ask))


async def _awaited(ask: Callable[[], Awaitable[None]]) -> None:
    await ask()


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def furnish(settings: HubSettings, ground: Ground) -> None:
    """Write a pairing and its protected items straight into the hub's database."""
    primary, recovery = (each.provider_id for each in ground.providers)
    vault_id = ground.vault_id
    policy = ReplicationPolicy(
        id="policy", vault_id=vault_id, name="p", provider_type="HyperVReplica2012R2"
    )
    ends = {
        "policy_id": "policy",
        "primary_provider_id": primary,
        "primary_cloud_id": "tokyo",
        "recovery_provider_id": recovery,
        "recovery_cloud_id": "osaka",
    }
    mapping = ContainerMapping(
        id="mapping", vault_id=vault_id, name="m", mapping_state="Paired", **ends
    )
    saves: list[Save] = [Save(policy, NEW), Save(mapping, NEW)]
    for number in range(ITEMS):
        name = str(UUID(int=(1 << 100) + number))
        item = ProtectedItem(
            id=name,
            vault_id=vault_id,
            friendly_name=f"web{number}",
            mapping_id="mapping",
            primary_machine_id=name,
            primary_host="a.example",
            recovery_machine_id=str(UUID(int=(1 << 101) + number)),
            recovery_host="b.example",
            relationship_id=str(UUID(int=(1 << 102) + number)),
            state=ProtectionState.PROTECTED,
            **ends,
        )
        saves.append(Save(item, NEW))
    async with open_store(settings.database_file) as store:
        for begin in range(0, len(saves), 500):
            await store.apply([Change(saves=saves[begin : begin + 500])])


async def measure(bench: Bench, folder: Path, start_bare: Callable[[], str]) -> None:
    """Measure everything."""
    vault = (
        "/subscriptions/bench/resourceGroups/bench/providers/Microsoft.RecoveryServices/vaults"
        "/bench"
    )
    items = f"{vault}/replicationProtectedItems?{VERSION}&{TAKE}"
    first = json.loads(await bench.get(f"{bench.hub_url}{items}"))["value"][0]["id"]
    jobs = f"{vault}/replicationJobs?{VERSION}&{TAKE}"
    urls = await bench.made_jobs(first, JOBS_FEW)
    asked = {catalogue.ITEM: f"{first}?{VERSION}", catalogue.ITEMS: items, catalogue.JOBS_FEW: jobs}
    for name in catalogue.ASKED:
        body = await bench.get(f"{bench.hub_url}{asked.get(name, jobs)}")
        (folder / str(catalogue.ASKED.index(name))).write_bytes(body)
    bench.bare_url = start_bare()
    for name, path in asked.items():
        await bench.measured(name, path)
    bench.add(catalogue.LRO, await bench.polled(urls[:POLLED]))
    await bench.made_jobs(first, JOBS - JOBS_FEW)
    await bench.measured(catalogue.JOBS, jobs)
    few, many = (
        bench.metrics[f"{name}: per second"].value for name in (catalogue.JOBS_FEW, catalogue.JOBS)
    )
    if few and many:
        bench.add(catalogue.GROWTH, few / many, few)


async def run(folder: Path) -> dict[str, Metric]:
    """Start hub and bare handler, measure, and end them."""
    ports = free_ports(3)
    config = write_configuration(folder, (ports[0], ports[1], ports[2]))
    settings = load_configuration(config, HubSettings)
    ground = await provision(config, 2, SystemClock())
    await furnish(settings, ground)
    now = SystemClock().now()
    token = issue_operator_token(
        load(settings, now).token_key,
        issuer=settings.public_url,
        principal="bench",
        role="Owner",
        now=now,
        lifetime=timedelta(hours=1),
        token_id="bench",  # noqa: S106 -- a name
    )
    ground_file, bodies = folder / "ground.json", folder / "bodies"
    ground.save(ground_file)
    bodies.mkdir()
    processes: list[subprocess.Popen[str]] = []

    def start(*command: str | Path) -> "subprocess.Popen[str]":
        process = subprocess.Popen(  # noqa: S603 -- our own programs
            [str(each) for each in command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        return process

    def start_bare() -> str:
        started = start(sys.executable, "-m", "benchmarks.api.bare_handler", ground_file, bodies)
        assert started.stdout is not None
        return f"https://{HOST}:{int(started.stdout.readline())}"

    try:
        hub = start(Path(sys.executable).with_name("service-hub"), "run", "--config", config)
        wait_until((folder / "ready.json").exists, "the hub serves", READY_SECONDS_MAX)
        connector = aiohttp.TCPConnector(ssl=client_context(ground.root_pem), limit=64)
        headers = {"Authorization": f"Bearer {token}"}
        async with aiohttp.ClientSession(connector=connector, headers=headers) as session:
            bench = Bench(session, settings.public_url, "", hub.pid)
            await measure(bench, bodies, start_bare)
        return bench.metrics
    finally:
        for process in processes:
            end(process)


def main() -> int:
    """Measure, print and save."""
    with (
        tempfile.TemporaryDirectory() as folder,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        metrics = [*runner.run(run(Path(folder))).values()]
    sys.stdout.write(table(metrics) + "\n")
    save(metrics, RESULT)
    return 0 if all(each.value is not None for each in metrics) else 1


if __name__ == "__main__":
    sys.exit(main())
