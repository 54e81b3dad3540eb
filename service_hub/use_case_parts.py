"""Part of the composition root: the engine and the use cases, made of what they stand on."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from certs.profiles import LIFETIMES, Profile
from service_hub.alert_parts import alert_chores, alert_settings
from service_hub.channel.event_source import SignedEvents
from service_hub.channel.wakeups import Wakeups
from service_hub.config import HubSettings
from service_hub.domain.root_rotation import NewRoot
from service_hub.engine.chores import Chore
from service_hub.engine.runner import Engine, Terms
from service_hub.laboratory import LaboratorySites
from service_hub.ports.stores import Committer
from service_hub.provider_api.certificate_office import TrustOffice, UploadedRegistrations
from service_hub.provider_api.registration_office import RegistrationOffice
from service_hub.server_parts import ServerParts, server_parts
from service_hub.services.added_hosts import AddedHosts
from service_hub.services.alert_mails import AlertSettingsService
from service_hub.services.completion import CompletionService
from service_hub.services.enrolment import EnrolmentService
from service_hub.services.fabrics import FabricService
from service_hub.services.first_hearing import FirstHearing
from service_hub.services.injection_tasks import InjectionTasks
from service_hub.services.injections import InjectionService
from service_hub.services.item_plans import ItemPlans
from service_hub.services.jobs import JobService
from service_hub.services.mapping_tasks import MappingTasks
from service_hub.services.network_mappings import NetworkMappingService
from service_hub.services.open_tests import OpenTestService
from service_hub.services.pair_facts import PairReader
from service_hub.services.pair_tasks import PairTasks
from service_hub.services.pairing import PairingService
from service_hub.services.plans import PlanService
from service_hub.services.policies import PolicyService
from service_hub.services.policy_changes import PolicyChanges
from service_hub.services.prerequisites import PrerequisitesService
from service_hub.services.protection import ProtectionService
from service_hub.services.providers import ProviderService
from service_hub.services.recovery_plans import RecoveryPlanService
from service_hub.services.replication_events import EventPruning, EventService, LostProviders
from service_hub.services.requests import RequestKeyPruning, RequestLedger
from service_hub.services.servers import ServerService
from service_hub.services.storage_mappings import StorageMappingService
from service_hub.services.vaults import VaultService
from service_hub.services.waiting import WaitingService
from service_hub.store.record_store import RecordStore
from service_hub.trust import HubTrust
from service_hub.trust_parts import Tls
from service_shell.clock import Clock, boottime
from service_shell.failpoints import Failpoints

OPEN_TESTS_SECONDS: Final = 600.0
"""How often tests are looked at that have been open for two weeks."""

REQUEST_KEYS_SECONDS: Final = 3600.0

LOST_PROVIDERS_SECONDS: Final = 5.0
"""How often it is looked whether a server has fallen silent."""

INJECTIONS_SECONDS: Final = 1.0
"""How often it is looked whether an injected event is due."""


@dataclass(frozen=True, slots=True)
class UseCases:
    """The parts that the edges call."""

    vaults: VaultService
    fabrics: FabricService
    policies: PolicyService
    pairing: PairingService
    protection: ProtectionService
    networks: NetworkMappingService
    storage: StorageMappingService
    jobs: JobService
    events: EventService
    alerts: AlertSettingsService
    plans: RecoveryPlanService
    enrolment: EnrolmentService
    providers: ProviderService
    servers: ServerService
    registered: ServerParts
    waiting: WaitingService
    injections: InjectionService
    chores: tuple[Chore, ...]


@dataclass(frozen=True, slots=True)
class Parts:
    """What the use cases stand on."""

    store: RecordStore
    committer: Committer
    office: TrustOffice
    source: SignedEvents
    tls: Tls
    wakeups: Wakeups
    faults: Failpoints
    shared: bool
    """Whether other hubs may use the database too."""


def use_cases(
    settings: HubSettings, trust: HubTrust, clock: Clock, parts: Parts
) -> tuple[Engine, UseCases]:
    """Return the engine, not yet running, and the use cases that stand on it."""
    store, committer = parts.store, parts.committer
    fabrics = FabricService(reader=store, clock=clock, lease=settings.lease)
    office = RegistrationOffice(trust.chains, provider_url=settings.provider.public_url)
    laboratory = LaboratorySites(settings.laboratory)
    checker = InjectionTasks(
        clock=clock, laboratory=laboratory, otherwise=_checker(clock, parts, fabrics)
    )
    registered = server_parts(store, committer, clock, fabrics, checker=checker, office=office)
    first = FirstHearing(checker=registered.checker, liveness=fabrics, boottime=boottime)
    engine = _engine(settings, clock, parts, first)
    requests = RequestLedger(reader=store, clock=clock)
    policies = _policies(settings, engine, clock, parts, fabrics=fabrics, requests=requests)
    protection = ProtectionService(
        reader=store, runner=engine, clock=clock, fabrics=fabrics, requests=requests
    )
    engine.follow(runs := _plans(engine, clock, parts, fabrics, requests))
    engine.follow(completion := CompletionService(store, committer, clock, protection))
    servers = ServerService(
        reader=store,
        runner=engine,
        clock=clock,
        fabrics=fabrics,
        requests=requests,
        departures=registered.departures,
    )
    injections = _injections(engine, clock, parts, fabrics, laboratory)
    return engine, UseCases(
        vaults=_vaults(settings, clock, parts, registered),
        fabrics=fabrics,
        policies=policies,
        pairing=_pairing(engine, clock, parts, fabrics, policies=policies, requests=requests),
        protection=protection,
        networks=NetworkMappingService(
            reader=store, runner=engine, clock=clock, fabrics=fabrics, requests=requests
        ),
        storage=StorageMappingService(
            reader=store, runner=engine, clock=clock, fabrics=fabrics, requests=requests
        ),
        events=EventService(reader=store, lists=store),
        alerts=alert_settings(settings, clock, store, committer),
        jobs=JobService(reader=store, lists=store, runner=engine, clock=clock, requests=requests),
        plans=_recovery_plans(settings, engine, clock, store, runs=runs, requests=requests),
        enrolment=EnrolmentService(
            reader=store,
            committer=committer,
            clock=clock,
            office=parts.office,
            jobs=servers,
            mqtt=(settings.mqtt.public_host, settings.mqtt.public_port or settings.mqtt.port),
            heartbeat=timedelta(seconds=settings.heartbeat_seconds),
        ),
        servers=servers,
        registered=registered,
        waiting=_waiting(engine, trust, clock, parts, fabrics),
        injections=injections,
        chores=_chores(settings, clock, parts, (protection, injections, first)),
        providers=_providers(
            settings,
            trust,
            clock,
            parts,
            runner=engine,
            observers=completion,
            seen=_added_hosts(engine, clock, parts, fabrics),
        ),
    )


def _checker(clock: Clock, parts: Parts, fabrics: FabricService) -> PairTasks:
    """Return what carries out the hub's own tasks, but for those of servers."""
    store, committer = parts.store, parts.committer
    others = PrerequisitesService(reader=store, clock=clock, fabrics=fabrics)
    mappings = MappingTasks(
        reader=store, committer=committer, clock=clock, fabrics=fabrics, otherwise=others
    )
    return PairTasks(reader=store, committer=committer, clock=clock, otherwise=mappings)


