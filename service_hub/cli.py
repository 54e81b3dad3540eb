"""The command line of service-hub."""

import asyncio
import os
from datetime import timedelta
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Final

import typer

from certs.tokens import issue_operator_token
from service_hub.broker_parts import broker_commands
from service_hub.config import HubSettings
from service_hub.database_commands import database_commands
from service_hub.hub import run_hub
from service_hub.trust import initialise, load
from service_hub.trust_commands import trust_commands
from service_shell.clock import SystemClock
from service_shell.configuration import load_configuration
from service_shell.failpoints import from_environment
from service_shell.logs import configure_logging
from service_shell.program import build_cli, run_program
from service_shell.secret_files import write_secret

PROGRAM: Final = "service-hub"
SUMMARY: Final = "The service hub: vaults, policies, pairing, failovers; speaks the ARM dialect."
HOURS_MAX: Final = 24 * 365


class Role(StrEnum):
    """What a token may be issued for; the short names of service_hub.domain.access."""

    READER = "Reader"
    INJECTOR = "Injector"
    OPERATOR = "Operator"
    CONTRIBUTOR = "Contributor"
    OWNER = "Owner"


def run(settings: HubSettings) -> int:
    """Run the daemon; returns its exit code."""
    configure_logging(settings.log, PROGRAM)
    faults = from_environment(os.environ)

    async def main(stop: asyncio.Event) -> None:
        await run_hub(settings, SystemClock(), stop, faults)

    return run_program(main, require_uvloop=False)


application = build_cli(PROGRAM, version("site-recovery-hub"), SUMMARY, HubSettings, run)
token_commands = typer.Typer(help="Bearer tokens of operators.", no_args_is_help=True)
application.add_typer(token_commands, name="token")
application.add_typer(database_commands, name="database")
application.add_typer(broker_commands, name="broker")
application.add_typer(trust_commands, name="trust")


@application.command("init")
def init_command(
    config: Annotated[Path, typer.Option(help="The configuration file.")],
) -> None:
    """Make the hub's key file and trust chain, once."""
    settings = load_configuration(config, HubSettings)
    initialise(settings, SystemClock().now())
    typer.echo(f"trust root: {settings.trust_directory / 'root.pem'}")
    typer.echo(f"key file (keep a copy in a safe place): {settings.key_file}")


@token_commands.command("issue")
def issue_command(
    config: Annotated[Path, typer.Option(help="The configuration file.")],
    principal: Annotated[str, typer.Option(help="Who will hold the token.")],
    role: Annotated[Role, typer.Option(help="What the holder may do.")],
    output: Annotated[Path, typer.Option(help="File to write the token to (mode 0600).")],
    hours: Annotated[int, typer.Option(min=1, max=HOURS_MAX, help="Life of the token.")] = 24,
) -> None:
    """Issue a bearer token for an operator; it is written to a file, never shown."""
    settings = load_configuration(config, HubSettings)
    clock = SystemClock()
    token = issue_operator_token(
        load(settings, clock.now()).token_key,
        issuer=settings.public_url,
        principal=principal,
        role=role.value,
        now=clock.now(),
        lifetime=timedelta(hours=hours),
        token_id=clock.new_id(),
    )
    write_secret(output, token.encode())
    typer.echo(f"token for {principal} ({role.value}, {hours} h): {output}")


def main() -> None:
    """Run the command line."""
    application()
