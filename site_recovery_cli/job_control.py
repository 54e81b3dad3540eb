"""`site-recovery job cancel|restart|resume`: what operators may do to a job."""

from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, replace
from typing import Annotated, Any, Final

import typer
from azure.mgmt.recoveryservicessiterecovery import models

from site_recovery_cli.connection import Connection, connected
from site_recovery_cli.job_options import JobOptions, asking_with_job_options, with_job_options
from site_recovery_cli.job_progress import SUCCEEDED, begin_job, follow_job
from site_recovery_cli.options import (
    JobArgument,
)
from site_recovery_cli.output import say
from site_recovery_cli.plan_orders import orders_in
from wire_contract.operator_signature import HEADER

CANCELLED: Final = frozenset({"Cancelled"})


def add_control(commands: typer.Typer) -> None:
    """Add these commands to the noun `job`."""
    for name, command in (("cancel", cancel), ("restart", restart), ("resume", resume)):
        commands.command(name)(command)


@asking_with_job_options
def cancel(
    *,
    job: JobArgument,
    given: JobOptions,
) -> None:
    """Cancel a job: what runs is withdrawn, what was done is taken back, the newest first."""
    given.confirm(f"Cancel job {job} and take back what it did?")

    async def begin(connection: Connection, scope: tuple[str, str], **options: Any) -> Any:
        options |= await _signed(connection, given.vault, job)
        options |= await _signed_anew(connection, given.vault, job, with_scripts=False)
        return await connection.recovery.replication_jobs.begin_cancel(*scope, job, **options)

    _Request("cancel", job, given, CANCELLED).send(begin)


@with_job_options
def restart(
    *,
    job: JobArgument,
    given: JobOptions,
) -> None:
    """Restart a failed job from the task that failed; it keeps its id."""

    async def begin(connection: Connection, scope: tuple[str, str], **options: Any) -> Any:
        options |= await _signed(connection, given.vault, job)
        options |= await _signed_anew(connection, given.vault, job)
        return await connection.recovery.replication_jobs.begin_restart(*scope, job, **options)

    _Request("restart", job, given).send(begin)


@with_job_options
def resume(
    *,
    job: JobArgument,
    comments: Annotated[
        str, typer.Option("--comments", help="What was done and seen; kept with the job.")
    ] = "",
    given: JobOptions,
) -> None:
    """Resume a job that waits for a person: its manual action is done."""
    wanted = models.ResumeJobParams(properties=models.ResumeJobParamsProperties(comments=comments))

    async def begin(connection: Connection, scope: tuple[str, str], **options: Any) -> Any:
        options |= await _signed_anew(connection, given.vault, job)
        group = connection.recovery.replication_jobs
        return await group.begin_resume(*scope, job, wanted, **options)

    _Request("resume", job, given).send(begin)


async def _signed(connection: Connection, vault: str | None, job: str) -> dict[str, Any]:
    """Return the header that signs what follows: that of the job's own request may have ended.

    Nothing, where the login has no key, or the job does nothing that operators sign.
    """
    if connection.signing is None:
        return {}
    order = await connection.routes.order_of_job(await connection.vault_id(vault), job)
    return {} if order is None else {"headers": {HEADER: connection.signing.header(order)}}


async def _signed_anew(
    connection: Connection, vault: str | None, job: str, *, with_scripts: bool = True
) -> dict[str, Any]:
    """Return what puts signatures for all of a plan's machines and scripts into a request.

    A job that is cancelled begins no script any more.
    """
    if connection.signing is None:
        return {}
    vault_id = await connection.vault_id(vault)
    orders = orders_in(await connection.routes.progress(vault_id, job))
    if orders is None:
        return {}
    if not with_scripts:
        orders = replace(orders, scripts=())
    orders.tell()
    hook = connection.signing.for_plan(
        orders.operation, orders.items, orders.direction, orders.scripts
    )
    return {"raw_request_hook": hook}


@dataclass(frozen=True, slots=True)
class _Request:
    """What is asked of a job, where, and for how long its end is waited for."""

    verb: str
    job: str
    given: JobOptions
    wanted: Collection[str] = SUCCEEDED

    def send(self, begin: Callable[..., Awaitable[Any]]) -> None:
        """Ask; follow the job to the end that was asked for."""
        what = f"{self.verb} job {self.job}"

        async def work(connection: Connection) -> None:
            scope = connection.scope(self.given.vault)

            async def sent(**options: Any) -> Any:
                return await begin(connection, scope, **options)

            await begin_job(connection, what, sent)
            if self.given.wait_seconds is not None:
                await follow_job(
                    connection, scope, self.job, self.given.wait_seconds, wanted=self.wanted
                )

        connected(self.given.profile, work)
        if self.given.wait_seconds is None:
            say(f"{what}: accepted; follow it: site-recovery job watch {self.job}")
        else:
            say(f"{what}: done.")
