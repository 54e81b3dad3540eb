"""What is read for mappings: records, pairs, and what each server has."""

from collections.abc import Sequence
from typing import TypeVar

from service_hub.domain.errors import NotFoundError
from service_hub.domain.item_mappings import MappingFacts
from service_hub.domain.mapping_records import NetworkMapping, StorageMapping
from service_hub.domain.network_mapping import NetworkFacts
from service_hub.domain.records import ContainerMapping, MachineObservation, ProtectedItem, Vault
from service_hub.ports.changes import Versioned
from service_hub.ports.stores import Reader
from service_hub.ports.use_cases import FabricFacts, FabricUseCases, ServerFacts
from wire_contract.vmm_interface import ClassificationView, MachineView, NetworkView
from wire_contract.vocabulary import Side

M = TypeVar("M", NetworkMapping, StorageMapping)


def networks_of(facts: ServerFacts) -> tuple[NetworkView, ...]:
    """Return the VM networks of a server."""
    return () if facts.inventory is None else facts.inventory.view.networks


def classifications_of(facts: ServerFacts) -> tuple[ClassificationView, ...]:
    """Return the storage classifications of a server."""
    return () if facts.inventory is None else facts.inventory.view.classifications


def network_in(facts: ServerFacts, network_id: str) -> NetworkView | None:
    """Return a network of a server; ids are compared without case."""
    found = (each for each in networks_of(facts) if each.network_id.lower() == network_id.lower())
    return next(found, None)


def classification_in(facts: ServerFacts, classification_id: str) -> ClassificationView | None:
    """Return a classification of a server; ids are compared without case."""
    wanted = classification_id.lower()
    known = classifications_of(facts)
    return next((each for each in known if each.classification_id.lower() == wanted), None)


def found_network(facts: ServerFacts, network_id: str) -> NetworkView:
    """Return a network of a server; NotFoundError."""
    found = network_in(facts, network_id)
    if found is None:
        raise NotFoundError(network_id)
    return found


def found_classification(facts: ServerFacts, classification_id: str) -> ClassificationView:
    """Return a classification of a server; NotFoundError."""
    found = classification_in(facts, classification_id)
    if found is None:
        raise NotFoundError(classification_id)
    return found


async def server_of(fabrics: FabricUseCases, vault: Vault, provider_id: str) -> FabricFacts:
    """Return the server of a provider; NotFoundError once it is purged."""
    for fabric in await fabrics.list(vault):
        if fabric.provider.id == provider_id:
            return fabric
    raise NotFoundError(provider_id)


def is_named(
    mapping: NetworkMapping | StorageMapping, fabric: FabricFacts, part_id: str, name: str
) -> bool:
    """Tell whether a mapping is the one of that name of a server's part; case counts nowhere."""
    return (
        mapping.primary_provider_id == fabric.provider.id
        and mapping.primary_part_id.lower() == part_id.lower()
        and mapping.name.lower() == name.lower()
    )


async def named_between(
    fabrics: FabricUseCases,
    vault: Vault,
    mappings: Sequence[M],
    primary: tuple[str, str],
    name: str,
) -> tuple[M, FabricFacts, FabricFacts]:
    """Return the mapping of that name of (server, part), with both servers; NotFoundError."""
    fabric = await fabrics.find(vault, primary[0])
    for mapping in mappings:
        if is_named(mapping, fabric, primary[1], name):
            return mapping, fabric, await server_of(fabrics, vault, mapping.recovery_provider_id)
    raise NotFoundError(name)


class MappingReader:
    """Reads what mappings are decided on; changes nothing."""

    def __init__(self, *, reader: Reader) -> None:
        self._reader = reader

    async def networks(self, vault: Vault) -> list[NetworkMapping]:
        """Return the network mappings of a vault."""
        return [e.record for e in await self._reader.find(NetworkMapping, vault_id=vault.id)]

    async def storage(self, vault: Vault) -> list[StorageMapping]:
        """Return the storage mappings of a vault."""
        return [e.record for e in await self._reader.find(StorageMapping, vault_id=vault.id)]

    async def pairs(
        self, vault_id: str, primary_provider_id: str, recovery_provider_id: str
    ) -> list[ContainerMapping]:
        """Return the pairs of clouds from one server to the other that work."""
        return [
            each.record
            for each in await self._reader.find(ContainerMapping, vault_id=vault_id)
            if each.record.mapping_state == "Paired"
            and each.record.primary_provider_id == primary_provider_id
            and each.record.recovery_provider_id == recovery_provider_id
        ]

    async def of_item(
        self,
        item: ProtectedItem,
        primary: ServerFacts,
        recovery: ServerFacts,
        machine: MachineView | None,
    ) -> MappingFacts:
        """Return what a job on an item is decided on; `machine` is what enabling protects."""
        networks = NetworkFacts(
            mappings=_of_pair(
                await self._reader.find(
                    NetworkMapping, primary_provider_id=item.primary_provider_id
                ),
                item,
            ),
            primary=networks_of(primary),
            recovery=networks_of(recovery),
            primary_machine=machine or await self.machine(item, Side.PRIMARY),
            recovery_machine=await self.machine(item, Side.RECOVERY),
        )
        if machine is None:
            return MappingFacts(networks)
        storage = await self._reader.find(
            StorageMapping, primary_provider_id=item.primary_provider_id
        )
        return MappingFacts(networks, _of_pair(storage, item))

    async def machine(self, item: ProtectedItem, side: Side) -> MachineView | None:
        """Return one copy of an item as it was last observed."""
        record_id = f"{item.provider_at(side)}/{item.machine_at(side)}"
        found = await self._reader.get(MachineObservation, record_id)
        return None if found is None else found.record.machine


def _of_pair(found: Sequence[Versioned[M]], item: ProtectedItem) -> tuple[M, ...]:
    """Return those mappings whose target is at the item's recovery server."""
    return tuple(
        each.record
        for each in found
        if each.record.recovery_provider_id == item.recovery_provider_id
        and each.record.vault_id == item.vault_id
    )
