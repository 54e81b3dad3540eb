"""`site-recovery server approvals|approve|reject`: reinstalled servers that wait for a word."""

from collections.abc import Sequence
from typing import Annotated

import typer

from site_recovery_cli.connection import Connection, connected
from site_recovery_cli.exit_codes import ExitCode
from site_recovery_cli.failures import CommandError
from site_recovery_cli.options import OutputFormat, ProfileName, VaultName, Yes, confirm
from site_recovery_cli.output import Format, Row, say, show_list

COLUMNS = {
    "id": "Approval",
    "friendly_name": "Server",
    "decision": "Decision",
    "old_key_thumbprint": "Known key",
    "old_address": "from",
    "new_key_thumbprint": "New key",
    "new_address": "from",
    "requested_at": "Since",
}
NAMING_FIELDS = ("id", "friendly_name", "provider_id", "vmm_id")
PENDING = "pending"

ApprovalArgument = Annotated[
    str, typer.Argument(help="The waiting server's name, or an id from `server approvals`.")
]


def add_approvals(commands: typer.Typer) -> None:
    """Add these commands to the noun `server`."""
    for name, command in (("approvals", approvals), ("approve", approve), ("reject", reject)):
        commands.command(name)(command)


def approvals(
    *, vault: VaultName = None, profile: ProfileName = None, output: OutputFormat = Format.TABLE
) -> None:
    """List reinstalled servers that wait for an operator's word, with both thumbprints."""

    async def work(connection: Connection) -> Sequence[Row]:
        return await connection.routes.approvals(await connection.vault_id(vault))

    show_list(connected(profile, work), COLUMNS, output)


def approve(
    *,
    approval: ApprovalArgument,
    vault: VaultName = None,
    yes: Yes = False,
    profile: ProfileName = None,
) -> None:
    """Let a reinstalled server take over its registration; the old certificate is revoked."""
    _decide(approval, "approve", vault, profile, yes=yes)


def reject(
    *,
    approval: ApprovalArgument,
    vault: VaultName = None,
    yes: Yes = False,
    profile: ProfileName = None,
) -> None:
    """Refuse a server that asks to take over a registration."""
    _decide(approval, "reject", vault, profile, yes=yes)


def _decide(
    approval: str, decision: str, vault: str | None, profile: str | None, *, yes: bool
) -> None:
    async def work(connection: Connection) -> Row:
        vault_id = await connection.vault_id(vault)
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
    say(f"{connected(profile, work).get('friendly_name')} is {ended}.")


def _pending(approvals: Sequence[Row], named: str) -> Row:
    wanted = named.lower()
    found = [
        each
        for each in approvals
        if each.get("decision") == PENDING
        and wanted in {str(each.get(field)).lower() for field in NAMING_FIELDS}
    ]
    if len(found) != 1:
        raise CommandError(
            f"{len(found) or 'no'} servers named {named} wait for approval;"
            " name one by its id from: site-recovery server approvals",
            ExitCode.USAGE if found else ExitCode.NOT_FOUND,
        )
    return found[0]
