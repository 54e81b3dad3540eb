"""Recovery plans: saved, looked at, deleted, run."""

from asyncio import gather
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from pydantic import JsonValue

from service_hub.domain import errors
from service_hub.domain.checks import job_error
from service_hub.domain.errors import InvalidRequestError, NotFoundError
from service_hub.domain.jobs import Job, JobError, JobState, TaskRun
from service_hub.domain.plan_runs import run_request
from service_hub.domain.planning import JobIdentity, direction_of, refused
from service_hub.domain.plans import PlanRequest
from service_hub.domain.protection import Operation
from service_hub.domain.records import ProtectedItem, Provider, Vault
from service_hub.domain.recovery_plans import (
    RecoveryPlan,
    allowed_on,
    arranged,
    check_plan,
)
from service_hub.domain.scenarios import SCENARIOS
from service_hub.domain.servers import title_of
from service_hub.plan_ports import PlanContent, PlanFacts
from service_hub.ports.changes import NEW, Change, Delete, Save, Versioned
from service_hub.ports.running import JobRunner
from service_hub.ports.stores import Reader
from service_hub.ports.surroundings import Clock
from service_hub.ports.use_cases import RequestIdentity
from service_hub.services.plan_drills import PlanDrills
from service_hub.services.plans import PlanService
from service_hub.services.policies import activity
from service_hub.services.requests import RequestLedger
from wire_contract.vocabulary import Direction, Side


class RecoveryPlanService:
    """The RecoveryPlanUseCases of the operator ports."""

    def __init__(
        self,
        *,
        reader: Reader,
        runner: JobRunner,
        clock: Clock,
        requests: RequestLedger,
        runs: PlanService,
        groups_max: int,
    ) -> None:
        self._reader = reader
        self._runner = runner
        self._clock = clock
        self._requests = requests
        self._runs = runs
        self._groups_max = groups_max
        self._drills = PlanDrills(reader=reader)

    # -------------------------------------------------------------------------------- looking

    async def find(self, vault: Vault, name: str) -> PlanFacts:
        """Return one, names compared without case; NotFoundError."""
        return await self._facts((await self._named(vault, name)).record)

    async def list(self, vault: Vault) -> Sequence[PlanFacts]:
        """Return all of a vault."""
        found = await self._reader.find(RecoveryPlan, vault_id=vault.id)
        return [await self._facts(each.record) for each in found]

    async def request_of(
        self,
        vault: Vault,
        name: str,
        operation: Operation,
        arguments: Mapping[str, JsonValue],
    ) -> PlanRequest:
        """Return what a run would be asked to do now, for previews."""
        return await self._request(await self.find(vault, name), operation, arguments)

    # --------------------------------------------------------------------------------- saving

    async def save(
        self,
        vault: Vault,
        name: str,
        content: PlanContent,
        identity: RequestIdentity,
    ) -> Job:
        """Create a plan or replace its groups by a job; InvalidRequestError names what is wrong.

        A plan whose job runs is not changed: the job of the request has failed (532).
        """
        return await self._requests.once(
            identity, lambda: self._save(vault, name, content, identity)
        )

    async def _save(
        self, vault: Vault, name: str, content: PlanContent, identity: RequestIdentity
    ) -> Job:
        found = await self._found(vault, name)
        servers = await self._servers(vault, found, content)
        groups = arranged(content.groups)
        if found is None:
            plan = RecoveryPlan(
                id=self._clock.new_id(),
                vault_id=vault.id,
                name=name,
                primary_provider_id=servers[Side.PRIMARY],
                recovery_provider_id=servers[Side.RECOVERY],
                groups=groups,
            )
        else:
            plan = found.record.model_copy(update={"groups": groups})
        check_plan(plan, await self._items(vault, plan), groups_max=self._groups_max)
        key = "create_plan" if found is None else "update_plan"
        save = Save(plan, NEW if found is None else found.version)
        return await self._begin(plan, key, Change(saves=(save,)), identity)

    async def delete(self, vault: Vault, name: str, identity: RequestIdentity) -> Job:
        """Delete a plan by a job; its machines stay as they are. NotFoundError."""

        async def decide() -> Job:
            plan = (await self._named(vault, name)).record
            change = Change(deletes=(Delete(RecoveryPlan, plan.id),))
            return await self._begin(plan, "delete_plan", change, identity)

        return await self._requests.once(identity, decide)

    async def _begin(
        self, plan: RecoveryPlan, key: str, change: Change, identity: RequestIdentity
    ) -> Job:
        now = self._clock.now()
        job = _plan_job(plan, key, JobIdentity(self._clock.new_id(), activity(identity), now))
        remembered = self._requests.remember(identity, job)
        if plan.current is not None:
            job = refused(job, _busy(plan, now), now)
            await self._runner.record(job, remembered)
            return job
        await self._runner.start(job, change + remembered)
        return job

    async def _servers(
        self, vault: Vault, found: Versioned[RecoveryPlan] | None, content: PlanContent
    ) -> dict[Side, str]:
        """Return the providers of both ends; a plan that is there keeps its own."""
        kept: dict[Side, str] = {}
        if found is not None:
            kept[Side.PRIMARY] = found.record.primary_provider_id
            kept[Side.RECOVERY] = found.record.recovery_provider_id
        named = {Side.PRIMARY: content.primary_fabric, Side.RECOVERY: content.recovery_fabric}
        for side, fabric in named.items():
            target = f"properties.{side.value.lower()}FabricId"
            if fabric is None:
                if side not in kept:
                    raise InvalidRequestError("A new plan names its two servers.", target)
                continue
            server = await self._server(vault, fabric)
            if kept.setdefault(side, server) != server:
                raise InvalidRequestError(
                    "A plan keeps its two servers: make another plan.", target
                )
        return kept

    async def _server(self, vault: Vault, fabric: str) -> str:
        found = await self._reader.find(Provider, vault_id=vault.id, fabric_name=fabric)
        for each in found:
            if each.record.registered_at is not None:
                return each.record.id
        raise NotFoundError(fabric)

    # -------------------------------------------------------------------------------- running

    async def run(
        self,
        vault: Vault,
        name: str,
        operation: Operation,
        arguments: Mapping[str, JsonValue],
        identity: RequestIdentity,
    ) -> Job:
        """Begin an operation on all machines of a plan; a refusal is a job that failed."""

        async def decide() -> Job:
            found = await self._named(vault, name)
            facts = await self._facts(found.record)
            request = await self._request(facts, operation, arguments)
            return await self._runs.begin(vault, request, identity, found)

        return await self._requests.once(identity, decide)

    async def _request(
        self, facts: PlanFacts, operation: Operation, arguments: Mapping[str, JsonValue]
    ) -> PlanRequest:
        direction = _checked_direction(facts, operation, arguments)
        if operation is Operation.TEST_FAILOVER:
            arguments = await self._drills.with_network(facts, direction, arguments)
        request = run_request(facts.plan, operation, arguments, direction, facts.items)
        return _with_names(request, facts)

    async def run_together(
        self, vault: Vault, request: PlanRequest, identity: RequestIdentity
    ) -> Job:
        """Begin an operation on machines that no plan was saved of; a refusal is a failed job."""
        return await self._runs.start_plan(vault, request, identity)

    # ------------------------------------------------------------------------------- reading

    async def _named(self, vault: Vault, name: str) -> Versioned[RecoveryPlan]:
        found = await self._found(vault, name)
        if found is None:
            raise NotFoundError(name)
        return found

    async def _found(self, vault: Vault, name: str) -> Versioned[RecoveryPlan] | None:
        found = await self._reader.find(RecoveryPlan, vault_id=vault.id, name=name)
        return found[0] if found else None

    async def _facts(self, plan: RecoveryPlan) -> PlanFacts:
        primary = await self._reader.get(Provider, plan.primary_provider_id)
        recovery = await self._reader.get(Provider, plan.recovery_provider_id)
        present = await gather(*(self._reader.get(ProtectedItem, each) for each in plan.members))
        items = {each.record.id: each.record for each in present if each is not None}
        return PlanFacts(
            plan=plan,
            primary=None if primary is None else primary.record,
            recovery=None if recovery is None else recovery.record,
            items=items,
            allowed=allowed_on(plan, list(items.values()))
            if len(items) == len(plan.members)
            else (),
            run_state=await self._run_state(plan),
        )

    async def _run_state(self, plan: RecoveryPlan) -> JobState | None:
        if plan.current is None:
            return None if plan.last_run is None else plan.last_run_state
        found = await self._reader.get(Job, plan.current.job_id)
        return JobState.IN_PROGRESS if found is None else found.record.state

    async def _items(self, vault: Vault, plan: RecoveryPlan) -> dict[str, ProtectedItem]:
        present = await gather(*(self._reader.get(ProtectedItem, each) for each in plan.members))
        return {
            each.record.id: each.record
            for each in present
            if each is not None and each.record.vault_id == vault.id
        }


