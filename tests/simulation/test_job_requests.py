"""Cancel, restart and resume through the real engine: locks, repeats, roles of time and place."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from service_hub.domain.errors import JobRequestRefusedError, NotFoundError
from service_hub.domain.jobs import Job, JobState, TaskState
from service_hub.domain.protection import Operation, ProtectionState
from service_hub.domain.records import ContainerMapping, ProtectedItem, Vault
from service_hub.ports.changes import Change, Delete
from tests.support.hub_stories import ended
from tests.support.hub_world import HubWorld, hub_world
from tests.support.many_items import Sites, an_item, furnish, item_id, stored_item
from wire_contract.events import Assignment
from wire_contract.reports import ProviderError
from wire_contract.vocabulary import Side

FORWARD = {"failover_direction": "PrimaryToRecovery"}


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[HubWorld]:
    async with hub_world(tmp_path) as world:
        await furnish(world, an_item(1))
        yield world


def failing(*verbs: str) -> "Answers":
    """Return answers that fail at these verbs."""
    return Answers(frozenset(verbs))


class Answers:
    """Fails at some verbs, in the fabric's own words."""

    def __init__(self, verbs: frozenset[str]) -> None:
        self._verbs = verbs

    def __call__(self, assignment: Assignment) -> ProviderError | None:
        """Return the failure of one assignment, None where it succeeds."""
        return ProviderError(code=32768, message="no") if assignment.verb in self._verbs else None


async def planned(world: HubWorld) -> Job:
    """Begin a planned failover."""
    operation = Operation.PLANNED_FAILOVER.value
    return await world.protection.request(
        world.vault, item_id(1), operation, FORWARD, world.identity()
    )


async def until_asked(world: HubWorld, site: str, verb: str) -> Assignment:
    """Return the assignment of that verb once it is there."""
    for _ in range(200):
        for assignment in await world.assignments(site):
            if assignment.verb == verb:
                return assignment
        await world.committer.until_next()
    pytest.fail(f"{site} was not asked to {verb}")


async def test_a_cancelled_failover_takes_back_what_it_did_and_frees_the_item(
    world: HubWorld,
) -> None:
    sites, job = Sites(world), await planned(world)
    begun = await sites.until(job.id, lambda each: each.tasks[2].state is TaskState.IN_PROGRESS)
    assert begun.allowed_actions == ("Cancel",)
    asked = await world.jobs.cancel(world.vault, job.id, world.identity())
    assert asked.cancel is not None
    assert asked.allowed_actions == ()
    with pytest.raises(JobRequestRefusedError, match="being cancelled"):
        await world.jobs.cancel(world.vault, job.id, world.identity())
    done = await sites.ended(job.id)
    assert (done.state, done.cancel and done.cancel.principal) == (JobState.CANCELLED, "operator")
    assert sites.done[-1] == "tokyo start 1"
    item = await stored_item(world, 1)
    assert (item.state, item.current, item.authority) == (
        ProtectionState.PROTECTED,
        None,
        Side.PRIMARY,
    )


async def test_the_same_cancellation_sent_again_is_answered_alike(world: HubWorld) -> None:
    sites, job = Sites(world), await planned(world)
    identity = world.identity("cancel-once")
    await world.jobs.cancel(world.vault, job.id, identity)
    done = await sites.ended(job.id)
    again = await world.jobs.cancel(world.vault, job.id, identity)
    assert again == done
    assert len(done.requests) == 1
    with pytest.raises(JobRequestRefusedError) as refused:
        await world.jobs.cancel(world.vault, job.id, world.identity())
    assert refused.value.code == "JobCannotBeCancelled"


async def test_two_cancellations_at_once_are_one(world: HubWorld) -> None:
    job = await planned(world)
    both = await asyncio.gather(
        *(world.jobs.cancel(world.vault, job.id, world.identity()) for _ in range(2)),
        return_exceptions=True,
    )
    assert any(isinstance(each, Job) for each in both)
    done = await Sites(world).ended(job.id)
    assert [each.action for each in done.requests] == ["Cancel"]


async def test_a_failed_job_goes_on_from_its_failed_task_and_holds_the_item_again(
    world: HubWorld,
) -> None:
    sites, job = Sites(world), await planned(world)
    failed = await sites.ended(job.id, failing("start"))
    assert (failed.state, failed.allowed_actions) == (JobState.FAILED, ("Restart",))
    assert (await stored_item(world, 1)).current is None
    sites.done.clear()
    restarted = await world.jobs.restart(world.vault, job.id, world.identity())
    assert (restarted.id, restarted.state) == (job.id, JobState.IN_PROGRESS)
    assert restarted.fence > failed.fence
    current = (await stored_item(world, 1)).current
    assert current is not None
    assert current.job_id == job.id
    done = await sites.ended(job.id)
    assert done.state is JobState.SUCCEEDED
    assert sites.done == ["osaka start 1"]
    item = await stored_item(world, 1)
    assert (item.state, item.epoch) == (ProtectionState.PLANNED_FAILED_OVER, done.epoch)
    with pytest.raises(JobRequestRefusedError) as refused:
        await world.jobs.restart(world.vault, job.id, world.identity())
    assert refused.value.code == "CannotRemediateSucceededWorkflow"


