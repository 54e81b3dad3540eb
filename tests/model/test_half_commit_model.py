"""A commit that breaks off has removed points: whatever is offered then is carried out.

Both kinds of failover, in each direction; the sites answer by the simulator's own table, and
refuse to go back to points that are gone.
"""

import pytest

from service_hub.domain import item_life
from service_hub.domain.jobs import JobState, TaskState
from service_hub.domain.protection import Operation, ProtectionState, allowed_operations
from tests.support.fabric_walk import Ends, Mishap, Walk, walk
from tests.support.item_walk import NOW, Fate, item_in, run_job
from wire_contract.vocabulary import Side

S, O = ProtectionState, Operation  # noqa: E741 -- one letter, as in the table itself

KINDS = [
    (O.PLANNED_FAILOVER, S.PLANNED_COMMIT_FAILED),
    (O.UNPLANNED_FAILOVER, S.UNPLANNED_COMMIT_FAILED),
]
FAILED_OVER = {
    O.PLANNED_FAILOVER: S.PLANNED_FAILED_OVER,
    O.UNPLANNED_FAILOVER: S.UNPLANNED_FAILED_OVER,
}
WALKED = {O.COMMIT, O.CANCEL_FAILOVER, O.CHANGE_RECOVERY_POINT}
"""What the sites' model can answer; a reversal has tests with the real fabrics."""

HALF = Mishap(failing="VmCommitTask", half=True)


def failed_over(kind: Operation) -> Walk:
    first = item_in(S.PROTECTED, Side.PRIMARY)
    run = walk(first, Ends(), kind, Mishap(), with_source=True)
    assert run.job.state is JobState.SUCCEEDED
    return run


def half_committed(kind: Operation) -> Walk:
    run = failed_over(kind)
    return walk(run.item, run.ends, O.COMMIT, HALF, with_source=True)


def refused(run: Walk) -> list[str]:
    """Return what is offered where a job has left its item, and is not carried out."""
    words = []
    for operation in allowed_operations(run.item.state):
        if operation in WALKED:
            then = walk(run.item, run.ends, operation, Mishap(), with_source=True)
            if then.job.state is not JobState.SUCCEEDED:
                words.append(f"{operation} of {run.item.state}")
    return words


@pytest.mark.parametrize(("kind", "state"), KINDS)
def test_what_is_offered_after_half_a_commit_is_carried_out(
    kind: Operation, state: ProtectionState
) -> None:
    run = half_committed(kind)
    assert run.item.state is state
    assert run.ends.recovery.points_gone
    assert run.item.active_location is Side.RECOVERY
    assert not refused(run)
    done = walk(run.item, run.ends, O.COMMIT, Mishap(), with_source=True)
    assert done.item.state.value.endswith("StatesBegin")
    again = walk(run.item, run.ends, O.COMMIT, HALF, with_source=True)
    assert again.item.state is state, "the second half may break off too"


@pytest.mark.parametrize(("kind", "state"), KINDS)
def test_half_a_commit_in_a_reversal_can_only_be_completed_too(
    kind: Operation, state: ProtectionState
) -> None:
    for active in Side:
        before = item_in(FAILED_OVER[kind], active)
        broken = run_job(before, O.REVERSE_REPLICATE, Fate(failing="VmCommitTask"))
        assert broken.item.state is state
        later = run_job(
            before, O.REVERSE_REPLICATE, Fate(failing="VmPrepareForReverseReplicationTask")
        )
        assert later.item.state.value.endswith("StatesBegin"), "its commit is done"
        again = run_job(broken.item, O.REVERSE_REPLICATE, Fate())
        commit = again.job.run("VmCommitTask")
        assert commit is not None
        assert commit.state is TaskState.SUCCEEDED, "it is committed first"


@pytest.mark.parametrize("then", ["failed", "gone"])
@pytest.mark.parametrize("active", list(Side))
@pytest.mark.parametrize(("kind", "state"), KINDS)
def test_a_cancelled_commit_that_may_have_begun_is_one_too(
    kind: Operation, state: ProtectionState, active: Side, then: str
) -> None:
    fate = Fate(cancelled="VmCommitTask", then=then)
    run = run_job(item_in(FAILED_OVER[kind], active), O.COMMIT, fate)
    assert (run.job.state, run.item.state) == (JobState.CANCELLED, state)


def test_a_commit_that_was_withdrawn_before_it_began_leaves_all_as_it_was() -> None:
    fate = Fate(cancelled="VmCommitTask", then="withdrawn")
    run = run_job(item_in(S.PLANNED_FAILED_OVER, Side.RECOVERY), O.COMMIT, fate)
    assert run.item.state is S.PLANNED_FAILED_OVER
    checked = run_job(
        item_in(S.PLANNED_FAILED_OVER, Side.RECOVERY),
        O.COMMIT,
        Fate(failing="VmCommitPrerequisitesCheckTask"),
    )
    assert checked.item.state is S.PLANNED_FAILED_OVER


def test_half_a_commit_is_restarted_like_any_failed_job() -> None:
    run = half_committed(O.PLANNED_FAILOVER)
    assert "Restart" in run.job.allowed_actions
    item, event = item_life.restart_on_item(run.item, run.job, "p", NOW)
    assert item.state is S.PLANNED_COMMITTING
    assert event.began_in is None, "it goes on where it began"


def test_a_table_that_forgot_half_a_commit_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def forgetful(job: object) -> bool:
        del job
        return False

    monkeypatch.setattr(item_life, "_is_half_done", forgetful)
    run = half_committed(O.PLANNED_FAILOVER)
    assert run.item.state is S.PLANNED_FAILED_OVER
    assert f"{O.CANCEL_FAILOVER} of {S.PLANNED_FAILED_OVER}" in refused(run)
