"""Recovery points set at a machine in VMM: not fewer than its cloud has (seed, step 4.7)."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from service_hub.domain.jobs import Job, JobState
from service_hub.domain.records import FabricInventory, ReplicationPolicy
from service_hub.ports.changes import Change, Save
from tests.support.hub_stories import completed, paired, until_done
from tests.support.hub_world import MACHINE_ID, HubWorld, hub_world, inventory, machine


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[HubWorld]:
    async with hub_world(tmp_path) as opened:
        await paired(opened)
        await change_policy(opened, 3)
        yield opened


async def change_policy(world: HubWorld, points: int) -> Job:
    """Ask for so many points of the cloud, and return the job that has ended."""
    job = await world.policies.change(
        world.vault, "p", {"recovery_points": points}, world.identity()
    )
    await until_done(world, job.id)
    return await world.job(job.id)


async def set_in_vmm(world: HubWorld, points: int | None, version: str = "2012R2") -> None:
    """Have the machine's server tell how many points were set at it."""
    found = await world.store.get(FabricInventory, "tokyo-provider")
    assert found is not None
    told = machine(MACHINE_ID, "tokyo").model_copy(update={"recovery_points": points})
    view = inventory("tokyo", (told,))
    hosts = tuple(each.model_copy(update={"version": version}) for each in view.hosts)
    view = view.model_copy(update={"hosts": hosts})
    save = Save(found.record.model_copy(update={"view": view}), found.version)
    await world.committer.commit(Change(saves=(save,)))


async def enable(world: HubWorld) -> tuple[Job, int | None]:
    """Enable the machine; return the job, and how many points its primary was told."""
    job = await world.protection.enable(
        world.vault,
        container=("tokyo-fabric", "tokyo-cloud"),
        item_name=MACHINE_ID,
        machine_id=MACHINE_ID,
        policy_name="p",
        identity=world.identity(),
    )
    told: list[Any] = []

    def noting(assignment: Any) -> None:
        if assignment.verb == "enable_replication":
            told.append(assignment.arguments["recovery_points"])

    await until_done(world, job.id, noting)
    return await world.job(job.id), told[0] if told else None


async def test_fewer_than_the_cloud_are_refused_until_they_are_more(world: HubWorld) -> None:
    await set_in_vmm(world, 2)
    job, told = await enable(world)
    assert (job.state, told) == (JobState.FAILED, None)
    assert job.errors[0].code == "90135"
    assert "2 additional recovery points in VMM" in job.errors[0].possible_causes
    assert "the policy 'p' asks for 3" in job.errors[0].possible_causes
    await set_in_vmm(world, 8)
    job, told = await enable(world)
    assert (job.state, told) == (JobState.SUCCEEDED, 8)


@pytest.mark.parametrize(("points", "told"), [(None, 3), (3, 3), (24, 24)])
async def test_as_many_as_the_cloud_or_none_of_its_own_are_taken(
    world: HubWorld, points: int | None, told: int
) -> None:
    await set_in_vmm(world, points)
    job, asked = await enable(world)
    assert (job.state, asked) == (JobState.SUCCEEDED, told)


async def test_a_host_of_2012_needs_no_more_than_it_can_keep(world: HubWorld) -> None:
    await change_policy(world, 20)
    await set_in_vmm(world, 15, "2012")
    job, told = await enable(world)
    assert (job.state, told) == (JobState.SUCCEEDED, 15)


async def test_a_cloud_gets_no_more_than_its_machines_have(world: HubWorld) -> None:
    await set_in_vmm(world, 5)
    await enable(world)
    await completed(world)
    refused = await change_policy(world, 6)
    assert (refused.state, refused.errors[0].code) == (JobState.FAILED, "90135")
    assert "web01" in refused.errors[0].message
    (kept,) = await world.store.find(ReplicationPolicy, vault_id=world.vault.id)
    assert kept.record.recovery_points == 3, "nothing was changed"
    assert (await change_policy(world, 5)).state is JobState.SUCCEEDED
