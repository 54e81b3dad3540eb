"""The command line of provider-agent."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from provider_agent import PROGRAM, VERSION
from provider_agent.agent import run_agent, vmm_driver
from provider_agent.config import AgentSettings
from provider_agent.registration import register
from service_shell.clock import SystemClock
from service_shell.configuration import load_configuration
from service_shell.logs import configure_logging
from service_shell.program import build_cli, run_program

SUMMARY = "The provider beside a VMM server: takes signed events of the hub and drives the fabric."


def run(settings: AgentSettings) -> int:
    """Run the daemon; returns its exit code."""
    configure_logging(settings.log, PROGRAM)

    async def main(stop: asyncio.Event) -> None:
        await run_agent(settings, SystemClock(), stop)

    return run_program(main, require_uvloop=False)


application = build_cli(PROGRAM, VERSION, SUMMARY, AgentSettings, run)


@application.command("register")
def register_command(
    config: Annotated[Path, typer.Option(help="The configuration file.")],
    credentials: Annotated[Path, typer.Option(help="The vault credentials file.")],
    friendly_name: Annotated[str, typer.Option(help="How operators will call this server.")],
) -> None:
    """Register this VMM server with the vault that the credentials file is for, once."""
    settings = load_configuration(config, AgentSettings)
    configure_logging(settings.log, PROGRAM)

    async def main(_: asyncio.Event) -> None:
        async with vmm_driver(settings.vmm) as driver:
            facts = await register(
                settings.data_directory, credentials, friendly_name, driver, SystemClock()
            )
        typer.echo(f"registered as {facts.friendly_name} ({facts.provider_id})")
        typer.echo(
            f"vault {facts.vault_name}; start the provider now, and delete {credentials}:"
            " it holds a private key"
        )

    raise typer.Exit(run_program(main, require_uvloop=False))


def main() -> None:
    """Run the command line."""
    application()
