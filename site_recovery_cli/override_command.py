"""`site-recovery authority override`: let the former source of a failover run again."""

from dataclasses import dataclass
from typing import Annotated, Any, Final

import typer

from site_recovery_cli.connection import Connection, connected
from site_recovery_cli.job_options import JobOptions, asking_with_job_options
from site_recovery_cli.job_progress import follow_job
from site_recovery_cli.output import Format, say
from site_recovery_cli.preview_command import item_id_of, show_preview
from wire_contract.operator_signature import Order, SignedOperation

PREVIEWED_CHARACTERS_MAX: Final = 256
"""A preview takes no longer texts; the request itself does."""


@asking_with_job_options
def override(
    *,
    machine: Annotated[str, typer.Argument(help="The machine's name, or its item id.")],
    reason: Annotated[str, typer.Option("--reason", help="Why; kept with job and alert.")],
    other_copy_lost: Annotated[
        bool,
        typer.Option(
            "--other-copy-lost",
            help="Nothing of the other copy can run any more; only while its server is away.",
        ),
    ] = False,
    given: JobOptions,
) -> None:
    """Let the fenced former source start again, under a new epoch.

    The other copy is stopped and fenced first, or declared lost: then it is fenced should it ever
    come back. What it wrote stays on its own disks. Before a commit, and with both servers there,
    'failover cancel' is the better way.
    """
    asked = _Override(machine, reason, other_copy_lost, given.vault)

    async def foresee(connection: Connection) -> dict[str, Any]:
        return await asked.foreseen(connection)

    show_preview(connected(given.profile, foresee), Format.TABLE)
    fate = "declare the other copy lost" if other_copy_lost else "stop and fence the other copy"
    given.confirm(f"Let the former source of {machine} start again, and {fate}?")

    async def work(connection: Connection) -> str:
        job = await asked.sent(connection)
        if given.wait_seconds is not None:
            await follow_job(connection, connection.scope(given.vault), job, given.wait_seconds)
        return job

    job = connected(given.profile, work)
    if given.wait_seconds is not None:
        say(f"override of {machine}: done.")
    else:
        say(f"override of {machine}: accepted; follow it: site-recovery job watch {job}")


@dataclass(frozen=True, slots=True)
class _Override:
    """What is asked for."""

    machine: str
    reason: str
    lost: bool
    vault: str | None

    async def foreseen(self, connection: Connection) -> dict[str, Any]:
        """Return what it would do."""
        vault_id = await connection.vault_id(self.vault)
        question = {
            "operation": SignedOperation.OVERRIDE_FENCE.value,
            "target": await item_id_of(connection, vault_id, self.machine),
            "reason": self.reason[:PREVIEWED_CHARACTERS_MAX],
            "other_copy_lost": self.lost,
        }
        return dict(await connection.routes.preview(vault_id, question))

    async def sent(self, connection: Connection) -> str:
        """Send it, signed where the login has a key; return the job's id."""
        vault_id = await connection.vault_id(self.vault)
        item = await item_id_of(connection, vault_id, self.machine)
        signature = None
        if connection.signing is not None:
            signature = connection.signing.header(Order(SignedOperation.OVERRIDE_FENCE, item))
        made = await connection.routes.override_fence(
            vault_id, item, self.reason, lost=self.lost, signature=signature
        )
        return str(made.get("jobId"))
