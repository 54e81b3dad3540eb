"""Pairs of clouds over the real store: refused with reasons, removed, purged; policies deleted.

Over 400 lines because the settings of one pair are told from its making to its end.
"""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from service_hub.domain.errors import ConflictError, InvalidRequestError, NotFoundError
from service_hub.domain.jobs import Job, JobState, TaskState
from service_hub.domain.records import Alert, ContainerMapping, FabricInventory, ReplicationPolicy
from service_hub.ports.changes import Change, Save
from tests.support.hub_stories import paired, protected, until_done
from tests.support.hub_world import MACHINE_ID, HubWorld, hub_world, inventory, machine
from tests.support.site_views import with_host_added
from wire_contract.reports import ProviderError
from wire_contract.vocabulary import Verb

UNDER_TOKYO = ("tokyo-fabric", "tokyo-cloud")
UNDER_OSAKA = ("osaka-fabric", "osaka-cloud")
SECONDS = timedelta(seconds=1)
FOR_GOOD = 32768
STEPS_MAX = 200


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[HubWorld]:
    async with hub_world(tmp_path) as opened:
        yield opened


async def mapping(world: HubWorld) -> ContainerMapping | None:
    """Return the one mapping, None once it is gone."""
    found = await world.store.find(ContainerMapping, vault_id=world.vault.id)
    return found[0].record if found else None


async def until_inventories_are_asked(world: HubWorld, job_id: str) -> list[str]:
    """Answer what a removal asks of both sites, then send both inventories."""
    done: dict[str, str] = {}
    for _ in range(STEPS_MAX):
        job = await world.job(job_id)
        if job.finished:
            return [*done.values()]
        for site in ("tokyo", "osaka"):
            for each in await world.assignments(site):
                if each.job == job_id and each.command_id not in done:
                    done[each.command_id] = f"{site} {each.verb}"
                    await world.outcome(site, each)
        last = (await world.job(job_id)).run("CloudUnpairingWfCleanupSiteTask")
        if last is None or last.state is not TaskState.IN_PROGRESS:
            await world.committer.until_next()
            continue
        for site in ("tokyo", "osaka"):
            assert await world.refreshes(site) == 1
            machines = (machine(MACHINE_ID, site),) if site == "tokyo" else ()
            view = inventory(site, machines)
            await world.reports.inventory(world.providers[site], view)
    pytest.fail(f"the removal did not end: {job}")


async def pair(world: HubWorld, name: str = "m", **changes: Any) -> Job:
    """Ask for the pairing of the two clouds."""
    asked = {"primary": UNDER_TOKYO, "recovery": UNDER_OSAKA, "policy_name": "p", **changes}
    identity = world.identity()
    return await world.pairing.pair(world.vault, name=name, identity=identity, **asked)


# ----------------------------------------------------------------------------------------- removal


@pytest.mark.parametrize("cloud", [UNDER_TOKYO, UNDER_OSAKA])
async def test_a_removed_mapping_is_undone_on_both_sites_and_forgotten(
    world: HubWorld, cloud: tuple[str, str]
) -> None:
    await paired(world)
    job = await world.pairing.remove(world.vault, cloud, "M", world.identity())
    held = await mapping(world)
    assert held is not None
    assert (held.mapping_state, held.job_id) == ("UnpairingInProgress", job.id)
    done = await until_inventories_are_asked(world, job.id)
    assert sorted(done) == ["osaka unpair_cloud", "tokyo unpair_cloud"]
    ended = await world.job(job.id)
    assert (ended.state, ended.scenario.name) == (
        JobState.SUCCEEDED,
        "DissociateProtectionProfile",
    )
    assert [each.task_id for each in ended.tasks] == [
        "CloudUnpairingWfPreflightChecksTask",
        "CloudUnpairingWfUnpairCloudsTask",
        "CloudUnpairingWfCleanupCloudsTask",
        "CloudUnpairingWfCleanupSiteTask",
    ]
    assert await mapping(world) is None
    with pytest.raises(NotFoundError):
        await world.pairing.remove(world.vault, cloud, "m", world.identity())
    # The target may be another one now.
    again = await pair(world, "other")
    await until_done(world, again.id)
    assert (await world.job(again.id)).state is JobState.SUCCEEDED


