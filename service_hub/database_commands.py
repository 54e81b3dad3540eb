"""`service-hub database`: upgrade, check, backup of a running hub, restore into a stopped one."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from service_hub.config import HubSettings
from service_hub.database_parts import database_place, is_shared
from service_hub.store import backup as file_backup
from service_hub.store import database as file_database
from service_hub.store import postgres_backup, postgres_database
from service_hub.store.errors import DatabaseInUseError, DatabaseUnusableError
from service_hub.store.schema import newest_schema
from service_shell.clock import SystemClock
from service_shell.configuration import load_configuration
from service_shell.errors import ProgramError

DAMAGED: int = 1

database_commands = typer.Typer(
    help="Upgrade, check, back up and restore the database.", no_args_is_help=True
)

Configuration = Annotated[Path, typer.Option(help="The configuration file.")]


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except (DatabaseUnusableError, DatabaseInUseError) as error:
        raise ProgramError(str(error)) from error


@database_commands.command("upgrade")
def upgrade_command(config: Configuration) -> None:
    """Bring the tables up to this version now; a hub does it by itself when it starts."""
    settings = load_configuration(config, HubSettings)
    with _explained():
        if is_shared(settings):
            lease_seconds = settings.jobs.lease_seconds
            asyncio.run(postgres_database.check_and_upgrade(settings.database, lease_seconds))
        else:
            file = settings.database_file
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with file_backup.exclusive(file):
                file_backup.make_private(file)
                file_database.check_and_upgrade(file)
    typer.echo(f"{database_place(settings)} has schema {newest_schema()}")


@database_commands.command("check")
def check_command(config: Configuration) -> None:
    """Look whether the database is whole; hubs may run meanwhile. Exit code 1 when it is not."""
    settings = load_configuration(config, HubSettings)
    with _explained():
        if is_shared(settings):
            found = asyncio.run(postgres_backup.check(settings.database))
        else:
            found = file_backup.check(settings.database_file)
    for each in found:
        typer.echo(each)
    if found:
        typer.echo(
            f"{database_place(settings)} is damaged or not up to date: see above; a damaged one is"
            " mended by restoring a backup (service-hub database restore)",
            err=True,
        )
        raise typer.Exit(DAMAGED)
    typer.echo(f"{database_place(settings)} is whole (schema {newest_schema()})")


@database_commands.command("backup")
def backup_command(
    config: Configuration,
    output: Annotated[Path, typer.Option(help="File to write; must not exist (mode 0600).")],
) -> None:
    """Write a copy of the database; hubs may run meanwhile."""
    settings = load_configuration(config, HubSettings)
    with _explained():
        if is_shared(settings):
            asyncio.run(postgres_backup.backup(settings.database, output))
        else:
            file_backup.backup(settings.database_file, output)
    typer.echo(f"backup of {database_place(settings)}: {output}")
    typer.echo("not in it: the key file and the trust folder; back them up once, in a safe place")


@database_commands.command("restore")
def restore_command(
    config: Configuration,
    source: Annotated[Path, typer.Option("--input", help="The backup.")],
) -> None:
    """Put a backup in the database's place; every hub of it must be stopped."""
    settings = load_configuration(config, HubSettings)
    new_id = SystemClock().new_id
    with _explained():
        if is_shared(settings):
            settings.data_directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            staged = settings.data_directory / "restoring.db"
            count = asyncio.run(postgres_backup.restore(settings.database, source, staged, new_id))
        else:
            count = file_backup.restore(settings.database_file, source, new_id)
    typer.echo(f"restored {database_place(settings)}; {count} providers begin with a new stream")
    typer.echo("what providers know and this hub does not shows as alerts when they connect")
