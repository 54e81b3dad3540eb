"""The official SDK, unmodified: vaults changed and deleted, servers refreshed, removed, purged."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from azure.core.exceptions import (
    HttpResponseError,
    ResourceExistsError,
    ResourceNotFoundError,
)
from azure.mgmt.recoveryservices import models as vault_models

from tests.integration.arm_server import Served, serving
from tests.unit.arm.arm_estate import FABRICS, GROUP, VAULT
from wire_contract.vocabulary import Side

VAULT_NAME = (GROUP, VAULT)
FABRIC = FABRICS[Side.RECOVERY]


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with serving(tmp_path) as hub:
        yield hub


def provider_name(served: Served) -> str:
    return served.hub.fabric(Side.RECOVERY).provider.vmm_id


def test_a_vault_is_changed_and_deleted(served: Served) -> None:
    wanted = vault_models.Vault(
        location="japaneast", properties=vault_models.VaultProperties(), tags={"a": "1"}
    )
    with served.recovery_services() as client:
        client.vaults.begin_create_or_update(GROUP, "empty", wanted).result()
        patch = vault_models.PatchVault(tags={"owner": "anna"})
        changed = client.vaults.begin_update(GROUP, "empty", patch).result()
        assert changed.tags == {"owner": "anna"}
        assert client.vaults.get(GROUP, "EMPTY").tags == {"owner": "anna"}
        client.vaults.begin_delete(GROUP, "empty").result()
        with pytest.raises(ResourceNotFoundError):
            client.vaults.get(GROUP, "empty")
        client.vaults.begin_delete(GROUP, "empty").result()
        with pytest.raises(ResourceNotFoundError):
            client.vaults.begin_update(GROUP, "empty", patch).result()


def test_a_vault_with_servers_is_refused_with_their_names(served: Served) -> None:
    with (
        served.recovery_services() as client,
        pytest.raises(ResourceExistsError, match=r"2 registered servers \(vmm1, vmm2\)"),
    ):
        client.vaults.begin_delete(*VAULT_NAME).result()
    assert VAULT.lower() in served.hub.vaults


def test_a_patch_without_tags_changes_nothing_and_says_so(served: Served) -> None:
    with served.recovery_services() as client, pytest.raises(HttpResponseError) as refused:
        client.vaults.begin_update(*VAULT_NAME, vault_models.PatchVault()).result()
    assert refused.value.status_code == 400


def test_a_server_is_refreshed_by_the_name_of_its_provider(served: Served) -> None:
    name = provider_name(served)
    with served.site_recovery() as client:
        group = client.replication_recovery_services_providers
        refreshed: Any = group.begin_refresh_provider(*VAULT_NAME, FABRIC, name).result()
        (job,) = client.replication_jobs.list(*VAULT_NAME)
        with pytest.raises(ResourceNotFoundError):
            group.begin_refresh_provider(*VAULT_NAME, FABRIC, "another").result()
    assert refreshed.properties.allowed_scenarios == ["Refresh"]
    assert job.properties is not None
    assert job.properties.scenario_name == "RefreshProvider"
    assert job.properties.target_instance_type == "Server"


@pytest.mark.parametrize("by_provider", [True, False])
def test_a_server_is_removed(served: Served, *, by_provider: bool) -> None:
    with served.site_recovery() as client:
        if by_provider:
            group = client.replication_recovery_services_providers
            group.begin_delete(*VAULT_NAME, FABRIC, provider_name(served)).result()
        else:
            client.replication_fabrics.begin_delete(*VAULT_NAME, FABRIC).result()
        (job,) = client.replication_jobs.list(*VAULT_NAME)
        found: Any = client.replication_jobs.get(*VAULT_NAME, str(job.name))
        with pytest.raises(ResourceNotFoundError):
            client.replication_fabrics.get(*VAULT_NAME, FABRIC)
    assert [task.friendly_name for task in found.properties.tasks] == [
        "Prerequisites check for deleting the server",
        "Cleaning up the provider settings",
        "Deleting the server",
    ]
    details = found.properties.custom_details.affected_object_details
    assert details["primaryFabricProviderId"] == "VMM"


def test_a_removal_that_fails_says_why(served: Served) -> None:
    served.hub.fail_jobs = True
    with served.site_recovery() as client, pytest.raises(HttpResponseError, match="28020"):
        client.replication_fabrics.begin_delete(*VAULT_NAME, FABRIC).result()


@pytest.mark.parametrize("by_provider", [True, False])
def test_a_server_is_purged_once_it_is_disconnected(served: Served, *, by_provider: bool) -> None:
    def purge() -> None:
        with served.site_recovery() as client:
            if by_provider:
                group = client.replication_recovery_services_providers
                group.begin_purge(*VAULT_NAME, FABRIC, provider_name(served)).result()
            else:
                client.replication_fabrics.begin_purge(*VAULT_NAME, FABRIC).result()

    with pytest.raises(ResourceExistsError, match="connected"):
        purge()
    served.hub.connected = False
    purge()
    assert served.hub.gone == {FABRIC}
    purge()


def test_a_reader_removes_nothing(served: Served) -> None:
    with served.site_recovery("reading") as client, pytest.raises(HttpResponseError) as refused:
        client.replication_fabrics.begin_purge(*VAULT_NAME, FABRIC).result()
    assert refused.value.status_code == 403
    assert served.hub.gone == set()