async def test_a_mapping_with_protected_machines_stays(world: HubWorld) -> None:
    await protected(world)
    job = await world.pairing.remove(world.vault, UNDER_TOKYO, "m", world.identity())
    assert (job.state, job.errors[0].code) == (JobState.FAILED, "90050")
    assert "1 protected: web01" in job.errors[0].possible_causes
    with pytest.raises(ConflictError, match="1 protected: web01"):
        await world.pairing.purge(world.vault, UNDER_TOKYO, "m")
    kept = await mapping(world)
    assert kept is not None
    assert kept.mapping_state == "Paired"


async def test_only_one_job_works_on_a_mapping(world: HubWorld) -> None:
    await paired(world)
    first = await world.pairing.remove(world.vault, UNDER_TOKYO, "m", world.identity("r"))
    same = await world.pairing.remove(world.vault, UNDER_TOKYO, "m", world.identity("r"))
    assert same.id == first.id
    for other in (
        await world.pairing.remove(world.vault, UNDER_TOKYO, "m", world.identity()),
        await pair(world),
    ):
        assert (other.state, other.errors[0].code) == (JobState.FAILED, "532")
        assert "DissociateProtectionProfile since" in other.errors[0].possible_causes
    with pytest.raises(ConflictError, match="DissociateProtectionProfile since"):
        await world.pairing.purge(world.vault, UNDER_TOKYO, "m")


async def test_a_removal_that_failed_is_restarted_where_it_stopped(world: HubWorld) -> None:
    await paired(world)
    job = await world.pairing.remove(world.vault, UNDER_TOKYO, "m", world.identity())

    def refusing(assignment: Any) -> ProviderError | None:
        is_osaka = assignment.target == "osaka-cloud"
        return ProviderError(code=FOR_GOOD, message="no") if is_osaka else None

    await until_done(world, job.id, refusing)
    failed = await mapping(world)
    assert failed is not None
    assert failed.mapping_state == "UnpairingFailed"
    await world.jobs.restart(world.vault, job.id, world.identity())
    held = await mapping(world)
    assert held is not None
    assert held.mapping_state == "UnpairingInProgress"
    assert "osaka unpair_cloud" in await until_inventories_are_asked(world, job.id)
    assert await mapping(world) is None


async def test_a_mapping_of_disconnected_sites_is_purged_with_alerts(tmp_path: Path) -> None:
    async with hub_world(tmp_path, lease=60 * SECONDS) as world:
        await paired(world)
        world.clock.time += 61 * SECONDS
        await world.heard_of("osaka")
        await world.pairing.purge(world.vault, UNDER_OSAKA, "m")
        assert await mapping(world) is None
        (alert,) = [each.record for each in await world.store.find(Alert)]
        assert (alert.provider_id, alert.code) == ("tokyo-provider", "PartnerPurged")
        assert "provider-agent cleanup --unpair tokyo-cloud" in alert.message
        (job,) = [
            each.record
            for each in await world.store.find(Job)
            if each.record.scenario_key == "tidy_partner"
        ]
        assert await until_done(world, job.id) == ["osaka unpair_cloud e0"]
        with pytest.raises(NotFoundError):
            await world.pairing.purge(world.vault, UNDER_OSAKA, "m")


# --------------------------------------------------------------------------- hosts of two versions


async def test_two_clouds_are_paired_once_for_each_kind_of_host(world: HubWorld) -> None:
    await paired(world)
    older = {"provider_type": "HyperVReplica2012"}
    job = await world.policies.create(world.vault, "older", older, world.identity())
    await until_done(world, job.id)
    second = await pair(world, "m2012", policy_name="older")
    await until_done(world, second.id)
    assert (await world.job(second.id)).state is JobState.SUCCEEDED
    third = await pair(world, "third", policy_name="older")
    assert (third.state, third.errors[0].code) == (JobState.FAILED, "90015")
    # While the other mapping stays, the clouds stay paired.
    removal = await world.pairing.remove(world.vault, UNDER_TOKYO, "m2012", world.identity())
    assert await until_done(world, removal.id) == []
    tasks = {each.task_id: each.state for each in (await world.job(removal.id)).tasks}
    assert tasks["CloudUnpairingWfUnpairCloudsTask"] is TaskState.SKIPPED
    left = await mapping(world)
    assert left is not None
    assert left.name == "m"


