"""Walks every order of events of a job and holds each state against what must always be so.

The world beside the job: what was sent, which of it is unanswered, which may still have effects.
Reports come in any order, once or again, late or never (then the deadline comes); people cancel,
restart and resume at any moment.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta

from service_hub.domain.decide import next_deadline
from service_hub.domain.jobs import (
    UNDO_SUFFIX,
    AskInventory,
    Begun,
    CancelChildren,
    CancelRequested,
    CheckFailed,
    CheckPassed,
    ChildrenEnded,
    Command,
    Decision,
    Dispatch,
    Event,
    Job,
    JobState,
    PartFailed,
    PartGivenUp,
    PartSucceeded,
    RestartRequested,
    Resumed,
    RunCheck,
    StartChildren,
    TaskRun,
    TaskState,
    Tick,
    UndoRun,
    Withdraw,
)
from tests.support.job_invariants import check_state, check_step
from tests.support.job_plans import BUSY, ERROR, NOW, WITHDRAWN
from wire_contract.vocabulary import Side

STATES_MAX = 400_000
SECOND = timedelta(seconds=1)
UNDO_TRIES_WALKED = 2
"""A third attempt to take back follows the same code as the second."""

Decide = Callable[[Job, Event], Decision]
Identity = tuple[str, str, int]
"""Task (of an undo with its suffix), end or kind, attempt."""

Live = frozenset[tuple[Identity, int]]
"""Attempts that may have effects, each with the epoch that it was sent under."""


@dataclass(frozen=True, slots=True)
class State:
    """A job, what is unanswered, what may have effects, what was answered, what people may do."""

    job: Job
    waiting: tuple[Command, ...] = ()
    live: Live = frozenset()
    sent: frozenset[Identity] = frozenset()
    answered: Command | None = None
    cancels: int = 0
    restarts: int = 0


@dataclass(slots=True)
class Walk:
    """What a walk has found."""

    states: int = 0
    transitions: int = 0
    ends: int = 0

    def __add__(self, other: "Walk") -> "Walk":
        return Walk(
            self.states + other.states,
            self.transitions + other.transitions,
            self.ends + other.ends,
        )


def explore(decide: Decide, job: Job, *, cancels: int = 1, restarts: int = 1) -> Walk:
    """Walk every order from the job's beginning; an AssertionError says what does not hold."""
    first = State(job, cancels=cancels, restarts=restarts)
    first = follow(first, Begun(NOW), None, decide(job, Begun(NOW)))
    seen = {key_of(first)}
    open_states, walk = [first], Walk(states=1)
    while open_states:
        state = open_states.pop()
        check_state(state.job)
        progress = 0
        walk.ends += state.job.finished
        for event, answered in steps(state):
            decision = decide(state.job, event)
            walk.transitions += 1
            following = follow(state, event, answered, decision)
            check_repeat(decide, following.job, event)
            progress += decision[0] != state.job
            key = key_of(following)
            if key not in seen:
                seen.add(key)
                assert len(seen) < STATES_MAX, "the walk is not bounded"
                open_states.append(following)
        assert progress or state.job.finished, f"the job is stuck: {state.job.model_dump_json()}"
        check_late(decide, state)
    walk.states = len(seen)
    return walk


def key_of(state: State) -> object:
    """Return what tells this state from others: all but times, which only order events."""
    job = state.job
    tasks = tuple(
        (
            task.state,
            task.attempt,
            task.tries,
            task.undo_attempt,
            task.taken_back,
            task.retry_at is None,
            None if task.withdrawing is None else task.withdrawing.cause is None,
            tuple(part.state for part in task.parts),
        )
        for task in job.tasks
    )
    undo = tuple(
        (
            step.task_id,
            step.side,
            step.state,
            step.withdrawing is None,
            step.tries,
            step.retry_at is None,
        )
        for step in job.undo
    )
    facts = (job.state, job.epoch, job.authority_moved, job.cancel is None, job.failed_state)
    waiting = frozenset(identity(command) for command in state.waiting)
    return (tasks, undo, facts, job.fence, waiting, state.live, state.cancels, state.restarts)


def identity(command: Command) -> Identity:
    """Return what an executor counts effects by."""
    if isinstance(command, RunCheck | StartChildren | CancelChildren):
        return (command.task_id, type(command).__name__, command.attempt)
    return (command.task_id, command.side.value, command.attempt)


def answers(job: Job, command: Command) -> Iterator[Event]:
    """Return every final report on a command."""
    task, attempt = command.task_id, command.attempt
    match command:
        case RunCheck():
            yield CheckPassed(NOW, task, attempt)
            yield CheckFailed(NOW, task, attempt, ERROR)
        case StartChildren():
            yield ChildrenEnded(NOW, task, attempt, 1, (), 0)
            yield ChildrenEnded(NOW, task, attempt, 0, ("a",), 1)
        case Dispatch(side=side) | AskInventory(side=side):
            yield PartSucceeded(NOW, task, side, attempt, {}, NOW)
            yield PartFailed(NOW, task, side, attempt, ERROR)
            if may_be_tried_again(job, task):
                yield PartFailed(NOW, task, side, attempt, BUSY)
            if _is_withdrawn(job, command):
                yield PartFailed(NOW, task, side, attempt, WITHDRAWN)
        case _:
            return


def may_be_tried_again(job: Job, task_id: str) -> bool:
    """Whether another attempt would follow a failure that may be gone by then."""
    if task_id.endswith(UNDO_SUFFIX):
        # Where the task itself is tried again: elsewhere it would be the same code again.
        twice = job.spec(task_id.removesuffix(UNDO_SUFFIX)).retry.attempts_max > 1
        steps = [each for each in job.undo if each.state is TaskState.IN_PROGRESS]
        return (
            twice and _walks_retries(job) and any(each.tries < UNDO_TRIES_WALKED for each in steps)
        )
    task = job.run(task_id)
    return (
        task is not None
        and task.tries < job.spec(task_id).retry.attempts_max
        and _walks_retries(job)
    )


