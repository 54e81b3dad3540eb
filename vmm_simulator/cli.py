"""The command line of the VMM simulator."""

import asyncio
import importlib.metadata
import os
from typing import Final

from service_shell.failpoints import from_environment
from service_shell.logs import configure_logging
from service_shell.program import build_cli, run_program
from vmm_simulator.config import SimulatorSettings
from vmm_simulator.site import run_site

PROGRAM: Final = "vmm-simulator"


def run(settings: SimulatorSettings) -> int:
    """Run one site until it is told to stop; the exit code."""
    configure_logging(settings.log, PROGRAM)
    faults = from_environment(os.environ)

    async def main(stop: asyncio.Event) -> None:
        await run_site(settings, stop, faults)

    return run_program(main, require_uvloop=True)


def main() -> None:
    """Entry point of the console script."""
    build_cli(
        PROGRAM,
        importlib.metadata.version("site-recovery-hub"),
        "A VMM server that is not there, with Hyper-V hosts that really replicate and guests"
        " that really write.",
        SimulatorSettings,
        run,
    )()
