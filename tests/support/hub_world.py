"""A hub without network: real store, committer, engine and use cases; providers are spoken for.

Two registered servers with a cloud each and one machine on the first: what job tests need.

Over 400 lines because it composes every use case of a hub, in one place.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from service_hub.domain.errors import StaleVersionError
from service_hub.domain.jobs import Job
from service_hub.domain.records import (
    FabricInventory,
    ProtectedItem,
    Provider,
    ProviderContact,
    ProviderStream,
    Vault,
)
from service_hub.domain.recovery_plans import GROUPS_MAX_DEFAULT
from service_hub.engine.committer import GroupCommitter
from service_hub.engine.runner import Engine
from service_hub.ports.changes import NOTHING_STORED, Change, Save, Stored
from service_hub.ports.channel import Resigner
from service_hub.ports.running import Outbox
from service_hub.ports.surroundings import NO_FAULTS, FaultPoints
from service_hub.ports.use_cases import RequestIdentity
from service_hub.services.added_hosts import AddedHosts
from service_hub.services.alert_mails import AlertSettingsService
from service_hub.services.completion import CompletionService
from service_hub.services.fabrics import FabricService
from service_hub.services.item_plans import ItemPlans
from service_hub.services.jobs import JobService
from service_hub.services.network_mappings import NetworkMappingService
from service_hub.services.pair_facts import PairReader
from service_hub.services.pairing import PairingService
from service_hub.services.plans import PlanService
from service_hub.services.policies import PolicyService
from service_hub.services.policy_changes import PolicyChanges
from service_hub.services.protection import ProtectionService
from service_hub.services.providers import ProviderService
from service_hub.services.recovery_plans import RecoveryPlanService
from service_hub.services.replication_events import EventService
from service_hub.services.requests import RequestLedger
from service_hub.services.servers import ServerService
from service_hub.services.storage_mappings import StorageMappingService
from service_hub.store.database import open_store
from service_hub.store.record_store import RecordStore
from service_shell.clock import boottime
from tests.support.leaving_servers import LeavingServers, leaving_servers
from tests.support.site_views import MACHINE_ID, inventory, machine, replication
from wire_contract.events import Assignment
from wire_contract.reports import ProviderError, ReportBatch, TaskOutcome
from wire_contract.vocabulary import EventType

__all__ = [
    "BEGIN",
    "DEFAULT_RESULTS",
    "MACHINE_ID",
    "HubWorld",
    "NoOutbox",
    "NoSignatures",
    "TellingCommitter",
    "TickingClock",
    "hub_world",
    "inventory",
    "machine",
    "replication",
]

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
COMMIT_SECONDS_MAX = 30
HEARTBEAT = timedelta(seconds=60)
SITES = ("tokyo", "osaka")


class TickingClock:
    """Time stands still unless a test moves it; ids are numbered."""

    def __init__(self) -> None:
        self.time = BEGIN
        self.ids = 0

    def now(self) -> datetime:
        """Return the present moment."""
        return self.time

    def new_id(self) -> str:
        """Return the next GUID."""
        self.ids += 1
        return str(UUID(int=self.ids))


class NoOutbox:
    """Remembers who was woken."""

    def __init__(self) -> None:
        self.woken: list[str] = []

    def wake(self, provider_ids: Sequence[str], stored: Stored = NOTHING_STORED) -> None:
        """Note it; what was stored is read where it matters."""
        del stored
        self.woken.extend(provider_ids)


class TellingCommitter(GroupCommitter):
    """Lets a test wait for the next commit instead of asking again and again."""

    def __init__(self, store: RecordStore, outbox: Outbox) -> None:
        super().__init__(store, outbox)
        self._told = asyncio.Event()

    async def commit_all(self, changes: Sequence[Change]) -> list[int | StaleVersionError]:
        """Commit, then tell who waits."""
        try:
            return await super().commit_all(changes)
        finally:
            self._told.set()

    async def until_next(self) -> None:
        """Return when something was committed since the last call; bounded."""
        async with asyncio.timeout(COMMIT_SECONDS_MAX):
            await self._told.wait()
        self._told.clear()


class NoSignatures:
    """Remembers which events a provider could not verify."""

    def __init__(self) -> None:
        self.refused: list[tuple[str, int]] = []

    def sign_anew(self, provider_id: str, seq: int) -> None:
        """Note it."""
        self.refused.append((provider_id, seq))


@dataclass
class HubWorld:
    """The parts a test takes hold of."""

    store: RecordStore
    clock: TickingClock
    engine: Engine
    committer: TellingCommitter
    vault: Vault
    providers: Mapping[str, Provider]
    policies: PolicyService
    pairing: PairingService
    protection: ProtectionService
    reports: ProviderService
    added: AddedHosts
    fabrics: FabricService
    servers: ServerService
    jobs: JobService
    events: EventService
    alerts: AlertSettingsService
    plans: PlanService
    recovery_plans: RecoveryPlanService
    leaving: LeavingServers
    networks: NetworkMappingService
    storage: StorageMappingService
    requests: int = 0
    results: dict[str, dict[str, Any]] = field(default_factory=dict)

    def identity(self, request_id: str | None = None) -> RequestIdentity:
        """Return the identity of a new request, or of the one named."""
        self.requests += 1
        return RequestIdentity(
            principal="operator",
            client_request_id=request_id or f"request-{self.requests}",
            correlation_id=f"correlation-{self.requests}",
            method="POST",
            path="/somewhere",
            body_digest="digest",
        )

    async def job(self, job_id: str) -> Job:
        """Return a job as it is stored."""
        found = await self.store.get(Job, job_id)
        assert found is not None
        return found.record

    async def item(self) -> ProtectedItem:
        """Return the one item as it is stored."""
        found = await self.store.get(ProtectedItem, MACHINE_ID)
        assert found is not None
        return found.record

    async def assignments(self, site: str) -> list[Assignment]:
        """Return what a site's provider has not acknowledged, in order."""
        events = await self.store.events_after(self.providers[site].id, 0, 1000)
        return [
            Assignment.model_validate(event.body)
            for event in events
            if event.type is EventType.ASSIGNMENT
        ]

    async def refreshes(self, site: str) -> int:
        """Return how many refreshes a site's provider has not acknowledged."""
        events = await self.store.events_after(self.providers[site].id, 0, 1000)
        return sum(event.type is EventType.REFRESH for event in events)

    async def outcome(
        self, site: str, assignment: Assignment, error: ProviderError | None = None
    ) -> None:
        """Report how an assignment ended, as the site's provider would."""
        result = self.results.get(assignment.verb, {})
        outcome = TaskOutcome(
            report_id=self.clock.new_id(),
            job=assignment.job,
            task=assignment.task,
            attempt=assignment.attempt,
            succeeded=error is None,
            observed={"result": result} if error is None else {},
            observed_at=self.clock.now(),
            error=error,
        )
        await self.reports.reports(
            self.providers[site], ReportBatch(journal_id="j", reports=(outcome,))
        )

    async def heard_of(self, site: str) -> None:
        """Renew a provider's lease."""
        provider = self.providers[site]
        contact = ProviderContact(
            id=provider.id, vault_id=provider.vault_id, last_contact_at=self.clock.now()
        )
        await self.committer.commit(Change(saves=(Save(contact, None),)))


