"""Jobs over many items: groups one after the other, the machines of a group side by side; pure.

A plan's job holds all its items from its beginning to its end, so that nothing comes between two
groups (behaviour.md, 2.7).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from pydantic import JsonValue

from service_hub.domain import errors
from service_hub.domain.checks import job_error, refusal_of_state, refusal_when_busy
from service_hub.domain.errors import InvalidRequestError
from service_hub.domain.jobs import Job, JobError, TaskRun
from service_hub.domain.planning import JobIdentity
from service_hub.domain.protection import Operation
from service_hub.domain.records import CurrentScenario, ProtectedItem
from service_hub.domain.scenarios import NO_RETRY, GroupSpec, TaskSpec, plan_key
from wire_contract.vocabulary import Direction
from wire_contract.vocabulary.task_names import task_names

MEMBERS_MAX: Final = 1_000
"""How many items one plan may hold: all of them are locked in one transaction."""

NAMED_MAX: Final = 5
"""How many items an error names; the others are counted."""

STAYS_AS_IT_IS: Final = (
    "Cancelled, a plan stops: what is under way is taken back; a machine whose job has ended stays"
    " as that left it, and is led on by its own allowed operations"
)
"""A cancelled failover stops, it does not go back (behaviour.md, 2.10, as documented): what was
failed over may have been at work for days, and going back would lose what it wrote since."""

PREREQUISITES_TASK: Final = "RecoveryPlanPrerequisitesCheckTask"
MANUAL_TASK: Final = "Group{number}ManualActionTask"
GROUP_TASK: Final = "Group{number}Task"

_NOT_READY: Final[Mapping[Operation, str]] = {
    Operation.PLANNED_FAILOVER: errors.PLAN_NOT_READY,
    Operation.COMMIT: errors.COMMIT_NOT_READY,
    Operation.REVERSE_REPLICATE: errors.REVERSE_NOT_READY,
}


@dataclass(frozen=True, slots=True)
class PlanGroup:
    """Items that are worked on side by side; before that, a person may have something to do."""

    name: str
    members: tuple[str, ...]
    manual_action: str | None = None
    go_on_past_errors: bool = False


@dataclass(frozen=True, slots=True)
class PlanRequest:
    """What is to be done to which items, in which order; id and name are the plan's."""

    plan_id: str
    name: str
    operation: Operation
    groups: tuple[PlanGroup, ...]
    arguments: Mapping[str, JsonValue]


def members_of(job: Job) -> tuple[str, ...]:
    """Return the items that a job's groups work on; none where it has no groups."""
    groups = (spec.group for spec in job.own_specs)
    return tuple(member for group in groups if group is not None for member in group.members)


def plan_job(vault_id: str, request: PlanRequest, identity: JobIdentity) -> Job:
    """Return the job of a plan, not begun; InvalidRequestError where it names no proper set."""
    members = [member for group in request.groups for member in group.members]
    if not members:
        raise InvalidRequestError("the plan has no machines: put one into a group", "groups")
    if len(members) > MEMBERS_MAX:
        raise InvalidRequestError(
            f"the plan has {len(members)} machines: make several plans of at most {MEMBERS_MAX}",
            "groups",
        )
    twice = next((each for each in members if members.count(each) > 1), None)
    if twice is not None:
        raise InvalidRequestError(
            f"{twice} stands in the plan twice: a machine belongs to one group", "groups"
        )
    specs = _specs(request)
    return Job(
        id=identity.job_id,
        vault_id=vault_id,
        scenario_key=plan_key(request.operation),
        operation=None,
        target_object_id=request.plan_id,
        target_object_name=request.name,
        activity_id=identity.activity_id,
        tasks=tuple(TaskRun(task_id=spec.task_id) for spec in specs),
        own_specs=specs,
        affected=identity.mark,
        created_at=identity.now,
    )


def refusal_when_any_busy(
    items: Sequence[ProtectedItem], now: datetime, *, for_plan: str | None = None
) -> JobError | None:
    """Return 532 when another operation holds one of the items."""
    held = [refusal_when_busy(item, now, for_plan=for_plan) for item in items]
    return next((error for error in held if error is not None), None)


def refusal_of_states(
    request: PlanRequest, items: Sequence[ProtectedItem], now: datetime
) -> JobError | None:
    """Return why the items are not ready for the operation, naming some of them, or None."""
    direction = _direction(request.arguments)
    against = [
        (item, error)
        for item in items
        if (error := refusal_of_state(item, request.operation, direction, now)) is not None
    ]
    if not against:
        return None
    named = "; ".join(
        f"{item.friendly_name}: {error.possible_causes.rstrip('.')}"
        for item, error in against[:NAMED_MAX]
    )
    more = f"; and {len(against) - NAMED_MAX} more" if len(against) > NAMED_MAX else ""
    code = _NOT_READY.get(request.operation, errors.NOT_ALLOWED)
    detail = f"{len(against)} of {len(items)} machines are not ready ({named}{more})"
    return job_error(code, now, name=request.name, detail=detail)


def held_by_plan(item: ProtectedItem, job: Job, now: datetime) -> ProtectedItem:
    """Return the item as the plan's job holds it."""
    holder = CurrentScenario(scenario_name=job.scenario.name, job_id=job.id, started_at=now)
    return item.model_copy(update={"plan": holder})


def let_go(item: ProtectedItem, job: Job) -> ProtectedItem:
    """Return the item as the plan's job lets it go; as it is where another holds it."""
    if item.plan is None or item.plan.job_id != job.id:
        return item
    return item.model_copy(update={"plan": None})


def _specs(request: PlanRequest) -> tuple[TaskSpec, ...]:
    specs = [TaskSpec(*task_names(PREREQUISITES_TASK), retry=NO_RETRY)]
    for number, group in enumerate(request.groups, start=1):
        if group.manual_action is not None:
            specs.append(
                TaskSpec(
                    *task_names(MANUAL_TASK, number=number, group=group.name),
                    manual_action=group.manual_action,
                    retry=NO_RETRY,
                )
            )
        work = GroupSpec(
            operation=request.operation,
            members=group.members,
            arguments=dict(request.arguments),
            go_on_past_errors=group.go_on_past_errors,
        )
        specs.append(
            TaskSpec(
                *task_names(GROUP_TASK, number=number, group=group.name),
                group=work,
                retry=NO_RETRY,
            )
        )
    return tuple(specs)


def _direction(arguments: Mapping[str, JsonValue]) -> Direction | None:
    value = arguments.get("failover_direction")
    return None if value is None else Direction(str(value))
