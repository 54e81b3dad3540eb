"""Planted bugs: the walk over `decide` finds each of them, or it would not find the real ones."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final

from service_hub.domain.decide import decide
from service_hub.domain.jobs import (
    UNDO_SUFFIX,
    Begun,
    CancelRequested,
    CheckPassed,
    ChildrenEnded,
    Decision,
    Dispatch,
    Event,
    Job,
    JobState,
    PartFailed,
    PartSucceeded,
    RestartRequested,
    RunCheck,
    TaskRun,
    TaskState,
    Tick,
    Withdraw,
)
from tests.support.job_plans import ERROR, NOW, PLANS, job_of
from tests.support.job_walk import Decide, explore

LATER: Final = NOW + timedelta(days=1)


def _forgets_attempts(job: Job, event: Event) -> Decision:
    """Begin a task anew whenever its success is reported again."""
    run = job.run(event.task_id) if isinstance(event, PartSucceeded) else None
    if run is None or run.state is not TaskState.SUCCEEDED:
        return decide(job, event)
    anew = run.model_copy(update={"state": TaskState.NOT_STARTED, "attempt": 0})
    tasks = tuple(anew if task.task_id == run.task_id else task for task in job.tasks)
    update = {"tasks": tasks, "state": JobState.NOT_STARTED}
    return decide(job.model_copy(update=update), Begun(NOW))


def _ends_too_early(job: Job, event: Event) -> Decision:
    after, commands = decide(job, event)
    if isinstance(event, PartSucceeded) and not after.finished and len(commands) == 1:
        return after.model_copy(update={"state": JobState.SUCCEEDED}), ()
    return after, commands


def _loses_the_only_command(job: Job, event: Event) -> Decision:
    after, commands = decide(job, event)
    if isinstance(event, CheckPassed):
        tasks = _each(after, deadline=None)
        return after.model_copy(update={"tasks": tasks}), ()
    return after, commands


def _keeps_the_epoch(job: Job, event: Event) -> Decision:
    after, commands = decide(job, event)
    return after.model_copy(update={"authority_moved": False}), commands


def _keeps_authority_when_undoing(job: Job, event: Event) -> Decision:
    after, commands = decide(job, event)
    if after.undoing:
        after = after.model_copy(update={"authority_moved": True})
    return after, commands


def _sends_twice(job: Job, event: Event) -> Decision:
    after, commands = decide(job, event)
    if isinstance(event, PartFailed) and not commands:
        return after, (RunCheck(after.tasks[0].task_id, 1),)
    return after, commands


def _succeeds_after_failure(job: Job, event: Event) -> Decision:
    after, commands = decide(job, event)
    if after.state is JobState.FAILED:
        return after.model_copy(update={"state": JobState.SUCCEEDED}), commands
    return after, commands


def _does_not_wait_for_withdrawals(job: Job, event: Event) -> Decision:
    """Go on as if the provider were gone as soon as an attempt was given up."""
    after, commands = decide(job, event)
    if not any(isinstance(command, Withdraw) for command in commands):
        return after, commands
    after, more = decide(after, Tick(LATER, ERROR))
    return after, (*commands, *more)


def _withdraws_nothing_and_ends(job: Job, event: Event) -> Decision:
    """End with the deadline, as if nothing were under way."""
    after, commands = decide(job, event)
    if isinstance(event, Tick) and not after.finished:
        tasks = _each(after, state=TaskState.FAILED, withdrawing=None)
        update = {"state": JobState.FAILED, "tasks": tasks, "errors": (ERROR,)}
        return after.model_copy(update=update), ()
    return after, commands


def _goes_on_after_cancel(job: Job, event: Event) -> Decision:
    if job.cancel is None or not isinstance(event, PartSucceeded):
        return decide(job, event)
    after, commands = decide(job.model_copy(update={"cancel": None}), event)
    return after.model_copy(update={"cancel": job.cancel}), commands


def _ends_at_once_when_cancelled(job: Job, event: Event) -> Decision:
    after, commands = decide(job, event)
    if isinstance(event, CancelRequested) and not after.finished and not after.undoing:
        tasks = _each(after, state=TaskState.CANCELLED)
        return after.model_copy(update={"state": JobState.CANCELLED, "tasks": tasks}), commands
    return after, commands


def _takes_nothing_back(job: Job, event: Event) -> Decision:
    after, commands = decide(job, event)
    if after.undoing and not job.undoing and after.cancel is not None:
        return after.model_copy(update={"state": JobState.CANCELLED, "undo": ()}), ()
    return after, commands


def _takes_back_the_oldest_first(job: Job, event: Event) -> Decision:
    after, commands = decide(job, event)
    if not after.undoing or job.undoing:
        return after, commands
    now_first, *others = after.undo[::-1]
    deadline = LATER
    update = {"state": TaskState.IN_PROGRESS, "attempt": 1, "deadline": deadline}
    first = now_first.model_copy(update=update)
    update = {"state": TaskState.NOT_STARTED, "attempt": 0, "deadline": None}
    waits = tuple(each.model_copy(update=update) for each in others)
    name = first.task_id + UNDO_SUFFIX
    sent = (Dispatch(name, first.side, 1, first.verb, deadline),)
    return after.model_copy(update={"undo": (first, *waits)}), sent


def _goes_past_what_must_hold(job: Job, event: Event) -> Decision:
    specs = tuple(
        type(spec)(**{**_fields(spec), "undo_must_hold": False}) for spec in job.own_specs
    )
    after, commands = decide(job.model_copy(update={"own_specs": specs}), event)
    return after.model_copy(update={"own_specs": job.own_specs}), commands


def _counts_anew_after_a_restart(job: Job, event: Event) -> Decision:
    if isinstance(event, RestartRequested) and job.state is JobState.FAILED:
        return decide(job.model_copy(update={"tasks": _each(job, attempt=0)}), event)
    return decide(job, event)


def _restarts_under_the_same_fence(job: Job, event: Event) -> Decision:
    after, commands = decide(job, event)
    return after.model_copy(update={"fence": job.fence}), commands


def _tries_for_ever(job: Job, event: Event) -> Decision:
    after, commands = decide(job, event)
    if any(task.retry_at is not None for task in after.tasks):
        return after.model_copy(update={"tasks": _each(after, tries=1)}), commands
    return after, commands


def _forgets_to_try_again(job: Job, event: Event) -> Decision:
    after, commands = decide(job, event)
    return after.model_copy(update={"tasks": _each(after, retry_at=None)}), commands


def _takes_the_end_of_another_attempt(job: Job, event: Event) -> Decision:
    if isinstance(event, PartSucceeded) and (run := job.run(event.task_id)) is not None:
        event = PartSucceeded(NOW, event.task_id, event.side, run.attempt, {}, NOW)
    return decide(job, event)


def _ends_a_group_twice(job: Job, event: Event) -> Decision:
    after, commands = decide(job, event)
    if isinstance(event, ChildrenEnded) and after is job and not job.finished:
        return job.model_copy(update={"epoch": job.epoch + 1}), ()
    return after, commands


def _leaves_late_effects_to_a_cancelled_job(job: Job, event: Event) -> Decision:
    """Found by the walk: a source that comes back would still be shut down."""
    after, commands = decide(job, event)
    begun = any(job.spec(task.task_id).raises_epoch and task.tries for task in after.tasks)
    return (after if begun else after.model_copy(update={"epoch": job.epoch})), commands


def _stays_suspended(job: Job, event: Event) -> Decision:
    after, commands = decide(job, event)
    if job.state is JobState.SUSPENDED and not after.finished:
        return after.model_copy(update={"state": JobState.SUSPENDED}), commands
    return after, commands


BUGS: Final[tuple[Decide, ...]] = (
    _forgets_attempts,
    _ends_too_early,
    _loses_the_only_command,
    _keeps_the_epoch,
    _keeps_authority_when_undoing,
    _sends_twice,
    _succeeds_after_failure,
    _does_not_wait_for_withdrawals,
    _withdraws_nothing_and_ends,
    _goes_on_after_cancel,
    _ends_at_once_when_cancelled,
    _takes_nothing_back,
    _takes_back_the_oldest_first,
    _goes_past_what_must_hold,
    _counts_anew_after_a_restart,
    _restarts_under_the_same_fence,
    _tries_for_ever,
    _forgets_to_try_again,
    _takes_the_end_of_another_attempt,
    _ends_a_group_twice,
    _leaves_late_effects_to_a_cancelled_job,
    _stays_suspended,
)


def caught(bug: Decide) -> bool:
    """Whether the walk over the small plans stops at the bug."""
    try:
        for plan in PLANS.values():
            explore(bug, job_of(plan))
    except AssertionError:
        return True
    return False


def test_planted_bugs_are_caught(tell: Callable[[str], None]) -> None:
    missed = [bug.__name__ for bug in BUGS if not caught(bug)]
    tell(f"decide: {len(BUGS) - len(missed)} of {len(BUGS)} planted bugs caught")
    assert not missed


def _each(job: Job, **update: Any) -> tuple[TaskRun, ...]:
    """Return the tasks with this changed in the one that runs, or in all where none does."""
    running = [task for task in job.tasks if task.state is TaskState.IN_PROGRESS]
    changed = running or list(job.tasks)
    return tuple(task.model_copy(update=update) if task in changed else task for task in job.tasks)


def _fields(spec: Any) -> dict[str, Any]:
    return {name: getattr(spec, name) for name in spec.__dataclass_fields__}
