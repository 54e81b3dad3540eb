"""An administrator asks for protection in VMM: the hub begins it, once for each time."""

from datetime import datetime, timedelta
from pathlib import Path

from service_hub.domain.jobs import Job
from service_hub.domain.protection import Operation, ProtectionState
from service_hub.domain.records import Alert, ProtectedItem
from tests.support.hub_stories import ask, paired, until_done
from tests.support.hub_world import MACHINE_ID, HubWorld, hub_world
from tests.support.site_views import inventory, machine


async def told(world: HubWorld, asked_at: datetime | None) -> None:
    """The provider tells the hub of its machine as it is now."""
    view = machine(MACHINE_ID, "tokyo").model_copy(update={"protection_asked_at": asked_at})
    await world.reports.inventory(world.providers["tokyo"], inventory("tokyo", (view,)))


async def enablings(world: HubWorld) -> list[Job]:
    found = [each.record for each in await world.store.find(Job)]
    return [job for job in found if job.operation is Operation.ENABLE]


async def test_what_is_asked_in_vmm_is_protected_once(tmp_path: Path) -> None:
    async with hub_world(tmp_path) as world:
        await paired(world)
        asked_at = world.clock.now()
        await told(world, asked_at)
        await told(world, asked_at)
        (job,) = await enablings(world)
        assert job.scenario.name == "EnableDr"
        await until_done(world, job.id)
        assert (await world.item()).state is ProtectionState.INITIAL_REPLICATION
        await until_done(world, await ask(world, Operation.DISABLE))
        # An older view of the same request is answered already; a later request is another one.
        await told(world, asked_at)
        assert len(await enablings(world)) == 1
        assert await world.store.get(ProtectedItem, MACHINE_ID) is None
        await told(world, world.clock.now() + timedelta(minutes=1))
        assert len(await enablings(world)) == 2


async def test_what_cannot_begin_is_said_once_and_begins_later(tmp_path: Path) -> None:
    async with hub_world(tmp_path) as world:
        asked_at = world.clock.now()
        for _ in range(2):
            await told(world, asked_at)
        (alert,) = [each.record for each in await world.store.find(Alert)]
        assert alert.code == "ProtectionNotBegun"
        assert "its cloud is not paired as a primary: pair it" in alert.message
        await paired(world)
        await told(world, asked_at)
        assert len(await enablings(world)) == 1


async def test_who_does_not_ask_is_left_alone(tmp_path: Path) -> None:
    async with hub_world(tmp_path) as world:
        await paired(world)
        await told(world, None)
        assert not await enablings(world)
