"""Storage mappings: mapped, changed and removed by jobs; they count when protection is enabled."""

from service_hub.domain.jobs import Job
from service_hub.domain.mapping_jobs import MAP_STORAGE, UNMAP_STORAGE, Ends, storage_job
from service_hub.domain.mapping_records import StorageMapping, mapping_id
from service_hub.domain.planning import JobIdentity
from service_hub.domain.records import Vault
from service_hub.ports.running import JobRunner
from service_hub.ports.stores import Reader
from service_hub.ports.surroundings import Clock
from service_hub.ports.use_cases import FabricFacts, FabricUseCases, RequestIdentity
from service_hub.services.mapping_facts import (
    MappingReader,
    classification_in,
    found_classification,
    named_between,
)
from service_hub.services.policies import activity
from service_hub.services.requests import RequestLedger


class StorageMappingService:
    """The StorageMappingUseCases of the mapping ports."""

    def __init__(
        self,
        *,
        reader: Reader,
        runner: JobRunner,
        clock: Clock,
        fabrics: FabricUseCases,
        requests: RequestLedger,
    ) -> None:
        self._runner = runner
        self._clock = clock
        self._fabrics = fabrics
        self._requests = requests
        self._mapped = MappingReader(reader=reader)

    async def list(self, vault: Vault) -> list[StorageMapping]:
        """Return all of a vault."""
        return await self._mapped.storage(vault)

    async def map(
        self,
        vault: Vault,
        *,
        name: str,
        primary: tuple[str, str],
        recovery: tuple[str, str],
        identity: RequestIdentity,
    ) -> Job:
        """Map a classification, or change its map, by a job; who may not, its first task says."""

        async def decide() -> Job:
            fabric = await self._fabrics.find(vault, primary[0])
            target = await self._fabrics.find(vault, recovery[0])
            source_id = found_classification(fabric, primary[1]).classification_id
            target_id = found_classification(target, recovery[1]).classification_id
            mapping = StorageMapping(
                id=mapping_id(vault.id, fabric.provider.id, source_id, target.provider.id),
                vault_id=vault.id,
                name=name,
                primary_provider_id=fabric.provider.id,
                primary_classification_id=source_id,
                recovery_provider_id=target.provider.id,
                recovery_classification_id=target_id,
            )
            return await self._begin(MAP_STORAGE, mapping, fabric, target, identity)

        return await self._requests.once(identity, decide)

    async def unmap(
        self, vault: Vault, *, name: str, primary: tuple[str, str], identity: RequestIdentity
    ) -> Job:
        """Remove a map by a job."""

        async def decide() -> Job:
            mapping, fabric, target = await named_between(
                self._fabrics, vault, await self.list(vault), primary, name
            )
            return await self._begin(UNMAP_STORAGE, mapping, fabric, target, identity)

        return await self._requests.once(identity, decide)

    async def _begin(
        self,
        key: str,
        mapping: StorageMapping,
        primary: FabricFacts,
        recovery: FabricFacts,
        identity: RequestIdentity,
    ) -> Job:
        source = classification_in(primary, mapping.primary_classification_id)
        target = classification_in(recovery, mapping.recovery_classification_id)
        ends = Ends(
            primary.provider,
            recovery.provider,
            (mapping.primary_classification_id, "" if source is None else source.friendly_name),
            (mapping.recovery_classification_id, "" if target is None else target.friendly_name),
        )
        planned = JobIdentity(self._clock.new_id(), activity(identity), self._clock.now())
        job = storage_job(key, mapping, ends, planned)
        await self._runner.start(job, self._requests.remember(identity, job))
        return job
