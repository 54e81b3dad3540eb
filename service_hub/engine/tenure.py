"""Which jobs this process may decide on: leases claimed, renewed, lost and given back.

Only pairs of job and fence that are held in memory are renewed: a process that was paused must not
keep a job alive that it has forgotten (design: engine). Safety rests on the fence alone, which each
commit checks; the clock here only spares traffic.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

import structlog

from service_hub.ports.changes import Lease
from service_hub.ports.stores import Leases

LEASE_SECONDS: Final = 15.0
RENEWALS_PER_LEASE: Final = 3
SURE_PART: Final = 2 / 3
"""After this part of a lease without renewal nothing is sent any more (design: engine)."""

RENEWED_AT_ONCE: Final = 1000
DATABASE_SECONDS_MAX: Final = 30.0
"""Longest one question about leases may take; it is asked again at its next turn."""

log = structlog.get_logger(__name__)


class Tenure:
    """The leases of one process, whose id is their owner."""

    def __init__(
        self, leases: Leases, *, hub_id: str, seconds: float, boottime: Callable[[], float]
    ) -> None:
        self._leases = leases
        self.hub_id = hub_id
        self.seconds = seconds
        self._boottime = boottime
        self._confirmed_at = boottime()

    @property
    def is_sure(self) -> bool:
        """Whether what is held cannot be another's yet, by the clock that runs while suspended."""
        return self._boottime() - self._confirmed_at < self.seconds * SURE_PART

    @property
    def renewal_seconds(self) -> float:
        """How often leases are renewed."""
        return self.seconds / RENEWALS_PER_LEASE

    async def claim(self, limit: int) -> list[Lease]:
        """Take jobs that nobody holds."""
        async with asyncio.timeout(DATABASE_SECONDS_MAX):
            return await self._leases.claim(self.hub_id, self.seconds, limit)

    async def renew(self, held: Sequence[Lease]) -> list[Lease]:
        """Prolong these; return those that are lost."""
        began = self._boottime()
        still: set[tuple[str, int]] = set()
        for at in range(0, max(len(held), 1), RENEWED_AT_ONCE):
            async with asyncio.timeout(DATABASE_SECONDS_MAX):
                part = held[at : at + RENEWED_AT_ONCE]
                renewed = await self._leases.renew(part, self.seconds)
            still.update((each.job_id, each.fence) for each in renewed)
        self._confirmed_at = began
        return [each for each in held if (each.job_id, each.fence) not in still]

    async def release(self, held: Sequence[Lease]) -> None:
        """Let others take these now."""
        if held:
            async with asyncio.timeout(DATABASE_SECONDS_MAX):
                await self._leases.release(held)
            log.info("leases_released", count=len(held), hub_id=self.hub_id)
