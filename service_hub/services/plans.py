"""Plans: one job over many items, which it holds from its beginning to its end."""

from asyncio import gather
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from pydantic import JsonValue

from service_hub.domain.checks import refusal_of_state, refusal_when_busy
from service_hub.domain.errors import (
    JobRequestRefusedError,
    NotFoundError,
    StaleVersionError,
)
from service_hub.domain.job_requests import held_again
from service_hub.domain.jobs import Job, RestartRequested
from service_hub.domain.operator_signatures import (
    check_each,
    member_signature,
    with_member_signatures,
    with_signature,
)
from service_hub.domain.plan_orders import check_scripts
from service_hub.domain.planning import (
    INJECTED_BY,
    JobIdentity,
    begin_on_item,
    plan_item_job,
    refused,
    stopped_at_prerequisites,
)
from service_hub.domain.plans import (
    MACHINES,
    PlanRequest,
    held_by_plan,
    let_go,
    members_of,
    plan_job,
    refusal_of_states,
    refusal_when_any_busy,
)
from service_hub.domain.protection import Operation
from service_hub.domain.records import ProtectedItem, Vault
from service_hub.domain.recovery_plans import RecoveryPlan, begun_on_plan, ended_on_plan
from service_hub.ports.changes import Change, Save, Versioned
from service_hub.ports.running import JobRunner
from service_hub.ports.stores import Committer, Reader
from service_hub.ports.surroundings import Clock
from service_hub.ports.use_cases import RequestIdentity
from service_hub.services.child_jobs import child_id, machine_id_of_test
from service_hub.services.item_plans import ItemPlans
from service_hub.services.policies import activity
from service_hub.services.requests import RequestLedger
from wire_contract.vocabulary import Direction, Side

RETRIES_MAX = 20
"""How often a request is decided anew because an item had changed meanwhile."""


