"""What operators have to see is stored once, with the change that it tells of."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from service_hub.domain.jobs import JobState
from service_hub.domain.protection import Operation
from service_hub.domain.replication_events import (
    COPY_FENCED,
    HEALTH_CHANGED,
    JOB_STATUS,
    PROVIDER_LOST,
    PROVIDER_RETURNED,
    SOURCE_MAY_RUN,
    SPLIT_BRAIN_FOUND,
    STARTED_WITHOUT_HUB,
    ReplicationEvent,
)
from service_hub.services.replication_events import EventPruning, LostProviders
from tests.support.hub_stories import ask, ended, protected, until_done
from tests.support.hub_world import HubWorld, hub_world, machine, replication
from wire_contract.events import Assignment
from wire_contract.reports import (
    Heartbeat,
    MachineObserved,
    ProviderError,
    ReportBatch,
    StreamPosition,
)
from wire_contract.vmm_interface import (
    InventoryView,
    MachineView,
    ReplicationView,
    StartedWithoutHub,
)
from wire_contract.vocabulary import Health, ReplicationMode, ReplicationState, RunState

LEASE = timedelta(minutes=5)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[HubWorld]:
    async with hub_world(tmp_path, lease=LEASE) as world:
        await protected(world)
        yield world


async def told(world: HubWorld) -> list[ReplicationEvent]:
    """Return all events, newest first."""
    return [*(await world.events.list(world.vault, {}, None, 1000)).events]


async def codes(world: HubWorld) -> list[str]:
    return [each.code for each in await told(world)]


def replicating() -> ReplicationView:
    return replication(ReplicationState.REPLICATING, ReplicationMode.PRIMARY)


def source(item_id: str, *, epoch: int = 1, **update: Any) -> MachineView:
    """Return the first primary's copy as its host sees it."""
    seen = machine(item_id, "tokyo", replicating())
    shown = {"protected_item": item_id, "epoch": epoch, **update}
    return seen.model_copy(update=shown)


async def observed(world: HubWorld, view: MachineView) -> None:
    at = world.clock.now()
    report = MachineObserved(report_id=world.clock.new_id(), observed_at=at, machine=view)
    batch = ReportBatch(journal_id="j", reports=(report,))
    await world.reports.reports(world.providers["tokyo"], batch)


async def failed_over(world: HubWorld) -> str:
    """Fail over without asking the source, which ran when it was last seen; return the job."""
    item = await world.item()
    await observed(world, source(item.primary_machine_id, run_state=RunState.RUNNING))
    world.clock.time += timedelta(seconds=1)
    job_id = await ask(world, Operation.UNPLANNED_FAILOVER, source_operations_required=False)
    assert await ended(world, job_id) is JobState.SUCCEEDED
    world.clock.time += timedelta(seconds=1)
    return job_id


async def test_a_failover_past_a_source_that_may_run_says_both(world: HubWorld) -> None:
    job_id = await failed_over(world)
    done, warned = sorted((await told(world))[:2], key=lambda each: each.event_type)
    assert (warned.code, warned.severity, warned.event_type) == (
        SOURCE_MAY_RUN,
        "Warning",
        "VmHealth",
    )
    assert [each.code for each in warned.health] == ["90041"]
    assert (done.code, done.severity, done.job_id) == (JOB_STATUS, "OK", job_id)
    assert done.description.endswith("- Succeeded")
    assert warned.place.fabric
    assert warned.place.remote_fabric
    assert warned.occurred_at == done.occurred_at


async def test_a_source_that_comes_back_is_told_once_with_what_it_holds(world: HubWorld) -> None:
    await failed_over(world)
    before = await codes(world)
    item = await world.item()
    relation = replicating().model_copy(update={"last_record": 90, "tracked_bytes": 4096})
    fenced = source(
        item.primary_machine_id,
        epoch=2,
        fenced=True,
        run_state=RunState.OFF,
        replication=relation,
    )
    for _ in range(3):
        await observed(world, fenced)
        world.clock.time += timedelta(seconds=1)
    new = (await told(world))[: len(await codes(world)) - len(before)]
    assert sorted(each.code for each in new) == sorted([COPY_FENCED, SPLIT_BRAIN_FOUND])
    found = next(each for each in new if each.code == SPLIT_BRAIN_FOUND)
    assert found.severity == "Critical"
    assert "4096 bytes" in found.description
    assert found.affected_id == item.id
    assert (found.place.fabric, found.place.remote_fabric) != ("", "")


