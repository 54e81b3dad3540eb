"""Two real hubs on one real PostgreSQL, two real sites with real agents: one bad day after another.

Every story begins with all machines protected, asks for a planned failover of each, breaks
something in the middle, and ends with every job succeeded and every effect in the fabrics' durable
ledgers exactly once. One world serves all stories: what one of them left behind, the next would
find.
"""

import asyncio
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from certs.tls import client_context
from lab.waiting import wait_for
from tests.support.busy_estate import assert_every_effect_once
from tests.support.hub_process import HubProcess
from tests.support.hubs_world import FAILOVER_VERBS, HubsWorld, hubs_world
from tests.support.postgres_server import PostgresServer, running_server
from tests.support.real_hub import send
from tests.support.relay import Relay

MACHINES = 3
LEASE_SECONDS = 2.0
TAKEN_UP_SECONDS_MAX = 40.0

pytestmark = [pytest.mark.needs("postgresql"), pytest.mark.asyncio(loop_scope="module")]


class Days:
    """The world of all stories of this file."""

    def __init__(self, world: HubsWorld, server: PostgresServer, database: str) -> None:
        self.world = world
        self.server = server
        self.database = database
        self.wires: dict[str, Relay] = {}

    @property
    def hubs(self) -> tuple[HubProcess, HubProcess]:
        """Both hubs: the one that is asked, and the other."""
        first, second = self.world.hubs
        return first, second

    def holders(self) -> dict[str, int]:
        """Return how many leases each owner has, by the database."""
        rows = self.server.run(
            "SELECT owner, count(*) FROM job_lease GROUP BY owner", self.database
        )
        return {row.split("|")[0]: int(row.split("|")[1]) for row in rows.splitlines()}

    def go_to(self, hub: HubProcess) -> None:
        """Have operators and both agents reach this hub."""
        self.world.doors.lead_to(hub)
        self.world.connect(hub)

    async def begun_at(self, hub: HubProcess) -> list[str]:
        """Ask this hub for failovers, whose first verbs the source then holds; their jobs."""
        self.go_to(hub)
        await self.world.hold("shut_down", self.world.source)
        jobs = await self.world.begin_failovers()
        await self.world.held("shut_down", self.world.source, MACHINES)
        return jobs

    def taken_up_by(self, hub: HubProcess) -> set[str]:
        """Return the jobs that a hub has taken up since the world began."""
        return {line["job_id"] for line in hub.lines("job_taken_up")}

    async def until_taken_up(self, hub: HubProcess, jobs: list[str]) -> None:
        """Return when a hub has taken all of them up."""

        async def look() -> bool | None:
            return True if self.taken_up_by(hub) >= set(jobs) else None

        await wait_for(f"{hub.name} to take the jobs up", look, TAKEN_UP_SECONDS_MAX)

    async def until_idle(self, hub: HubProcess) -> None:
        """Return when a hub answers, reaches the database, and holds no job."""
        root = client_context((hub.settings.trust_directory / "root.pem").read_text())
        place = (hub.settings.operator.port, root)

        async def look() -> bool | None:
            answer = await asyncio.to_thread(send, place, "GET", "/health", b"", {})
            return True if answer.content["held_jobs"] == 0 else None

        await wait_for(f"{hub.name} to hold nothing", look, TAKEN_UP_SECONDS_MAX)

    async def all_is_well(self, jobs: list[str]) -> None:
        """Every job has succeeded with each effect once; then be ready for the next story.

        Whichever hub is away is started for it.
        """
        await self.world.ended(jobs)
        effects = await self.world.sites.effects()
        for job in jobs:
            assert_every_effect_once(effects, job, FAILOVER_VERBS)

        async def nobody_holds() -> bool | None:
            return True if self.holders() == {} else None

        # A lease ends once what follows from its job's end has begun.
        await wait_for("the leases of jobs that ended to end", nobody_holds, TAKEN_UP_SECONDS_MAX)
        for hub in self.hubs:
            if not hub.is_running:
                await hub.start()
        self.go_to(self.hubs[0])
        await self.world.settle()


@pytest.fixture(scope="module")
def server() -> Any:
    with running_server() as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def days(
    tmp_path_factory: pytest.TempPathFactory,
    server: PostgresServer,
    ports: Callable[[], int],
) -> AsyncIterator[Days]:
    folder: Path = tmp_path_factory.mktemp("hubs")
    database = server.create_database()
    async with Relay.opened(server.port) as first, Relay.opened(server.port) as second:
        wires = {"first": first, "second": second}
        further = {
            name: {
                "hub_name": name,
                "database": server.settings(database, folder / f"{name}.pw", wire.port),
                "jobs": {"lease_seconds": LEASE_SECONDS},
            }
            for name, wire in wires.items()
        }
        async with hubs_world(
            folder, ports, names=tuple(wires), further=further, machine_count=MACHINES
        ) as world:
            made = Days(world, server, database)
            made.wires = wires
            yield made