class PlanService:
    """Starts plans; the ChildPlanner of the hub's ports, and told when a plan has ended."""

    def __init__(
        self,
        *,
        reader: Reader,
        runner: JobRunner,
        committer: Committer,
        clock: Clock,
        requests: RequestLedger,
        plans: ItemPlans,
    ) -> None:
        self._reader = reader
        self._runner = runner
        self._committer = committer
        self._clock = clock
        self._requests = requests
        self._plans = plans

    async def start_plan(
        self, vault: Vault, request: PlanRequest, identity: RequestIdentity
    ) -> Job:
        """Begin an operation on the items of a plan; a refusal is a job that failed."""
        return await self._requests.once(identity, lambda: self.begin(vault, request, identity))

    async def begin(
        self,
        vault: Vault,
        request: PlanRequest,
        identity: RequestIdentity,
        plan: Versioned[RecoveryPlan] | None = None,
    ) -> Job:
        """Decide on a run once, for who asks the ledger himself; `plan` is held by the job too."""
        signatures = identity.member_signatures
        members = [member for group in request.groups for member in group.members]
        check_each(vault, request.operation, members, _direction(request), signatures)
        now = self._clock.now()
        planned = JobIdentity(self._clock.new_id(), activity(identity), now, identity.injection_id)
        job = _with_test_machines(plan_job(vault.id, request, planned), request.operation)
        check_scripts(vault, job, signatures)
        job = with_member_signatures(job, signatures)
        remembered = self._requests.remember(identity, job)
        present = await gather(*(self._plans.item(vault, each) for each in members_of(job)))
        items = [each.record for each in present]
        busy = refusal_when_any_busy(items, now)
        if busy is not None:
            return await self._stop(refused(job, busy, now), remembered)
        against = refusal_of_states(request, items, now)
        if against is not None:
            return await self._stop(stopped_at_prerequisites(job, against, now), remembered)
        saves = [Save(held_by_plan(each.record, job, now), each.version) for each in present]
        if plan is not None:
            saves.append(Save(begun_on_plan(plan.record, job, now), plan.version))
        await self._runner.start(job, Change(saves=saves) + remembered)
        return job

    async def _stop(self, job: Job, remembered: Change) -> Job:
        await self._runner.record(job, remembered)
        return job

    # ------------------------------------------------------------------------------ its own jobs

    async def child(
        self, parent: Job, task_id: str, member: str, child_id: str
    ) -> tuple[Job, Change]:
        """Return the job of one member under this id, and its lock on the item."""
        group = parent.spec(task_id).group
        assert group is not None, "only groups have jobs of their own"
        present, now = await self._item(member), self._clock.now()
        item = present.record
        arguments: dict[str, JsonValue] = dict(group.arguments)
        if group.operation is Operation.TEST_FAILOVER:
            arguments["test_machine_id"] = machine_id_of_test(child_id)
            if isinstance(drill := arguments.get("drill"), dict):
                arguments["drill"] = {**drill, "environment": parent.id}
        job = plan_item_job(
            await self._plans.plan(item, None),
            group.operation,
            arguments,
            JobIdentity(child_id, parent.activity_id, now, parent.affected.get(INJECTED_BY)),
        ).model_copy(update={"parent_id": parent.id, "parent_task": task_id})
        job = with_signature(job, member_signature(parent, member))
        busy = refusal_when_busy(item, now, for_plan=parent.id)
        if busy is not None:
            return refused(job, busy, now), Change()
        direction = arguments.get("failover_direction")
        wanted = None if direction is None else Direction(str(direction))
        against = refusal_of_state(item, group.operation, wanted, now)
        if against is not None:
            return stopped_at_prerequisites(job, against, now), Change()
        return job, Change(saves=(Save(begin_on_item(item, job, now), present.version),))

    async def restart(
        self, parent: Job, child: Job, principal: str
    ) -> tuple[RestartRequested, Change] | None:
        """Return what restarts a job of the plan and holds its item, None where it fits no more."""
        assert child.item_id is not None, "a plan's own jobs are about items"
        assert child.parent_id == parent.id, "the job is of this plan"
        present = await self._item(child.item_id)
        try:
            held, event = held_again(present.record, child, principal, self._clock.now())
        except JobRequestRefusedError:
            return None
        # What the plan was restarted with: the child's own may have ended.
        event = replace(event, operator_signature=member_signature(parent, child.item_id))
        return event, Change(saves=(Save(held, present.version),))

    async def _item(self, member: str) -> Versioned[ProtectedItem]:
        present = await self._reader.get(ProtectedItem, member)
        if present is None:
            raise NotFoundError(member)
        return present

    # --------------------------------------------------------------------------------- letting go

    def awaits(self, job: Job) -> bool:
        """Whether items are let go when this job has ended."""
        return bool(members_of(job))

    async def job_ended(self, job: Job) -> None:
        """Let the items of a plan go; nothing happens when it was restarted meanwhile."""
        members = members_of(job)
        for _ in range(RETRIES_MAX):
            saves = await self._saves_that_let_go(job, members)
            if not saves:
                return
            try:
                await self._committer.commit(Change(saves=saves))
            except StaleVersionError:
                continue
            return
        raise StaleVersionError(f"the items of {job.id} found no quiet moment")

    async def _saves_that_let_go(self, job: Job, members: Sequence[str]) -> list[Save]:
        present = await self._reader.get(Job, job.id)
        if not members or (present is not None and not present.record.finished):
            return []
        saves: list[Save] = []
        plan = await self._reader.get(RecoveryPlan, job.target_object_id)
        if plan is not None and (ended := ended_on_plan(plan.record, job)) is not plan.record:
            saves.append(Save(ended, plan.version))
        for member in members:
            item = await self._reader.get(ProtectedItem, member)
            if item is not None and (after := let_go(item.record, job)) is not item.record:
                saves.append(Save(after, item.version))
        return saves


def _direction(request: PlanRequest) -> Direction | None:
    """Return where a run goes, as the requests of its machines would name it."""
    named = request.arguments.get("failover_direction")
    return request.direction if named is None else Direction(str(named))


def _with_test_machines(job: Job, operation: Operation) -> Job:
    """Return the job with the machines that its test will make, where scripts are told of them."""
    machines: Any = job.context.get(MACHINES)
    if operation is not Operation.TEST_FAILOVER or machines is None:
        return job
    side = job.direction.place(Side.RECOVERY).value
    made = {
        member: {
            **machines[member],
            side: machine_id_of_test(child_id(job.id, spec.task_id, member)),
        }
        for spec in job.own_specs
        if spec.group is not None
        for member in spec.group.members
    }
    return job.model_copy(update={"context": {**job.context, MACHINES: made}})