def _policies(
    settings: HubSettings,
    engine: Engine,
    clock: Clock,
    parts: Parts,
    *,
    fabrics: FabricService,
    requests: RequestLedger,
) -> PolicyService:
    heartbeat = timedelta(seconds=settings.heartbeat_seconds)
    changes = PolicyChanges(
        reader=parts.store,
        runner=engine,
        clock=clock,
        requests=requests,
        pairs=PairReader(reader=parts.store, fabrics=fabrics),
        heartbeat=heartbeat,
    )
    return PolicyService(
        reader=parts.store,
        runner=engine,
        clock=clock,
        requests=requests,
        changes=changes,
        heartbeat=heartbeat,
    )


def _pairing(
    engine: Engine,
    clock: Clock,
    parts: Parts,
    fabrics: FabricService,
    *,
    policies: PolicyService,
    requests: RequestLedger,
) -> PairingService:
    return PairingService(
        reader=parts.store,
        runner=engine,
        clock=clock,
        fabrics=fabrics,
        policies=policies,
        requests=requests,
        pairs=PairReader(reader=parts.store, fabrics=fabrics),
    )


def _added_hosts(engine: Engine, clock: Clock, parts: Parts, fabrics: FabricService) -> AddedHosts:
    pairs = PairReader(reader=parts.store, fabrics=fabrics)
    return AddedHosts(reader=parts.store, runner=engine, clock=clock, pairs=pairs)


