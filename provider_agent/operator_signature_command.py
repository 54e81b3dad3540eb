"""`provider-agent operator-signature`: whether this server insists; decided here alone."""

from pathlib import Path
from typing import Annotated

import typer

from certs.channel_integrity import fingerprint
from provider_agent.config import AgentSettings
from provider_agent.operator_orders import insist, insist_no_more, insisted_key, read_key_file
from service_shell.configuration import load_configuration

Config = Annotated[Path, typer.Option(help="The configuration file.")]


def add_operator_signature(application: typer.Typer) -> None:
    """Add the commands; a running provider heeds them from its next command on."""
    commands = typer.Typer(
        help="Insist on operators' signatures, which the hub alone cannot make.",
        no_args_is_help=True,
    )
    commands.command("require")(_require)
    commands.command("off")(_off)
    commands.command("show")(_show)
    application.add_typer(commands, name="operator-signature")


def _require(
    config: Config,
    key_file: Annotated[
        Path, typer.Option(help="The file with the vault's channel integrity key, 0600.")
    ],
) -> None:
    """Insist from now on, with this key; it takes the place of an earlier one."""
    settings = load_configuration(config, AgentSettings)
    key = read_key_file(key_file)
    insist(settings.data_directory, key)
    typer.echo(f"this server insists on operators' signatures (key {fingerprint(key)})")


def _off(config: Config) -> None:
    """Insist no more: whatever the hub signs is carried out."""
    insist_no_more(load_configuration(config, AgentSettings).data_directory)
    typer.echo("this server insists on no operator's signature; its key is deleted")


def _show(config: Config) -> None:
    """Say whether this server insists, and with which key."""
    key = insisted_key(load_configuration(config, AgentSettings).data_directory)
    if key is None:
        typer.echo("this server insists on no operator's signature")
    else:
        typer.echo(f"this server insists on operators' signatures (key {fingerprint(key)})")
