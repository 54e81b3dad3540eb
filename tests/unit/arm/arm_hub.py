"""A hub of the ports' shape in memory: the estate of the recordings, jobs that end when asked for.

It decides with the domain's own functions, so that what the surface shows is what it would show.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from pydantic import JsonValue

from service_hub.arm.api import ArmApi
from service_hub.domain.errors import InvalidRequestError, NotFoundError, UnauthenticatedError
from service_hub.domain.jobs import Job, JobError, JobState, TaskState
from service_hub.domain.planning import (
    ItemPlan,
    JobIdentity,
    begin_on_item,
    plan_item_job,
    plan_pairing_job,
    plan_policy_job,
    reflect_on_item,
    reflect_on_mapping,
)
from service_hub.domain.protection import Operation, ProtectionState
from service_hub.domain.records import (
    ContainerMapping,
    FabricInventory,
    MachineObservation,
    ProtectedItem,
    Provider,
    RegistrationKey,
    ReplicationPolicy,
    Vault,
)
from service_hub.ports import (
    FabricFacts,
    ItemFacts,
    OperatorIdentity,
    RequestIdentity,
    UploadedKey,
)
from wire_contract.vmm_interface import (
    ClassificationView,
    CloudView,
    DiskView,
    HostView,
    InventoryView,
    MachineView,
    NetworkView,
    NicView,
    RecoveryPointView,
    ReplicationView,
    SubnetView,
    VmmView,
)
from wire_contract.vocabulary import Health, ReplicationMode, ReplicationState, RunState, Side

NOW = datetime(2026, 3, 4, 13, 54, 53, 559095, tzinfo=UTC)
PROVIDER_URL = "https://127.0.0.1:9443"
TOKENS = {"good": "Contributor", "reading": "Reader", "stranger": "Cook"}

SUBSCRIPTION = "77777777-b0c6-47a2-b37c-d8e65a629c18"
GROUP, VAULT = "E2ERg", "E2ETest"
FABRICS = {Side.PRIMARY: "a98e" * 16, Side.RECOVERY: "38de" * 16}
CLOUDS = {
    Side.PRIMARY: "b2b708f7-5500-472d-9b4e-34a88340b067",
    Side.RECOVERY: "cd28d671-bd2a-4894-9ac8-82136c8104bc",
}
FREE_CLOUD = "a61894df-5760-42cb-ae76-b852ccd9f8ec"
MACHINE = "672ac946-913b-4297-8c35-1aae8c388f63"
REPLICA = "0b6fe285-a351-4cbd-b808-4252c62dabec"
NETWORK = "3e820a25-2f19-429b-b9f9-cdeab5465187"
LOGICAL_NETWORK = "87ab394f-165f-4aa9-bd84-b018500b4509"
CLASSIFICATION = "8891569e-aaef-4a46-a4a0-78c14f2d7b09"
POINT = "b22134ea-620c-474b-9fa5-3c1cb47708e3"
POLICY, MAPPING = "E2EPolicy1", "E2AClP26mapping"


class StillClock:
    """Time stands still; ids are numbered."""

    def __init__(self) -> None:
        self.time = NOW
        self.ids = 0

    def now(self) -> datetime:
        """Return the present moment."""
        return self.time

    def new_id(self) -> str:
        """Return the next GUID."""
        self.ids += 1
        return str(UUID(int=self.ids))


class KnownTokens:
    """Takes three tokens, one of each kind of role."""

    def verify(self, token: str, now: datetime) -> OperatorIdentity:
        """Return the holder."""
        del now
        if token not in TOKENS:
            raise UnauthenticatedError("the token is refused: unknown")
        return OperatorIdentity(principal="anna", role=TOKENS[token])


def replication(side: Side) -> ReplicationView:
    """Return a relationship at rest, as one end sees it."""
    primary = side is Side.PRIMARY
    points = (RecoveryPointView(point_id=POINT, taken_at=NOW, kind="CrashConsistent"),)
    return ReplicationView(
        relationship_id="relation",
        mode=ReplicationMode.PRIMARY if primary else ReplicationMode.REPLICA,
        state=ReplicationState.REPLICATING,
        health=Health.NORMAL,
        peer_host="peer.example",
        peer_port=8084,
        peer_machine_id=REPLICA if primary else MACHINE,
        interval_seconds=30,
        progress_percent=41.7 if primary else None,
        last_replication_at=NOW - timedelta(seconds=20),
        recovery_points=() if primary else points,
    )


def machine(side: Side, *, name: str = "VM1", replicated: bool = False) -> MachineView:
    """Return one copy of the machine."""
    return MachineView(
        machine_id=MACHINE if side is Side.PRIMARY else REPLICA,
        hyperv_id=MACHINE,
        name=name,
        cloud_id=CLOUDS[side],
        host=f"host1.{side.lower()}.example",
        generation=1,
        run_state=RunState.RUNNING if side is Side.PRIMARY else RunState.OFF,
        epoch=1,
        fenced=False,
        epoch_confirmed=True,
        start_blocked_by=None,
        protected_item=None,
        disks=(
            DiskView(
                disk_id="4c124228-db01-44a1-9acf-62b103d7fbc8",
                name="VM1",
                kind="Data",
                size_bytes=1 << 30,
            ),
        ),
        nics=(
            NicView(
                nic_id=f"51c5a87f-68e6-4740-89fe-811e6d22f36{side[0].lower()}",
                network_id=NETWORK,
                network_name="corp",
            ),
        ),
        replication=replication(side) if replicated else None,
    )


def inventory(side: Side, machines: tuple[MachineView, ...]) -> InventoryView:
    """Return what one VMM server manages."""
    clouds = [CLOUDS[side], *([FREE_CLOUD] if side is Side.PRIMARY else [])]
    host = f"host1.{side.lower()}.example"
    return InventoryView(
        vmm=VmmView(vmm_id=f"vmm-{side.lower()}", fqdn=f"vmm.{side.lower()}", version="3.2.7510.0"),
        clouds=tuple(
            CloudView(
                cloud_id=cloud,
                friendly_name=side.lower() if cloud != FREE_CLOUD else "free",
                capability_profile="Hyper-V",
                host_fqdns=(host,),
            )
            for cloud in clouds
        ),
        hosts=(HostView(fqdn=host, version="2012R2", cloud_ids=tuple(clouds)),),
        networks=(
            NetworkView(
                network_id=NETWORK,
                friendly_name="corp",
                network_type="VLANNetwork",
                logical_network_id=LOGICAL_NETWORK,
                cloud_ids=tuple(clouds),
                subnets=(
                    SubnetView(name="s", friendly_name="corp_0", address_list=("10.1.0.0/24-1 0",)),
                ),
            ),
        ),
        classifications=(
            ClassificationView(classification_id=CLASSIFICATION, friendly_name="Gold"),
        ),
        machines=machines,
    )


@dataclass
class MemoryHub:
    """All use cases of the surface; `finish_jobs` off keeps jobs running."""

    clock: StillClock = field(default_factory=StillClock)
    vaults: dict[str, Vault] = field(default_factory=dict)
    policies: dict[str, ReplicationPolicy] = field(default_factory=dict)
    mappings: list[ContainerMapping] = field(default_factory=list)
    items: dict[str, ProtectedItem] = field(default_factory=dict)
    jobs: dict[str, Job] = field(default_factory=dict)
    identities: list[RequestIdentity] = field(default_factory=list)
    arguments: list[Mapping[str, JsonValue]] = field(default_factory=list)
    finish_jobs: bool = True
    fail_jobs: bool = False
    connected: bool = True
    observed: bool = True

    # ------------------------------------------------------------------------------- what is there

    def fabric(self, side: Side) -> FabricFacts:
        """Return one VMM server."""
        copies = (machine(side, replicated=bool(self.items)),)
        shown = copies if side is Side.PRIMARY or self.items else ()
        provider = Provider(
            id=f"provider-{side.lower()}",
            vault_id="v",
            vmm_id=f"630960be-c5ae-4e94-a747-37aa0d1050b{side[0].lower()}",
            vmm_fqdn=f"vmm.{side.lower()}.example",
            friendly_name=f"vmm.{side.lower()}.example",
            fabric_name=FABRICS[side],
            provider_version="0.1.0",
            vmm_version="3.2.7510.0",
            enrolled_at=NOW,
            registered_at=NOW,
        )
        view = FabricInventory(
            id=provider.id, vault_id="v", observed_at=NOW, view=inventory(side, shown)
        )
        return FabricFacts(
            provider=provider,
            inventory=view if self.observed else None,
            last_contact_at=NOW if self.observed else None,
            connected=self.connected,
            protected_item_count=len(self.items),
        )

    def facts(self, item: ProtectedItem) -> ItemFacts:
        """Return an item with all that belongs to it."""
        seen = {
            side: MachineObservation(
                id=f"{side}/m",
                vault_id="v",
                provider_id=f"provider-{side.lower()}",
                observed_at=NOW,
                machine=machine(side, replicated=True),
            )
            for side in Side
        }
        return ItemFacts(
            item=item,
            policy=next(each for each in self.policies.values() if each.id == item.policy_id),
            mapping=self.mappings[0],
            primary=self.fabric(Side.PRIMARY),
            recovery=self.fabric(Side.RECOVERY),
            primary_machine=seen[Side.PRIMARY] if self.observed else None,
            recovery_machine=seen[Side.RECOVERY] if self.observed else None,
        )

    def start(self, job: Job) -> Job:
        """Let a job run."""
        running = job.model_copy(update={"state": JobState.IN_PROGRESS, "started_at": NOW})
        self.jobs[job.id] = running
        return running

    def identity(self, identity: RequestIdentity) -> JobIdentity:
        """Return ids for a new job, and remember who asked."""
        self.identities.append(identity)
        activity = f"{identity.client_request_id} ActivityId: {identity.correlation_id}"
        return JobIdentity(self.clock.new_id(), activity, NOW)

    def end(self, job: Job) -> Job:
        """End a job, well or not, and let its effect show."""
        state = TaskState.FAILED if self.fail_jobs else TaskState.SUCCEEDED
        ended = {"state": state, "started_at": NOW, "ended_at": NOW + timedelta(seconds=1)}
        error = JobError(
            code="28020",
            message="The requested operation failed.",
            possible_causes="The host refused.",
            recommended_action="Look at the host.",
            task_id=job.tasks[0].task_id,
            created_at=NOW,
            provider_code=32775,
            provider_message="Invalid state.",
        )
        job = job.model_copy(
            update={
                "state": JobState.FAILED if self.fail_jobs else JobState.SUCCEEDED,
                "tasks": tuple(task.model_copy(update=ended) for task in job.tasks),
                "errors": (error,) if self.fail_jobs else (),
                "ended_at": NOW + timedelta(seconds=2),
            }
        )
        self.jobs[job.id] = job
        self.mappings = [reflect_on_mapping(each, job) for each in self.mappings]
        self.items = {name: reflect_on_item(each, job) for name, each in self.items.items()}
        return job

    def api(self, public_url: str, retry_after_seconds: int = 0) -> ArmApi:
        """Return the surface's view of this hub."""
        return ArmApi(
            vaults=MemoryVaults(self),
            fabrics=MemoryFabrics(self),
            policies=MemoryPolicies(self),
            pairing=MemoryPairing(self),
            protection=MemoryProtection(self),
            jobs=MemoryJobs(self),
            tokens=KnownTokens(),
            clock=self.clock,
            public_url=public_url,
            retry_after_seconds=retry_after_seconds,
        )


