"""Registered servers over the real store: removed, purged, asked for their inventory; vaults."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from service_hub.domain.errors import ConflictError, NotFoundError, StorageUnavailableError
from service_hub.domain.jobs import Job, JobState, TaskState
from service_hub.domain.looker_records import TaskReceipt
from service_hub.domain.records import (
    Alert,
    FabricInventory,
    ManagementCertificate,
    OutboxEvent,
    PendingApproval,
    Provider,
    ProviderStream,
    Record,
    Vault,
)
from service_hub.ports.changes import Change, EventReceipt, Save
from service_hub.services.certificates import CertificateService
from service_hub.services.vaults import VaultService
from tests.support.hub_stories import paired, protected, until_done
from tests.support.hub_world import HubWorld, hub_world, inventory
from tests.support.leaving_servers import KickedConnections
from wire_contract.reports import Heartbeat, ProviderError

SECONDS = timedelta(seconds=1)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[HubWorld]:
    async with hub_world(tmp_path) as opened:
        yield opened


async def certified(world: HubWorld, site: str) -> str:
    """Give a site's server a management certificate; return its thumbprint."""
    thumbprint = f"{site}-thumbprint"
    certificate = ManagementCertificate(
        id=thumbprint,
        vault_id=world.vault.id,
        provider_id=world.providers[site].id,
        issued_at=world.clock.now(),
    )
    await world.committer.commit(Change(saves=(Save(certificate, None),)))
    return thumbprint


async def gone(world: HubWorld, site: str) -> bool:
    """Return whether nothing is left of a server but its revoked certificates."""
    provider_id = world.providers[site].id
    left = [
        await world.store.get(kind, provider_id)
        for kind in (Provider, ProviderStream, FabricInventory)
    ]
    events = await world.store.find(OutboxEvent, provider_id=provider_id)
    return left == [None, None, None] and events == []


def vaults(world: HubWorld) -> VaultService:
    """Return the vault side of the world; certificates are not its concern here."""
    nothing_is_uploaded: Any = None
    return VaultService(
        reader=world.store,
        committer=world.committer,
        clock=world.clock,
        authority=nothing_is_uploaded,
        departures=world.leaving.departures,
        key_lifetime=timedelta(hours=120),
        provider_url="https://hub.example:9443",
    )


# ---------------------------------------------------------------------------------------- removal


async def test_a_removed_server_cleans_up_and_is_then_forgotten(world: HubWorld) -> None:
    thumbprint = await certified(world, "osaka")
    job = await world.servers.remove(world.vault, "osaka-fabric", world.identity())
    assert await until_done(world, job.id) == ["osaka clean_up e0"]
    ended = await world.job(job.id)
    assert (ended.scenario.name, ended.state) == ("UnregisterFabric", JobState.SUCCEEDED)
    assert [each.task_id for each in ended.tasks] == [
        "UnregisterFabricPreflightChecksTask",
        "CleanupFabricTask",
        "UnregisterFabricTask",
    ]
    assert (ended.target_object_id, ended.target_object_name) == ("osaka-vmm", "osaka.example")
    assert await gone(world, "osaka")
    certificate = await world.store.get(ManagementCertificate, thumbprint)
    assert certificate is not None
    assert certificate.record.revoked_at is not None
    assert world.leaving.connections.kicked == ["osaka-provider"]
    assert [each.fabric.provider.id for each in await world.servers.list(world.vault)] == [
        "tokyo-provider"
    ]


async def test_the_same_request_again_is_the_same_removal(world: HubWorld) -> None:
    first = await world.servers.remove(world.vault, "osaka-fabric", world.identity("r"))
    again = await world.servers.remove(world.vault, "osaka-fabric", world.identity("r"))
    assert again.id == first.id
    other = await world.servers.remove(world.vault, "osaka-fabric", world.identity())
    assert (other.state, other.errors[0].code) == (JobState.FAILED, "532")
    assert len(await world.assignments("osaka")) <= 1


