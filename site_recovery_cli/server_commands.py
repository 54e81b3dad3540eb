"""`site-recovery server ...`: registered VMM servers, and those that wait for approval."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer
from azure.mgmt.recoveryservicessiterecovery import models

from site_recovery_cli.connection import Connection, connect
from site_recovery_cli.exit_codes import ExitCode
from site_recovery_cli.failures import CommandError, explained
from site_recovery_cli.job_progress import Begin, begin_job, follow_job
from site_recovery_cli.options import (
    WAIT_SECONDS,
    OutputFormat,
    ProfileName,
    VaultName,
    Wait,
    WaitSeconds,
    Yes,
    confirm,
    run,
)
from site_recovery_cli.output import Format, Row, say, show_list, show_one

COLUMNS = {
    "server": "Server",
    "connection": "Connection",
    "last_heartbeat_at": "Last heartbeat",
    "provider_version": "Provider",
    "vmm_version": "VMM",
    "protected_items": "Protected",
}
APPROVAL_COLUMNS = {
    "id": "Approval",
    "friendly_name": "Server",
    "decision": "Decision",
    "old_key_thumbprint": "Known key",
    "old_address": "from",
    "new_key_thumbprint": "New key",
    "new_address": "from",
    "requested_at": "Since",
}
ALERT_COLUMNS = {"raised_at": "Raised", "code": "Alert", "message": "What happened"}
APPROVAL_FIELDS = ("id", "friendly_name", "provider_id", "vmm_id")
PENDING = "pending"

commands = typer.Typer(help="VMM servers and their providers.", no_args_is_help=True)

ServerArgument = Annotated[
    str, typer.Argument(help="Name of the server, or an id, as `server list -o json` shows it.")
]
ApprovalArgument = Annotated[
    str, typer.Argument(help="The waiting server's name, or an id from `server approvals`.")
]


@dataclass(frozen=True, slots=True)
class _Server:
    """A registered server, and how the SDK addresses it."""

    row: Row
    fabric: str
    name: str

    @property
    def title(self) -> str:
        return str(self.row["server"])


@commands.command("list")
def list_servers(
    *, vault: VaultName = None, profile: ProfileName = None, output: OutputFormat = Format.TABLE
) -> None:
    """List the registered servers with their connection."""

    async def work() -> list[Row]:
        async with connect(profile) as connection:
            return [server.row for server in await _servers(connection, vault)]

    show_list(run(work()), COLUMNS, output)


@commands.command("show")
def show(
    *,
    server: ServerArgument,
    vault: VaultName = None,
    profile: ProfileName = None,
    output: OutputFormat = Format.TABLE,
) -> None:
    """Show one server with all that the hub knows of it."""

    async def work() -> Row:
        async with connect(profile) as connection:
            return (await _server(connection, vault, server)).row

    show_one(run(work()), output)


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

    async def work() -> None:
        async with connect(profile) as connection:
            found = await _server(connection, vault, server)
            begin = connection.recovery.replication_recovery_services_providers
            job = _Request(f"refresh {found.title}", begin.begin_refresh_provider, found)
            await job.run(connection, vault, wait_seconds if wait else None)

    run(work())


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

    async def work() -> None:
        async with connect(profile) as connection:
            found = await _server(connection, vault, server)
            begin = connection.recovery.replication_recovery_services_providers
            job = _Request(f"remove {found.title}", begin.begin_delete, found)
            await job.run(connection, vault, wait_seconds if wait else None)

    run(work())


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

    async def work() -> None:
        async with connect(profile) as connection:
            found = await _server(connection, vault, server)
            begin = connection.recovery.replication_recovery_services_providers
            job = _Request(f"purge {found.title}", begin.begin_purge, found)
            await job.run(connection, vault, wait_seconds if wait else None)

    run(work())


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

    async def work() -> str:
        async with connect(profile) as connection:
            found = await _server(connection, vault, server)
            vault_id = await _vault_id(connection, vault)
            await connection.routes.revoke_server(vault_id, str(found.row["provider_id"]))
            return found.title

    say(f"The certificates of {run(work())} are revoked.")


@commands.command("approvals")
def approvals(
    *, vault: VaultName = None, profile: ProfileName = None, output: OutputFormat = Format.TABLE
) -> None:
    """List reinstalled servers that wait for an operator's word, with both thumbprints."""

    async def work() -> list[Row]:
        async with connect(profile) as connection:
            return [*await connection.routes.approvals(await _vault_id(connection, vault))]

    show_list(run(work()), APPROVAL_COLUMNS, output)


@commands.command("approve")
def approve(
    *,
    approval: ApprovalArgument,
    vault: VaultName = None,
    yes: Yes = False,
    profile: ProfileName = None,
) -> None:
    """Let a reinstalled server take over its registration; the old certificate is revoked."""
    _decide(approval, "approve", vault, profile, yes=yes)


