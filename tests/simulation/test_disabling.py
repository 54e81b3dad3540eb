"""Protection ends: at both ends, half-way, by force, and begins again above its last epoch."""

from datetime import timedelta
from pathlib import Path

import pytest

from service_hub.domain.errors import NotFoundError
from service_hub.domain.jobs import CancelRequested, JobState
from service_hub.domain.protection import Operation, ProtectionState
from service_hub.domain.records import FormerItem, ProtectedItem
from tests.support.hub_stories import ask, observe, protected, until_done, well
from tests.support.hub_world import MACHINE_ID, HubWorld, hub_world
from wire_contract.events import Assignment
from wire_contract.reports import Heartbeat, ProviderError
from wire_contract.vocabulary import ReplicationState

LEASE = timedelta(minutes=5)


async def enable(world: HubWorld) -> str:
    job = await world.protection.enable(
        world.vault,
        container=("tokyo-fabric", "tokyo-cloud"),
        item_name=MACHINE_ID,
        machine_id=MACHINE_ID,
        policy_name="p",
        identity=world.identity(),
    )
    return job.id


async def is_gone(world: HubWorld) -> bool:
    return await world.store.get(ProtectedItem, MACHINE_ID) is None


async def test_both_ends_disable_and_the_item_is_gone_but_for_its_epoch(tmp_path: Path) -> None:
    async with hub_world(tmp_path, LEASE) as world:
        await protected(world)
        asked: list[Assignment] = []

        def note(assignment: Assignment) -> ProviderError | None:
            asked.append(assignment)
            return None

        job_id = await ask(world, Operation.DISABLE)
        assert await until_done(world, job_id, note) == [
            "tokyo disable_replication e1",
            "osaka disable_replication e1",
            "tokyo update_protection e1",
            "osaka update_protection e1",
        ]
        assert [each.arguments.get("delete_replica") for each in asked[:2]] == [False, False]
        assert [each.arguments.get("item") for each in asked[2:]] == [None, None]
        assert (await world.job(job_id)).state is JobState.SUCCEEDED
        assert await is_gone(world)
        assert await world.protection.list(world.vault) == []
        with pytest.raises(NotFoundError):
            await world.protection.find(world.vault, MACHINE_ID)
        former = await world.store.get(FormerItem, MACHINE_ID)
        assert former is not None
        assert former.record.epoch == 1
        done = await until_done(world, await enable(world))
        assert done[0] == "osaka place_replica e2", "what was sent before counts no more"


async def test_half_disabled_it_says_so_and_disabling_again_leads_on(tmp_path: Path) -> None:
    def refuse(assignment: Assignment) -> ProviderError | None:
        failing = assignment.verb == "disable_replication" and "Recovery" in assignment.task
        return ProviderError(code=32769, message="denied") if failing else None

    async with hub_world(tmp_path, LEASE) as world:
        await protected(world)
        job_id = await ask(world, Operation.DISABLE)
        await until_done(world, job_id, refuse)
        assert (await world.job(job_id)).state is JobState.FAILED
        assert (await world.item()).state is ProtectionState.DISABLE_FAILED
        await until_done(world, await ask(world, Operation.DISABLE))
        assert await is_gone(world)


async def test_what_cannot_be_disabled_is_removed_by_force_with_both_servers_there(
    tmp_path: Path,
) -> None:
    def refuse(assignment: Assignment) -> ProviderError | None:
        failing = assignment.verb == "disable_replication" and "Recovery" in assignment.task
        return ProviderError(code=32769, message="denied") if failing else None

    async with hub_world(tmp_path, LEASE) as world:
        await protected(world)
        await until_done(world, await ask(world, Operation.DISABLE), refuse)
        assert (await world.item()).state is ProtectionState.DISABLE_FAILED
        job_id = await ask(world, Operation.PURGE)
        await until_done(world, job_id, refuse)
        job = await world.job(job_id)
        assert (job.state, [each.code for each in job.errors]) == (JobState.SUCCEEDED, ["28020"])
        assert await is_gone(world)