def _walks_retries(job: Job) -> bool:
    """Retries of recorded scenarios follow the same code as those of the small plans."""
    return bool(job.own_specs)


def steps(state: State) -> Iterator[tuple[Event, Command | None]]:
    """Return everything that can happen next, and which command that answers."""
    job = state.job
    for command in state.waiting:
        for event in answers(job, command):
            yield event, command
        if isinstance(command, Dispatch) and expendable(job, command.task_id):
            given_up = (command.task_id, command.side, command.attempt, ERROR)
            yield PartGivenUp(NOW, *given_up), None
    due = next_deadline(job)
    if due is not None:
        yield Tick(due, ERROR), None
    if state.cancels and not job.finished:
        yield CancelRequested(NOW, "p", "c"), None
    if "Resume" in job.allowed_actions:
        yield Resumed(NOW, "p", "c"), None
    if state.restarts and "Restart" in job.allowed_actions:
        yield RestartRequested(NOW, "p"), None


def expendable(job: Job, task_id: str) -> bool:
    """Whether the job goes on without knowing how the task ended."""
    return not task_id.endswith(UNDO_SUFFIX) and job.spec(task_id).go_on_after_failure


def follow(state: State, event: Event, answered: Command | None, decision: Decision) -> State:
    """Return the next state; an AssertionError says what was sent that must not be."""
    after, commands = decision
    live = _still_live(state, event, answered)
    binding = {each for each, epoch in live if _is_binding(after, each, epoch)}
    asked = tuple(each for each in commands if not isinstance(each, Withdraw | CancelChildren))
    for command in asked:
        assert identity(command) not in state.sent, f"{identity(command)} sent twice"
    if not isinstance(event, RestartRequested):
        assert not (asked and binding), f"{asked} sent while {binding} may have effects"
        assert not (after.finished and binding), f"ended while {binding} may have effects"
    withdrawn = {identity(each) for each in commands if isinstance(each, Withdraw)}
    assert withdrawn <= {each for each, _ in live}, "withdrew what has ended"
    check_step(state.job, event, after, commands)
    live |= {(identity(each), after.epoch) for each in asked if isinstance(each, Dispatch)}
    left = tuple(each for each in state.waiting if each is not answered) + asked
    return replace(
        state,
        job=after,
        waiting=() if after.finished else left,
        live=frozenset() if after.finished else live,
        sent=state.sent | {identity(each) for each in asked},
        answered=answered or state.answered,
        cancels=state.cancels - isinstance(event, CancelRequested),
        restarts=state.restarts - isinstance(event, RestartRequested),
    )


def check_repeat(decide: Decide, after: Job, event: Event) -> None:
    """An event that comes again, or a tick before its time, changes nothing."""
    if not isinstance(event, Tick):
        again, commands = decide(after, event)
        assert not commands, f"a repeated {type(event).__name__} sent something"
        assert again is after or again == after, f"a repeated {type(event).__name__} changed it"
    due = next_deadline(after)
    if due is not None:
        early = decide(after, Tick(due - SECOND, ERROR))
        assert early == (after, ()), "time changed the job before it was due"


def check_late(decide: Decide, state: State) -> None:
    """A report on what was answered before, or on what was never asked, changes nothing."""
    if state.answered is not None and state.answered not in state.waiting:
        for event in answers(state.job, state.answered):
            assert decide(state.job, event) == (state.job, ()), f"a late {event} changed the job"
    for task in state.job.tasks:
        foreign = PartSucceeded(NOW, task.task_id, Side.PRIMARY, task.attempt + 7, {}, NOW)
        assert decide(state.job, foreign) == (state.job, ()), "a foreign attempt changed the job"


def _is_withdrawn(job: Job, command: Dispatch | AskInventory) -> bool:
    task_id = command.task_id.removesuffix(UNDO_SUFFIX)
    steps: tuple[TaskRun | UndoRun | None, ...] = (job.run(task_id),)
    if command.task_id.endswith(UNDO_SUFFIX):
        steps = tuple(each for each in job.undo if each.task_id == task_id)
    return any(each is not None and each.withdrawing is not None for each in steps)


def _is_binding(job: Job, attempt: Identity, epoch: int) -> bool:
    """Whether the attempt must be known to have no effect any more before anything else is sent.

    What the job may go past does not bind, except when it is cancelled: then only a higher epoch
    makes it void.
    """
    if not expendable(job, attempt[0]):
        return True
    too_late = job.state is JobState.SUCCEEDED
    return job.cancel is not None and not too_late and epoch == job.epoch


def _still_live(state: State, event: Event, answered: Command | None) -> Live:
    """Return which attempts may have effects yet: those without a final report and not gone."""
    ended = None if answered is None else identity(answered)
    live = frozenset(each for each in state.live if each[0] != ended)
    if not isinstance(event, Tick):
        return live
    gone = {
        task.task_id
        for task in state.job.tasks
        if task.withdrawing is not None and task.withdrawing.gone_at <= event.now
    } | {
        step.task_id + UNDO_SUFFIX
        for step in state.job.undo
        if step.withdrawing is not None and step.withdrawing.gone_at <= event.now
    }
    return frozenset(each for each in live if each[0][0] not in gone)


def is_running(step: TaskRun | UndoRun) -> bool:
    """Whether a task or a step of taking back is under way."""
    return step.state is TaskState.IN_PROGRESS
