"""`provider-agent doctor`."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated

import typer

from provider_agent import PROGRAM
from provider_agent.config import AgentSettings
from provider_agent.credentials import load_identity
from provider_agent.doctor.report import as_json, is_healthy, line_of
from provider_agent.doctor.walk import HopResult, walk
from provider_agent.proxy import load_rules
from service_shell.clock import SystemClock
from service_shell.configuration import LogSettings, load_configuration
from service_shell.errors import FAILURE_EXIT_CODE
from service_shell.logs import configure_logging
from service_shell.program import run_program


def add_doctor(application: typer.Typer) -> None:
    """Give the command line its doctor."""

    @application.command("doctor")
    def doctor_command(
        config: Annotated[Path, typer.Option(help="The configuration file.")],
        *,
        as_json_text: Annotated[
            bool, typer.Option("--json", help="Print one JSON object instead of lines.")
        ] = False,
    ) -> None:
        """Walk the way to the hub; say at which step it ends, why, and what to do."""
        settings = load_configuration(config, AgentSettings)
        configure_logging(LogSettings(level="error"), PROGRAM)
        results: list[HopResult] = []

        async def main(_: asyncio.Event) -> None:
            async for result in examine(settings):
                results.append(result)
                if not as_json_text:
                    typer.echo(line_of(result))

        code = run_program(main, require_uvloop=False)
        if as_json_text and results:
            typer.echo(as_json(results))
        raise typer.Exit(code or (0 if is_healthy(results) else FAILURE_EXIT_CODE))


async def examine(settings: AgentSettings) -> AsyncIterator[HopResult]:
    """Walk as the provider of this configuration would."""
    clock = SystemClock()
    identity = await asyncio.to_thread(load_identity, settings.data_directory, clock.now())
    rules = load_rules(settings.proxy, settings.data_directory, os.environ)
    async for result in walk(identity, rules, clock, settings.mqtt.transport):
        yield result
