"""Jobs: looked at, cancelled, restarted, resumed.

Whatever is asked goes to the engine as an event, so that any hub of a database answers for any job.
"""

from collections.abc import Sequence
from dataclasses import replace

from service_hub.domain import errors
from service_hub.domain.checks import job_error, refusal_of_pairing
from service_hub.domain.errors import NotFoundError
from service_hub.domain.job_requests import (
    check_action,
    gone,
    held_again,
    paired_again,
    refused_by,
)
from service_hub.domain.jobs import CancelRequested, Job, RestartRequested, Resumed
from service_hub.domain.operator_signatures import signature_for
from service_hub.domain.plans import members_of
from service_hub.domain.records import ContainerMapping, ProtectedItem, Provider, Vault
from service_hub.domain.servers import title_of
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
from service_hub.services.server_jobs import leaving_by


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
        found = await self._reader.find(Job, vault_id=vault.id, parent_id="")
        return sorted((each.record for each in found), key=lambda job: job.created_at, reverse=True)

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
            event, locks = await self._restart(job, identity.principal)
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

    # ---------------------------------------------------------------------------------- restarting

    async def _restart(self, job: Job, principal: str) -> tuple[RestartRequested, Change]:
        """Return the event, and what holds again what the job is about."""
        now = self._clock.now()
        event = RestartRequested(now, principal)
        if members_of(job):
            return event, await held_again_by_plan(self._reader, job, now)
        if job.item_id is not None:
            return await self._restart_on_item(job, job.item_id, principal)
        await self._look_at_servers(job)
        mapping_id = job.context.get("mapping_id")
        if isinstance(mapping_id, str):
            return event, await self._pair_again(job, mapping_id)
        return event, Change()

    async def _pair_again(self, job: Job, mapping_id: str) -> Change:
        found = await self._reader.find(ContainerMapping, vault_id=job.vault_id)
        mine = next((each for each in found if each.record.id == mapping_id), None)
        if mine is None:
            raise gone(job, "pairing")
        mapping = paired_again(mine.record, job)
        present, facts = [each.record for each in found], job.affected
        names = {
            facts[f"{end}CloudId"]: facts[f"{end}CloudName"]
            for end in ("primary", "recovery")
            if f"{end}CloudId" in facts
        }
        against = refusal_of_pairing(mapping, present, names, self._clock.now())
        if against is not None:
            raise refused_by(against)
        return Change(saves=(Save(mapping, mine.version),))

    async def _look_at_servers(self, job: Job) -> None:
        """Refuse where a server of the job is gone, or is being deleted by another job."""
        for provider_id in job.providers.values():
            provider = await self._reader.get(Provider, provider_id)
            if provider is None:
                raise gone(job, "server")
            leaving = await leaving_by(self._reader, provider.record)
            if leaving is not None:
                name, now = title_of(provider.record), self._clock.now()
                detail = f"{leaving.scenario.name} since {leaving.created_at:%Y-%m-%dT%H:%M:%SZ}"
                raise refused_by(job_error(errors.BUSY, now, name=name, detail=detail))

    async def _restart_on_item(
        self, job: Job, item_id: str, principal: str
    ) -> tuple[RestartRequested, Change]:
        item = await self._reader.get(ProtectedItem, item_id)
        if item is None:
            raise gone(job, "protected item")
        held, event = held_again(item.record, job, principal, self._clock.now())
        return event, Change(saves=(Save(held, item.version),))
