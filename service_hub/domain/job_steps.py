"""Parts of a job: found, replaced, and when an attempt can have no effect any more; pure."""

from datetime import datetime, timedelta
from typing import Final

from service_hub.domain.jobs import (
    UNDO_SUFFIX,
    AskInventory,
    Dispatch,
    Job,
    TaskPart,
    TaskRun,
    TaskState,
    UndoRun,
)
from service_hub.domain.scenarios import TaskSpec
from wire_contract.vocabulary import Side

CLOCK_TOLERANCE: Final = timedelta(minutes=5)
"""By how much the clocks of hub and provider may differ (design: channel, deadlines)."""


def replace_task(job: Job, task: TaskRun) -> Job:
    """Return the job with this state of one of its tasks."""
    return job.model_copy(update={"tasks": tasks_with(job.tasks, task)})


def tasks_with(tasks: tuple[TaskRun, ...], task: TaskRun) -> tuple[TaskRun, ...]:
    """Return the tasks with this state of one of them."""
    task_id = task.task_id
    return tuple([task if each.task_id == task_id else each for each in tasks])


def parts_with(parts: tuple[TaskPart, ...], part: TaskPart) -> tuple[TaskPart, ...]:
    """Return the ends of a task with this state of one of them."""
    return tuple([part if each.side is part.side else each for each in parts])


def replace_part(task: TaskRun, part: TaskPart) -> TaskRun:
    """Return the task with this state of one of its ends."""
    return task.model_copy(update={"parts": parts_with(task.parts, part)})


def current(job: Job, task_id: str, attempt: int) -> TaskRun | None:
    """Return the task that runs in this attempt, None when the attempt is another."""
    if job.undo and job.undoing:
        return None
    task = job.run(task_id)
    if task is None or task.state is not TaskState.IN_PROGRESS or task.attempt != attempt:
        return None
    return task


def ended(
    task: TaskRun, state: TaskState, now: datetime, parts: tuple[TaskPart, ...] | None = None
) -> TaskRun:
    """Return the task as ended; `parts` are its ends where they are others now."""
    update = {
        "parts": task.parts if parts is None else parts,
        "state": state,
        "ended_at": now,
        "deadline": None,
        "retry_at": None,
        "withdrawing": None,
    }
    return task.model_copy(update=update)


def running(job: Job) -> TaskRun | None:
    """Return the task in progress; there is one at most."""
    for task in job.tasks:
        if task.state is TaskState.IN_PROGRESS:
            return task
    return None


def open_part(task: TaskRun | None, side: Side) -> TaskPart | None:
    """Return the end of a task that has no final report yet."""
    for part in () if task is None else task.parts:
        if part.side is side and part.state is TaskState.IN_PROGRESS:
            return part
    return None


def open_parts(task: TaskRun) -> list[TaskPart]:
    """Return the ends of a task that have no final report yet."""
    return [part for part in task.parts if part.state is TaskState.IN_PROGRESS]


def any_open(parts: tuple[TaskPart, ...]) -> bool:
    """Tell whether one of these ends has no final report yet."""
    return any(part.state is TaskState.IN_PROGRESS for part in parts)


def open_commands(job: Job, side: Side) -> tuple[Dispatch | AskInventory, ...]:
    """Return what one end was asked for and has not answered, but was not withdrawn either."""
    if job.finished:
        return ()
    if job.undoing:
        return tuple(
            Dispatch(step.task_id + UNDO_SUFFIX, side, step.attempt, step.verb, step.deadline)
            for step in job.undo
            if step.side is side and step.deadline is not None and step.withdrawing is None
        )
    commands: list[Dispatch | AskInventory] = []
    for task in job.tasks:
        if task.deadline is None or task.withdrawing or open_part(task, side) is None:
            continue
        spec = job.spec(task.task_id)
        if spec.verb is not None:
            commands.append(Dispatch(task.task_id, side, task.attempt, spec.verb, task.deadline))
        elif spec.asks_inventory:
            commands.append(AskInventory(task.task_id, side, task.attempt, task.deadline))
    return tuple(commands)


def gone_at(expires_at: datetime, spec: TaskSpec) -> datetime:
    """Return when an attempt can have no effect any more, even if nobody hears of its provider."""
    return expires_at + timedelta(seconds=spec.seconds) + 2 * CLOCK_TOLERANCE


def replace_undo(job: Job, step: UndoRun) -> Job:
    """Return the job with this state of one of its steps of taking back."""
    undo = tuple(
        step if (each.task_id, each.side) == (step.task_id, step.side) else each
        for each in job.undo
    )
    return job.model_copy(update={"undo": undo})
