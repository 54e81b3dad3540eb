"""Small plans that a model check can walk in whole, and jobs of any plan."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from service_hub.domain.jobs import Job, JobError, TaskRun
from service_hub.domain.protection import Operation, ProtectionState
from service_hub.domain.scenarios import (
    NO_RETRY,
    SCENARIOS,
    SETTLING_RETRY,
    GroupSpec,
    RetryPolicy,
    TaskSpec,
)
from wire_contract.vocabulary import Direction, Side, Verb

NOW: Final = datetime(2026, 1, 1, tzinfo=UTC)
ERROR: Final = JobError(code="1", message="no", created_at=NOW, provider_code=32775)
BUSY: Final = JobError(code="2", message="busy", created_at=NOW, provider_code=32774)
WITHDRAWN: Final = JobError(code="3", message="withdrawn", created_at=NOW, provider_code=90002)

_P, _R = (Side.PRIMARY,), (Side.RECOVERY,)
_BOTH = (Side.PRIMARY, Side.RECOVERY)
_ONCE: Final = RetryPolicy()
_TWICE: Final = RetryPolicy(attempts_max=2, pause_seconds=5, codes=frozenset({32774}))

PLANS: Final[Mapping[str, tuple[TaskSpec, ...]]] = {
    # A recovery plan: groups of child jobs with a person in between.
    "groups": (
        TaskSpec(
            "first",
            "n",
            "first",
            group=GroupSpec(Operation.PLANNED_FAILOVER, ("a", "b"), go_on_past_errors=True),
        ),
        TaskSpec("person", "n", "person", manual_action="check the network"),
        TaskSpec("none", "n", "none", group=GroupSpec(Operation.PLANNED_FAILOVER, ())),
        TaskSpec("second", "n", "second", group=GroupSpec(Operation.PLANNED_FAILOVER, ("c",))),
        TaskSpec("after", "n", "after", _R, Verb.START, undo=Verb.SHUT_DOWN, retry=_ONCE),
    ),
    # Past failures, and past the point of no return.
    "past": (
        TaskSpec(
            "stop",
            "n",
            "stop",
            _P,
            Verb.SHUT_DOWN,
            undo=Verb.START,
            go_on_after_failure=True,
            retry=_ONCE,
        ),
        TaskSpec("commit", "n", "commit", _R, Verb.COMMIT, no_way_back=True, retry=_TWICE),
        TaskSpec("skip", "n", "skip", skipped_if="never"),
        TaskSpec("update", "n", "update", _BOTH, Verb.UPDATE_PROTECTION, retry=_ONCE),
    ),
    # A failover in small: what is done can be taken back, and who is active changes in between.
    "move": (
        TaskSpec("check", "n", "check"),
        TaskSpec("stop", "n", "stop", _P, Verb.SHUT_DOWN, undo=Verb.START, retry=_TWICE),
        TaskSpec(
            "move",
            "n",
            "move",
            _R,
            Verb.FAIL_OVER,
            undo=Verb.CANCEL_FAILOVER,
            undo_on_failure=True,
            raises_epoch=True,
            leaves=ProtectionState.PLANNED_FAILED_OVER,
            retry=_ONCE,
        ),
        TaskSpec(
            "start",
            "n",
            "start",
            _R,
            Verb.START,
            undo=Verb.SHUT_DOWN,
            undo_must_hold=True,
            retry=_ONCE,
        ),
    ),
    # Both ends at once, tried again, taken back on both.
    "pair": (
        TaskSpec("prepare", "n", "prepare", _BOTH, Verb.PREPARE_CLOUD, retry=_TWICE),
        TaskSpec("pair", "n", "pair", _BOTH, Verb.PAIR_CLOUD, undo=Verb.UNPAIR_CLOUD, retry=_ONCE),
        TaskSpec("ask", "n", "ask", _P, asks_inventory=True),
    ),
}
"""Every kind of task and of way between them, in plans as short as they can be."""


def job_of(specs: tuple[TaskSpec, ...], **changes: object) -> Job:
    """Return a job of its own specs, not begun."""
    tasks = tuple(TaskRun(task_id=spec.task_id) for spec in specs)
    return _job("commit", tasks).model_copy(update={"own_specs": specs, **changes})


def scenario_job(
    key: str,
    flags: tuple[str, ...] = (),
    direction: Direction = Direction.PRIMARY_TO_RECOVERY,
) -> Job:
    """Return a job of a recorded scenario, not begun.

    A task that waits for ends to settle is tried once only: ten pauses are ten times the same, and
    every order of events multiplies them.
    """
    specs = SCENARIOS[key].tasks
    tasks = tuple(TaskRun(task_id=spec.task_id) for spec in specs)
    own = tuple(replace(each, retry=NO_RETRY) for each in specs if each.retry == SETTLING_RETRY)
    update = {"flags": flags, "direction": direction, "own_specs": own}
    return _job(key, tasks).model_copy(update=update)


def _job(key: str, tasks: tuple[TaskRun, ...]) -> Job:
    return Job(
        id="j",
        vault_id="v",
        scenario_key=key,
        operation=None,
        target_object_id="t",
        target_object_name="t",
        activity_id="a",
        tasks=tasks,
        created_at=NOW,
        epoch=1,
    )
