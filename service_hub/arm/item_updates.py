"""What a change of a protected item, or of its health errors, asks for: bodies and their meaning.

The dialect has no subclass for site to site (arm-models.txt): of a machine that is replicated by
Hyper-V Replica the networks of its adapters can be chosen. A health error can be resolved where the
hub itself has the remedy, which is to have the two copies compared.
"""

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal

from pydantic import Field, JsonValue

from service_hub.arm.bodies import Input, ProviderInput, read, refuse_other_providers
from service_hub.arm.calls import Call
from service_hub.arm.ids import FABRICS, NETWORKS, names_in_id
from service_hub.arm.item_health import ALLOWED
from service_hub.domain.errors import InvalidRequestError
from service_hub.domain.records import Vault
from service_hub.ports.use_cases import ItemFacts
from wire_contract.vmm_interface import NetworkView, NicView

NICS_MAX: Final = 64
"""Of one machine; Hyper-V has 12."""

ERRORS_MAX: Final = 100

_NETWORK: Final = "properties.selectedRecoveryAzureNetworkId"
_OF_AZURE: Final = (
    "recovery_azure_vm_name",
    "recovery_azure_vm_size",
    "selected_source_nic_id",
    "enable_rdp_on_target_option",
    "license_type",
    "recovery_availability_set_id",
)


class AddressInput(Input):
    """Subnet and address of an adapter; an address that is left out is as the machine's is."""

    recovery_subnet_name: str | None = None
    recovery_static_ip_address: str | None = Field(
        default=None, alias="recoveryStaticIPAddress", max_length=64
    )


class NicInput(Input):
    """One adapter of the primary: chosen by the user, or as the network map says."""

    nic_id: str
    selection_type: Literal["SelectedByUser", "NotSelected"] = "SelectedByUser"
    ip_configs: list[AddressInput] = Field(default_factory=list, max_length=1)


class UpdateProperties(Input):
    """What is changed of an item; adapters that are not named stay as they are."""

    vm_nics: list[NicInput] = Field(default_factory=list, max_length=NICS_MAX)
    selected_recovery_azure_network_id: str | None = None
    recovery_azure_vm_name: str | None = Field(default=None, alias="recoveryAzureVMName")
    recovery_azure_vm_size: str | None = Field(default=None, alias="recoveryAzureVMSize")
    selected_source_nic_id: str | None = None
    enable_rdp_on_target_option: str | None = None
    license_type: str | None = None
    recovery_availability_set_id: str | None = None
    provider_specific_details: ProviderInput | None = None


class UpdateInput(Input):
    """PATCH of a protected item."""

    properties: UpdateProperties = Field(default_factory=UpdateProperties)


class ResolvedError(Input):
    """One health error, by the id that the item's `healthErrors` give it."""

    health_error_id: str = Field(max_length=200)


class ResolveProperties(Input):
    """Which errors are to be resolved."""

    health_errors: list[ResolvedError] = Field(min_length=1, max_length=ERRORS_MAX)


class ResolveInput(Input):
    """POST of resolveHealthErrors."""

    properties: ResolveProperties


