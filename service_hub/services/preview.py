"""What an operation would do, told without doing it: the facts gathered, the rest is the domain.

The job is made and refused by the same functions as a real one; only nothing is stored.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from service_hub.domain.checks import refusal_of_state, refusal_when_busy
from service_hub.domain.durations import Usual, in_words
from service_hub.domain.errors import InvalidRequestError, NotFoundError
from service_hub.domain.jobs import Job, JobError
from service_hub.domain.liveness import Freshness, freshness
from service_hub.domain.operator_signatures import needs_signature
from service_hub.domain.planning import (
    JobIdentity,
    plan_item_job,
    refused,
    stopped_at_prerequisites,
)
from service_hub.domain.preview import (
    Course,
    ForeseenTask,
    SeenCopy,
    effects,
    expected_loss,
    foresee,
)
from service_hub.domain.protection import Operation
from service_hub.domain.records import (
    MachineObservation,
    ProtectedItem,
    Provider,
    Vault,
)
from service_hub.domain.scenarios import SCENARIOS
from service_hub.domain.servers import (
    CHECKING_TASKS,
    REFRESH,
    UNREGISTER,
    plan_server_job,
    refusal_while_leaving,
    title_of,
)
from service_hub.looker_ports import ExpectedDuration, Preview, PreviewTask
from service_hub.ports import Checker, Clock, Reader
from service_hub.services.durations import DurationService
from service_hub.services.fabrics import FabricService
from service_hub.services.item_plans import ItemPlans, new_item
from service_hub.services.server_jobs import leaving_by
from wire_contract.vmm_interface import MachineView
from wire_contract.vocabulary import Direction, Side

NOT_MADE: Final = "00000000-0000-0000-0000-000000000000"
"""Stands for what a job would be given: a preview makes nothing."""


@dataclass(frozen=True, slots=True)
class _Target:
    """What the operation is about; `machine` is what enabling would protect."""

    item: ProtectedItem
    machine: MachineView | None


@dataclass(frozen=True, slots=True)
class _Named:
    """What is previewed, in names."""

    operation: str
    target: str
    name: str
    servers: Mapping[Side, str]


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
    ) -> None:
        self._reader = reader
        self._clock = clock
        self._fabrics = fabrics
        self._plans = ItemPlans(reader=reader, fabrics=fabrics)
        self._checker = checker
        self._durations = durations
        self._interval = observation_interval

    async def preview(
        self, vault: Vault, operation: str, target: str, arguments: Mapping[str, Any]
    ) -> Preview:
        """Return what an operation on an item, or enabling a machine, would do now."""
        key = _SERVER_OPERATIONS.get(operation.lower())
        if key is not None:
            return await self._of_server(vault, key, target)
        asked = _operation(operation)
        if asked is Operation.ENABLE:
            found = await self._machine(vault, target, arguments)
        else:
            found = _Target((await self._plans.item(vault, target)).record, None)
        now = self._clock.now()
        job = await self._job(found, asked, arguments, now)
        seen = {side: await self._seen(found.item, side) for side in Side}
        copies = {side: copy for side, copy in seen.items() if copy is not None}
        servers = {side: await self._server(found.item.provider_at(side)) for side in Side}
        named = _Named(asked.value, found.item.id, found.item.friendly_name, servers)
        return await self._told(named, job, copies, signed=needs_signature(vault, asked))

    async def _of_server(self, vault: Vault, key: str, target: str) -> Preview:
        """Return what asking or deleting a server would do; it touches no copy of a machine."""
        provider = await self._provider(vault, target)
        now = self._clock.now()
        job = plan_server_job(key, provider, JobIdentity(NOT_MADE, "", now))
        leaving = await leaving_by(self._reader, provider)
        if leaving is not None:
            job = refused(job, refusal_while_leaving(provider, leaving, now), now)
        servers = {Side.PRIMARY: title_of(provider)}
        named = _Named(job.scenario.name, provider.id, title_of(provider), servers)
        return await self._told(named, job, {}, signed=False)

    async def _told(
        self, named: "_Named", job: Job, copies: Mapping[Side, SeenCopy], *, signed: bool
    ) -> Preview:
        now = self._clock.now()
        refusals = {} if job.finished else await self._refusals(job)
        foreseen = foresee(job, now, refusals)
        loss = expected_loss(foreseen.job, copies, now)
        learnt = await self._durations.all_of(foreseen.job)
        return Preview(
            operation=named.operation,
            scenario=job.scenario.name,
            direction=job.direction.value,
            target=named.target,
            target_name=named.name,
            refusal=next(iter(foreseen.job.errors), None),
            signature_required=signed,
            servers=named.servers,
            tasks=[PreviewTask(task, learnt.get(task.task_id)) for task in foreseen.tasks],
            effects=effects(foreseen, copies),
            loss=loss,
            loss_freshness=self._freshness(loss.observed_at, now),
            duration=_duration(foreseen.tasks, learnt),
        )

    async def _job(
        self, found: _Target, operation: Operation, arguments: Mapping[str, Any], now: datetime
    ) -> Job:
        """Return the job as a request would make it: to be begun, or refused already."""
        item = found.item
        if operation is Operation.TEST_FAILOVER:
            arguments = {**arguments, "test_machine_id": NOT_MADE}
        plan = await self._plans.plan(item, found.machine)
        job = plan_item_job(plan, operation, arguments, JobIdentity(NOT_MADE, "", now))
        busy = refusal_when_busy(item, now)
        if busy is not None:
            return refused(job, busy, now)
        against = refusal_of_state(item, operation, _direction(arguments), now)
        if against is not None:
            return stopped_at_prerequisites(job, against, now)
        return job

    async def _refusals(self, job: Job) -> dict[str, JobError]:
        """Return what the hub's own checks find against the job now, by task."""
        found = {}
        for task in job.tasks:
            spec = job.spec(task.task_id)
            # The last of the hub's own tasks on a server deletes it: that is nothing to ask for.
            checks = job.operation is not None or task.task_id in CHECKING_TASKS
            if checks and spec.verb is None and not spec.asks_inventory:
                error = await self._checker.check(job, task.task_id)
                if error is not None:
                    found[task.task_id] = error
        return found

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
                return _Target(new_item(vault, machine, mapping, facts, ids), machine)
        raise NotFoundError(target)

    async def _provider(self, vault: Vault, target: str) -> Provider:
        for found in await self._reader.find(Provider, vault_id=vault.id):
            provider = found.record
            names = {provider.id, provider.fabric_name, provider.vmm_id}
            if provider.registered_at and target.lower() in {each.lower() for each in names}:
                return provider
        raise NotFoundError(target)

    async def _seen(self, item: ProtectedItem, side: Side) -> SeenCopy | None:
        found = await self._reader.get(
            MachineObservation, f"{item.provider_at(side)}/{item.machine_at(side)}"
        )
        return None if found is None else SeenCopy(found.record.machine, found.record.observed_at)

    async def _server(self, provider_id: str) -> str:
        found = await self._reader.get(Provider, provider_id)
        return provider_id if found is None else title_of(found.record)

    def _freshness(self, observed_at: datetime | None, now: datetime) -> Freshness | None:
        return None if observed_at is None else freshness(observed_at, self._interval, now)


