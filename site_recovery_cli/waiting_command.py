"""`site-recovery waiting`: everything in a vault that is not final."""

from collections.abc import Sequence

from site_recovery_cli.connection import Connection, connected
from site_recovery_cli.options import OutputFormat, ProfileName, VaultName
from site_recovery_cli.output import Format, Row, show_list

COLUMNS = {"kind": "What", "name": "Name", "id": "Id", "waiting_for": "Waits for"}


def waiting(
    *, vault: VaultName = None, profile: ProfileName = None, output: OutputFormat = Format.TABLE
) -> None:
    """List what is not final: what it waits for, since when, and what can end it."""

    async def work(connection: Connection) -> Sequence[Row]:
        return await connection.routes.waiting(await connection.vault_id(vault))

    show_list(connected(profile, work), COLUMNS, output)