async def test_the_authority_moves_under_yet_another_epoch_after_a_restart(
    world: HubWorld,
) -> None:
    sites, job = Sites(world), await planned(world)
    failed = await sites.ended(job.id, failing("fail_over"))
    before = await stored_item(world, 1)
    assert before.authority is Side.PRIMARY
    await world.jobs.restart(world.vault, job.id, world.identity())
    done = await sites.ended(job.id)
    item = await stored_item(world, 1)
    assert done.state is JobState.SUCCEEDED
    assert (item.authority, item.epoch) == (Side.RECOVERY, done.epoch)
    assert failed.epoch <= before.epoch < item.epoch


async def test_the_same_restart_sent_again_restarts_once(world: HubWorld) -> None:
    sites, job = Sites(world), await planned(world)
    await sites.ended(job.id, failing("start"))
    identity = world.identity("restart-once")
    await world.jobs.restart(world.vault, job.id, identity)
    await sites.ended(job.id, failing("start"))
    again = await world.jobs.restart(world.vault, job.id, identity)
    assert again.state is JobState.FAILED
    assert [each.action for each in again.requests] == ["Restart"]


async def test_a_restart_does_not_take_an_item_from_the_job_that_holds_it(
    world: HubWorld,
) -> None:
    sites, job = Sites(world), await planned(world)
    await sites.ended(job.id, failing("prepare_failover"))
    other = await planned(world)
    with pytest.raises(JobRequestRefusedError) as refused:
        await world.jobs.restart(world.vault, job.id, world.identity())
    assert refused.value.code == "532"
    assert "PlannedFailover" in str(refused.value)
    assert (await sites.ended(other.id)).state is JobState.SUCCEEDED
    with pytest.raises(JobRequestRefusedError) as refused:
        await world.jobs.restart(world.vault, job.id, world.identity())
    assert refused.value.code == "JobCannotBeRestarted"
    assert "anew" in str(refused.value)


async def test_two_restarts_at_once_are_one(world: HubWorld) -> None:
    sites, job = Sites(world), await planned(world)
    await sites.ended(job.id, failing("start"))
    both = await asyncio.gather(
        *(world.jobs.restart(world.vault, job.id, world.identity()) for _ in range(2)),
        return_exceptions=True,
    )
    assert sum(isinstance(each, Job) for each in both) == 1
    done = await sites.ended(job.id)
    assert [each.action for each in done.requests] == ["Restart"]


async def test_a_job_that_found_the_item_busy_may_begin_later(world: HubWorld) -> None:
    sites, first = Sites(world), await planned(world)
    busy = await planned(world)
    assert [error.code for error in busy.errors] == ["532"]
    await world.jobs.cancel(world.vault, first.id, world.identity())
    await sites.ended(first.id)
    await world.jobs.restart(world.vault, busy.id, world.identity())
    done = await sites.ended(busy.id)
    assert (done.state, done.errors) == (JobState.SUCCEEDED, ())
    assert (await stored_item(world, 1)).state is ProtectionState.PLANNED_FAILED_OVER


async def test_a_job_that_was_not_allowed_stays_refused_until_it_is(world: HubWorld) -> None:
    operation = Operation.COMMIT.value
    commit = await world.protection.request(
        world.vault, item_id(1), operation, {}, world.identity()
    )
    assert [error.code for error in commit.errors] == ["25009"]
    with pytest.raises(JobRequestRefusedError) as refused:
        await world.jobs.restart(world.vault, commit.id, world.identity())
    assert refused.value.code == "JobCannotBeRestarted"


async def test_requests_name_jobs_of_their_own_vault(world: HubWorld) -> None:
    job = await planned(world)
    other = Vault.model_validate(world.vault.model_dump() | {"id": "other", "vault_id": "other"})
    for request in (world.jobs.cancel, world.jobs.restart):
        with pytest.raises(NotFoundError):
            await request(other, job.id, world.identity())
    with pytest.raises(NotFoundError):
        await world.jobs.resume(other, job.id, "", world.identity())
    with pytest.raises(JobRequestRefusedError, match="waits for a person"):
        await world.jobs.resume(world.vault, job.id, "", world.identity())


