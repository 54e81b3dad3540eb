"""Mappings of networks and storage classifications (arm-api.md, section 2.8)."""

from typing import Any, Final

from service_hub.arm.ids import CLASSIFICATIONS, FABRICS, NETWORKS, VaultIds, resource_type
from service_hub.arm.surroundings import title_of
from service_hub.domain.mapping_records import NetworkMapping, StorageMapping
from service_hub.domain.records import Vault
from service_hub.ports.use_cases import FabricFacts
from wire_contract.vmm_interface import NetworkView

NETWORK_MAPPINGS: Final = "replicationNetworkMappings"
STORAGE_MAPPINGS: Final = "replicationStorageClassificationMappings"


def network_mapping_id(vault: Vault, fabric_name: str, network_id: str, mapping_name: str) -> str:
    """Return the id of a network mapping."""
    network = VaultIds(vault).in_fabric(fabric_name, NETWORKS, network_id)
    return f"{network}/{NETWORK_MAPPINGS}/{mapping_name}"


def storage_mapping_id(
    vault: Vault, fabric_name: str, classification_id: str, mapping_name: str
) -> str:
    """Return the id of a storage mapping."""
    part = VaultIds(vault).in_fabric(fabric_name, CLASSIFICATIONS, classification_id)
    return f"{part}/{STORAGE_MAPPINGS}/{mapping_name}"


def network_mapping_body(
    vault: Vault, mapping: NetworkMapping, primary: FabricFacts, recovery: FabricFacts
) -> dict[str, Any]:
    """Return a network mapping; it exists once it is paired, and goes when it is removed."""
    ids = VaultIds(vault)
    source, target = primary.provider.fabric_name, recovery.provider.fabric_name
    return {
        "id": network_mapping_id(vault, source, mapping.primary_network_id, mapping.name),
        "name": mapping.name,
        "type": resource_type(FABRICS, NETWORKS, NETWORK_MAPPINGS),
        "properties": {
            "state": "Paired",
            "primaryNetworkFriendlyName": _title(primary, mapping.primary_network_id),
            "primaryNetworkId": ids.in_fabric(source, NETWORKS, mapping.primary_network_id),
            "primaryFabricFriendlyName": title_of(primary),
            "recoveryNetworkFriendlyName": _title(recovery, mapping.recovery_network_id),
            "recoveryNetworkId": ids.in_fabric(target, NETWORKS, mapping.recovery_network_id),
            "recoveryFabricArmId": ids.fabric(target),
            "recoveryFabricFriendlyName": title_of(recovery),
            "fabricSpecificSettings": {"instanceType": "VmmToVmm"},
        },
    }


def storage_mapping_body(
    vault: Vault, mapping: StorageMapping, primary: FabricFacts, recovery: FabricFacts
) -> dict[str, Any]:
    """Return a storage mapping."""
    ids, source = VaultIds(vault), primary.provider.fabric_name
    target_id = ids.in_fabric(
        recovery.provider.fabric_name, CLASSIFICATIONS, mapping.recovery_classification_id
    )
    return {
        "id": storage_mapping_id(vault, source, mapping.primary_classification_id, mapping.name),
        "name": mapping.name,
        "type": resource_type(FABRICS, CLASSIFICATIONS, STORAGE_MAPPINGS),
        "properties": {"targetStorageClassificationId": target_id},
    }


def _title(fabric: FabricFacts, network_id: str) -> str:
    known: tuple[NetworkView, ...] = fabric.inventory.view.networks if fabric.inventory else ()
    found = (each.friendly_name for each in known if each.network_id == network_id)
    return next(found, "")
