"""Takes up jobs that nobody holds: at start, when a lease ran out, when a hub gave its own back.

In portions, so that other hubs get their share and the first job goes on at once: claimed, read,
each under its raised fence, then what was left undone is done (design: engine).
"""

import asyncio
from collections.abc import Sequence
from typing import Final

import structlog

from service_hub.domain.errors import DamagedLogError
from service_hub.domain.job_log import decode
from service_hub.domain.jobs import Job, TakenUp
from service_hub.engine.aftermath import AfterDecisions
from service_hub.engine.held_jobs import Fed, HeldJob, HeldJobs, Taken
from service_hub.engine.tenure import DATABASE_SECONDS_MAX, Tenure
from service_hub.ports.changes import Change, Lease, Message
from service_hub.ports.stores import Committer, Leases, Reader

PORTION: Final = 200
"""Jobs claimed at once."""

MESSAGES_OF_MAX: Final = 5000
"""Jobs whose messages are asked for at once."""

log = structlog.get_logger(__name__)


class Takeover:
    """Brings claimed jobs into memory and lets them go on."""

    def __init__(
        self,
        *,
        jobs: HeldJobs,
        reader: Reader,
        committer: Committer,
        leases: Leases,
        tenure: Tenure,
        aftermath: AfterDecisions,
    ) -> None:
        self._jobs = jobs
        self._reader = reader
        self._committer = committer
        self._leases = leases
        self._tenure = tenure
        self._aftermath = aftermath
        self._offered: set[str] = set()

    async def take_up_some(self) -> int:
        """Claim one portion and let it go on; return how many jobs that were."""
        claimed = await self._tenure.claim(PORTION)
        if not claimed:
            return 0
        found = await asyncio.gather(*(self._reader.get(Job, each.job_id) for each in claimed))
        taken: list[HeldJob] = []
        gone: list[Lease] = []
        for lease, present in zip(claimed, found, strict=True):
            if present is None:
                gone.append(lease)
            else:
                taken.append(HeldJob(present.record, present.version, lease.fence))
        if gone:
            # A lease without a job is of no use to anybody.
            await self._committer.commit(Change(ends=tuple(each.job_id for each in gone)))
        log.info("jobs_claimed", count=len(taken), hub_id=self._tenure.hub_id)
        await asyncio.gather(*(self._take_up(held) for held in taken))
        await self.read_messages(taken)
        return len(claimed)

    async def read_messages(self, held: Sequence[HeldJob]) -> None:
        """Hand jobs what other hubs, or an earlier process, left for them; may be repeated."""
        ids = [each.job.id for each in held if each.quarantined is None]
        for at in range(0, len(ids), MESSAGES_OF_MAX):
            async with asyncio.timeout(DATABASE_SECONDS_MAX):
                messages = await self._leases.messages(ids[at : at + MESSAGES_OF_MAX])
            for message in messages:
                await self._offer(message)

    async def _take_up(self, held: HeldJob) -> None:
        """Return when the raised fence is durable and the job goes on, or is another's again."""
        if held.job.finished:
            # What follows from its end may not have begun.
            self._aftermath.resume(held)
            return
        answer: asyncio.Future[Taken] = asyncio.get_running_loop().create_future()
        fence = max(held.fence, held.job.fence + 1)
        self._jobs.add(held)
        self._jobs.offer(held, Fed(TakenUp(fence), answer=answer, is_kept=True))
        if await answer is Taken.DECIDED:
            log.info("job_taken_up", job_id=held.job.id, fence=held.job.fence)
            self._aftermath.resume(held)

    async def _offer(self, message: Message) -> None:
        held = self._jobs.get(message.job_id)
        if held is None or message.message_id in self._offered:
            return
        try:
            event = decode(message.event)
        except DamagedLogError as error:
            # It stays in the inbox: nobody may guess what it said.
            log.error("message_damaged", job_id=message.job_id, cause=str(error))  # noqa: TRY400 -- the cause says it
            held.quarantined = str(error)
            return
        answer: asyncio.Future[Taken] = asyncio.get_running_loop().create_future()
        self._offered.add(message.message_id)
        answer.add_done_callback(lambda _: self._offered.discard(message.message_id))
        fed = Fed(event, message_id=message.message_id, answer=answer, is_kept=True)
        self._jobs.offer(held, fed)
