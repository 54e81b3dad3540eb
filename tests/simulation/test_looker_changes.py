"""What changed since a number: nothing is missed, waiting is bounded, vaults are kept apart."""

import asyncio
from pathlib import Path

import pytest

from service_hub.domain.errors import NotFoundError
from service_hub.domain.jobs import Job
from service_hub.domain.looker_records import TaskReceipt
from service_hub.domain.records import MachineObservation
from service_hub.ports.changes import Change, Delete
from tests.support.hub_stories import protected
from tests.support.hub_world import MACHINE_ID
from tests.support.looking_world import booted, looking

SECONDS_MAX = 20


async def test_a_view_that_follows_changes_misses_none(tmp_path: Path) -> None:
    async with looking(tmp_path) as (world, parts):
        await protected(world)
        whole = await parts.changes.since(world.vault.id, 0, limit=1000, wait_seconds=0)
        number, parted = 0, []
        while True:
            page = await parts.changes.since(world.vault.id, number, limit=2, wait_seconds=0)
            if not page.changes:
                break
            assert page.highest > number
            number = page.highest
            parted += list(page.changes)
        assert sorted({(each.kind, each.record_id) for each in parted}) == sorted(
            {(each.kind, each.record_id) for each in whole.changes}
        )
        kinds = {each.kind for each in whole.changes}
        assert {"job", "protected_item", "machine_observation"} <= kinds
        assert not kinds & {"outbox_event", "request_key", "task_receipt", "figure_chunk"}
        gone = f"osaka-provider/{(await world.item()).recovery_machine_id}"
        await world.committer.commit(Change(deletes=(Delete(MachineObservation, gone),)))
        after = await parts.changes.since(world.vault.id, number, limit=10, wait_seconds=0)
        assert [(each.record_id, each.deleted) for each in after.changes] == [(gone, True)]


async def test_who_waits_is_told_when_something_changes_and_not_before(tmp_path: Path) -> None:
    async with looking(tmp_path) as (world, parts), parts.changes.watching():
        await protected(world)
        number = await world.store.last_number()
        async with asyncio.timeout(SECONDS_MAX), asyncio.TaskGroup() as group:
            waiting = [
                group.create_task(
                    parts.changes.since(world.vault.id, number, limit=10, wait_seconds=25)
                )
                for _ in range(5)
            ]
            await asyncio.sleep(0)
            await booted(world, "tokyo", "boot-9")
        for each in waiting:
            assert "tokyo-provider" in {row.record_id for row in each.result().changes}


async def test_who_waits_is_answered_when_the_hub_stops(tmp_path: Path) -> None:
    async with looking(tmp_path) as (world, parts), parts.changes.watching():
        number = await world.store.last_number()
        async with asyncio.timeout(SECONDS_MAX), asyncio.TaskGroup() as group:
            waits = group.create_task(
                parts.changes.since(world.vault.id, number, limit=10, wait_seconds=25)
            )
            await asyncio.sleep(0.05)
            assert not waits.done()
            parts.changes.close()
        assert waits.result().highest == number
        after = await parts.changes.since(world.vault.id, number, limit=1, wait_seconds=25)
        assert after.changes == []


async def test_waiting_is_bounded_and_a_restored_hub_says_so(tmp_path: Path) -> None:
    async with looking(tmp_path) as (world, parts), parts.changes.watching():
        number = await world.store.last_number()
        page = await parts.changes.since(world.vault.id, number, limit=10, wait_seconds=0.05)
        assert (page.changes, page.highest, page.restarted) == ([], number, False)
        ahead = await parts.changes.since(world.vault.id, number + 5, limit=1, wait_seconds=25)
        assert (ahead.restarted, ahead.highest) == (True, number)
        other = await parts.changes.since("another-vault", 0, limit=10, wait_seconds=0)
        assert not other.changes


async def test_jobs_and_receipts_of_another_vault_are_not_there(tmp_path: Path) -> None:
    async with looking(tmp_path) as (world, parts):
        await protected(world)
        stranger = world.vault.model_copy(update={"id": "other", "vault_id": "other"})
        (job, *_rest) = await world.store.find(Job, item_id=MACHINE_ID)
        with pytest.raises(NotFoundError):
            await parts.observations.receipts(stranger, job.record.id, None)
        with pytest.raises(NotFoundError):
            await parts.observations.progress(stranger, job.record.id)
        with pytest.raises(NotFoundError):
            await parts.previews.preview(stranger, "Commit", MACHINE_ID, {})
        assert await parts.observations.items(stranger) == []
        assert len(await world.store.find(TaskReceipt, job_id=job.record.id)) > 0
