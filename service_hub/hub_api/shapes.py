"""What the hub's own routes answer, as models: the OpenAPI document is made from them.

Handlers write plain objects; tests hold every answer against its model here, which knows no other
properties. What is not pydantic's to say (null where nothing was observed) is said by the types.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from service_hub.domain.access import Role
from service_hub.domain.injections import InjectionKind
from service_hub.domain.jobs import JobState
from service_hub.domain.service_accounts import DAYS_MAX
from wire_contract.vocabulary import ReplicationMode, RunState, Side


class Shape(BaseModel):
    """An object with these properties and no others."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ErrorTold(Shape):
    """What was wrong."""

    code: str
    message: str


class Refusal(Shape):
    """The body of every answer from 400 on."""

    error: ErrorTold


class HealthShown(BaseModel):
    """That the hub answers; further properties say which one it is."""

    model_config = ConfigDict(extra="allow", frozen=True)

    state: Literal["ok"]


class VaultShown(Shape):
    """A vault, with the id that these routes know it by."""

    vault_id: str
    name: str
    subscription_id: str
    resource_group: str
    region: str
    state: str
    provisioning_state: str
    operator_signature_required: bool


class Vaults(Shape):
    """All vaults that who asks may see."""

    vaults: list[VaultShown]


class Observer(Shape):
    """The provider that said something, and its run."""

    provider_id: str
    boot_id: str | None


class Stamped(Shape):
    """Who saw a fact when, and whether it is stale."""

    observed_at: datetime
    observed_by: Observer
    age_seconds: float
    stale_at: datetime
    stale: bool


class MaybeStamped(Shape):
    """The same of what need not have been observed: null where it was not."""

    observed_at: datetime | None
    observed_by: Observer | None
    age_seconds: float | None
    stale_at: datetime | None
    stale: bool | None


class KeyShown(Shape):
    """What is known of a registration key; its secret is not."""

    key_id: str
    name: str | None
    thumbprint: str
    created_at: datetime
    expires_at: datetime
    revoked_at: datetime | None
    state: str
    servers_enrolled: int


class Keys(Shape):
    """A vault's registration keys."""

    keys: list[KeyShown]


class ServerShown(Shape):
    """A registered server; `auto_update` and `available_version` are null where it has not said."""

    provider_id: str
    fabric_name: str
    vmm_id: str
    vmm_fqdn: str
    friendly_name: str
    provider_version: str
    vmm_version: str
    connected: bool
    last_contact_at: datetime | None
    certificate_thumbprints: list[str]
    protected_item_count: int
    auto_update: bool | None
    available_version: str | None
    inventory: Stamped | None


class Servers(Shape):
    """A vault's registered servers."""

    servers: list[ServerShown]


class Revoked(Shape):
    """What the revocation of a server's certificates came to."""

    provider_id: str
    revoked_certificate_count: int


class SignatureRequired(Shape):
    """Whether destructive operations of the vault want an operator's signature."""

    operator_signature_required: bool


class ShownCopyBody(Shape):
    """A copy of a machine in question; without a view of it only server and `seen_at`."""

    server: str | None
    seen_at: datetime | None
    machine_id: str | None = None
    host: str | None = None
    run_state: RunState | None = None
    fenced: bool | None = None
    epoch: int | None = None
    replication_mode: ReplicationMode | None = None
    replication_state: str | None = None
    last_cut: int | None = None
    observed_at: datetime | None = None
    observed_by: Observer | None = None
    age_seconds: float | None = None
    stale_at: datetime | None = None
    stale: bool | None = None


class Question(Shape):
    """A machine whose authority is in question."""

    item_id: str
    friendly_name: str
    hub_says: Side
    state: str
    active_location: Side
    epoch: int
    questioned_at: datetime | None
    copies: Mapping[Side, ShownCopyBody]
    warnings: Mapping[Side, list[str]]


class Questions(Shape):
    """All machines in question."""

    questions: list[Question]


