"""A job as it is stored: JSON without what has its default value; pure.

A job is stored with every decision, and each changes little of it: two of its tasks, and a few
facts. What stays is written once and kept as text.
"""

from operator import is_not
from typing import Final

from service_hub.domain.jobs import Job, TaskRun

_TASKS: Final = "tasks"
_CHANGING: Final = frozenset(
    {
        "state",
        "undo",
        "errors",
        "context",
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

_LASTING: Final = tuple(Job.model_fields.keys() - _CHANGING - {_TASKS})
_LASTING_NAMES: Final = set(_LASTING)
_CHANGING_NAMES: Final = set(_CHANGING)

_job_to_json: Final = Job.__pydantic_serializer__.to_json
_task_to_json: Final = TaskRun.__pydantic_serializer__.to_json


def job_document(job: Job) -> str:
    """Return the job as it is stored."""
    return _job_to_json(job, exclude_defaults=True).decode()


class JobDocument:
    """Writes one job as it goes on; each text reads as `job_document` would write it.

    Parts are known again by identity: they are values that nobody changes.
    """

    __slots__ = ("_lasting", "_lasting_values", "_tasks", "_written")

    def __init__(self) -> None:
        self._lasting_values: list[object] = []
        self._lasting = b""
        self._tasks: tuple[TaskRun, ...] = ()
        self._written: list[bytes] = []

    def of(self, job: Job) -> str:
        """Return the job as it is stored."""
        values = job.__dict__
        lasting = [values[name] for name in _LASTING]
        if not self._lasting or any(map(is_not, lasting, self._lasting_values)):
            self._lasting_values = lasting
            self._lasting = _job_to_json(job, include=_LASTING_NAMES, exclude_defaults=True)[:-1]
        changing = _job_to_json(job, include=_CHANGING_NAMES, exclude_defaults=True)[1:-1]
        tasks = b",".join(self._written_tasks(job.tasks))
        # The id is one of the lasting, so that there is something before the comma.
        parts = (self._lasting, b',"tasks":[', tasks, b"],", changing, b"}")
        return b"".join(parts if changing else (*parts[:3], b"]}")).decode()

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
