"""What providers tell the hub over HTTPS: registration, session, heartbeat, reports."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field, JsonValue

from wire_contract.model import Moment, Name, Number, Raised, WireModel
from wire_contract.vmm_interface import MachineView
from wire_contract.vocabulary import ReceiptKind, RefusalReason

REPORTS_PER_BATCH_MAX = 200
ROOTS_MAX = 4

Thumbprint = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class Registration(WireModel):
    """A VMM server introduces itself, once, with its new management certificate."""

    vmm_id: str
    vmm_fqdn: str
    friendly_name: str = Field(min_length=1, max_length=128)
    provider_version: str
    vmm_version: str


class RegistrationAnswer(WireModel):
    """Who the provider is now; `mqtt_*` is where events are delivered."""

    provider_id: str
    vault_id: str
    vault_name: str
    mqtt_host: str
    mqtt_port: int
    heartbeat_seconds: int


class UnregistrationAnswer(WireModel):
    """The job that takes the server out of its vault: its provider is sent an event to clean up."""

    job_id: str


class StreamPosition(WireModel):
    """A place in a stream: the last number that is journalled, or that exists."""

    stream: str
    seq: Number


class SessionRequest(WireModel):
    """What a provider knows when it (re)connects; the hub raises its own figures to these.

    `auto_update` is the node's update policy, null before set-up; `available_version` is installed
    there and waits for a restart of the provider. `trusted_roots` are the SHA-256 thumbprints of
    the hub's roots that it has pinned.
    """

    boot_id: Name
    session: Number
    journal_id: str
    provider_version: str
    vmm_version: str
    last: StreamPosition | None
    fences: dict[str, Raised]
    epochs: dict[str, Raised]
    auto_update: Literal["on", "off"] | None = None
    available_version: str | None = Field(default=None, max_length=64)
    trusted_roots: tuple[Thumbprint, ...] = Field(default=(), max_length=ROOTS_MAX)


class Authority(WireModel):
    """Whether the local copy of a protected machine may run: it is the active one, or it is not."""

    machine_id: str
    item: str
    epoch: int = Field(ge=0)
    authoritative: bool


class SessionAnswer(WireModel):
    """The stream to follow, and what the hub knows of this fabric's protected machines.

    `roots_jws` is the roots' own word on which of them to trust, once a root has been replaced or
    is being replaced (certs: roots).
    """

    position: StreamPosition
    heartbeat_seconds: int
    authorities: tuple[Authority, ...]
    roots_jws: str | None = None
    offered_version: str | None = Field(default=None, max_length=64)
    """Which provider the hub's operator offers; one that is older tells it as available."""


class Heartbeat(WireModel):
    """Renews the provider's lease; carries the last journalled event."""

    boot_id: Name
    last: StreamPosition | None
    fabric_reachable: bool = True


class HeartbeatAnswer(WireModel):
    """The highest event that exists: who is behind pulls at once.

    `roots_serial` is the number of the newest statement on roots: who knows an older one begins a
    session, whose answer carries it.
    """

    highest: StreamPosition
    server_time: datetime
    roots_serial: int = Field(default=0, ge=0)


class EchoAnswer(WireModel):
    """An event without effect was put into the caller's stream, above `after`."""

    event_id: str
    after: StreamPosition


class ProviderError(WireModel):
    """What went wrong on the fabric, in words for an operator; `code` is the fabric's own."""

    code: int
    message: str
    possible_causes: str = ""
    recommended_action: str = ""


class Receipt(WireModel):
    """A verified event is in the journal; final for the cursor, whatever the kind."""

    kind: Literal["receipt"] = "receipt"
    report_id: str
    stream: str
    seq: Number
    event_id: str
    receipt: ReceiptKind
    reason: RefusalReason | None = None
    command_id: str | None = None


class Unverifiable(WireModel):
    """Twice pulled, twice not verifiable: the hub signs this number anew or voids it."""

    kind: Literal["unverifiable"] = "unverifiable"
    report_id: str
    stream: str
    seq: Number
    detail: str


class TaskProgress(WireModel):
    """A task goes on; percent 0 to 100 where the fabric gives one."""

    kind: Literal["task_progress"] = "task_progress"
    report_id: str
    job: str
    task: str
    attempt: Number
    percent: float | None = Field(ge=0, le=100)
    detail: str


class TaskOutcome(WireModel):
    """How an attempt ended; success only with the post-condition read back in `observed`."""

    kind: Literal["task_outcome"] = "task_outcome"
    report_id: str
    job: str
    task: str
    attempt: Number
    succeeded: bool
    observed: dict[str, JsonValue]
    observed_at: Moment
    error: ProviderError | None = None


class MachineObserved(WireModel):
    """A machine's view changed (initial replication ended, a copy was fenced, cycles went by)."""

    kind: Literal["machine_observed"] = "machine_observed"
    report_id: str
    observed_at: Moment
    machine: MachineView


Report = Annotated[
    Receipt | Unverifiable | TaskProgress | TaskOutcome | MachineObserved,
    Field(discriminator="kind"),
]


class ReportBatch(WireModel):
    """Reports in the order of the journal's outbox; repeated ones change nothing."""

    journal_id: str
    reports: tuple[Report, ...] = Field(max_length=REPORTS_PER_BATCH_MAX)


class ReportAnswer(WireModel):
    """`accepted` ids may leave the outbox; `acknowledged` is the highest contiguous receipt."""

    accepted: tuple[str, ...]
    acknowledged: StreamPosition | None


class HostCertificateRequest(WireModel):
    """A certificate request (PKCS#10, PEM) made on one Hyper-V host for its FQDN."""

    host: str
    csr_pem: str = Field(max_length=16_384)


class HostCertificate(WireModel):
    """The issued chain (leaf first, PEM) and the root to check replication partners with."""

    host: str
    chain_pem: str
    root_pem: str
