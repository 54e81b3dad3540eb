"""Network and storage mappings: one surface for both, since they are asked for alike."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from service_hub.arm.api import ArmApi
from service_hub.arm.bodies import read
from service_hub.arm.calls import Answer, Call
from service_hub.arm.ids import CLASSIFICATIONS, FABRICS, NETWORKS, names_in_id
from service_hub.arm.long_running import accepted, operation_result
from service_hub.arm.mapping_bodies import NetworkMappingInput, StorageMappingInput
from service_hub.arm.paging import page
from service_hub.arm.render_mappings import (
    network_mapping_body,
    network_mapping_id,
    storage_mapping_body,
    storage_mapping_id,
)
from service_hub.domain.errors import InvalidRequestError, NotFoundError
from service_hub.domain.mapping_records import NetworkMapping, StorageMapping
from service_hub.domain.records import Vault
from service_hub.ports.use_cases import FabricFacts

M = TypeVar("M", NetworkMapping, StorageMapping)

SITE_TO_SITE: str = "VmmToVmm"
_NETWORK = "properties.recoveryNetworkId"
_CLASSIFICATION = "properties.targetStorageClassificationId"


@dataclass(frozen=True, slots=True)
class _Shown:
    """A mapping as it is answered, and where it lies."""

    fabric_name: str
    part_id: str
    body: dict[str, Any]


class _Reading(ABC):
    """Lists, single reads and results of one kind of mapping; `part` names it in paths."""

    def __init__(self, api: ArmApi, part: str) -> None:
        self._api = api
        self._part = part

    @abstractmethod
    async def _all(self, vault: Vault) -> Sequence[_Shown]:
        """Return all of a vault."""

    async def list(self, call: Call) -> Answer:
        """Answer with all of a vault."""
        vault = await self._api.vault(call)
        return page(call, await self._bodies(vault), self._api.public_url)

    async def list_by_part(self, call: Call) -> Answer:
        """Answer with those of one network or classification."""
        vault = await self._api.vault(call)
        bodies = await self._bodies(vault, call)
        return page(call, bodies, self._api.public_url)

    async def get(self, call: Call) -> Answer:
        """Answer with one."""
        vault = await self._api.vault(call)
        for body in await self._bodies(vault, call):
            if body["name"].lower() == call.folded("mapping"):
                return Answer(body=body)
        raise NotFoundError(call.name("mapping"))

    async def result(self, call: Call) -> Answer:
        """Answer with the mapping that an operation made."""
        return await operation_result(self._api, call, self.get)

    async def _bodies(self, vault: Vault, call: Call | None = None) -> Sequence[dict[str, Any]]:
        return [
            each.body
            for each in await self._all(vault)
            if call is None
            or (each.fabric_name.lower(), each.part_id.lower())
            == (call.folded("fabric"), call.folded(self._part))
        ]

    async def _ends(
        self, vault: Vault, mappings: Sequence[M]
    ) -> Sequence[tuple[M, FabricFacts, FabricFacts]]:
        """Return mappings with their servers; one whose server was just purged is gone too."""
        fabrics = {each.provider.id: each for each in await self._api.fabrics.list(vault)}
        return [
            (each, fabrics[each.primary_provider_id], fabrics[each.recovery_provider_id])
            for each in mappings
            if {each.primary_provider_id, each.recovery_provider_id} <= fabrics.keys()
        ]


class NetworkMappingHandlers(_Reading):
    """What operators do with network mappings."""

    def __init__(self, api: ArmApi) -> None:
        super().__init__(api, "network")

    async def _all(self, vault: Vault) -> Sequence[_Shown]:
        return [
            _Shown(
                primary.provider.fabric_name,
                mapping.primary_network_id,
                network_mapping_body(vault, mapping, primary, recovery),
            )
            for mapping, primary, recovery in await self._ends(
                vault, await self._api.networks.list(vault)
            )
        ]

    async def create(self, call: Call) -> Answer:
        """Begin to map the network of the path to the one of the body."""
        return await self._map(call, must_exist=False)

    async def update(self, call: Call) -> Answer:
        """Begin to map a mapped network to another one."""
        return await self._map(call, must_exist=True)

    async def delete(self, call: Call) -> Answer:
        """Begin to remove a mapping."""
        vault = await self._api.vault(call)
        name, primary = call.name("mapping"), (call.folded("fabric"), call.folded("network"))
        job = await self._api.networks.unmap(
            vault, name=name, primary=primary, identity=call.identity
        )
        return accepted(self._api, vault, job, network_mapping_id(vault, *primary, name))

    async def _map(self, call: Call, *, must_exist: bool) -> Answer:
        vault = await self._api.vault(call)
        wanted = read(call.body, NetworkMappingInput).properties
        details = wanted.fabric_specific_details
        named = details.instance_type if details is not None else None
        if named and named.lower() != SITE_TO_SITE.lower():
            raise InvalidRequestError(
                f"'{named}' isn't a mapping between two VMM servers. Leave instanceType out, or"
                f" use {SITE_TO_SITE}.",
                "properties.fabricSpecificDetails.instanceType",
            )
        recovery = None
        if wanted.recovery_network_id is not None:
            fabric, network = names_in_id(
                wanted.recovery_network_id, vault, (FABRICS, NETWORKS), _NETWORK
            )
            recovery = (fabric.lower(), network.lower())
            if (wanted.recovery_fabric_name or fabric).lower() != recovery[0]:
                raise InvalidRequestError(
                    "recoveryFabricName isn't the server of recoveryNetworkId.",
                    "properties.recoveryFabricName",
                )
        elif not must_exist:
            raise InvalidRequestError(
                "A network mapping needs the id of the network to map to.", _NETWORK
            )
        name, primary = call.name("mapping"), (call.folded("fabric"), call.folded("network"))
        job = await self._api.networks.map(
            vault,
            name=name,
            primary=primary,
            recovery=recovery,
            identity=call.identity,
            must_exist=must_exist,
        )
        return accepted(self._api, vault, job, network_mapping_id(vault, *primary, name))


class StorageMappingHandlers(_Reading):
    """What operators do with storage mappings."""

    def __init__(self, api: ArmApi) -> None:
        super().__init__(api, "classification")

    async def _all(self, vault: Vault) -> Sequence[_Shown]:
        return [
            _Shown(
                primary.provider.fabric_name,
                mapping.primary_classification_id,
                storage_mapping_body(vault, mapping, primary, recovery),
            )
            for mapping, primary, recovery in await self._ends(
                vault, await self._api.storage.list(vault)
            )
        ]

    async def create(self, call: Call) -> Answer:
        """Begin to map the classification of the path to the one of the body."""
        vault = await self._api.vault(call)
        wanted = read(call.body, StorageMappingInput).properties
        fabric, part = names_in_id(
            wanted.target_storage_classification_id,
            vault,
            (FABRICS, CLASSIFICATIONS),
            _CLASSIFICATION,
        )
        name, primary = call.name("mapping"), (call.folded("fabric"), call.folded("classification"))
        job = await self._api.storage.map(
            vault,
            name=name,
            primary=primary,
            recovery=(fabric.lower(), part.lower()),
            identity=call.identity,
        )
        return accepted(self._api, vault, job, storage_mapping_id(vault, *primary, name))

    async def delete(self, call: Call) -> Answer:
        """Begin to remove a mapping."""
        vault = await self._api.vault(call)
        name, primary = call.name("mapping"), (call.folded("fabric"), call.folded("classification"))
        job = await self._api.storage.unmap(
            vault, name=name, primary=primary, identity=call.identity
        )
        return accepted(self._api, vault, job, storage_mapping_id(vault, *primary, name))