@commands.command("reject")
def reject(
    *,
    approval: ApprovalArgument,
    vault: VaultName = None,
    yes: Yes = False,
    profile: ProfileName = None,
) -> None:
    """Refuse a server that asks to take over a registration."""
    _decide(approval, "reject", vault, profile, yes=yes)


@commands.command("alerts")
def alerts(
    *, vault: VaultName = None, profile: ProfileName = None, output: OutputFormat = Format.TABLE
) -> None:
    """List what was raised about the identities of servers, oldest first."""

    async def work() -> list[Row]:
        async with connect(profile) as connection:
            return [*await connection.routes.alerts(await _vault_id(connection, vault))]

    show_list(run(work()), ALERT_COLUMNS, output)


@dataclass(frozen=True, slots=True)
class _Request:
    """A long-running operation on a server."""

    what: str
    operation: Begin
    server: _Server

    async def run(
        self, connection: Connection, vault: str | None, wait_seconds: float | None
    ) -> None:
        """Begin it, and follow its job where that is wanted."""
        scope = connection.scope(vault)

        async def begin(**options: Any) -> Any:
            return await self.operation(*scope, self.server.fabric, self.server.name, **options)

        job = await begin_job(connection, self.what, begin)
        if job is None:
            say(f"{self.what}: done, there was nothing to wait for.")
        elif wait_seconds is None:
            say(f"{self.what}: job {job} has begun; follow it: site-recovery job watch {job}")
        else:
            await follow_job(connection, scope, job, wait_seconds)
            say(f"{self.what}: done.")


def _decide(
    approval: str, decision: str, vault: str | None, profile: str | None, *, yes: bool
) -> None:
    async def work() -> Row:
        async with connect(profile) as connection:
            vault_id = await _vault_id(connection, vault)
            waiting = _pending(await connection.routes.approvals(vault_id), approval)
            confirm(
                f"{decision.capitalize()} {waiting.get('friendly_name')}, which comes from"
                f" {waiting.get('new_address')} with the key {waiting.get('new_key_thumbprint')}"
                f" (known: {waiting.get('old_key_thumbprint')})?",
                yes=yes,
            )
            await connection.routes.decide(vault_id, str(waiting["id"]), decision)
            return waiting

    ended = "approved" if decision == "approve" else "rejected"
    say(f"{run(work()).get('friendly_name')} is {ended}.")


def _pending(approvals: Sequence[Row], named: str) -> Row:
    wanted = named.lower()
    found = [
        each
        for each in approvals
        if each.get("decision") == PENDING
        and wanted in {str(each.get(field)).lower() for field in APPROVAL_FIELDS}
    ]
    if len(found) != 1:
        raise CommandError(
            f"{len(found) or 'no'} servers named {named} wait for approval;"
            " name one by its id from: site-recovery server approvals",
            ExitCode.USAGE if found else ExitCode.NOT_FOUND,
        )
    return found[0]


async def _vault_id(connection: Connection, vault: str | None) -> str:
    profile = connection.profile
    return await connection.routes.vault_id(
        profile.subscription_id, profile.resource_group, connection.vault(vault)
    )


async def _servers(connection: Connection, vault: str | None) -> list[_Server]:
    group = connection.recovery.replication_recovery_services_providers
    with explained("list servers", connection.hub):
        return [_read(provider) async for provider in group.list(*connection.scope(vault))]


async def _server(connection: Connection, vault: str | None, named: str) -> _Server:
    wanted = named.lower()
    fields = ("server", "name", "fabric", "provider_id")
    found = [
        server
        for server in await _servers(connection, vault)
        if wanted in {str(server.row[field]).lower() for field in fields}
    ]
    if not found:
        raise CommandError(
            f"there is no server {named} in this vault; see: site-recovery server list",
            ExitCode.NOT_FOUND,
        )
    if len(found) > 1:
        ids = ", ".join(str(server.row["provider_id"]) for server in found)
        raise CommandError(
            f"{len(found)} servers are named {named}; name one by its id: {ids}", ExitCode.USAGE
        )
    return found[0]


def _read(provider: models.RecoveryServicesProvider) -> _Server:
    properties = provider.properties or models.RecoveryServicesProviderProperties()
    fabric = _segment_after(provider.id or "", "replicationfabrics")
    beat = properties.last_heart_beat
    row = {
        "server": properties.fabric_friendly_name or properties.friendly_name or provider.name,
        "connection": properties.connection_status,
        "last_heartbeat_at": beat.isoformat() if beat is not None else None,
        "provider_version": properties.provider_version,
        "vmm_version": properties.server_version,
        "protected_items": properties.protected_item_count,
        "health": [
            f"{error.error_message} {error.recommended_action or ''}".strip()
            for error in properties.health_error_details or []
        ],
        "name": provider.name,
        "fabric": fabric,
        "provider_id": properties.dra_identifier,
        "id": provider.id,
    }
    return _Server(row, fabric, provider.name or "")


def _segment_after(resource_id: str, kind: str) -> str:
    parts = resource_id.split("/")
    for place, part in enumerate(parts[:-1]):
        if part.lower() == kind:
            return parts[place + 1]
    return ""