async def test_the_view_and_its_event_are_one_transaction(world: HubWorld) -> None:
    item = await world.item()
    running = source(item.primary_machine_id, run_state=RunState.RUNNING)
    await observed(world, running)
    number = await world.store.last_number()
    sick = replicating().model_copy(
        update={"health": Health.CRITICAL, "last_error": "the line is cut"}
    )
    await observed(world, running.model_copy(update={"replication": sick}))
    rows = await world.store.changes_since(world.vault.id, number, 100)
    numbers = {row.kind: row.number for row in rows}
    assert numbers["replication_event"] == numbers["machine_observation"]
    (event,) = [each for each in await told(world) if each.code == HEALTH_CHANGED]
    assert event.severity == "Critical"
    assert "the line is cut" in event.health[0].causes
    await observed(world, running)
    newest = next(each for each in await told(world) if each.code == HEALTH_CHANGED)
    assert (newest.severity, newest.health) == ("OK", ())


async def test_an_inventory_tells_the_same(world: HubWorld) -> None:
    await failed_over(world)
    item = await world.item()
    running = source(item.primary_machine_id, run_state=RunState.RUNNING)
    view = (await world.fabrics.facts(world.providers["tokyo"])).inventory
    assert view is not None
    await world.reports.inventory(
        world.providers["tokyo"],
        InventoryView.model_validate({**dict(view.view), "machines": (running,)}),
    )
    assert SPLIT_BRAIN_FOUND in await codes(world)


async def test_a_job_that_fails_is_told_with_its_errors(world: HubWorld) -> None:
    def refuses(_assignment: Assignment) -> ProviderError | None:
        return ProviderError(code=32768, message="the host says no")

    job_id = await ask(world, Operation.TEST_FAILOVER)
    await until_done(world, job_id, refuses)
    event = (await told(world))[0]
    assert (event.code, event.severity, event.job_status) == (JOB_STATUS, "Critical", "Failed")
    assert event.job_id == job_id
    assert event.health
    assert event.health[0].message


async def test_a_server_that_falls_silent_is_told_once_and_so_is_its_return(
    world: HubWorld,
) -> None:
    lost = LostProviders(
        reader=world.store, committer=world.committer, clock=world.clock, liveness=world.fabrics
    )
    assert await lost.look() == 0
    world.clock.time += LEASE + timedelta(seconds=1)
    await world.heard_of("osaka")
    assert [await lost.look() for _ in range(3)] == [1, 0, 0]
    event = (await told(world))[0]
    assert (event.code, event.severity) == (PROVIDER_LOST, "Critical")
    assert event.affected_id == world.providers["tokyo"].id
    place = StreamPosition(stream="s", seq=0)
    beat = Heartbeat(boot_id="b", last=place, fabric_reachable=True)
    for _ in range(2):
        await world.reports.heartbeat(world.providers["tokyo"], beat)
    assert (await codes(world))[:2] == [PROVIDER_RETURNED, PROVIDER_LOST]


async def test_old_events_are_forgotten(world: HubWorld) -> None:
    await failed_over(world)
    pruning = EventPruning(
        lists=world.store,
        committer=world.committer,
        clock=world.clock,
        kept=timedelta(days=90),
    )
    assert await pruning.prune() == 0
    count = len(await told(world))
    world.clock.time += timedelta(days=91)
    assert await pruning.prune() == count > 0
    assert await told(world) == []


async def test_who_was_started_without_the_hub_is_told_once(world: HubWorld) -> None:
    item = await world.item()
    word = StartedWithoutHub(by="anna", reason="the line is cut", at=world.clock.now())
    alone = source(item.primary_machine_id, started_without_hub=word)
    for view in (source(item.primary_machine_id), alone, alone):
        world.clock.time += timedelta(seconds=1)
        await observed(world, view)
    (event,) = [each for each in await told(world) if each.code == STARTED_WITHOUT_HUB]
    assert event.principal == "anna"
    assert event.description.endswith("under epoch 1: the line is cut")
    again = word.model_copy(update={"at": world.clock.now()})
    await observed(world, alone.model_copy(update={"started_without_hub": again}))
    assert (await codes(world)).count(STARTED_WITHOUT_HUB) == 2
