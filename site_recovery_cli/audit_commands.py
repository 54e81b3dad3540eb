"""`site-recovery audit ...`: who did what, as JSON lines, and whether an export is whole."""

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from site_recovery_cli.connection import Connection, connected
from site_recovery_cli.exit_codes import ExitCode
from site_recovery_cli.failures import CommandError
from site_recovery_cli.job_export_command import copy_chunks, write_chunks
from site_recovery_cli.options import ProfileName, VaultName
from site_recovery_cli.output import say
from wire_contract.audit_chain import broken_at

LINE_BYTES_MAX: Final = 65_536

commands = typer.Typer(help="Who did what, when and from where.", no_args_is_help=True)


@commands.command("export")
def export(
    *,
    of_hub: Annotated[
        bool, typer.Option("--of-hub", help="Of the hub itself, not of a vault (Owner).")
    ] = False,
    after: Annotated[
        str | None, typer.Option("--after", help="Only lines behind this number, e.g. 120.0.")
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            "--file", dir_okay=False, help="Write it there (a new file, 0600), not to the screen."
        ),
    ] = None,
    vault: VaultName = None,
    profile: ProfileName = None,
) -> None:
    """Export the audit log as JSON lines, oldest first."""

    async def work(connection: Connection) -> None:
        vault_id = None if of_hub else await connection.vault_id(vault)
        chunks = connection.routes.audit(vault_id, after)
        if file is None:
            await copy_chunks(chunks, sys.stdout.buffer)
            return
        await write_chunks(chunks, file)
        say(f"exported to {file}")

    connected(profile, work)


@commands.command("verify")
def verify(
    *, file: Annotated[Path, typer.Argument(dir_okay=False, help="An exported audit log.")]
) -> None:
    """Check that no line of an export was changed, left out or put in between."""
    try:
        broken = broken_at(_rows(file))
    except OSError as error:
        raise CommandError(
            f"cannot read {file}: {error.strerror}; name an export of the audit log",
            ExitCode.USAGE,
        ) from error
    if broken is not None:
        raise CommandError(
            f"{file}: line {broken} does not follow the line before it: the log was changed, or"
            " lines are missing; export it anew and compare",
            ExitCode.JOB_FAILED,
        )
    say(f"{file}: every line follows the one before it")


def _rows(file: Path) -> Iterator[Mapping[str, Any]]:
    with file.open("rb") as stream:
        number = 0
        while row := stream.readline(LINE_BYTES_MAX + 1):
            number += 1
            content = _row(row)
            if content is None:
                raise CommandError(
                    f"{file}: row {number} is no row of an exported audit log; name a file that"
                    " site-recovery audit export has written",
                    ExitCode.USAGE,
                )
            yield content


def _row(row: bytes) -> Mapping[str, Any] | None:
    try:
        content = json.loads(row) if len(row) <= LINE_BYTES_MAX else None
    except (ValueError, RecursionError):
        return None
    whole = isinstance(content, dict) and {"number", "hash", "line"} <= set(content)
    return content if whole else None
