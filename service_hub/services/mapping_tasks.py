"""The hub's own tasks of jobs on mappings: look again whether it may be, then store it."""

from collections.abc import Mapping
from typing import Any, Final

import structlog

from service_hub.domain import errors, network_mapping, storage_mapping
from service_hub.domain.checks import job_error
from service_hub.domain.errors import NotFoundError, StaleVersionError
from service_hub.domain.jobs import Job, JobError
from service_hub.domain.mapping_jobs import MAP_NETWORK, MAP_STORAGE, MAPPING_JOBS, UNMAP_NETWORK
from service_hub.domain.mapping_records import NetworkMapping, StorageMapping
from service_hub.domain.records import Record
from service_hub.ports.changes import NEW, Change, Delete, Save
from service_hub.ports.running import Checker
from service_hub.ports.stores import Committer, Reader
from service_hub.ports.surroundings import Clock
from service_hub.services.fabrics import FabricService
from service_hub.services.mapping_facts import MappingReader, classification_in, network_in

STORING_TASKS: Final = frozenset(
    {
        "ModifyVMNetworksPairingStatusTask",
        "ModifyVMNetworksUnPairingStatusTask",
        "ClassificationPairingTask",
        "ClassificationUnpairingTask",
    }
)
"""Tasks that make true what the job is for; the others only look."""

_TAKEN: Final[Mapping[type[Record], str]] = {
    NetworkMapping: errors.NETWORK_MAPPED,
    StorageMapping: errors.CLASSIFICATION_MAPPED,
}

TRIES_MAX: Final = 20
"""How often a mapping is stored anew because another was stored meanwhile."""

log = structlog.get_logger(__name__)


class MappingTasks:
    """Carries out the hub's own tasks of mapping jobs; a Checker beside that of other jobs."""

    def __init__(
        self,
        *,
        reader: Reader,
        committer: Committer,
        clock: Clock,
        fabrics: FabricService,
        otherwise: Checker,
    ) -> None:
        self._reader = reader
        self._committer = committer
        self._clock = clock
        self._fabrics = fabrics
        self._mapped = MappingReader(reader=reader)
        self._otherwise = otherwise

    async def check(self, job: Job, task_id: str) -> JobError | None:
        """Return why a job must stop at one of the hub's own tasks, or None when it is done."""
        if job.scenario_key not in MAPPING_JOBS:
            return await self._otherwise.check(job, task_id)
        is_network = job.scenario_key in {MAP_NETWORK, UNMAP_NETWORK}
        kind: type[NetworkMapping | StorageMapping]
        kind = NetworkMapping if is_network else StorageMapping
        wanted = kind.model_validate(job.context["mapping"])
        if job.scenario_key in {MAP_NETWORK, MAP_STORAGE}:
            return await self._map(wanted, stores=task_id in STORING_TASKS)
        if task_id in STORING_TASKS:
            await self._committer.commit(Change(deletes=(Delete(kind, wanted.id),)))
            log.info("mapping_removed", mapping=wanted.name, kind=kind.kind)
        return None

    async def _map(
        self, wanted: NetworkMapping | StorageMapping, *, stores: bool
    ) -> JobError | None:
        try:
            error = await self._refusal(wanted)
        except NotFoundError:
            error = self._gone(wanted)
        if error is not None or not stores:
            return error
        for _ in range(TRIES_MAX):
            present = await self._reader.get(type(wanted), wanted.id)
            if present is not None and present.record.name.lower() != wanted.name.lower():
                detail = f"the mapping '{present.record.name}' is there already"
                code = _TAKEN[type(wanted)]
                return job_error(code, self._clock.now(), name=wanted.name, detail=detail)
            version = NEW if present is None else present.version
            try:
                await self._committer.commit(Change(saves=(Save(wanted, version),)))
            except StaleVersionError:
                # Somebody else mapped it in this moment: who was first is found now.
                continue
            log.info("mapping_made", mapping=wanted.name, kind=wanted.kind)
            return None
        raise StaleVersionError(f"the mapping {wanted.name} found no quiet moment")

    async def _refusal(self, wanted: NetworkMapping | StorageMapping) -> JobError | None:
        primary = await self._fabrics.facts_by_id(wanted.primary_provider_id)
        recovery = await self._fabrics.facts_by_id(wanted.recovery_provider_id)
        pairs = await self._mapped.pairs(
            wanted.vault_id, wanted.primary_provider_id, wanted.recovery_provider_id
        )
        now = self._clock.now()
        if isinstance(wanted, NetworkMapping):
            return network_mapping.refusal_of_mapping(
                network_in(primary, wanted.primary_network_id),
                network_in(recovery, wanted.recovery_network_id),
                pairs,
                now,
            )
        return storage_mapping.refusal_of_mapping(
            classification_in(primary, wanted.primary_classification_id),
            classification_in(recovery, wanted.recovery_classification_id),
            pairs,
            now,
        )

    def _gone(self, wanted: Any) -> JobError:
        return job_error(
            errors.NOT_CONNECTED,
            self._clock.now(),
            name=wanted.name,
            detail="one of its servers was deleted meanwhile",
        )
