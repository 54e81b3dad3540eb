"""Bounded exhaustive walk over `decide`: every order of success, failure, repeat and deadline.

Each scenario is explored from its beginning to every end; the invariants hold in every state.
Planted bugs show that the checker would find them.

Over 400 lines because the walk, its invariants and its planted bugs are read together.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from service_hub.domain import decide as decide_module
from service_hub.domain.decide import decide, next_deadline
from service_hub.domain.jobs import (
    UNDO_SUFFIX,
    AskInventory,
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
    PartGivenUp,
    PartSucceeded,
    RunCheck,
    TaskRun,
    TaskState,
    Tick,
    UndoRun,
    Withdraw,
)
from service_hub.domain.scenarios import SCENARIOS
from wire_contract.vocabulary import Direction, Side

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LATER = NOW + timedelta(days=1)
ERROR = JobError(code="1", message="no", created_at=NOW)
STATES_MAX = 60_000

Decide = Callable[[Job, Event], Decision]
Identity = tuple[str, Side | None, int, str]


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
    """A job, what was asked and not answered, what was ever sent, what may still have effects."""

    job: Job
    waiting: tuple[Command, ...]
    sent: frozenset[Identity]
    live: frozenset[Identity]

    @property
    def key(self) -> str:
        """Tell this state from others."""
        return self.job.model_dump_json() + repr(self.waiting)


def identity(command: Command) -> Identity:
    side = command.side if isinstance(command, Dispatch | AskInventory | Withdraw) else None
    return (command.task_id, side, command.attempt, type(command).__name__)


def answers(command: Command) -> Iterator[Event]:
    task, attempt = command.task_id, command.attempt
    if isinstance(command, RunCheck):
        yield CheckPassed(NOW, task, attempt)
        yield CheckFailed(NOW, task, attempt, ERROR)
    elif isinstance(command, Dispatch | AskInventory | Withdraw):
        yield PartSucceeded(NOW, task, command.side, attempt, {}, NOW)
        yield PartFailed(NOW, task, command.side, attempt, ERROR)


def steps(state: State) -> Iterator[tuple[Event, Command | None]]:
    for command in state.waiting:
        for event in answers(command):
            yield event, command
        if isinstance(command, Dispatch) and is_expendable(state.job, command.task_id):
            yield PartGivenUp(NOW, command.task_id, command.side, command.attempt, ERROR), None
    due = next_deadline(state.job)
    if due is not None:
        yield Tick(due, ERROR), None


def is_expendable(job: Job, task_id: str) -> bool:
    """Whether the job goes on without knowing how the task ended."""
    return job.spec(task_id.removesuffix(UNDO_SUFFIX)).go_on_after_failure


def still_live(state: State, event: Event, answered: Command | None) -> frozenset[Identity]:
    """Return which attempts may have effects yet: those without a final report and not gone."""
    live = state.live - ({identity(answered)} if answered is not None else set())
    if not isinstance(event, Tick):
        return live
    running: list[TaskRun | UndoRun] = [*state.job.tasks, *state.job.undo]
    gone = {
        step.task_id + (UNDO_SUFFIX if isinstance(step, UndoRun) else "")
        for step in running
        if step.withdrawing is not None and step.withdrawing.gone_at <= event.now
    }
    return frozenset(each for each in live if each[0] not in gone)


def explore(decide_under_test: Decide, job: Job) -> int:
    """Walk every order; return how many states were seen. An assertion fails on a bad state."""
    begun, commands = decide_under_test(job, Begun(NOW))
    sent = frozenset(identity(command) for command in commands)
    first = State(begun, commands, sent, dispatched(commands))
    seen = {first.key}
    open_states = [first]
    while open_states:
        state = open_states.pop()
        check(state)
        for event, answered in steps(state):
            after, commands = decide_under_test(state.job, event)
            check_repeat(decide_under_test, after, event)
            following = follow(state, event, answered, (after, commands))
            if following.key not in seen:
                seen.add(following.key)
                assert len(seen) < STATES_MAX, "the walk is not bounded"
                open_states.append(following)
    return len(seen)


def follow(state: State, event: Event, answered: Command | None, decision: Decision) -> State:
    """Return the next state; an assertion fails when something was sent that must not be."""
    after, commands = decision
    for command in commands:
        assert identity(command) not in state.sent, f"{identity(command)} sent twice"
    live = still_live(state, event, answered)
    binding = {each for each in live if not is_expendable(state.job, each[0])}
    asked = tuple(command for command in commands if not isinstance(command, Withdraw))
    assert not (asked and binding), f"{asked} sent while {binding} may have effects"
    assert not (after.finished and binding), f"the job ended while {binding} may have effects"
    withdrawn = {identity(command)[:3] for command in commands if isinstance(command, Withdraw)}
    assert withdrawn <= {each[:3] for each in live}, "withdrew what has ended"
    left = () if after.finished else tuple(e for e in state.waiting if e is not answered) + asked
    sent = frozenset(identity(command) for command in asked)
    return State(after, left, state.sent | sent, live | dispatched(asked))


def dispatched(commands: tuple[Command, ...]) -> frozenset[Identity]:
    return frozenset(identity(each) for each in commands if isinstance(each, Dispatch))


def check_repeat(decide_under_test: Decide, after: Job, event: Event) -> None:
    if isinstance(event, Tick):
        again, commands = decide_under_test(after, event)
        assert after.finished or not commands or again != after, "a Tick sent the same again"
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
        update = {"state": TaskState.FAILED, "withdrawing": None}
        tasks = tuple(task.model_copy(update=update) for task in after.tasks)
        return after.model_copy(update={"state": JobState.FAILED, "tasks": tasks}), ()
    return after, commands


@pytest.mark.parametrize(
    "bug",
    [
        _does_not_wait_for_withdrawals,
        _withdraws_nothing_and_ends,
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


def given_up(key: str, task_id: str) -> tuple[Job, tuple[Command, ...]]:
    """Let a job run well up to a task, and that one run into its deadline."""
    job, commands = decide(new_job(key, (), Direction.PRIMARY_TO_RECOVERY), Begun(NOW))
    while commands[0].task_id != task_id:
        following: tuple[Command, ...] = ()
        for command in commands:
            job, more = decide(job, next(iter(answers(command))))
            following += more
        commands = following
    due = next_deadline(job)
    assert due is not None
    job, withdrawals = decide(job, Tick(due, ERROR))
    return job, withdrawals


def test_a_deadline_withdraws_and_waits_before_it_undoes() -> None:
    job, withdrawals = given_up("planned_failover", "FailoverTask")
    assert [type(command) for command in withdrawals] == [Withdraw]
    assert job.waiting_for is not None
    assert not job.undoing
    ended, undo = decide(job, PartFailed(NOW, "FailoverTask", Side.RECOVERY, 1, ERROR))
    assert ended.undoing
    assert [command.task_id for command in undo] == ["FailoverTask" + UNDO_SUFFIX]
    assert ended.held_up is None


def test_a_provider_that_is_gone_is_waited_for_until_nothing_can_come_from_it() -> None:
    job, _ = given_up("planned_failover", "FailoverTask")
    run = job.run("FailoverTask")
    assert run is not None
    assert run.deadline is not None
    seconds = SCENARIOS["planned_failover"].task("FailoverTask").seconds
    gone_at = run.deadline + timedelta(seconds=seconds, minutes=10)
    assert next_deadline(job) == gone_at
    assert decide(job, Tick(gone_at - timedelta(seconds=1), ERROR)) == (job, ())
    after, _ = decide(job, Tick(gone_at, ERROR))
    assert after.undoing


def test_a_success_that_comes_after_the_deadline_is_a_success() -> None:
    job, _ = given_up("planned_failover", "FailoverTask")
    after, commands = decide(job, PartSucceeded(NOW, "FailoverTask", Side.RECOVERY, 1, {}, NOW))
    assert [command.task_id for command in commands] == ["StartVmOnSecondary"]
    assert not after.errors


def test_an_unplanned_failover_goes_past_its_source_without_waiting() -> None:
    job, commands = given_up("unplanned_failover", "ShutdownVmOnPrimaryForUFO")
    assert [type(command) for command in commands] == [Withdraw, Dispatch]
    assert job.held_up is None


def test_the_other_end_of_a_failed_task_is_withdrawn_and_waited_for() -> None:
    job, commands = decide(new_job("pair_clouds", (), Direction.PRIMARY_TO_RECOVERY), Begun(NOW))
    job, commands = decide(job, CheckPassed(NOW, commands[0].task_id, 1))
    task_id = commands[0].task_id
    job, withdrawals = decide(job, PartFailed(NOW, task_id, Side.PRIMARY, 1, ERROR))
    assert [(type(each), getattr(each, "side", None)) for each in withdrawals] == [
        (Withdraw, Side.RECOVERY)
    ]
    assert not job.finished
    job, _ = decide(job, PartSucceeded(NOW, task_id, Side.RECOVERY, 1, {}, NOW))
    assert job.state is JobState.FAILED
