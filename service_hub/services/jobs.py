"""Jobs: looked at, cancelled, restarted, resumed.

Whatever is asked goes to the engine as an event, so that any hub of a database answers for any job.
"""

from collections.abc import Sequence

from service_hub.domain.errors import NotFoundError, StaleVersionError
from service_hub.domain.job_requests import check_action, gone, held_again, paired_again
from service_hub.domain.jobs import CancelRequested, Job, RestartRequested, Resumed
from service_hub.domain.plans import members_of
from service_hub.domain.records import ContainerMapping, ProtectedItem, Vault
from service_hub.ports import (
    Change,
    Clock,
    JobRunner,
    Reader,
    RequestIdentity,
    Save,
)
from service_hub.services.plan_locks import held_again_by_plan
from service_hub.services.requests import RequestLedger

RETRIES_MAX = 20
"""How often a request is decided anew because what it is about had changed meanwhile."""


class JobService:
    """The JobUseCases of the hub's ports."""

    def __init__(
        self,
        *,
        reader: Reader,
        runner: JobRunner,
        clock: Clock,
        requests: RequestLedger,
    ) -> None:
        self._reader = reader
        self._runner = runner
        self._clock = clock
        self._requests = requests

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

    async def list(self, vault: Vault) -> list[Job]:
        """Return all jobs of the vault that are no part of another, newest first."""
        found = await self._reader.find(Job, vault_id=vault.id)
        own = (each.record for each in found if each.record.parent_id is None)
        return sorted(own, key=lambda job: job.created_at, reverse=True)

    async def cancel(self, vault: Vault, job_id: str, identity: RequestIdentity) -> Job:
        """Have what runs withdrawn and what was done taken back."""
        for _ in range(RETRIES_MAX):
            if (earlier := await self._requests.earlier(identity)) is not None:
                return earlier
            job = await self.find(vault, job_id)
            check_action(job, "Cancel")
            event = CancelRequested(self._clock.now(), identity.principal)
            try:
                await self._runner.feed(job.id, event, self._requests.remember(identity, job))
            except StaleVersionError:
                continue
            return await self._cancelled(vault, job)
        raise _no_quiet_moment(job_id)

    async def restart(self, vault: Vault, job_id: str, identity: RequestIdentity) -> Job:
        """Have a failed job go on from the task that failed, holding again what it is about."""
        for _ in range(RETRIES_MAX):
            if (earlier := await self._requests.earlier(identity)) is not None:
                return earlier
            job = await self.find(vault, job_id)
            check_action(job, "Restart")
            event, locks = await self._restart(job, identity.principal)
            change = locks + self._requests.remember(identity, job)
            try:
                await self._runner.feed(job.id, event, change)
            except StaleVersionError:
                continue
            return await self.find(vault, job_id)
        raise _no_quiet_moment(job_id)

    async def resume(
        self, vault: Vault, job_id: str, comments: str, identity: RequestIdentity
    ) -> Job:
        """Have a suspended job go on: its manual action is done."""
        for _ in range(RETRIES_MAX):
            if (earlier := await self._requests.earlier(identity)) is not None:
                return earlier
            job = await self.find(vault, job_id)
            check_action(job, "Resume")
            event = Resumed(self._clock.now(), identity.principal, comments)
            try:
                await self._runner.feed(job.id, event, self._requests.remember(identity, job))
            except StaleVersionError:
                continue
            return await self.find(vault, job_id)
        raise _no_quiet_moment(job_id)

    # ---------------------------------------------------------------------------------- restarting

    async def _restart(self, job: Job, principal: str) -> tuple[RestartRequested, Change]:
        """Return the event, and what holds again what the job is about."""
        now = self._clock.now()
        if members_of(job):
            held = await held_again_by_plan(self._reader, job, now)
            return RestartRequested(now, principal), held
        if job.item_id is not None:
            return await self._restart_on_item(job, job.item_id, principal)
        mapping_id = job.context.get("mapping_id")
        if not isinstance(mapping_id, str):
            return RestartRequested(now, principal), Change()
        mapping = await self._reader.get(ContainerMapping, mapping_id)
        if mapping is None:
            raise gone(job, "pairing")
        pairing = Save(paired_again(mapping.record, job), mapping.version)
        return RestartRequested(now, principal), Change(saves=(pairing,))

    async def _restart_on_item(
        self, job: Job, item_id: str, principal: str
    ) -> tuple[RestartRequested, Change]:
        item = await self._reader.get(ProtectedItem, item_id)
        if item is None:
            raise gone(job, "protected item")
        held, event = held_again(item.record, job, principal, self._clock.now())
        return event, Change(saves=(Save(held, item.version),))

    async def _cancelled(self, vault: Vault, job: Job) -> Job:
        """Return the job as it is now; refused after all where it had ended in the meantime."""
        after = await self.find(vault, job.id)
        if after.finished and after.cancel is None:
            check_action(after, "Cancel")
        return after


def _no_quiet_moment(job_id: str) -> StaleVersionError:
    return StaleVersionError(f"the job {job_id} found no quiet moment in {RETRIES_MAX} tries")
