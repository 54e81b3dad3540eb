"""A job as it is stored: JSON without what has its default value; pure.

A job is stored with every decision, and each changes little of it: two of its tasks, and a few
facts. What stays is written once and kept as text.
"""

from operator import is_not
from typing import Final

from service_hub.domain.jobs import Job, TaskRun

_TASKS: Final = "tasks"
_CONTEXT: Final = frozenset({"context"})
"""Results of tasks go into it: often the only field beside the tasks that a decision changes."""

_CHANGING: Final = frozenset(
    {
        "state",
        "undo",
        "errors",
        "started_at",
        "ended_at",
        "fence",
        "epoch",
        "authority_moved",
        "failed_state",
        "cancel",
        "requests",
        "began_in",
        "undo_incomplete",
    }
)
"""What decisions change; anything else may change too, it is only written less often."""

_LASTING: Final = frozenset(Job.model_fields.keys() - _CHANGING - _CONTEXT - {_TASKS})

_job_to_json: Final = Job.__pydantic_serializer__.to_json
_task_to_json: Final = TaskRun.__pydantic_serializer__.to_json


def job_document(job: Job) -> str:
    """Return the job as it is stored."""
    return _job_to_json(job, exclude_defaults=True).decode()


class _Fields:
    """Writes some fields of one job; while their values stay, so does the text."""

    __slots__ = ("_include", "_names", "_values", "text")

    def __init__(self, names: frozenset[str]) -> None:
        self._names = tuple(names)
        self._include = set(names)
        self._values: list[object] = []
        self.text = b""

    def of(self, job: Job) -> bytes:
        """Return them as they stand in an object, without its braces; b"" where none is stored."""
        fields = job.__dict__
        values = [fields[name] for name in self._names]
        if not self._values or any(map(is_not, values, self._values)):
            self._values = values
            self.text = _job_to_json(job, include=self._include, exclude_defaults=True)[1:-1]
        return self.text


class JobDocument:
    """Writes one job as it goes on; each text reads as `job_document` would write it.

    Parts are known again by identity: they are values that nobody changes.
    """

    __slots__ = ("_fields", "_tasks", "_written")

    def __init__(self) -> None:
        self._fields = (_Fields(_LASTING), _Fields(_CHANGING), _Fields(_CONTEXT))
        self._tasks: tuple[TaskRun, ...] = ()
        self._written: list[bytes] = []

    def of(self, job: Job) -> str:
        """Return the job as it is stored."""
        written = [text for fields in self._fields if (text := fields.of(job))]
        tasks = b",".join(self._written_tasks(job.tasks))
        # The id is one of the lasting, so that there is something before the comma.
        return b"".join((b"{", b",".join(written), b',"tasks":[', tasks, b"]}")).decode()

    def _written_tasks(self, tasks: tuple[TaskRun, ...]) -> list[bytes]:
        if len(tasks) != len(self._tasks):
            self._tasks, self._written = (), []
        for at, task in enumerate(tasks):
            if not self._tasks:
                self._written.append(_task_to_json(task, exclude_defaults=True))
            elif task is not self._tasks[at]:
                self._written[at] = _task_to_json(task, exclude_defaults=True)
        self._tasks = tasks
        return self._written
