"""A hub of the ports' shape in memory: jobs that end when they are asked for.

It decides with the domain's own functions, so that what the surface shows is what it would show.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from pydantic import JsonValue

from service_hub.domain.alert_mails import AlertSettings
from service_hub.domain.jobs import Job, JobError, JobState, TaskState
from service_hub.domain.mapping_records import NetworkMapping, StorageMapping
from service_hub.domain.pairs import reflect_on_mapping
from service_hub.domain.planning import (
    JobIdentity,
    reflect_on_item,
)
from service_hub.domain.protection import ProtectionState
from service_hub.domain.records import (
    ContainerMapping,
    FabricInventory,
    MachineObservation,
    ProtectedItem,
    Provider,
    ReplicationPolicy,
    Vault,
)
from service_hub.domain.recovery_plans import RecoveryPlan
from service_hub.domain.replication_events import ReplicationEvent
from service_hub.ports.use_cases import FabricFacts, ItemFacts, RequestIdentity
from tests.unit.arm.arm_estate import (
    CLOUDS,
    FABRICS,
    GROUP,
    MACHINE,
    MAPPING,
    NOW,
    POLICY,
    REPLICA,
    SUBSCRIPTION,
    VAULT,
    StillClock,
    inventory,
    machine,
)
from wire_contract.vmm_interface import MachineView
from wire_contract.vocabulary import ReplicationState, Side


@dataclass
class MemoryHub:
    """All use cases of the surface; `finish_jobs` off keeps jobs running."""

    clock: StillClock = field(default_factory=StillClock)
    vaults: dict[str, Vault] = field(default_factory=dict)
    policies: dict[str, ReplicationPolicy] = field(default_factory=dict)
    mappings: list[ContainerMapping] = field(default_factory=list)
    items: dict[str, ProtectedItem] = field(default_factory=dict)
    network_mappings: dict[str, NetworkMapping] = field(default_factory=dict)
    storage_mappings: dict[str, StorageMapping] = field(default_factory=dict)
    plans: dict[str, RecoveryPlan] = field(default_factory=dict)
    jobs: dict[str, Job] = field(default_factory=dict)
    events: list[ReplicationEvent] = field(default_factory=list)
    alerts: dict[str, AlertSettings] = field(default_factory=dict)
    event_filters: list[dict[str, str]] = field(default_factory=list)
    identities: list[RequestIdentity] = field(default_factory=list)
    arguments: list[Mapping[str, JsonValue]] = field(default_factory=list)
    gone: set[str] = field(default_factory=set)
    finish_jobs: bool = True
    fail_jobs: bool = False
    connected: bool = True
    observed: bool = True
    paused: bool = False

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
                machine=self.copy(side),
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

    def copy(self, side: Side) -> MachineView:
        """Return one end of the item as it was last seen."""
        seen = machine(side, replicated=True)
        assert seen.replication is not None
        if not self.paused or side is Side.RECOVERY:
            return seen
        paused = seen.replication.model_copy(update={"state": ReplicationState.SUSPENDED})
        return seen.model_copy(update={"replication": paused})

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
