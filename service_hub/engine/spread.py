"""Gives back jobs that are too many here, so that a hub that comes back gets its share.

Hubs tell each other how many they hold; each telling may be lost, the next one follows. What is
given back is at a safe point: nothing of it is being decided, checked or watched here, so that the
next holder goes on from what is stored, as after any takeover.
"""

import asyncio
from collections.abc import Callable
from itertools import islice
from typing import Final

import structlog

from service_hub.domain.job_steps import running
from service_hub.domain.work_spread import Load, surplus
from service_hub.engine.held_jobs import HeldJob, HeldJobs
from service_hub.engine.tenure import DATABASE_SECONDS_MAX, Tenure
from service_hub.ports.changes import Change, Ring
from service_hub.ports.stores import Committer

LOAD: Final = "load"
"""The topic of "so many jobs are held here": key is hub id and count."""

GONE: Final = "gone"
"""Said in the place of the count by a hub that stops."""

SILENT_TURNS: Final = 2
"""After so many turns without a word another hub counts as gone: before its leases run out, so
that who takes its jobs up does not give them back to it."""

PAUSE_TURNS: Final = 6
"""Turns between two givings back: what went must have been taken up, and told, in between."""

HELD_BACK_TURNS: Final = 2
"""Turns in which nothing is claimed after giving back, or it would come back at once.

Bounded, so that nothing stays free when nobody else takes it after all."""

log = structlog.get_logger(__name__)


class WorkSpread:
    """One hub's part in spreading the work."""

    def __init__(
        self,
        *,
        jobs: HeldJobs,
        tenure: Tenure,
        committer: Committer,
        boottime: Callable[[], float],
    ) -> None:
        self._jobs = jobs
        self._tenure = tenure
        self._committer = committer
        self._boottime = boottime
        self._others: dict[str, Load] = {}
        self._gave_at: float | None = None

    @property
    def may_claim(self) -> bool:
        """Whether what is free is taken here now."""
        return self._since_giving() >= HELD_BACK_TURNS

    def heard(self, key: str) -> None:
        """Note what another hub says it holds; what cannot be read is of a newer hub."""
        hub_id, _, count = key.partition(" ")
        if count == GONE:
            self._others.pop(hub_id, None)
        elif hub_id and hub_id != self._tenure.hub_id and count.isascii() and count.isdigit():
            self._others[hub_id] = Load(int(count[:9]), self._boottime())

    async def look(self) -> None:
        """Say how many jobs are held here, and give back what is too many."""
        await self._tell(str(len(self._jobs)))
        silent = SILENT_TURNS * self._tenure.renewal_seconds
        now = self._boottime()
        self._others = {
            hub_id: load for hub_id, load in self._others.items() if now - load.heard_at <= silent
        }
        count = surplus(len(self._jobs), self._others.values(), now, silent)
        if count and self._since_giving() >= PAUSE_TURNS:
            await self._give_back(count)

    async def leave(self) -> None:
        """Say that this hub stops: nobody need leave anything to it."""
        async with asyncio.timeout(DATABASE_SECONDS_MAX):
            await self._tell(GONE)

    async def _tell(self, words: str) -> None:
        ring = Ring(LOAD, f"{self._tenure.hub_id} {words}")
        await self._committer.commit(Change(rings=(ring,)))

    async def _give_back(self, count: int) -> None:
        going = list(islice((each for each in self._jobs if _at_a_safe_point(each)), count))
        if not going:
            return
        self._gave_at = self._boottime()
        leases = [each.lease(self._tenure.hub_id) for each in going]
        for held in going:
            # First here: what comes for it meanwhile goes into its inbox, for the next holder.
            self._jobs.drop(held)
        log.info("jobs_given_back", count=len(going), held=len(self._jobs))
        await self._tenure.release(leases)

    def _since_giving(self) -> float:
        """Return how many turns ago something was given back."""
        if self._gave_at is None:
            return float(PAUSE_TURNS)
        return (self._boottime() - self._gave_at) / self._tenure.renewal_seconds


def _at_a_safe_point(held: HeldJob) -> bool:
    """Whether nothing of a job is under way in this process.

    A job whose groups run stays with who watches them; one that stands still is left alone.
    """
    quiet = not (held.is_busy or held.waiting or held.is_doubtful) and held.has_lease
    if not quiet or held.quarantined is not None or held.job.finished:
        return False
    task = running(held.job)
    if task is None or held.job.undoing:
        return True
    spec = held.job.spec(task.task_id)
    return spec.group is None and not spec.is_check
