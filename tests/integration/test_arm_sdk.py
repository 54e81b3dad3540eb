"""The official SDK, unmodified, against the surface over TLS: each operation group that works."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from azure.core.exceptions import (
    ClientAuthenticationError,
    HttpResponseError,
    ResourceExistsError,
    ResourceNotFoundError,
)
from azure.mgmt.recoveryservices import models as vault_models
from azure.mgmt.recoveryservicessiterecovery import models as m
from cryptography.hazmat.primitives.serialization import Encoding

from certs.identity import new_private_key, self_signed_certificate
from tests.integration.arm_server import Served, serving
from tests.unit.arm.arm_estate import (
    CLASSIFICATION,
    CLOUDS,
    FABRICS,
    GROUP,
    LOGICAL_NETWORK,
    MACHINE,
    MAPPING,
    NETWORK,
    POINT,
    POLICY,
    PROVIDER_URL,
    SUBSCRIPTION,
    VAULT,
)
from tests.unit.arm.arm_hub import prepared_hub
from wire_contract.vocabulary import Side

PRIMARY = (GROUP, VAULT, FABRICS[Side.PRIMARY], CLOUDS[Side.PRIMARY])
ITEM = (*PRIMARY, MACHINE)
VAULT_NAME = (GROUP, VAULT)
ROOT = (
    f"/Subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}"
    f"/providers/Microsoft.RecoveryServices/vaults/{VAULT}"
)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    """Serve a hub with vault, policy and pairing, without items."""
    with serving(tmp_path) as hub:
        yield hub


def protect(served: Served) -> None:
    """Put a protected item into the hub."""
    served.hub.items = prepared_hub().items


# ------------------------------------------------------------------------------------------ vaults


def test_vaults_and_the_registration_certificate(served: Served) -> None:
    wanted = vault_models.Vault(
        location="japaneast",
        sku=vault_models.Sku(name="Standard"),
        properties=vault_models.VaultProperties(),
    )
    now, key = datetime.now(UTC), new_private_key()
    certificate = self_signed_certificate(key, "lab", now, now + timedelta(hours=120))
    der = certificate.public_bytes(Encoding.DER)
    with served.recovery_services() as client:
        made = client.vaults.begin_create_or_update(GROUP, "story", wanted).result()
        again = client.vaults.begin_create_or_update(GROUP, "story", wanted).result()
        found = client.vaults.get(GROUP.upper(), "STORY")
        listed = [each.name for each in client.vaults.list_by_resource_group(GROUP)]
        everywhere = [each.name for each in client.vaults.list_by_subscription_id()]
        details = client.vault_certificates.create(
            GROUP,
            "story",
            "lab-key",
            vault_models.CertificateRequest(
                properties=vault_models.RawCertificateData(auth_type="AAD", certificate=der)
            ),
        )
    assert made.properties is not None
    assert made.properties.provisioning_state == "Succeeded"
    assert (made.name, made.location, made.etag) == ("story", "japaneast", again.etag)
    assert found.id == made.id
    assert listed == everywhere == [VAULT, "story"]
    properties = details.properties
    assert isinstance(properties, vault_models.ResourceCertificateAndAadDetails)
    assert properties.certificate == der
    assert properties.azure_management_endpoint_audience == PROVIDER_URL
    assert properties.resource_id == 8726350008099341699
    assert properties.service_principal_client_id == served.hub.vaults["story"].id


# ------------------------------------------------------------------------------- what is observed


def test_servers_and_their_providers(served: Served) -> None:
    fabric = FABRICS[Side.PRIMARY]
    with served.site_recovery() as client:
        names = [each.name for each in client.replication_fabrics.list(*VAULT_NAME)]
        found: Any = client.replication_fabrics.get(*VAULT_NAME, fabric)
        group = client.replication_recovery_services_providers
        everywhere = list(group.list(*VAULT_NAME))
        (provider,) = group.list_by_replication_fabrics(*VAULT_NAME, fabric)
        single: Any = group.get(*VAULT_NAME, fabric, str(provider.name))
    assert names == list(FABRICS.values())
    assert isinstance(found.properties.custom_details, m.VmmDetails)
    assert len(everywhere) == 2
    assert single.properties.connection_status == "Connected"
    assert single.properties.last_heart_beat is not None


def test_networks_and_storage(served: Served) -> None:
    place = (*VAULT_NAME, FABRICS[Side.PRIMARY])
    with served.site_recovery() as client:
        networks = client.replication_networks
        assert len(list(networks.list(*VAULT_NAME))) == 2
        assert [each.name for each in networks.list_by_replication_fabrics(*place)] == [NETWORK]
        network: Any = networks.get(*place, NETWORK)
        assert network.properties.subnets[0].address_list == ["10.1.0.0/24-1 0"]
        logical = client.replication_logical_networks
        assert logical.get(*place, LOGICAL_NETWORK).name == LOGICAL_NETWORK
        assert len(list(logical.list_by_replication_fabrics(*place))) == 1
        storage = client.replication_storage_classifications
        assert len(list(storage.list(*VAULT_NAME))) == 2
        assert len(list(storage.list_by_replication_fabrics(*place))) == 1
        classification: Any = storage.get(*place, CLASSIFICATION)
        assert classification.properties.friendly_name == "Gold"


def test_clouds_machines_and_mappings(served: Served) -> None:
    with served.site_recovery() as client:
        clouds = client.replication_protection_containers
        assert len(list(clouds.list(*VAULT_NAME))) == 3
        place = (*VAULT_NAME, FABRICS[Side.PRIMARY])
        assert len(list(clouds.list_by_replication_fabrics(*place))) == 2
        cloud: Any = clouds.get(*PRIMARY)
        assert cloud.properties.role == "Primary"
        machines = client.replication_protectable_items
        listed = machines.list_by_replication_protection_containers(*PRIMARY, take="1")
        assert [each.name for each in listed] == [MACHINE]
        machine: Any = machines.get(*PRIMARY, MACHINE)
        assert isinstance(machine.properties.custom_details, m.HyperVVirtualMachineDetails)
        mappings = client.replication_protection_container_mappings
        assert [each.name for each in mappings.list(*VAULT_NAME)] == [MAPPING]
        assert len(list(mappings.list_by_replication_protection_containers(*PRIMARY))) == 1
        mapping: Any = mappings.get(*PRIMARY, MAPPING)
        assert mapping.properties.state == "Paired"


# ---------------------------------------------------------------------------- policy and pairing


def test_a_policy_is_created_by_a_job(served: Served) -> None:
    wanted = m.CreatePolicyInput(
        properties=m.CreatePolicyInputProperties(
            provider_specific_input=m.HyperVReplicaBluePolicyInput(
                replication_frequency_in_seconds=300,
                recovery_points=2,
                application_consistent_snapshot_frequency_in_hours=1,
                compression="Enable",
                initial_replication_method="OverNetwork",
                replication_port=8084,
                allowed_authentication_type=2,
                replica_deletion="Required",
            )
        )
    )
    with served.site_recovery() as client:
        policies = client.replication_policies
        made: Any = policies.begin_create(*VAULT_NAME, "p1", wanted).result()
        listed = [each.name for each in policies.list(*VAULT_NAME)]
        found = policies.get(*VAULT_NAME, "P1")
    details = made.properties.provider_specific_details
    assert isinstance(details, m.HyperVReplicaBluePolicyDetails)
    assert details.replication_frequency_in_seconds == 300
    assert details.compression == "Enabled"
    assert details.replica_deletion_option == "SecondaryVMOnRecoveryCloud"
    assert listed == [POLICY, "p1"]
    assert found.id == made.id


def test_clouds_are_paired_by_a_job(served: Served) -> None:
    target = (
        f"{ROOT}/replicationFabrics/{FABRICS[Side.RECOVERY]}"
        f"/replicationProtectionContainers/{CLOUDS[Side.RECOVERY]}"
    )
    wanted = m.CreateProtectionContainerMappingInput(
        properties=m.CreateProtectionContainerMappingInputProperties(
            target_protection_container_id=target,
            policy_id=f"{ROOT}/replicationPolicies/{POLICY}",
            provider_specific_input=m.ReplicationProviderSpecificContainerMappingInput({}),
        )
    )
    served.hub.mappings = []
    with served.site_recovery() as client:
        mappings = client.replication_protection_container_mappings
        made: Any = mappings.begin_create(*PRIMARY, "new", wanted).result()
    assert (made.name, made.properties.state) == ("new", "Paired")
    assert made.properties.target_protection_container_id == target
    assert made.properties.policy_friendly_name == POLICY


# -------------------------------------------------------------------------------- protected items


def test_protection_is_enabled_by_a_job(served: Served) -> None:
    wanted = m.EnableProtectionInput(
        properties=m.EnableProtectionInputProperties(
            policy_id=f"{ROOT}/replicationPolicies/{POLICY}",
            protectable_item_id=(
                f"{ROOT}/replicationFabrics/{FABRICS[Side.PRIMARY]}"
                f"/replicationProtectionContainers/{CLOUDS[Side.PRIMARY]}"
                f"/replicationProtectableItems/{MACHINE}"
            ),
            provider_specific_details=m.EnableProtectionProviderSpecificInput(
                instance_type="HyperVReplica2012R2"
            ),
        )
    )
    with served.site_recovery() as client:
        items = client.replication_protected_items
        made: Any = items.begin_create(*ITEM, wanted).result()
    assert made.name == MACHINE
    assert made.properties.protection_state == "InitialReplicationInProgress"
    assert made.properties.allowed_operations == ["DisableProtection"]


def test_an_item_is_tested_failed_over_and_reversed(served: Served) -> None:
    protect(served)
    direction = "PrimaryToRecovery"
    test = m.TestFailoverInputProperties(
        failover_direction=direction,
        network_type="NoNetworkAttachAsInput",
        provider_specific_details=m.TestFailoverProviderSpecificInput(
            instance_type="HyperVReplica2012R2"
        ),
    )
    clean_up = m.TestFailoverCleanupInputProperties(comments="well")
    planned = m.PlannedFailoverInputProperties(failover_direction=direction)
    reverse = m.ReverseReplicationInputProperties(failover_direction="RecoveryToPrimary")
    unplanned = m.UnplannedFailoverInputProperties(
        failover_direction="RecoveryToPrimary", source_site_operations="NotRequired"
    )
    with served.site_recovery() as client:
        items = client.replication_protected_items
        begun: list[Callable[[], Any]] = [
            lambda: items.begin_test_failover(*ITEM, m.TestFailoverInput(properties=test)),
            lambda: items.begin_test_failover_cleanup(
                *ITEM, m.TestFailoverCleanupInput(properties=clean_up)
            ),
            lambda: items.begin_planned_failover(*ITEM, m.PlannedFailoverInput(properties=planned)),
            lambda: items.begin_failover_commit(*ITEM),
            lambda: items.begin_reprotect(*ITEM, m.ReverseReplicationInput(properties=reverse)),
            lambda: items.begin_unplanned_failover(
                *ITEM, m.UnplannedFailoverInput(properties=unplanned)
            ),
        ]
        steps = [begin().result().properties for begin in begun]
    assert [(each.protection_state, each.active_location) for each in steps] == [
        ("Protected", "Primary"),
        ("Protected", "Primary"),
        ("PlannedFailoverCommitRequired", "Recovery"),
        ("PlannedFailoverStatesBegin", "Recovery"),
        ("Protected", "Recovery"),
        ("UnplannedFailoverCommitPendingStatesBegin", "Primary"),
    ]
    assert steps[0].test_failover_state == "WaitingForCompletion"
    assert steps[0].allowed_operations == ["TestFailoverCleanup"]
    assert steps[1].test_failover_state == "MarkedForDeletion"
    assert {each.last_successful_failover_time for each in steps[:2]} == {None}
    assert steps[2].last_successful_failover_time is not None


def test_items_and_their_recovery_points(served: Served) -> None:
    protect(served)
    with served.site_recovery() as client:
        items, points = client.replication_protected_items, client.recovery_points
        assert [each.name for each in items.list(*VAULT_NAME)] == [MACHINE]
        of_cloud = items.list_by_replication_protection_containers(*PRIMARY)
        assert [each.name for each in of_cloud] == [MACHINE]
        item: Any = items.get(*ITEM)
        known = points.list_by_replication_protected_items(*ITEM)
        assert [each.name for each in known] == [POINT]
        point: Any = points.get(*ITEM, POINT)
    details = item.properties.provider_specific_details
    assert isinstance(details, m.HyperVReplicaBlueReplicationDetails)
    progress: Any = details.initial_replication_details
    assert progress.initial_replication_progress_percentage == "41"
    assert point.properties.recovery_point_type == "CrashConsistent"


# -------------------------------------------------------------------------------------------- jobs


def test_a_failed_job_is_an_error_of_the_poller_and_readable(served: Served) -> None:
    protect(served)
    served.hub.fail_jobs = True
    wanted = m.PlannedFailoverInput(
        properties=m.PlannedFailoverInputProperties(failover_direction="PrimaryToRecovery")
    )
    with served.site_recovery() as client:
        poller = client.replication_protected_items.begin_planned_failover(*ITEM, wanted)
        with pytest.raises(HttpResponseError) as failure:
            poller.result()
        (listed,) = client.replication_jobs.list(*VAULT_NAME)
        job: Any = client.replication_jobs.get(*VAULT_NAME, str(listed.name))
    assert failure.value.error is not None
    assert failure.value.error.code == "28020"
    assert job.properties.state == "Failed"
    assert job.properties.errors[0].provider_error_details.error_code == 32775
    assert isinstance(job.properties.custom_details, m.FailoverJobDetails)
    assert [task.state for task in job.properties.tasks] == ["Failed"] * 5


def test_long_lists_are_read_page_by_page(served: Served) -> None:
    policies = served.hub.policies
    for number in range(450):
        name = f"policy{number}"
        policies[name] = policies[POLICY.lower()].model_copy(update={"id": name, "name": name})
    with served.site_recovery() as client:
        names = [each.name for each in client.replication_policies.list(*VAULT_NAME)]
    assert len(names) == len(set(names)) == 451


# -------------------------------------------------------------------------------------- refusals


def test_refusals_are_the_exceptions_that_clients_know(served: Served) -> None:
    with served.site_recovery() as client, pytest.raises(ResourceNotFoundError) as missing:
        client.replication_policies.get(*VAULT_NAME, "none")
    assert missing.value.error is not None
    assert missing.value.error.code == "NotFound"
    assert missing.value.error.details[0].code == "ArmResourceDoesNotExist"
    with served.site_recovery("nobody") as client, pytest.raises(ClientAuthenticationError):
        list(client.replication_fabrics.list(*VAULT_NAME))
    with served.recovery_services() as vaults, pytest.raises(ResourceExistsError):
        vaults.vaults.begin_create_or_update(GROUP, VAULT, vault_models.Vault(location="westus"))


def test_what_is_not_offered_is_asked_for_once(served: Served) -> None:
    sent: list[int] = []
    with served.site_recovery() as client, pytest.raises(HttpResponseError) as refused:
        list(
            client.replication_appliances.list(
                *VAULT_NAME,
                raw_response_hook=lambda answer: sent.append(answer.http_response.status_code),
            )
        )
    assert (refused.value.status_code, sent) == (400, [400])
    assert refused.value.error is not None
    assert refused.value.error.code == "OperationNotSupported"


def test_alert_settings_are_replaced_and_listed(served: Served) -> None:
    wanted = m.ConfigureAlertRequest(
        properties=m.ConfigureAlertRequestProperties(
            send_to_owners="false", custom_email_addresses=["ops@example.org"], locale=""
        )
    )
    with served.site_recovery() as client:
        settings = client.replication_alert_settings
        assert settings.get(*VAULT_NAME, "defaultAlertSetting").properties is not None
        made = settings.create(*VAULT_NAME, "defaultAlertSetting", wanted)
        (listed,) = settings.list(*VAULT_NAME)
    assert made == listed
    assert made.properties is not None
    assert made.properties.custom_email_addresses == ["ops@example.org"]
    assert made.properties.locale == "en-US"


# ----------------------------------------------------------------------------- asynchronous client


async def test_the_asynchronous_client_works_alike(served: Served) -> None:
    protect(served)
    wanted = m.UnplannedFailoverInput(
        properties=m.UnplannedFailoverInputProperties(failover_direction="PrimaryToRecovery")
    )
    async with served.asynchronous_site_recovery() as client:
        items = client.replication_protected_items
        listed = [each.name async for each in items.list(*VAULT_NAME)]
        poller = await items.begin_unplanned_failover(*ITEM, wanted)
        failed_over: Any = await poller.result()
        committed: Any = await (await items.begin_failover_commit(*ITEM)).result()
        jobs = [job async for job in client.replication_jobs.list(*VAULT_NAME)]
    assert listed == [MACHINE]
    assert failed_over.properties.active_location == "Recovery"
    assert committed.properties.protection_state == "UnplannedFailoverStatesBegin"
    assert len(jobs) == 2
