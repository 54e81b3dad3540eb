"""A provider that reports success without what came of it: the job fails, and none stands still."""

from pathlib import Path
from typing import Any

import pytest

from service_hub.domain.jobs import Job, JobState, TaskState
from service_hub.domain.protection import Operation, ProtectionState
from service_hub.domain.reported_results import NEEDED
from tests.support.hub_stories import ask, ended, paired, protected
from tests.support.hub_world import DEFAULT_RESULTS, MACHINE_ID, HubWorld, hub_world
from wire_contract.vocabulary import Verb

REPLICA = DEFAULT_RESULTS["place_replica"]


async def job_with(world: HubWorld, verb: Verb) -> str:
    """Ask for the operation whose job needs what this verb answers; the job's id."""
    if verb is Verb.PREPARE_FAILOVER:
        await protected(world)
        return await ask(world, Operation.PLANNED_FAILOVER)
    if verb is Verb.PREPARE_REVERSE:
        await protected(world)
        over = await ask(world, Operation.PLANNED_FAILOVER)
        assert await ended(world, over) is JobState.SUCCEEDED
        return await ask(world, Operation.REVERSE_REPLICATE)
    await paired(world)
    enabling = await world.protection.enable(
        world.vault,
        container=("tokyo-fabric", "tokyo-cloud"),
        item_name=MACHINE_ID,
        machine_id=MACHINE_ID,
        policy_name="p",
        identity=world.identity(),
    )
    return enabling.id


@pytest.mark.parametrize(
    ("verb", "result", "lacking"),
    [
        (Verb.PLACE_REPLICA, {}, "replica_host, replica_port"),
        (Verb.PLACE_REPLICA, {**REPLICA, "replica_host": ""}, "replica_host"),
        (Verb.PLACE_REPLICA, {**REPLICA, "replica_port": "8084"}, "replica_port"),
        (Verb.PREPARE_FAILOVER, {}, "last_cut"),
        (Verb.PREPARE_FAILOVER, {"last_cut": True}, "last_cut"),
        (Verb.PREPARE_REVERSE, {"replica_host": "tokyo-host1.example"}, "replica_port"),
    ],
)
async def test_success_without_its_facts_is_a_failure_that_says_so(
    tmp_path: Path, verb: Verb, result: dict[str, Any], lacking: str
) -> None:
    async with hub_world(tmp_path) as world:
        whole = world.results[verb]
        world.results[verb] = result
        job_id = await job_with(world, verb)
        assert await ended(world, job_id) is JobState.FAILED
        job: Job = await world.job(job_id)
        (error,) = job.errors
        assert error.code == "90125"
        assert f"nothing of: {lacking}" in error.possible_causes
        (failed,) = (task for task in job.tasks if task.state is TaskState.FAILED)
        assert job.spec(failed.task_id).verb is verb
        # Nothing is in its way afterwards: told properly, the same operation succeeds.
        assert world.engine.standing_still == {}
        assert (await world.item()).current is None
        world.results[verb] = whole
        if verb is not Verb.PLACE_REPLICA:
            again = await ask(world, job.operation or Operation.PLANNED_FAILOVER)
            assert await ended(world, again) is JobState.SUCCEEDED


async def test_what_is_taken_back_needs_no_facts(tmp_path: Path) -> None:
    async with hub_world(tmp_path) as world:
        await protected(world)
        world.results[Verb.PREPARE_FAILOVER] = {}
        job_id = await ask(world, Operation.PLANNED_FAILOVER)
        assert await ended(world, job_id) is JobState.FAILED
        assert (await world.item()).state is ProtectionState.PROTECTED


def test_facts_are_needed_of_verbs_that_the_world_answers() -> None:
    assert {verb.value for verb in NEEDED} == set(DEFAULT_RESULTS)
