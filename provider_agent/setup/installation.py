"""The installation: VMM service stopped, provider put in place, VMM service started again."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from provider_agent import VERSION
from provider_agent.fabric.driver import FabricError
from provider_agent.fabric.vmm_service import VmmService
from provider_agent.setup.package import UNIT
from provider_agent.setup.record import InstallationRecord, save_record
from provider_agent.setup.service_unit import ServiceManager
from service_shell.clock import Clock
from service_shell.errors import ProgramError

START_ATTEMPTS_MAX: Final = 5
START_PAUSE_SECONDS: Final = 1.0

log = structlog.get_logger(__name__)

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Installation:
    """What is to be installed on which node."""

    node: str
    data_directory: Path
    config: Path
    auto_update: bool
    files: dict[str, str]


@contextlib.asynccontextmanager
async def service_stopped(service: VmmService, tell: Tell) -> AsyncIterator[None]:
    """Stop the VMM service for the block; it is started again whatever happens in the block."""
    try:
        await service.control(running=False)
    except FabricError as error:
        # Whether it was stopped is unknown: it is started in any case.
        await _start(service, tell)
        raise ProgramError(f"the VMM service could not be stopped: {error}") from error
    tell("the VMM service is stopped")
    try:
        yield
    finally:
        # Shielded: also who presses Ctrl-C must not leave VMM stopped.
        await asyncio.shield(_start(service, tell))


async def _start(service: VmmService, tell: Tell) -> None:
    for attempt in range(1, START_ATTEMPTS_MAX + 1):
        try:
            await service.control(running=True)
        except FabricError as error:
            log.warning("vmm_service_not_started", attempt=attempt, cause=str(error))
            if attempt == START_ATTEMPTS_MAX:
                raise ProgramError(
                    f"the VMM service could not be started again: {error}; start it by hand"
                ) from error
            await asyncio.sleep(START_PAUSE_SECONDS)
        else:
            tell("the VMM service is started")
            return


async def install(
    what: Installation, service: VmmService, systemd: ServiceManager, clock: Clock, tell: Tell
) -> None:
    """Install on this node; repeating it replaces what is there. ProgramError: nothing is noted."""
    if systemd.runs():
        await systemd.install(what.files[UNIT])
        tell("the provider is installed as a systemd service; it starts after registration:")
        tell("  systemctl start provider-agent")
    else:
        tell("systemd does not run here; have your service manager run, after registration:")
        tell(f"  provider-agent run --config {what.config}")
    record = InstallationRecord(
        node=what.node,
        version=VERSION,
        auto_update=what.auto_update,
        installed_at=clock.now(),
    )
    await asyncio.to_thread(save_record, what.data_directory, record)
    try:
        await service.note_provider(what.node, VERSION)
    except FabricError as error:
        raise ProgramError(
            f"the VMM server does not take note of the provider on {what.node}: {error};"
            " run set-up again"
        ) from error
