"""The command line of provider-agent."""

import asyncio
import getpass
import os
from functools import partial
from pathlib import Path
from typing import Annotated, Final

import typer

from provider_agent import PROGRAM, VERSION
from provider_agent.agent import run_agent
from provider_agent.cleanup import run_cleanup, unpair_cloud, unprotect_machine
from provider_agent.cluster import run_provider
from provider_agent.config import AgentSettings
from provider_agent.console import ask
from provider_agent.doctor.command import add_doctor
from provider_agent.operator_signature_command import add_operator_signature
from provider_agent.proxy import custom_proxy
from provider_agent.register_command import Dialogue, RegisterOptions, run_registration
from provider_agent.setup.command import SetupOptions, Surface, run_setup
from provider_agent.start_without_hub import LocalWord, start_without_hub
from provider_agent.unregister import run_unregistration
from service_shell.clock import SystemClock
from service_shell.configuration import load_configuration
from service_shell.errors import ProgramError
from service_shell.failpoints import from_environment
from service_shell.logs import configure_logging
from service_shell.program import build_cli, run_program

SUMMARY = "The provider beside a VMM server: takes signed events of the hub and drives the fabric."

AUTO_UPDATE: Final = {"on": True, "off": False, None: None}

Config = Annotated[Path, typer.Option(help="The configuration file.")]
ProxyAddress = Annotated[str | None, typer.Option(help="The custom proxy's address.")]
ProxyPort = Annotated[int | None, typer.Option(help="The custom proxy's port.")]
ProxyUsername = Annotated[str | None, typer.Option(help="A user, where the proxy wants one.")]
ProxyPasswordFile = Annotated[
    Path | None, typer.Option(help="The file with the proxy's password (mode 0600).")
]


def run(settings: AgentSettings) -> int:
    """Run the daemon; returns its exit code."""
    configure_logging(settings.log, PROGRAM)
    agent = partial(run_agent, faults=from_environment(os.environ))

    async def main(stop: asyncio.Event) -> None:
        await run_provider(settings, SystemClock(), stop, agent)

    return run_program(main, require_uvloop=False)


application = build_cli(PROGRAM, VERSION, SUMMARY, AgentSettings, run)


@application.command("setup")
def setup_command(
    config: Config,
    *,
    credentials: Annotated[
        Path | None, typer.Option(help="The vault credentials file; names the hub.")
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="Stop the VMM service without asking.")
    ] = False,
    auto_update: Annotated[
        str | None, typer.Option(help="Update policy: on or off (first: off).")
    ] = None,
    extract: Annotated[
        Path | None, typer.Option(help="Extract the package into this folder, install nothing.")
    ] = None,
    install: Annotated[
        bool, typer.Option("--install", help="Install what was extracted; asks nothing.")
    ] = False,
    upgrade: Annotated[
        bool, typer.Option("--upgrade", help="The cluster's other nodes are upgraded next.")
    ] = False,
    proxy_address: ProxyAddress = None,
    proxy_port: ProxyPort = None,
    proxy_username: ProxyUsername = None,
    proxy_password_file: ProxyPasswordFile = None,
) -> None:
    """Check the prerequisites and install the provider on this VMM server."""
    if auto_update not in AUTO_UPDATE:
        raise ProgramError(f"--auto-update is on or off, not {auto_update!r}")
    settings = load_configuration(config, AgentSettings)
    configure_logging(settings.log, PROGRAM)
    options = SetupOptions(
        config=config,
        credentials=credentials,
        yes=yes,
        auto_update=AUTO_UPDATE[auto_update],
        extract=extract,
        install=install,
        upgrade=upgrade,
        proxy=custom_proxy(proxy_address, proxy_port, proxy_username, proxy_password_file),
    )

    async def main(_: asyncio.Event) -> None:
        await run_setup(settings, options, Surface(typer.echo, ask), SystemClock())

    raise typer.Exit(run_program(main, require_uvloop=False))


