"""How a server leaves its vault: cleaned up, the hub told, its own registration forgotten."""

import asyncio
from pathlib import Path
from typing import Final

import structlog

from provider_agent.credentials import forget_identity
from provider_agent.journal import Journal
from provider_agent.reporter import BATCH_BYTES_MAX, Reporter
from provider_agent.wake import Wake

FAREWELL_SECONDS_MAX: Final = 900.0
"""As long as the hub waits for a task: afterwards it counts the deletion as failed."""

POLL_SECONDS: Final = 0.2

log = structlog.get_logger(__name__)


class Departure:
    """Waits until this server has cleaned up for good and the hub knows it."""

    def __init__(self, journal: Journal, reporter: Reporter, leaving: Wake) -> None:
        self._journal = journal
        self._reporter = reporter
        self._leaving = leaving

    async def complete(self, data_directory: Path) -> None:
        """Return once the server has left; what it was registered with is then gone.

        The hub revokes the certificate as soon as it has the outcome, so that being refused
        afterwards says the same as an acknowledgement.
        """
        while True:
            await self._leaving.wait()
            if await self._told():
                forget_identity(data_directory)
                log.info("server_unregistered")
                return
            log.error("departure_not_confirmed", remedy="delete the server from its vault again")

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
