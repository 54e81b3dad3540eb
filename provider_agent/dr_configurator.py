"""`DRConfigurator`: registration under the switches of the original (seed, step 3)."""

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import typer

from provider_agent import PROGRAM, VERSION
from provider_agent.config import AgentSettings
from provider_agent.console import ask
from provider_agent.domain.dr_switches import USAGE, DrSwitches, SwitchError, read_switches
from provider_agent.domain.proxies import (
    Proxy,
    ProxyCredentials,
    ProxyError,
    ProxyRules,
    check_address,
)
from provider_agent.proxy import custom_proxy
from provider_agent.register_command import Dialogue, RegisterOptions, run_registration
from service_shell.clock import SystemClock
from service_shell.configuration import load_configuration
from service_shell.errors import ProgramError
from service_shell.logs import configure_logging
from service_shell.program import report_failure, run_program

CONFIG: Final = Path("/etc/site-recovery/provider-agent.yaml")
"""Where the configuration is, unless --config names another file."""

PASSWORD_WARNING: Final = (
    "warning: a password on the command line is visible in the process list and in the shell's"  # noqa: S105 -- words about a password
    " history; prefer --proxy-password-file, and change this one in VMM (DRAProxyAccount)"
)
_HELP: Final = frozenset({"/?", "/h", "/help", "-h", "--help"})
_VERSION: Final = frozenset({"/version", "--version"})


def configure(words: Sequence[str]) -> int:
    """Register as the words say and return the exit code."""
    if not words or words[0].lower() in _HELP:
        typer.echo(USAGE)
        return 0 if words else 2
    if words[0].lower() in _VERSION:
        typer.echo(f"DRConfigurator {VERSION}")
        return 0
    try:
        switches = read_switches(words)
        options = _options(switches)
        if switches.proxy_password is not None:
            typer.echo(PASSWORD_WARNING, err=True)
        settings = load_configuration(Path(switches.config or CONFIG), AgentSettings)
    except (SwitchError, ProxyError) as error:
        return report_failure(ProgramError(str(error)))
    except ProgramError as error:
        return report_failure(error)
    configure_logging(settings.log, PROGRAM)

    async def register(_: asyncio.Event) -> None:
        await run_registration(settings, options, Dialogue(typer.echo, ask), SystemClock())

    return run_program(register, require_uvloop=False)


def _options(switches: DrSwitches) -> RegisterOptions:
    return RegisterOptions(
        credentials=Path(switches.credentials),
        friendly_name=switches.friendly_name,
        # Like the original it asks nothing; the vault's name is shown all the same.
        yes=True,
        encryption_file=switches.encryption_file,
        proxy=_proxy(switches),
        start_vmm_service=switches.start_vmm_service,
    )


def _proxy(switches: DrSwitches) -> ProxyRules | None:
    file = switches.proxy_password_file
    user, password = switches.proxy_username, switches.proxy_password
    address, port = switches.proxy_address, switches.proxy_port
    if user is None or password is None or address is None or port is None:
        return custom_proxy(address, port, user, None if file is None else Path(file))
    return ProxyRules(Proxy(check_address(address), port, ProxyCredentials(user, password)))


def main() -> None:
    """Run the command line."""
    sys.exit(configure(sys.argv[1:]))
