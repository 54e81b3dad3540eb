"""`site-recovery job export`: all jobs of a time, as JSON or CSV."""

import os
import sys
from collections.abc import AsyncIterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated, BinaryIO

import typer

from service_shell.errors import ProgramError
from site_recovery_cli.connection import Connection, connected
from site_recovery_cli.options import ProfileName, VaultName
from site_recovery_cli.output import say


class ExportForm(StrEnum):
    """How jobs are exported."""

    JSON = "json"
    CSV = "csv"


def add_export(commands: typer.Typer) -> None:
    """Add the command to those of jobs."""
    commands.command("export")(export)


def export(
    *,
    begin: Annotated[
        str | None, typer.Option("--from", help="Begun then or later, e.g. 2026-01-31T12:00Z.")
    ] = None,
    end: Annotated[str | None, typer.Option("--to", help="Begun before then.")] = None,
    state: Annotated[
        str | None, typer.Option("--state", help="Only those in this state, e.g. Failed.")
    ] = None,
    form: Annotated[
        ExportForm, typer.Option("--format", help="How they are written.")
    ] = ExportForm.JSON,
    file: Annotated[
        Path | None,
        typer.Option(
            "--file", dir_okay=False, help="Write it there (a new file, 0600), not to the screen."
        ),
    ] = None,
    vault: VaultName = None,
    profile: ProfileName = None,
) -> None:
    """Export jobs with their tasks and errors; those in the archive are in its files."""
    given = {"from": begin, "to": end, "state": state, "format": form.value}
    query = {name: value for name, value in given.items() if value is not None}

    async def work(connection: Connection) -> None:
        chunks = connection.routes.export(await connection.vault_id(vault), query)
        if file is None:
            await copy_chunks(chunks, sys.stdout.buffer)
            return
        await write_chunks(chunks, file)
        say(f"exported to {file}")

    connected(profile, work)


async def write_chunks(chunks: AsyncIterator[bytes], file: Path) -> None:
    """Write what comes to a new file, 0600; a half of it is removed again."""
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ProgramError(f"cannot write {file} ({error}); name a file that does not exist") from (
            error
        )
    complete = False
    try:
        with os.fdopen(descriptor, "wb") as target:
            await copy_chunks(chunks, target)
        complete = True
    except OSError as error:
        raise ProgramError(f"cannot write {file} ({error}); make room and repeat") from error
    finally:
        if not complete:
            # Half an export would look like a whole one.
            os.unlink(file)  # noqa: PTH108 -- one call, as short as the open above


async def copy_chunks(chunks: AsyncIterator[bytes], target: BinaryIO) -> None:
    """Write what comes as it comes."""
    async for chunk in chunks:
        target.write(chunk)
    target.flush()
