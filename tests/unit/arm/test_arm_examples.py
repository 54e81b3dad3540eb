"""Our answers beside the published examples and through the SDK's own models: nothing unknown.

The fixture has, for each of the 97 + 13 examples of the API's specification (Azure's
rest-api-specs, recoveryservicessiterecovery and recoveryservices), the kind of its answer and the
names of its fields, two levels deep. Most of the examples are of other kinds of replication, so
that what is inside their provider-specific parts says nothing about ours; the recorded bodies of
VMM to VMM are held against whole in test_arm_recorded_shapes.py.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from azure.mgmt.recoveryservices import models as vaults
from azure.mgmt.recoveryservicessiterecovery import models as m

from tests.unit.arm.arm_estate import (
    CLASSIFICATION,
    FABRICS,
    LOGICAL_NETWORK,
    MACHINE,
    MAPPING,
    NETWORK,
    NOW,
    POINT,
    POLICY,
)
from tests.unit.arm.conftest import PLANNED, Surface
from tests.unit.arm.test_arm_events import EVENT
from tests.unit.arm.test_arm_mappings import path_of, wanted
from wire_contract.vocabulary import Side

EXAMPLES: Final[dict[str, dict[str, Any]]] = json.loads(
    (Path(__file__).parents[2] / "fixtures" / "arm_examples.json").read_text(encoding="utf-8")
)
SHOWN: Final[dict[str, type[Any]]] = {
    "RecoveryPoints": m.RecoveryPoint,
    "ReplicationAlertSettings": m.Alert,
    "ReplicationEvents": m.Event,
    "ReplicationFabrics": m.Fabric,
    "ReplicationJobs": m.Job,
    "ReplicationLogicalNetworks": m.LogicalNetwork,
    "ReplicationNetworkMappings": m.NetworkMapping,
    "ReplicationNetworks": m.Network,
    "ReplicationPolicies": m.Policy,
    "ReplicationProtectableItems": m.ProtectableItem,
    "ReplicationProtectedItems": m.ReplicationProtectedItem,
    "ReplicationProtectionContainerMappings": m.ProtectionContainerMapping,
    "ReplicationProtectionContainers": m.ProtectionContainer,
    "ReplicationRecoveryPlans": m.RecoveryPlan,
    "ReplicationRecoveryServicesProviders": m.RecoveryServicesProvider,
    "ReplicationStorageClassificationMappings": m.StorageClassificationMapping,
    "ReplicationStorageClassifications": m.StorageClassification,
    "ReplicationVaultHealth": m.VaultHealthDetails,
    "Operations": m.OperationsDiscovery,
    "GETVault": vaults.Vault,
    "GETVaultExtendedInfo": vaults.VaultExtendedInfoResource,
    "ListUsages": vaults.VaultUsage,
    "ListReplicationUsages": vaults.ReplicationUsage,
}
"""Kinds of answers, and what the SDK makes of them."""

SAME_KIND: Final = {
    "ListBySubscriptionIds": "GETVault",
    "ListOperations": "Operations",
    "ListResources": "GETVault",
    "PATCHVault": "GETVault",
    "PUTVault": "GETVault",
    "UpdateVaultExtendedInfo": "GETVaultExtendedInfo",
}
"""Examples that are named by their operation, and what they are answered with."""

NOT_COMPARED: Final = {
    "PUTVaultCred": "a registration certificate: test_arm_sdk.py reads it with the SDK",
    "SupportedOperatingSystems": "of machines that get an agent inside; no part of VMM to VMM",
}
_TODAY = "spelt etag by today's models, which would not find the other"
_NO_SUCH = "the inventory of a VMM server does not tell it to the hub"
LEFT_OUT: Final = {
    "GETVault.eTag": _TODAY,
    "GETVaultExtendedInfo.eTag": _TODAY,
    "ListUsages.quotaPeriod": "nothing that a hub counts is reset after a period",
    "ReplicationJobs.properties.endTime": "the job here goes on; one that ended has it",
    "ReplicationLogicalNetworks.properties.logicalNetworkDefinitionsStatus": _NO_SUCH,
    "ReplicationLogicalNetworks.properties.logicalNetworkUsage": _NO_SUCH,
    "ReplicationLogicalNetworks.properties.networkVirtualizationStatus": _NO_SUCH,
}
"""What examples have and ours leave out, and why."""


def paths_of(surface: Surface) -> dict[str, str]:
    """Return where one of each kind is; a list's first entry is one."""
    v, fabric, container = surface.vault, surface.fabric, surface.container
    storage = f"{fabric}/replicationStorageClassifications/{CLASSIFICATION}"
    return {
        "RecoveryPoints": f"{surface.item}/recoveryPoints/{POINT}",
        "ReplicationAlertSettings": f"{v}/replicationAlertSettings/defaultAlertSetting",
        "ReplicationEvents": f"{v}/replicationEvents/{EVENT.id}",
        "ReplicationFabrics": fabric,
        "ReplicationJobs": f"{v}/replicationJobs",
        "ReplicationLogicalNetworks": f"{fabric}/replicationLogicalNetworks/{LOGICAL_NETWORK}",
        "ReplicationNetworkMappings": path_of(surface),
        "ReplicationNetworks": f"{fabric}/replicationNetworks/{NETWORK}",
        "ReplicationPolicies": f"{v}/replicationPolicies/{POLICY}",
        "ReplicationProtectableItems": f"{container}/replicationProtectableItems/{MACHINE}",
        "ReplicationProtectedItems": surface.item,
        "ReplicationProtectionContainerMappings": (
            f"{container}/replicationProtectionContainerMappings/{MAPPING}"
        ),
        "ReplicationProtectionContainers": container,
        "ReplicationRecoveryPlans": f"{v}/replicationRecoveryPlans/rp",
        "ReplicationRecoveryServicesProviders": f"{v}/replicationRecoveryServicesProviders",
        "ReplicationStorageClassificationMappings": (
            f"{storage}/replicationStorageClassificationMappings/sm"
        ),
        "ReplicationStorageClassifications": storage,
        "ReplicationVaultHealth": f"{v}/replicationVaultHealth",
        "Operations": "/providers/Microsoft.RecoveryServices/operations",
        "GETVault": v,
        "GETVaultExtendedInfo": f"{v}/extendedInformation/vaultExtendedInfo",
        "ListUsages": f"{v}/usages",
        "ListReplicationUsages": f"{v}/replicationUsages",
    }