def chosen_adapters(call: Call, vault: Vault, facts: ItemFacts) -> Mapping[str, JsonValue]:
    """Return the arguments of the job that a PATCH begins, none where it changes nothing.

    `chosen`: adapters of the primary with network, subnet and address at the recovery side;
    `mapped`: those that follow the network map again. InvalidRequestError names the property.
    """
    wanted = read(call.body, UpdateInput).properties
    refuse_other_providers(wanted.provider_specific_details, "properties.providerSpecificDetails")
    for name in _OF_AZURE:
        if getattr(wanted, name) is not None:
            alias = UpdateProperties.model_fields[name].alias
            raise InvalidRequestError(
                "This setting is of machines that fail over to Azure. Of a machine that is"
                " replicated between two VMM sites the networks of its adapters can be changed.",
                f"properties.{alias}",
            )
    if not wanted.vm_nics:
        if wanted.selected_recovery_azure_network_id is not None:
            raise InvalidRequestError("Name the adapters it is for.", "properties.vmNics")
        return {}
    if facts.primary_machine is None:
        raise InvalidRequestError(
            "The machine's adapters are not known yet: refresh its server first.",
            "properties.vmNics",
        )
    network = _network(wanted.selected_recovery_azure_network_id, vault, facts)
    known = {nic.nic_id.lower(): nic for nic in facts.primary_machine.machine.nics}
    chosen: list[JsonValue] = []
    mapped: list[JsonValue] = []
    for index, each in enumerate(wanted.vm_nics):
        place = f"properties.vmNics.{index}"
        nic = known.get(each.nic_id.lower())
        if nic is None:
            raise InvalidRequestError(
                "The machine has no such network adapter. Its vmNics list them by nicId.",
                f"{place}.nicId",
            )
        if each.selection_type == "NotSelected":
            mapped.append(nic.nic_id)
        else:
            chosen.append(_chosen(nic, each, network, place))
    return {"chosen": chosen, "mapped": mapped}


def _network(text: str | None, vault: Vault, facts: ItemFacts) -> NetworkView | None:
    if text is None:
        return None
    fabric_name, network_id = names_in_id(text, vault, (FABRICS, NETWORKS), _NETWORK)
    if fabric_name.lower() != facts.recovery.provider.fabric_name.lower():
        raise InvalidRequestError(
            "The network must be one of the server that the machine is recovered to.", _NETWORK
        )
    inventory = facts.recovery.inventory
    networks: Sequence[NetworkView] = () if inventory is None else inventory.view.networks
    found = next((e for e in networks if e.network_id.lower() == network_id.lower()), None)
    if found is None:
        raise InvalidRequestError(f"7004: The server has no VM network '{network_id}'.", _NETWORK)
    if facts.item.recovery_cloud_id not in found.cloud_ids:
        raise InvalidRequestError(
            f"7004: The network '{found.friendly_name}' is not available to the recovery cloud.",
            _NETWORK,
        )
    return found


def _chosen(
    nic: NicView, wanted: NicInput, network: NetworkView | None, place: str
) -> dict[str, JsonValue]:
    if network is None:
        raise InvalidRequestError(
            "An adapter that is SelectedByUser needs the id of a VM network of the recovery side;"
            " NotSelected has it follow the network map again.",
            _NETWORK,
        )
    address = wanted.ip_configs[0] if wanted.ip_configs else AddressInput()
    names = [each.name for each in network.subnets]
    subnet = address.recovery_subnet_name
    if subnet is not None and subnet not in names:
        raise InvalidRequestError(
            f"The network '{network.friendly_name}' has no subnet '{subnet}'.",
            f"{place}.ipConfigs.0.recoverySubnetName",
        )
    if address.recovery_static_ip_address is not None:
        try:
            ipaddress.ip_address(address.recovery_static_ip_address)
        except ValueError:
            raise InvalidRequestError(
                "The address must be an IPv4 or IPv6 address.",
                f"{place}.ipConfigs.0.recoveryStaticIPAddress",
            ) from None
    return {
        "nic_id": nic.nic_id,
        "network_id": network.network_id,
        "subnet": subnet or (names[0] if names else None),
        "address": address.recovery_static_ip_address,
    }


def check_resolvable(call: Call, errors: Iterable[dict[str, Any]]) -> None:
    """Raise InvalidRequestError where the repair would not resolve an error that the body names.

    `errors` are the item's health errors as it shows them now.
    """
    wanted = read(call.body, ResolveInput).properties.health_errors
    shown = {str(each["errorId"]).lower(): each for each in errors}
    for index, each in enumerate(wanted):
        place = f"properties.healthErrors.{index}.healthErrorId"
        error = shown.get(each.health_error_id.lower())
        if error is None:
            raise InvalidRequestError(
                f"The item has no health error '{each.health_error_id}' now.", place
            )
        if error["customerResolvability"] != ALLOWED:
            raise InvalidRequestError(
                f"The error {error['errorCode']} isn't resolved by the hub."
                f" {error['recommendedAction']}",
                place,
            )
