"""A real agent whose clock jumps by an hour while the hub's engine runs a job with it.

What is being executed goes on; what is ordered afterwards is judged by the wrong clock, is refused
in words that name the clocks, and nothing of it is done; with the right time it is done.
"""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog

from service_hub.domain.jobs import Job, JobState, TaskState
from service_hub.domain.protection import Operation
from service_hub.services.event_faults import REFUSED_CODE
from tests.integration.agent_fakes.waiting import until
from tests.support.hub_stories import ask, protected
from tests.support.hub_world import MACHINE_ID
from tests.support.joined_world import JoinedWorld, acknowledge_by_hand, joined_world
from wire_contract.vocabulary import Verb

HOUR = timedelta(hours=1)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[JoinedWorld]:
    async with joined_world(tmp_path) as opened:
        await protected(opened.hub)
        await acknowledge_by_hand(opened)
        opened.vmm.add(MACHINE_ID, epoch=1)
        yield opened


async def until_task(world: JoinedWorld, job_id: str, task_id: str) -> Job:
    async with asyncio.timeout(20):
        while True:
            job = await world.hub.job(job_id)
            run = job.run(task_id)
            if job.finished or (run is not None and run.state is TaskState.SUCCEEDED):
                return job
            await asyncio.sleep(0.02)


async def begun_shut_down(world: JoinedWorld) -> str:
    """Ask for a planned failover; return when the fabric holds its first verb."""
    world.vmm.holds[Verb.SHUT_DOWN.value] = asyncio.Event()
    job_id = await ask(world.hub, Operation.PLANNED_FAILOVER)
    await until(lambda: world.vmm.call_count(Verb.SHUT_DOWN, MACHINE_ID), "the verb has begun")
    return job_id


@pytest.mark.parametrize("jump", [HOUR, -HOUR], ids=["ahead", "back"])
async def test_what_is_being_executed_survives_the_agents_jump(
    world: JoinedWorld, jump: timedelta
) -> None:
    async with world.agent() as clock:
        job_id = await begun_shut_down(world)
        clock.ahead = jump
        world.vmm.holds[Verb.SHUT_DOWN.value].set()
        job = await until_task(world, job_id, "ShutdownVmOnPrimary")
        run = job.run("ShutdownVmOnPrimary")
        assert run is not None
        assert run.state is TaskState.SUCCEEDED
    assert world.vmm.effect_count(Verb.SHUT_DOWN, MACHINE_ID) == 1


async def test_what_is_ordered_after_the_jump_ahead_is_refused_and_done_once_the_time_is_right(
    world: JoinedWorld,
) -> None:
    async with world.agent() as clock:
        clock.ahead = HOUR
        job_id = await ask(world.hub, Operation.PLANNED_FAILOVER)
        job = await until_task(world, job_id, "ShutdownVmOnPrimary")
        assert job.state is JobState.FAILED
        assert job.errors[0].provider_code == REFUSED_CODE
        assert "by its clock the deadline had passed" in (job.errors[0].provider_message or "")
        assert world.vmm.call_count(Verb.SHUT_DOWN, MACHINE_ID) == 0
        clock.ahead = timedelta(0)
        job_id = await ask(world.hub, Operation.PLANNED_FAILOVER)
        await until(lambda: world.vmm.effect_count(Verb.SHUT_DOWN, MACHINE_ID), "it is done")
    assert world.vmm.effect_count(Verb.SHUT_DOWN, MACHINE_ID) == 1


async def test_a_jump_is_said_at_the_next_heartbeat(world: JoinedWorld) -> None:
    def told(lines: list[Any]) -> list[Any]:
        return [line for line in lines if line["event"] == "clock_differs"]

    world.hub.reports._heartbeat = timedelta(seconds=1)
    with structlog.testing.capture_logs() as lines:
        async with world.agent() as clock:
            assert told(lines) == []
            clock.ahead = HOUR
            await until(lambda: told(lines), "the clocks are compared")
    assert told(lines)[0]["seconds_ahead_of_hub"] == pytest.approx(3600, abs=5)