async def test_a_removal_that_fails_late_goes_on_deleting_what_may_be_gone(tmp_path: Path) -> None:
    deletes: list[object] = []

    def refuse_update(assignment: Assignment) -> ProviderError | None:
        if assignment.verb == "disable_replication":
            deletes.append(assignment.arguments.get("delete_replica"))
        if assignment.verb != "update_protection":
            return None
        return ProviderError(code=32769, message="denied")

    async with hub_world(tmp_path, LEASE) as world:
        await protected(world)
        settings = {"replica_deletion_required": True}
        identity = world.identity()
        changed = await world.policies.change(world.vault, "p", settings, identity)
        await until_done(world, changed.id)
        await until_done(world, await ask(world, Operation.DISABLE), refuse_update)
        item = await world.item()
        assert (item.state, item.replica_goes) == (ProtectionState.DISABLE_FAILED, True)
        done = await until_done(world, await ask(world, Operation.DISABLE))
        assert [each.split()[0] for each in done if "update" in each] == ["tokyo"]
        assert await is_gone(world)
    assert deletes == [False, True]


async def test_a_failed_over_machine_is_disabled_from_where_it_came(tmp_path: Path) -> None:
    async with hub_world(tmp_path, LEASE) as world:
        await protected(world)
        await until_done(world, await ask(world, Operation.PLANNED_FAILOVER))
        done = await until_done(world, await ask(world, Operation.DISABLE))
        assert done[:2] == ["tokyo disable_replication e2", "osaka disable_replication e2"]
        assert await is_gone(world)


async def test_enabling_that_is_cancelled_leaves_nothing(tmp_path: Path) -> None:
    async with hub_world(tmp_path, LEASE) as world:
        await protected(world)
        await until_done(world, await ask(world, Operation.DISABLE))
        job_id = await enable(world)
        undone: list[tuple[str, object]] = []
        cancelled = False

        def note(assignment: Assignment) -> ProviderError | None:
            if "!" in assignment.task:
                undone.append((assignment.verb, assignment.arguments.get("delete_replica")))
            return None

        for _ in range(200):
            sent = [each for each in await world.assignments("tokyo") if each.job == job_id]
            if sent and not cancelled:
                cancelled = True
                request = CancelRequested(world.clock.now(), "anna", "not this one")
                await world.engine.feed(job_id, request)
                await until_done(world, job_id, note)
                break
            for assignment in await world.assignments("osaka"):
                if assignment.job == job_id:
                    await world.outcome("osaka", assignment, well(assignment))
            await world.committer.until_next()
        assert (await world.job(job_id)).state is JobState.CANCELLED
        assert undone == [("disable_replication", False), ("disable_replication", True)]
        assert await is_gone(world)


async def test_by_force_what_is_there_is_tidied_and_the_rest_is_said(tmp_path: Path) -> None:
    async with hub_world(tmp_path, LEASE) as world:
        await protected(world)
        refused = await world.job(await ask(world, Operation.PURGE))
        await until_done(world, refused.id)
        refused = await world.job(refused.id)
        assert [error.code for error in refused.errors] == ["90030"], "both servers are there"
        world.clock.time += 2 * LEASE
        osaka = world.providers["osaka"]
        await world.reports.heartbeat(osaka, Heartbeat(boot_id="osaka-boot", last=None))
        denied = await world.job(await ask(world, Operation.DISABLE))
        assert [error.code for error in denied.errors] == ["25018"]
        assert "by force" in denied.errors[0].possible_causes
        job_id = await ask(world, Operation.PURGE)
        done: list[str] = []
        for _ in range(2000):
            if (await world.job(job_id)).finished:
                break
            for assignment in await world.assignments("osaka"):
                if assignment.job == job_id and assignment.verb not in done:
                    done.append(assignment.verb)
                    await world.outcome("osaka", assignment)
            await world.committer.until_next()
        job = await world.job(job_id)
        assert job.state is JobState.SUCCEEDED
        assert done == ["disable_replication", "update_protection"]
        assert {error.code for error in job.errors} == {"90031"}
        assert f"provider-agent cleanup --machine {MACHINE_ID}" in job.errors[0].recommended_action
        assert await is_gone(world)


async def test_only_replication_that_needs_it_is_resynchronized(tmp_path: Path) -> None:
    async with hub_world(tmp_path, LEASE) as world:
        await protected(world)
        job_id = await ask(world, Operation.REPAIR)
        await until_done(world, job_id)
        assert [error.code for error in (await world.job(job_id)).errors] == ["90032"]
        await observe(world, "tokyo", ReplicationState.CRITICAL)
        done = await until_done(world, await ask(world, Operation.REPAIR))
        assert done[0] == "tokyo resynchronize e1"
        assert (await world.item()).state is ProtectionState.PROTECTED
