"""What an operation would do, told without doing it: the facts gathered, the rest is the domain.

The job is made and refused by the same functions as a real one; only nothing is stored.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from service_hub.domain.errors import InvalidRequestError, NotFoundError
from service_hub.domain.jobs import Job, JobError
from service_hub.domain.operator_signatures import needs_signature
from service_hub.domain.planning import JobIdentity, refused
from service_hub.domain.plans import PlanGroup, PlanRequest
from service_hub.domain.preview import Action, ExpectedLoss, ForeseenEffect
from service_hub.domain.protection import INTERNAL_OPERATIONS, Operation
from service_hub.domain.records import ProtectedItem, Provider, Vault
from service_hub.domain.recovery_plans import PLAN_OPERATIONS
from service_hub.domain.scenarios import SCENARIOS
from service_hub.domain.servers import (
    REFRESH,
    UNREGISTER,
    plan_partner_job,
    plan_server_job,
    refusal_while_leaving,
    title_of,
)
from service_hub.looker_ports import ExpectedDuration, Preview
from service_hub.plan_ports import RecoveryPlanUseCases
from service_hub.ports.running import Checker
from service_hub.ports.stores import Reader
from service_hub.ports.surroundings import Clock
from service_hub.ports.use_cases import SeenFabric
from service_hub.services.durations import DurationService
from service_hub.services.fabrics import FabricService
from service_hub.services.item_plans import ItemPlans
from service_hub.services.job_restarts import Restarts
from service_hub.services.plan_drills import PlanDrills
from service_hub.services.preview_plans import PlanPreviews
from service_hub.services.preview_requests import ACTIONS, RequestPreviews
from service_hub.services.preview_telling import (
    NOT_MADE,
    Named,
    PreviewTelling,
    item_job,
    providers_of,
)
from service_hub.services.server_jobs import leaving_by
from service_hub.services.server_usage import ServerUsage
from wire_contract.vmm_interface import MachineView
from wire_contract.vocabulary import Direction, Side

PURGE: Final = "PurgeServer"
"""Forgetting a server at once is no job of its own: that name is ours."""

_CONFLICT: Final = "Conflict"
"""What a refused purge is answered with."""


@dataclass(frozen=True, slots=True)
class _Target:
    """What the operation is about; `machine` is what enabling would protect."""

    item: ProtectedItem
    machine: MachineView | None


class PreviewService:
    """The PreviewUseCases of the looker ports."""

    def __init__(
        self,
        *,
        reader: Reader,
        clock: Clock,
        fabrics: FabricService,
        checker: Checker,
        durations: DurationService,
        observation_interval: timedelta,
        saved: RecoveryPlanUseCases,
    ) -> None:
        self._reader = reader
        self._clock = clock
        self._fabrics = fabrics
        self._saved = saved
        self._plans = ItemPlans(reader=reader, fabrics=fabrics)
        self._drills = PlanDrills(reader=reader)
        self._telling = PreviewTelling(
            reader=reader,
            clock=clock,
            checker=checker,
            durations=durations,
            observation_interval=observation_interval,
        )
        self._of_plans = PlanPreviews(clock, self._plans, self._telling)
        restarts = Restarts(reader=reader, clock=clock)
        self._of_jobs = RequestPreviews(reader, clock, restarts, self._telling, self._of_plans)

    async def preview(
        self, vault: Vault, operation: str, target: str, arguments: Mapping[str, Any]
    ) -> Preview:
        """Return what an operation on an item, a server or a job would do now."""
        key = _SERVER_OPERATIONS.get(operation.lower())
        if key is not None:
            return await self._of_server(vault, key, target)
        if operation.lower() == PURGE.lower():
            return await self._of_purge(vault, target)
        action = ACTIONS.get(operation.lower())
        if action is not None:
            return await self._of_jobs.of_request(vault, action, target)
        asked = _operation(operation)
        if asked is Operation.ENABLE:
            found = await self._machine(vault, target, arguments)
        else:
            found = _Target((await self._plans.item(vault, target)).record, None)
        item, now = found.item, self._clock.now()
        arguments = await self._drills.of_machine(item, arguments)
        plan = await self._plans.plan(item, found.machine)
        job = item_job(plan, asked, arguments, now)
        servers = await self._telling.servers(providers_of(item))
        named = Named(asked.value, item.id, item.friendly_name, servers)
        copies = await self._telling.seen(item)
        return await self._telling.told(named, job, copies, signed=needs_signature(vault, asked))

    async def preview_plan(
        self,
        vault: Vault,
        operation: str,
        name: str,
        groups: tuple[PlanGroup, ...],
        arguments: Mapping[str, Any],
    ) -> Preview:
        """Return what an operation on the machines of a plan would do now."""
        asked = _operation(operation)
        if asked in INTERNAL_OPERATIONS or asked is Operation.DISABLE:
            raise InvalidRequestError(f"A plan does no {asked.value}.", "operation")
        request = PlanRequest(name, name, asked, groups, arguments)
        return await self._of_plans.of_plan(vault, request)

    async def preview_saved_plan(
        self, vault: Vault, operation: str, name: str, arguments: Mapping[str, Any]
    ) -> Preview:
        """Return what an operation on a saved plan would do now: groups, actions, machines."""
        asked = _operation(operation)
        if asked not in PLAN_OPERATIONS:
            known = ", ".join(PLAN_OPERATIONS)
            raise InvalidRequestError(f"A plan does no {asked.value}, but: {known}.", "operation")
        request = await self._saved.request_of(vault, name, asked, arguments)
        return await self._of_plans.of_plan(vault, request)

    # --------------------------------------------------------------------------------- servers

    async def _of_server(self, vault: Vault, key: str, target: str) -> Preview:
        """Return what asking or deleting a server would do; it touches no copy of a machine."""
        provider = await self._provider(vault, target)
        now = self._clock.now()
        job = plan_server_job(key, provider, JobIdentity(NOT_MADE, "", now))
        leaving = await leaving_by(self._reader, provider)
        if leaving is not None:
            job = refused(job, refusal_while_leaving(provider, leaving, now), now)
        servers = {Side.PRIMARY: title_of(provider)}
        named = Named(job.scenario.name, provider.id, title_of(provider), servers)
        return await self._telling.told(named, job, {}, signed=False)

    async def _of_purge(self, vault: Vault, target: str) -> Preview:
        """Return what forgetting a server at once would do, and what its partners would."""
        provider = await self._provider(vault, target)
        facts = await self._fabrics.find(vault, provider.fabric_name)
        used, now = ServerUsage(reader=self._reader), self._clock.now()
        against = await used.refusal_of_purge(facts)
        effects: list[ForeseenEffect] = []
        partners: list[Preview] = []
        if against is None:
            words = "its certificates are revoked, and what the hub knows of it is forgotten"
            effects.append(ForeseenEffect(Action.REVOKED, Side.PRIMARY, provider.id, words))
            for mapping in await used.mappings(provider):
                words = f"the pairing '{mapping.name}' is forgotten"
                effects.append(ForeseenEffect(Action.REMOVED, Side.PRIMARY, mapping.id, words))
            for partner_id, cloud_id, gone_cloud_id in await used.left_with_partners(provider):
                partner = await self._fabrics.facts_by_id(partner_id)
                effects.append(_tidied(partner, cloud_id))
                if partner.connected:
                    partners.append(await self._tidying(partner, cloud_id, gone_cloud_id, now))
        return Preview(
            operation=PURGE,
            scenario=PURGE,
            direction=Direction.PRIMARY_TO_RECOVERY.value,
            target=provider.id,
            target_name=title_of(provider),
            refusal=_refusal(against, now),
            signature_required=False,
            servers={Side.PRIMARY: title_of(provider), **_partner_of(partners)},
            tasks=(),
            effects=effects,
            loss=ExpectedLoss(0.0, 0, None, "nothing"),
            loss_freshness=None,
            duration=_AT_ONCE if against is None else _NOT_AT_ALL,
            members=partners,
        )

    async def _tidying(
        self, partner: SeenFabric, cloud_id: str, gone_cloud_id: str, now: datetime
    ) -> Preview:
        """Return the job that removes what a purged server leaves with a partner."""
        job: Job = plan_partner_job(
            partner.provider, cloud_id, gone_cloud_id, JobIdentity(NOT_MADE, "", now)
        )
        title = title_of(partner.provider)
        named = Named(job.scenario.name, cloud_id, title, {Side.PRIMARY: title})
        return await self._telling.told(named, job, {}, signed=False)

    # ----------------------------------------------------------------------------------- facts

    async def _machine(self, vault: Vault, target: str, arguments: Mapping[str, Any]) -> _Target:
        """Return the machine to protect, as the item that enabling would make of it."""
        policy = arguments.get("policy")
        for facts in await self._fabrics.list(vault):
            machines = () if facts.inventory is None else facts.inventory.view.machines
            for machine in machines:
                if machine.machine_id.lower() != target.lower():
                    continue
                present = await self._reader.get(ProtectedItem, machine.machine_id)
                if present is not None:
                    return _Target(present.record, machine)
                name = None if policy is None else str(policy)
                mapping = await self._plans.mapping(vault, machine.cloud_id, name)
                ids = (NOT_MADE, NOT_MADE)
                item = await self._plans.new(vault, machine, mapping, facts, ids)
                return _Target(item, machine)
        raise NotFoundError(target)

    async def _provider(self, vault: Vault, target: str) -> Provider:
        for found in await self._reader.find(Provider, vault_id=vault.id):
            provider = found.record
            names = {provider.id, provider.fabric_name, provider.vmm_id}
            if provider.registered_at and target.lower() in {each.lower() for each in names}:
                return provider
        raise NotFoundError(target)


_AT_ONCE: Final = ExpectedDuration(0.0, 0.0, (), "at once")
_NOT_AT_ALL: Final = ExpectedDuration(None, None, (), "nothing runs")


def _tidied(partner: SeenFabric, cloud_id: str) -> ForeseenEffect:
    title = title_of(partner.provider)
    words = f"{title}: a job removes what is left there of the pairing"
    if not partner.connected:
        words = (
            f"{title} is not connected, and keeps what is left of the pairing; an alert says how"
            f" to remove it: provider-agent cleanup --unpair {cloud_id}"
        )
    return ForeseenEffect(Action.REMOVED, Side.RECOVERY, cloud_id, words)


def _partner_of(partners: list[Preview]) -> dict[Side, str]:
    names = sorted({each.target_name for each in partners})
    return {Side.RECOVERY: ", ".join(names)} if names else {Side.RECOVERY: "(no partner)"}


def _refusal(words: str | None, now: datetime) -> JobError | None:
    return None if words is None else JobError(code=_CONFLICT, message=words, created_at=now)


_SERVER_OPERATIONS: Final = {SCENARIOS[key].name.lower(): key for key in (UNREGISTER, REFRESH)}
"""What may be asked of a server, by the name of its scenario."""


def _operation(name: str) -> Operation:
    for operation in Operation:
        if operation.value.lower() == name.lower():
            return operation
    ours = (*(SCENARIOS[key].name for key in _SERVER_OPERATIONS.values()), PURGE, *ACTIONS.values())
    names = ", ".join((*(operation.value for operation in Operation), *ours))
    raise InvalidRequestError(f"The property 'operation' must be one of: {names}.", "operation")
