"""What operators ask of the hub, and as whom."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from pydantic import JsonValue

from service_hub.domain.access import OperatorIdentity
from service_hub.domain.alert_mails import AlertSettings
from service_hub.domain.jobs import Job, JobState
from service_hub.domain.records import (
    ContainerMapping,
    ExtendedInfo,
    FabricInventory,
    MachineObservation,
    PendingApproval,
    ProtectedItem,
    Provider,
    RegistrationKey,
    ReplicationPolicy,
    Vault,
)
from service_hub.domain.replication_events import ReplicationEvent
from service_hub.ports.stores import EventPage, EventPlace, JobPage, JobPlace


@dataclass(frozen=True, slots=True)
class RequestIdentity:
    """Who asks, and which request it is (activity id, repeat detection).

    `operator_signature` is the header of that name as it came, `member_signatures` what stands for
    it in a plan's body, by item; they are never logged. `injection_id` is of the injected event
    whose time has come; None: somebody asks.
    """

    principal: str
    client_request_id: str
    correlation_id: str
    method: str
    path: str
    body_digest: str
    operator_signature: str | None = field(default=None, repr=False)
    injection_id: str | None = None
    member_signatures: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """A VMM server, and what it manages as it was last told."""

    provider: Provider
    inventory: FabricInventory | None


@dataclass(frozen=True, slots=True)
class SeenFabric(ServerFacts):
    """A registered VMM server, what it manages, and whether it is there now."""

    last_contact_at: datetime | None
    connected: bool


@dataclass(frozen=True, slots=True)
class FabricFacts(SeenFabric):
    """A registered VMM server as operators see it."""

    protected_item_count: int


@dataclass(frozen=True, slots=True)
class FabricPresence:
    """A registered VMM server, and whether it is there now."""

    provider: Provider
    last_contact_at: datetime | None
    connected: bool


@dataclass(frozen=True, slots=True)
class ItemFacts:
    """A protected item with all that its rendering needs."""

    item: ProtectedItem
    policy: ReplicationPolicy
    mapping: ContainerMapping
    primary: SeenFabric
    recovery: SeenFabric
    primary_machine: MachineObservation | None
    recovery_machine: MachineObservation | None


@dataclass(frozen=True, slots=True)
class UploadedKey:
    """An uploaded registration certificate and where its holder registers."""

    key: RegistrationKey
    provider_url: str


@dataclass(frozen=True, slots=True)
class PolicySettings:
    """A policy as requested; fields as in ReplicationPolicy."""

    fields: Mapping[str, Any] = field(default_factory=dict)


class VaultUseCases(Protocol):
    """Vaults and registration keys."""

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

    async def find(self, subscription_id: str, resource_group: str, name: str) -> Vault:
        """Return a vault, names compared without case; NotFoundError."""

    async def retag(self, vault: Vault, tags: dict[str, str], *, only_this: bool = False) -> Vault:
        """Replace the tags of a vault; NotFoundError.

        `only_this`: PreconditionFailedError where the vault is not as given any more.
        """

    async def keep_info(
        self, vault: Vault, info: ExtendedInfo, *, only_this: bool = False
    ) -> Vault:
        """Keep a client's extended information with a vault, in the same way."""

    async def delete(self, vault: Vault) -> None:
        """Delete a vault with all that it remembers; ConflictError lists its servers."""

    async def list_all(self) -> list[Vault]:
        """Return every vault of this hub."""

    async def list(self, subscription_id: str, resource_group: str | None) -> list[Vault]:
        """Return the vaults of a subscription or of one of its resource groups."""

    async def upload_certificate(self, vault: Vault, name: str, certificate: bytes) -> UploadedKey:
        """Take a self-signed registration certificate (DER); InvalidRequestError when unfit."""


class FabricUseCases(Protocol):
    """Registered servers and what they manage."""

    async def list(self, vault: Vault) -> list[FabricFacts]:
        """Return all registered servers of a vault."""

    async def find(self, vault: Vault, fabric_name: str) -> FabricFacts:
        """Return one by its 64-hex name; NotFoundError."""


class PolicyUseCases(Protocol):
    """Replication policies."""

    async def create(
        self, vault: Vault, name: str, settings: Mapping[str, Any], identity: RequestIdentity
    ) -> Job:
        """Create a policy by a job; InvalidRequestError names the property."""

    async def change(
        self, vault: Vault, name: str, settings: Mapping[str, Any], identity: RequestIdentity
    ) -> Job:
        """Change a policy, and what replicates under it by jobs; NotFoundError, as create."""

    async def delete(self, vault: Vault, name: str, identity: RequestIdentity) -> Job:
        """Delete a policy by a job; NotFoundError."""

    async def find(self, vault: Vault, name: str) -> ReplicationPolicy:
        """Return one, names compared without case; NotFoundError."""

    async def list(self, vault: Vault) -> list[ReplicationPolicy]:
        """Return all of a vault."""


