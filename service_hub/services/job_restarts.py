"""What a restarted job holds again, looked at without changing anything."""

from service_hub.domain import errors
from service_hub.domain.checks import job_error, refusal_of_pairing
from service_hub.domain.job_requests import gone, held_again, paired_again, refused_by
from service_hub.domain.jobs import Job, RestartRequested
from service_hub.domain.pairs import PAIR
from service_hub.domain.plans import members_of
from service_hub.domain.records import (
    ContainerMapping,
    ProtectedItem,
    Provider,
    ReplicationPolicy,
)
from service_hub.domain.servers import title_of
from service_hub.ports.changes import Change, Save
from service_hub.ports.stores import Reader
from service_hub.ports.surroundings import Clock
from service_hub.services.plan_locks import held_again_by_plan
from service_hub.services.server_jobs import leaving_by


class Restarts:
    """Plans restarts: for those that are asked for, and for previews."""

    def __init__(self, *, reader: Reader, clock: Clock) -> None:
        self._reader = reader
        self._clock = clock

    async def plan(self, job: Job, principal: str) -> tuple[RestartRequested, Change]:
        """Return the event, and what holds again what the job is about.

        JobRequestRefusedError says why it cannot be held.
        """
        now = self._clock.now()
        event = RestartRequested(now, principal)
        if members_of(job):
            return event, await held_again_by_plan(self._reader, job, now)
        if job.item_id is not None:
            return await self._restart_on_item(job, job.item_id, principal)
        await self._look_at_servers(job)
        mapping_id = job.context.get("mapping_id")
        if isinstance(mapping_id, str):
            return event, await self._pair_again(job, mapping_id)
        return event, Change()

    async def _pair_again(self, job: Job, mapping_id: str) -> Change:
        found = await self._reader.find(ContainerMapping, vault_id=job.vault_id)
        mine = next((each for each in found if each.record.id == mapping_id), None)
        if mine is None:
            raise gone(job, "pairing")
        mapping = paired_again(mine.record, job)
        present, facts = [each.record for each in found], job.affected
        names = {
            facts[f"{end}CloudId"]: facts[f"{end}CloudName"]
            for end in ("primary", "recovery")
            if f"{end}CloudId" in facts
        }
        against = None
        if job.scenario_key == PAIR:
            policies = {
                each.record.id: each.record
                for each in await self._reader.find(ReplicationPolicy, vault_id=job.vault_id)
            }
            now = self._clock.now()
            against = refusal_of_pairing(mapping, present, names, now, policies)
        if against is not None:
            raise refused_by(against)
        return Change(saves=(Save(mapping, mine.version),))

    async def _look_at_servers(self, job: Job) -> None:
        """Refuse where a server of the job is gone, or is being deleted by another job."""
        for provider_id in job.providers.values():
            provider = await self._reader.get(Provider, provider_id)
            if provider is None:
                raise gone(job, "server")
            leaving = await leaving_by(self._reader, provider.record)
            if leaving is not None:
                name, now = title_of(provider.record), self._clock.now()
                detail = f"{leaving.scenario.name} since {leaving.created_at:%Y-%m-%dT%H:%M:%SZ}"
                raise refused_by(job_error(errors.BUSY, now, name=name, detail=detail))

    async def _restart_on_item(
        self, job: Job, item_id: str, principal: str
    ) -> tuple[RestartRequested, Change]:
        item = await self._reader.get(ProtectedItem, item_id)
        if item is None:
            raise gone(job, "protected item")
        held, event = held_again(item.record, job, principal, self._clock.now())
        return event, Change(saves=(Save(held, item.version),))
