"""What most renderings look things up in: the fabrics, mappings, policies and items of a vault."""

from dataclasses import dataclass
from typing import Final

from service_hub.arm.api import ArmApi
from service_hub.arm.ids import VaultIds
from service_hub.domain.records import ContainerMapping, ReplicationPolicy, Vault
from service_hub.ports.use_cases import FabricFacts, ItemFacts, SeenFabric
from wire_contract.vmm_interface import CloudView, MachineView, NetworkView

_NO_NAME: Final = ""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """One vault as it was read."""

    vault: Vault
    fabrics: tuple[FabricFacts, ...]
    mappings: tuple[ContainerMapping, ...]
    policies: tuple[ReplicationPolicy, ...]
    items: tuple[ItemFacts, ...]

    @property
    def ids(self) -> VaultIds:
        """The ids of this vault's resources."""
        return VaultIds(self.vault)

    def fabric_of(self, provider_id: str) -> FabricFacts | None:
        """Return the fabric of a provider."""
        return next((each for each in self.fabrics if each.provider.id == provider_id), None)

    def fabric_name(self, provider_id: str) -> str:
        """Return a fabric's name in ids; empty when the server was taken out."""
        fabric = self.fabric_of(provider_id)
        return fabric.provider.fabric_name if fabric else _NO_NAME

    def fabric_title(self, provider_id: str) -> str:
        """Return a fabric's friendly name."""
        fabric = self.fabric_of(provider_id)
        return title_of(fabric) if fabric else _NO_NAME

    def cloud_title(self, provider_id: str, cloud_id: str) -> str:
        """Return a cloud's friendly name."""
        fabric = self.fabric_of(provider_id)
        found = (each for each in (clouds(fabric) if fabric else ()) if each.cloud_id == cloud_id)
        return next((each.friendly_name for each in found), _NO_NAME)

    def policy_of(self, policy_id: str) -> ReplicationPolicy | None:
        """Return a policy by its record id."""
        return next((each for each in self.policies if each.id == policy_id), None)

    def item_of(self, machine_id: str) -> ItemFacts | None:
        """Return the item that a machine is the first primary of."""
        return next(
            (each for each in self.items if each.item.primary_machine_id == machine_id), None
        )

    @property
    def replica_ids(self) -> frozenset[str]:
        """The machines that are the other end of an item."""
        return frozenset(each.item.recovery_machine_id for each in self.items)


async def surroundings(api: ArmApi, vault: Vault) -> Surroundings:
    """Read all of a vault that renderings look things up in."""
    return Surroundings(
        vault=vault,
        fabrics=tuple(await api.fabrics.list(vault)),
        mappings=tuple(await api.pairing.list(vault)),
        policies=tuple(await api.policies.list(vault)),
        items=tuple(await api.protection.list(vault)),
    )


def title_of(fabric: SeenFabric) -> str:
    """Return a server's friendly name; its FQDN where it registered without one."""
    return fabric.provider.friendly_name or fabric.provider.vmm_fqdn


def clouds(fabric: SeenFabric) -> tuple[CloudView, ...]:
    """Return the clouds of a fabric; none before its first inventory."""
    return fabric.inventory.view.clouds if fabric.inventory else ()


def machines(fabric: SeenFabric) -> tuple[MachineView, ...]:
    """Return the machines of a fabric."""
    return fabric.inventory.view.machines if fabric.inventory else ()


def networks(fabric: SeenFabric) -> tuple[NetworkView, ...]:
    """Return the VM networks of a fabric."""
    return fabric.inventory.view.networks if fabric.inventory else ()
