"""`service-hub database`: backup of a running hub, restore into a stopped one."""

from pathlib import Path
from typing import Annotated

import typer

from service_hub.config import HubSettings
from service_hub.store.backup import backup, restore
from service_hub.store.errors import DatabaseInUseError, DatabaseUnusableError
from service_shell.clock import SystemClock
from service_shell.configuration import load_configuration
from service_shell.errors import ProgramError

database_commands = typer.Typer(help="Back up and restore the database.", no_args_is_help=True)

Configuration = Annotated[Path, typer.Option(help="The configuration file.")]


@database_commands.command("backup")
def backup_command(
    config: Configuration,
    output: Annotated[Path, typer.Option(help="File to write; must not exist (mode 0600).")],
) -> None:
    """Write a copy of the database; the hub may run meanwhile."""
    settings = load_configuration(config, HubSettings)
    try:
        backup(settings.database_file, output)
    except DatabaseUnusableError as error:
        raise ProgramError(str(error)) from error
    typer.echo(f"backup of {settings.database_file}: {output}")
    typer.echo("not in it: the key file and the trust folder; back them up once, in a safe place")


@database_commands.command("restore")
def restore_command(
    config: Configuration,
    source: Annotated[Path, typer.Option("--input", help="The backup.")],
) -> None:
    """Put a backup in the database's place; the hub must be stopped."""
    settings = load_configuration(config, HubSettings)
    try:
        count = restore(settings.database_file, source, SystemClock().new_id)
    except (DatabaseUnusableError, DatabaseInUseError) as error:
        raise ProgramError(str(error)) from error
    typer.echo(f"restored {settings.database_file}; {count} providers begin with a new stream")
    typer.echo("what providers know and this hub does not shows as alerts when they connect")