DEFAULT_RESULTS: dict[str, dict[str, Any]] = {
    "place_replica": {"replica_host": "osaka-host1.example", "replica_port": 8084},
    "export_initial_replication": {"folder": "\\\\share\\copies\\web01"},
    "prepare_failover": {"last_cut": 7},
    "prepare_reverse": {"replica_host": "tokyo-host1.example", "replica_port": 8084},
}


@asynccontextmanager
async def hub_world(
    folder: Path,
    lease: timedelta = timedelta(hours=1),
    *,
    clock: TickingClock | None = None,
    outbox: Outbox | None = None,
    resigner: Resigner | None = None,
    faults: FaultPoints = NO_FAULTS,
    sites: Sequence[str] = SITES,
) -> AsyncIterator[HubWorld]:
    """Open a hub on a database in `folder`; opened again it takes up what was left."""
    clock = clock or TickingClock()
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(
            open_store(folder / "hub.db", faults, frees_leases=True)
        )
        committer = TellingCommitter(store, outbox or NoOutbox())
        await stack.enter_async_context(committer.running())
        fabrics = FabricService(reader=store, clock=clock, lease=lease)
        leaving = leaving_servers(store, committer, clock, fabrics)
        engine = Engine(
            reader=store,
            committer=committer,
            checker=leaving.checker,
            liveness=fabrics,
            clock=clock,
            leases=store,
            boottime=boottime,
            faults=faults,
        )
        requests = RequestLedger(reader=store, clock=clock)
        pairs = PairReader(reader=store, fabrics=fabrics)
        changes = PolicyChanges(
            reader=store,
            runner=engine,
            clock=clock,
            requests=requests,
            pairs=pairs,
            heartbeat=HEARTBEAT,
        )
        policies = PolicyService(
            reader=store,
            runner=engine,
            clock=clock,
            requests=requests,
            changes=changes,
            heartbeat=HEARTBEAT,
        )
        pairing = PairingService(
            reader=store,
            runner=engine,
            clock=clock,
            fabrics=fabrics,
            policies=policies,
            requests=requests,
            pairs=pairs,
        )
        protection = ProtectionService(
            reader=store, runner=engine, clock=clock, fabrics=fabrics, requests=requests
        )
        servers = ServerService(
            reader=store,
            runner=engine,
            clock=clock,
            fabrics=fabrics,
            requests=requests,
            departures=leaving.departures,
        )
        completion = CompletionService(store, committer, clock, protection)
        plans = PlanService(
            reader=store,
            runner=engine,
            committer=committer,
            clock=clock,
            requests=requests,
            plans=ItemPlans(reader=store, fabrics=fabrics),
        )
        engine.plan_children_with(plans)
        engine.follow(plans)
        engine.follow(completion)
        added = AddedHosts(reader=store, runner=engine, clock=clock, pairs=pairs)
        reports = ProviderService(
            reader=store,
            committer=committer,
            clock=clock,
            runner=engine,
            observers=completion,
            resigner=resigner or NoSignatures(),
            heartbeat=HEARTBEAT,
            fabrics_seen=added,
        )
        vault, providers = await _furnish(store, committer, clock, sites)
        await stack.enter_async_context(engine.running())
        yield HubWorld(
            store=store,
            clock=clock,
            engine=engine,
            committer=committer,
            vault=vault,
            providers=providers,
            policies=policies,
            pairing=pairing,
            protection=protection,
            reports=reports,
            added=added,
            fabrics=fabrics,
            servers=servers,
            events=EventService(reader=store, lists=store),
            alerts=AlertSettingsService(
                reader=store, committer=committer, clock=clock, owners=(), has_server=True
            ),
            jobs=JobService(
                reader=store, lists=store, runner=engine, clock=clock, requests=requests
            ),
            plans=plans,
            recovery_plans=RecoveryPlanService(
                reader=store,
                runner=engine,
                clock=clock,
                requests=requests,
                runs=plans,
                groups_max=GROUPS_MAX_DEFAULT,
            ),
            leaving=leaving,
            networks=NetworkMappingService(
                reader=store, runner=engine, clock=clock, fabrics=fabrics, requests=requests
            ),
            storage=StorageMappingService(
                reader=store, runner=engine, clock=clock, fabrics=fabrics, requests=requests
            ),
            results=dict(DEFAULT_RESULTS),
        )


