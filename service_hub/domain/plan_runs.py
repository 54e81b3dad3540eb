"""From a recovery plan to the request of a run: groups in order, and the actions that apply; pure.

What a run brings up is taken away in the other order: a clean-up, and a failover that is cancelled
after it, begin with the last group, and with the actions that stand after it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from pydantic import JsonValue

from service_hub.domain.plans import PlanGroup, PlannedAction, PlanRequest, test_environment
from service_hub.domain.protection import Operation
from service_hub.domain.records import ProtectedItem
from service_hub.domain.recovery_plans import GroupType, PlanAction, PlanScript, RecoveryPlan
from service_hub.domain.scenarios import ScriptSpec
from wire_contract.vocabulary import Direction, Side

BACKWARDS: Final = frozenset({Operation.TEST_FAILOVER_CLEANUP, Operation.CANCEL_FAILOVER})
"""Operations that go through the groups from the last to the first."""

_TAKEN_BACK: Final[Mapping[Operation, frozenset[Operation]]] = {
    Operation.TEST_FAILOVER_CLEANUP: frozenset({Operation.TEST_FAILOVER}),
    Operation.CANCEL_FAILOVER: frozenset(
        {Operation.PLANNED_FAILOVER, Operation.UNPLANNED_FAILOVER}
    ),
}
"""Which operations' scripts are undone."""

LEADS: Final[Mapping[GroupType, tuple[str, str]]] = {
    GroupType.SHUTDOWN: ("AllGroupsShutdown", "All groups shutdown"),
    GroupType.FAILOVER: ("AllGroupsFailover", "All groups failover"),
}
"""How the groups without machines are called in a job (behaviour.md, 2.7)."""


def run_request(
    plan: RecoveryPlan,
    operation: Operation,
    arguments: Mapping[str, JsonValue],
    direction: Direction,
    items: Mapping[str, ProtectedItem],
) -> PlanRequest:
    """Return what is to be done to which machines, in which order; `items` are all of the plan's.

    An unplanned failover goes on past what fails, the others stop there (behaviour.md, 2.7).
    """
    backwards = operation in BACKWARDS
    goes_on = operation is Operation.UNPLANNED_FAILOVER
    groups = []
    for number, group in enumerate(plan.boot_groups, start=1):
        before = _actions(group.before, operation, direction)
        after = _actions(group.after, operation, direction)
        groups.append(
            PlanGroup(
                name=f"Group {number}",
                number=number,
                members=group.members,
                go_on_past_errors=goes_on,
                before=tuple(reversed(after)) if backwards else before,
                after=tuple(reversed(before)) if backwards else after,
            )
        )
    leads = [_lead(plan, each, operation, direction) for each in LEADS]
    ordered = [*reversed(groups), *reversed(leads)] if backwards else [*leads, *groups]
    kept = tuple(each for each in ordered if each.members or each.before or each.after)
    has_scripts = any(
        each.script is not None for group in kept for each in (*group.before, *group.after)
    )
    ends = {Side.PRIMARY: plan.primary_provider_id, Side.RECOVERY: plan.recovery_provider_id}
    request = PlanRequest(
        plan_id=plan.id,
        name=plan.name,
        operation=operation,
        groups=kept,
        arguments=arguments,
        direction=direction,
        providers=ends if has_scripts else {},
        machines=_machines(operation, direction, items) if has_scripts else {},
    )
    return request if test_environment(request) is None else replace(request, providers=ends)


def _lead(
    plan: RecoveryPlan, group_type: GroupType, operation: Operation, direction: Direction
) -> PlanGroup:
    key, name = LEADS[group_type]
    actions = _actions(plan.lead(group_type).before, operation, direction)
    if operation in BACKWARDS:
        return PlanGroup(name=name, key=key, members=(), after=tuple(reversed(actions)))
    return PlanGroup(name=name, key=key, members=(), before=actions)


def _actions(
    actions: Sequence[PlanAction], operation: Operation, direction: Direction
) -> tuple[PlannedAction, ...]:
    chosen = []
    for action in actions:
        if action.directions and direction not in action.directions:
            continue
        if operation in action.kinds:
            script = None if action.script is None else _script(action.script, action.script.path)
            chosen.append(PlannedAction(action.name, action.manual, script))
        elif _undoes(action, operation):
            assert action.script is not None, "only scripts have an undo"
            undo = _script(action.script, action.script.undo_path)
            chosen.append(PlannedAction(action.name, "", undo))
    return tuple(chosen)


def _undoes(action: PlanAction, operation: Operation) -> bool:
    """Whether the operation takes back what the action did in an earlier one."""
    taken_back = _TAKEN_BACK.get(operation, frozenset())
    return (
        action.script is not None
        and bool(action.script.undo_path)
        and bool(taken_back.intersection(action.kinds))
    )


def _script(script: PlanScript, path: str) -> ScriptSpec:
    return ScriptSpec(path=path, seconds=script.seconds, side=script.side)


def _machines(
    operation: Operation, direction: Direction, items: Mapping[str, ProtectedItem]
) -> dict[str, JsonValue]:
    """Return each item's name and its copies; at a clean-up the test machine is meant."""
    recovery = direction.place(Side.RECOVERY)
    machines: dict[str, JsonValue] = {}
    for item in items.values():
        copies: dict[str, JsonValue] = {side.value: item.machine_at(side) for side in Side}
        if operation is Operation.TEST_FAILOVER_CLEANUP and item.test_machine_id is not None:
            copies[recovery.value] = item.test_machine_id
        machines[item.id] = {"name": item.friendly_name, **copies}
    return machines
