"""Changes of a policy: stored at once, then brought to every pair and all that replicates in it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from pydantic import ValidationError

from service_hub.domain.checks import job_error
from service_hub.domain.errors import TOO_FEW_POINTS, InvalidRequestError, NotFoundError
from service_hub.domain.jobs import Job, JobError
from service_hub.domain.pairs import (
    held_by,
    plan_policy_change,
    plan_stored_change,
    refusal_when_held,
)
from service_hub.domain.planning import JobIdentity, refused
from service_hub.domain.policies import points_of_machine, policy_problem, self_fence_problem
from service_hub.domain.records import (
    ContainerMapping,
    FabricInventory,
    ProtectedItem,
    ReplicationPolicy,
    Vault,
)
from service_hub.ports.changes import Change, Save, Versioned
from service_hub.ports.running import JobRunner
from service_hub.ports.stores import Reader
from service_hub.ports.surroundings import Clock
from service_hub.ports.use_cases import RequestIdentity
from service_hub.services.pair_facts import PairReader
from service_hub.services.policies import activity
from service_hub.services.requests import RequestLedger
from wire_contract.vmm_interface import InventoryView


class PolicyChanges:
    """Changes policies; what is stored is what new relationships get from then on."""

    def __init__(
        self,
        *,
        reader: Reader,
        runner: JobRunner,
        clock: Clock,
        requests: RequestLedger,
        pairs: PairReader,
        heartbeat: timedelta,
    ) -> None:
        self._heartbeat = heartbeat
        self._reader = reader
        self._runner = runner
        self._clock = clock
        self._requests = requests
        self._pairs = pairs

    async def change(
        self, vault: Vault, name: str, settings: Mapping[str, Any], identity: RequestIdentity
    ) -> Job:
        """Give a policy these settings, those that are not named stay; NotFoundError.

        A job for each pair under it brings them there; returned is the first. InvalidRequestError
        names the property that is wrong; while another job works on a pair, or a machine has
        fewer points in VMM than are asked for, the job has failed and nothing is changed.
        """

        async def decide() -> Job:
            found = await self._reader.find(ReplicationPolicy, vault_id=vault.id, name=name)
            if not found:
                raise NotFoundError(name)
            changed = _changed(found[0].record, settings, self._heartbeat)
            return await self._store(found[0], changed, identity)

        return await self._requests.once(identity, decide)

    async def _store(
        self,
        present: Versioned[ReplicationPolicy],
        changed: ReplicationPolicy,
        identity: RequestIdentity,
    ) -> Job:
        before, now = present.record, self._clock.now()
        mappings = await self._reader.find(ContainerMapping, vault_id=before.vault_id)
        mine = [each for each in mappings if each.record.policy_id == before.id]
        jobs, held = [], []
        against: JobError | None = None
        for each in mine:
            holder = await self._pairs.holder(each.record)
            against = against or refusal_when_held(each.record, holder, now)
            against = against or await self._refusal_of_points(changed, each.record, now)
            if each.record.mapping_state != "Paired":
                # One that failed gets the policy as it is then, when it is paired anew.
                continue
            facts = await self._pairs.facts(each.record)
            facts = replace(facts, policy=changed)
            named = await self._named(each.record, [other.record for other in mappings])
            job = plan_policy_change(facts, before, named, self._identity(identity))
            jobs.append(job)
            noted = held_by(each.record, job).model_copy(update={"configured_hosts": facts.hosts})
            held.append(Save(noted, each.version))
        if not jobs:
            jobs = [plan_stored_change(changed, self._identity(identity))]
        remembered = self._requests.remember(identity, jobs[0])
        if against is not None:
            stopped = refused(jobs[0], against, now)
            await self._runner.record(stopped, remembered)
            return stopped
        change = Change(saves=(Save(changed, present.version), *held)) + remembered
        await self._runner.start_all(jobs, change)
        return jobs[0]

    async def _refusal_of_points(
        self, policy: ReplicationPolicy, mapping: ContainerMapping, now: datetime
    ) -> JobError | None:
        """Return which machine under a mapping has fewer points in VMM than are asked for."""
        views: dict[str, InventoryView] = {}
        for found in await self._reader.find(ProtectedItem, vault_id=mapping.vault_id):
            item = found.record
            if item.mapping_id != mapping.id:
                continue
            provider_id = item.provider_at(item.active_location)
            if provider_id not in views:
                seen = await self._reader.get(FabricInventory, provider_id)
                if seen is None:
                    continue
                views[provider_id] = seen.record.view
            source = item.machine_at(item.active_location)
            detail = points_of_machine(policy, views[provider_id], source)
            if detail is not None:
                return job_error(TOO_FEW_POINTS, now, name=item.friendly_name, detail=detail)
        return None

    async def _named(
        self, mapping: ContainerMapping, mappings: Sequence[ContainerMapping]
    ) -> list[str] | None:
        """Return the relationships under a mapping where its clouds have another one, too."""
        clouds = (mapping.primary_cloud_id, mapping.recovery_cloud_id)
        alone = all(
            each.id == mapping.id or (each.primary_cloud_id, each.recovery_cloud_id) != clouds
            for each in mappings
        )
        if alone:
            return None
        items = await self._reader.find(ProtectedItem, vault_id=mapping.vault_id)
        return sorted(
            each.record.relationship_id for each in items if each.record.mapping_id == mapping.id
        )

    def _identity(self, identity: RequestIdentity) -> JobIdentity:
        return JobIdentity(self._clock.new_id(), activity(identity), self._clock.now())


def _changed(
    present: ReplicationPolicy, settings: Mapping[str, Any], heartbeat: timedelta
) -> ReplicationPolicy:
    """Return the policy with these settings; InvalidRequestError names what is wrong."""
    if settings.get("provider_type", present.provider_type) != present.provider_type:
        raise InvalidRequestError(
            f"instanceType stays {present.provider_type}: make another policy for other hosts",
            "instanceType",
        )
    try:
        changed = ReplicationPolicy.model_validate({**present.model_dump(), **settings})
    except ValidationError as error:
        first = error.errors()[0]
        target = ".".join(str(part) for part in first["loc"])
        raise InvalidRequestError(f"{target}: {first['msg']}", target) from error
    problem = policy_problem(changed) or self_fence_problem(changed, heartbeat)
    if problem is not None:
        raise InvalidRequestError(problem.message, problem.target)
    return changed
