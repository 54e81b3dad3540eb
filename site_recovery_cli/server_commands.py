"""`site-recovery server ...`: registered VMM servers."""

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from site_recovery_cli.approval_commands import add_approvals
from site_recovery_cli.connection import Connection, connected
from site_recovery_cli.options import (
    WAIT_SECONDS,
    OutputFormat,
    ProfileName,
    VaultName,
    Wait,
    WaitSeconds,
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
def refresh(
    *,
    server: ServerArgument,
    vault: VaultName = None,
    wait: Wait = False,
    wait_seconds: WaitSeconds = WAIT_SECONDS,
    profile: ProfileName = None,
) -> None:
    """Let the provider send its inventory anew."""
    _operate(REFRESH, server, vault, profile, wait_seconds if wait else None)


@commands.command("remove")
def remove(
    *,
    server: ServerArgument,
    vault: VaultName = None,
    wait: Wait = False,
    wait_seconds: WaitSeconds = WAIT_SECONDS,
    yes: Yes = False,
    profile: ProfileName = None,
) -> None:
    """Unregister a server: its provider cleans up; refused while something depends on it."""
    confirm(f"Unregister {server}?", yes=yes)
    _operate(REMOVE, server, vault, profile, wait_seconds if wait else None)


@commands.command("purge")
def purge(
    *,
    server: ServerArgument,
    vault: VaultName = None,
    wait: Wait = False,
    wait_seconds: WaitSeconds = WAIT_SECONDS,
    yes: Yes = False,
    profile: ProfileName = None,
) -> None:
    """Forget a server that is gone; run `provider-agent cleanup` on it if it ever comes back."""
    confirm(f"Forget {server} without asking it?", yes=yes)
    _operate(PURGE, server, vault, profile, wait_seconds if wait else None)


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


def _operate(
    operation: ServerOperation,
    server: str,
    vault: str | None,
    profile: str | None,
    wait_seconds: float | None,
) -> None:
    async def work(connection: Connection) -> Any:
        await operation.run(connection, vault, server, wait_seconds)

    connected(profile, work)
