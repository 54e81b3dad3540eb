"""An estate of one machine on two sites, raised by the lab's own command; failovers, and kills."""

import asyncio
import contextlib
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from azure.core.exceptions import ServiceRequestError
from azure.mgmt.recoveryservicessiterecovery import models

from lab.item_operations import ItemOperations, Place, create_policy, pair_clouds
from lab.layout import Layout
from lab.management_client import ManagementClient
from lab.operator_client import (
    FINISHED_STATES,
    HubAddress,
    Operator,
    failure_text,
    open_operator,
)
from lab.operator_file import OperatorFile, load_operator_file
from lab.process_table import marked_processes
from lab.registration import wait_connected
from lab.story_failover import opposite
from lab.story_protection import wait_protected
from lab.waiting import wait_for
from wire_contract.vocabulary import Direction

ROOT = Path(__file__).resolve().parents[2]
COMMAND_SECONDS_MAX = 240.0
HELD_SECONDS_MAX = 120.0
JOB_SECONDS_MAX = 180.0
SAMPLE_SECONDS = 0.05

ESTATE = """
name: kill-test
replication_interval_seconds: 1
sites:
  - name: tokyo
    vmm: {fqdn: vmm01.tokyo.contoso.example}
    host_groups: [Hosts]
    hosts: [{fqdn: hv01.tokyo.contoso.example, host_group: Hosts}]
    clouds: [{name: Cloud, host_groups: [Hosts]}]
    machines:
      - name: web01
        cloud: Cloud
        host: hv01.tokyo.contoso.example
        disks:
          - {name: system, kind: OperatingSystem, files: 8MiB, free: 8MiB}
          - {name: data, kind: Data, files: 4MiB, free: 4MiB}
  - name: osaka
    vmm: {fqdn: vmm01.osaka.contoso.example}
    host_groups: [Hosts]
    hosts: [{fqdn: hv01.osaka.contoso.example, host_group: Hosts}]
    clouds: [{name: Cloud, host_groups: [Hosts]}]
pairings:
  - {primary: tokyo/Cloud, recovery: osaka/Cloud, protect: [web01]}
"""


def given(*words: str) -> subprocess.CompletedProcess[str]:
    """Give a command in the project's folder and return how it ended; bounded."""
    return subprocess.run(
        words,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=COMMAND_SECONDS_MAX,
        check=False,
    )


