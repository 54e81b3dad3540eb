"""What a hub that has just begun may say of who is away: nothing, until everybody could be heard.

A lease runs out while the hub itself is not there. Judged by it, the first decision after a start
would fail a job, or do without a site, for no other reason than that the hub was away.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from service_hub.domain.errors import NOT_CONNECTED
from service_hub.domain.jobs import Job, JobError
from service_hub.ports.running import Checker, Liveness

HEARD_SECONDS_MAX: Final = 45.0
"""By then who is there has come back: 30 s between two tries (channel.md), then it greets."""

LOOK_SECONDS: Final = 0.5


class FirstHearing:
    """The Checker and the Liveness of the engine; whoever only shows what is known asks others.

    `boottime` goes on while nobody sets clocks. However short a lease is: who was away long, or
    found nobody for long, takes his time until the next try.
    """

    def __init__(
        self,
        *,
        checker: Checker,
        liveness: Liveness,
        boottime: Callable[[], float],
    ) -> None:
        self._checker = checker
        self._liveness = liveness
        self._boottime = boottime
        self._until = boottime() + HEARD_SECONDS_MAX

    async def check(self, job: Job, task_id: str) -> JobError | None:
        """Return why the job must stop; a server that is away only once it could be heard."""
        error = await self._checker.check(job, task_id)
        while error is not None and error.code == NOT_CONNECTED and self._has_just_begun:
            await asyncio.sleep(LOOK_SECONDS)
            error = await self._checker.check(job, task_id)
        return error

    async def connected(self, provider_id: str) -> bool:
        """Return whether the provider is there, or may be."""
        return self._has_just_begun or await self._liveness.connected(provider_id)

    @property
    def _has_just_begun(self) -> bool:
        return self._boottime() < self._until
