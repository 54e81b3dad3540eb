"""What the hub remembers: immutable records, each with an id and the vault it belongs to.

Records are closed pydantic models, so that their stored form is checked when it is read back. The
store keeps a version beside each; a Change names the versions that it was decided on.
"""

from datetime import datetime
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from service_hub.domain.immutable import Immutable
from service_hub.domain.protection import ProtectionState, TestState
from wire_contract.vmm_interface import InventoryView, MachineView
from wire_contract.vocabulary import EventType, Side


class Record(Immutable):
    """The base of all that is stored; `kind` names its table."""

    kind: ClassVar[str]

    id: str
    vault_id: str


class ExtendedInfo(Immutable):
    """What old clients keep with a vault; the hub makes no use of it."""

    integrity_key: str | None = None
    encryption_key: str | None = None
    encryption_key_thumbprint: str | None = None
    algorithm: str | None = None


class Vault(Record):
    """The top container of one disaster-recovery estate; `id` = `vault_id` is a GUID."""

    kind: ClassVar[str] = "vault"

    subscription_id: str
    resource_group: str
    name: str
    location: str
    resource_number: int
    created_at: datetime
    tags: dict[str, str] = Field(default_factory=dict)
    sku_name: str = "Standard"
    requires_operator_signature: bool = False
    extended_info: ExtendedInfo | None = None


class RegistrationKey(Record):
    """Public half of a vault registration certificate; `id` is its SHA-256 thumbprint."""

    kind: ClassVar[str] = "registration_key"

    name: str
    certificate_pem: str
    subject: str
    issuer: str
    sha1_thumbprint: str
    resource_number: int
    created_at: datetime
    valid_from: datetime
    expires_at: datetime
    revoked_at: datetime | None = None


class Provider(Record):
    """A registered VMM server and its provider; `id` is the GUID the hub made (the CN).

    Before `registered_at` is set only the certificate was issued. `registration_key` is the
    thumbprint of the key that it enrolled with, `trusted_roots` are those of the roots that it last
    said it trusts. The numbering of its events is kept apart (ProviderStream), since every commit
    may raise it.
    """

    kind: ClassVar[str] = "provider"

    vmm_id: str
    vmm_fqdn: str = ""
    friendly_name: str = ""
    fabric_name: str
    provider_version: str = ""
    vmm_version: str = ""
    enrolled_at: datetime
    registered_at: datetime | None = None
    registration_key: str = ""
    auto_update: Literal["on", "off"] | None = None
    available_version: str | None = None
    trusted_roots: tuple[str, ...] = ()


class ManagementCertificate(Record):
    """A certificate that a provider is known by; `id` is its SHA-256 thumbprint.

    `root` is that of the root above it, `serial` its number in hexadecimal digits; both are empty
    for one that was issued before they were noted.
    """

    kind: ClassVar[str] = "management_certificate"

    provider_id: str
    issued_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    key_thumbprint: str = ""
    used_at: datetime | None = None
    used_from: str = ""
    root: str = ""
    serial: str = ""


class PendingApproval(Record):
    """A server that is known already asks to be enrolled with a new key: an operator decides.

    `request_pem` is what it asked with; `chain_pem` what it was issued once that was approved.
    Thumbprints of keys are SHA-256 over the public key, since there is no certificate yet.
    """

    kind: ClassVar[str] = "pending_approval"

    provider_id: str
    vmm_id: str
    friendly_name: str
    request_pem: str
    new_key_thumbprint: str
    new_address: str
    old_certificate_thumbprint: str
    old_key_thumbprint: str
    old_address: str
    requested_at: datetime
    decision: Literal["pending", "approved", "rejected"] = "pending"
    decided_at: datetime | None = None
    decided_by: str = ""
    chain_pem: str = ""


class Alert(Record):
    """Something that an operator must know of a server; raised once, never changed."""

    kind: ClassVar[str] = "alert"

    provider_id: str
    code: Literal[
        "TwoSessions",
        "ServerReplaced",
        "ServerRevoked",
        "ServerRejected",
        "RestoreDifference",
        "AuthorityDecided",
        "FenceOverridden",
        "PartnerPurged",
        "JobStandsStill",
        "TestEnded",
        "ProtectionNotBegun",
    ]
    message: str
    raised_at: datetime
    principal: str = ""


class ProviderStream(Record):
    """The numbering of a provider's events; `id` is the provider's.

    `next_seq` is raised by the committer alone, in the transaction that stores the event;
    `acknowledged_seq` is the highest contiguous receipt; `journal_id` the journal that follows it.
    `asks_again`: the hub was restored; open tasks are asked for again when the provider comes.
    """

    kind: ClassVar[str] = "provider_stream"

    stream: str
    next_seq: int = 1
    acknowledged_seq: int = 0
    journal_id: str = ""
    asks_again: bool = False


class ProviderContact(Record):
    """When a provider was last heard of; `id` is the provider's. Renews its lease.

    `cut_off_at`: its certificates were revoked then, and it has not come back since.
    """

    kind: ClassVar[str] = "provider_contact"

    last_contact_at: datetime
    boot_id: str = ""
    fabric_reachable: bool = True
    cut_off_at: datetime | None = None


class FabricInventory(Record):
    """The newest inventory a provider sent; `id` is the provider's, `boot_id` its run then."""

    kind: ClassVar[str] = "fabric_inventory"

    observed_at: datetime
    boot_id: str = ""
    view: InventoryView


class MachineObservation(Record):
    """The newest view of one copy; `id` is `provider id/machine id`, `boot_id` who told it."""

    kind: ClassVar[str] = "machine_observation"

    provider_id: str
    observed_at: datetime
    boot_id: str = ""
    machine: MachineView


