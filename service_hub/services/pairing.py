"""Cloud pairing: a container mapping under a policy, made, removed and purged."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

import structlog

from service_hub.domain.checks import refusal_of_pairing
from service_hub.domain.errors import (
    ConflictError,
    InvalidRequestError,
    NotFoundError,
    StaleVersionError,
)
from service_hub.domain.jobs import Job, JobError
from service_hub.domain.pairs import (
    PAIR,
    UNPAIR,
    PairFacts,
    flags_of_removal,
    held_by,
    plan_pair_job,
    refusal_when_held,
    refusal_while_used,
)
from service_hub.domain.planning import JobIdentity, refused, stopped_at_prerequisites
from service_hub.domain.records import (
    Alert,
    ContainerMapping,
    ProtectedItem,
    ReplicationPolicy,
    Vault,
)
from service_hub.domain.servers import plan_partner_job, title_of
from service_hub.ports.changes import Change, Delete, Save, Versioned
from service_hub.ports.running import JobRunner
from service_hub.ports.stores import Reader
from service_hub.ports.surroundings import Clock
from service_hub.ports.use_cases import FabricUseCases, PolicyUseCases, RequestIdentity, SeenFabric
from service_hub.services.pair_facts import PairReader, affected, cloud_of, clusters_at
from service_hub.services.policies import activity
from service_hub.services.requests import RequestLedger
from service_hub.services.server_jobs import leaving_by
from wire_contract.vocabulary import Side

TRIES_MAX: Final = 20
"""How often a purge is tried while something else changes the mapping."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _LeftBehind:
    """What tidies the clouds of a mapping that was purged, and what tells where nobody can."""

    jobs: list[Job] = field(default_factory=list)
    alerts: list[Save] = field(default_factory=list)