class EventUseCases(Protocol):
    """What happened in a vault that an operator has to see."""

    async def list(
        self, vault: Vault, wanted: Mapping[str, str], after: EventPlace | None, limit: int
    ) -> EventPage:
        """Return one page, newest first; `wanted` by the dialect's names (InvalidRequestError)."""

    async def find(self, vault: Vault, event_id: str) -> ReplicationEvent:
        """Return one; NotFoundError."""

    async def fabric_names(self, vault: Vault) -> Mapping[str, str]:
        """Return the ARM names of the vault's servers by provider."""


class AlertUseCases(Protocol):
    """Who is written to when something happens in a vault."""

    async def find(self, vault: Vault) -> AlertSettings:
        """Return the setting of a vault, that of the beginning where nobody changed it."""

    async def change(
        self, vault: Vault, *, send_to_owners: str, addresses: Sequence[str], locale: str
    ) -> AlertSettings:
        """Replace the setting; InvalidRequestError where it could not be carried out."""


class PairingUseCases(Protocol):
    """Container mappings: cloud to cloud under a policy."""

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
        """Pair two clouds, each given as (fabric name, cloud id)."""

    async def remove(
        self, vault: Vault, cloud: tuple[str, str], name: str, identity: RequestIdentity
    ) -> Job:
        """Separate the clouds of a mapping, named under one of them, by a job; NotFoundError."""

    async def purge(self, vault: Vault, cloud: tuple[str, str], name: str) -> None:
        """Forget a mapping at once; NotFoundError, ConflictError."""

    async def list(self, vault: Vault) -> list[ContainerMapping]:
        """Return all of a vault."""


class ProtectionUseCases(Protocol):
    """Protected items and their operations."""

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
        """Protect a machine of a paired cloud; the item is named as the machine's GUID."""

    async def request(
        self,
        vault: Vault,
        item_name: str,
        operation: str,
        arguments: Mapping[str, JsonValue],
        identity: RequestIdentity,
    ) -> Job:
        """Begin an operation; a refusal is a job that failed, never an exception.

        `operation` is the ARM name (Operation value); `arguments`: failover_direction,
        source_operations_required (bool), network_id, comments.
        """

    async def find(self, vault: Vault, item_name: str) -> ItemFacts:
        """Return one item with all its facts; NotFoundError."""

    async def list(self, vault: Vault) -> list[ItemFacts]:
        """Return all items of a vault."""


class JobUseCases(Protocol):
    """Jobs, and what may be asked of them."""

    async def find(self, vault: Vault, job_id: str) -> Job:
        """Return one; NotFoundError."""

    async def list(
        self, vault: Vault, wanted: Mapping[str, str], after: JobPlace | None, limit: int
    ) -> JobPage:
        """Return some of a vault, newest first, without those that a group of another runs.

        `wanted` by the dialect's names (InvalidRequestError); a page of what is wanted may have
        fewer than `limit`, or none, and more may follow behind its place.
        """

    async def counts(self, vault: Vault) -> Mapping[JobState, int]:
        """Return how many jobs of a vault are in each state, as far as they are kept."""

    async def children(self, vault: Vault, job: Job) -> Sequence[Job]:
        """Return the jobs that the groups of a job run."""

    async def cancel(self, vault: Vault, job_id: str, identity: RequestIdentity) -> Job:
        """Have what runs withdrawn and what was done taken back; JobRequestRefusedError."""

    async def restart(self, vault: Vault, job_id: str, identity: RequestIdentity) -> Job:
        """Have a failed job go on from the task that failed; JobRequestRefusedError."""

    async def resume(
        self, vault: Vault, job_id: str, comments: str, identity: RequestIdentity
    ) -> Job:
        """Have a suspended job go on: its manual action is done; JobRequestRefusedError."""


class ApprovalUseCases(Protocol):
    """Known servers that come back with a new key."""

    async def list(self, vault_id: str) -> list[PendingApproval]:
        """Return all of a vault, oldest first."""

    async def approve(self, vault_id: str, approval_id: str, principal: str) -> PendingApproval:
        """Let the new key take the server over; NotFoundError, ConflictError when decided."""

    async def reject(self, vault_id: str, approval_id: str, principal: str) -> PendingApproval:
        """Refuse the new key for good; NotFoundError, ConflictError when decided."""


class OperatorTokens(Protocol):
    """Checks the bearer tokens of operators."""

    async def verify(self, token: str, now: datetime) -> OperatorIdentity:
        """Return the holder; UnauthenticatedError says why not."""
