"""A fenced copy starts again by an explicit word alone, under an epoch that nobody else holds."""

import json
from datetime import timedelta
from pathlib import Path

import pytest

from service_hub.domain.errors import SignatureRequiredError
from service_hub.domain.jobs import JobState
from service_hub.domain.protection import Operation, ProtectionState
from service_hub.domain.records import Alert, ProtectedItem
from service_hub.domain.replication_events import JOB_STATUS, ReplicationEvent
from service_hub.ports.changes import Change, Save
from tests.support.hub_stories import ask, observe, protected, until_done, well
from tests.support.hub_world import HubWorld, hub_world
from wire_contract.events import Assignment
from wire_contract.reports import ProviderError
from wire_contract.vocabulary import ReplicationState, Side

LEASE = timedelta(hours=1)
WHY = "the other site burns"


async def failed_over(world: HubWorld, *, committed: bool = False) -> None:
    await protected(world)
    await until_done(world, await ask(world, Operation.UNPLANNED_FAILOVER))
    if committed:
        await until_done(world, await ask(world, Operation.COMMIT))


async def override(world: HubWorld, *, lost: bool = False, why: str = WHY) -> str:
    return await ask(world, Operation.OVERRIDE_FENCE, comments=why, other_copy_lost=lost)


async def code_of(world: HubWorld, job_id: str) -> list[str]:
    await until_done(world, job_id)
    job = await world.job(job_id)
    assert job.state is JobState.FAILED
    return [error.code for error in job.errors]


async def test_the_other_copy_is_fenced_before_the_former_source_starts(tmp_path: Path) -> None:
    told: list[tuple[str, object]] = []

    def note(assignment: Assignment) -> ProviderError | None:
        told.append((assignment.verb, assignment.arguments.get("authoritative")))
        return well(assignment)

    async with hub_world(tmp_path, LEASE) as world:
        await failed_over(world)
        before = await world.item()
        done = await until_done(world, job_id := await override(world), note)
        assert done == [
            "osaka confirm_epoch e3",
            "tokyo confirm_epoch e3",
            "tokyo cancel_failover e3",
            "tokyo start e3",
        ]
        assert [each for each in told if each[0] == "confirm_epoch"] == [
            ("confirm_epoch", False),
            ("confirm_epoch", True),
        ]
        item = await world.item()
        assert (before.authority, before.epoch) == (Side.RECOVERY, 2)
        assert (item.authority, item.active_location, item.epoch) == (
            Side.PRIMARY,
            Side.PRIMARY,
            3,
        )
        assert item.state is ProtectionState.UNPLANNED_UNDO_FAILED
        alerts = [each.record for each in await world.store.find(Alert)]
        (alert,) = [each for each in alerts if each.code == "FenceOverridden"]
        assert alert.principal == world.identity().principal
        assert alert.message.endswith(f"(job {job_id}): {WHY}")
        assert "fenced first" in alert.message
        events = [each.record for each in await world.store.find(ReplicationEvent)]
        assert (JOB_STATUS, "Override a fence - Succeeded") in {
            (each.code, each.description) for each in events
        }
        lines = await world.store.audit_lines(world.vault.id, None, 100)
        logged = [json.loads(each.text) for each in lines]
        (line,) = [each for each in logged if each["job_id"] == job_id]
        assert line["event"] == "change_stored"
        assert line["principal"] == world.identity().principal


async def test_declared_lost_it_is_told_when_it_comes_back(tmp_path: Path) -> None:
    async with hub_world(tmp_path, LEASE) as world:
        await failed_over(world)
        world.clock.time += 2 * LEASE
        await world.heard_of("tokyo")
        assert await code_of(world, await override(world)) == ["90116"]
        refreshes = await world.refreshes("osaka")
        job_id = await override(world, lost=True)
        assert await until_done(world, job_id) == [
            "tokyo confirm_epoch e3",
            "tokyo cancel_failover e3",
            "tokyo start e3",
        ]
        assert await world.refreshes("osaka") == refreshes + 1
        alerts = [each.record.message for each in await world.store.find(Alert)]
        assert any("declared lost" in each for each in alerts)


