"""Follows a job of the hub: each task as it runs, and what to do when one failed."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final, Self

from azure.core.pipeline import PipelineResponse
from azure.core.polling import AsyncLROPoller
from azure.mgmt.recoveryservicessiterecovery import models
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from site_recovery_cli.connection import Connection
from site_recovery_cli.exit_codes import ExitCode
from site_recovery_cli.failures import CommandError, explained
from site_recovery_cli.output import say

JOB_POLL_SECONDS: Final = 0.5
FINISHED: Final = frozenset({"Succeeded", "Failed", "Cancelled"})
TASK_FINISHED: Final = frozenset({"Succeeded", "Failed", "Other"})
_MARKS: Final = {"Succeeded": "✓", "Failed": "✗", "InProgress": "…", "Other": "-"}

Begin = Callable[..., Awaitable[AsyncLROPoller[Any]]]


@dataclass(slots=True)
class _JobPlace:
    """Takes the job's id from the answer's Location."""

    job: str = ""

    def note(self, response: PipelineResponse[Any, Any]) -> None:
        location = response.http_response.headers.get("Location", "")
        if not self.job and "/operationresults/" in location.lower():
            self.job = location.partition("?")[0].rstrip("/").rpartition("/")[2]


async def begin_job(connection: Connection, what: str, begin: Begin) -> str | None:
    """Send the request and return its job's name; None when there was nothing left to do."""
    place = _JobPlace()
    with explained(what, connection.hub):
        await begin(polling=False, raw_response_hook=place.note)
    return place.job or None


async def follow_job(
    connection: Connection, scope: tuple[str, str], name: str, seconds_max: float
) -> models.Job:
    """Return the job once it has succeeded, showing each task; CommandError otherwise."""
    with _Progress() as progress:
        try:
            async with asyncio.timeout(seconds_max):
                while True:
                    job = await read_job(connection, scope, name)
                    progress.show(job)
                    if job.properties is not None and job.properties.state in FINISHED:
                        break
                    await asyncio.sleep(JOB_POLL_SECONDS)
        except TimeoutError as error:
            raise CommandError(
                f"job {name} was not finished in {seconds_max:g} s and goes on;"
                f" look again: site-recovery job watch {name}",
                ExitCode.TOOK_TOO_LONG,
            ) from error
    if job.properties is None or job.properties.state != "Succeeded":
        raise CommandError(failure_text(job), ExitCode.JOB_FAILED)
    return job


async def read_job(connection: Connection, scope: tuple[str, str], name: str) -> models.Job:
    """Return a job as it is now."""
    with explained(f"job {name}", connection.hub):
        return await connection.recovery.replication_jobs.get(*scope, name)


def failure_text(job: models.Job) -> str:
    """Say which task failed, what happened, and what the service recommends."""
    properties = job.properties
    if properties is None:
        return f"job {job.name} has no content; look at the hub's log"
    names = {task.task_id: task.friendly_name for task in properties.tasks or []}
    texts = []
    for error in properties.errors or []:
        service, provider = error.service_error_details, error.provider_error_details
        said = [
            getattr(service, "message", None),
            getattr(provider, "error_message", None),
            getattr(service, "possible_causes", None),
            getattr(service, "recommended_action", None)
            or getattr(provider, "recommended_action", None),
        ]
        task = names.get(error.task_id) or "before its first task"
        texts.append(f"{task}: " + " ".join(text for text in said if text))
    reason = "; ".join(texts) or "no error is recorded; look at the hub's log"
    return f"job {job.name} ({properties.friendly_name}) is {properties.state}: {reason}"


@dataclass(slots=True)
class _Progress:
    """Tasks on standard error: a live table on a terminal, else one line when a task has ended."""

    _live: Live | None = None
    _told: set[str] = field(default_factory=set)

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            self._live = Live(console=Console(file=sys.stderr), refresh_per_second=4)
            self._live.start()
        return self

    def __exit__(self, *_problem: object) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, job: models.Job) -> None:
        tasks = (job.properties.tasks if job.properties is not None else None) or []
        if self._live is not None:
            self._live.update(_table(tasks))
            return
        for task in tasks:
            name = task.task_id or task.name or ""
            if task.state in TASK_FINISHED and name not in self._told:
                self._told.add(name)
                say(_line(task))


def _table(tasks: list[models.ASRTask]) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    for task in tasks:
        mark = _MARKS.get(task.state or "", " ")
        table.add_row(mark, Text(_title(task)), _seconds(task))
    return table


def _line(task: models.ASRTask) -> str:
    return f"  {_MARKS.get(task.state or '', ' ')} {_title(task):50} {_seconds(task)}".rstrip()


def _title(task: models.ASRTask) -> str:
    return task.friendly_name or task.name or task.task_id or ""


def _seconds(task: models.ASRTask) -> str:
    if task.start_time is None or task.end_time is None or task.state not in TASK_FINISHED:
        return ""
    seconds = (task.end_time - task.start_time).total_seconds()
    # A task that did not run carries times of the year 1.
    return f"{seconds:.1f} s" if seconds > 0 else ""