class ReplicationPolicy(Record):
    """Frequency, retention, consistency (arm-api.md 2.1)."""

    kind: ClassVar[str] = "replication_policy"

    name: str
    provider_type: Literal["HyperVReplica2012", "HyperVReplica2012R2"]
    replication_frequency_seconds: int = 300
    recovery_points: int = 0
    application_consistent_hours: int = 0
    compression: bool = False
    initial_replication_method: Literal["OverNetwork", "Offline"] = "OverNetwork"
    online_start_time: str = ""
    offline_import_path: str = ""
    offline_export_path: str = ""
    replication_port: int = 8084
    allowed_authentication_type: Literal[1, 2] = 2
    replica_deletion_required: bool = False
    self_fence_seconds: int = 0
    """A source that reaches neither hub nor replica for so long stops by itself; 0: never."""


class ContainerMapping(Record):
    """Primary cloud to recovery cloud under a policy.

    `job_id` is the newest job on it; while that runs no other one begins. `configured_hosts` are
    those that the newest preparation of the clouds was for, None where nobody noted them.
    """

    kind: ClassVar[str] = "container_mapping"

    name: str
    policy_id: str
    primary_provider_id: str
    primary_cloud_id: str
    recovery_provider_id: str
    recovery_cloud_id: str
    mapping_state: Literal[
        "PairingInProgress", "Paired", "PairingFailed", "UnpairingInProgress", "UnpairingFailed"
    ]
    job_id: str | None = None
    configured_hosts: tuple[str, ...] | None = None


class CurrentScenario(BaseModel):
    """The operation in progress on an item: the natural lock."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    scenario_name: str
    job_id: str
    started_at: datetime


class AttachedAdapter(BaseModel):
    """An adapter of the recovery copy as the hub had it set, or as an operator chose it to be.

    Network null: not connected. `address` is of a choice alone: a static one that was asked for.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    nic_id: str
    network_id: str | None
    subnet: str | None = None
    address: str | None = None


class ProtectedItem(Record):
    """A machine under replication; `id` is its name on the ARM surface (first primary's GUID).

    Its identity, fabrics and containers never swap: only `active_location` flips. `epoch` is the
    current one: only a command that carries it may start, write, replicate or commit. `authority`
    is the end whose copy may run under it; it moves in the transaction that raises the epoch, while
    `active_location` follows when the failover has ended. While it is in question (the hub was
    restored from a backup older than a failover), nobody is told which copy may run. `left_by` is
    the job that brought it where it is: only that one may go on from there. `plan` is the job of a
    recovery plan that holds it from beginning to end, also while none of its own jobs runs.
    `taken_over`: it replicated already when its protection began. `replica_goes`: its replica was
    to be deleted when protection was to end, and may be gone.
    `offline_folder` is the folder below the policy's paths that its first copy was written to.
    `test_networks`: networks were made for the open test. `failover_point_id`: the recovery point
    that was chosen for the failover, None: the newest.
    """

    kind: ClassVar[str] = "protected_item"

    friendly_name: str
    mapping_id: str
    policy_id: str
    primary_provider_id: str
    primary_cloud_id: str
    primary_machine_id: str
    primary_host: str
    recovery_provider_id: str
    recovery_cloud_id: str
    recovery_machine_id: str
    recovery_host: str = ""
    relationship_id: str
    state: ProtectionState
    test_state: TestState = TestState.NONE
    test_machine_id: str | None = None
    active_location: Side = Side.PRIMARY
    authority: Side = Side.PRIMARY
    authority_questioned_at: datetime | None = None
    epoch: int = 1
    current: CurrentScenario | None = None
    plan: CurrentScenario | None = None
    failed_over_unplanned: bool = False
    protected_at: datetime | None = None
    last_failover_at: datetime | None = None
    failover_point_id: str | None = None
    last_test_failover_at: datetime | None = None
    test_opened_at: datetime | None = None
    test_networks: bool = False
    left_by: str | None = None
    initial_replication_type: Literal["OverNetwork", "Offline", "None"] = "OverNetwork"
    adapters: tuple[AttachedAdapter, ...] = ()
    """The recovery copy's, as last set: what differs from them later was changed by hand."""
    chosen_adapters: tuple[AttachedAdapter, ...] = ()
    """By the primary's adapters: what an operator chose for them instead of the network map."""
    taken_over: bool = False
    replica_goes: bool = False
    offline_folder: str = ""

    def provider_at(self, side: Side) -> str:
        """Return the provider of one end."""
        return self.primary_provider_id if side is Side.PRIMARY else self.recovery_provider_id

    def machine_at(self, side: Side) -> str:
        """Return the machine id of the copy at one end."""
        return self.primary_machine_id if side is Side.PRIMARY else self.recovery_machine_id


class FormerItem(Record):
    """What a machine was protected under before: `id` is the item's, `epoch` the last one.

    Fabrics and providers keep the highest epoch that they have seen, and refuse a lower one: who is
    protected again goes on above it.
    """

    kind: ClassVar[str] = "former_item"

    epoch: int
    ended_at: datetime | None = None


class OutboxEvent(Record):
    """An event that a provider has not yet acknowledged; `id` is the event's.

    Signed when it is sent, not when it is stored: keys rotate, the number stays.
    """

    kind: ClassVar[str] = "outbox_event"

    provider_id: str
    stream: str
    seq: int
    type: EventType
    issued_at: datetime
    expires_at: datetime
    body: dict[str, JsonValue]
    receipt: str | None = None
    unverifiable_reports: tuple[str, ...] = ()


class RequestKey(Record):
    """A request that made a job: the same request sent again gets the same job.

    `id` = principal, method, path and client request id; `body_digest` tells a repeat from another
    request under the same id.
    """

    kind: ClassVar[str] = "request_key"

    body_digest: str
    job_id: str
    created_at: datetime
