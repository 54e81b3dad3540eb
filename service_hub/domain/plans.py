"""Jobs over many items: groups one after the other, the machines of a group side by side; pure.

A plan's job holds all its items from its beginning to its end, so that nothing comes between two
groups (behaviour.md, 2.7).
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from pydantic import JsonValue

from service_hub.domain import errors
from service_hub.domain.checks import job_error, refusal_of_state, refusal_when_busy
from service_hub.domain.drill_networks import TEST_ENVIRONMENT
from service_hub.domain.errors import InvalidRequestError
from service_hub.domain.jobs import Job, JobError, TaskRun
from service_hub.domain.planning import JobIdentity
from service_hub.domain.protection import Operation
from service_hub.domain.records import CurrentScenario, ProtectedItem
from service_hub.domain.scenarios import (
    CREATE_TEST_ENVIRONMENT,
    NO_RETRY,
    GroupSpec,
    ScriptSpec,
    Target,
    TaskSpec,
    plan_key,
)
from wire_contract.vocabulary import Direction, Side, Verb
from wire_contract.vocabulary.task_names import task_names

MEMBERS_MAX: Final = 5_000
"""How many items one plan may hold: all of them are locked in one transaction."""

NAMED_MAX: Final = 5
"""How many items an error names; the others are counted."""

STAYS_AS_IT_IS: Final = (
    "Cancelled, a plan stops: what is under way is taken back; a machine whose job has ended stays"
    " as that left it, and is led on by its own allowed operations"
)
"""A cancelled failover stops, it does not go back (behaviour.md, 2.10, as documented): what was
failed over may have been at work for days, and going back would lose what it wrote since."""

BEFORE: Final = "before"
AFTER: Final = "after"

MACHINES: Final = "script_machines"
"""Where a plan's job keeps the names and copies of its machines for scripts."""

SCRIPT_GRACE_SECONDS: Final = 180
"""What a script's task may take beyond the script: on its way, found, ended by force, reported."""

_AHEAD: Final = Direction.PRIMARY_TO_RECOVERY

PREREQUISITES_TASK: Final = "RecoveryPlanPrerequisitesCheckTask"
MANUAL_TASK: Final = "Group{number}ManualActionTask"
GROUP_TASK: Final = "Group{number}Task"
ACTION_TASK: Final = "{key}{when}{place}ActionTask"

_NOT_READY: Final[Mapping[Operation, str]] = {
    Operation.PLANNED_FAILOVER: errors.PLAN_NOT_READY,
    Operation.COMMIT: errors.COMMIT_NOT_READY,
    Operation.REVERSE_REPLICATE: errors.REVERSE_NOT_READY,
}


@dataclass(frozen=True, slots=True)
class PlannedAction:
    """An action of a run: `manual` is what a person has to do, else a script runs."""

    name: str
    manual: str = ""
    script: ScriptSpec | None = None


@dataclass(frozen=True, slots=True)
class PlanGroup:
    """Items that are worked on side by side, with what is done before and after that.

    `number` is in the ids of its tasks, without one its place; `key` stands for a group without
    machines.
    """

    name: str
    members: tuple[str, ...]
    manual_action: str | None = None
    go_on_past_errors: bool = False
    before: tuple[PlannedAction, ...] = ()
    after: tuple[PlannedAction, ...] = ()
    number: int | None = None
    key: str | None = None


@dataclass(frozen=True, slots=True)
class PlanRequest:
    """What is to be done to which items, in which order; id and name are the plan's.

    `providers`, `affected` and `machines` (by item: its name and its copies) are what scripts need,
    `providers` and `servers` (their VMM ids) what networks of a test do.
    """

    plan_id: str
    name: str
    operation: Operation
    groups: tuple[PlanGroup, ...]
    arguments: Mapping[str, JsonValue]
    direction: Direction | None = None
    providers: Mapping[Side, str] = field(default_factory=dict)
    servers: Mapping[Side, str] = field(default_factory=dict)
    affected: Mapping[str, str] = field(default_factory=dict)
    machines: Mapping[str, JsonValue] = field(default_factory=dict)


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
    twice = next((each for each, times in Counter(members).items() if times > 1), None)
    if twice is not None:
        raise InvalidRequestError(
            f"{twice} stands in the plan twice: a machine belongs to one group", "groups"
        )
    environment = test_environment(request)
    specs = _specs(request)
    context: dict[str, JsonValue] = {}
    if request.machines:
        context[MACHINES] = dict(request.machines)
    if environment is not None:
        context[TEST_ENVIRONMENT] = environment
        context["servers"] = {side.value: each for side, each in request.servers.items()}
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
        direction=request.direction or _direction(request.arguments) or _AHEAD,
        providers=dict(request.providers),
        affected={**request.affected, **identity.mark},
        context=context,
        created_at=identity.now,
    )