@dataclass
class MemoryVaults:
    """VaultUseCases."""

    hub: MemoryHub

    async def create(
        self,
        subscription_id: str,
        resource_group: str,
        name: str,
        *,
        location: str,
        tags: dict[str, str],
    ) -> Vault:
        """Create or update a vault."""
        vault = Vault(
            id="0f6f2f6c-7a5b-4b7d-8a56-6f1f5c1f0a11",
            vault_id="0f6f2f6c-7a5b-4b7d-8a56-6f1f5c1f0a11",
            subscription_id=subscription_id,
            resource_group=resource_group,
            name=name,
            location=location,
            resource_number=8726350008099341699,
            created_at=NOW,
            tags=tags,
        )
        self.hub.vaults[name.lower()] = vault
        return vault

    async def find(self, subscription_id: str, resource_group: str, name: str) -> Vault:
        """Return a vault."""
        vault = self.hub.vaults.get(name.lower())
        wanted = (subscription_id.lower(), resource_group.lower())
        if vault is None or wanted != (
            vault.subscription_id.lower(),
            vault.resource_group.lower(),
        ):
            raise NotFoundError(name)
        return vault

    async def list(self, subscription_id: str, resource_group: str | None) -> list[Vault]:
        """Return vaults."""
        return [
            vault
            for vault in self.hub.vaults.values()
            if vault.subscription_id.lower() == subscription_id.lower()
            and (resource_group or vault.resource_group).lower() == vault.resource_group.lower()
        ]

    async def list_all(self) -> "list[Vault]":  # type: ignore[valid-type]
        """Return every vault."""
        return [*self.hub.vaults.values()]

    async def upload_certificate(self, vault: Vault, name: str, certificate: bytes) -> UploadedKey:
        """Take a certificate."""
        try:
            parsed = x509.load_der_x509_certificate(certificate)
        except ValueError:
            raise InvalidRequestError("no certificate", "properties.certificate") from None
        key = RegistrationKey(
            id="thumbprint",
            vault_id=vault.id,
            name=name,
            certificate_pem=parsed.public_bytes(Encoding.PEM).decode(),
            subject=parsed.subject.rfc4514_string(),
            issuer=parsed.issuer.rfc4514_string(),
            sha1_thumbprint="019FE9BAD18A5A09A5CA53B593AF66331F3054AF",
            resource_number=vault.resource_number,
            created_at=NOW,
            valid_from=NOW,
            expires_at=NOW + timedelta(hours=120),
        )
        return UploadedKey(key, PROVIDER_URL)


