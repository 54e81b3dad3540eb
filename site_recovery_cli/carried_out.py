"""One long operation of the SDK: begun, named by its job, and followed where that is wished."""

from site_recovery_cli.connection import Connection
from site_recovery_cli.job_progress import Begin, begin_job, follow_job
from site_recovery_cli.output import say


async def carry_out(
    connection: Connection,
    vault: str | None,
    what: str,
    begin: Begin,
    wait_seconds: float | None,
) -> None:
    """Begin it and say which job it is; with `wait_seconds`, follow the job to its end."""
    job = await begin_job(connection, what, begin)
    if job is None:
        say(f"{what}: done, there was nothing to wait for.")
    elif wait_seconds is None:
        say(f"{what}: job {job} has begun; follow it: site-recovery job watch {job}")
    else:
        await follow_job(connection, connection.scope(vault), job, wait_seconds)
        say(f"{what}: done.")
