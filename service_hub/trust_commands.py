"""`service-hub trust`: replacing the root, with both trusted in between (docs/operating.md)."""

import asyncio
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from certs.chain import DamagedTrustError
from certs.trusted_chains import TrustedChains
from service_hub.config import HubSettings
from service_hub.database_parts import database_exists, open_database_readers
from service_hub.domain.records import ManagementCertificate, Provider
from service_hub.domain.root_rotation import RootProgress, progress
from service_hub.root_files import (
    ROOTS_FILE,
    announce,
    finish,
    is_finished,
    is_rotating,
    read_chains,
    rotation_lock,
)
from service_hub.trust import key_password
from service_shell.clock import SystemClock
from service_shell.configuration import load_configuration
from service_shell.errors import ProgramError

trust_commands = typer.Typer(help="The root that everybody trusts.", no_args_is_help=True)

Configuration = Annotated[Path, typer.Option(help="The configuration file.")]


@trust_commands.command("rotate-root")
def rotate_root_command(config: Configuration) -> None:
    """Make a new root, signed by the present one; both are trusted from then on."""
    settings, now = load_configuration(config, HubSettings), SystemClock().now()
    directory, password = settings.trust_directory, key_password(settings)
    try:
        with rotation_lock(directory):
            chains = announce(directory, password, now, settings.organization)
    except DamagedTrustError as error:
        raise ProgramError(f"the root cannot be replaced now: {error}") from error
    typer.echo(f"new root: {chains.newest.root_thumbprint}")
    typer.echo(f"both roots, for operators' clients: {directory / ROOTS_FILE}")
    typer.echo(
        "a running hub takes it up within seconds, a stopped one when it starts; back up the trust "
        "folder now, and follow the servers with: service-hub trust status"
    )


@trust_commands.command("status")
def status_command(config: Configuration) -> None:
    """Show which roots are trusted, and which servers have taken the new one over."""
    settings, now = load_configuration(config, HubSettings), SystemClock().now()
    directory = settings.trust_directory
    chains = _chains(settings, now)
    if not is_rotating(directory):
        typer.echo(f"root: {chains.present.root_thumbprint}; it is not being replaced")
        return
    if is_finished(directory):
        typer.echo(
            f"root: {chains.present.root_thumbprint}; trust in the former one has ended, and takes "
            "effect within seconds, or when the hub starts"
        )
        return
    typer.echo(f"present root: {chains.present.root_thumbprint}")
    typer.echo(f"new root:     {chains.newest.root_thumbprint}")
    servers = asyncio.run(_servers(settings, chains, now))
    for each in servers:
        typer.echo(_line(each))
    behind = sum(each.is_behind for each in servers)
    typer.echo(f"{len(servers)} servers, {behind} not ready for service-hub trust finish-rotation")


@trust_commands.command("finish-rotation")
def finish_rotation_command(
    config: Configuration,
    *,
    force: Annotated[
        bool, typer.Option("--force", help="Leave servers behind that are not ready.")
    ] = False,
) -> None:
    """End trust in the former root; refused while a server would be lost by it."""
    settings, now = load_configuration(config, HubSettings), SystemClock().now()
    directory = settings.trust_directory
    if not is_rotating(directory) or is_finished(directory):
        raise ProgramError(
            "no root is being replaced: begin with `service-hub trust rotate-root --config FILE`"
        )
    with rotation_lock(directory):
        servers = asyncio.run(_servers(settings, _chains(settings, now), now))
        behind = [each for each in servers if each.is_behind]
        if behind and not force:
            lines = "\n".join(map(_line, behind))
            raise ProgramError(
                f"{len(behind)} of {len(servers)} servers are not ready:\n{lines}\n"
                "start them and wait, or give --force: they must then be registered again"
            )
        finish(directory)
    typer.echo("trust in the former root ends within seconds, or when the hub starts")
    for each in behind:
        typer.echo(
            f"left behind: {_name(each)}: register it again with a new registration key "
            "(provider-agent register), and approve it"
        )
    typer.echo(f"operators' clients: {directory / ROOTS_FILE} then holds the new root alone")


def _chains(settings: HubSettings, now: datetime) -> TrustedChains:
    password = key_password(settings)
    try:
        return read_chains(settings.trust_directory, password, now)
    except DamagedTrustError as error:
        raise ProgramError(
            f"the trust in {settings.trust_directory} cannot be used ({error}): restore it, and "
            f"{settings.key_file}, from the same backup"
        ) from error


async def _servers(
    settings: HubSettings, chains: TrustedChains, now: datetime
) -> list[RootProgress]:
    if not database_exists(settings):
        return []  # a hub that never ran has no servers
    async with open_database_readers(settings) as reader:
        providers = [each.record for each in await reader.find(Provider)]
        certificates = [each.record for each in await reader.find(ManagementCertificate)]
    return progress(providers, certificates, chains.newest.root_thumbprint, now)


def _name(each: RootProgress) -> str:
    return f"{each.provider.friendly_name or each.provider.vmm_fqdn} ({each.provider.id})"


def _line(each: RootProgress) -> str:
    trusts = "trusts the new root" if each.trusts else "has not confirmed the new root"
    certificate = "new certificate" if each.renewed else "former certificate"
    return f"  {_name(each)}: {trusts}, {certificate}"
