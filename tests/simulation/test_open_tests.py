"""Tests that were open for two weeks are ended by the hub; old request keys are forgotten."""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from service_hub.domain.jobs import Job, JobState
from service_hub.domain.open_tests import OPEN_MAX
from service_hub.domain.protection import Operation, ProtectionState, TestState
from service_hub.domain.records import Alert, ProtectedItem, RequestKey
from service_hub.ports.changes import Change, Save
from service_hub.services.open_tests import PRINCIPAL, OpenTestService
from service_hub.services.requests import KEPT, RequestKeyPruning
from tests.support.hub_world import BEGIN, HubWorld, hub_world
from tests.support.many_items import Answer, Sites, an_item, furnish, item_id, stored_item, well
from wire_contract.events import Assignment
from wire_contract.reports import ProviderError

DAY = timedelta(days=1)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[HubWorld]:
    async with hub_world(tmp_path, lease=timedelta(days=365)) as world:
        await furnish(world, opened(1), opened(2, BEGIN + DAY), an_item(3))
        yield world


def opened(number: int, at: datetime = BEGIN) -> ProtectedItem:
    """Return an item whose test was opened then."""
    update = {
        "test_state": TestState.WAITING_FOR_COMPLETION,
        "test_machine_id": item_id(100 + number),
        "test_opened_at": at,
        "last_test_failover_at": at,
    }
    return an_item(number, ProtectionState.TEST_OPEN).model_copy(update=update)


def chore(world: HubWorld) -> OpenTestService:
    """Return the use case on the world's hub."""
    return OpenTestService(
        reader=world.store,
        committer=world.committer,
        clock=world.clock,
        protection=world.protection,
    )


async def cleanups(world: HubWorld) -> list[Job]:
    """Return the clean-ups of the first item, oldest first."""
    found = await world.store.find(Job, item_id=item_id(1))
    return [each.record for each in found]


async def alerts(world: HubWorld) -> list[Alert]:
    """Return what was raised."""
    return [each.record for each in await world.store.find(Alert, vault_id=world.vault.id)]


def failing(verb: str) -> Answer:
    """Return answers that fail at a verb."""

    def answer(assignment: Assignment) -> ProviderError | None:
        return ProviderError(code=32768, message="no") if assignment.verb == verb else None

    return answer


async def test_a_test_is_ended_after_two_weeks_and_not_before(world: HubWorld) -> None:
    world.clock.time = BEGIN + OPEN_MAX - timedelta(seconds=1)
    assert await chore(world).end_overdue() == 0
    assert (await cleanups(world), await alerts(world)) == ([], [])
    world.clock.time += timedelta(seconds=1)
    assert await chore(world).end_overdue() == 1
    (job,) = await cleanups(world)
    done = await Sites(world).ended(job.id)
    assert (done.state, done.operation) == (JobState.SUCCEEDED, Operation.TEST_FAILOVER_CLEANUP)
    assert "14 days" in str(done.context["comments"])
    assert done.activity_id.startswith(PRINCIPAL)
    item = await stored_item(world, 1)
    assert (item.state, item.test_state) == (
        ProtectionState.PROTECTED,
        TestState.MARKED_FOR_DELETION,
    )
    (alert,) = await alerts(world)
    assert (alert.code, alert.principal, alert.provider_id) == (
        "TestEnded",
        PRINCIPAL,
        "osaka-provider",
    )
    assert "web01" in alert.message
    assert (await stored_item(world, 2)).state is ProtectionState.TEST_OPEN
    assert await chore(world).end_overdue() == 0


async def test_hubs_that_look_at_one_time_begin_one_clean_up(world: HubWorld) -> None:
    world.clock.time = BEGIN + OPEN_MAX
    first, second = chore(world), chore(world)
    await first.end_overdue()
    await second.end_overdue()
    assert len(await cleanups(world)) == len(await alerts(world)) == 1


async def test_a_clean_up_that_failed_is_tried_again_a_day_later(world: HubWorld) -> None:
    world.clock.time = BEGIN + OPEN_MAX
    await chore(world).end_overdue()
    (job,) = await cleanups(world)
    sites = Sites(world)
    assert (await sites.ended(job.id, failing("remove_test_machine"))).state is JobState.FAILED
    world.clock.time += timedelta(hours=1)
    await chore(world).end_overdue()
    assert len(await cleanups(world)) == 1
    world.clock.time += DAY
    await chore(world).end_overdue()
    first, second = await cleanups(world)
    assert (first.id, (await sites.ended(second.id, well)).state) == (job.id, JobState.SUCCEEDED)
    named = {each.message for each in await alerts(world) if "web01" in each.message}
    assert len(named) == 1


async def test_where_clean_ups_are_signed_the_hub_only_tells(world: HubWorld) -> None:
    strict = world.vault.model_copy(update={"requires_operator_signature": True})
    await world.committer.commit(Change(saves=(Save(strict, None),)))
    world.clock.time = BEGIN + OPEN_MAX
    for _ in range(2):
        assert await chore(world).end_overdue() == 1
    assert await cleanups(world) == []
    (alert,) = await alerts(world)
    assert "yourself" in alert.message


async def test_requests_are_forgotten_after_a_day(world: HubWorld) -> None:
    pruning = RequestKeyPruning(reader=world.store, committer=world.committer, clock=world.clock)
    operation = Operation.TEST_FAILOVER.value
    identity = world.identity("old")
    job = await world.protection.request(world.vault, item_id(3), operation, {}, identity)
    world.clock.time = BEGIN + KEPT
    young = world.identity("young")
    busy = await world.protection.request(world.vault, item_id(3), operation, {}, young)
    assert await pruning.prune() == 0
    assert (
        await world.protection.request(world.vault, item_id(3), operation, {}, identity)
    ).id == job.id
    world.clock.time += timedelta(seconds=1)
    assert await pruning.prune() == 1
    assert await pruning.prune() == 0
    assert [each.record.job_id for each in await world.store.find(RequestKey)] == [busy.id]
    again = await world.protection.request(world.vault, item_id(3), operation, {}, identity)
    assert again.id not in {job.id, busy.id}
