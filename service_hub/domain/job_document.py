"""A job as it is stored: JSON without what has its default value; pure.

A job is stored with every decision, and each changes little of it: two of its tasks, and a few
facts. What stays is written once and kept as text.
"""

from itertools import islice
from operator import is_, is_not, itemgetter
from typing import Final

from pydantic import JsonValue, TypeAdapter

from service_hub.domain.jobs import Job, TaskRun

_TASKS: Final = "tasks"
_CONTEXT: Final = "context"

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

_LASTING: Final = frozenset(Job.model_fields.keys() - _CHANGING - {_CONTEXT, _TASKS})

_job_to_json: Final = Job.__pydantic_serializer__.to_json
_task_to_json: Final = TaskRun.__pydantic_serializer__.to_json
_facts_to_json: Final = TypeAdapter(dict[str, JsonValue]).serializer.to_json


def job_document(job: Job) -> str:
    """Return the job as it is stored."""
    return _job_to_json(job, exclude_defaults=True).decode()


class _Fields:
    """Writes some fields of one job; while their values stay, so does the text."""

    __slots__ = ("_include", "_values", "_values_of", "text")

    def __init__(self, names: frozenset[str]) -> None:
        self._values_of = itemgetter(*names)
        self._include = set(names)
        self._values: tuple[object, ...] = ()
        self.text = b""

    def of(self, job: Job) -> bytes:
        """Return them as they stand in an object, without its braces; b"" where none is stored."""
        values = self._values_of(job.__dict__)
        if not self._values or any(map(is_not, values, self._values)):
            self._values = values
            self.text = _job_to_json(job, include=self._include, exclude_defaults=True)[1:-1]
        return self.text


class _Context:
    """Writes the facts of one job: what a task has found stands behind all others."""

    __slots__ = ("_facts", "_written")

    def __init__(self) -> None:
        self._facts: dict[str, JsonValue] = {}
        self._written = b""

    def of(self, job: Job) -> bytes:
        """Return the field as it stands in an object, without its braces; b"" where it is empty."""
        facts = job.context
        if facts is not self._facts:
            before, self._facts = self._facts, facts
            if before and _begins_with(facts, before):
                added = dict(islice(facts.items(), len(before), None))
                more = _facts_to_json(added)[1:-1]
                self._written = b",".join((self._written, more)) if more else self._written
            else:
                self._written = _facts_to_json(facts)[1:-1] if facts else b""
        return b'"context":{%b}' % self._written if self._written else b""


def _begins_with(facts: dict[str, JsonValue], before: dict[str, JsonValue]) -> bool:
    """Tell whether these facts are those, in their order, and mostly some more."""
    return (
        len(facts) >= len(before)
        and all(map(is_, before, facts))
        and all(map(is_, before.values(), facts.values()))
    )


class JobDocument:
    """Writes one job as it goes on; each text reads as `job_document` would write it.

    Parts are known again by identity: they are values that nobody changes.
    """

    __slots__ = ("_fields", "_tasks", "_written")

    def __init__(self) -> None:
        self._fields = (_Fields(_LASTING), _Fields(_CHANGING), _Context())
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
