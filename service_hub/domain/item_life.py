"""From a job to the item that it is about: locked, changed and left by it; pure."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from service_hub.domain.drill_networks import is_made_by_plan
from service_hub.domain.errors import OperationNotAllowedError
from service_hub.domain.job_steps import open_parts
from service_hub.domain.jobs import Job, JobState, RestartRequested, TaskState
from service_hub.domain.network_mapping import attached_by, chosen_by
from service_hub.domain.protection import (
    DESCRIPTIONS,
    FAILED_OVER_STATES,
    TRANSITIONS,
    UNDO_FAILED_STATES,
    Arc,
    Operation,
    ProtectionState,
    TestState,
    arc_in_progress,
    arc_of,
    expected_direction,
)
from service_hub.domain.records import CurrentScenario, FormerItem, ProtectedItem
from service_hub.domain.scenarios import (
    AFTER_DELETION,
    AFTER_FAILED_UNDO,
    OFFLINE_SPECS,
    TAKE_BACK_FIRST,
    TAKE_OVER,
    TaskSpec,
    scenario_key,
)
from service_hub.domain.split_brain import SourceChanges, choice_of
from wire_contract.vocabulary import Direction, Side

_LOOK_BACK = frozenset({Operation.COMMIT, Operation.CHANGE_RECOVERY_POINT})

NEVER_BEGUN_CODES = frozenset({90002, 90007})
"""A provider says so before the first call that changes its fabric: the attempt was withdrawn, or
no operator ordered it (docs/wire-contract.md)."""

REMOVALS = frozenset({Operation.DISABLE, Operation.PURGE})
"""These end the protection."""


def direction_of(
    operation: Operation, active: Side, state: ProtectionState | None = None
) -> Direction:
    """Return the direction a job of this operation has: mostly ahead, away from where it runs.

    A commit and a change of the recovery point look back at the failover that they are about, and
    so does the removal of what is failed over: the relation that there is comes from there.
    """
    ahead = expected_direction(operation, active)
    back = operation in REMOVALS and state in FAILED_OVER_STATES
    # Where the source has the authority back already, an override goes to it once more.
    back |= operation is Operation.OVERRIDE_FENCE and state not in FAILED_OVER_STATES
    if operation not in _LOOK_BACK and not back:
        return ahead
    return (
        Direction.RECOVERY_TO_PRIMARY
        if ahead is Direction.PRIMARY_TO_RECOVERY
        else Direction.PRIMARY_TO_RECOVERY
    )


def key_of(item: ProtectedItem, operation: Operation, arguments: Mapping[str, object]) -> str:
    """Return the plan that an operation on the item has, asked for with these arguments."""
    keeps = choice_of(arguments) is SourceChanges.KEEP
    drill = arguments.get("drill")
    networks = bool(drill) and not is_made_by_plan(drill)
    if operation is Operation.TEST_FAILOVER_CLEANUP:
        networks = item.test_networks
    return scenario_key(
        operation,
        unplanned=item.failed_over_unplanned,
        keeps=keeps,
        networks=networks,
        committed=item.state not in TAKEN_BACK_LATER,
    )


def with_choices(item: ProtectedItem, arguments: Mapping[str, object]) -> ProtectedItem:
    """Return the item as it will be once what a request chose for its adapters is so."""
    chosen = chosen_by(arguments, item.chosen_adapters)
    return item.model_copy(update={"chosen_adapters": chosen})


def _arguments_of(job: Job) -> Mapping[str, object]:
    arguments = job.context.get("arguments")
    return arguments if isinstance(arguments, dict) else {}


def own_specs_of(
    operation: Operation,
    state: ProtectionState,
    *,
    offline: bool,
    deletes: bool = False,
    takes_over: bool = False,
) -> tuple[TaskSpec, ...]:
    """Return the specs that a job beginning in this state has of its own, mostly none.

    `offline`: the item's first copy travels, or is to travel, on a medium. `deletes`: the replica
    goes with its protection. `takes_over`: it replicates already.
    """
    if operation is Operation.DISABLE and deletes:
        return AFTER_DELETION
    if operation is Operation.ENABLE and takes_over:
        return TAKE_OVER
    if offline and operation in OFFLINE_SPECS:
        return OFFLINE_SPECS[operation]
    mends = operation is Operation.PLANNED_FAILOVER and state in UNDO_FAILED_STATES
    return AFTER_FAILED_UNDO if mends else ()


def begin_on_item(item: ProtectedItem, job: Job, now: datetime) -> ProtectedItem:
    """Return the item in its busy state; raises OperationNotAllowedError."""
    assert job.operation is not None, "a job on an item has an operation"
    arc = arc_of(item.state, job.operation)
    test_machine = job.context.get("test_machine_id")
    return item.model_copy(
        update={
            "state": arc.via,
            "current": _current(job, now),
            "left_by": None,
            "test_machine_id": str(test_machine) if test_machine else item.test_machine_id,
            "replica_goes": bool(job.context.get("delete_replica")),
            **_way_of_first_copy(job),
            **_networks_of_test(job),
        }
    )


def _networks_of_test(job: Job) -> dict[str, bool]:
    """Return whether networks are made for the test that begins, nothing for other jobs."""
    if job.operation is not Operation.TEST_FAILOVER:
        return {}
    return {"test_networks": bool(_arguments_of(job).get("drill"))}


def _way_of_first_copy(job: Job) -> dict[str, str]:
    """Return how the copy comes that an enabling asks for, nothing for other jobs."""
    if job.operation is not Operation.ENABLE:
        return {}
    offline = job.own_specs == OFFLINE_SPECS[Operation.ENABLE]
    return {"initial_replication_type": "Offline" if offline else "OverNetwork"}


def restart_on_item(
    item: ProtectedItem, job: Job, principal: str, now: datetime
) -> tuple[ProtectedItem, RestartRequested]:
    """Return the item locked again by a job that has ended, and the event that restarts it.

    Raises OperationNotAllowedError where the item is busy, or is no longer as the job left it: what
    the job was planned on would not hold. A job that never began on the item (it was refused) may
    begin where it would be planned just so today.
    """
    assert job.operation is not None, "a job on an item has an operation"
    event = RestartRequested(now, principal, epoch=item.epoch)
    if item.current is not None:
        raise OperationNotAllowedError(f"Restart of {job.operation}", DESCRIPTIONS[item.state])
    if item.left_by == job.id and job.began_in is not None:
        arc = arc_of(job.began_in, job.operation)
        update = {"state": arc.via, "current": _current(job, now), "left_by": None}
        return item.model_copy(update=update), event
    if not _still_fits(item, job):
        raise OperationNotAllowedError(f"Restart of {job.operation}", DESCRIPTIONS[item.state])
    return begin_on_item(item, job, now), replace(event, began_in=item.state)


def _still_fits(item: ProtectedItem, job: Job) -> bool:
    """Whether a job that never began would be planned in the same way today."""
    assert job.operation is not None, "a job on an item has an operation"
    never_began = all(task.attempt == 0 or not task.parts for task in job.tasks)
    committed = item.state in COMMITTED
    return (
        never_began
        and job.operation in TRANSITIONS.get(item.state, {})
        and job.own_specs in _possible_specs(job.operation, item)
        and job.direction is direction_of(job.operation, item.active_location, item.state)
        and job.scenario_key == key_of(item, job.operation, _arguments_of(job))
        and (job.operation is not Operation.REVERSE_REPLICATE)
        | (committed == ("already_committed" in job.flags))
    )


def _possible_specs(operation: Operation, item: ProtectedItem) -> tuple[tuple[TaskSpec, ...], ...]:
    """Return the specs of its own that a job may have.

    How it copies an enabling itself says, and whether it deletes the replica a removal.
    """
    if operation is Operation.DISABLE:
        return (AFTER_DELETION, ())
    if operation is Operation.ENABLE and item.taken_over:
        return (TAKE_OVER,)
    both = operation is Operation.ENABLE
    ways = (True, False) if both else (item.initial_replication_type == "Offline",)
    return tuple(own_specs_of(operation, item.state, offline=each) for each in ways)


def _current(job: Job, now: datetime) -> CurrentScenario:
    return CurrentScenario(scenario_name=job.scenario.name, job_id=job.id, started_at=now)


def reflect_on_item(item: ProtectedItem, job: Job) -> ProtectedItem:
    """Return the item as the job leaves it: its epoch at once, its state when the job ends."""
    if item.current is None or item.current.job_id != job.id or job.operation is None:
        return item
    if job.epoch > item.epoch:
        holder = Side.RECOVERY if job.authority_moved else Side.PRIMARY
        item = item.model_copy(
            update={"epoch": job.epoch, "authority": job.direction.place(holder)}
        )
    item = _learn_adapters(_learn_places(item, job), job)
    if not job.finished:
        return item
    state = state_after(job, arc_in_progress(item.state, job.operation, job.began_in))
    update: dict[str, Any] = {"state": state, "current": None, "left_by": job.id}
    if job.operation in _FAILOVERS:
        moved = state in _FAILED_OVER
        update["active_location"] = job.direction.place(Side.RECOVERY if moved else Side.PRIMARY)
        if moved:
            update |= {
                "failed_over_unplanned": state is ProtectionState.UNPLANNED_FAILED_OVER,
                "last_failover_at": job.started_at,
                "failover_point_id": _chosen_point(job),
            }
    if job.operation in _GO_BACK and state not in FAILED_OVER_STATES:
        update |= {
            "active_location": job.direction.place(Side.RECOVERY),
            "failed_over_unplanned": False,
            "failover_point_id": None,
        }
    if job.operation is Operation.CHANGE_RECOVERY_POINT and _was_sent(job, POINT_TASK):
        update |= {
            "failed_over_unplanned": state is ProtectionState.UNPLANNED_FAILED_OVER,
            "failover_point_id": _chosen_point(job),
        }
    if state is ProtectionState.TEST_OPEN and job.operation is Operation.TEST_FAILOVER:
        update |= {
            "test_state": TestState.WAITING_FOR_COMPLETION,
            "test_opened_at": job.ended_at,
        }
    if job.state is JobState.SUCCEEDED:
        update |= _after_success(job, item)
        item = with_choices(item, _arguments_of(job))
    return item.model_copy(update=update)


POINT_TASK = "ChangeRecoveryPointTask"


def _was_sent(job: Job, task_id: str) -> bool:
    task = job.run(task_id)
    return task is not None and task.may_hold


def _chosen_point(job: Job) -> str | None:
    """Return the recovery point that was asked for; None: the newest there was."""
    chosen = _arguments_of(job).get("recovery_point")
    return None if chosen is None else str(chosen)


def former_of(item: ProtectedItem, job: Job) -> FormerItem | None:
    """Return what is kept of an item whose protection has ended; None: it is still protected."""
    if item.state is not ProtectionState.UNPROTECTED or not job.finished:
        return None
    return FormerItem(id=item.id, vault_id=item.vault_id, epoch=item.epoch, ended_at=job.ended_at)


def state_after(job: Job, arc: Arc) -> ProtectionState:
    """Return the state in which a job that has ended leaves its item."""
    if job.state is JobState.SUCCEEDED:
        return arc.done
    if job.failed_state is not None:
        return job.failed_state
    if job.undo_incomplete:
        return arc.after_failed_undo
    if arc.half_done is not None and _is_half_done(job):
        return arc.half_done
    return (arc.undone or arc.failed) if _all_taken_back(job) else arc.failed


def _is_half_done(job: Job) -> bool:
    """Whether a task after which there is no way back may have had a part of its effect.

    Not where its only attempt was withdrawn, or held back, before it began.
    """
    for task in job.tasks:
        if not job.spec(task.task_id).no_way_back or not task.may_hold:
            continue
        said = [each.provider_code for each in job.errors if each.task_id == task.task_id]
        begun = task.attempt > 1 or open_parts(task) or set(said) - NEVER_BEGUN_CODES
        if task.state is not TaskState.SUCCEEDED and begun:
            return True
    return False


def _all_taken_back(job: Job) -> bool:
    """Whether both ends are as before any failover: each task that moves one was taken back.

    Or what an earlier job had left was, and nothing has moved one since. Of enabling: whether
    nothing is left of it at either end.
    """
    specs = ((task, job.spec(task.task_id)) for task in job.tasks)
    moving = [task for task, spec in specs if spec.undo_on_failure and spec.undo is not None]
    if job.operation is Operation.ENABLE:
        effects = [task for task in job.tasks if job.spec(task.task_id).undo is not None]
        return job.state is JobState.CANCELLED and not any(task.may_hold for task in effects)
    first = job.run(TAKE_BACK_FIRST.task_id)
    if first is not None and first.state is TaskState.SUCCEEDED:
        return not any(task.may_hold for task in moving)
    return bool(moving) and all(task.taken_back for task in moving)


def provider_to_refresh(before: ProtectedItem, after: ProtectedItem) -> str | None:
    """Return whose copy got the authority back under a new epoch that it has not heard of.

    Only what a failover's undo does: a failover itself tells the new holder by its own command.
    """
    back = after.epoch > before.epoch and after.authority is before.active_location
    return after.provider_at(after.authority) if back else None


_FAILOVERS = frozenset({Operation.PLANNED_FAILOVER, Operation.UNPLANNED_FAILOVER})
"""Only these move a machine; a commit or a reversal that fails ends in the same states."""

TAKEN_BACK_LATER = frozenset(
    {ProtectionState.UNPLANNED_FAILED_OVER, ProtectionState.UNPLANNED_UNDO_FAILED}
)
"""Where an override leaves what can still be taken back; elsewhere it may be committed."""

_GO_BACK = frozenset({Operation.CANCEL_FAILOVER, Operation.OVERRIDE_FENCE})
"""The former source is the item's place again, unless they left it failed over."""

