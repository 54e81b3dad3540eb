"""Every operation, failing, cancelled and not taken back at every task: the item stays whole.

From each state that an operation starts from and for both directions: what follows is a state of
the table, an allowed operation leads on from it, and a restart completes what was begun.
"""

from collections.abc import Callable, Iterator

import pytest

from service_hub.domain.errors import OperationNotAllowedError
from service_hub.domain.item_life import begin_on_item, reflect_on_item, restart_on_item
from service_hub.domain.jobs import Job, JobState
from service_hub.domain.planning import stopped_at_prerequisites
from service_hub.domain.protection import TRANSITIONS, Operation, ProtectionState
from service_hub.domain.records import ProtectedItem
from tests.support.item_walk import (
    ERROR,
    NOW,
    Fate,
    Reflect,
    Run,
    check_whole,
    item_in,
    moves,
    new_job,
    run_job,
)
from wire_contract.vocabulary import Side

S, O = ProtectionState, Operation  # noqa: E741 -- one letter, as in the table itself
ENDINGS = ("done", "failed", "withdrawn", "gone")


def starts() -> Iterator[tuple[ProtectionState, Operation, Side]]:
    for state, arcs in TRANSITIONS.items():
        for operation in arcs:
            for active in Side:
                yield state, operation, active


def fates(job: Job) -> Iterator[Fate]:
    """Return every way to fail, to be cancelled, and to be stuck while taking back."""
    tasks = [task.task_id for task in job.tasks]
    undone = [each for each in tasks if job.spec(each).undo is not None]
    stuck = [frozenset({each}) for each in undone]
    for left in (frozenset[str](), *stuck, frozenset(undone)):
        for task in tasks:
            yield Fate(failing=task, stuck=left)
            for then in ENDINGS:
                yield Fate(cancelled=task, then=then, stuck=left)


def leads_on(run: Run) -> bool:
    """Whether some operation from the item's state runs to its end."""
    present = run.item
    for operation, arc in TRANSITIONS[present.state].items():
        following = run_job(present, operation, Fate())
        if following.item.state is arc.done:
            return True
    return False


def walk(
    state: ProtectionState, operation: Operation, active: Side, reflect: Reflect = reflect_on_item
) -> tuple[set[ProtectionState], int]:
    """Run an operation under every fate; return the states seen and how often a job decided."""
    before = item_in(state, active)
    ends, transitions = set(), 0
    for fate in fates(new_job(before, operation)):
        run = run_job(before, operation, fate, reflect)
        check_whole(before, operation, run)
        assert leads_on(run), f"{fate}: no way on from {run.item.state}"
        ends.add(run.item.state)
        transitions += run.transitions
    return ends, transitions


def test_failure_cancellation_and_failed_undo_anywhere_leave_a_whole_item_and_a_way_on(
    tell: Callable[[str], None],
) -> None:
    seen, ends, transitions = 0, set(), 0
    for start in starts():
        reached, decided = walk(*start)
        seen += len(reached)
        ends |= reached
        transitions += decided
    tell(
        f"protection table: {seen} ends in {len(ends)} states, {transitions} transitions,"
        f" from {len(list(starts()))} beginnings"
    )
    assert {S.PLANNED_UNDO_FAILED, S.UNPLANNED_UNDO_FAILED, S.TEST_OPEN} <= ends


@pytest.mark.parametrize(("state", "operation", "active"), list(starts()))
def test_success_reaches_the_end_of_the_arc(
    state: ProtectionState, operation: Operation, active: Side
) -> None:
    before = item_in(state, active)
    run = run_job(before, operation, Fate())
    check_whole(before, operation, run)
    assert run.item.state is TRANSITIONS[state][operation].done
    assert (run.item.active_location is not active) == moves(operation, state)


