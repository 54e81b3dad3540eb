"""An administrator asks for protection in VMM: the hub begins it, once for each time."""

from datetime import datetime, timedelta
from pathlib import Path

from service_hub.domain.jobs import Job, JobState
from service_hub.domain.protection import Operation, ProtectionState
from service_hub.domain.records import Alert, ProtectedItem
from tests.support.hub_stories import ask, paired, protected, until_done
from tests.support.hub_world import MACHINE_ID, HubWorld, hub_world
from tests.support.site_views import inventory, machine
from wire_contract.reports import ProviderError
from wire_contract.vocabulary import Side


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


async def active_told(world: HubWorld, end_asked_at: datetime | None, site: str = "tokyo") -> None:
    """The provider of a site tells of its copy of the protected machine."""
    item = await world.item()
    side = Side.PRIMARY if site == "tokyo" else Side.RECOVERY
    view = machine(item.machine_at(side), site).model_copy(
        update={"protected_item": item.id, "protection_end_asked_at": end_asked_at}
    )
    await world.reports.inventory(world.providers[site], inventory(site, (view,)))


async def disablings(world: HubWorld) -> list[Job]:
    found = [each.record for each in await world.store.find(Job)]
    return [job for job in found if job.operation is Operation.DISABLE]


async def test_the_end_of_protection_is_asked_for_in_vmm_once(tmp_path: Path) -> None:
    async with hub_world(tmp_path) as world:
        await protected(world)
        await active_told(world, None)
        # A replica is not asked: its source, or the hub.
        await active_told(world, world.clock.now(), "osaka")
        assert not await disablings(world)
        asked_at = world.clock.now()
        await active_told(world, asked_at)
        await active_told(world, asked_at)
        (job,) = await disablings(world)
        await until_done(world, job.id)
        assert (await world.job(job.id)).state is JobState.SUCCEEDED
        assert await world.store.get(ProtectedItem, MACHINE_ID) is None
        await told(world, None)
        assert len(await disablings(world)) == 1


async def test_an_end_that_failed_is_not_begun_again_unasked(tmp_path: Path) -> None:
    async with hub_world(tmp_path) as world:
        await protected(world)
        asked_at = world.clock.now()
        await active_told(world, asked_at)
        (job,) = await disablings(world)
        await until_done(world, job.id, lambda _: ProviderError(code=32768, message="no"))
        assert (await world.job(job.id)).state is JobState.FAILED
        await active_told(world, asked_at)
        assert len(await disablings(world)) == 1
        await active_told(world, asked_at + timedelta(minutes=1))
        assert len(await disablings(world)) == 2
