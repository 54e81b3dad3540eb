"""The mapping use cases over a hub in memory: a map is there once its job was begun."""

from dataclasses import dataclass

from service_hub.domain.errors import NotFoundError
from service_hub.domain.jobs import Job
from service_hub.domain.mapping_jobs import (
    MAP_NETWORK,
    MAP_STORAGE,
    UNMAP_NETWORK,
    UNMAP_STORAGE,
    Ends,
    network_job,
    storage_job,
)
from service_hub.domain.mapping_records import NetworkMapping, StorageMapping
from service_hub.domain.network_mapping import NetworkOffer
from service_hub.domain.records import Vault
from service_hub.ports.use_cases import RequestIdentity
from tests.unit.arm.arm_hub import MemoryHub
from wire_contract.vocabulary import Side


@dataclass
class MemoryNetworks:
    """NetworkMappingUseCases."""

    hub: MemoryHub

    async def list(self, vault: Vault) -> list[NetworkMapping]:
        """Return all."""
        del vault
        return [*self.hub.network_mappings.values()]

    async def map(
        self,
        vault: Vault,
        *,
        name: str,
        primary: tuple[str, str],
        recovery: tuple[str, str] | None,
        identity: RequestIdentity,
        must_exist: bool = False,
    ) -> Job:
        """Map a network."""
        present = self.hub.network_mappings.get(name.lower())
        if must_exist and present is None:
            raise NotFoundError(name)
        target = present.recovery_network_id if present and recovery is None else ""
        mapping = NetworkMapping(
            id=name,
            vault_id=vault.id,
            name=name,
            primary_provider_id="provider-primary",
            primary_network_id=primary[1],
            recovery_provider_id="provider-recovery",
            recovery_network_id=recovery[1] if recovery else target,
        )
        self.hub.network_mappings[name.lower()] = mapping
        return self._run(MAP_NETWORK, mapping, identity)

    async def unmap(
        self, vault: Vault, *, name: str, primary: tuple[str, str], identity: RequestIdentity
    ) -> Job:
        """Remove a map."""
        del vault, primary
        if name.lower() not in self.hub.network_mappings:
            raise NotFoundError(name)
        mapping = self.hub.network_mappings.pop(name.lower())
        return self._run(UNMAP_NETWORK, mapping, identity)

    async def offers(
        self, vault: Vault, *, primary: tuple[str, str], recovery_fabric: str
    ) -> tuple[NetworkOffer, ...]:
        """Return nothing: the ARM surface does not ask."""
        del vault, primary, recovery_fabric
        return ()

    def _run(self, key: str, mapping: NetworkMapping, identity: RequestIdentity) -> Job:
        job = network_job(key, mapping, ends(self.hub, mapping), {}, self.hub.identity(identity))
        return self.hub.start(job)


@dataclass
class MemoryStorage:
    """StorageMappingUseCases."""

    hub: MemoryHub

    async def list(self, vault: Vault) -> list[StorageMapping]:
        """Return all."""
        del vault
        return [*self.hub.storage_mappings.values()]

    async def map(
        self,
        vault: Vault,
        *,
        name: str,
        primary: tuple[str, str],
        recovery: tuple[str, str],
        identity: RequestIdentity,
    ) -> Job:
        """Map a classification."""
        mapping = StorageMapping(
            id=name,
            vault_id=vault.id,
            name=name,
            primary_provider_id="provider-primary",
            primary_classification_id=primary[1],
            recovery_provider_id="provider-recovery",
            recovery_classification_id=recovery[1],
        )
        self.hub.storage_mappings[name.lower()] = mapping
        return self._run(MAP_STORAGE, mapping, identity)

    async def unmap(
        self, vault: Vault, *, name: str, primary: tuple[str, str], identity: RequestIdentity
    ) -> Job:
        """Remove a map."""
        del vault, primary
        if name.lower() not in self.hub.storage_mappings:
            raise NotFoundError(name)
        return self._run(UNMAP_STORAGE, self.hub.storage_mappings.pop(name.lower()), identity)

    def _run(self, key: str, mapping: StorageMapping, identity: RequestIdentity) -> Job:
        return self.hub.start(
            storage_job(key, mapping, ends(self.hub, mapping), self.hub.identity(identity))
        )


def ends(hub: MemoryHub, mapping: NetworkMapping | StorageMapping) -> Ends:
    """Return the two servers of a mapping, and the names of what is mapped."""
    source, target = (
        (mapping.primary_network_id, mapping.recovery_network_id)
        if isinstance(mapping, NetworkMapping)
        else (mapping.primary_classification_id, mapping.recovery_classification_id)
    )
    return Ends(
        hub.fabric(Side.PRIMARY).provider,
        hub.fabric(Side.RECOVERY).provider,
        (source, "corp"),
        (target, "corp"),
    )