def _engine(settings: HubSettings, clock: Clock, parts: Parts, first: FirstHearing) -> Engine:
    return Engine(
        reader=parts.store,
        committer=parts.committer,
        checker=first,
        liveness=first,
        clock=clock,
        leases=parts.store,
        boottime=boottime,
        terms=Terms(settings.jobs.lease_seconds, parts.shared),
        faults=parts.faults,
    )


def _injections(
    engine: Engine, clock: Clock, parts: Parts, fabrics: FabricService, laboratory: LaboratorySites
) -> InjectionService:
    return InjectionService(
        reader=parts.store,
        committer=parts.committer,
        runner=engine,
        clock=clock,
        fabrics=fabrics,
        requests=RequestLedger(reader=parts.store, clock=clock),
        laboratory=laboratory,
    )


def _waiting(
    engine: Engine, trust: HubTrust, clock: Clock, parts: Parts, fabrics: FabricService
) -> WaitingService:
    return WaitingService(
        reader=parts.store,
        liveness=fabrics,
        clock=clock,
        standing_still=lambda: engine.standing_still,
        new_root=lambda: _new_root(trust),
    )


def _new_root(trust: HubTrust) -> NewRoot | None:
    successor = trust.chains.successor
    if successor is None:
        return None
    return NewRoot(successor.root_thumbprint, successor.root_made_at)


def _providers(
    settings: HubSettings,
    trust: HubTrust,
    clock: Clock,
    parts: Parts,
    *,
    runner: Engine,
    observers: CompletionService,
    seen: AddedHosts,
) -> ProviderService:
    return ProviderService(
        reader=parts.store,
        committer=parts.committer,
        clock=clock,
        runner=runner,
        observers=observers,
        resigner=parts.source,
        heartbeat=timedelta(seconds=settings.heartbeat_seconds),
        roots=trust.chains,
        offered_version=settings.provider_version,
        fabrics_seen=seen,
    )


def _plans(
    engine: Engine,
    clock: Clock,
    parts: Parts,
    fabrics: FabricService,
    requests: RequestLedger,
) -> PlanService:
    """Return the plans; the engine has the jobs of groups made by them."""
    plans = PlanService(
        reader=parts.store,
        runner=engine,
        committer=parts.committer,
        clock=clock,
        requests=requests,
        plans=ItemPlans(reader=parts.store, fabrics=fabrics),
    )
    engine.plan_children_with(plans)
    return plans


def _recovery_plans(
    settings: HubSettings,
    engine: Engine,
    clock: Clock,
    store: RecordStore,
    *,
    runs: PlanService,
    requests: RequestLedger,
) -> RecoveryPlanService:
    return RecoveryPlanService(
        reader=store,
        runner=engine,
        clock=clock,
        requests=requests,
        runs=runs,
        groups_max=settings.plans.groups_max,
    )


def _chores(
    settings: HubSettings,
    clock: Clock,
    parts: Parts,
    asked: tuple[ProtectionService, InjectionService, FirstHearing],
) -> tuple[Chore, ...]:
    protection, injections, liveness = asked
    store, committer = parts.store, parts.committer
    tests = OpenTestService(reader=store, committer=committer, clock=clock, protection=protection)
    pruning = RequestKeyPruning(reader=store, committer=committer, clock=clock)
    kept = timedelta(days=settings.events.retention_days)
    old = EventPruning(lists=store, committer=committer, clock=clock, kept=kept)
    lost = LostProviders(reader=store, committer=committer, clock=clock, liveness=liveness)
    return (
        Chore("open_tests", OPEN_TESTS_SECONDS, tests.end_overdue),
        Chore("injections", INJECTIONS_SECONDS, injections.fire_due),
        Chore("request_keys", REQUEST_KEYS_SECONDS, pruning.prune),
        Chore("old_events", REQUEST_KEYS_SECONDS, old.prune),
        Chore("lost_providers", LOST_PROVIDERS_SECONDS, lost.look),
        *alert_chores(settings, clock, store, committer),
    )


def _vaults(
    settings: HubSettings, clock: Clock, parts: Parts, registered: ServerParts
) -> VaultService:
    return VaultService(
        reader=parts.store,
        committer=parts.committer,
        clock=clock,
        authority=UploadedRegistrations(parts.tls.provider),
        departures=registered.departures,
        key_lifetime=LIFETIMES[Profile.VAULT_REGISTRATION],
        provider_url=settings.provider.public_url,
    )
