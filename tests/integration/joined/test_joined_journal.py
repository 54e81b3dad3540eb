"""A real agent whose journal is deleted in the middle of a job that the hub's real engine runs."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from service_hub.domain.jobs import Job
from service_hub.domain.protection import Operation
from tests.integration.agent_fakes.waiting import until
from tests.support.hub_stories import ask, protected
from tests.support.hub_world import MACHINE_ID
from tests.support.joined_world import SITE, JoinedWorld, acknowledge_by_hand, joined_world
from wire_contract.vocabulary import Verb


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[JoinedWorld]:
    async with joined_world(tmp_path) as opened:
        yield opened


async def succeeded(world: JoinedWorld, job_id: str, task_id: str) -> Job:
    async with asyncio.timeout(20):
        while True:
            job = await world.hub.job(job_id)
            run = job.run(task_id)
            if run is not None and run.state.value == "Succeeded":
                return job
            assert not job.finished, job.errors
            await asyncio.sleep(0.02)


def forget(world: JoinedWorld) -> None:
    for path in world.journal_file.parent.glob("journal.db*"):
        path.unlink()


async def test_a_journal_deleted_in_the_middle_of_a_job_costs_no_effect_and_no_job(
    world: JoinedWorld,
) -> None:
    await protected(world.hub)
    await acknowledge_by_hand(world)
    world.vmm.add(MACHINE_ID, epoch=1)
    world.vmm.holds[Verb.SHUT_DOWN.value] = asyncio.Event()
    async with world.agent():
        former = await world.stream()
        job_id = await ask(world.hub, Operation.PLANNED_FAILOVER)
        await until(
            lambda: world.vmm.call_count(Verb.SHUT_DOWN, MACHINE_ID) == 1, "the verb has begun"
        )
        await world.acknowledged(former.next_seq)
    forget(world)
    world.vmm.holds[Verb.SHUT_DOWN.value].set()
    async with world.agent():
        job = await succeeded(world, job_id, "ShutdownVmOnPrimary")
        begun = await world.stream()
        assert begun.stream != former.stream
        assert begun.journal_id not in {"", former.journal_id}
    run = job.run("ShutdownVmOnPrimary")
    assert run is not None
    assert run.attempt == 1
    assert world.vmm.effect_count(Verb.SHUT_DOWN, MACHINE_ID) == 1
    assert world.provider.friendly_name == SITE


async def test_a_command_that_is_asked_again_is_answered_from_the_journal(
    world: JoinedWorld,
) -> None:
    await protected(world.hub)
    await acknowledge_by_hand(world)
    world.vmm.add(MACHINE_ID, epoch=1)
    async with world.agent():
        job_id = await ask(world.hub, Operation.PLANNED_FAILOVER)
        await succeeded(world, job_id, "ShutdownVmOnPrimary")
        before = world.vmm.call_count(Verb.SHUT_DOWN, MACHINE_ID)
        heard: list[str] = []
        feed = world.hub.engine.feed

        async def listening(job: str, event: object) -> None:
            heard.append(type(event).__name__)
            await feed(job, event)  # type: ignore[arg-type]

        world.hub.engine.feed = listening  # type: ignore[method-assign, assignment]
        stream = await world.stream()
        await world.assign(
            job_id, target=MACHINE_ID, item=MACHINE_ID, task="ShutdownVmOnPrimary.Primary"
        )
        await world.acknowledged(stream.next_seq)
        await until(lambda: "PartSucceeded" in heard, "the outcome was told again")
        assert world.vmm.call_count(Verb.SHUT_DOWN, MACHINE_ID) == before