@application.command("register")
def register_command(
    config: Config,
    credentials: Annotated[Path, typer.Option(help="The vault credentials file.")],
    friendly_name: Annotated[str, typer.Option(help="How operators will call this server.")],
    *,
    sync_all_clouds: Annotated[
        bool, typer.Option(help="Synchronise the metadata of all clouds with the vault.")
    ] = True,
    encryption_enabled: Annotated[
        str | None, typer.Option(help="A .pfx file; for VMM to Azure only, unused here.")
    ] = None,
    shred: Annotated[
        bool | None, typer.Option(help="Shred the credentials file afterwards (else: asked).")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Ask nothing.")] = False,
    proxy_address: ProxyAddress = None,
    proxy_port: ProxyPort = None,
    proxy_username: ProxyUsername = None,
    proxy_password_file: ProxyPasswordFile = None,
) -> None:
    """Register this VMM server with the vault that the credentials file is for, once."""
    settings = load_configuration(config, AgentSettings)
    configure_logging(settings.log, PROGRAM)
    options = RegisterOptions(
        credentials=credentials,
        friendly_name=friendly_name,
        yes=yes,
        sync_all_clouds=sync_all_clouds,
        encryption_file=encryption_enabled,
        proxy=custom_proxy(proxy_address, proxy_port, proxy_username, proxy_password_file),
        shred=shred,
    )

    async def main(_: asyncio.Event) -> None:
        await run_registration(settings, options, Dialogue(typer.echo, ask), SystemClock())

    raise typer.Exit(run_program(main, require_uvloop=False))


add_doctor(application)
add_operator_signature(application)


@application.command("unregister")
def unregister_command(
    config: Config,
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Ask nothing.")] = False,
) -> None:
    """Take this server out of its vault; the running provider cleans up."""
    settings = load_configuration(config, AgentSettings)
    configure_logging(settings.log, PROGRAM)

    async def main(_: asyncio.Event) -> None:
        asked = None if yes else ask
        await run_unregistration(settings, typer.echo, SystemClock(), ask=asked)

    raise typer.Exit(run_program(main, require_uvloop=False))


@application.command("start-without-hub")
def start_without_hub_command(
    config: Config,
    machine: Annotated[str, typer.Option(help="The machine, by its id.")],
    reason: Annotated[str, typer.Option(help="Why; the hub is told.")],
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Ask nothing.")] = False,
) -> None:
    """Let a protected machine start that waits for a hub which is away."""
    settings = load_configuration(config, AgentSettings)
    configure_logging(settings.log, PROGRAM)
    word = LocalWord(machine, reason, getpass.getuser())

    async def main(_: asyncio.Event) -> None:
        asked = None if yes else ask
        await start_without_hub(settings, word, typer.echo, SystemClock(), ask=asked)

    raise typer.Exit(run_program(main, require_uvloop=False))


@application.command("cleanup")
def cleanup_command(
    config: Config,
    *,
    unpair: Annotated[
        str | None, typer.Option(help="Only this cloud, whose partner its hub has forgotten.")
    ] = None,
    machine: Annotated[
        str | None,
        typer.Option(help="Only this machine (its id), whose protection was removed by force."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Ask nothing about the machine.")] = False,
) -> None:
    """Tidy a server that its hub has forgotten: pairing, RunAs account, all nodes, identity."""
    if machine is not None and unpair is not None:
        raise typer.BadParameter("name either a cloud or a machine")
    settings = load_configuration(config, AgentSettings)
    configure_logging(settings.log, PROGRAM)

    async def main(_: asyncio.Event) -> None:
        if machine is not None:
            asked = None if yes else ask
            await unprotect_machine(settings, machine, typer.echo, SystemClock(), ask=asked)
        elif unpair is None:
            await run_cleanup(settings, typer.echo, SystemClock())
        else:
            await unpair_cloud(settings, unpair, typer.echo, SystemClock())

    raise typer.Exit(run_program(main, require_uvloop=False))


def main() -> None:
    """Run the command line."""
    application()