class PairingService:
    """The PairingUseCases of the hub's ports."""

    def __init__(
        self,
        *,
        reader: Reader,
        runner: JobRunner,
        clock: Clock,
        fabrics: FabricUseCases,
        policies: PolicyUseCases,
        requests: RequestLedger,
        pairs: PairReader,
    ) -> None:
        self._reader = reader
        self._runner = runner
        self._clock = clock
        self._fabrics = fabrics
        self._policies = policies
        self._requests = requests
        self._pairs = pairs

    async def pair(
        self,
        vault: Vault,
        *,
        name: str,
        primary: tuple[str, str],
        recovery: tuple[str, str],
        policy_name: str,
        identity: RequestIdentity,
    ) -> Job:
        """Pair two clouds, each given as (fabric name, cloud id); repeating it is accepted."""

        async def decide() -> Job:
            facts = await self._wanted(vault, name, primary, recovery, policy_name)
            return await self._pair(facts, identity)

        return await self._requests.once(identity, decide)

    async def remove(
        self, vault: Vault, cloud: tuple[str, str], name: str, identity: RequestIdentity
    ) -> Job:
        """Separate the clouds of a mapping on both sites, then forget it; NotFoundError."""

        async def decide() -> Job:
            present = await self._find(vault, cloud, name)
            return await self._remove(present, identity)

        return await self._requests.once(identity, decide)

    async def purge(self, vault: Vault, cloud: tuple[str, str], name: str) -> None:
        """Forget a mapping at once; connected sites tidy up by jobs, of the others alerts tell.

        NotFoundError; ConflictError while machines are protected under it or a job works on it.
        """
        for _ in range(TRIES_MAX):
            with suppress(StaleVersionError):
                await self._purge(vault, await self._find(vault, cloud, name))
                return
        raise StaleVersionError(f"the mapping {name} found no quiet moment in {TRIES_MAX} tries")

    async def _purge(self, vault: Vault, present: Versioned[ContainerMapping]) -> None:
        mapping, now = present.record, self._clock.now()
        against = refusal_when_held(mapping, await self._pairs.holder(mapping), now)
        against = against or refusal_while_used(mapping, await self._items(vault), now)
        if against is not None:
            raise ConflictError(_in_words(against))
        mappings = await self.list(vault)
        left = _LeftBehind()
        if not flags_of_removal(mapping, mappings):
            left = await self._left_behind(mapping)
        # Saved before it is deleted: that names the version, so that no job has begun on it since.
        saves = (Save(mapping, present.version), *left.alerts)
        gone = Delete(ContainerMapping, mapping.id)
        await self._runner.start_all(left.jobs, Change(saves=saves, deletes=(gone,)))
        log.info("mapping_purged", mapping_id=mapping.id, jobs=[each.id for each in left.jobs])

    async def list(self, vault: Vault) -> list[ContainerMapping]:
        """Return all of a vault."""
        found = await self._reader.find(ContainerMapping, vault_id=vault.id)
        return [each.record for each in found]

    # ---------------------------------------------------------------------------------- pairing

    async def _wanted(
        self,
        vault: Vault,
        name: str,
        primary: tuple[str, str],
        recovery: tuple[str, str],
        policy_name: str,
    ) -> PairFacts:
        policy = await self._policies.find(vault, policy_name)
        ends = {
            Side.PRIMARY: await self._fabrics.find(vault, primary[0]),
            Side.RECOVERY: await self._fabrics.find(vault, recovery[0]),
        }
        ids = {Side.PRIMARY: primary[1], Side.RECOVERY: recovery[1]}
        clouds = {side: cloud_of(ends[side], ids[side]) for side in Side}
        if clouds[Side.PRIMARY].cloud_id == clouds[Side.RECOVERY].cloud_id:
            raise InvalidRequestError(
                "a cloud cannot be paired with itself", "targetProtectionContainerId"
            )
        for facts in ends.values():
            if await leaving_by(self._reader, facts.provider) is not None:
                title = facts.provider.friendly_name
                raise ConflictError(f"the server {title} is being deleted: choose another cloud")
        mapping = ContainerMapping(
            id=f"{vault.id}/{clouds[Side.PRIMARY].cloud_id}/{name}".lower(),
            vault_id=vault.id,
            name=name,
            policy_id=policy.id,
            primary_provider_id=ends[Side.PRIMARY].provider.id,
            primary_cloud_id=clouds[Side.PRIMARY].cloud_id,
            recovery_provider_id=ends[Side.RECOVERY].provider.id,
            recovery_cloud_id=clouds[Side.RECOVERY].cloud_id,
            mapping_state="PairingInProgress",
        )
        shown = affected(policy, ends, clouds)
        return PairFacts(mapping, policy, clouds, shown, clusters_at(ends, clouds))

    async def _pair(self, facts: PairFacts, identity: RequestIdentity) -> Job:
        now = self._clock.now()
        job = plan_pair_job(PAIR, facts, self._identity(identity))
        vault_id = facts.mapping.vault_id
        present = await self._reader.find(ContainerMapping, vault_id=vault_id)
        policies = {
            each.record.id: each.record
            for each in await self._reader.find(ReplicationPolicy, vault_id=vault_id)
        }
        names = {cloud.cloud_id: cloud.friendly_name for cloud in facts.clouds.values()}
        mappings = [each.record for each in present]
        error = refusal_of_pairing(facts.mapping, mappings, names, now, policies)
        mine = next((each for each in present if each.record.id == facts.mapping.id), None)
        if error is None and mine is not None and mine.record.mapping_state != "PairingInProgress":
            # A pairing may be asked for again while it runs (recorded.md, 9), nothing else.
            error = refusal_when_held(mine.record, await self._pairs.holder(mine.record), now)
        if error is not None:
            return await self._stop(refused(job, error, now), identity)
        hosts = {"configured_hosts": facts.hosts}
        mapping = held_by(facts.mapping, job).model_copy(update=hosts)
        saves = (Save(mapping, None if mine is None else mine.version),)
        await self._runner.start(job, Change(saves=saves) + self._requests.remember(identity, job))
        return job

    # --------------------------------------------------------------------------------- removing

    async def _remove(self, present: Versioned[ContainerMapping], identity: RequestIdentity) -> Job:
        mapping, now = present.record, self._clock.now()
        vault_id = mapping.vault_id
        others = await self._reader.find(ContainerMapping, vault_id=vault_id)
        flags = flags_of_removal(mapping, [each.record for each in others])
        facts = await self._pairs.facts(mapping)
        job = plan_pair_job(UNPAIR, facts, self._identity(identity), flags)
        busy = refusal_when_held(mapping, await self._pairs.holder(mapping), now)
        if busy is not None:
            return await self._stop(refused(job, busy, now), identity)
        used = await self._reader.find(ProtectedItem, vault_id=vault_id)
        against = refusal_while_used(mapping, [each.record for each in used], now)
        if against is not None:
            return await self._stop(stopped_at_prerequisites(job, against, now), identity)
        save = Save(held_by(mapping, job), present.version)
        change = Change(saves=(save,)) + self._requests.remember(identity, job)
        await self._runner.start(job, change)
        return job

    async def _left_behind(self, mapping: ContainerMapping) -> "_LeftBehind":
        """Return what tidies both clouds, or tells how that is done where nobody answers."""
        left = _LeftBehind()
        ends = await self._pairs.ends(mapping)
        clouds = {
            Side.PRIMARY: mapping.primary_cloud_id,
            Side.RECOVERY: mapping.recovery_cloud_id,
        }
        for side, facts in ends.items():
            if facts.connected:
                activity_id = f"{self._clock.new_id()} ActivityId: {self._clock.new_id()}"
                identity = JobIdentity(self._clock.new_id(), activity_id, self._clock.now())
                own, other = clouds[side], clouds[side.other]
                left.jobs.append(plan_partner_job(facts.provider, own, other, identity))
            else:
                left.alerts.append(self._alert(mapping, facts, clouds[side]))
        return left

    def _alert(self, mapping: ContainerMapping, facts: SeenFabric, cloud_id: str) -> Save:
        alert = Alert(
            id=self._clock.new_id(),
            vault_id=mapping.vault_id,
            provider_id=facts.provider.id,
            code="PartnerPurged",
            message=f"the container mapping '{mapping.name}' was purged while"
            f" {title_of(facts.provider)} was not connected: run beside its provider:"
            f" provider-agent cleanup --unpair {cloud_id}",
            raised_at=self._clock.now(),
        )
        return Save(alert, None)

    # ---------------------------------------------------------------------------------- reading

    async def _find(
        self, vault: Vault, cloud: tuple[str, str], name: str
    ) -> Versioned[ContainerMapping]:
        """Return a mapping by one of its clouds, it is listed under both; NotFoundError."""
        facts = await self._fabrics.find(vault, cloud[0])
        place = (facts.provider.id, cloud[1].lower())
        for each in await self._reader.find(ContainerMapping, vault_id=vault.id):
            mapping = each.record
            ends = {
                (mapping.primary_provider_id, mapping.primary_cloud_id.lower()),
                (mapping.recovery_provider_id, mapping.recovery_cloud_id.lower()),
            }
            if place in ends and mapping.name.lower() == name.lower():
                return each
        raise NotFoundError(name)

    async def _items(self, vault: Vault) -> Sequence[ProtectedItem]:
        found = await self._reader.find(ProtectedItem, vault_id=vault.id)
        return [each.record for each in found]

    def _identity(self, identity: RequestIdentity) -> JobIdentity:
        return JobIdentity(self._clock.new_id(), activity(identity), self._clock.now())

    async def _stop(self, job: Job, identity: RequestIdentity) -> Job:
        await self._runner.record(job, self._requests.remember(identity, job))
        return job


def _in_words(error: JobError) -> str:
    return f"{error.message} {error.possible_causes} {error.recommended_action}"
