"""What a job that has not ended waits for, and how long that usually takes, by the hub's words."""

from azure.mgmt.recoveryservicessiterecovery import models

from site_recovery_cli.connection import Connection
from site_recovery_cli.exit_codes import ExitCode
from site_recovery_cli.failures import CommandError
from site_recovery_cli.job_report import FINISHED, SUSPENDED, properties_of


async def usual_lines(connection: Connection, vault: str | None, job: models.Job) -> list[str]:
    """Return what there is to say of a job that has not ended; nothing where nothing is known."""
    if properties_of(job).state in FINISHED or job.name is None:
        return []
    try:
        told = await connection.routes.progress(await connection.vault_id(vault), job.name)
    except CommandError as error:
        if error.exit_code in {ExitCode.NOT_OFFERED, ExitCode.NOT_FOUND}:
            # An older hub has not learnt; the job itself was shown.
            return []
        raise
    running = [
        f"{task.get('task_id')}: {task['words']}"
        for task in told["tasks"]
        if task.get("words") and task.get("state") == "InProgress"
    ]
    whole = [f"the job: {told['words']}"] if told.get("words") else []
    usual = [f"  usual    {line}" for line in (*running, *whole)]
    # A suspended job is told apart, with the command that resumes it.
    waits = told.get("waiting_for") if properties_of(job).state != SUSPENDED else None
    return [*usual, *([f"  {waits}"] if waits else [])]
