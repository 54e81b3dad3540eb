"""Clouds, the machines in them that can be protected, and mappings between clouds."""

from typing import Any, Final

from service_hub.arm.ids import (
    CONTAINERS,
    FABRICS,
    MAPPINGS,
    PROTECTABLE_ITEMS,
    PROTECTED_ITEMS,
    PROVIDERS,
    resource_type,
)
from service_hub.arm.render_fabrics import FABRIC_TYPE
from service_hub.arm.surroundings import Surroundings, machines, title_of
from service_hub.domain.records import ContainerMapping
from service_hub.ports.use_cases import FabricFacts
from wire_contract.vmm_interface import CloudView, DiskView, MachineView
from wire_contract.vocabulary import ReplicationMode

MACHINE_TYPE: Final = "HyperVVirtualMachine"

_BYTES_PER_MB: Final = 1_048_576
_PAIRING_STATES: Final = frozenset(
    {"PairingInProgress", "Paired", "UnpairingInProgress", "UnpairingFailed"}
)
"""While a pairing runs both clouds already read Paired (recorded.md, section 9); until its removal
has ended too."""

_FAILED_STATES: Final = frozenset({"PairingFailed", "UnpairingFailed"})

_PROVIDERS_BY_VERSION: Final = {"2012": "HyperVReplica2012", "2012R2": "HyperVReplica2012R2"}


def container_body(around: Surroundings, fabric: FabricFacts, cloud: CloudView) -> dict[str, Any]:
    """Return a cloud."""
    name = fabric.provider.fabric_name
    role = _role(around, fabric.provider.id, cloud.cloud_id)
    return {
        "id": around.ids.container(name, cloud.cloud_id),
        "name": cloud.cloud_id,
        "type": resource_type(FABRICS, CONTAINERS),
        "properties": {
            "fabricFriendlyName": title_of(fabric),
            "friendlyName": cloud.friendly_name,
            "fabricType": FABRIC_TYPE,
            "protectedItemCount": _protected_count(around, fabric.provider.id, cloud.cloud_id),
            "pairingStatus": "Paired" if role else "NotPaired",
            "role": role,
            "fabricSpecificDetails": None,
        },
    }


def in_vault_list(around: Surroundings, fabric: FabricFacts, cloud: CloudView) -> bool:
    """Return whether the vault lists a cloud: it is synchronised or paired (seed, step 3)."""
    return cloud.synchronized or bool(_role(around, fabric.provider.id, cloud.cloud_id))


def mapping_body(around: Surroundings, mapping: ContainerMapping) -> dict[str, Any]:
    """Return a mapping; its id is under the source cloud, also where the target lists it."""
    policy = around.policy_of(mapping.policy_id)
    source = around.fabric_name(mapping.primary_provider_id)
    target = around.fabric_name(mapping.recovery_provider_id)
    ids = around.ids
    return {
        "id": ids.in_container(source, mapping.primary_cloud_id, MAPPINGS, mapping.name),
        "name": mapping.name,
        "type": resource_type(FABRICS, CONTAINERS, MAPPINGS),
        "properties": {
            "targetProtectionContainerId": ids.container(target, mapping.recovery_cloud_id),
            "targetProtectionContainerFriendlyName": around.cloud_title(
                mapping.recovery_provider_id, mapping.recovery_cloud_id
            ),
            "providerSpecificDetails": None,
            "health": mapping_health(mapping),
            "healthErrorDetails": [],
            "policyId": ids.policy(policy.name) if policy else None,
            "state": mapping.mapping_state,
            "sourceProtectionContainerFriendlyName": around.cloud_title(
                mapping.primary_provider_id, mapping.primary_cloud_id
            ),
            "sourceFabricFriendlyName": around.fabric_title(mapping.primary_provider_id),
            "targetFabricFriendlyName": around.fabric_title(mapping.recovery_provider_id),
            "policyFriendlyName": policy.name if policy else None,
        },
    }


def mapping_health(mapping: ContainerMapping) -> str:
    """Return Critical for a pairing whose making or removal failed."""
    return "Critical" if mapping.mapping_state in _FAILED_STATES else "Normal"


def protectable_machines(
    around: Surroundings, fabric: FabricFacts, cloud_id: str
) -> tuple[MachineView, ...]:
    """Return the machines of a cloud that are, or could be, the first primary of an item.

    Replicas and test machines are the service's own: they can't be protected once more. A protected
    machine stays listed when it has become the replica after a reversal, since its item's id names
    it for good.
    """
    copies = {ReplicationMode.REPLICA, ReplicationMode.TEST_REPLICA}

    def shown(machine: MachineView) -> bool:
        if around.item_of(machine.machine_id) is not None:
            return True
        mode = machine.replication.mode if machine.replication else ReplicationMode.NONE
        return not (
            machine.test_machine_of or mode in copies or machine.machine_id in around.replica_ids
        )

    return tuple(
        machine for machine in machines(fabric) if machine.cloud_id == cloud_id and shown(machine)
    )


def protectable_item_body(
    around: Surroundings, fabric: FabricFacts, machine: MachineView
) -> dict[str, Any]:
    """Return a discovered machine."""
    name = fabric.provider.fabric_name
    item = around.item_of(machine.machine_id)
    ids = around.ids
    place = (name, machine.cloud_id)
    return {
        "id": ids.in_container(*place, PROTECTABLE_ITEMS, machine.machine_id),
        "name": machine.machine_id,
        "type": resource_type(FABRICS, CONTAINERS, PROTECTABLE_ITEMS),
        "properties": {
            "friendlyName": machine.name,
            "protectionStatus": "Protected" if item else "Unprotected",
            "replicationProtectedItemId": (
                ids.in_container(*place, PROTECTED_ITEMS, item.item.id) if item else None
            ),
            "recoveryServicesProviderId": ids.in_fabric(name, PROVIDERS, fabric.provider.vmm_id),
            "protectionReadinessErrors": [],
            "supportedReplicationProviders": _supported(fabric, machine),
            "customDetails": {
                "instanceType": MACHINE_TYPE,
                "sourceItemId": machine.hyperv_id,
                "generation": str(machine.generation),
                "osDetails": None,
                "diskDetails": [disk_body(disk) for disk in machine.disks],
                "hyperVHostId": machine.host,
            },
        },
    }


def disk_body(disk: DiskView) -> dict[str, Any]:
    """Return a virtual disk; sizes count whole megabytes, the last one begun."""
    return {
        "maxSizeMB": -(-disk.size_bytes // _BYTES_PER_MB),
        "vhdType": disk.kind,
        "vhdId": disk.disk_id,
        "vhdName": disk.name,
    }


def _supported(fabric: FabricFacts, machine: MachineView) -> list[str]:
    hosts = fabric.inventory.view.hosts if fabric.inventory else ()
    versions = (host.version for host in hosts if host.fqdn == machine.host)
    return [_PROVIDERS_BY_VERSION[each] for each in versions if each in _PROVIDERS_BY_VERSION]


def _role(around: Surroundings, provider_id: str, cloud_id: str) -> str:
    for mapping in around.mappings:
        if mapping.mapping_state not in _PAIRING_STATES:
            continue
        if (mapping.primary_provider_id, mapping.primary_cloud_id) == (provider_id, cloud_id):
            return "Primary"
        if (mapping.recovery_provider_id, mapping.recovery_cloud_id) == (provider_id, cloud_id):
            return "Recovery"
    return ""


def _protected_count(around: Surroundings, provider_id: str, cloud_id: str) -> int:
    return sum(
        (each.item.primary_provider_id, each.item.primary_cloud_id) == (provider_id, cloud_id)
        for each in around.items
    )
