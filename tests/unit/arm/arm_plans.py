"""Recovery plans of a hub in memory."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import JsonValue

from service_hub.domain.errors import InvalidRequestError, NotFoundError
from service_hub.domain.jobs import Job, TaskRun
from service_hub.domain.operator_signatures import with_member_signatures
from service_hub.domain.plan_runs import run_request
from service_hub.domain.planning import JobIdentity, direction_of
from service_hub.domain.plans import PlanRequest, plan_job
from service_hub.domain.protection import Operation
from service_hub.domain.records import Vault
from service_hub.domain.recovery_plans import RecoveryPlan, allowed_on, arranged, check_plan
from service_hub.domain.scenarios import SCENARIOS
from service_hub.plan_ports import PlanContent, PlanFacts
from service_hub.ports.use_cases import RequestIdentity
from tests.unit.arm.arm_hub import MemoryHub
from wire_contract.vocabulary import Side


@dataclass
class MemoryPlans:
    """RecoveryPlanUseCases."""

    hub: MemoryHub

    async def find(self, vault: Vault, name: str) -> PlanFacts:
        """Return one."""
        del vault
        for plan in self.hub.plans.values():
            if plan.name.lower() == name.lower():
                return self._facts(plan)
        raise NotFoundError(name)

    async def list(self, vault: Vault) -> Sequence[PlanFacts]:
        """Return all."""
        del vault
        return [self._facts(plan) for plan in self.hub.plans.values()]

    async def save(
        self, vault: Vault, name: str, content: PlanContent, identity: RequestIdentity
    ) -> Job:
        """Keep a plan."""
        found = next((p for p in self.hub.plans.values() if p.name.lower() == name.lower()), None)
        groups = arranged(content.groups)
        if found is None:
            item = next(iter(self.hub.items.values()))
            plan = RecoveryPlan(
                id="plan-of-" + name.lower(),
                vault_id=vault.id,
                name=name,
                primary_provider_id=item.primary_provider_id,
                recovery_provider_id=item.recovery_provider_id,
                groups=groups,
            )
        else:
            plan = found.model_copy(update={"groups": groups})
        check_plan(plan, self.hub.items, groups_max=7)
        self.hub.plans[plan.id] = plan
        return self._started("create_plan" if found is None else "update_plan", plan, identity)

    async def delete(self, vault: Vault, name: str, identity: RequestIdentity) -> Job:
        """Forget a plan."""
        plan = (await self.find(vault, name)).plan
        del self.hub.plans[plan.id]
        return self._started("delete_plan", plan, identity)

    async def run(
        self,
        vault: Vault,
        name: str,
        operation: Operation,
        arguments: Mapping[str, JsonValue],
        identity: RequestIdentity,
    ) -> Job:
        """Begin a run."""
        request = await self.request_of(vault, name, operation, arguments)
        job = plan_job(vault.id, request, self.hub.identity(identity))
        return self.hub.start(with_member_signatures(job, identity.member_signatures))

    async def run_together(
        self, vault: Vault, request: PlanRequest, identity: RequestIdentity
    ) -> Job:
        """Begin a run of machines without a plan."""
        return self.hub.start(plan_job(vault.id, request, self.hub.identity(identity)))

    async def request_of(
        self, vault: Vault, name: str, operation: Operation, arguments: Mapping[str, JsonValue]
    ) -> PlanRequest:
        """Return what a run would be asked to do."""
        facts = await self.find(vault, name)
        if not facts.items:
            raise InvalidRequestError("The plan has no machines: put one into a group.", "groups")
        active = next(iter(facts.items.values())).active_location
        direction = direction_of(operation, active)
        return run_request(facts.plan, operation, arguments, direction, facts.items)

    def _facts(self, plan: RecoveryPlan) -> PlanFacts:
        items = {each: self.hub.items[each] for each in plan.members if each in self.hub.items}
        servers = {side: self.hub.fabric(side).provider for side in (Side.PRIMARY, Side.RECOVERY)}
        return PlanFacts(
            plan,
            servers[Side.PRIMARY],
            servers[Side.RECOVERY],
            items,
            allowed_on(plan, list(items.values())),
        )

    def _started(self, key: str, plan: RecoveryPlan, identity: RequestIdentity) -> Job:
        given: JobIdentity = self.hub.identity(identity)
        return self.hub.start(
            Job(
                id=given.job_id,
                vault_id=plan.vault_id,
                scenario_key=key,
                operation=None,
                target_object_id=plan.id,
                target_object_name=plan.name,
                activity_id=given.activity_id,
                tasks=tuple(TaskRun(task_id=spec.task_id) for spec in SCENARIOS[key].tasks),
                created_at=given.now,
            )
        )