async def test_any_hub_answers_and_a_provider_may_be_connected_to_another_than_the_jobs_holder(
    days: Days,
) -> None:
    world, (first, second) = days.world, days.hubs
    tokyo, osaka = world.sites.agents["tokyo"], world.sites.agents["osaka"]
    tokyo.lead_to(second.settings.provider.port, second.settings.mqtt.port)
    osaka.lead_to(first.settings.provider.port, first.settings.mqtt.port)
    jobs = await world.begin_failovers()
    await world.ended(jobs)
    for hub in days.hubs:
        world.doors.lead_to(hub)
        for job in jobs:
            shown = await world.job(job)
            assert shown is not None
            assert shown.properties is not None
            assert shown.properties.state == "Succeeded"
    await days.all_is_well(jobs)


async def test_killed_in_the_middle_the_other_hub_ends_what_it_began(days: Days) -> None:
    world, (first, second) = days.world, days.hubs
    jobs = await days.begun_at(first)
    await first.kill()
    days.go_to(second)
    await world.let_go(world.source)
    await days.all_is_well(jobs)
    assert days.taken_up_by(second) >= set(jobs)


async def test_a_hub_that_is_paused_beyond_its_lease_is_refused_when_it_wakes(days: Days) -> None:
    world, (first, second) = days.world, days.hubs
    jobs = await days.begun_at(first)
    first.pause()
    # The providers' reports reach the paused hub, and are read by it when it wakes.
    await world.let_go(world.source)
    await days.until_taken_up(second, jobs)
    days.go_to(second)
    await world.ended(jobs)
    before = await world.sites.effects()
    first.resume()
    await days.until_idle(first)
    assert await world.sites.effects() == before
    await days.all_is_well(jobs)


async def test_the_database_crashes_under_load_and_comes_back(days: Days) -> None:
    world, (first, _) = days.world, days.hubs
    jobs = await days.begun_at(first)
    await asyncio.to_thread(days.server.stop, signal.SIGQUIT)
    await world.let_go(world.source)
    await world.hold("fail_over", world.target)
    await asyncio.to_thread(days.server.start)
    await world.held("fail_over", world.target, MACHINES)
    # Once more, now with all connections ended one by one.
    assert await asyncio.to_thread(days.server.end_connections, days.database) > 0
    await world.let_go(world.target)
    await days.all_is_well(jobs)


@pytest.mark.parametrize("how", ["cut", "silent"])
async def test_a_hub_that_cannot_reach_the_database_loses_its_jobs_and_comes_back(
    days: Days, how: str
) -> None:
    world, (first, second) = days.world, days.hubs
    wire = days.wires["first"]
    jobs = await days.begun_at(first)
    if how == "cut":
        wire.lead_to(None)
    else:
        wire.silence()
    await world.let_go(world.source)
    await days.until_taken_up(second, jobs)
    days.go_to(second)
    await world.ended(jobs)
    before = await world.sites.effects()
    if how == "cut":
        wire.lead_to(days.server.port)
    else:
        wire.speak()
    await days.until_idle(first)
    assert await world.sites.effects() == before
    await days.all_is_well(jobs)


async def test_hubs_are_restarted_one_after_the_other_and_no_job_stops(days: Days) -> None:
    world, (first, second) = days.world, days.hubs
    jobs = await days.begun_at(first)
    await first.stop()
    days.go_to(second)
    await days.until_taken_up(second, jobs)
    await first.start()
    await second.stop()
    days.go_to(first)
    await days.until_taken_up(first, jobs)
    await second.start()
    await world.let_go(world.source)
    await days.all_is_well(jobs)


async def test_no_command_was_taken_twice_on_any_of_these_days(
    days: Days, tell: Callable[[str], None]
) -> None:
    accepted = Counter(
        line["command_id"] for line in days.world.receipts("accepted") if line["command_id"]
    )
    assert accepted
    assert max(accepted.values()) == 1, accepted.most_common(3)
    doubled = len(days.world.receipts("duplicate"))
    refused = Counter(line["reason"] for line in days.world.receipts("refused"))
    assert set(refused) <= {"lower_fence", "lower_epoch"}, refused
    tell(f"hubs: {len(accepted)} commands, {doubled} doubled, {refused.total()} refused")