async def test_nothing_moves_without_reason_without_servers_or_where_nothing_is_fenced(
    tmp_path: Path,
) -> None:
    async with hub_world(tmp_path, LEASE) as world:
        await protected(world)
        refused = await override(world)
        assert await code_of(world, refused) == ["90010"]
        # Who only tried is in the audit log too.
        lines = await world.store.audit_lines(world.vault.id, None, 100)
        assert refused in {json.loads(each.text)["job_id"] for each in lines}
        await until_done(world, await ask(world, Operation.UNPLANNED_FAILOVER))
        assert await code_of(world, await override(world, why="  ")) == ["90115"]
        assert await code_of(world, await override(world, lost=True)) == ["90117"]
        world.clock.time += 2 * LEASE
        await world.heard_of("osaka")
        assert await code_of(world, await override(world)) == ["25018"]
        item = await world.item()
        assert (item.state, item.authority, item.epoch) == (
            ProtectionState.UNPLANNED_FAILED_OVER,
            Side.RECOVERY,
            2,
        )


async def test_where_the_other_is_not_fenced_nothing_starts_and_one_leads_on(
    tmp_path: Path,
) -> None:
    def refuse(assignment: Assignment) -> ProviderError | None:
        return ProviderError(code=32769, message="no") if assignment.verb != "start" else None

    async with hub_world(tmp_path, LEASE) as world:
        await failed_over(world, committed=True)
        job_id = await override(world)
        assert await until_done(world, job_id, refuse) == ["osaka confirm_epoch e3"]
        item = await world.item()
        assert (item.state, item.active_location) == (ProtectionState.OVERRIDDEN, Side.PRIMARY)
        # Its server is gone by now: asked anew, with that word.
        world.clock.time += 2 * LEASE
        await world.heard_of("tokyo")
        done = await until_done(world, await override(world, lost=True))
        assert done == [
            "tokyo confirm_epoch e4",
            "tokyo cancel_failover e4",
            "tokyo start e4",
        ]
        assert (await world.item()).state is ProtectionState.OVERRIDDEN
        await world.heard_of("osaka")
        done = await until_done(world, await ask(world, Operation.DISABLE))
        assert done[:2] == ["tokyo disable_replication e4", "osaka disable_replication e4"]


async def test_an_insisting_vault_wants_it_signed(tmp_path: Path) -> None:
    async with hub_world(tmp_path, LEASE) as world:
        await failed_over(world)
        world.vault = world.vault.model_copy(update={"requires_operator_signature": True})
        with pytest.raises(SignatureRequiredError):
            await override(world)


async def test_where_authority_is_in_question_that_is_decided_first(tmp_path: Path) -> None:
    async with hub_world(tmp_path, LEASE) as world:
        await failed_over(world)
        (found,) = await world.store.find(ProtectedItem, vault_id=world.vault.id)
        asked = found.record.model_copy(update={"authority_questioned_at": world.clock.now()})
        await world.committer.commit(Change(saves=(Save(asked, found.version),)))
        job = await world.job(await override(world))
        assert [error.code for error in job.errors] == ["90010"]
        assert "decide that first" in job.errors[0].message + job.errors[0].possible_causes


async def test_a_source_that_a_reversal_made_a_replica_is_left_alone(tmp_path: Path) -> None:
    """It could not be started, and the copy that runs would have been stopped for it."""
    async with hub_world(tmp_path, LEASE) as world:
        await failed_over(world, committed=True)
        await observe(world, "tokyo", ReplicationState.WAITING_TO_COMPLETE_INITIAL_REPLICATION)
        assert await code_of(world, await override(world)) == ["90146"]
        item = await world.item()
        assert (item.state, item.authority, item.epoch) == (
            ProtectionState.UNPLANNED_COMMITTED,
            Side.RECOVERY,
            2,
        )
