"""How long an unplanned failover waits before it starts its copy, where sources stop by themselves.

Architecture, decision 4: a source that reaches neither hub nor replica stops after the policy's
`selfFenceSeconds`. The replica counts as reached no more once it is failed over: from then on the
source has that long, and its host a moment to look and to end the guest. Pure.
"""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from pydantic import JsonValue

from service_hub.domain.jobs import Job, TaskState
from service_hub.domain.protection import Operation
from service_hub.domain.records import ReplicationPolicy
from service_hub.domain.scenarios import TaskSpec
from wire_contract.vmm_interface import MachineView
from wire_contract.vocabulary import RunState
from wire_contract.vocabulary.task_names import task_names

SELF_FENCE_TASK: Final = "WaitForSelfFenceTask"
SELF_FENCE_FOLLOWS: Final = "FailoverTask"

CLOCK_TOLERANCE_SECONDS: Final = 15
"""What clocks may go apart meanwhile, and a host may take to look and to end a guest."""

_SPARE_SECONDS: Final = 300
_CONTEXT: Final = "self_fence_seconds"
_SHUT_DOWN_TASK: Final = "ShutdownVmOnPrimaryForUFO"

_WAIT: Final = TaskSpec(*task_names(SELF_FENCE_TASK))


def waiting_specs(operation: Operation, policy: ReplicationPolicy) -> tuple[TaskSpec, ...]:
    """Return the task that such a failover has besides; none where sources go on for ever."""
    if operation is not Operation.UNPLANNED_FAILOVER or policy.self_fence_seconds == 0:
        return ()
    seconds = policy.self_fence_seconds + CLOCK_TOLERANCE_SECONDS + _SPARE_SECONDS
    return (replace(_WAIT, seconds=seconds),)


def waiting_facts(operation: Operation, policy: ReplicationPolicy) -> dict[str, JsonValue]:
    """Return what such a failover's job keeps of the policy, as it was when it was planned."""
    if not waiting_specs(operation, policy):
        return {}
    return {_CONTEXT: policy.self_fence_seconds}


def waits_until(job: Job) -> datetime | None:
    """Return when the source has stopped, whatever it does; None: it was shut down by this job."""
    shut_down, failed_over = job.run(_SHUT_DOWN_TASK), job.run(SELF_FENCE_FOLLOWS)
    asked = "source_operations_not_required" not in job.flags
    if asked and shut_down is not None and shut_down.state is TaskState.SUCCEEDED:
        return None
    assert failed_over is not None, "a failover has its task"
    policy_seconds = job.context[_CONTEXT]
    assert isinstance(policy_seconds, int), "who waits knows how long"
    assert failed_over.ended_at is not None, "the wait comes after it"
    return failed_over.ended_at + timedelta(seconds=policy_seconds + CLOCK_TOLERANCE_SECONDS)


def has_stopped(job: Job, source: MachineView | None, seen_at: datetime | None) -> bool:
    """Return whether the source was seen off since the copy took over."""
    failed_over = job.run(SELF_FENCE_FOLLOWS)
    if source is None or seen_at is None or failed_over is None or failed_over.ended_at is None:
        return False
    # Off and not confirmed, or fenced: nothing there starts it again before the hub says so.
    held = source.fenced or not source.epoch_confirmed
    return seen_at > failed_over.ended_at and source.run_state is RunState.OFF and held
