"""Network and storage mappings through the real engine: mapped, followed, changed, removed."""

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import JsonValue

from service_hub.domain import errors
from service_hub.domain.errors import InvalidRequestError, NotFoundError
from service_hub.domain.jobs import Job, JobState, TaskState
from service_hub.domain.mapping_records import NetworkMapping
from service_hub.domain.network_mapping import replica_adapter_id
from service_hub.domain.protection import Operation, ProtectionState
from service_hub.ports.changes import Change, Save
from tests.support.hub_stories import ask, observe, paired, until_done
from tests.support.hub_world import MACHINE_ID, HubWorld, hub_world
from tests.support.mapped_estate import NICS, furnish, observed
from wire_contract.events import Assignment
from wire_contract.reports import ProviderError
from wire_contract.vocabulary import ReplicationState


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[HubWorld]:
    async with hub_world(tmp_path) as world:
        await furnish(world)
        await paired(world)
        yield world


async def mapped(
    world: HubWorld, source: str = "corp", target: str = "corp", name: str = "map"
) -> Job:
    """Map a network and let the job end."""
    job = await world.networks.map(
        world.vault,
        name=name,
        primary=("tokyo-fabric", f"tokyo-{source}"),
        recovery=("osaka-fabric", f"osaka-{target}"),
        identity=world.identity(),
    )
    return await ended(world, job)


async def ended(world: HubWorld, job: Job, asked: list[Assignment] | None = None) -> Job:
    """Let a job and those below it end; `asked` is filled with what the sites were asked."""
    answered: set[str] = set()
    for _ in range(2000):
        job = await world.job(job.id)
        if job.finished:
            return job
        children = await world.store.find(Job, parent_id=job.id)
        jobs = {job.id, *(each.record.id for each in children)}
        waiting = [
            (site, each)
            for site in ("tokyo", "osaka")
            for each in await world.assignments(site)
            if each.job in jobs and each.command_id not in answered
        ]
        for site, each in waiting:
            answered.add(each.command_id)
            if asked is not None:
                asked.append(each)
            await world.outcome(site, each)
        if not waiting:
            await world.committer.until_next()
    pytest.fail(f"the job did not end: {job}")


async def enabled(world: HubWorld) -> Mapping[str, Any]:
    """Bring the machine to Protected; what its replica's place was asked for."""
    asked: list[Assignment] = []
    job = await world.protection.enable(
        world.vault,
        container=("tokyo-fabric", "tokyo-cloud"),
        item_name=MACHINE_ID,
        machine_id=MACHINE_ID,
        policy_name="p",
        identity=world.identity(),
    )
    assert (await ended(world, job, asked)).state is JobState.SUCCEEDED
    return asked[0].arguments


def wanted(asked: list[Assignment], verb: str = "connect_adapters") -> dict[str, Any]:
    """Return which network each of the source's adapters is asked to stand for."""
    (last,) = [each for each in asked if each.verb == verb]
    replica = last.target
    adapters: Any = last.arguments.get("adapters", [])
    by_id = {each["nic_id"]: each["network_id"] for each in adapters}
    return {nic.nic_id: by_id.get(replica_adapter_id(replica, nic.nic_id)) for nic in NICS}


async def test_a_map_without_replicas_attaches_nothing(world: HubWorld) -> None:
    job = await mapped(world)
    assert job.state is JobState.SUCCEEDED
    assert [(task.task_id, task.state) for task in job.tasks] == [
        ("ModifyVMNetworksPairingStatusTask", TaskState.SUCCEEDED),
        ("VMNetworksUpdateVMNicsTask", TaskState.SKIPPED),
    ]
    assert job.affected["primaryNetworkName"] == "corp"
    (kept,) = await world.networks.list(world.vault)
    assert (kept.primary_network_id, kept.recovery_network_id) == ("tokyo-corp", "osaka-corp")


async def test_a_new_replica_is_placed_by_what_its_primary_and_its_mappings_need(
    world: HubWorld,
) -> None:
    await mapped(world)
    await storage(world)
    place = await enabled(world)
    item = await world.item()
    assert (place["processors"], place["memory_megabytes"]) == (4, 8192)
    assert place["network_ids"] == ["osaka-corp"]
    assert place["classification_id"] == "osaka-slow"
    replica = item.recovery_machine_id
    assert [each["nic_id"] for each in place["adapters"]] == [
        replica_adapter_id(replica, nic.nic_id) for nic in NICS
    ]


async def storage(world: HubWorld, target: str = "slow") -> Job:
    """Map the source's storage classification and let the job end."""
    job = await world.storage.map(
        world.vault,
        name="storage",
        primary=("tokyo-fabric", "tokyo-fast"),
        recovery=("osaka-fabric", f"osaka-{target}"),
        identity=world.identity(),
    )
    return await ended(world, job)


