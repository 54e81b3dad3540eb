"""Jobs of the real engine while the hub's disk is full and while its clock jumps."""

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog

from service_hub.domain.errors import StorageUnavailableError
from service_hub.domain.jobs import JobState, TaskState
from service_hub.domain.protection import Operation, ProtectionState
from service_hub.domain.records import Alert
from service_hub.ports.changes import Change, Save
from tests.support.hub_stories import ask, protected, until_done
from tests.support.hub_world import HubWorld, hub_world
from tests.support.small_disk import SmallDisk, small_disk
from wire_contract.events import Assignment

DISK_KIBIBYTES = 8192
TRIES_MAX = 500
WAIT_SECONDS_MAX = 20
HOUR = timedelta(hours=1)
LEASE = timedelta(minutes=5)


@pytest.fixture(autouse=True)
def told() -> Iterator[list[Any]]:
    """What is logged: shown on a console, each trace would cost more than the test."""
    with structlog.testing.capture_logs() as lines:
        yield lines


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "disk", DISK_KIBIBYTES) as given:
        yield given


async def write_until_refused(world: HubWorld) -> None:
    """Use up what the database's files have of room in themselves."""
    for number in range(TRIES_MAX):
        alert = Alert(
            id=f"alert-{number}",
            vault_id="vault",
            provider_id="tokyo-provider",
            code="TwoSessions",
            message="x" * 500,
            raised_at=world.clock.now(),
        )
        try:
            await world.committer.commit(Change(saves=(Save(alert, None),)))
        except StorageUnavailableError:
            return
    pytest.fail("the disk never became full")


async def next_assignment(world: HubWorld, job_id: str, site: str) -> Assignment:
    async with asyncio.timeout(WAIT_SECONDS_MAX):
        while True:
            found = [each for each in await world.assignments(site) if each.job == job_id]
            if found:
                return found[-1]
            await asyncio.sleep(0.01)


async def test_a_job_waits_while_the_disk_is_full_and_goes_on_once_there_is_room(
    disk: SmallDisk,
) -> None:
    async with hub_world(disk.folder) as world:
        await protected(world)
        job_id = await ask(world, Operation.PLANNED_FAILOVER)
        first = await next_assignment(world, job_id, "tokyo")
        disk.fill()
        await write_until_refused(world)
        with pytest.raises(StorageUnavailableError, match="nothing was stored"):
            await world.outcome("tokyo", first)
        with pytest.raises(StorageUnavailableError):
            await ask(world, Operation.TEST_FAILOVER)
        assert (await world.job(job_id)).state is JobState.IN_PROGRESS
        disk.make_room()
        await until_done(world, job_id)
        assert (await world.job(job_id)).state is JobState.SUCCEEDED
        assert (await world.item()).state is ProtectionState.PLANNED_FAILED_OVER
    async with hub_world(disk.folder) as world:
        assert (await world.job(job_id)).state is JobState.SUCCEEDED


async def test_a_deadline_that_passes_while_the_disk_is_full_is_noticed_once_there_is_room(
    disk: SmallDisk,
) -> None:
    async with hub_world(disk.folder) as world:
        await protected(world)
        job_id = await ask(world, Operation.PLANNED_FAILOVER)
        await next_assignment(world, job_id, "tokyo")
        disk.fill()
        await write_until_refused(world)
        world.clock.time += timedelta(days=2)
        await asyncio.sleep(2.5)  # the engine looks at deadlines each second, and cannot note it
        assert (await world.job(job_id)).state is JobState.IN_PROGRESS
        disk.make_room()
        async with asyncio.timeout(WAIT_SECONDS_MAX):
            while (run := (await world.job(job_id)).run("ShutdownVmOnPrimary")) is not None:
                if run.state is TaskState.FAILED or (await world.job(job_id)).waiting_for:
                    break
                await asyncio.sleep(0.05)
        assert (await world.item()).current is not None or run is not None


@pytest.mark.parametrize("jump", [HOUR, -HOUR], ids=["ahead", "back"])
async def test_an_hours_jump_of_the_hubs_clock_fails_no_job(
    tmp_path: Path, jump: timedelta
) -> None:
    """A task may take hours (scenario tables): an hour is within its deadline."""
    async with hub_world(tmp_path, lease=timedelta(hours=2)) as world:
        await protected(world)
        job_id = await ask(world, Operation.PLANNED_FAILOVER)
        await next_assignment(world, job_id, "tokyo")
        world.clock.time += jump
        done = await until_done(world, job_id)
        assert [each.partition(" ")[2] for each in done] == [
            "shut_down e1",
            "prepare_failover e1",
            "fail_over e2",
            "start e2",
        ]
        job = await world.job(job_id)
        assert job.state is JobState.SUCCEEDED
        assert job.errors == ()


async def test_a_jump_ahead_makes_no_site_gone(tmp_path: Path, told: list[Any]) -> None:
    """An unplanned failover goes on without a site that is gone, and this one is not."""
    async with hub_world(tmp_path, lease=LEASE) as world:
        await protected(world)
        job_id = await ask(world, Operation.UNPLANNED_FAILOVER, source_operations_required=True)
        await next_assignment(world, job_id, "tokyo")
        await asyncio.sleep(2)  # the engine looks at providers each second
        world.clock.time += 2 * LEASE  # a task may take longer than that
        async with asyncio.timeout(WAIT_SECONDS_MAX):
            while not [each for each in told if each["event"] == "clock_jumped"]:
                await asyncio.sleep(0.05)
        await asyncio.sleep(1.5)
        assert not await world.fabrics.connected("tokyo-provider")
        assert [each[:5] for each in await until_done(world, job_id)][:2] == ["tokyo", "tokyo"]
        assert (await world.job(job_id)).errors == ()


class SlowCommit:
    """Holds what is about to be committed until a test lets it go."""

    def __init__(self) -> None:
        self.is_on = False
        self.reached, self.let_go = asyncio.Event(), asyncio.Event()

    async def reach(self, name: str) -> None:
        """Wait there."""
        if self.is_on and name == "engine.before_commit":
            self.reached.set()
            await self.let_go.wait()

    def reach_now(self, name: str) -> None:
        """Go on."""


async def test_a_lease_that_is_not_stored_yet_is_not_lost(tmp_path: Path, told: list[Any]) -> None:
    """Renewed in that moment, the database does not know it: the job is this hub's all the same."""
    slow = SlowCommit()
    async with hub_world(tmp_path, faults=slow) as world:
        await protected(world)
        slow.is_on = True
        async with asyncio.TaskGroup() as group:
            asking = group.create_task(ask(world, Operation.PLANNED_FAILOVER))
            await slow.reached.wait()
            await world.engine._renew()
            slow.is_on = False
            slow.let_go.set()
        await until_done(world, asking.result())
    assert [each for each in told if each["event"] in {"lease_lost", "job_taken_up"}] == []