@dataclass
class MemoryFabrics:
    """FabricUseCases."""

    hub: MemoryHub

    async def list(self, vault: Vault) -> list[FabricFacts]:
        """Return both."""
        del vault
        return [self.hub.fabric(side) for side in Side]

    async def find(self, vault: Vault, fabric_name: str) -> FabricFacts:
        """Return one."""
        del vault
        for side in Side:
            if FABRICS[side] == fabric_name:
                return self.hub.fabric(side)
        raise NotFoundError(fabric_name)


@dataclass
class MemoryPolicies:
    """PolicyUseCases."""

    hub: MemoryHub

    async def create(
        self, vault: Vault, name: str, settings: Mapping[str, Any], identity: RequestIdentity
    ) -> Job:
        """Create a policy by a job."""
        policy = ReplicationPolicy(id=f"policy-{name}", vault_id=vault.id, name=name, **settings)
        self.hub.policies[name.lower()] = policy
        return self.hub.start(plan_policy_job(policy, self.hub.identity(identity)))

    async def find(self, vault: Vault, name: str) -> ReplicationPolicy:
        """Return one."""
        del vault
        if name.lower() not in self.hub.policies:
            raise NotFoundError(name)
        return self.hub.policies[name.lower()]

    async def list(self, vault: Vault) -> list[ReplicationPolicy]:
        """Return all."""
        del vault
        return [*self.hub.policies.values()]


