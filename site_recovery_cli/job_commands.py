"""`site-recovery job ...`: what became of a long-running operation."""

from typing import Annotated

import typer
from azure.mgmt.recoveryservicessiterecovery import models

from site_recovery_cli.connection import Connection, connected
from site_recovery_cli.failures import explained
from site_recovery_cli.job_control import add_control
from site_recovery_cli.job_progress import follow_job, read_job
from site_recovery_cli.job_report import (
    FINISHED,
    ending_lines,
    failure_lines,
    full_row,
    list_row,
    properties_of,
    waits_for,
)
from site_recovery_cli.job_tree import tree
from site_recovery_cli.job_usual import usual_lines
from site_recovery_cli.options import (
    WAIT_SECONDS,
    JobArgument,
    OutputFormat,
    ProfileName,
    VaultName,
    WaitSeconds,
)
from site_recovery_cli.output import Format, Row, say, show_lines, show_list, show_one

LISTED_MAX = 100
COLUMNS = {
    "job": "Job",
    "operation": "Operation",
    "target": "Target",
    "state": "State",
    "started_at": "Started",
    "ended_at": "Ended",
}

commands = typer.Typer(help="Jobs.", no_args_is_help=True)


@commands.command("list")
def list_all(
    *,
    state: Annotated[
        str | None, typer.Option("--state", help="Only those in this state, e.g. Failed.")
    ] = None,
    active: Annotated[
        bool, typer.Option("--active", help="Only those that have not ended.")
    ] = False,
    target: Annotated[
        str | None, typer.Option("--target", help="Only those on this machine, cloud or server.")
    ] = None,
    last: Annotated[
        int, typer.Option("--last", min=1, help="How many at most, the newest.")
    ] = LISTED_MAX,
    vault: VaultName = None,
    profile: ProfileName = None,
    output: OutputFormat = Format.TABLE,
) -> None:
    """List jobs, the newest first."""

    def wanted(job: models.Job) -> bool:
        properties = properties_of(job)
        name = (properties.target_object_name or "").lower()
        return (
            (state is None or (properties.state or "").lower() == state.lower())
            and not (active and properties.state in FINISHED)
            and (target is None or name == target.lower())
        )

    async def work(connection: Connection) -> tuple[list[Row], bool]:
        rows: list[Row] = []
        with explained("list jobs", connection.hub):
            listed = connection.recovery.replication_jobs.list(*connection.scope(vault))
            async for job in listed:
                if wanted(job):
                    if len(rows) == last:
                        return rows, True
                    rows.append(list_row(job))
        return rows, False

    rows, more = connected(profile, work)
    show_list(rows, COLUMNS, output)
    if more:
        say(f"There are more than {last}; --last N shows more of them.")


@commands.command("show")
def show(
    *,
    job: JobArgument,
    vault: VaultName = None,
    profile: ProfileName = None,
    output: OutputFormat = Format.TABLE,
) -> None:
    """Show a job with its tasks and errors, and what may be done about it."""

    async def work(connection: Connection) -> tuple[models.Job, list[str]]:
        read = await read_job(connection, connection.scope(vault), job)
        shows = output is Format.TABLE
        return read, await usual_lines(connection, vault, read) if shows else []

    found, usual = connected(profile, work)
    row = full_row(found)
    if output is not Format.TABLE:
        show_one(row, output)
        return
    told = {"tasks", "errors", "failure", "next", "allowed_actions"}
    show_one({name: each for name, each in row.items() if name not in told and each}, output)
    waiting = waits_for(found)
    show_lines(
        [
            *(line.text for line in tree(properties_of(found).tasks)),
            *failure_lines(found),
            *ending_lines(found),
            *usual,
            *([f"  {waiting}"] if waiting else []),
            *(f"  {each}" for each in row["next"]),
        ]
    )


@commands.command("watch")
def watch(
    *,
    job: JobArgument,
    vault: VaultName = None,
    wait_seconds: WaitSeconds = WAIT_SECONDS,
    profile: ProfileName = None,
) -> None:
    """Follow a job to its end, showing each task; exit 1 when it fails."""

    async def work(connection: Connection) -> None:
        await follow_job(connection, connection.scope(vault), job, wait_seconds)

    connected(profile, work)
    say(f"job {job}: done.")


add_control(commands)
