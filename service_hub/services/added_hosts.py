"""Prepares pairs of clouds anew when a host was added to one of them (behaviour.md, section 6)."""

import structlog

from service_hub.domain.errors import NotFoundError, StaleVersionError
from service_hub.domain.pairs import CONFIGURE, added_hosts, held_by, plan_pair_job
from service_hub.domain.planning import JobIdentity
from service_hub.domain.records import ContainerMapping, Provider
from service_hub.ports.changes import Change, Save, Versioned
from service_hub.ports.running import JobRunner
from service_hub.ports.stores import Reader
from service_hub.ports.surroundings import Clock
from service_hub.services.pair_facts import PairReader

log = structlog.get_logger(__name__)


class AddedHosts:
    """Told of every inventory; begins what prepares hosts that a pair was not prepared for.

    A pair that is busy, or whose sites are not both connected, is looked at again with the next
    inventory of either: a provider that comes back begins with one. For which hosts a job was begun
    is noted with it, so that one that failed is restarted by people, not begun for ever.
    """

    def __init__(
        self, *, reader: Reader, runner: JobRunner, clock: Clock, pairs: PairReader
    ) -> None:
        self._reader = reader
        self._runner = runner
        self._clock = clock
        self._pairs = pairs

    async def fabric_observed(self, provider: Provider) -> None:
        """Look at every pair of a server whose inventory has come."""
        for present in await self._reader.find(ContainerMapping, vault_id=provider.vault_id):
            mapping = present.record
            if provider.id in {mapping.primary_provider_id, mapping.recovery_provider_id}:
                try:
                    await self._consider(present)
                except (StaleVersionError, NotFoundError) as error:
                    # Something else has changed it, or its policy or a server is gone.
                    log.info("added_hosts_not_now", mapping_id=mapping.id, cause=str(error))

    async def _consider(self, present: Versioned[ContainerMapping]) -> None:
        mapping = present.record
        facts = await self._pairs.facts(mapping)
        added = added_hosts(facts)
        if not added:
            return
        holder = await self._pairs.holder(mapping)
        ends = await self._pairs.ends(mapping)
        if (holder is not None and not holder.finished) or not all(
            each.connected for each in ends.values()
        ):
            return
        correlation = self._clock.new_id()
        activity = f"{correlation} ActivityId: {correlation}"
        identity = JobIdentity(self._clock.new_id(), activity, self._clock.now())
        job = plan_pair_job(CONFIGURE, facts, identity)
        noted = held_by(mapping, job).model_copy(update={"configured_hosts": facts.hosts})
        await self._runner.start(job, Change(saves=(Save(noted, present.version),)))
        log.info("added_hosts_prepared", mapping_id=mapping.id, job_id=job.id, hosts=added)
