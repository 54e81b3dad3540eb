"""The tasks of a job as a tree: groups and inline workflows have tasks of their own below them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from azure.mgmt.recoveryservicessiterecovery import models

from site_recovery_cli.output import Row

TREE_DEPTH_MAX: Final = 8
"""Deepest that tasks below tasks are followed, whatever a hub answers."""

TASK_FINISHED: Final = frozenset({"Succeeded", "Failed", "Cancelled", "Other", "Skipped"})
_SKIPPED: Final = "Skipped"
_MARKS: Final = {
    "Succeeded": "✓",
    "Failed": "✗",
    "InProgress": "…",
    "Suspended": "‖",
    "Cancelled": "-",
    "Other": "-",
    "Skipped": "-",
}


@dataclass(frozen=True, slots=True)
class TaskLine:
    """A task at its place: `depth` 0 is the job's own, `place` names it among all."""

    task: models.ASRTask
    depth: int
    place: str

    @property
    def title(self) -> str:
        """What operators call it."""
        return self.task.friendly_name or self.task.name or self.task.task_id or ""

    @property
    def mark(self) -> str:
        """One sign for its state."""
        return _MARKS.get(self.task.state or "", " ")

    @property
    def finished(self) -> bool:
        """Whether it has ended."""
        return self.task.state in TASK_FINISHED

    @property
    def seconds(self) -> float | None:
        """How long it ran; None while it runs, or where it never did."""
        if not self.finished:
            return None
        began, ended = self.task.start_time, self.task.end_time
        if began is None or ended is None:
            return None
        if began.year == 1 or (began.tzinfo is None) != (ended.tzinfo is None):
            # It never began: the year 1, mostly without a zone, beside an end that has one.
            return None
        seconds = (ended - began).total_seconds()
        # A task that did not run carries times of the year 1.
        return seconds if seconds > 0 else None

    @property
    def words(self) -> str:
        """How long it took, or what its state says beyond the mark."""
        if self.seconds is not None:
            return f"{self.seconds:.1f} s"
        description = self.task.state_description or ""
        return description if description not in _PLAIN else ""

    @property
    def text(self) -> str:
        """The task as one line, indented by its depth."""
        title = f"{'  ' * self.depth}{self.title}"
        return f"  {self.mark} {title:50} {self.words}".rstrip()


_PLAIN: Final = frozenset({"NotStarted", "InProgress", "Completed", "Failed"})
"""Descriptions that say no more than the mark."""


def tree(tasks: Sequence[models.ASRTask] | None) -> list[TaskLine]:
    """Return all tasks, each before those below it."""
    return list(_walk(tasks, 0, ""))


def _walk(tasks: Sequence[models.ASRTask] | None, depth: int, above: str) -> Iterator[TaskLine]:
    for task in tasks or []:
        place = f"{above}/{task.task_id or task.name or ''}"
        yield TaskLine(task, depth, place)
        if depth + 1 < TREE_DEPTH_MAX:
            yield from _walk(children(task), depth + 1, place)


def children(task: models.ASRTask) -> Sequence[models.ASRTask]:
    """Return the tasks below a group or an inline workflow."""
    details = task.group_task_custom_details
    return [] if details is None else details.child_tasks or []


def task_row(task: models.ASRTask, depth: int = 0) -> Row:
    """Return a task with all that it says, and those below it."""
    line = TaskLine(task, depth, "")
    row: dict[str, object] = {
        "task": line.title,
        "task_id": task.task_id,
        "state": task.state,
        "description": task.state_description,
        "seconds": line.seconds,
    }
    details = task.custom_details
    if isinstance(details, models.ManualActionTaskDetails):
        row |= {"instructions": details.instructions, "observation": details.observation}
    if isinstance(details, models.JobTaskDetails) and details.job_task is not None:
        row["job"] = (details.job_task.job_id or "").rpartition("/")[2]
    if depth + 1 < TREE_DEPTH_MAX and (below := children(task)):
        row["tasks"] = [task_row(each, depth + 1) for each in below]
    return row


def skipped(task: models.ASRTask) -> bool:
    """Return whether a task was left out."""
    return _SKIPPED in {task.state, task.state_description}


def manual_action(tasks: Sequence[models.ASRTask] | None) -> models.ManualActionTaskDetails | None:
    """Return the manual action that a suspended job waits for, if its tasks name one."""
    for line in tree(tasks):
        details = line.task.custom_details
        if not line.finished and isinstance(details, models.ManualActionTaskDetails):
            return details
    return None