async def test_a_job_restarted_before_the_hub_was_killed_is_finished_after_it(
    tmp_path: Path,
) -> None:
    async with hub_world(tmp_path) as world:
        await furnish(world, an_item(1))
        job = await planned(world)
        await Sites(world).ended(job.id, failing("start"))
        await world.jobs.restart(world.vault, job.id, world.identity())
    async with hub_world(tmp_path) as world:
        world.clock.time += timedelta(seconds=1)
        done = await Sites(world).ended(job.id)
        assert done.state is JobState.SUCCEEDED
        assert (await stored_item(world, 1)).current is None


async def test_the_same_request_sent_twice_at_once_is_one_job(world: HubWorld) -> None:
    identity, operation = world.identity("twice"), Operation.PLANNED_FAILOVER.value
    both = await asyncio.gather(
        *(
            world.protection.request(world.vault, item_id(1), operation, FORWARD, identity)
            for _ in range(2)
        )
    )
    assert both[0].id == both[1].id
    assert (await Sites(world).ended(both[0].id)).state is JobState.SUCCEEDED


async def test_other_requests_at_once_are_a_job_that_runs_and_one_that_failed(
    world: HubWorld,
) -> None:
    both = await asyncio.gather(planned(world), planned(world))
    assert sorted([error.code for error in each.errors] for each in both) == [[], ["532"]]


async def test_a_failed_removal_is_restarted_unless_another_removes_the_server(
    world: HubWorld,
) -> None:
    deletes = [Delete(ProtectedItem, item_id(1)), Delete(ContainerMapping, "mapping")]
    await world.committer.commit(Change(deletes=deletes))

    async def remove() -> Job:
        return await world.servers.remove(world.vault, "tokyo-fabric", world.identity())

    sites, first = Sites(world), await remove()
    assert (await sites.ended(first.id, failing("clean_up"))).state is JobState.FAILED
    second = await remove()
    with pytest.raises(JobRequestRefusedError) as refused:
        await world.jobs.restart(world.vault, first.id, world.identity())
    assert refused.value.code == "532"
    assert (await sites.ended(second.id, failing("clean_up"))).state is JobState.FAILED
    await world.jobs.restart(world.vault, first.id, world.identity())
    assert (await sites.ended(first.id)).state is JobState.SUCCEEDED
    with pytest.raises(JobRequestRefusedError, match="server is gone"):
        await world.jobs.restart(world.vault, second.id, world.identity())


async def test_a_failed_pairing_is_restarted_unless_it_was_requested_anew(
    tmp_path: Path,
) -> None:
    async with hub_world(tmp_path) as world:
        policy = await world.policies.create(
            world.vault, "p", {"provider_type": "HyperVReplica2012R2"}, world.identity()
        )
        assert await ended(world, policy.id) is JobState.SUCCEEDED

        async def pair() -> Job:
            return await world.pairing.pair(
                world.vault,
                name="m",
                primary=("tokyo-fabric", "tokyo-cloud"),
                recovery=("osaka-fabric", "osaka-cloud"),
                policy_name="p",
                identity=world.identity(),
            )

        async def state() -> str:
            (mapping,) = await world.pairing.list(world.vault)
            return mapping.mapping_state

        sites, first = Sites(world), await pair()
        assert (await sites.ended(first.id, failing("pair_cloud"))).state is JobState.FAILED
        assert await state() == "PairingFailed"
        await world.jobs.restart(world.vault, first.id, world.identity())
        assert await state() == "PairingInProgress"
        assert (await sites.ended(first.id, failing("pair_cloud"))).state is JobState.FAILED
        second = await pair()
        with pytest.raises(JobRequestRefusedError) as refused:
            await world.jobs.restart(world.vault, first.id, world.identity())
        assert refused.value.code == "JobCannotBeRestarted"
        assert (await sites.ended(second.id)).state is JobState.SUCCEEDED
        assert await state() == "Paired"


async def test_a_failed_pairing_is_not_restarted_over_the_pair_that_took_its_cloud(
    tmp_path: Path,
) -> None:
    async with hub_world(tmp_path) as world:
        policy = await world.policies.create(
            world.vault, "p", {"provider_type": "HyperVReplica2012R2"}, world.identity()
        )
        assert await ended(world, policy.id) is JobState.SUCCEEDED

        async def pair(name: str) -> Job:
            return await world.pairing.pair(
                world.vault,
                name=name,
                primary=("tokyo-fabric", "tokyo-cloud"),
                recovery=("osaka-fabric", "osaka-cloud"),
                policy_name="p",
                identity=world.identity(),
            )

        sites, first = Sites(world), await pair("first")
        assert (await sites.ended(first.id, failing("pair_cloud"))).state is JobState.FAILED
        second = await pair("second")
        assert (await sites.ended(second.id)).state is JobState.SUCCEEDED
        with pytest.raises(JobRequestRefusedError) as refused:
            await world.jobs.restart(world.vault, first.id, world.identity())
        assert refused.value.code == "90015"
        assert "second" in str(refused.value)
