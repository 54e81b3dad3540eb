"""Runs a job on a protected item to its end, with failures and a cancellation where they are told.

`begin_on_item`, `decide` and `reflect_on_item` work together as in the engine; every event comes
twice.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from pydantic import JsonValue

from service_hub.domain import decide as decide_module
from service_hub.domain.decide import decide
from service_hub.domain.jobs import (
    UNDO_SUFFIX,
    AskInventory,
    Begun,
    CancelChildren,
    CancelRequested,
    CheckFailed,
    CheckPassed,
    Command,
    Event,
    Job,
    JobError,
    PartFailed,
    PartSucceeded,
    RunCheck,
    StartChildren,
    Tick,
    Withdraw,
)
from service_hub.domain.planning import ItemPlan, JobIdentity, begin_on_item, plan_item_job
from service_hub.domain.planning import reflect_on_item as reflect
from service_hub.domain.protection import (
    FAILED_OVER_STATES,
    TRANSITIONS,
    Operation,
    ProtectionState,
)
from service_hub.domain.records import ProtectedItem, Provider, ReplicationPolicy
from wire_contract.vocabulary import Side

NOW: Final = datetime(2026, 1, 1, tzinfo=UTC)
ERROR: Final = JobError(code="1", message="no", created_at=NOW)
WITHDRAWN: Final = JobError(code="1", message="no", created_at=NOW, provider_code=90002)
RESULT: Final[dict[str, JsonValue]] = {"replica_host": "h", "replica_port": 8084, "last_cut": 1}
UNPLANNED: Final = {
    ProtectionState.UNPLANNED_FAILED_OVER,
    ProtectionState.UNPLANNED_COMMITTED,
    ProtectionState.UNPLANNED_COMMIT_FAILED,
}
AHEAD: Final = {Operation.PLANNED_FAILOVER, Operation.UNPLANNED_FAILOVER}
MOVES: Final = AHEAD | {Operation.CANCEL_FAILOVER}
EVENTS_MAX: Final = 300


def moves(operation: Operation, state: ProtectionState) -> bool:
    """Whether an operation that begins in this state leads the machine to its other end."""
    if operation is Operation.OVERRIDE_FENCE:
        return state in FAILED_OVER_STATES
    return operation in MOVES


Reflect = Callable[[ProtectedItem, Job], ProtectedItem]


@dataclass(frozen=True, slots=True)
class Fate:
    """What happens to a job: where it fails, where it is cancelled, what cannot be taken back.

    `cancelled` names the task that runs when the cancellation comes, `then` what becomes of its
    attempt: done | failed | withdrawn | gone. `stuck` are tasks whose undo fails.
    """

    failing: str | None = None
    cancelled: str | None = None
    then: str = "done"
    stuck: frozenset[str] = frozenset()


@dataclass(slots=True)
class Run:
    """A job and its item, and what was seen on the way."""

    job: Job
    item: ProtectedItem
    reflect: Reflect
    fate: Fate
    waiting: list[Command] = field(default_factory=list)
    transitions: int = 0

    def feed(self, event: Event) -> None:
        """Let the job decide, twice, and the item follow."""
        before = self.item
        self.job, commands = decide(self.job, event)
        if not isinstance(event, Tick):
            assert decide(self.job, event) == (self.job, ()), f"a second {event} did something"
        self.item = self.reflect(self.item, self.job)
        assert self.reflect(self.item, self.job) == self.item, "the item changes at each look"
        assert self.item.epoch >= before.epoch, "an epoch fell"
        self.waiting += [each for each in commands if not isinstance(each, Withdraw)]
        self.transitions += 1

    def to_its_end(self) -> None:
        """Answer whatever is asked until the job has ended."""
        while not self.job.finished:
            assert self.transitions < EVENTS_MAX, "the job does not end"
            self._step(self.waiting.pop(0))

    def _step(self, command: Command) -> None:
        fate = self.fate
        if command.task_id == fate.cancelled and self.job.cancel is None:
            self.feed(CancelRequested(NOW, "p", "no more"))
            if isinstance(command, RunCheck) or self.job.finished:
                return
            if fate.then == "gone":
                due = decide_module.next_deadline(self.job)
                assert due is not None, "a withdrawal has an end"
                self.feed(Tick(due, ERROR))
                return
            if self.job.run(command.task_id) is not None:
                self.feed(_report(command, fate.then))
                return
        failing = command.task_id == fate.failing
        failing |= command.task_id.removesuffix(UNDO_SUFFIX) in fate.stuck and (
            command.task_id.endswith(UNDO_SUFFIX)
        )
        self.feed(_report(command, "failed" if failing else "done"))


def _report(command: Command, kind: str) -> Event:
    task, attempt = command.task_id, command.attempt
    assert not isinstance(command, StartChildren | CancelChildren), "no group in a job on an item"
    if isinstance(command, RunCheck):
        if kind == "failed":
            return CheckFailed(NOW, task, attempt, ERROR)
        return CheckPassed(NOW, task, attempt)
    assert not isinstance(command, AskInventory), "no inventory in a job on an item"
    if kind == "done":
        return PartSucceeded(NOW, task, command.side, attempt, {"result": dict(RESULT)}, NOW)
    error = WITHDRAWN if kind == "withdrawn" else ERROR
    return PartFailed(NOW, task, command.side, attempt, error)


def run_job(
    before: ProtectedItem, operation: Operation, fate: Fate, reflect_on: Reflect = reflect
) -> Run:
    """Run an operation on an item to its end."""
    job = new_job(before, operation)
    run = Run(job, begin_on_item(before, job, NOW), reflect_on, fate)
    run.feed(Begun(NOW))
    run.to_its_end()
    return run


def check_whole(before: ProtectedItem, operation: Operation, run: Run) -> None:
    """An AssertionError names what is not whole about an item after a job."""
    after, fate = run.item, run.fate
    assert after.current is None, f"{fate}: the item stays locked"
    assert after.left_by == run.job.id, f"{fate}: nobody may go on from here"
    assert TRANSITIONS.get(after.state), f"{fate}: {after.state} leads nowhere"
    assert after.authority is after.active_location, f"{fate}: another copy runs than may run"
    moved = after.active_location is not before.active_location
    assert moved <= moves(operation, before.state), f"{fate}: the machine moved"
    failed_over = {ProtectionState.PLANNED_FAILED_OVER, ProtectionState.UNPLANNED_FAILED_OVER}
    if operation is Operation.CANCEL_FAILOVER:
        assert moved == (after.state not in failed_over), f"{fate}: it is back and says otherwise"
    if operation in AHEAD:
        assert moved == (after.state in failed_over), f"{fate}: it moved and does not say so"
    assert after.epoch > before.epoch or after.authority is before.authority, f"{fate}: same epoch"
    if after.state in UNPLANNED:
        assert after.failed_over_unplanned, f"{fate}: the kind of failover was forgotten"
    if after.state is ProtectionState.TEST_OPEN:
        assert after.test_machine_id, f"{fate}: nobody knows what to clean up"
    if run.job.undo_incomplete:
        unknown = {ProtectionState.PROTECTED, ProtectionState.UNPROTECTED}
        assert after.state not in unknown, f"{fate}: what could not be taken back is forgotten"


def item_in(state: ProtectionState, active: Side) -> ProtectedItem:
    """Return an item in a state, running at one end."""
    is_open = state is ProtectionState.TEST_OPEN
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
        test_machine_id="t" if is_open else None,
        test_opened_at=NOW - timedelta(days=1) if is_open else None,
        active_location=active,
        authority=active,
        epoch=5,
        failed_over_unplanned=state in UNPLANNED,
    )


def new_job(before: ProtectedItem, operation: Operation, job_id: str = "j") -> Job:
    """Return the job of an operation on an item."""
    policy = ReplicationPolicy(id="p", vault_id="v", name="p", provider_type="HyperVReplica2012R2")
    plan = ItemPlan(before, policy, provider("a"), provider("b"), {}, None)
    arguments: dict[str, JsonValue] = {"test_machine_id": "t", "source_operations_required": True}
    return plan_item_job(plan, operation, arguments, JobIdentity(job_id, "activity", NOW))


def provider(name: str) -> Provider:
    """Return a provider of this name."""
    return Provider(id=name, vault_id="v", vmm_id=f"vmm-{name}", fabric_name=name, enrolled_at=NOW)