async def test_hosts_with_tickets_get_no_certificates(world: HubWorld) -> None:
    tickets = {"provider_type": "HyperVReplica2012R2", "allowed_authentication_type": 1}
    job = await world.policies.create(world.vault, "p", tickets, world.identity())
    await until_done(world, job.id)
    job = await pair(world)
    asked: list[dict[str, Any]] = []

    def noting(assignment: Any) -> None:
        if assignment.verb == Verb.PREPARE_CLOUD:
            asked.append(dict(assignment.arguments))

    done = await until_done(world, job.id, noting)
    assert sorted(done) == [
        "osaka pair_cloud e0",
        "osaka prepare_cloud e0",
        "tokyo pair_cloud e0",
        "tokyo prepare_cloud e0",
    ]
    assert {(each["authentication"], each["replica_port"]) for each in asked} == {
        ("kerberos", 8083)
    }


# --------------------------------------------------------------------------------------- readiness


async def test_clouds_that_are_not_ready_are_not_prepared(world: HubWorld) -> None:
    view = inventory("osaka")
    cloud = view.clouds[0].model_copy(update={"capability_profile": "ESX Server"})
    shown = FabricInventory(
        id="osaka-provider",
        vault_id=world.vault.id,
        observed_at=world.clock.now(),
        view=view.model_copy(update={"clouds": (cloud,)}),
    )
    await world.committer.commit(Change(saves=(Save(shown, None),)))
    policy = {"provider_type": "HyperVReplica2012R2"}
    job = await world.policies.create(world.vault, "p", policy, world.identity())
    await until_done(world, job.id)
    job = await pair(world)
    assert await until_done(world, job.id) == []
    ended = await world.job(job.id)
    assert (ended.state, ended.errors[0].code) == (JobState.FAILED, "90053")
    assert ended.tasks[0].state is TaskState.FAILED
    failed = await mapping(world)
    assert failed is not None
    assert failed.mapping_state == "PairingFailed"


# ------------------------------------------------------------------------------------- added hosts


async def configuring(world: HubWorld) -> list[Job]:
    """Return the jobs that prepare added hosts."""
    jobs = [each.record for each in await world.store.find(Job)]
    return [job for job in jobs if job.scenario_key == "configure_hosts"]


async def test_a_host_that_is_added_to_a_paired_cloud_is_prepared_on_both_sites(
    world: HubWorld,
) -> None:
    await paired(world)
    await world.reports.inventory(world.providers["osaka"], inventory("osaka"))
    assert await configuring(world) == []
    for _ in range(2):
        await world.reports.inventory(world.providers["osaka"], with_host_added("osaka"))
    (job,) = await configuring(world)
    assert (job.scenario.name, job.target_object_name) == ("CloudPairing", "tokyo cloud")
    partners: dict[str, Any] = {}

    def noting(assignment: Any) -> None:
        if assignment.verb == Verb.PREPARE_CLOUD:
            partners[assignment.target] = assignment.arguments["allowed_primaries"]

    done = await until_done(world, job.id, noting)
    assert sorted(done) == [
        "osaka configure_hosts e0",
        "osaka prepare_cloud e0",
        "tokyo configure_hosts e0",
        "tokyo prepare_cloud e0",
    ]
    assert partners == {
        "tokyo-cloud": ["osaka-host1.example", "osaka-host2.example"],
        "osaka-cloud": ["tokyo-host1.example"],
    }
    kept = await mapping(world)
    assert kept is not None
    assert kept.mapping_state == "Paired"
    await world.reports.inventory(world.providers["osaka"], with_host_added("osaka"))
    assert len(await configuring(world)) == 1