@dataclass
class MemoryPairing:
    """PairingUseCases."""

    hub: MemoryHub

    async def pair(
        self,
        vault: Vault,
        *,
        name: str,
        primary: tuple[str, str],
        recovery: tuple[str, str],
        policy_name: str,
        identity: RequestIdentity,
    ) -> Job:
        """Pair two clouds."""
        policy = await MemoryPolicies(self.hub).find(vault, policy_name)
        for fabric_name, _ in (primary, recovery):
            await MemoryFabrics(self.hub).find(vault, fabric_name)
        ids = self.hub.identity(identity)
        mapping = ContainerMapping(
            id=f"mapping-{name}",
            vault_id=vault.id,
            name=name,
            policy_id=policy.id,
            primary_provider_id="provider-primary",
            primary_cloud_id=primary[1],
            recovery_provider_id="provider-recovery",
            recovery_cloud_id=recovery[1],
            mapping_state="PairingInProgress",
            job_id=ids.job_id,
        )
        self.hub.mappings = [mapping]
        hosts = {side: (f"host1.{side.lower()}.example",) for side in Side}
        return self.hub.start(plan_pairing_job(mapping, policy, hosts, {}, ids))

    async def list(self, vault: Vault) -> list[ContainerMapping]:
        """Return all."""
        del vault
        return list(self.hub.mappings)