async def _furnish(
    store: RecordStore, committer: TellingCommitter, clock: TickingClock, sites: Sequence[str]
) -> tuple[Vault, dict[str, Provider]]:
    """Make vault and providers, or find those of an earlier opening."""
    vault = Vault(
        id="vault",
        vault_id="vault",
        subscription_id="s",
        resource_group="rg",
        name="v",
        location="here",
        resource_number=1,
        created_at=clock.now(),
    )
    providers = {
        site: Provider(
            id=f"{site}-provider",
            vault_id="vault",
            vmm_id=f"{site}-vmm",
            vmm_fqdn=f"{site}.example",
            friendly_name=site,
            fabric_name=f"{site}-fabric",
            enrolled_at=clock.now(),
            registered_at=clock.now(),
        )
        for site in sites
    }
    if await store.get(Vault, vault.id) is not None:
        clock.ids = 1_000_000
        return vault, providers
    saves = [Save(vault, None)]
    for site, provider in providers.items():
        machines = (machine(MACHINE_ID, site),) if site == "tokyo" else ()
        saves += [
            Save(provider, None),
            Save(ProviderStream(id=provider.id, vault_id="vault", stream=f"{site}-stream"), None),
            Save(
                ProviderContact(id=provider.id, vault_id="vault", last_contact_at=clock.now()),
                None,
            ),
            Save(
                FabricInventory(
                    id=provider.id,
                    vault_id="vault",
                    observed_at=clock.now(),
                    view=inventory(site, machines),
                ),
                None,
            ),
        ]
    await committer.commit(Change(saves=saves))
    return vault, providers