def _checked_direction(
    facts: PlanFacts, operation: Operation, arguments: Mapping[str, JsonValue]
) -> Direction:
    """Return where a run goes; InvalidRequestError where the plan's machines are not all there."""
    missing = [each for each in facts.plan.members if each not in facts.items]
    if missing:
        raise InvalidRequestError(
            f"The plan names {len(missing)} machines that are not protected any more,"
            f" '{missing[0]}' among them: save it without them.",
            "groups",
        )
    first = next(iter(facts.items.values()), None)
    if first is None:
        raise InvalidRequestError("The plan has no machines: put one into a group.", "groups")
    named = arguments.get("failover_direction")
    # What is cancelled went the other way than the next failover would go.
    about = Operation.COMMIT if operation is Operation.CANCEL_FAILOVER else operation
    return direction_of(about, first.active_location) if named is None else Direction(str(named))


def _with_names(request: PlanRequest, facts: PlanFacts) -> PlanRequest:
    """Return the request with the servers' names, as the job shows them (recorded.md, 0)."""
    direction = request.direction or Direction.PRIMARY_TO_RECOVERY
    ends = {Side.PRIMARY: facts.primary, Side.RECOVERY: facts.recovery}
    affected, servers = {}, {}
    for end, side in (("primary", Side.PRIMARY), ("recovery", Side.RECOVERY)):
        server = ends[direction.place(side)]
        if server is not None:
            servers[direction.place(side)] = affected[f"{end}VmmId"] = server.vmm_id
            affected[f"{end}VmmName"] = title_of(server)
    return replace(request, affected=affected, servers=servers)


def _plan_job(plan: RecoveryPlan, key: str, identity: JobIdentity) -> Job:
    return Job(
        id=identity.job_id,
        vault_id=plan.vault_id,
        scenario_key=key,
        operation=None,
        target_object_id=plan.id,
        target_object_name=plan.name,
        activity_id=identity.activity_id,
        tasks=tuple(TaskRun(task_id=spec.task_id) for spec in SCENARIOS[key].tasks),
        created_at=identity.now,
    )


def _busy(plan: RecoveryPlan, now: datetime) -> JobError:
    assert plan.current is not None, "something holds the plan"
    since = f"{plan.current.started_at:%Y-%m-%dT%H:%M:%SZ}"
    detail = f"{plan.current.scenario_name} since {since}"
    return job_error(errors.BUSY, now, name=plan.name, detail=detail)