def lab(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Give a command of the lab's."""
    return given(sys.executable, "-m", "lab", *arguments, "--lab", str(folder))


@contextlib.contextmanager
def raised_estate(place: Path, content: str = ESTATE, *words: str) -> Iterator[Path]:
    """Raise the estate below a folder; give the lab's folder; take everything down again."""
    estate = place / "estate.yaml"
    estate.write_text(content)
    path = place / ".lab"
    try:
        done = lab(path, "up", "--estate", str(estate), *words)
        assert done.returncode == 0, done.stdout + done.stderr
        yield path
    finally:
        done = lab(path, "down")
    assert done.returncode == 0, done.stderr
    assert marked_processes(path) == []


@dataclass(slots=True)
class World:
    """An estate with one machine, and what an operator needs."""

    folder: Path
    file: OperatorFile
    operator: Operator
    sites: dict[str, ManagementClient]
    item: ItemOperations
    seen: list[dict[str, dict[str, Any]]] = field(default_factory=list)

    async def lab(self, *arguments: str) -> None:
        """Run a command of the lab, which must succeed."""
        done = await asyncio.to_thread(lab, self.folder, *arguments)
        assert done.returncode == 0, done.stdout + done.stderr

    async def hub(self, *arguments: str) -> None:
        """Give a command of the hub's, which must succeed."""
        program = str(Path(sys.executable).with_name("service-hub"))
        config = ("--config", self.file.hub.config)
        done = await asyncio.to_thread(given, program, *arguments, *config)
        assert done.returncode == 0, done.stdout + done.stderr

    async def machine(self, site: str) -> dict[str, Any]:
        """Return a site's copy of the machine."""
        found = await self.sites[site].machine(self.item.item)
        assert found is not None
        return found


@contextlib.asynccontextmanager
async def opened_world(folder: Path) -> AsyncIterator[World]:
    """Open what an operator needs; the machine is protected when the block begins."""
    file = load_operator_file(Layout.at(folder).operator_file)
    address = HubAddress(
        file.base_url, file.ca_file, file.subscription_id, file.resource_group, file.vault
    )
    async with contextlib.AsyncExitStack() as stack:
        operator = await stack.enter_async_context(
            open_operator(address, file.token, datetime.now(UTC))
        )
        sites = {
            name: await stack.enter_async_context(
                ManagementClient(site.management_url, site.management_token, file.ca_file)
            )
            for name, site in file.sites.items()
        }
        machines = (await sites["tokyo"].inventory())["machines"]
        places = {
            name: Place.of(operator, site.fabric, site.cloud) for name, site in file.sites.items()
        }
        (web01,) = (each["hyperv_id"] for each in machines if each["name"] == "web01")
        item = ItemOperations(operator, places["tokyo"], web01, "web01")
        await protect_once(operator, places, item)
        yield World(folder, file, operator, sites, item)


async def protect_once(operator: Operator, places: dict[str, Place], item: ItemOperations) -> None:
    """Protect the machine unless an earlier test has."""
    items = operator.recovery.replication_protected_items
    if [each async for each in items.list(*operator.scope)]:
        return
    policy = await create_policy(operator, "policy", 30)
    await pair_clouds(operator, places["tokyo"], places["osaka"], policy)
    await item.enable(policy)
    await wait_protected(item)


async def held(site: ManagementClient, verb: str) -> None:
    """Return when a call of `verb` is held at a site."""

    async def look() -> bool | None:
        faults = await site.faults()
        return True if any(each["waiting"] for each in faults if each["verb"] == verb) else None

    await wait_for(f"a held {verb}", look, HELD_SECONDS_MAX)


async def begin(world: World, direction: Direction) -> str:
    """Ask for a planned failover and return the job's name, without waiting for its end."""
    names: list[str] = []

    def note(response: Any) -> None:
        location = str(response.http_response.headers["Location"])
        names.append(location.partition("?")[0].rpartition("/")[2])

    await world.operator.recovery.replication_protected_items.begin_planned_failover(
        *world.item.path,
        {"properties": {"failoverDirection": direction.value}},
        polling=False,
        raw_response_hook=note,
    )
    return names[0]


async def follow(world: World, name: str) -> models.Job:
    """Return the job once it has ended, the hub's absence in between borne."""

    async def look() -> models.Job | None:
        try:
            job = await world.operator.recovery.replication_jobs.get(*world.operator.scope, name)
        except ServiceRequestError:
            return None
        assert job.properties is not None
        return job if job.properties.state in FINISHED_STATES else None

    return await wait_for(f"the end of job {name}", look, JOB_SECONDS_MAX)


async def watch(world: World, stop: asyncio.Event) -> None:
    """Look at both copies again and again."""
    while not stop.is_set():
        world.seen.append({name: await world.machine(name) for name in world.sites})
        await asyncio.sleep(SAMPLE_SECONDS)


async def fail_over_with_a_kill(
    world: World,
    direction: Direction,
    *,
    verb: str,
    at: str,
    victim: str,
    lost: str | None = None,
) -> None:
    """Fail over; kill `victim` while `verb` is held at site `at`, and start it again.

    The files that are `lost` are deleted in between.
    """
    site = world.sites[at]
    source, target = ("tokyo", "osaka")
    if direction is Direction.RECOVERY_TO_PRIMARY:
        source, target = target, source
    before = int((await world.machine(source))["epoch"])
    await site.replace_faults([{"verb": verb, "machine": None, "kind": "hold"}])
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(watch(world, stop))
        name = await begin(world, direction)
        await held(site, verb)
        await world.lab("kill", victim, "--signal", "9")
        if lost is not None:
            files = list(world.folder.glob(lost))
            assert files
            for file in files:
                file.unlink()
        await world.lab("start", victim)
        await site.replace_faults([])
        job = await follow(world, name)
        stop.set()
    assert job.properties is not None
    assert job.properties.state == "Succeeded", failure_text(job)
    assert (await world.machine(source))["run_state"] == "Off"
    taken_over = await world.machine(target)
    assert taken_over["run_state"] == "Running"
    assert taken_over["epoch"] > before
    assert_nothing_happened_twice(await world.sites[target].effects(), name)
    assert_never_two(world.seen)
    await commit_and_reverse(world, direction)


async def commit_and_reverse(world: World, direction: Direction) -> None:
    """Make the machine ready for the way back."""
    fqdns = [f"vmm01.{name}.contoso.example" for name in world.sites]
    await wait_connected(world.operator, fqdns)
    await world.item.commit()
    await world.item.reverse_replicate(opposite(direction))
    await wait_protected(world.item)


def assert_nothing_happened_twice(effects: Sequence[dict[str, Any]], job: str) -> None:
    """One line of the durable ledger per command, and one success per verb of this job."""
    own = [each for each in effects if each["command_id"].startswith(f"{job}/")]
    assert own
    commands = Counter(each["command_id"] for each in own)
    assert max(commands.values()) == 1, commands
    done = Counter(each["verb"] for each in own if each["outcome"] == "succeeded")
    assert done["fail_over"] == 1
    assert done["start"] == 1


def assert_never_two(seen: Sequence[dict[str, dict[str, Any]]]) -> None:
    """In no look at both sites did two copies run under the newest epoch."""
    assert seen
    for copies in seen:
        newest = max(copy["epoch"] for copy in copies.values())
        running = [
            name
            for name, copy in copies.items()
            if copy["run_state"] == "Running" and copy["epoch"] == newest
        ]
        assert len(running) <= 1, copies


async def fail_over(world: World, direction: Direction) -> None:
    """Fail over as planned, in one step, which must succeed."""
    job = await follow(world, await begin(world, direction))
    assert job.properties is not None
    assert job.properties.state == "Succeeded", failure_text(job)