@pytest.mark.parametrize(("state", "operation", "active"), list(starts()))
def test_a_restart_after_any_failure_completes_what_was_begun(
    state: ProtectionState, operation: Operation, active: Side
) -> None:
    before = item_in(state, active)
    for fate in fates(new_job(before, operation)):
        run = run_job(before, operation, fate)
        if "Restart" not in run.job.allowed_actions:
            continue
        fence, state_left = run.job.fence, run.item.state
        run.item, event = restart_on_item(run.item, run.job, "p", NOW)
        assert run.item.state is TRANSITIONS[state][operation].via
        run.fate = Fate()
        run.waiting.clear()
        run.feed(event)
        run.to_its_end()
        check_whole(before, operation, run)
        assert run.job.state is JobState.SUCCEEDED, f"{fate}: restarted from {state_left}"
        assert run.item.state is TRANSITIONS[state][operation].done
        assert run.job.fence > fence


def test_what_another_job_has_changed_is_not_gone_on_with() -> None:
    run = run_job(
        item_in(S.PROTECTED, Side.PRIMARY), O.PLANNED_FAILOVER, Fate(failing="FailoverTask")
    )
    assert run.item.state is S.PROTECTED
    other = new_job(run.item, O.TEST_FAILOVER, "other")
    busy = begin_on_item(run.item, other, NOW)
    with pytest.raises(OperationNotAllowedError):
        restart_on_item(busy, run.job, "p", NOW)
    free = busy.model_copy(update={"current": None, "state": S.PROTECTED})
    with pytest.raises(OperationNotAllowedError):
        restart_on_item(free, run.job, "p", NOW)


def test_a_job_that_was_refused_begins_when_its_plan_fits_again() -> None:
    present = item_in(S.PROTECTED, Side.PRIMARY)
    job = stopped_at_prerequisites(new_job(present, O.PLANNED_FAILOVER), ERROR, NOW)
    assert job.began_in is None
    locked, event = restart_on_item(present, job, "p", NOW)
    assert locked.state is S.PLANNED_FAILING_OVER
    assert event.began_in is S.PROTECTED
    elsewhere = item_in(S.PROTECTED, Side.RECOVERY)
    with pytest.raises(OperationNotAllowedError):
        restart_on_item(elsewhere, job, "p", NOW)


@pytest.mark.parametrize(
    ("operation", "fate", "state"),
    [
        (O.PLANNED_FAILOVER, Fate(cancelled="ShutdownVmOnPrimary"), S.PROTECTED),
        (O.PLANNED_FAILOVER, Fate(cancelled="StartVmOnSecondary"), S.PROTECTED),
        (O.PLANNED_FAILOVER, Fate(failing="StartVmOnSecondary"), S.PLANNED_FAILED_OVER),
        (
            O.PLANNED_FAILOVER,
            Fate(failing="FailoverTask", stuck=frozenset({"FailoverTask"})),
            S.PLANNED_UNDO_FAILED,
        ),
        # A copy that could not be shut down still runs: the failover stands.
        (
            O.PLANNED_FAILOVER,
            Fate(cancelled="StartVmOnSecondary", stuck=frozenset({"StartVmOnSecondary"})),
            S.PLANNED_FAILED_OVER,
        ),
        (
            O.UNPLANNED_FAILOVER,
            Fate(cancelled="StartVmOnSecondary", stuck=frozenset({"FailoverTask"})),
            S.UNPLANNED_UNDO_FAILED,
        ),
        (
            O.TEST_FAILOVER,
            Fate(cancelled="BootTestProtectedEntitiesTask"),
            S.PROTECTED,
        ),
        (
            O.TEST_FAILOVER,
            Fate(
                failing="BootTestProtectedEntitiesTask",
                stuck=frozenset({"BeginTestFailoverTask"}),
            ),
            S.TEST_OPEN,
        ),
    ],
)
def test_where_a_cancellation_and_a_failed_undo_lead(
    operation: Operation, fate: Fate, state: ProtectionState
) -> None:
    run = run_job(item_in(S.PROTECTED, Side.PRIMARY), operation, fate)
    assert run.item.state is state


