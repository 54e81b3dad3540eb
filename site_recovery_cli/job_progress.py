"""Follows a job of the hub: each task as it runs, and what to do when one failed."""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field
from typing import Any, Final, Self

from azure.core.pipeline import PipelineResponse
from azure.core.polling import AsyncLROPoller
from azure.mgmt.recoveryservicessiterecovery import models
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from site_recovery_cli.connection import Connection
from site_recovery_cli.exit_codes import ExitCode
from site_recovery_cli.failures import CommandError, explained
from site_recovery_cli.job_report import (
    FINISHED,
    failure_lines,
    failure_text,
    next_commands,
    properties_of,
    waits_for,
)
from site_recovery_cli.job_tree import TaskLine, tree
from site_recovery_cli.output import say

JOB_POLL_SECONDS: Final = 0.5
SUCCEEDED: Final = frozenset({"Succeeded"})

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
    connection: Connection,
    scope: tuple[str, str],
    name: str,
    seconds_max: float,
    *,
    wanted: Collection[str] = SUCCEEDED,
) -> models.Job:
    """Return the job once it has ended as wanted, showing each task; CommandError otherwise."""
    with _Progress() as progress:
        try:
            async with asyncio.timeout(seconds_max):
                while True:
                    job = await read_job(connection, scope, name)
                    progress.show(job)
                    if properties_of(job).state in FINISHED:
                        break
                    await asyncio.sleep(JOB_POLL_SECONDS)
        except TimeoutError as error:
            raise CommandError(
                f"job {name} was not finished in {seconds_max:g} s and goes on;"
                f" look again: site-recovery job watch {name}",
                ExitCode.TOOK_TOO_LONG,
            ) from error
    if properties_of(job).state not in wanted:
        for line in (*failure_lines(job), *_next_lines(job)):
            say(line)
        raise CommandError(failure_text(job), ExitCode.JOB_FAILED)
    return job


async def read_job(connection: Connection, scope: tuple[str, str], name: str) -> models.Job:
    """Return a job as it is now."""
    with explained(f"job {name}", connection.hub):
        return await connection.recovery.replication_jobs.get(*scope, name)


def _next_lines(job: models.Job) -> list[str]:
    return [f"  {'next' if index == 0 else '':9}{each}" for index, each in _counted(job)]


def _counted(job: models.Job) -> list[tuple[int, str]]:
    return list(enumerate(next_commands(job)))


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
        lines, waiting = tree(properties_of(job).tasks), waits_for(job)
        if self._live is not None:
            self._live.update(Group(_table(lines), Text(waiting or "")))
            return
        for line in lines:
            if line.finished:
                self._tell(line.place + _attempt(line), line.text)
        if waiting is not None:
            self._tell(waiting, waiting)

    def _tell(self, place: str, text: str) -> None:
        if place not in self._told:
            self._told.add(place)
            say(text)


def _attempt(line: TaskLine) -> str:
    """Tell an ending from that of an earlier attempt of the same task."""
    return f"@{line.task.start_time}" if line.task.start_time is not None else ""


def _table(lines: list[TaskLine]) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    for line in lines:
        table.add_row(line.mark, Text(f"{'  ' * line.depth}{line.title}"), Text(line.words))
    return table
