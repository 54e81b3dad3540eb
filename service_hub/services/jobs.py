"""Jobs: looked at, cancelled, restarted, resumed.

Whatever is asked goes to the engine as an event, so that any hub of a database answers for any job.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from service_hub.domain.errors import NotFoundError
from service_hub.domain.job_requests import check_action
from service_hub.domain.jobs import CancelRequested, Job, JobState, Resumed
from service_hub.domain.operator_signatures import signature_for
from service_hub.domain.plans import members_of
from service_hub.domain.records import Vault
from service_hub.ports.running import JobRunner
from service_hub.ports.stores import JobLists, JobPage, JobPlace, Reader
from service_hub.ports.surroundings import Clock
from service_hub.ports.use_cases import RequestIdentity
from service_hub.services.job_restarts import Restarts
from service_hub.services.requests import RequestLedger


class JobService:
    """The JobUseCases of the hub's ports."""

    def __init__(
        self,
        *,
        reader: Reader,
        lists: JobLists,
        runner: JobRunner,
        clock: Clock,
        requests: RequestLedger,
    ) -> None:
        self._reader = reader
        self._lists = lists
        self._runner = runner
        self._clock = clock
        self._requests = requests
        self._restarts = Restarts(reader=reader, clock=clock)

    async def find(self, vault: Vault, job_id: str) -> Job:
        """Return one job of the vault."""
        found = await self._reader.get(Job, job_id.lower())
        if found is None or found.record.vault_id != vault.id:
            raise NotFoundError(job_id)
        return found.record

    async def children(self, vault: Vault, job: Job) -> Sequence[Job]:
        """Return the jobs that the groups of a job run, none where it has no groups."""
        if not members_of(job):
            return ()
        found = await self._reader.find(Job, parent_id=job.id)
        return [each.record for each in found if each.record.vault_id == vault.id]

    async def list(self, vault: Vault, after: JobPlace | None, limit: int) -> JobPage:
        """Return some jobs of the vault that are no part of another, newest first."""
        return await self._lists.listed_jobs(vault.id, after, limit)

    async def counts(self, vault: Vault) -> Mapping[JobState, int]:
        """Return how many jobs of the vault are in each state."""
        return await self._lists.job_counts(vault.id)

    async def cancel(self, vault: Vault, job_id: str, identity: RequestIdentity) -> Job:
        """Have what runs withdrawn and what was done taken back."""

        async def decide() -> Job:
            job = await self.find(vault, job_id)
            check_action(job, "Cancel")
            now, given = self._clock.now(), identity.operator_signature
            signature = signature_for(vault, job, "cancel", given, now)
            event = CancelRequested(now, identity.principal, operator_signature=signature)
            await self._runner.feed(job.id, event, self._requests.remember(identity, job))
            after = await self.find(vault, job_id)
            if after.finished and after.cancel is None:
                # It had ended before the request was decided on.
                check_action(after, "Cancel")
            return after

        return await self._requests.once(identity, decide)

    async def restart(self, vault: Vault, job_id: str, identity: RequestIdentity) -> Job:
        """Have a failed job go on from the task that failed, holding again what it is about."""

        async def decide() -> Job:
            job = await self.find(vault, job_id)
            check_action(job, "Restart")
            given = identity.operator_signature
            signature = signature_for(vault, job, "restart", given, self._clock.now())
            event, locks = await self._restarts.plan(job, identity.principal)
            event = replace(event, operator_signature=signature)
            change = locks + self._requests.remember(identity, job)
            await self._runner.feed(job.id, event, change)
            return await self.find(vault, job_id)

        return await self._requests.once(identity, decide)

    async def resume(
        self, vault: Vault, job_id: str, comments: str, identity: RequestIdentity
    ) -> Job:
        """Have a suspended job go on: its manual action is done."""

        async def decide() -> Job:
            job = await self.find(vault, job_id)
            check_action(job, "Resume")
            event = Resumed(self._clock.now(), identity.principal, comments)
            await self._runner.feed(job.id, event, self._requests.remember(identity, job))
            return await self.find(vault, job_id)

        return await self._requests.once(identity, decide)