COMMITTED = frozenset({ProtectionState.PLANNED_COMMITTED, ProtectionState.UNPLANNED_COMMITTED})
"""There is no failover left to commit."""

_FAILED_OVER = frozenset(
    {ProtectionState.PLANNED_FAILED_OVER, ProtectionState.UNPLANNED_FAILED_OVER}
)


def _after_success(job: Job, item: ProtectedItem) -> dict[str, Any]:
    match job.operation:
        case Operation.TEST_FAILOVER:
            return {"last_test_failover_at": job.started_at}
        case Operation.TEST_FAILOVER_CLEANUP:
            return {
                "test_state": TestState.MARKED_FOR_DELETION,
                "test_machine_id": None,
                "test_opened_at": None,
                "test_networks": False,
            }
        case Operation.PURGE:
            return {"test_machine_id": None, "test_opened_at": None}
        case Operation.COMPLETE_RECOVERY:
            return {"protected_at": item.protected_at or job.ended_at}
        case Operation.REVERSE_REPLICATE:
            planned = job.scenario_key == "reverse_after_planned"
            return {
                "failed_over_unplanned": False,
                "failover_point_id": None,
                "initial_replication_type": "None" if planned else "OverNetwork",
            }
        case _:
            return {}


_ADAPTERS_SET_BY = ("FailoverTask", "ReplicaConfigurationTask", "VmNicUpdateTask")
"""Tasks after which the adapters of the copy that they went to are as the job wanted them."""


def _learn_adapters(item: ProtectedItem, job: Job) -> ProtectedItem:
    if job.direction is not Direction.PRIMARY_TO_RECOVERY or "adapters" not in job.context:
        return item
    runs = (job.run(each) for each in _ADAPTERS_SET_BY)
    if not any(run is not None and run.state is TaskState.SUCCEEDED for run in runs):
        return item
    adapters = attached_by(job.context["adapters"])
    return item if adapters == item.adapters else item.model_copy(update={"adapters": adapters})


def _learn_places(item: ProtectedItem, job: Job) -> ProtectedItem:
    if job.operation is not Operation.ENABLE:
        return item
    update = {}
    placed = job.context.get("result:CreateProtectionTargetTask")
    if isinstance(placed, dict):
        update["recovery_host"] = str(placed["replica_host"])
    exported = job.context.get("result:StartInitialReplicationTask")
    if isinstance(exported, dict) and "folder" in exported:
        update["offline_folder"] = str(exported["folder"]).rsplit("\\", 1)[-1]
    known = all(getattr(item, name) == value for name, value in update.items())
    return item if known else item.model_copy(update=update)
