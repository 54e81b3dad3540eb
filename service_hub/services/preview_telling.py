"""What every preview is told from: the job run in thought, beside what was observed and learnt."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from service_hub.domain.checks import refusal_of_state, refusal_when_busy
from service_hub.domain.durations import Usual, in_words
from service_hub.domain.errors import InvalidRequestError
from service_hub.domain.jobs import Event, Job, JobError
from service_hub.domain.liveness import Freshness, Stamp, freshness
from service_hub.domain.plan_orders import told_orders
from service_hub.domain.planning import (
    ItemPlan,
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
from service_hub.domain.records import MachineObservation, ProtectedItem, Provider
from service_hub.domain.self_fence import SELF_FENCE_TASK
from service_hub.domain.servers import CHECKING_TASKS, title_of
from service_hub.domain.split_brain import SourceChanges, choice_of
from service_hub.looker_ports import ExpectedDuration, Preview, PreviewTask
from service_hub.ports.running import Checker
from service_hub.ports.stores import Reader
from service_hub.ports.surroundings import Clock
from service_hub.services.durations import DurationService
from wire_contract.vocabulary import Direction, Side

NOT_MADE: Final = "00000000-0000-0000-0000-000000000000"
"""Stands for what a job would be given: a preview makes nothing."""


@dataclass(frozen=True, slots=True)
class Named:
    """What is previewed, in names."""

    operation: str
    target: str
    name: str
    servers: Mapping[Side, str]


class PreviewTelling:
    """Lets jobs run in thought and says what comes of it; changes nothing."""

    def __init__(
        self,
        *,
        reader: Reader,
        clock: Clock,
        checker: Checker,
        durations: DurationService,
        observation_interval: timedelta,
    ) -> None:
        self._reader = reader
        self._clock = clock
        self._checker = checker
        self._durations = durations
        self._interval = observation_interval

    async def told(
        self,
        named: Named,
        job: Job,
        copies: Mapping[Side, SeenCopy],
        *,
        signed: bool,
        asked: Event | None = None,
    ) -> Preview:
        """Return what becomes of a job that is begun, or is `asked` something."""
        now = self._clock.now()
        ended = job.finished and asked is None
        foreseen = foresee(job, now, {} if ended else await self._refusals(job), asked)
        known = () if asked is None else job.errors
        errors = [error for error in foreseen.job.errors if error not in known]
        loss = expected_loss(foreseen.job, copies, now)
        learnt = await self._durations.all_of(foreseen.job)
        return Preview(
            operation=named.operation,
            scenario=job.scenario.name,
            direction=job.direction.value,
            target=named.target,
            target_name=named.name,
            refusal=next(iter(errors), None),
            signature_required=signed,
            servers=named.servers,
            tasks=[PreviewTask(task, learnt.get(task.task_id)) for task in foreseen.tasks],
            effects=effects(foreseen, copies),
            loss=loss,
            loss_freshness=None if loss.stamp is None else self.fresh(loss.stamp, now),
            copies={
                side: (copy.stamp, self.fresh(copy.stamp, now)) for side, copy in copies.items()
            },
            duration=_duration(foreseen.tasks, learnt),
            operator_orders=told_orders(job),
        )

    async def _refusals(self, job: Job) -> dict[str, JobError]:
        """Return what the hub's own checks find against the job now, by task."""
        found = {}
        for task in job.tasks:
            # The last of the hub's own tasks on a server deletes it: that is nothing to ask for.
            checks = job.operation is not None or task.task_id in CHECKING_TASKS
            # To wait for the source is nothing to ask for either.
            checks = checks and task.task_id != SELF_FENCE_TASK
            if checks and job.spec(task.task_id).is_check:
                error = await self._checker.check(job, task.task_id)
                if error is not None:
                    found[task.task_id] = error
        return found

    # ----------------------------------------------------------------------------------- facts

    async def seen(self, item: ProtectedItem) -> dict[Side, SeenCopy]:
        """Return the newest views of an item's copies; who was never seen is absent."""
        found = {side: await self._copy(item, side) for side in Side}
        return {side: copy for side, copy in found.items() if copy is not None}

    async def servers(self, providers: Mapping[Side, str]) -> dict[Side, str]:
        """Return what operators call these servers."""
        return {side: await self._server(each) for side, each in providers.items()}

    def fresh(self, stamp: Stamp, now: datetime) -> Freshness:
        """Return how old an observation is."""
        return freshness(stamp.observed_at, self._interval, now)

    async def _copy(self, item: ProtectedItem, side: Side) -> SeenCopy | None:
        found = await self._reader.get(
            MachineObservation, f"{item.provider_at(side)}/{item.machine_at(side)}"
        )
        if found is None:
            return None
        seen = found.record
        stamp = Stamp(seen.observed_at, seen.provider_id, seen.boot_id)
        return SeenCopy(seen.machine, stamp)

    async def _server(self, provider_id: str) -> str:
        found = await self._reader.get(Provider, provider_id)
        return provider_id if found is None else title_of(found.record)


def item_job(
    plan: ItemPlan,
    operation: Operation,
    arguments: Mapping[str, Any],
    now: datetime,
    *,
    for_plan: str | None = None,
) -> Job:
    """Return the job as a request would make it: to be begun, or refused already."""
    if operation is Operation.TEST_FAILOVER:
        arguments = {**arguments, "test_machine_id": NOT_MADE}
    if choice_of(arguments) is SourceChanges.KEEP:
        arguments = {**arguments, "kept_machine_id": NOT_MADE}
    job = plan_item_job(plan, operation, arguments, JobIdentity(NOT_MADE, "", now))
    busy = refusal_when_busy(plan.item, now, for_plan=for_plan)
    if busy is not None:
        return refused(job, busy, now)
    against = refusal_of_state(plan.item, operation, _direction(arguments), now)
    if against is not None:
        return stopped_at_prerequisites(job, against, now)
    return job


def providers_of(item: ProtectedItem) -> dict[Side, str]:
    """Return the providers of an item's ends."""
    return {side: item.provider_at(side) for side in Side}


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


_TAKES_TIME: Final = frozenset({Course.RUNS, Course.CHECKED, Course.GROUP, Course.TAKEN_BACK})


def _duration(tasks: Sequence[ForeseenTask], learnt: Mapping[str, Usual]) -> ExpectedDuration:
    """Return the sum of what the tasks that run usually take; no figure where one is unknown."""
    running = [task for task in tasks if task.course in _TAKES_TIME]
    unknown = tuple(task.task_id for task in running if task.task_id not in learnt)
    if unknown or not running:
        return ExpectedDuration(None, None, unknown, "unknown" if running else "nothing runs")
    median = sum(learnt[task.task_id].median_seconds for task in running)
    p90 = sum(learnt[task.task_id].p90_seconds for task in running)
    words = f"usually {in_words(median)}, at times {in_words(p90)}"
    return ExpectedDuration(median, p90, (), words)
