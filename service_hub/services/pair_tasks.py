"""Carries out the hub's own tasks of jobs on pairs and policies; a Checker beside the others."""

from service_hub.domain.checks import job_error
from service_hub.domain.cloud_readiness import CloudEnd, refusal_of_unready
from service_hub.domain.errors import NOT_READY
from service_hub.domain.jobs import Job, JobError
from service_hub.domain.pairs import (
    DELETE_POLICY,
    PREPARING,
    UNPAIR,
    refusal_of_policy_removal,
    refusal_while_used,
)
from service_hub.domain.records import (
    ContainerMapping,
    FabricInventory,
    ProtectedItem,
    ReplicationPolicy,
)
from service_hub.domain.scenarios import MAPPING_REMOVAL_TASK, POLICY_REMOVAL_TASK
from service_hub.ports.changes import Change, Delete
from service_hub.ports.running import Checker
from service_hub.ports.stores import Committer, Reader
from service_hub.ports.surroundings import Clock
from service_hub.services.pair_facts import cloud_in
from wire_contract.vocabulary import Side


class PairTasks:
    """The Checker of jobs on pairs of clouds and on policies."""

    def __init__(
        self, *, reader: Reader, committer: Committer, clock: Clock, otherwise: Checker
    ) -> None:
        self._reader = reader
        self._committer = committer
        self._clock = clock
        self._otherwise = otherwise

    async def check(self, job: Job, task_id: str) -> JobError | None:
        """Return why a job must stop at one of the hub's own tasks, or None when it is done."""
        if job.scenario_key == DELETE_POLICY:
            return await self._delete_policy(job, task_id)
        if job.scenario_key == UNPAIR and task_id == MAPPING_REMOVAL_TASK:
            return await self._delete_mapping(job)
        error = await self._otherwise.check(job, task_id)
        if error is not None:
            return error
        if job.scenario_key == UNPAIR:
            return await self._use_of_mapping(job)
        if job.scenario_key in PREPARING and job.providers:
            return await self._readiness(job)
        return None

    # -------------------------------------------------------------------------------- one task each

    async def _readiness(self, job: Job) -> JobError | None:
        ends = {}
        for side in Side:
            by_side = job.context["clouds"]
            assert isinstance(by_side, dict), "a job on a pair names its clouds"
            cloud_id = str(by_side[side.value])
            found = await self._reader.get(FabricInventory, job.providers[side])
            cloud = None if found is None else cloud_in(found.record.view, cloud_id)
            if found is None or cloud is None:
                name, now = (
                    job.affected.get(f"{side.lower()}CloudName", cloud_id),
                    self._clock.now(),
                )
                detail = f"its server does not tell of a cloud {cloud_id} any more"
                return job_error(NOT_READY, now, name=name, detail=detail)
            ends[side] = CloudEnd(cloud, found.record.view)
        return refusal_of_unready(ends, self._clock.now())

    async def _use_of_mapping(self, job: Job) -> JobError | None:
        mapping = await self._mapping(job)
        if mapping is None:
            return None
        items = [
            each.record for each in await self._reader.find(ProtectedItem, vault_id=job.vault_id)
        ]
        return refusal_while_used(mapping, items, self._clock.now())

    async def _delete_mapping(self, job: Job) -> JobError | None:
        # Asked again: a machine may have been enabled while the clouds were being separated.
        error = await self._use_of_mapping(job)
        if error is None:
            gone = Delete(ContainerMapping, str(job.context["mapping_id"]))
            await self._committer.commit(Change(deletes=(gone,)))
        return error

    async def _mapping(self, job: Job) -> ContainerMapping | None:
        found = await self._reader.get(ContainerMapping, str(job.context["mapping_id"]))
        return None if found is None else found.record

    async def _delete_policy(self, job: Job, task_id: str) -> JobError | None:
        found = await self._reader.get(ReplicationPolicy, job.target_object_id)
        if found is None:
            return None
        mappings = [
            each.record for each in await self._reader.find(ContainerMapping, vault_id=job.vault_id)
        ]
        error = refusal_of_policy_removal(found.record, mappings, self._clock.now())
        if error is None and task_id == POLICY_REMOVAL_TASK:
            gone = Delete(ReplicationPolicy, found.record.id)
            await self._committer.commit(Change(deletes=(gone,)))
        return error