async def test_an_added_host_waits_for_both_sites_to_be_connected(tmp_path: Path) -> None:
    async with hub_world(tmp_path, lease=60 * SECONDS) as world:
        await paired(world)
        world.clock.time += 61 * SECONDS
        await world.heard_of("osaka")
        await world.reports.inventory(world.providers["osaka"], with_host_added("osaka"))
        assert await configuring(world) == []
        await world.heard_of("tokyo")
        machines = (machine(MACHINE_ID, "tokyo"),)
        await world.reports.inventory(world.providers["tokyo"], inventory("tokyo", machines))
        assert len(await configuring(world)) == 1


# ---------------------------------------------------------------------------------------- policies


HOSTS_THEN_SETTINGS = [
    ["osaka prepare_cloud e0", "tokyo prepare_cloud e0"],
    ["osaka update_replication e0", "tokyo update_replication e0"],
]


def in_steps(done: list[str]) -> list[list[str]]:
    """Return what both sites did task by task; which of them was first does not matter."""
    return [sorted(done[at : at + 2]) for at in range(0, len(done), 2)]


async def policy(world: HubWorld) -> ReplicationPolicy:
    """Return the policy as it is stored."""
    (found,) = await world.store.find(ReplicationPolicy, vault_id=world.vault.id)
    return found.record


async def test_a_changed_policy_reaches_both_sites_and_what_replicates(world: HubWorld) -> None:
    await protected(world)
    settings = {"replication_frequency_seconds": 900, "recovery_points": 8}
    job = await world.policies.change(world.vault, "P", settings, world.identity())
    asked: dict[str, Any] = {}

    def noting(assignment: Any) -> None:
        asked[f"{assignment.target} {assignment.verb}"] = dict(assignment.arguments)

    assert in_steps(await until_done(world, job.id, noting)) == HOSTS_THEN_SETTINGS
    assert asked["tokyo-cloud update_replication"] == {
        "interval_seconds": 900,
        "recovery_points": 8,
        "application_consistent_hours": 0,
        "compression": False,
        "authentication": "certificate",
        "replica_port": 8084,
    }
    ended = await world.job(job.id)
    assert (ended.state, ended.scenario.name) == (JobState.SUCCEEDED, "UpdateProtectionProfile")
    kept = await policy(world)
    assert (kept.replication_frequency_seconds, kept.recovery_points) == (900, 8)
    held = await mapping(world)
    assert held is not None
    assert held.mapping_state == "Paired"


async def test_other_proof_and_port_go_to_the_hosts_before_what_replicates(
    world: HubWorld,
) -> None:
    await paired(world)
    first = {"allowed_authentication_type": 1, "replication_port": 8083}
    job = await world.policies.change(world.vault, "p", first, world.identity())
    assert in_steps(await until_done(world, job.id)) == HOSTS_THEN_SETTINGS
    back = {"allowed_authentication_type": 2, "replication_port": 8084}
    job = await world.policies.change(world.vault, "p", back, world.identity())
    certificates = ["osaka configure_hosts e0", "tokyo configure_hosts e0"]
    assert in_steps(await until_done(world, job.id)) == [certificates, *HOSTS_THEN_SETTINGS]


async def test_a_policy_without_pairs_is_changed_by_the_hub_alone(world: HubWorld) -> None:
    asked = {"provider_type": "HyperVReplica2012R2"}
    job = await world.policies.create(world.vault, "p", asked, world.identity())
    await until_done(world, job.id)
    job = await world.policies.change(world.vault, "p", {"recovery_points": 5}, world.identity())
    assert await until_done(world, job.id) == []
    assert (await world.job(job.id)).state is JobState.SUCCEEDED
    assert (await policy(world)).recovery_points == 5