class OverrideTaken(Shape):
    """A fence is being overridden: the job that does it."""

    itemId: str  # noqa: N815 -- as it is written
    jobId: str  # noqa: N815 -- as it is written
    state: str


class InjectionTaken(Shape):
    """An event was taken."""

    injectionId: str  # noqa: N815 -- as it is written
    jobId: str | None  # noqa: N815 -- as it is written


class InjectionShown(InjectionTaken):
    """An injected event."""

    kind: InjectionKind
    target: str
    arguments: Mapping[str, Any]
    state: str
    cron: str | None
    nextAt: datetime | None  # noqa: N815 -- as it is written
    requestedAt: datetime  # noqa: N815 -- as it is written
    principal: str
    role: str
    times: int
    message: str
    code: str | None


class Injections(Shape):
    """All of them."""

    injections: list[InjectionShown]


class WaitingShown(Shape):
    """Something that is not final."""

    kind: str
    id: str
    name: str
    since: datetime | None
    waiting_for: str


class WaitingList(Shape):
    """Everything that is not final."""

    waiting: list[WaitingShown]


class AuditLineShown(Shape):
    """One line of the log; each line of the answer is one."""

    number: str
    hash: str
    line: str


class SubnetShown(Shape):
    """A subnet of a network."""

    name: str
    addresses: list[str]


class OfferedCloud(Shape):
    """For which clouds a network is available."""

    primary_cloud: str
    recovery_cloud: str
    available: bool


class OfferShown(Shape):
    """What a network may be mapped to."""

    network: str
    name: str
    type: str
    subnets: list[SubnetShown]
    offered: bool
    clouds: list[OfferedCloud]


class Offers(Shape):
    """All networks of the recovery server."""

    offers: list[OfferShown]


class PlanTaken(Shape):
    """The job that saves a plan."""

    plan: str
    job_id: str
    state: JobState


class KeyWanted(BaseModel):
    """A new registration key."""

    name: str | None = None


class Decision(BaseModel):
    """Which end of a machine shall be authoritative."""

    authority: Side


class OverrideWanted(Shape):
    """Why the former source shall run again, and whether nothing of the other copy can."""

    reason: str = Field(min_length=1, max_length=1000)
    otherCopyLost: bool = False  # noqa: N815 -- as it is written


class InjectionWanted(Shape):
    """An event that is to be injected."""

    kind: InjectionKind
    target: str = Field(min_length=1, max_length=1024)
    at: datetime | None = None
    cron: str | None = Field(default=None, max_length=100)
    arguments: Mapping[str, Any] | None = None
    dryRun: bool = False  # noqa: N815 -- as it is written


class GrantShown(Shape):
    """A role, in one vault or (null) in all."""

    role: str
    vault_id: str | None = None


class SecretShown(Shape):
    """How long a secret holds; it is not shown again."""

    created_at: datetime
    expires_at: datetime


class AccountShown(Shape):
    """A service account."""

    client_id: str
    name: str
    grants: list[GrantShown]
    secrets: list[SecretShown]
    created_at: datetime
    created_by: str


class AccountMade(AccountShown):
    """An account with its new secret, the only time that it is seen."""

    client_secret: str


class Accounts(Shape):
    """All service accounts."""

    accounts: list[AccountShown]


class TokenRevoked(Shape):
    """A token that is worth nothing any more."""

    token_id: str
    revoked: Literal[True]


class GrantWanted(Shape):
    """A role, in one vault or in all."""

    role: Role
    vault_id: str | None = None


class AccountWanted(BaseModel):
    """A new service account; its secret holds for so many days."""

    name: str
    grants: list[GrantWanted]
    days: int = Field(default=365, ge=0, le=DAYS_MAX)


class SecretWanted(BaseModel):
    """A new secret; the one before holds for some hours more."""

    days: int = Field(default=365, ge=0, le=DAYS_MAX)
    overlap_hours: int = Field(default=0, ge=0, le=168)
