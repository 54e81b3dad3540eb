"""What must hold in every state of a job, and at every step (design: engine)."""

from collections.abc import Sequence

from service_hub.domain.jobs import (
    UNDO_SUFFIX,
    CancelChildren,
    Command,
    Dispatch,
    Event,
    Job,
    JobState,
    RestartRequested,
    TaskState,
    Withdraw,
)

_DONE = {TaskState.SUCCEEDED, TaskState.FAILED, TaskState.SKIPPED, TaskState.CANCELLED}


def check_state(job: Job) -> None:
    """An AssertionError names what does not hold in this state."""
    running = [task for task in job.tasks if task.state is TaskState.IN_PROGRESS]
    undoing = [step for step in job.undo if step.state is TaskState.IN_PROGRESS]
    assert (job.waiting_for is None) == job.finished, "it does not say what it waits for"
    for task in job.tasks:
        spec = job.spec(task.task_id)
        # In the walk only a restart raises the fence.
        assert task.attempt <= spec.retry.attempts_max * job.fence, "tried more often than allowed"
    _check_authority(job)
    if job.finished:
        _check_end(job)
        return
    assert len(running) + len(undoing) == 1, "not exactly one step runs"
    assert bool(undoing) == job.undoing, "it takes back and runs at once"
    if job.undoing:
        return
    order = [task.state for task in job.tasks]
    first = order.index(TaskState.IN_PROGRESS)
    assert TaskState.NOT_STARTED not in order[:first], "a task began before an earlier one"
    assert set(order[first + 1 :]) <= {TaskState.NOT_STARTED}, "a later task began"
    manual = job.spec(running[0].task_id).manual_action is not None
    assert (job.state is JobState.SUSPENDED) == manual, "suspended for nobody"


def _check_authority(job: Job) -> None:
    raising = [task for task in job.tasks if job.spec(task.task_id).raises_epoch]
    if not raising:
        assert not job.authority_moved, "nothing moves the authority"
        return
    unbegun = {TaskState.NOT_STARTED, TaskState.SKIPPED}
    # Where several raise it, the first that begins does.
    begun = any(task.may_hold and task.state not in unbegun for task in raising)
    named = {task.task_id for task in raising}
    taking_back = any(step.task_id in named and step.attempt for step in job.undo)
    assert job.authority_moved == (begun and not taking_back and not _given_back(job)), (
        "the authority is not where the machine is"
    )
    assert not job.authority_moved or job.epoch > 1, "the authority moved under the same epoch"


def _given_back(job: Job) -> bool:
    """Whether something older than the task that moves the authority was begun to be taken back."""
    order = [task.task_id for task in job.tasks]
    raising = next(i for i, each in enumerate(order) if job.spec(each).raises_epoch)
    return any(order.index(step.task_id) < raising and step.attempt for step in job.undo)


def _check_end(job: Job) -> None:
    assert all(task.state in _DONE for task in job.tasks), "a finished job left a task"
    fatal = [
        task
        for task in job.tasks
        if task.state is TaskState.FAILED and not job.spec(task.task_id).go_on_after_failure
    ]
    skipped = [
        task
        for task in job.tasks
        if task.state is TaskState.SKIPPED and job.spec(task.task_id).skipped_if not in job.flags
    ]
    stopped = [task for task in job.tasks if task.state is TaskState.CANCELLED]
    if job.state is JobState.SUCCEEDED:
        assert not fatal, "it succeeded past a failure"
        assert not skipped, "it succeeded and left something out"
        assert not stopped, "it succeeded and was stopped"
        return
    if job.state is JobState.FAILED:
        assert fatal, "it failed of nothing"
        assert job.errors, "it failed and does not say of what"
        assert job.cancel is None, "a cancelled job failed"
    else:
        assert job.cancel is not None, "nobody cancelled it"
        _check_taken_back(job)
    holds = [step for step in job.undo if step.state is not TaskState.SUCCEEDED]
    assert job.undo_incomplete == bool(holds), "what is left is not said"


def _check_taken_back(job: Job) -> None:
    """What could be taken back was, or was tried; newer things first."""
    past = False
    for task in reversed(job.tasks):
        spec = job.spec(task.task_id)
        past = past or (spec.no_way_back and task.may_hold)
        if past or spec.undo is None or spec.go_on_after_failure:
            continue
        tried = any(step.task_id == task.task_id for step in job.undo)
        assert tried or not task.may_hold, f"{task.task_id} was not taken back"


def check_step(before: Job, event: Event, after: Job, commands: Sequence[Command]) -> None:
    """An AssertionError names what must not happen in this step."""
    assert after.epoch >= before.epoch, "an epoch fell"
    assert after.fence >= before.fence, "a fence fell"
    if before.finished:
        if after is not before:
            assert isinstance(event, RestartRequested), "an end was not the end"
            assert after.fence > before.fence, "restarted under the same fence"
        return
    sent = [each for each in commands if not isinstance(each, Withdraw | CancelChildren)]
    if after.cancel is not None:
        assert all(each.task_id.endswith(UNDO_SUFFIX) for each in sent), "sent after cancel"
    if any(each.task_id.endswith(UNDO_SUFFIX) for each in sent):
        _check_undo_order(after, sent)
    before_order = [task.attempt for task in before.tasks]
    after_order = [task.attempt for task in after.tasks]
    assert all(a <= b for a, b in zip(before_order, after_order, strict=True)), "attempts fell"


def _check_undo_order(job: Job, sent: Sequence[Command]) -> None:
    assert len(sent) == 1, "more than one step is taken back at once"
    (command,) = sent
    assert isinstance(command, Dispatch), "only assignments take back"
    order = [task.task_id for task in job.tasks]
    place = order.index(command.task_id.removesuffix(UNDO_SUFFIX))
    for step in job.undo:
        if step.state in _DONE:
            assert order.index(step.task_id) >= place, "taken back in the wrong order"
        if step.state is TaskState.FAILED:
            assert not job.spec(step.task_id).undo_must_hold, "went on past what must hold"