async def test_a_wrong_change_is_refused_and_changes_nothing(world: HubWorld) -> None:
    await paired(world)
    for wrong, target in (
        ({"recovery_points": 25}, "recoveryPoints"),
        ({"provider_type": "HyperVReplica2012"}, "instanceType"),
        ({"initial_replication_method": "Offline"}, "offlineReplicationExportPath"),
    ):
        with pytest.raises(InvalidRequestError) as refusal:
            await world.policies.change(world.vault, "p", wrong, world.identity())
        assert refusal.value.target == target
    with pytest.raises(NotFoundError):
        await world.policies.change(world.vault, "none", {}, world.identity())
    assert (await policy(world)).recovery_points == 0


async def test_both_sites_look_at_the_folders_that_first_copies_travel_by(world: HubWorld) -> None:
    """At the pairing, at each change of the policy, and for hosts that come later."""
    await paired(world)
    medium = {
        "initial_replication_method": "Offline",
        "offline_export_path": r"\\files-tokyo\out",
        "offline_import_path": r"\\files-osaka\in",
    }
    job = await world.policies.change(world.vault, "p", medium, world.identity())
    asked: dict[str, Any] = {}

    def unfit(assignment: Any) -> ProviderError | None:
        looked = ("offline_folder", "further_servers")
        asked[assignment.target] = {key: assignment.arguments.get(key) for key in looked}
        is_tokyo = assignment.target == "tokyo-cloud"
        return ProviderError(code=91012, message="the folder lacks X") if is_tokyo else None

    await until_done(world, job.id, unfit)
    assert asked == {
        "tokyo-cloud": {
            "offline_folder": r"\\files-tokyo\out",
            "further_servers": ["files-osaka"],
        },
        "osaka-cloud": {"offline_folder": r"\\files-osaka\in", "further_servers": None},
    }
    failed = await world.job(job.id)
    assert (failed.state, failed.errors[0].provider_code) == (JobState.FAILED, 91012)
    await world.jobs.restart(world.vault, job.id, world.identity())
    await until_done(world, job.id)
    assert (await world.job(job.id)).state is JobState.SUCCEEDED


async def test_a_policy_is_not_changed_while_a_job_works_on_a_pair(world: HubWorld) -> None:
    await paired(world)
    await world.pairing.remove(world.vault, UNDER_TOKYO, "m", world.identity())
    job = await world.policies.change(world.vault, "p", {"recovery_points": 5}, world.identity())
    assert (job.state, job.errors[0].code) == (JobState.FAILED, "532")
    assert (await policy(world)).recovery_points == 0


async def test_a_change_that_failed_is_restarted_where_it_stopped(world: HubWorld) -> None:
    await paired(world)
    job = await world.policies.change(world.vault, "p", {"compression": True}, world.identity())

    def refusing(assignment: Any) -> ProviderError | None:
        fails = assignment.verb == Verb.UPDATE_REPLICATION
        return ProviderError(code=FOR_GOOD, message="no") if fails else None

    await until_done(world, job.id, refusing)
    assert (await world.job(job.id)).state is JobState.FAILED
    held = await mapping(world)
    assert held is not None
    assert held.mapping_state == "Paired"
    await world.jobs.restart(world.vault, job.id, world.identity())
    assert "tokyo update_replication e0" in await until_done(world, job.id)
    assert (await world.job(job.id)).state is JobState.SUCCEEDED


async def test_a_policy_is_deleted_once_no_clouds_are_paired_under_it(world: HubWorld) -> None:
    await paired(world)
    job = await world.policies.delete(world.vault, "P", world.identity())
    await until_done(world, job.id)
    ended = await world.job(job.id)
    assert (ended.state, ended.errors[0].code) == (JobState.FAILED, "90051")
    assert "used by the container mapping m" in ended.errors[0].possible_causes
    removal = await world.pairing.remove(world.vault, UNDER_TOKYO, "m", world.identity())
    await until_inventories_are_asked(world, removal.id)
    await world.jobs.restart(world.vault, job.id, world.identity())
    await until_done(world, job.id)
    assert (await world.job(job.id)).state is JobState.SUCCEEDED
    assert await world.store.find(ReplicationPolicy, vault_id=world.vault.id) == []
    with pytest.raises(NotFoundError):
        await world.policies.delete(world.vault, "p", world.identity())