@dataclass
class MemoryProtection:
    """ProtectionUseCases."""

    hub: MemoryHub

    async def enable(
        self,
        vault: Vault,
        *,
        container: tuple[str, str],
        item_name: str,
        machine_id: str,
        policy_name: str,
        identity: RequestIdentity,
    ) -> Job:
        """Protect a machine; it is protected when its job has ended."""
        policy = await MemoryPolicies(self.hub).find(vault, policy_name)
        item = ProtectedItem(
            id=item_name,
            vault_id=vault.id,
            friendly_name="VM1",
            mapping_id=self.hub.mappings[0].id,
            policy_id=policy.id,
            primary_provider_id="provider-primary",
            primary_cloud_id=container[1],
            primary_machine_id=machine_id,
            primary_host="host1.primary.example",
            recovery_provider_id="provider-recovery",
            recovery_cloud_id=CLOUDS[Side.RECOVERY],
            recovery_machine_id=REPLICA,
            relationship_id="2cd1a1fa-69b2-4a40-836e-d4b76fe1c28e",
            state=ProtectionState.UNPROTECTED,
        )
        self.hub.items[item_name] = item
        return self._run(item, Operation.ENABLE, {}, identity)

    async def request(
        self,
        vault: Vault,
        item_name: str,
        operation: str,
        arguments: Mapping[str, JsonValue],
        identity: RequestIdentity,
    ) -> Job:
        """Begin an operation."""
        del vault
        self.hub.arguments.append(dict(arguments))
        item = self.hub.items[item_name]
        known = {"test_machine_id": "9b415dd8-c776-5a00-b398-92935005696d", **arguments}
        return self._run(item, Operation(operation), known, identity)

    def _run(
        self,
        item: ProtectedItem,
        operation: Operation,
        arguments: Mapping[str, JsonValue],
        identity: RequestIdentity,
    ) -> Job:
        facts = self.hub.facts(item)
        plan = ItemPlan(
            item=item,
            policy=facts.policy,
            primary=facts.primary.provider,
            recovery=facts.recovery.provider,
            clouds={cloud: side.lower() for side, cloud in CLOUDS.items()},
            machine=machine(Side.PRIMARY),
        )
        job = plan_item_job(plan, operation, arguments, self.hub.identity(identity))
        self.hub.items[item.id] = begin_on_item(item, job, NOW)
        return self.hub.start(job)

    async def find(self, vault: Vault, item_name: str) -> ItemFacts:
        """Return one."""
        del vault
        if item_name not in self.hub.items:
            raise NotFoundError(item_name)
        return self.hub.facts(self.hub.items[item_name])

    async def list(self, vault: Vault) -> list[ItemFacts]:
        """Return all."""
        del vault
        return [self.hub.facts(item) for item in self.hub.items.values()]


@dataclass
class MemoryJobs:
    """JobUseCases; asking for a running job is what ends it."""

    hub: MemoryHub

    async def find(self, vault: Vault, job_id: str) -> Job:
        """Return one as it is, and let it end afterwards."""
        del vault
        if job_id not in self.hub.jobs:
            raise NotFoundError(job_id)
        job = self.hub.jobs[job_id]
        if self.hub.finish_jobs and not job.finished:
            self.hub.end(job)
        return job

    async def list(self, vault: Vault) -> list[Job]:
        """Return all, newest first."""
        del vault
        return list(reversed(self.hub.jobs.values()))


def prepared_hub(state: ProtectionState | None = ProtectionState.PROTECTED) -> MemoryHub:
    """Return a hub with vault, policy and pairing; with a protected item unless state is None."""
    hub = MemoryHub()
    vault = Vault(
        id="v",
        vault_id="v",
        subscription_id=SUBSCRIPTION,
        resource_group=GROUP,
        name=VAULT,
        location="japaneast",
        resource_number=7,
        created_at=NOW,
    )
    hub.vaults[VAULT.lower()] = vault
    policy = ReplicationPolicy(
        id="policy",
        vault_id="v",
        name=POLICY,
        provider_type="HyperVReplica2012R2",
        replication_frequency_seconds=30,
        recovery_points=1,
        replica_deletion_required=True,
    )
    hub.policies[POLICY.lower()] = policy
    hub.mappings = [
        ContainerMapping(
            id="mapping",
            vault_id="v",
            name=MAPPING,
            policy_id=policy.id,
            primary_provider_id="provider-primary",
            primary_cloud_id=CLOUDS[Side.PRIMARY],
            recovery_provider_id="provider-recovery",
            recovery_cloud_id=CLOUDS[Side.RECOVERY],
            mapping_state="Paired",
        )
    ]
    if state is not None:
        hub.items[MACHINE] = ProtectedItem(
            id=MACHINE,
            vault_id="v",
            friendly_name="VM1",
            mapping_id="mapping",
            policy_id=policy.id,
            primary_provider_id="provider-primary",
            primary_cloud_id=CLOUDS[Side.PRIMARY],
            primary_machine_id=MACHINE,
            primary_host="host1.primary.example",
            recovery_provider_id="provider-recovery",
            recovery_cloud_id=CLOUDS[Side.RECOVERY],
            recovery_machine_id=REPLICA,
            relationship_id="2cd1a1fa-69b2-4a40-836e-d4b76fe1c28e",
            state=state,
        )
    return hub