async def brought_under_protection(world: HubWorld) -> list[Assignment]:
    """Enable, and let the initial replication end; what the sites were asked on the way."""
    await enabled(world)
    await observe(world, "osaka", ReplicationState.REPLICATING)
    await observed(world)
    for _ in range(2000):
        item = await world.item()
        if item.current is not None:
            await until_done(world, item.current.job_id)
        elif item.state is ProtectionState.PROTECTED:
            return [each for site in ("tokyo", "osaka") for each in await world.assignments(site)]
        else:
            await world.committer.until_next()
    pytest.fail("the item did not become protected")


async def test_a_map_is_followed_at_once_changed_and_removed(world: HubWorld) -> None:
    before = await brought_under_protection(world)
    assert not [each for each in before if each.verb == "connect_adapters"]
    asked: list[Assignment] = []
    job = await world.networks.map(
        world.vault,
        name="map",
        primary=("tokyo-fabric", "TOKYO-CORP"),
        recovery=("osaka-fabric", "osaka-corp"),
        identity=world.identity(),
    )
    job = await ended(world, job, asked)
    assert job.state is JobState.SUCCEEDED
    assert job.spec("VMNetworksUpdateVMNicsTask").friendly_name == "Attach network (1)"
    assert wanted(asked) == {"nic-1": "osaka-corp", "nic-2": None}
    adapters: Any = asked[-1].arguments["adapters"]
    assert adapters[0]["subnet"] == "back"
    assert (adapters[0]["address_type"], adapters[0]["address"]) == ("Static", "10.1.0.7")
    assert [each.network_id for each in (await world.item()).adapters] == ["osaka-corp", None]

    asked = []
    assert (await follow(world, asked, "lab")).state is JobState.SUCCEEDED
    assert wanted(asked) == {"nic-1": "osaka-lab", "nic-2": None}

    asked = []
    job = await world.networks.unmap(
        world.vault,
        name="MAP",
        primary=("tokyo-fabric", "tokyo-corp"),
        identity=world.identity(),
    )
    job = await ended(world, job, asked)
    assert (job.scenario.name, job.state) == ("NetworkUnPairing", JobState.SUCCEEDED)
    assert wanted(asked) == {"nic-1": None, "nic-2": None}
    assert await world.networks.list(world.vault) == []


async def follow(world: HubWorld, asked: list[Assignment], target: str) -> Job:
    """Change the map to another network."""
    job = await world.networks.map(
        world.vault,
        name="map",
        primary=("tokyo-fabric", "tokyo-corp"),
        recovery=("osaka-fabric", f"osaka-{target}"),
        identity=world.identity(),
        must_exist=True,
    )
    return await ended(world, job, asked)


async def test_a_mapped_network_is_attached_when_initial_replication_has_ended(
    world: HubWorld,
) -> None:
    await mapped(world)
    asked = await brought_under_protection(world)
    assert wanted(asked) == {"nic-1": "osaka-corp", "nic-2": None}
    (last,) = [
        found.record
        for found in await world.store.find(Job, vault_id="vault")
        if found.record.scenario_key == "complete_recovery"
    ]
    run = last.run("ReplicaConfigurationTask")
    assert run is not None
    assert run.state is TaskState.SUCCEEDED


async def test_a_failover_brings_what_is_mapped_then(world: HubWorld) -> None:
    """Also what was mapped, or came to the source, when the replica could not follow."""
    await brought_under_protection(world)
    mapping = NetworkMapping(
        id="vault/tokyo-provider/tokyo-dmz/osaka-provider",
        vault_id="vault",
        name="late",
        primary_provider_id="tokyo-provider",
        primary_network_id="tokyo-dmz",
        recovery_provider_id="osaka-provider",
        recovery_network_id="osaka-dmz",
    )
    await world.committer.commit(Change(saves=(Save(mapping, None),)))
    asked: list[Assignment] = []
    job = await world.job(await ask(world, Operation.PLANNED_FAILOVER))
    assert (await ended(world, job, asked)).state is JobState.SUCCEEDED
    assert wanted(asked, "fail_over") == {"nic-1": None, "nic-2": "osaka-dmz"}


