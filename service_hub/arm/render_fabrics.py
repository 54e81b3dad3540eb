"""VMM servers, their providers, networks and storage (arm-api.md, sections 2.2, 2.3, 2.8)."""

from typing import Any, Final

from service_hub.arm.ids import (
    CLASSIFICATIONS,
    FABRICS,
    LOGICAL_NETWORKS,
    NETWORKS,
    PROVIDERS,
    VaultIds,
    resource_type,
)
from service_hub.arm.surroundings import networks, title_of
from service_hub.arm.times import fine_time
from service_hub.domain.errors import CATALOGUE, NOT_CONNECTED
from service_hub.domain.records import Vault
from service_hub.ports.use_cases import FabricFacts
from wire_contract.vmm_interface import ClassificationView, NetworkView

FABRIC_TYPE: Final = "VMM"

# No key encryption between two sites of one's own; the recorded server also replicated to Azure.
_NO_KEY: Final[dict[str, Any]] = {"kekState": "None", "kekCertThumbprint": None}


def fabric_body(vault: Vault, fabric: FabricFacts) -> dict[str, Any]:
    """Return a VMM server."""
    name = fabric.provider.fabric_name
    return {
        "id": VaultIds(vault).fabric(name),
        "name": name,
        "type": resource_type(FABRICS),
        "properties": {
            "friendlyName": title_of(fabric),
            "encryptionDetails": dict(_NO_KEY),
            "rolloverEncryptionDetails": dict(_NO_KEY),
            "internalIdentifier": fabric.provider.vmm_id,
            "bcdrState": "Valid",
            "customDetails": {"instanceType": FABRIC_TYPE},
            "healthErrorDetails": fabric_health_errors(fabric),
            "health": "Normal" if fabric.connected else "Critical",
        },
    }


def provider_body(vault: Vault, fabric: FabricFacts) -> dict[str, Any]:
    """Return the provider on a VMM server; it is named as the server's id."""
    provider = fabric.provider
    properties: dict[str, Any] = {
        "fabricType": FABRIC_TYPE,
        "friendlyName": title_of(fabric),
        "providerVersion": provider.provider_version,
        "serverVersion": provider.vmm_version,
        "providerVersionState": "Latest",
        "fabricFriendlyName": title_of(fabric),
        "connectionStatus": "Connected" if fabric.connected else "Disconnected",
        "protectedItemCount": fabric.protected_item_count,
        "allowedScenarios": ["Refresh"],
        "healthErrorDetails": fabric_health_errors(fabric),
        "draIdentifier": provider.id,
        "machineId": provider.vmm_id,
        "machineName": provider.vmm_fqdn,
        "providerVersionDetails": {"version": provider.provider_version, "status": "Supported"},
    }
    if fabric.last_contact_at is not None:
        properties["lastHeartBeat"] = fine_time(fabric.last_contact_at)
    return {
        "id": VaultIds(vault).in_fabric(provider.fabric_name, PROVIDERS, provider.vmm_id),
        "name": provider.vmm_id,
        "type": resource_type(FABRICS, PROVIDERS),
        "properties": properties,
    }


def network_body(vault: Vault, fabric: FabricFacts, network: NetworkView) -> dict[str, Any]:
    """Return a VM network."""
    ids = VaultIds(vault)
    return {
        "id": ids.in_fabric(fabric.provider.fabric_name, NETWORKS, network.network_id),
        "name": network.network_id,
        "type": resource_type(FABRICS, NETWORKS),
        "properties": {
            "fabricType": FABRIC_TYPE,
            "subnets": [
                {
                    "name": subnet.name,
                    "friendlyName": subnet.friendly_name,
                    "addressList": list(subnet.address_list),
                }
                for subnet in network.subnets
            ],
            "friendlyName": network.friendly_name,
            "networkType": network.network_type,
        },
    }


def logical_network_bodies(vault: Vault, fabric: FabricFacts) -> list[dict[str, Any]]:
    """Return the logical networks that VM networks of a fabric lie in.

    An inventory names them by their id alone, so that nothing else can be said of them.
    """
    ids = VaultIds(vault)
    known = dict.fromkeys(network.logical_network_id for network in networks(fabric))
    return [
        {
            "id": ids.in_fabric(fabric.provider.fabric_name, LOGICAL_NETWORKS, network_id),
            "name": network_id,
            "type": resource_type(FABRICS, LOGICAL_NETWORKS),
            "properties": {"friendlyName": network_id},
        }
        for network_id in known
    ]


def classification_body(
    vault: Vault, fabric: FabricFacts, classification: ClassificationView
) -> dict[str, Any]:
    """Return a storage classification."""
    name = classification.classification_id
    return {
        "id": VaultIds(vault).in_fabric(fabric.provider.fabric_name, CLASSIFICATIONS, name),
        "name": name,
        "type": resource_type(FABRICS, CLASSIFICATIONS),
        "properties": {"friendlyName": classification.friendly_name},
    }


def fabric_health_errors(fabric: FabricFacts) -> list[dict[str, Any]]:
    """Return what is wrong with a server; empty while its provider is connected."""
    if fabric.connected:
        return []
    entry = CATALOGUE[NOT_CONNECTED]
    last = fabric.last_contact_at
    known = f"its last sign of life was at {fine_time(last)}" if last else "it was never heard of"
    error: dict[str, Any] = {
        "errorSource": "Hub",
        "errorType": "ProviderConnection",
        "errorLevel": "Error",
        "errorCategory": "FabricInfrastructure",
        "errorCode": entry.code,
        "errorMessage": entry.message.format(name=title_of(fabric)),
        "possibleCauses": entry.possible_causes.format(name=title_of(fabric), detail=known),
        "recommendedAction": entry.recommended_action,
        "entityId": fabric.provider.vmm_id,
        "innerHealthErrors": [],
    }
    if last is not None:
        error["creationTimeUtc"] = fine_time(last)
    return [error]
