"""`site-recovery job ...`: what became of a long-running operation."""

from typing import Annotated

import typer
from azure.mgmt.recoveryservicessiterecovery import models

from site_recovery_cli.connection import connect
from site_recovery_cli.job_progress import failure_text, follow_job, read_job
from site_recovery_cli.options import (
    WAIT_SECONDS,
    OutputFormat,
    ProfileName,
    VaultName,
    WaitSeconds,
    run,
)
from site_recovery_cli.output import Format, Row, say, show_one

commands = typer.Typer(help="Jobs.", no_args_is_help=True)

JobArgument = Annotated[str, typer.Argument(help="The job's id.")]


@commands.command("show")
def show(
    *,
    job: JobArgument,
    vault: VaultName = None,
    profile: ProfileName = None,
    output: OutputFormat = Format.TABLE,
) -> None:
    """Show a job with its tasks and errors."""

    async def work() -> Row:
        async with connect(profile) as connection:
            return _row(await read_job(connection, connection.scope(vault), job))

    show_one(run(work()), output)


@commands.command("watch")
def watch(
    *,
    job: JobArgument,
    vault: VaultName = None,
    wait_seconds: WaitSeconds = WAIT_SECONDS,
    profile: ProfileName = None,
) -> None:
    """Follow a job to its end, showing each task; exit 1 when it fails."""

    async def work() -> None:
        async with connect(profile) as connection:
            await follow_job(connection, connection.scope(vault), job, wait_seconds)

    run(work())
    say(f"job {job}: done.")


def _row(job: models.Job) -> Row:
    properties = job.properties or models.JobProperties()
    return {
        "job": job.name,
        "operation": properties.friendly_name,
        "state": properties.state,
        "target": properties.target_object_name,
        "started_at": properties.start_time.isoformat() if properties.start_time else None,
        "ended_at": properties.end_time.isoformat() if properties.end_time else None,
        "tasks": [
            {"task": task.friendly_name or task.name, "state": task.state}
            for task in properties.tasks or []
        ],
        "failure": failure_text(job) if properties.errors else None,
    }
