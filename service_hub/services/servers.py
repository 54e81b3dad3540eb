"""Registered servers: looked at, asked for their inventory, removed, forgotten."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import structlog

from service_hub.domain import errors
from service_hub.domain.checks import job_error
from service_hub.domain.errors import ConflictError, NotFoundError, StaleVersionError
from service_hub.domain.jobs import Job, JobError
from service_hub.domain.mapping_records import NetworkMapping, StorageMapping
from service_hub.domain.planning import JobIdentity, refused
from service_hub.domain.records import (
    Alert,
    ContainerMapping,
    FabricInventory,
    MachineObservation,
    ManagementCertificate,
    OutboxEvent,
    PendingApproval,
    Provider,
    ProviderContact,
    ProviderStream,
    Record,
    Vault,
)
from service_hub.domain.servers import (
    CHECKING_TASKS,
    CREATE_SITE,
    DELETING_TASK,
    REFRESH,
    REGISTER,
    SERVER_JOBS,
    UNREGISTER,
    left_by,
    plan_partner_job,
    plan_server_job,
    refusal_in_use,
    refusal_while_leaving,
    title_of,
)
from service_hub.operator_ports import ServerFacts
from service_hub.ports.changes import Change, Delete, Save, Versioned
from service_hub.ports.channel import Connections
from service_hub.ports.running import Checker, JobRunner
from service_hub.ports.stores import Committer, Reader
from service_hub.ports.surroundings import Clock
from service_hub.ports.use_cases import FabricFacts, FabricUseCases, RequestIdentity
from service_hub.services.policies import activity
from service_hub.services.requests import RequestLedger
from service_hub.services.server_jobs import leaving_by
from service_hub.services.server_usage import ServerUsage
from wire_contract import paths
from wire_contract.vocabulary import Side

TRIES_MAX: Final = 20
"""How often forgetting a server is tried while something else changes the same records."""

PURGE_INSTEAD: Final = "; if it is gone for good, purge it: site-recovery server purge"

log = structlog.get_logger(__name__)


class ServerService:
    """The ServerUseCases and the RegistrationJobs of the operator ports."""

    def __init__(
        self,
        *,
        reader: Reader,
        runner: JobRunner,
        clock: Clock,
        fabrics: FabricUseCases,
        requests: RequestLedger,
        departures: "Departures",
    ) -> None:
        self._reader = reader
        self._runner = runner
        self._clock = clock
        self._fabrics = fabrics
        self._requests = requests
        self._departures = departures

    async def list(self, vault: Vault) -> list[ServerFacts]:
        """Return all registered servers of a vault, with the certificates they may use now."""
        return [
            ServerFacts(facts, await self._thumbprints(facts.provider.id))
            for facts in await self._fabrics.list(vault)
        ]

    async def registered(self, provider: Provider, change: Change) -> None:
        """Store the change that registers a server, together with its two jobs (recorded, 12)."""
        now = self._clock.now()
        group = f"{self._clock.new_id()} ActivityId: {self._clock.new_id()}"
        jobs = [
            plan_server_job(key, provider, JobIdentity(self._clock.new_id(), group, now))
            for key in (CREATE_SITE, REGISTER)
        ]
        # In one transaction: a registration that is repeated begins no jobs any more.
        await self._runner.start_all(jobs, change)

    async def remove(self, vault: Vault, fabric_name: str, identity: RequestIdentity) -> Job:
        """Have a connected server clean up, then forget it (behaviour.md, 2.15)."""
        return await self._begin(UNREGISTER, vault, fabric_name, identity)

    async def refresh(self, vault: Vault, fabric_name: str, identity: RequestIdentity) -> Job:
        """Ask a server for what it manages now; the job ends when that has come."""
        return await self._begin(REFRESH, vault, fabric_name, identity)

    async def purge(self, vault: Vault, fabric_name: str) -> None:
        """Forget a disconnected server at once, with its pairings; the partners tidy up.

        Who is connected is removed instead.
        """
        facts = await self._fabrics.find(vault, fabric_name)
        provider = facts.provider
        against = await self._departures.used.refusal_of_purge(facts)
        if against is not None:
            raise ConflictError(against)
        left = await self._departures.used.left_with_partners(provider)
        jobs = await self._partner_jobs(vault, left)

        async def store(farewell: Change) -> None:
            # In one transaction: a hub that dies in between has not forgotten the partners.
            await self._runner.start_all(jobs, farewell)

        await self._departures.forget(provider.id, store)
        for job in jobs:
            partner_id = job.providers[Side.PRIMARY]
            log.info("partner_tidied", provider_id=partner_id, job_id=job.id, gone=provider.id)

    async def _partner_jobs(
        self, vault: Vault, left: Sequence[tuple[str, str, str]]
    ) -> Sequence[Job]:
        """Return what has connected partners remove what the purged server leaves with them."""
        jobs = []
        for partner_id, cloud_id, gone_cloud_id in left:
            found = await self._reader.get(Provider, partner_id)
            if found is None:
                continue
            partner = await self._fabrics.find(vault, found.record.fabric_name)
            if not partner.connected:
                continue
            activity_id = f"{self._clock.new_id()} ActivityId: {self._clock.new_id()}"
            identity = JobIdentity(self._clock.new_id(), activity_id, self._clock.now())
            jobs.append(plan_partner_job(found.record, cloud_id, gone_cloud_id, identity))
        return jobs

    async def leave(self, provider: Provider) -> Job:
        """Remove a server because its own provider asks for it; what still needs it is named."""
        against = await self._departures.used.refusal_in_use(provider)
        if against is not None:
            raise ConflictError(against)
        vault = await self._reader.get(Vault, provider.vault_id)
        if vault is None:
            raise NotFoundError(provider.vault_id)
        identity = RequestIdentity(
            principal=f"provider {provider.id}",
            client_request_id=self._clock.new_id(),
            correlation_id=self._clock.new_id(),
            method="POST",
            path=paths.UNREGISTRATION,
            body_digest="",
        )
        return await self.remove(vault.record, provider.fabric_name, identity)

    async def _begin(
        self, key: str, vault: Vault, fabric_name: str, identity: RequestIdentity
    ) -> Job:
        return await self._requests.once(
            identity, lambda: self._decide(key, vault, fabric_name, identity)
        )

    async def _decide(
        self, key: str, vault: Vault, fabric_name: str, identity: RequestIdentity
    ) -> Job:
        facts = await self._fabrics.find(vault, fabric_name)
        now = self._clock.now()
        job = plan_server_job(
            key, facts.provider, JobIdentity(self._clock.new_id(), activity(identity), now)
        )
        remembered = self._requests.remember(identity, job)
        leaving = await leaving_by(self._reader, facts.provider)
        if leaving is not None:
            stopped = refused(job, refusal_while_leaving(facts.provider, leaving, now), now)
            await self._runner.record(stopped, remembered)
            return stopped
        await self._runner.start(job, remembered)
        return job

    async def _thumbprints(self, provider_id: str) -> tuple[str, ...]:
        found = await self._reader.find(ManagementCertificate, provider_id=provider_id)
        return tuple(each.record.id for each in found if each.record.revoked_at is None)


class Departures:
    """Forgets servers: nothing of one that is gone may act or be acted on."""

    def __init__(
        self, *, reader: Reader, committer: Committer, clock: Clock, connections: Connections
    ) -> None:
        self._reader = reader
        self._committer = committer
        self._clock = clock
        self._connections = connections
        self.used = ServerUsage(reader=reader)

    async def forget(
        self, provider_id: str, store: Callable[[Change], Awaitable[object]] | None = None
    ) -> None:
        """Revoke a server's certificates, drop what is known of it, and end its connections.

        In one transaction, which `store` may carry out with more in it; repeating it changes
        nothing.
        """
        store = store or self._committer.commit
        for _ in range(TRIES_MAX):
            found = await self._reader.get(Provider, provider_id)
            if found is None:
                break
            try:
                await store(await self._farewell(found.record))
            except StaleVersionError:
                continue
            log.info("server_forgotten", provider_id=provider_id, vmm_id=found.record.vmm_id)
            break
        else:
            raise StaleVersionError(f"the server {provider_id} found no quiet moment; try again")
        self._connections.kick(provider_id)

    async def _farewell(self, provider: Provider) -> Change:
        now = self._clock.now()
        certificates = await self._reader.find(ManagementCertificate, provider_id=provider.id)
        # Kept as revoked: who shows one is told so, whatever became of its server.
        revoked = [
            Save(each.record.model_copy(update={"revoked_at": now}), each.version)
            for each in certificates
            if each.record.revoked_at is None
        ]
        deletes = [
            Delete(kind, provider.id)
            for kind in (Provider, ProviderStream, ProviderContact, FabricInventory)
        ]
        for kind in (MachineObservation, OutboxEvent, PendingApproval):
            deletes += _deletes(kind, await self._reader.find(kind, provider_id=provider.id))
        mappings = await self.used.mappings(provider)
        deletes += [Delete(ContainerMapping, each.id) for each in mappings]
        networks = await self.used.mapped(NetworkMapping, provider)
        deletes += [Delete(NetworkMapping, each.id) for each in networks]
        storage = await self.used.mapped(StorageMapping, provider)
        deletes += [Delete(StorageMapping, each.id) for each in storage]
        alerts = [
            self._partner_alert(provider, partner_id, cloud_id)
            for partner_id, cloud_id, _ in left_by(provider, mappings)
        ]
        return Change(saves=[*revoked, *alerts], deletes=deletes)

    def _partner_alert(self, gone: Provider, partner_id: str, cloud_id: str) -> Save:
        alert = Alert(
            id=self._clock.new_id(),
            vault_id=gone.vault_id,
            provider_id=partner_id,
            code="PartnerPurged",
            message=f"cloud {cloud_id} was paired with {title_of(gone)}, which is deleted; where"
            " the job that removes what is left there has not succeeded, run beside this provider:"
            f" provider-agent cleanup --unpair {cloud_id}",
            raised_at=self._clock.now(),
        )
        return Save(alert, None)


class ServerTasks:
    """Carries out the hub's own tasks of jobs on servers; a Checker beside that of other jobs."""

    def __init__(
        self,
        *,
        reader: Reader,
        clock: Clock,
        fabrics: FabricUseCases,
        departures: Departures,
        otherwise: Checker,
    ) -> None:
        self._reader = reader
        self._clock = clock
        self._fabrics = fabrics
        self._departures = departures
        self._otherwise = otherwise

    async def check(self, job: Job, task_id: str) -> JobError | None:
        """Return why a job must stop at one of the hub's own tasks, or None when it is done."""
        if job.scenario_key not in SERVER_JOBS:
            return await self._otherwise.check(job, task_id)
        found = await self._reader.get(Provider, job.providers[Side.PRIMARY])
        if found is None:
            # Taken up after a restart: the server was forgotten before the job could say so.
            return None if task_id == DELETING_TASK else self._gone(job)
        provider = found.record
        if task_id in CHECKING_TASKS:
            error = await self._unreachable(provider, leaves=job.scenario_key == UNREGISTER)
            if error is not None:
                return error
        if job.scenario_key == UNREGISTER:
            # Asked again before the end: a pairing may have begun while the provider cleaned up.
            usage = await self._departures.used.usage(provider)
            if usage is not None:
                return refusal_in_use(provider, usage, self._clock.now())
        if task_id == DELETING_TASK:
            await self._departures.forget(provider.id)
        return None

    async def _unreachable(self, provider: Provider, *, leaves: bool) -> JobError | None:
        facts = await self._facts(provider)
        if facts.connected:
            return None
        heard = facts.last_contact_at
        last = "never" if heard is None else f"at {heard:%Y-%m-%dT%H:%M:%SZ}"
        return job_error(
            errors.NOT_CONNECTED,
            self._clock.now(),
            name=title_of(provider),
            detail=f"last heard of {last}{PURGE_INSTEAD if leaves else ''}",
        )

    async def _facts(self, provider: Provider) -> FabricFacts:
        vault = await self._reader.get(Vault, provider.vault_id)
        if vault is None:
            raise NotFoundError(provider.vault_id)
        return await self._fabrics.find(vault.record, provider.fabric_name)

    def _gone(self, job: Job) -> JobError:
        detail = "it was deleted meanwhile"
        now = self._clock.now()
        return job_error(errors.NOT_CONNECTED, now, name=job.target_object_name, detail=detail)


def _deletes(kind: type[Record], found: Sequence[Versioned[Record]]) -> list[Delete]:
    return [Delete(kind, each.record.id) for each in found]
