"""`site-recovery server ...`: registered VMM servers."""

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from site_recovery_cli.approval_commands import add_approvals
from site_recovery_cli.connection import Connection, connected
from site_recovery_cli.job_options import JobOptions, asking_with_job_options, with_job_options
from site_recovery_cli.options import (
    OutputFormat,
    ProfileName,
    VaultName,
    Yes,
    confirm,
)
from site_recovery_cli.output import Format, Row, say, show_list, show_one
from site_recovery_cli.servers import ServerOperation, find_server, list_servers

COLUMNS = {
    "server": "Server",
    "connection": "Connection",
    "last_heartbeat_at": "Last heartbeat",
    "provider_version": "Provider",
    "vmm_version": "VMM",
    "protected_items": "Protected",
}
ALERT_COLUMNS = {"raised_at": "Raised", "code": "Alert", "message": "What happened"}

REFRESH = ServerOperation("refresh", lambda group: group.begin_refresh_provider)
REMOVE = ServerOperation("remove", lambda group: group.begin_delete)
PURGE = ServerOperation("purge", lambda group: group.begin_purge)

commands = typer.Typer(help="VMM servers and their providers.", no_args_is_help=True)

ServerArgument = Annotated[
    str, typer.Argument(help="Name of the server, or an id, as `server list -o json` shows it.")
]


@commands.command("list")
def list_all(
    *, vault: VaultName = None, profile: ProfileName = None, output: OutputFormat = Format.TABLE
) -> None:
    """List the registered servers with their connection."""

    async def work(connection: Connection) -> list[Row]:
        return [server.row for server in await list_servers(connection, vault)]

    show_list(connected(profile, work), COLUMNS, output)


@commands.command("show")
def show(
    *,
    server: ServerArgument,
    vault: VaultName = None,
    profile: ProfileName = None,
    output: OutputFormat = Format.TABLE,
) -> None:
    """Show one server with all that the hub knows of it."""

    async def work(connection: Connection) -> Row:
        found = await find_server(connection, vault, server)
        told = await connection.routes.servers(await connection.vault_id(vault))
        known: Row = next(
            (each for each in told if each.get("provider_id") == found.provider_id), {}
        )
        policy = known.get("auto_update")
        return {
            **found.row,
            "available_version": known.get("available_version"),
            "update_policy": "not set up" if policy is None else f"automatic updates {policy}",
        }

    show_one(connected(profile, work), output)


@commands.command("refresh")
@with_job_options
def refresh(
    *,
    server: ServerArgument,
    given: JobOptions,
) -> None:
    """Let the provider send its inventory anew."""
    _operate(REFRESH, server, given)


@commands.command("remove")
@asking_with_job_options
def remove(
    *,
    server: ServerArgument,
    given: JobOptions,
) -> None:
    """Unregister a server: its provider cleans up; refused while something depends on it."""
    given.confirm(f"Unregister {server}?")
    _operate(REMOVE, server, given)


@commands.command("purge")
@asking_with_job_options
def purge(
    *,
    server: ServerArgument,
    given: JobOptions,
) -> None:
    """Forget a server that is gone; run `provider-agent cleanup` on it if it ever comes back."""
    given.confirm(f"Forget {server} without asking it?")
    _operate(PURGE, server, given)


@commands.command("revoke")
def revoke(
    *,
    server: ServerArgument,
    vault: VaultName = None,
    yes: Yes = False,
    profile: ProfileName = None,
) -> None:
    """Revoke a server's certificates: its connections end at once, it must register again."""
    confirm(f"Revoke the certificates of {server}?", yes=yes)

    async def work(connection: Connection) -> str:
        found = await find_server(connection, vault, server)
        await connection.routes.revoke_server(await connection.vault_id(vault), found.provider_id)
        return found.title

    say(f"The certificates of {connected(profile, work)} are revoked.")


@commands.command("alerts")
def alerts(
    *, vault: VaultName = None, profile: ProfileName = None, output: OutputFormat = Format.TABLE
) -> None:
    """List what was raised about the servers of a vault, oldest first."""

    async def work(connection: Connection) -> Sequence[Row]:
        return await connection.routes.alerts(await connection.vault_id(vault))

    show_list(connected(profile, work), ALERT_COLUMNS, output)


add_approvals(commands)


def _operate(operation: ServerOperation, server: str, given: JobOptions) -> None:
    async def work(connection: Connection) -> Any:
        await operation.run(connection, given.vault, server, given.wait_seconds)

    connected(given.profile, work)
