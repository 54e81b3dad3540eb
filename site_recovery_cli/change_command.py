"""`site-recovery changes`: what changed in a vault, and what changes from now on."""

from collections.abc import Callable
from typing import Annotated, Any, Final

import typer

from site_recovery_cli.connection import Connection, connected
from site_recovery_cli.options import OutputFormat, ProfileName, VaultName
from site_recovery_cli.output import Format, Row, say, show_lines, show_list

COLUMNS: Final = {"change": "Change", "kind": "Kind", "id": "Id", "deleted": "Deleted"}
PAGE: Final = 500
PAGES_MAX: Final = 1_000
"""A vault where something changes all the time is listed up to here; --follow goes on."""

WAIT_SECONDS: Final = 20


def changes(
    *,
    since: Annotated[
        int, typer.Option("--since", min=0, help="Only above this change number.")
    ] = 0,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on as things change, until Ctrl-C.")
    ] = False,
    vault: VaultName = None,
    profile: ProfileName = None,
    output: OutputFormat = Format.TABLE,
) -> None:
    """List what changed in a vault since a change number, the newest change of each thing."""

    async def work(connection: Connection) -> None:
        vault_id = await connection.vault_id(vault)
        if follow:
            await _follow(connection, vault_id, since, _line)
            return
        rows, highest = await _all(connection, vault_id, since)
        show_list(rows, COLUMNS, output)
        say(f"highest change: {highest}")

    connected(profile, work)


async def _all(connection: Connection, vault_id: str, since: int) -> tuple[list[Row], int]:
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for _ in range(PAGES_MAX):
        page = await connection.routes.changes(vault_id, since, PAGE, 0)
        found, since = page["changes"], int(page["highest"])
        if page.get("restarted"):
            say("the hub was restored: its numbers have begun again; everything is listed")
            rows, since = {}, 0
            continue
        # Something that changed while the pages were read is told again, with its newest change.
        rows.update({(str(row.get("kind")), str(row.get("id"))): row for row in found})
        if not found:
            break
    return sorted(rows.values(), key=lambda row: int(row["change"])), since


async def _follow(
    connection: Connection, vault_id: str, since: int, show: Callable[[Row], None]
) -> None:
    while True:
        page = await connection.routes.changes(vault_id, since, PAGE, WAIT_SECONDS)
        if page.get("restarted"):
            say("the hub was restored: what you know may be newer than what it knows")
        for row in page["changes"]:
            show(row)
        since = int(page["highest"])


def _line(row: Row) -> None:
    gone = " deleted" if row.get("deleted") else ""
    show_lines([f"{row.get('change')} {row.get('kind')} {row.get('id')}{gone}"])