async def test_what_an_operator_chose_for_an_adapter_stands_before_the_map(
    world: HubWorld,
) -> None:
    await mapped(world)
    await brought_under_protection(world)
    asked: list[Assignment] = []
    choice: JsonValue = {
        "nic_id": "nic-1",
        "network_id": "osaka-lab",
        "subnet": None,
        "address": "10.9.0.9",
    }
    asked_for = await ask(world, Operation.UPDATE_NETWORKS, chosen=[choice], mapped=[])
    job = await world.job(asked_for)
    job = await ended(world, job, asked)
    assert (job.scenario.name, job.state) == ("VmNicUpdateJob", JobState.SUCCEEDED)
    assert wanted(asked) == {"nic-1": "osaka-lab", "nic-2": None}
    adapters: Any = asked[-1].arguments["adapters"]
    assert (adapters[0]["address_type"], adapters[0]["address"]) == ("Static", "10.9.0.9")
    # The map changes: what was chosen stays.
    asked = []
    await follow(world, asked, "dmz")
    assert wanted(asked) == {"nic-1": "osaka-lab", "nic-2": None}
    # It follows the map again.
    asked = []
    job = await world.job(await ask(world, Operation.UPDATE_NETWORKS, chosen=[], mapped=["nic-1"]))
    assert (await ended(world, job, asked)).state is JobState.SUCCEEDED
    assert wanted(asked) == {"nic-1": "osaka-dmz", "nic-2": None}
    assert (await world.item()).chosen_adapters == ()


@pytest.mark.parametrize(
    ("source", "target", "code"),
    [("corp", "apart", errors.NETWORK_NOT_OFFERED), ("apart", "corp", errors.NETWORK_NOT_OFFERED)],
)
async def test_what_is_not_offered_is_a_job_that_failed(
    world: HubWorld, source: str, target: str, code: str
) -> None:
    job = await mapped(world, source, target)
    assert job.state is JobState.FAILED
    assert [error.code for error in job.errors] == [code]
    assert await world.networks.list(world.vault) == []


async def test_a_network_has_one_map_to_a_server(world: HubWorld) -> None:
    await mapped(world)
    job = await mapped(world, target="lab", name="second")
    assert [error.code for error in job.errors] == [errors.NETWORK_MAPPED]
    (kept,) = await world.networks.list(world.vault)
    assert (kept.name, kept.recovery_network_id) == ("map", "osaka-corp")


async def test_names_that_nothing_has_are_said_at_once(world: HubWorld) -> None:
    corp = ("tokyo-fabric", "tokyo-corp")
    with pytest.raises(NotFoundError):
        await mapped(world, target="nowhere")
    with pytest.raises(NotFoundError):
        await world.networks.unmap(world.vault, name="map", primary=corp, identity=world.identity())
    with pytest.raises(InvalidRequestError):
        await world.networks.map(
            world.vault, name="map", primary=corp, recovery=None, identity=world.identity()
        )


async def test_an_adapter_that_cannot_be_connected_is_said_and_the_map_stays(
    world: HubWorld,
) -> None:
    await brought_under_protection(world)
    job = await world.networks.map(
        world.vault,
        name="map",
        primary=("tokyo-fabric", "tokyo-corp"),
        recovery=("osaka-fabric", "osaka-corp"),
        identity=world.identity(),
    )
    children: list[str] = []

    def refused(_assignment: Assignment) -> ProviderError:
        return ProviderError(code=91010, message="all addresses are taken")

    while not children:
        found = await world.store.find(Job, parent_id=job.id)
        children = [each.record.id for each in found]
        if not children:
            await world.committer.until_next()
    await until_done(world, children[0], refused)
    job = await ended(world, job)
    assert job.state is JobState.FAILED
    assert job.allowed_actions == ("Restart",)
    assert [each.name for each in await world.networks.list(world.vault)] == ["map"]
    assert (await world.item()).current is None


async def test_what_is_offered_is_told_cloud_by_cloud(world: HubWorld) -> None:
    shown = await world.networks.offers(
        world.vault, primary=("tokyo-fabric", "tokyo-corp"), recovery_fabric="osaka-fabric"
    )
    assert {each.network.friendly_name: each.is_offered for each in shown} == {
        "corp": True,
        "lab": True,
        "dmz": True,
        "apart": False,
    }
    assert {each.recovery_cloud_id for offer in shown for each in offer.clouds} == {"osaka-cloud"}


async def test_storage_is_mapped_changed_and_removed(world: HubWorld) -> None:
    job = await storage(world)
    assert (job.scenario.name, job.state) == ("ClassificationPairing", JobState.SUCCEEDED)
    assert (await storage(world, "fast")).state is JobState.SUCCEEDED
    (kept,) = await world.storage.list(world.vault)
    assert kept.recovery_classification_id == "osaka-fast"
    job = await world.storage.unmap(
        world.vault,
        name="storage",
        primary=("tokyo-fabric", "tokyo-fast"),
        identity=world.identity(),
    )
    assert (await ended(world, job)).state is JobState.SUCCEEDED
    assert await world.storage.list(world.vault) == []
    assert "classification_id" not in await enabled(world)