async def test_a_removal_is_refused_with_the_list_of_what_needs_the_server(
    world: HubWorld,
) -> None:
    await protected(world)
    for site in ("tokyo", "osaka"):
        job = await world.servers.remove(world.vault, f"{site}-fabric", world.identity())
        assert await until_done(world, job.id) == []
        ended = await world.job(job.id)
        assert ended.state is JobState.FAILED
        assert ended.errors[0].code == "90016"
        words = ended.errors[0].possible_causes
        assert "1 protected machine (web01)" in words
        assert "1 pairing (m)" in words
        assert ended.tasks[2].state is TaskState.SKIPPED
    assert world.leaving.connections.kicked == []


async def test_a_disconnected_server_is_not_removed_but_purged(tmp_path: Path) -> None:
    async with hub_world(tmp_path, lease=60 * SECONDS) as world:
        thumbprint = await certified(world, "osaka")
        with pytest.raises(ConflictError, match="is connected: remove it"):
            await world.servers.purge(world.vault, "osaka-fabric")
        world.clock.time += 61 * SECONDS
        job = await world.servers.remove(world.vault, "osaka-fabric", world.identity())
        assert await until_done(world, job.id) == []
        error = (await world.job(job.id)).errors[0]
        assert error.code == "25018"
        assert "site-recovery server purge" in error.possible_causes
        await world.servers.purge(world.vault, "osaka-fabric")
        assert await gone(world, "osaka")
        certificate = await world.store.get(ManagementCertificate, thumbprint)
        assert certificate is not None
        assert certificate.record.revoked_at is not None
        assert world.leaving.connections.kicked == ["osaka-provider"]
        with pytest.raises(NotFoundError):
            await world.servers.purge(world.vault, "osaka-fabric")


async def test_a_revoked_server_is_away_at_once_until_it_comes_back(world: HubWorld) -> None:
    await certified(world, "osaka")
    connections = KickedConnections()
    service = CertificateService(
        reader=world.store, committer=world.committer, clock=world.clock, connections=connections
    )
    assert await service.revoke_server(world.vault.id, "osaka-provider", "olga") == 1
    assert connections.kicked == ["osaka-provider"]
    assert await connected(world) == {"tokyo": True, "osaka": False}
    await world.reports.heartbeat(world.providers["osaka"], Heartbeat(boot_id="new", last=None))
    assert await connected(world) == {"tokyo": True, "osaka": True}


async def connected(world: HubWorld) -> dict[str, bool]:
    """Return which servers count as connected."""
    facts = await world.fabrics.list(world.vault)
    return {each.provider.friendly_name: each.connected for each in facts}


async def test_alerts_outlive_their_server_and_go_with_the_vault(world: HubWorld) -> None:
    for kind, record_id in ((Alert, "alert"), (PendingApproval, "approval")):
        await world.committer.commit(Change(saves=(Save(noted(world, kind, record_id), None),)))
    for site in ("tokyo", "osaka"):
        await world.leaving.departures.forget(f"{site}-provider")
    assert await world.store.find(PendingApproval) == []
    assert [each.record.id for each in await world.store.find(Alert)] == ["alert"]
    await vaults(world).delete(world.vault)
    assert await world.store.find(Alert) == []


def noted(world: HubWorld, kind: type[Record], record_id: str) -> Record:
    """Return a record about Osaka's server, whatever else it says."""
    now = world.clock.now()
    return kind.model_validate(
        {
            "id": record_id,
            "vault_id": world.vault.id,
            "provider_id": "osaka-provider",
            **(
                {"code": "ServerRevoked", "message": "m", "raised_at": now}
                if kind is Alert
                else {
                    name: "x"
                    for name, field in kind.model_fields.items()
                    if field.is_required()
                    and name not in {"id", "vault_id", "provider_id", "requested_at"}
                }
                | {"requested_at": now}
            ),
        }
    )


async def test_a_removal_is_refused_while_a_cloud_is_paired(world: HubWorld) -> None:
    await paired(world)
    job = await world.servers.remove(world.vault, "tokyo-fabric", world.identity())
    assert await until_done(world, job.id) == []
    assert "1 pairing (m)" in (await world.job(job.id)).errors[0].possible_causes
    with pytest.raises(ConflictError, match=r"1 pairing \(m\)"):
        await world.servers.leave(world.providers["tokyo"])