def test_environment(request: PlanRequest) -> dict[str, JsonValue] | None:
    """Return what one task of the plan's job makes for all tests; None where nothing is made."""
    drill = request.arguments.get("drill")
    if request.operation is not Operation.TEST_FAILOVER or not isinstance(drill, dict):
        return None
    if not {"networks", "cloud_ids"} <= set(drill):
        return None
    return {name: drill[name] for name in ("logical_network_id", "cloud_ids", "networks")}


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
    makes_networks = test_environment(request) is not None
    if makes_networks:
        specs.append(replace(CREATE_TEST_ENVIRONMENT, undone_alone=True))
    for place, group in enumerate(request.groups, start=1):
        number = group.number or place
        specs += _action_specs(request, group, number, BEFORE)
        if group.manual_action is not None:
            specs.append(
                TaskSpec(
                    *task_names(MANUAL_TASK, number=number, group=group.name),
                    manual_action=group.manual_action,
                    retry=NO_RETRY,
                )
            )
        if group.members or not (group.before or group.after):
            specs.append(_group_spec(request, group, number))
        specs += _action_specs(request, group, number, AFTER)
    if makes_networks:
        # Whatever fails then: networks that no test machine is connected to are taken away.
        specs = [specs[0], *(replace(each, undo_on_failure=True) for each in specs[1:])]
    return tuple(specs)


def _group_spec(request: PlanRequest, group: PlanGroup, number: int) -> TaskSpec:
    work = GroupSpec(
        operation=request.operation,
        members=group.members,
        arguments=_arguments_of_members(request),
        go_on_past_errors=group.go_on_past_errors,
    )
    names = task_names(GROUP_TASK, number=number, group=group.name)
    return TaskSpec(*names, group=work, retry=NO_RETRY)


def _arguments_of_members(request: PlanRequest) -> dict[str, JsonValue]:
    """Return what each machine's job is asked for: networks that the plan makes are only named."""
    arguments = dict(request.arguments)
    if test_environment(request) is not None:
        drill = arguments["drill"]
        assert isinstance(drill, dict), "the plan's networks were found in it"
        arguments["drill"] = {"sources": drill["sources"], "made": True}
    return arguments


def _action_specs(
    request: PlanRequest, group: PlanGroup, number: int, when: str
) -> Iterator[TaskSpec]:
    """Yield a task for each action before or after a group."""
    actions = group.before if when == BEFORE else group.after
    direction = request.direction or _AHEAD
    group_task = GROUP_TASK.format(number=number) if group.members else None
    for place, action in enumerate(actions, start=1):
        script = action.script
        names = task_names(
            ACTION_TASK,
            key=group.key or f"Group{number}",
            when=when.capitalize(),
            place=place,
            kind="ManualActionTask" if script is None else "ScriptActionTask",
            group=group.name,
            steps="pre-steps" if when == BEFORE else "post-steps",
            action=action.name,
        )
        if script is None:
            yield TaskSpec(*names, manual_action=action.manual, retry=NO_RETRY)
            continue
        # Nobody may repeat a script unasked (docs/decisions/0006-scripts-run-once.md).
        yield TaskSpec(
            *names,
            (direction.place(script.side),),
            Verb.RUN_SCRIPT,
            Target.PLAN,
            seconds=script.seconds + SCRIPT_GRACE_SECONDS,
            go_on_after_failure=group.go_on_past_errors,
            retry=NO_RETRY,
            script=replace(
                script,
                action=action.name,
                group=group.name,
                when=when,
                group_task=group_task,
            ),
        )


def _direction(arguments: Mapping[str, JsonValue]) -> Direction | None:
    value = arguments.get("failover_direction")
    return None if value is None else Direction(str(value))
