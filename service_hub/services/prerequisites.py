"""Gathers the facts for the hub's own checks; the checks themselves are domain.checks."""

import asyncio
from datetime import datetime
from typing import Final

import structlog

from service_hub.domain.checks import (
    SideFacts,
    check_item_job,
    check_pairing_job,
    job_error,
)
from service_hub.domain.errors import TOO_FEW_POINTS
from service_hub.domain.jobs import Job, JobError
from service_hub.domain.policies import points_of_machine
from service_hub.domain.protection import Operation
from service_hub.domain.records import (
    FabricInventory,
    MachineObservation,
    ProtectedItem,
    ReplicationPolicy,
)
from service_hub.domain.self_fence import SELF_FENCE_TASK, has_stopped, waits_until
from service_hub.ports.stores import Reader
from service_hub.ports.surroundings import Clock
from service_hub.services.fabrics import FabricService
from wire_contract.vocabulary import Side

LOOK_SECONDS: Final = 1.0
"""How often it is looked whether a source has stopped."""

log = structlog.get_logger(__name__)


class PrerequisitesService:
    """The Checker of the hub's ports."""

    def __init__(self, *, reader: Reader, clock: Clock, fabrics: FabricService) -> None:
        self._reader = reader
        self._clock = clock
        self._fabrics = fabrics

    async def check(self, job: Job, task_id: str) -> JobError | None:
        """Return why the job must stop at one of the hub's own tasks, or None."""
        if task_id == SELF_FENCE_TASK:
            await self._source_stopped(job)
            return None
        # Every other check of a scenario looks at the same facts, at its own moment.
        is_plan = job.operation is None and bool(job.own_specs)
        if not job.providers or is_plan:
            # A plan's items are checked by their own jobs, its scripts by who runs them.
            return None
        sides = {side: await self._facts(job, side) for side in Side}
        now = self._clock.now()
        if job.operation is None:
            return check_pairing_job(job, sides, now)
        error = check_item_job(job, sides, now)
        if error is None and job.operation is Operation.ENABLE:
            error = await self._refusal_of_points(job, now)
        return error

    async def _refusal_of_points(self, job: Job, now: datetime) -> JobError | None:
        """Return why a machine's own recovery points do not fit, as its server last told them."""
        policy = await self._reader.get(ReplicationPolicy, job.affected["protectionProfileId"])
        seen = await self._reader.get(FabricInventory, job.providers[Side.PRIMARY])
        if policy is None or seen is None:
            return None
        detail = points_of_machine(policy.record, seen.record.view, job.affected["primaryVmId"])
        if detail is None:
            return None
        return job_error(TOO_FEW_POINTS, now, name=job.target_object_name, detail=detail)

    async def _source_stopped(self, job: Job) -> None:
        """Return once the source of an unplanned failover has stopped, told or by itself.

        Begun again after a kill it waits until the same moment: that follows from what is stored.
        """
        until = waits_until(job)
        source = job.direction.place(Side.PRIMARY)
        while until is not None and (left := (until - self._clock.now()).total_seconds()) > 0:
            seen = await self._observation(job, source)
            if seen is not None and has_stopped(job, seen.machine, seen.observed_at):
                log.info("source_seen_off", job_id=job.id)
                return
            await asyncio.sleep(min(left, LOOK_SECONDS))

    async def _facts(self, job: Job, side: Side) -> SideFacts:
        facts = await self._fabrics.presence(job.providers[side])
        heard = facts.last_contact_at
        observation = await self._observation(job, side)
        replication = None if observation is None else observation.machine.replication
        return SideFacts(
            name=facts.provider.friendly_name or facts.provider.vmm_fqdn,
            connected=facts.connected,
            last_contact="never" if heard is None else f"at {heard:%Y-%m-%dT%H:%M:%SZ}",
            replication_state=None if replication is None else replication.state,
            machine=None if observation is None else observation.machine,
            seen_at=None if observation is None else observation.observed_at,
        )

    async def _observation(self, job: Job, side: Side) -> MachineObservation | None:
        if job.item_id is None:
            return None
        item = await self._reader.get(ProtectedItem, job.item_id)
        if item is None:
            return None
        provider_id, machine_id = item.record.provider_at(side), item.record.machine_at(side)
        found = await self._reader.get(MachineObservation, f"{provider_id}/{machine_id}")
        return None if found is None else found.record