async def test_a_purge_is_refused_while_machines_are_protected(tmp_path: Path) -> None:
    async with hub_world(tmp_path, lease=60 * SECONDS) as world:
        await protected(world)
        world.clock.time += 61 * SECONDS
        with pytest.raises(ConflictError, match=r"1 protected machine \(web01\); 1 pairing \(m\)"):
            await world.servers.purge(world.vault, "tokyo-fabric")
        assert not await gone(world, "tokyo")


@pytest.mark.parametrize("connected", [True, False])
async def test_what_a_purged_server_leaves_with_its_partner_is_tidied(
    tmp_path: Path, connected: bool
) -> None:
    async with hub_world(tmp_path, lease=60 * SECONDS) as world:
        await paired(world)
        world.clock.time += 61 * SECONDS
        if connected:
            beat = Heartbeat(boot_id="osaka-boot", last=None)
            await world.reports.heartbeat(world.providers["osaka"], beat)
        await world.servers.purge(world.vault, "tokyo-fabric")
        assert await gone(world, "tokyo")
        assert await world.pairing.list(world.vault) == []
        alerts = [each.record for each in await world.store.find(Alert)]
        (told,) = [each for each in alerts if each.code == "PartnerPurged"]
        assert told.provider_id == "osaka-provider"
        assert "provider-agent cleanup --unpair osaka-cloud" in told.message
        jobs = [each.record for each in await world.store.find(Job)]
        tidying = [job for job in jobs if job.scenario.name == "CloudUnPairing"]
        assert len(tidying) == connected
        for job in tidying:
            assert await until_done(world, job.id) == ["osaka unpair_cloud e0"]
            assert (await world.job(job.id)).state is JobState.SUCCEEDED


async def test_a_server_that_cannot_clean_up_stays(world: HubWorld) -> None:
    def refuse(_: object) -> ProviderError:
        return ProviderError(code=32775, message="1 machines are still protected: web02")

    job = await world.servers.remove(world.vault, "osaka-fabric", world.identity())
    await until_done(world, job.id, refuse)
    ended = await world.job(job.id)
    assert (ended.state, ended.errors[0].provider_code) == (JobState.FAILED, 32775)
    assert not await gone(world, "osaka")
    assert world.leaving.connections.kicked == []


async def test_a_cloud_of_a_server_that_is_being_deleted_is_not_paired(world: HubWorld) -> None:
    await world.policies.create(
        world.vault, "p", {"provider_type": "HyperVReplica2012R2"}, world.identity()
    )
    job = await world.servers.remove(world.vault, "osaka-fabric", world.identity())
    with pytest.raises(ConflictError, match="is being deleted"):
        await world.pairing.pair(
            world.vault,
            name="m",
            primary=("tokyo-fabric", "tokyo-cloud"),
            recovery=("osaka-fabric", "osaka-cloud"),
            policy_name="p",
            identity=world.identity(),
        )
    await until_done(world, job.id)


async def test_a_removal_goes_on_after_a_restart(tmp_path: Path) -> None:
    async with hub_world(tmp_path) as world:
        job = await world.servers.remove(world.vault, "osaka-fabric", world.identity())
        while not await world.assignments("osaka"):
            await world.committer.until_next()
    async with hub_world(tmp_path) as world:
        assert await until_done(world, job.id) == ["osaka clean_up e0"]
        assert (await world.job(job.id)).state is JobState.SUCCEEDED
        assert await gone(world, "osaka")


async def test_what_is_said_of_a_server_that_is_gone_costs_others_nothing(
    world: HubWorld,
) -> None:
    await world.leaving.departures.forget("osaka-provider")
    await world.leaving.departures.forget("osaka-provider")
    late = Change(receipts=(EventReceipt("osaka-provider", "osaka-stream", 1, "accepted"),))
    tagged = world.vault.model_copy(update={"tags": {"a": "b"}})
    outcomes = await world.store.apply([late, Change(saves=(Save(tagged, None),))])
    assert isinstance(outcomes[0], Exception)
    assert isinstance(outcomes[1], int)


# ---------------------------------------------------------------------------------------- refresh