async def furnished(surface: Surface) -> Surface:
    """Add an event, a job, a plan and mappings."""
    surface.hub.events.append(EVENT)
    assert (await surface.ask("PUT", path_of(surface), json=wanted(surface))).status == 202
    there = FABRICS[Side.RECOVERY]
    storage = f"replicationStorageClassifications/{CLASSIFICATION}"
    target = f"{surface.vault}/replicationFabrics/{there}/{storage}"
    mapping = f"{surface.fabric}/{storage}/replicationStorageClassificationMappings/sm"
    body: dict[str, Any] = {"properties": {"targetStorageClassificationId": target}}
    assert (await surface.ask("PUT", mapping, json=body)).status == 202
    item = {"id": surface.item, "virtualMachineId": MACHINE}
    group = {"groupType": "Boot", "replicationProtectedItems": [item]}
    body = {
        "properties": {
            "primaryFabricId": surface.fabric,
            "recoveryFabricId": f"{surface.vault}/replicationFabrics/{there}",
            "failoverDeploymentModel": "NotApplicable",
            "groups": [group],
        }
    }
    plan = await surface.ask("PUT", f"{surface.vault}/replicationRecoveryPlans/rp", json=body)
    assert plan.status == 202, await plan.text()
    times = {"last_planned_failover_at": NOW, "last_test_failover_at": NOW}
    for key, saved in list(surface.hub.plans.items()):
        surface.hub.plans[key] = saved.model_copy(update=times)
    extended = f"{surface.vault}/extendedInformation/vaultExtendedInfo"
    body = {"properties": {"algorithm": "None", "integrityKey": "a2V5"}}
    await surface.ask("PUT", extended, json=body)
    surface.hub.items[MACHINE] = surface.hub.items[MACHINE].model_copy(
        update={"last_test_failover_at": NOW, "last_failover_at": NOW}
    )
    failover = await surface.ask("POST", f"{surface.item}/plannedFailover", json=PLANNED)
    assert failover.status == 202
    return surface


async def shown(surface: Surface, kind: str) -> dict[str, Any]:
    """Return one answer of a kind."""
    body = await surface.body(paths_of(surface)[kind])
    one: dict[str, Any] = body["value"][0] if "value" in body else body
    return one


def unknown(value: Any, place: str) -> Iterator[str]:
    """Return the places of what the SDK's models have no field for."""
    if isinstance(value, list):
        for part in value:
            yield from unknown(part, place)
    fields = getattr(type(value), "_attr_to_rest_field", None)
    if fields is None:
        return
    names = {field._rest_name: name for name, field in fields.items()}
    for name in value:
        if name not in names:
            yield f"{place}.{name}"
        else:
            yield from unknown(getattr(value, names[name]), f"{place}.{name}")


@pytest.mark.parametrize("kind", SHOWN)
async def test_the_sdk_knows_every_field_of_an_answer(surface: Surface, kind: str) -> None:
    body = await shown(await furnished(surface), kind)
    assert list(unknown(SHOWN[kind](body), kind)) == []


def kind_of(example: str) -> str:
    """Return the kind of answer that an example is of."""
    name = example.partition("_")[0]
    return SAME_KIND.get(name, name)


@pytest.mark.parametrize("kind", SHOWN)
async def test_every_field_of_the_examples_is_there_or_left_out_for_a_reason(
    surface: Surface, kind: str
) -> None:
    body = await shown(await furnished(surface), kind)
    ours = set(body)
    ours |= {f"{a}.{b}" for a, part in body.items() if isinstance(part, dict) for b in part}
    examples = [each["fields"] for name, each in EXAMPLES.items() if kind_of(name) == kind]
    assert examples
    missing = {f"{kind}.{name}" for fields in examples for name in fields} - {
        f"{kind}.{name}" for name in ours
    }
    # In both directions: what is there by now has no reason to be left out.
    assert missing == {name for name in LEFT_OUT if name.partition(".")[0] == kind}


def test_every_example_is_of_a_kind_that_is_compared_or_has_a_reason_why_not() -> None:
    assert len(EXAMPLES) == 97 + 13
    kinds = {kind_of(name) for name, each in EXAMPLES.items() if each["fields"]}
    assert kinds == {*SHOWN, *NOT_COMPARED}
    assert {name.partition(".")[0] for name in LEFT_OUT} <= set(SHOWN)
