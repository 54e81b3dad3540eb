"""An unplanned failover waits for a source that stops by itself; others have no such task."""

from datetime import timedelta

import pytest

from service_hub.domain.jobs import Job, TaskRun, TaskState
from service_hub.domain.policies import (
    heartbeat_for,
    policy_problem,
    relationship_settings,
    self_fence_problem,
)
from service_hub.domain.protection import Operation
from service_hub.domain.records import ReplicationPolicy
from service_hub.domain.self_fence import (
    CLOCK_TOLERANCE_SECONDS,
    has_stopped,
    waiting_facts,
    waiting_specs,
    waits_until,
)
from tests.support.hub_world import machine, replication
from tests.support.store_world import NOW
from tests.support.store_world import job as stored_job
from vmm_simulator.hyperv.silence import Act, Heard, act_now, stands_by
from wire_contract.vocabulary import ReplicationMode, ReplicationState, RunState

POLICY = ReplicationPolicy(
    id="p", vault_id="v", name="p", provider_type="HyperVReplica2012R2", self_fence_seconds=60
)


def failed_over(*, shut_down: bool = False, asked: bool = True) -> Job:
    runs = (
        TaskRun(
            task_id="ShutdownVmOnPrimaryForUFO",
            state=TaskState.SUCCEEDED if shut_down else TaskState.FAILED,
        ),
        TaskRun(task_id="FailoverTask", state=TaskState.SUCCEEDED, ended_at=NOW),
    )
    flags = () if asked else ("source_operations_not_required",)
    update = {
        "tasks": runs,
        "flags": flags,
        "context": waiting_facts(Operation.UNPLANNED_FAILOVER, POLICY),
    }
    return stored_job("j").model_copy(update=update)


def test_only_an_unplanned_failover_under_such_a_policy_waits() -> None:
    (spec,) = waiting_specs(Operation.UNPLANNED_FAILOVER, POLICY)
    assert spec.is_check
    assert spec.seconds > POLICY.self_fence_seconds + CLOCK_TOLERANCE_SECONDS
    assert waiting_specs(Operation.PLANNED_FAILOVER, POLICY) == ()
    off = POLICY.model_copy(update={"self_fence_seconds": 0})
    assert waiting_specs(Operation.UNPLANNED_FAILOVER, off) == ()
    assert waiting_facts(Operation.UNPLANNED_FAILOVER, off) == {}
    assert "self_fence_seconds" not in relationship_settings(off, "2012R2")
    assert relationship_settings(POLICY, "2012R2")["self_fence_seconds"] == 60


def test_the_time_runs_from_when_the_replica_took_over() -> None:
    until = NOW + timedelta(seconds=60 + CLOCK_TOLERANCE_SECONDS)
    assert waits_until(failed_over()) == until
    assert waits_until(failed_over(shut_down=True)) is None
    # What was not asked to shut down is only said to have.
    assert waits_until(failed_over(shut_down=True, asked=False)) == until


@pytest.mark.parametrize(
    ("seconds", "update", "stopped"),
    [
        (1, {"run_state": RunState.OFF, "epoch_confirmed": False}, True),
        (1, {"run_state": RunState.OFF, "fenced": True}, True),
        (1, {"run_state": RunState.OFF, "epoch_confirmed": True}, False),
        (1, {"run_state": RunState.RUNNING, "epoch_confirmed": False}, False),
        (1, {"run_state": RunState.PAUSED, "fenced": True}, False),
        (0, {"run_state": RunState.OFF, "fenced": True}, False),
    ],
)
def test_only_a_source_seen_off_since_then_has_stopped(
    seconds: int, update: dict[str, object], *, stopped: bool
) -> None:
    view = machine(
        "m", "tokyo", replication(ReplicationState.REPLICATING, ReplicationMode.PRIMARY)
    ).model_copy(update=update)
    assert has_stopped(failed_over(), view, NOW + timedelta(seconds=seconds)) is stopped
    assert not has_stopped(failed_over(), None, None)


@pytest.mark.parametrize(
    ("seconds", "wrong"), [(-1, True), (0, False), (3600, False), (3601, True)]
)
def test_a_policy_says_how_long(seconds: int, *, wrong: bool) -> None:
    problem = policy_problem(POLICY.model_copy(update={"self_fence_seconds": seconds}))
    assert (problem is not None) is wrong
    assert problem is None or problem.target == "selfFenceSeconds"


@pytest.mark.parametrize(
    ("seconds", "heartbeat", "least"),
    [(0, 60, None), (180, 60, None), (179, 60, 180), (1, 1, 3), (3, 1, None), (3, 1.1, 4)],
)
def test_a_time_that_would_stop_healthy_guests_is_refused(
    seconds: int, heartbeat: float, least: int | None
) -> None:
    policy = POLICY.model_copy(update={"self_fence_seconds": seconds})
    problem = self_fence_problem(policy, timedelta(seconds=heartbeat))
    if least is None:
        assert problem is None
        return
    assert problem is not None
    assert problem.target == "selfFenceSeconds"
    assert f"at least {least}: 3 heartbeats of {heartbeat:g} s" in problem.message
    assert "heartbeat_seconds" in problem.message, "the remedy is said"


def test_who_was_promised_a_time_is_heard_of_often_enough() -> None:
    minute = timedelta(seconds=60)
    off = POLICY.model_copy(update={"self_fence_seconds": 0})
    assert heartbeat_for([], minute) == minute
    assert heartbeat_for([off], 100 * minute) == 100 * minute
    assert heartbeat_for([off, POLICY], minute) == timedelta(seconds=20)
    assert heartbeat_for([POLICY], timedelta(seconds=5)) == timedelta(seconds=5)


@pytest.mark.parametrize(
    ("hub_at", "replica_at", "now", "asked", "act"),
    [
        (0.0, 0.0, 4.9, False, Act.NOTHING),
        (0.0, 0.0, 5.0, False, Act.ASK),
        (0.0, 0.0, 5.0, True, Act.NOTHING),
        (0.0, 0.0, 10.0, True, Act.STOP),
        (9.0, 0.0, 10.0, False, Act.NOTHING),
        (0.0, 9.0, 10.0, False, Act.NOTHING),
        (9.0, 3.0, 19.0, False, Act.STOP),
    ],
)
def test_silence_of_both_alone_stops_a_guest(
    hub_at: float, replica_at: float, now: float, *, asked: bool, act: Act
) -> None:
    assert act_now(Heard(hub_at, replica_at), 10, now, asked=asked) is act


def test_a_replica_that_has_taken_over_is_not_one_that_was_reached() -> None:
    replica, source = ReplicationMode.REPLICA, ReplicationMode.PRIMARY
    assert stands_by(replica, ReplicationState.REPLICATING, 1, 1)
    assert not stands_by(replica, ReplicationState.REPLICATING, 2, 1)
    assert not stands_by(replica, ReplicationState.RECOVERED, 1, 1)
    assert not stands_by(replica, ReplicationState.COMMITTED, 1, 1)
    assert not stands_by(source, ReplicationState.REPLICATING, 1, 1)
