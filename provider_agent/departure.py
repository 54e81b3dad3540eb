"""How a server leaves its vault: cleaned up, the hub told, its own registration forgotten."""

import asyncio
from pathlib import Path
from typing import Final

import structlog

from provider_agent.fabric.driver import FabricDriver, FabricError
from provider_agent.fabric.vmm_service import VmmService
from provider_agent.journal import Journal
from provider_agent.registration_traces import forget_in_vmm, forget_registration
from provider_agent.reporter import BATCH_BYTES_MAX, Reporter
from provider_agent.wake import Wake

FAREWELL_SECONDS_MAX: Final = 900.0
"""As long as the hub waits for a task: afterwards it counts the deletion as failed."""

TIDYING_SECONDS_MAX: Final = 120.0

POLL_SECONDS: Final = 0.2

log = structlog.get_logger(__name__)


class Departure:
    """Waits until this server has cleaned up for good and the hub knows it."""

    def __init__(
        self,
        journal: Journal,
        reporter: Reporter,
        leaving: Wake,
        *,
        driver: FabricDriver,
        service: VmmService,
    ) -> None:
        self._journal = journal
        self._reporter = reporter
        self._leaving = leaving
        self._driver = driver
        self._service = service

    async def complete(self, data_directory: Path) -> None:
        """Return once the server has left; what it was registered with is then gone.

        The hub revokes the certificate as soon as it has the outcome, so that being refused
        afterwards says the same as an acknowledgement.
        """
        while True:
            await self._leaving.wait()
            if await self._told():
                await self._tidy_vmm(data_directory)
                await asyncio.to_thread(forget_registration, data_directory)
                log.info("server_unregistered")
                return
            log.error("departure_not_confirmed", remedy="delete the server from its vault again")

    async def _tidy_vmm(self, data_directory: Path) -> None:
        """Remove what registration and set-up left in VMM; the server has left in any case."""
        try:
            async with asyncio.timeout(TIDYING_SECONDS_MAX):
                await forget_in_vmm(self._driver, self._service, data_directory)
        except (FabricError, TimeoutError) as error:
            log.error(  # noqa: TRY400 -- the cause is all; the traceback would say no more
                "vmm_not_tidied",
                cause=str(error) or "VMM did not answer in time",
                remedy="run: provider-agent cleanup",
            )

    async def _told(self) -> bool:
        loop = asyncio.get_running_loop()
        until = loop.time() + FAREWELL_SECONDS_MAX
        self._reporter.refused.clear()
        while loop.time() < until:
            if self._reporter.refused.is_set():
                return True
            if not await self._journal.outbox(1, BATCH_BYTES_MAX):
                return True
            await asyncio.sleep(POLL_SECONDS)
        return False
