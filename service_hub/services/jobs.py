"""Jobs: looked at, cancelled, restarted, resumed.

Whatever is asked goes to the engine as an event, so that any hub of a database answers for any job.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

from service_hub.domain.errors import NotFoundError
from service_hub.domain.job_filters import job_filter
from service_hub.domain.job_requests import check_action
from service_hub.domain.jobs import CancelRequested, Job, JobState, Resumed
from service_hub.domain.operator_signatures import needs_signature, signature_for
from service_hub.domain.plan_orders import check_going_on, operation_of
from service_hub.domain.plans import members_of
from service_hub.domain.records import Provider, Vault
from service_hub.ports.running import JobRunner
from service_hub.ports.stores import JobLists, JobPage, JobPlace, Reader
from service_hub.ports.surroundings import Clock
from service_hub.ports.use_cases import RequestIdentity
from service_hub.services.job_restarts import Restarts
from service_hub.services.requests import RequestLedger

READS_MAX: Final = 20
"""How often a page of what is wanted is gone on with; a page has at most 200 jobs."""


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

    async def list(
        self, vault: Vault, wanted: Mapping[str, str], after: JobPlace | None, limit: int
    ) -> JobPage:
        """Return some jobs of the vault that are no part of another, newest first.

        The state is asked of the database; of what else is wanted a bounded number of jobs is read,
        and the rest is behind the page's place.
        """
        asked = job_filter(wanted, await self._named(vault, wanted.get("fabricid")))
        if not wanted:
            return await self._lists.listed_jobs(vault.id, after, limit)
        found: list[Job] = []
        for _ in range(READS_MAX):
            left = limit - len(found)
            page = await self._lists.listed_jobs(vault.id, after, left, asked.state)
            found += [job for job in page.jobs if asked.takes(job)]
            after = page.last
            if after is None or len(found) == limit:
                break
        return JobPage(found, after)

    async def _named(self, vault: Vault, fabric: str | None) -> Sequence[str] | None:
        """Return the provider of a server by its id or name; none where nobody has it."""
        if fabric is None:
            return None
        name = fabric.rstrip("/").rpartition("/")[2].lower()
        known = await self._reader.find(Provider, vault_id=vault.id)
        return [each.record.id for each in known if each.record.fabric_name.lower() == name]

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
            of_members = await self._signed_members(vault, job, identity, now)
            event = CancelRequested(
                now,
                identity.principal,
                operator_signature=signature,
                member_signatures=of_members,
            )
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
            now, of_members = self._clock.now(), identity.member_signatures
            signature = signature_for(vault, job, "restart", given, now)
            check_going_on(vault, job, "restart", of_members, now)
            event, locks = await self._restarts.plan(job, identity.principal)
            event = replace(
                event,
                operator_signature=signature,
                member_signatures=dict(of_members) if members_of(job) else {},
            )
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
            now, of_members = self._clock.now(), identity.member_signatures
            check_going_on(vault, job, "resume", of_members, now)
            event = Resumed(
                now,
                identity.principal,
                comments,
                member_signatures=dict(of_members) if members_of(job) else {},
            )
            await self._runner.feed(job.id, event, self._requests.remember(identity, job))
            return await self.find(vault, job_id)

        return await self._requests.once(identity, decide)

    async def _signed_members(
        self, vault: Vault, job: Job, identity: RequestIdentity, now: datetime
    ) -> Mapping[str, str]:
        """Return what a plan's running jobs carry while they are taken back; {}: what they have.

        Refused as the cancellation of each alone would be, before anything is sent.
        """
        operation = operation_of(job)
        if operation is None or not needs_signature(vault, operation):
            return {}
        given = {name.lower(): text for name, text in identity.member_signatures.items()}
        renewed: dict[str, str] = {}
        for child in await self.children(vault, job):
            if child.finished or child.item_id is None:
                continue
            text = given.get(child.item_id.lower())
            signature = signature_for(vault, child, "cancel", text, now)
            if signature is not None:
                renewed[child.item_id.lower()] = signature
        return renewed
