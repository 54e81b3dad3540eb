"""Every operation, failing at every task: the item ends in a state of the table, and whole.

Walks `begin_on_item`, `decide` and `reflect_on_item` together, from each state an operation starts
from and for both directions.
"""

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from pydantic import JsonValue

from service_hub.domain.decide import decide
from service_hub.domain.jobs import (
    AskInventory,
    Begun,
    CheckFailed,
    CheckPassed,
    Command,
    Dispatch,
    Event,
    Job,
    JobError,
    PartFailed,
    PartSucceeded,
    RunCheck,
    Withdraw,
)
from service_hub.domain.planning import (
    ItemPlan,
    JobIdentity,
    begin_on_item,
    plan_item_job,
    reflect_on_item,
)
from service_hub.domain.protection import TRANSITIONS, Operation, ProtectionState
from service_hub.domain.records import ProtectedItem, Provider, ReplicationPolicy
from wire_contract.vocabulary import Side

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ERROR = JobError(code="1", message="no", created_at=NOW)
RESULT: dict[str, JsonValue] = {"replica_host": "h", "replica_port": 8084, "last_cut": 1}
MOVES = {Operation.PLANNED_FAILOVER, Operation.UNPLANNED_FAILOVER}
UNPLANNED = {ProtectionState.UNPLANNED_FAILED_OVER, ProtectionState.UNPLANNED_COMMITTED}


def starts() -> Iterator[tuple[ProtectionState, Operation, Side]]:
    for state, arcs in TRANSITIONS.items():
        for operation in arcs:
            for active in Side:
                yield state, operation, active


def item(state: ProtectionState, active: Side) -> ProtectedItem:
    return ProtectedItem(
        id="i",
        vault_id="v",
        friendly_name="web01",
        mapping_id="m",
        policy_id="p",
        primary_provider_id="a",
        primary_cloud_id="ca",
        primary_machine_id="i",
        primary_host="ha",
        recovery_provider_id="b",
        recovery_cloud_id="cb",
        recovery_machine_id="r",
        recovery_host="hb",
        relationship_id="rel",
        state=state,
        test_machine_id="t",
        active_location=active,
        authority=active,
        epoch=5,
        failed_over_unplanned=state in UNPLANNED,
    )


def provider(name: str) -> Provider:
    return Provider(id=name, vault_id="v", vmm_id=f"vmm-{name}", fabric_name=name, enrolled_at=NOW)


def new_job(before: ProtectedItem, operation: Operation) -> Job:
    policy = ReplicationPolicy(id="p", vault_id="v", name="p", provider_type="HyperVReplica2012R2")
    plan = ItemPlan(before, policy, provider("a"), provider("b"), {}, None)
    arguments: dict[str, JsonValue] = {"test_machine_id": "t", "source_operations_required": True}
    return plan_item_job(plan, operation, arguments, JobIdentity("j", "activity", NOW))


def answer(command: Command, failing: str | None) -> Event:
    task, attempt = command.task_id, command.attempt
    if isinstance(command, RunCheck):
        if task == failing:
            return CheckFailed(NOW, task, attempt, ERROR)
        return CheckPassed(NOW, task, attempt)
    assert isinstance(command, Dispatch | AskInventory | Withdraw)
    if task == failing:
        return PartFailed(NOW, task, command.side, attempt, ERROR)
    return PartSucceeded(NOW, task, command.side, attempt, {"result": dict(RESULT)}, NOW)


def run(before: ProtectedItem, operation: Operation, failing: str | None) -> ProtectedItem:
    job = new_job(before, operation)
    present = begin_on_item(before, job, NOW)
    job, waiting = decide(job, Begun(NOW))
    present = reflect_on_item(present, job)
    epochs = [before.epoch]
    for _ in range(200):
        if job.finished:
            break
        command, *rest = waiting
        job, more = decide(job, answer(command, failing))
        waiting = (*rest, *more)
        present = reflect_on_item(present, job)
        epochs.append(present.epoch)
    assert job.finished
    assert epochs == sorted(epochs), "an epoch fell"
    return present


@pytest.mark.parametrize(("state", "operation", "active"), list(starts()))
def test_success_and_failure_at_any_task_leave_a_whole_item(
    state: ProtectionState, operation: Operation, active: Side
) -> None:
    before = item(state, active)
    tasks = [task.task_id for task in new_job(before, operation).tasks]
    for failing in (None, *tasks):
        after = run(before, operation, failing)
        assert after.current is None
        assert TRANSITIONS.get(after.state), f"{after.state} leads nowhere ({failing} failed)"
        assert after.authority is after.active_location, f"{failing} failed"
        moved = after.active_location is not before.active_location
        assert moved <= (operation in MOVES), f"{failing} failed and the machine moved"
        if failing is None:
            assert moved == (operation in MOVES)
            assert after.state is TRANSITIONS[state][operation].done
        assert (after.epoch > before.epoch) or after.authority is before.authority
        if after.state in UNPLANNED:
            assert after.failed_over_unplanned, f"{failing} failed and the kind was forgotten"
