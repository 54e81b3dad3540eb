"""How long a job that runs usually takes, as the hub has learnt from earlier ones."""

from azure.mgmt.recoveryservicessiterecovery import models

from site_recovery_cli.connection import Connection
from site_recovery_cli.exit_codes import ExitCode
from site_recovery_cli.failures import CommandError
from site_recovery_cli.job_report import FINISHED, properties_of


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
    return [f"  usual    {line}" for line in (*running, *whole)]