_SERVER_OPERATIONS: Final = {SCENARIOS[key].name.lower(): key for key in (UNREGISTER, REFRESH)}
"""What may be asked of a server, by the name of its scenario."""


def _operation(name: str) -> Operation:
    for operation in Operation:
        if operation.value.lower() == name.lower():
            return operation
    ours = (SCENARIOS[key].name for key in _SERVER_OPERATIONS.values())
    names = ", ".join((*(operation.value for operation in Operation), *ours))
    raise InvalidRequestError(f"The property 'operation' must be one of: {names}.", "operation")


def _direction(arguments: Mapping[str, Any]) -> Direction | None:
    value = arguments.get("failover_direction")
    if value is None:
        return None
    for direction in Direction:
        if direction.value.lower() == str(value).lower():
            return direction
    raise InvalidRequestError(
        "The property 'direction' must be PrimaryToRecovery or RecoveryToPrimary.", "direction"
    )


def _duration(tasks: Sequence[ForeseenTask], learnt: Mapping[str, Usual]) -> ExpectedDuration:
    """Return the sum of what the tasks that run usually take; no figure where one is unknown."""
    running = [task for task in tasks if task.course in {Course.RUNS, Course.CHECKED}]
    unknown = tuple(task.task_id for task in running if task.task_id not in learnt)
    if unknown or not running:
        return ExpectedDuration(None, None, unknown, "unknown" if running else "nothing runs")
    median = sum(learnt[task.task_id].median_seconds for task in running)
    p90 = sum(learnt[task.task_id].p90_seconds for task in running)
    words = f"usually {in_words(median)}, at times {in_words(p90)}"
    return ExpectedDuration(median, p90, (), words)