def test_a_commit_that_was_cancelled_too_late_is_a_commit() -> None:
    before = item_in(S.PLANNED_FAILED_OVER, Side.RECOVERY)
    run = run_job(before, O.COMMIT, Fate(cancelled="VmCommitTask", then="done"))
    assert (run.job.state, run.item.state) == (JobState.SUCCEEDED, S.PLANNED_COMMITTED)
    run = run_job(before, O.COMMIT, Fate(cancelled="VmCommitTask", then="withdrawn"))
    assert (run.job.state, run.item.state) == (JobState.CANCELLED, S.PLANNED_FAILED_OVER)


def test_a_full_undo_mends_what_an_earlier_one_left() -> None:
    before = item_in(S.PLANNED_UNDO_FAILED, Side.PRIMARY)
    run = run_job(before, O.PLANNED_FAILOVER, Fate(cancelled="StartVmOnSecondary"))
    assert run.item.state is S.PROTECTED
    run = run_job(before, O.PLANNED_FAILOVER, Fate(cancelled="ShutdownVmOnPrimary"))
    assert run.item.state is S.PROTECTED
    run = run_job(before, O.PLANNED_FAILOVER, Fate(failing="TakeBackFailoverTask"))
    assert run.item.state is S.PLANNED_UNDO_FAILED


# --------------------------------------------------------------------------------- planted bugs


def _stays_locked(item: ProtectedItem, job: Job) -> ProtectedItem:
    after = reflect_on_item(item, job)
    return after.model_copy(update={"current": item.current}) if job.finished else after


def _stays_busy(item: ProtectedItem, job: Job) -> ProtectedItem:
    after = reflect_on_item(item, job)
    return after.model_copy(update={"state": item.state})


def _forgets_a_failed_undo(item: ProtectedItem, job: Job) -> ProtectedItem:
    return reflect_on_item(item, job.model_copy(update={"undo_incomplete": False}))


def _forgets_what_lasts(item: ProtectedItem, job: Job) -> ProtectedItem:
    return reflect_on_item(item, job.model_copy(update={"failed_state": None}))


def _keeps_the_authority(item: ProtectedItem, job: Job) -> ProtectedItem:
    return reflect_on_item(item, job).model_copy(update={"authority": item.authority})


def _keeps_the_epoch(item: ProtectedItem, job: Job) -> ProtectedItem:
    return reflect_on_item(item, job).model_copy(update={"epoch": item.epoch})


def _moves_the_machine_with_every_job(item: ProtectedItem, job: Job) -> ProtectedItem:
    after = reflect_on_item(item, job)
    moves = {"active_location": job.direction.place(Side.RECOVERY)}
    return after.model_copy(update=moves) if job.finished else after


def _forgets_the_test_machine(item: ProtectedItem, job: Job) -> ProtectedItem:
    after = reflect_on_item(item, job)
    failed = job.finished and job.state is not JobState.SUCCEEDED
    return after.model_copy(update={"test_machine_id": None}) if failed else after


def _lets_the_epoch_fall(item: ProtectedItem, job: Job) -> ProtectedItem:
    after = reflect_on_item(item, job)
    return after.model_copy(update={"epoch": after.epoch - 1}) if job.undoing else after


BUGS = (
    _stays_locked,
    _stays_busy,
    _forgets_a_failed_undo,
    _forgets_what_lasts,
    _keeps_the_authority,
    _keeps_the_epoch,
    _moves_the_machine_with_every_job,
    _forgets_the_test_machine,
    _lets_the_epoch_fall,
)


def caught(bug: Reflect) -> bool:
    try:
        for operation in (O.PLANNED_FAILOVER, O.UNPLANNED_FAILOVER, O.TEST_FAILOVER):
            walk(S.PROTECTED, operation, Side.PRIMARY, bug)
    except (AssertionError, OperationNotAllowedError):
        return True
    return False


def test_planted_bugs_of_the_table_are_caught(tell: Callable[[str], None]) -> None:
    missed = [bug.__name__ for bug in BUGS if not caught(bug)]
    tell(f"protection table: {len(BUGS) - len(missed)} of {len(BUGS)} planted bugs caught")
    assert not missed
