"""Stories of jobs as text: what happens, and what the job does about it.

    scenario NAME [flag ...]    or  plan NAME       what the job is made from
    > EVENT                                         what happens
    < COMMAND                                       what follows from it
    = STATE                                         how the job is then, where that has changed

Events: begin | passed TASK | refused TASK | done TASK END | failed TASK END [CODE] |
withdrawn TASK END | given-up TASK END | deadline | children TASK SUCCEEDED FAILED | cancel WHO |
restart WHO | resume WHO WORDS. They are about the attempt that runs, or `TASK#ATTEMPT`.
"""

from collections.abc import Iterator
from datetime import timedelta

from service_hub.domain.decide import decide, next_deadline
from service_hub.domain.jobs import (
    UNDO_SUFFIX,
    Begun,
    CancelRequested,
    CheckFailed,
    CheckPassed,
    ChildrenEnded,
    Command,
    Dispatch,
    Event,
    Job,
    JobError,
    PartFailed,
    PartGivenUp,
    PartSucceeded,
    RestartRequested,
    Resumed,
    TaskState,
    Tick,
    Withdraw,
)
from tests.support.job_plans import NOW, PLANS, job_of, scenario_job
from wire_contract.vocabulary import Side

LINES_MAX = 200


def told(text: str) -> str:
    """Return the story as it happens now: its own events, with what follows from them."""
    lines = text.splitlines()
    assert len(lines) <= LINES_MAX, "a story is short"
    result: list[str] = []
    job: Job | None = None
    state = ""
    for line in lines:
        kind, _, rest = line.partition(" ")
        if kind in {"scenario", "plan"}:
            job = _made(kind, rest.split())
        if kind in {"<", "="}:
            continue
        result.append(line)
        if kind != ">":
            continue
        assert job is not None, "a story begins with what the job is made from"
        job, commands = decide(job, _event(job, rest.split()))
        result += [f"< {_command(each)}" for each in commands]
        if _state(job) != state:
            state = _state(job)
            result.append(f"= {state}")
    return "\n".join(result) + "\n"


def _made(kind: str, words: list[str]) -> Job:
    name, *flags = words
    return job_of(PLANS[name]) if kind == "plan" else scenario_job(name, tuple(flags))


def _event(job: Job, words: list[str]) -> Event:  # noqa: PLR0911 -- one return per kind of event
    what, *rest = words
    match what, rest:
        case "begin", []:
            return Begun(NOW)
        case "deadline", []:
            due = next_deadline(job)
            assert due is not None, "nothing has a deadline"
            return Tick(due, _error(1, due - NOW))
        case "cancel", [who]:
            return CancelRequested(NOW, who)
        case "restart", [who]:
            return RestartRequested(NOW, who)
        case "resume", [who, *comments]:
            return Resumed(NOW, who, " ".join(comments))
        case "children", [task, succeeded, failed]:
            named = tuple(f"item{number}" for number in range(int(failed)))
            name, attempt = _attempt(job, task)
            return ChildrenEnded(NOW, name, attempt, int(succeeded), named, int(failed))
        case "passed", [task]:
            return CheckPassed(NOW, *_attempt(job, task))
        case "refused", [task]:
            return CheckFailed(NOW, *_attempt(job, task), _error(0))
        case _:
            return _report(job, what, rest)


def _report(job: Job, what: str, words: list[str]) -> Event:
    task, attempt = _attempt(job, words[0])
    side = Side(words[1])
    match what, words[2:]:
        case "done", []:
            return PartSucceeded(NOW, task, side, attempt, {}, NOW)
        case "failed", [*code]:
            number = int(code[0]) if code else 32775
            return PartFailed(NOW, task, side, attempt, _error(number))
        case "withdrawn", []:
            return PartFailed(NOW, task, side, attempt, _error(90002))
        case "given-up", []:
            return PartGivenUp(NOW, task, side, attempt, _error(0))
    msg = f"a story knows no '{what}'"
    raise AssertionError(msg)


def _attempt(job: Job, words: str) -> tuple[str, int]:
    task_id, _, number = words.partition("#")
    if number:
        return task_id, int(number)
    task = job.run(task_id.removesuffix(UNDO_SUFFIX))
    assert task is not None, f"the job has no task {task_id}"
    return task_id, task.undo_attempt if task_id.endswith(UNDO_SUFFIX) else task.attempt


def _error(provider_code: int, after: timedelta = timedelta(0)) -> JobError:
    return JobError(code="28020", message="no", created_at=NOW + after, provider_code=provider_code)


def _command(command: Command) -> str:
    name = type(command).__name__
    words = [name, f"{command.task_id}#{command.attempt}"]
    if isinstance(command, Dispatch | Withdraw):
        words.append(command.side.value)
    if isinstance(command, Dispatch):
        words.append(command.verb.value)
    return " ".join(words)


def _state(job: Job) -> str:
    return ", ".join(_facts(job))


def _facts(job: Job) -> Iterator[str]:
    yield job.state.value
    yield f"fence {job.fence}, epoch {job.epoch}"
    if job.authority_moved:
        yield "authority moved"
    for task in job.tasks:
        if task.state is TaskState.IN_PROGRESS:
            yield f"{task.task_id} {'waits' if job.held_up else 'runs'}"
    if job.undoing:
        yield f"takes back {sum(each.state is TaskState.NOT_STARTED for each in job.undo) + 1}"
    if job.finished:
        yield f"offers {' or '.join(job.allowed_actions) or 'nothing'}"
        yield f"{len(job.errors)} errors"
        if job.failed_state is not None:
            yield f"leaves {job.failed_state.value}"
        if job.undo_incomplete:
            yield "not all taken back"