async def test_a_refresh_ends_when_the_inventory_has_come(world: HubWorld) -> None:
    before = await world.refreshes("tokyo")
    job = await world.servers.refresh(world.vault, "tokyo-fabric", world.identity())
    while await world.refreshes("tokyo") == before:
        await world.committer.until_next()
    assert not (await world.job(job.id)).finished
    await world.reports.inventory(world.providers["osaka"], inventory("osaka"))
    assert not (await world.job(job.id)).finished, "another server's inventory says nothing"
    await world.reports.inventory(world.providers["tokyo"], inventory("tokyo"))
    ended = await world.job(job.id)
    assert (ended.scenario.friendly_name, ended.state) == ("Refresh server", JobState.SUCCEEDED)


async def test_a_disconnected_server_is_not_refreshed(tmp_path: Path) -> None:
    async with hub_world(tmp_path, lease=60 * SECONDS) as world:
        world.clock.time += 61 * SECONDS
        job = await world.servers.refresh(world.vault, "tokyo-fabric", world.identity())
        assert await until_done(world, job.id) == []
        assert (await world.job(job.id)).errors[0].code == "25018"
        assert await world.refreshes("tokyo") == 0


# ----------------------------------------------------------------------------------------- vaults


async def test_a_vault_with_servers_is_not_deleted(world: HubWorld) -> None:
    with pytest.raises(ConflictError, match=r"2 registered servers \(osaka, tokyo\)"):
        await vaults(world).delete(world.vault)
    assert await world.store.get(Vault, world.vault.id) is not None


async def test_a_vault_goes_with_what_it_remembers(world: HubWorld) -> None:
    await paired(world)
    assert await world.store.find(TaskReceipt) != []
    for site in ("tokyo", "osaka"):
        await world.leaving.departures.forget(f"{site}-provider")
    enrolled = world.providers["tokyo"].model_copy(update={"registered_at": None})
    await world.committer.commit(Change(saves=(Save(enrolled, None),)))
    await vaults(world).delete(world.vault)
    assert await world.store.get(Vault, world.vault.id) is None
    assert await world.store.find(TaskReceipt) == []
    assert await gone(world, "tokyo"), "who enrolled and never registered goes with the vault"


async def test_tags_of_a_vault_are_replaced(world: HubWorld) -> None:
    changed = await vaults(world).retag(world.vault, {"owner": "anna"})
    assert changed.tags == {"owner": "anna"}
    found = await vaults(world).find("S", "RG", "V")
    assert found == changed


async def test_a_provider_may_ask_to_leave_and_cleans_up_itself(world: HubWorld) -> None:
    job = await world.servers.leave(world.providers["osaka"])
    assert await until_done(world, job.id) == ["osaka clean_up e0"]
    assert (await world.job(job.id)).state is JobState.SUCCEEDED
    assert await gone(world, "osaka")


async def test_a_provider_with_protected_machines_stays(world: HubWorld) -> None:
    await protected(world)
    with pytest.raises(ConflictError, match="still in use"):
        await world.servers.leave(world.providers["tokyo"])
    assert not await gone(world, "tokyo")


async def test_a_hub_that_dies_in_a_purge_has_forgotten_nothing_or_tidies_the_partner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The partner's job and the farewell are one transaction: there is no time in between."""
    async with hub_world(tmp_path, lease=60 * SECONDS) as world:
        await paired(world)
        world.clock.time += 61 * SECONDS
        await world.reports.heartbeat(
            world.providers["osaka"], Heartbeat(boot_id="osaka-boot", last=None)
        )
        before = await world.store.last_number()
        with monkeypatch.context() as patch:
            patch.setattr(world.store, "apply", _dies)
            with pytest.raises(StorageUnavailableError):
                await world.servers.purge(world.vault, "tokyo-fabric")
        assert not await gone(world, "tokyo")
        await world.servers.purge(world.vault, "tokyo-fabric")
        (job,) = [
            found
            for found in await world.store.find(Job)
            if found.record.scenario.name == "CloudUnPairing"
        ]
        since = await world.store.changes_since(world.vault.id, before, 1000)
        assert await gone(world, "tokyo")
        numbers = {each.number for each in since if each.kind in {"job", "provider"}}
        assert numbers == {before + 1}
    async with hub_world(tmp_path, lease=60 * SECONDS, clock=world.clock) as world:
        assert await until_done(world, job.record.id) == ["osaka unpair_cloud e0"]


async def _dies(changes: object) -> None:
    del changes
    raise StorageUnavailableError("the hub dies here", "start it")
