"""Bounded exhaustive walk over `decide`: every order of success, failure, repeat and deadline.

Each scenario is explored from its beginning to every end; the invariants hold in every state.
Planted bugs show that the checker would find them.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from service_hub.domain import decide as decide_module
from service_hub.domain.decide import decide, next_deadline
from service_hub.domain.jobs import (
    UNDO_SUFFIX,
    Begun,
    CheckFailed,
    CheckPassed,
    Command,
    Decision,
    Dispatch,
    Event,
    Job,
    JobError,
    JobState,
    PartFailed,
    PartSucceeded,
    RunCheck,
    TaskRun,
    TaskState,
    Tick,
)
from service_hub.domain.scenarios import SCENARIOS
from wire_contract.vocabulary import Direction, Side

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LATER = NOW + timedelta(days=1)
ERROR = JobError(code="1", message="no", created_at=NOW)
STATES_MAX = 60_000

Decide = Callable[[Job, Event], Decision]


def new_job(key: str, flags: tuple[str, ...], direction: Direction) -> Job:
    return Job(
        id="j",
        vault_id="v",
        scenario_key=key,
        operation=None,
        direction=direction,
        target_object_id="t",
        target_object_name="t",
        activity_id="a",
        tasks=tuple(TaskRun(task_id=spec.task_id) for spec in SCENARIOS[key].tasks),
        flags=flags,
        created_at=NOW,
        epoch=1,
    )


@dataclass(frozen=True)
class State:
    """A job, what was asked of it and not answered, and what has ever been sent."""

    job: Job
    waiting: tuple[Command, ...]
    sent: frozenset[tuple[str, Side | None, int]]

    @property
    def key(self) -> str:
        """Tell this state from others."""
        return self.job.model_dump_json() + repr(self.waiting)


def identity(command: Command) -> tuple[str, Side | None, int]:
    side = command.side if isinstance(command, Dispatch) else None
    return (command.task_id, side, command.attempt)


def answers(command: Command) -> Iterator[Event]:
    task, attempt = command.task_id, command.attempt
    if isinstance(command, RunCheck):
        yield CheckPassed(NOW, task, attempt)
        yield CheckFailed(NOW, task, attempt, ERROR)
    else:
        yield PartSucceeded(NOW, task, command.side, attempt, {}, NOW)
        yield PartFailed(NOW, task, command.side, attempt, ERROR)


def steps(state: State) -> Iterator[tuple[Event, Command | None]]:
    for command in state.waiting:
        for event in answers(command):
            yield event, command
    if next_deadline(state.job) is not None:
        yield Tick(LATER, ERROR), None


def explore(decide_under_test: Decide, job: Job) -> int:
    """Walk every order; return how many states were seen. An assertion fails on a bad state."""
    begun, commands = decide_under_test(job, Begun(NOW))
    first = State(begun, commands, frozenset(identity(command) for command in commands))
    seen = {first.key}
    open_states = [first]
    while open_states:
        state = open_states.pop()
        check(state)
        for event, answered in steps(state):
            after, commands = decide_under_test(state.job, event)
            for command in commands:
                assert identity(command) not in state.sent, f"{identity(command)} sent twice"
            check_repeat(decide_under_test, after, event)
            left = tuple(each for each in state.waiting if each is not answered) + commands
            if after.finished:
                left = ()
            sent = state.sent | {identity(command) for command in commands}
            following = State(after, left, sent)
            if following.key not in seen:
                seen.add(following.key)
                assert len(seen) < STATES_MAX, "the walk is not bounded"
                open_states.append(following)
    return len(seen)


def check_repeat(decide_under_test: Decide, after: Job, event: Event) -> None:
    if isinstance(event, Tick):
        return
    again, commands = decide_under_test(after, event)
    assert not commands, f"a repeated {type(event).__name__} sent something"
    assert again == after, f"a repeated {type(event).__name__} changed the job"


def check(state: State) -> None:
    job = state.job
    running = [task for task in job.tasks if task.state is TaskState.IN_PROGRESS]
    if job.finished:
        assert not running, "a finished job runs a task"
        assert not state.waiting, "a finished job waits"
        done = {TaskState.SUCCEEDED, TaskState.SKIPPED, TaskState.FAILED}
        assert all(task.state in done for task in job.tasks), "a finished job left a task"
        assert (job.state is JobState.FAILED) == bool(fatal(job)), "the end does not fit the tasks"
        return
    assert state.waiting, f"the job is stuck: {job.model_dump_json()}"
    assert len(running) + int(job.undoing) == 1, "not exactly one step runs"
    if not job.undoing:
        order = [task.state for task in job.tasks]
        first = order.index(TaskState.IN_PROGRESS)
        assert TaskState.NOT_STARTED not in order[:first], "a task began before an earlier one"
        assert set(order[first + 1 :]) <= {TaskState.NOT_STARTED}, "a later task began"
    moved = job.epoch > 1 and not job.undoing
    assert not moved or job.authority_moved, "the epoch rose and the authority did not move"
    assert not (job.undoing and job.authority_moved), "authority is still away while undoing"


def fatal(job: Job) -> list[TaskRun]:
    return [
        task
        for task in job.tasks
        if task.state is TaskState.FAILED and not job.spec(task.task_id).go_on_after_failure
    ]


FLAG_SETS = (
    (),
    ("source_operations_not_required", "no_network_mapping", "states_updated_later"),
    ("already_committed",),
)


@pytest.mark.parametrize("key", SCENARIOS)
@pytest.mark.parametrize("flags", FLAG_SETS)
@pytest.mark.parametrize("direction", list(Direction))
def test_every_order_keeps_the_invariants(
    key: str, flags: tuple[str, ...], direction: Direction
) -> None:
    assert explore(decide, new_job(key, flags, direction)) >= len(SCENARIOS[key].tasks)


@pytest.mark.parametrize("key", SCENARIOS)
@pytest.mark.parametrize("position", range(8))
def test_failure_at_any_task_ends_the_job_with_that_error(key: str, position: int) -> None:
    job = new_job(key, (), Direction.PRIMARY_TO_RECOVERY)
    if position >= len(job.tasks):
        return
    failing = job.tasks[position].task_id
    job, commands = decide(job, Begun(NOW))
    for _ in range(100):
        if not commands:
            break
        following: tuple[Command, ...] = ()
        for command in commands:
            fails = command.task_id == failing
            event = list(answers(command))[int(fails)]
            job, more = decide(job, event)
            following += more
        commands = following
    assert job.finished
    assert failing in {error.task_id for error in job.errors}
    goes_on = job.spec(failing).go_on_after_failure
    assert job.state is (JobState.SUCCEEDED if goes_on else JobState.FAILED)


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


def _drops_commands(job: Job, event: Event) -> Decision:
    after, commands = decide(job, event)
    return after, commands[:-1] if len(commands) > 1 else commands if len(commands) == 1 else ()


def _loses_the_only_command(job: Job, event: Event) -> Decision:
    after, commands = decide(job, event)
    return after, () if isinstance(event, CheckPassed) else commands


def _keeps_the_epoch(job: Job, event: Event) -> Decision:
    after, commands = decide(job, event)
    return after.model_copy(update={"authority_moved": False}), commands


def _keeps_authority_when_undoing(job: Job, event: Event) -> Decision:
    after, commands = decide(job, event)
    return (
        (after.model_copy(update={"authority_moved": True}), commands)
        if after.undoing
        else (after, commands)
    )


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


@pytest.mark.parametrize(
    "bug",
    [
        _forgets_attempts,
        _ends_too_early,
        _drops_commands,
        _loses_the_only_command,
        _keeps_the_epoch,
        _keeps_authority_when_undoing,
        _sends_twice,
        _succeeds_after_failure,
    ],
)
def test_planted_bugs_are_caught(bug: Decide) -> None:
    with pytest.raises(AssertionError):
        _explore_all(bug)


def _explore_all(decide_under_test: Decide) -> None:
    for key in SCENARIOS:
        explore(decide_under_test, new_job(key, (), Direction.PRIMARY_TO_RECOVERY))


def test_late_reports_change_nothing_once_a_job_has_ended() -> None:
    job = new_job("create_policy", (), Direction.PRIMARY_TO_RECOVERY)
    job, commands = decide(job, Begun(NOW))
    job, _ = decide(job, CheckFailed(NOW, commands[0].task_id, 1, ERROR))
    assert job.finished
    for event in (
        CheckPassed(NOW, commands[0].task_id, 1),
        Tick(LATER, ERROR),
        PartFailed(NOW, "x" + UNDO_SUFFIX, Side.PRIMARY, 1, ERROR),
    ):
        assert decide(job, event) == (job, ())
    assert decide_module.next_deadline(job) is None
