"""What the parts of the hub ask of each other; only the composition root names who answers.

Over 400 lines because it is nothing but signatures, and is read as one agreement.
"""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any, Final, Generic, NamedTuple, Protocol, TypeVar

from pydantic import JsonValue

from service_hub.domain.access import OperatorIdentity
from service_hub.domain.audit import AuditEntry, AuditLine, AuditPlace
from service_hub.domain.errors import StaleVersionError
from service_hub.domain.jobs import Event, Job, JobError, JobState, RestartRequested
from service_hub.domain.records import (
    Alert,
    ContainerMapping,
    ExtendedInfo,
    FabricInventory,
    MachineObservation,
    OutboxEvent,
    PendingApproval,
    ProtectedItem,
    Provider,
    ProviderStream,
    Record,
    RegistrationKey,
    ReplicationPolicy,
    Vault,
)
from service_hub.domain.replication_events import ReplicationEvent
from wire_contract.events import Presence
from wire_contract.reports import (
    EchoAnswer,
    Heartbeat,
    HeartbeatAnswer,
    Registration,
    RegistrationAnswer,
    ReportAnswer,
    ReportBatch,
    SessionAnswer,
    SessionRequest,
)
from wire_contract.vmm_interface import InventoryView, MachineView
from wire_contract.vocabulary import EventType

R = TypeVar("R", bound=Record)

NEW = 0
"""Expected version of a record that must not exist yet."""


class Clock(Protocol):
    """Time, ids and chance as arguments (service_shell.clock implements it)."""

    def now(self) -> datetime:
        """Return the present moment, UTC, aware."""

    def new_id(self) -> str:
        """Return a new GUID."""


@dataclass(frozen=True, slots=True)
class Versioned(Generic[R]):
    """A record as it was read, and the version a Change must name."""

    record: R
    version: int


@dataclass(frozen=True, slots=True)
class Save:
    """Store a record; `expected_version` NEW = must not exist, None = whatever is there.

    `document`: its text, where who saves it has it already (domain.job_document).
    """

    record: Record
    expected_version: int | None
    document: str | None = None


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove a record; nothing happens when it is gone already."""

    kind: type[Record]
    record_id: str


@dataclass(frozen=True, slots=True)
class NewEvent:
    """An event for one provider; the committer numbers it within the transaction."""

    event_id: str
    vault_id: str
    provider_id: str
    type: EventType
    issued_at: datetime
    expires_at: datetime
    body: Mapping[str, JsonValue]


class NumberedEvent(NamedTuple):
    """A new event with the place that it was given."""

    event: NewEvent
    stream: str
    seq: int


@dataclass(frozen=True, slots=True)
class EventReceipt:
    """A provider has this event in its journal; what is acknowledged without a gap is dropped."""

    provider_id: str
    stream: str
    seq: int
    receipt: str


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One event of a job as it was decided on: appended with the decision, never changed.

    Numbers rise by one; number 0 holds the job as it was made (domain.job_log).
    """

    job_id: str
    number: int
    at: datetime
    event: str


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to decide on a job, until the database's clock says otherwise."""

    job_id: str
    owner: str
    fence: int


@dataclass(frozen=True, slots=True)
class Guard:
    """The change is stored only while the job's lease has this fence; else LeaseLostError."""

    job_id: str
    fence: int


@dataclass(frozen=True, slots=True)
class Message:
    """An event for a job that another hub may hold; kept until its holder has decided on it."""

    message_id: str
    job_id: str
    event: str


@dataclass(frozen=True, slots=True)
class Ring:
    """A hint for every hub of the database, told with the commit; the truth is in the tables."""

    topic: str
    key: str


@dataclass(frozen=True, slots=True)
class Change:
    """What is stored together or not at all.

    `begins` are leases of new jobs, `ends` the jobs whose lease is over, `taken` the messages that
    the change has decided on.
    """

    saves: Sequence[Save] = ()
    deletes: Sequence[Delete] = ()
    events: Sequence[NewEvent] = ()
    receipts: Sequence[EventReceipt] = ()
    log: Sequence[LogEntry] = ()
    guards: Sequence[Guard] = ()
    begins: Sequence[Lease] = ()
    ends: Sequence[str] = ()
    messages: Sequence[Message] = ()
    taken: Sequence[str] = ()
    rings: Sequence[Ring] = ()
    audit: Sequence[AuditEntry] = ()

    def __add__(self, other: "Change") -> "Change":
        return Change(
            *((*getattr(self, each.name), *getattr(other, each.name)) for each in fields(Change))
        )


NOTHING: Final = Change()
"""A change that changes nothing."""


@dataclass(frozen=True, slots=True)
class Stored:
    """What a transaction did to outboxes: the streams as it left them, and their new events.

    Whoever sends them need not read them back. Another hub may have gone on meanwhile.
    """

    streams: Sequence[ProviderStream] = ()
    events: Sequence[NumberedEvent] = ()

    def __add__(self, later: "Stored") -> "Stored":
        return Stored((*self.streams, *later.streams), (*self.events, *later.events))


NOTHING_STORED: Final = Stored()
"""No outbox was touched."""


class Applied(list[int | StaleVersionError]):
    """For each change of a batch its number, or the error that undid it alone; in order."""

    def __init__(
        self, outcomes: Iterable[int | StaleVersionError], stored: Stored = NOTHING_STORED
    ) -> None:
        super().__init__(outcomes)
        self.stored = stored


class Reader(Protocol):
    """Reads what is committed."""

    async def get(self, kind: type[R], record_id: str) -> Versioned[R] | None:
        """Return one record, or None."""

    async def find(self, kind: type[R], **columns: str) -> list[Versioned[R]]:
        """Return the records whose indexed columns equal these, oldest first."""

    async def events_after(self, provider_id: str, seq: int, limit: int) -> list[OutboxEvent]:
        """Return a provider's stored events above `seq`, in order, at most `limit`."""


@dataclass(frozen=True, slots=True)
class StreamPage:
    """A provider's stream, and the events above a place in it, as they were at one moment."""

    stream: ProviderStream
    events: Sequence[OutboxEvent] = ()


@dataclass(frozen=True, slots=True)
class Changed:
    """A record that was changed or deleted by the change of this number, its newest."""

    kind: str
    record_id: str
    number: int
    deleted: bool


CHANGES_REMEMBERED: Final = 1_000_000
"""Deletions are told so many changes long; a view that was away for longer begins anew."""


class JobPlace(NamedTuple):
    """Where a job stands among the others: the change that it was made in, and its id."""

    created: int
    job_id: str


@dataclass(frozen=True, slots=True)
class JobPage:
    """Some jobs of a list, and the place of the last one where there are more behind it."""

    jobs: Sequence[Job]
    last: JobPlace | None = None


class EventPlace(NamedTuple):
    """Where an event stands among the others: the change that it was made in, and its id."""

    created: int
    event_id: str


@dataclass(frozen=True, slots=True)
class WantedEvents:
    """Which events of a vault are asked for: `equal` names searched columns, case is no matter."""

    vault_id: str
    equal: Mapping[str, str] = field(default_factory=dict)
    provider_ids: Sequence[str] | None = None
    begin: datetime | None = None
    end: datetime | None = None


@dataclass(frozen=True, slots=True)
class EventPage:
    """Some events of a list, and the place of the last one where there are more behind it."""

    events: Sequence[ReplicationEvent]
    last: EventPlace | None = None


class EventLists(Protocol):
    """Reads events page by page."""

    async def listed_events(
        self, wanted: WantedEvents, after: EventPlace | None, limit: int
    ) -> EventPage:
        """Return at most `limit` events, newest first."""

    async def old_events(self, before: datetime, limit: int) -> list[str]:
        """Return ids of events from before a moment, oldest first."""


class JobLists(Protocol):
    """Reads lists of jobs page by page."""

    async def listed_jobs(self, vault_id: str, after: JobPlace | None, limit: int) -> JobPage:
        """Return at most `limit` jobs that are no part of another, newest first."""

    async def job_counts(self, vault_id: str) -> dict[JobState, int]:
        """Return how many jobs of a vault that are no part of another are in each state."""


class WideReader(Reader, Protocol):
    """Reads many records at once, and what goes beyond records."""

    async def get_many(self, kind: type[R], record_ids: Sequence[str]) -> dict[str, Versioned[R]]:
        """Return those of these records that are there, by id."""

    async def count(self, kind: type[R], **columns: str) -> int:
        """Return how many records `find` would return, without reading them."""

    async def last_number(self) -> int:
        """Return the number of the last committed change."""

    async def changes_since(self, vault_id: str, number: int, limit: int) -> list[Changed]:
        """Return what changed above a number, in order.

        Changes are told whole: at most `limit` records, unless one change alone has more.
        """

    async def log_of(self, job_id: str) -> list[LogEntry]:
        """Return what a job decided on, from its making on."""

    async def child_counts(self, parent_id: str, parent_task: str) -> dict[JobState, int]:
        """Return how many child jobs of a task are in which state."""

    async def finished_jobs(self, before: datetime, limit: int) -> list[str]:
        """Return ids of jobs that ended before a moment, oldest first.

        Deleting a job deletes its log too.
        """

    async def old_request_keys(self, before: datetime, limit: int) -> list[str]:
        """Return ids of request keys made before a moment, oldest first."""


class AuditReader(Protocol):
    """Reads the audit log; nothing changes it but a Change that adds to it."""

    async def audit_lines(
        self, vault_id: str, after: AuditPlace | None, limit: int
    ) -> list[AuditLine]:
        """Return at most `limit` lines of a vault behind a place, oldest first."""


class OutboxReader(Reader, Protocol):
    """Reads what waits for many providers at once."""

    async def pages(self, after: Mapping[str, int], limit: int) -> Mapping[str, StreamPage]:
        """Return for each provider its stream, and at most `limit` events above a number.

        What is acknowledged never comes again, whatever the number. Who has no stream is not in
        the answer; neither is who had to be left out since all together were too large.
        """


class Store(Reader, Protocol):
    """The database."""

    async def apply(self, changes: Sequence[Change]) -> Applied:
        """Store a batch in one transaction, each change whole or not at all.

        Any exception: nothing of the batch is stored.
        """


class Leases(Protocol):
    """Which process may decide on which job; times are the database's own."""

    async def claim(self, owner: str, seconds: float, limit: int) -> list[Lease]:
        """Take jobs that nobody holds, at most `limit`, each under a raised fence."""

    async def renew(self, held: Sequence[Lease], seconds: float) -> list[Lease]:
        """Prolong exactly these leases; return those that are still held."""

    async def release(self, held: Sequence[Lease]) -> None:
        """Let others claim these now."""

    async def messages(self, job_ids: Sequence[str]) -> list[Message]:
        """Return what waits for these jobs, oldest first."""


class Bell(Protocol):
    """Hears the hints of all hubs of the database."""

    def listen(self) -> AsyncIterator[Ring]:
        """Yield every ring from now on; those of a broken connection are lost."""


class FaultPoints(Protocol):
    """Named places where a test may kill, delay, fail or hang; off unless asked for at start."""

    async def reach(self, name: str) -> None:
        """Do what was asked for at this place."""

    def reach_now(self, name: str) -> None:
        """Do it where nothing can be awaited: kill and error alone."""


class NoFaults:
    """The fault points of a part that was given none: nothing happens."""

    async def reach(self, name: str) -> None:
        """Go on."""

    def reach_now(self, name: str) -> None:
        """Go on."""


NO_FAULTS: Final[FaultPoints] = NoFaults()


class Committer(Protocol):
    """The only writer of a hub process."""

    async def commit(self, change: Change) -> int:
        """Store the change and return its number; raises StaleVersionError, then nothing is."""

    async def commit_all(self, changes: Sequence[Change]) -> list[int | StaleVersionError]:
        """Store each alone, in order, and return as Store.apply does."""


class Outbox(Protocol):
    """Told after a commit that a provider has new events."""

    def wake(self, provider_ids: Sequence[str], stored: Stored = NOTHING_STORED) -> None:
        """Send what is there, `stored` without reading it back where it says all; never blocks."""


class JobRunner(Protocol):
    """The engine as use cases see it."""

    async def start(self, job: Job, change: Change) -> None:
        """Store the job together with the change, then let it run."""

    async def record(self, job: Job, change: Change) -> None:
        """Store a job that has ended before it began, together with the change."""

    async def start_all(self, jobs: Sequence[Job], change: Change) -> None:
        """Store all these jobs together with the change, then let them run."""

    async def feed(self, job_id: str, event: Event, change: Change = NOTHING) -> None:
        """Let a job decide on an event; returns when the decision is durable.

        Where another hub holds the job, the event is durable then and decided on there. `change`
        is stored together with it, whatever is decided; when it is stale, StaleVersionError is
        raised and nothing is stored.
        """

    async def open_work(self, provider_id: str) -> Sequence[NewEvent]:
        """Return what a provider was asked and has not answered, under the same command ids."""


class Checker(Protocol):
    """Makes the hub's own checks."""

    async def check(self, job: Job, task_id: str) -> JobError | None:
        """Return why the job must stop here, or None."""


class Liveness(Protocol):
    """Whether a provider's lease holds."""

    async def connected(self, provider_id: str) -> bool:
        """Return whether any authenticated contact was recent enough."""


class ObservationFollower(Protocol):
    """Told when a machine's view has come in."""

    async def observed(self, provider_id: str, machine_id: str) -> None:
        """Look whether anything waits for it."""

    async def all_observed(self, provider_id: str, machines: Sequence[MachineView]) -> None:
        """Look whether anything waits for one of these, which are all that a server has."""


class Followers(Protocol):
    """Told when a job has ended: some begin the next one.

    Told again after a kill until it has returned once: telling twice must change nothing.
    """

    def awaits(self, job: Job) -> bool:
        """Whether anything may follow from the end of this job."""

    async def job_ended(self, job: Job) -> None:
        """Look whether anything follows."""


class ChildPlanner(Protocol):
    """Makes the child jobs of a group."""

    async def child(
        self, parent: Job, task_id: str, member: str, child_id: str
    ) -> tuple[Job, Change]:
        """Return the job of one member under this id, and what is stored together with it.

        It is not begun, or has ended before it began: a refusal is a job that failed.
        """

    async def restart(
        self, parent: Job, child: Job, principal: str
    ) -> tuple[RestartRequested, Change] | None:
        """Return what restarts a job of a group, and what holds its item again.

        None where the item is not as the job left it: the job stays failed.
        """


@dataclass(frozen=True, slots=True)
class UploadedCertificate:
    """What is kept of an uploaded registration certificate."""

    pem: str
    thumbprint: str
    sha1_thumbprint: str
    subject: str
    issuer: str
    not_after: datetime


class RegistrationAuthority(Protocol):
    """Judges uploaded registration certificates and lets their holders connect."""

    def inspect(self, certificate: bytes) -> UploadedCertificate:
        """Return what is kept of it; InvalidRequestError when it is unfit."""

    def admit(self, certificate_pem: str) -> None:
        """Let the provider listener accept it from the next handshake on."""


class CertificateOffice(Protocol):
    """Issues certificates and tokens; a library of the hub's trust chain behind it."""

    @property
    def root_pem(self) -> str:
        """The roots that providers pin: two while the root is replaced."""

    def cacerts(self) -> bytes:
        """Return the chain as EST certs-only (base64 PKCS#7)."""

    def requested_name(self, request: bytes) -> str:
        """Return the CN that a request asks for, a GUID; InvalidRequestError when it is unfit."""

    def thumbprint_of(self, certificate_pem: str) -> str:
        """Return the SHA-256 thumbprint of a chain's leaf."""

    def request_pem(self, request: bytes) -> str:
        """Return a request as text; InvalidRequestError when it is unfit."""

    def requested_key(self, request: bytes) -> str:
        """Return the thumbprint of the key that a request is for; InvalidRequestError."""

    def issue_provider(
        self, request: bytes, provider_id: str, now: datetime, *, trusted_roots: Sequence[str] = ()
    ) -> "IssuedPem":
        """Issue a management certificate with the provider id as CN, below a root it trusts."""

    def issue_host(
        self, request: bytes, host: str, now: datetime, *, further_names: Sequence[str] = ()
    ) -> "IssuedPem":
        """Issue a Hyper-V host certificate with CN and SAN = the host's FQDN, and further SANs."""

    def provider_token(
        self, provider: Provider, certificate_pem: str, now: datetime
    ) -> tuple[str, int]:
        """Return the token, encrypted to the certificate, and its life in seconds."""


@dataclass(frozen=True, slots=True)
class IssuedPem:
    """An issued certificate: chain (leaf first) and the leaf's SHA-256 thumbprint.

    `key_thumbprint` is the SHA-256 of the public key, `root` the thumbprint of the root above,
    `serial` the certificate's number in hexadecimal digits.
    """

    chain_pem: str
    thumbprint: str
    key_thumbprint: str = ""
    expires_at: datetime | None = None
    root: str = ""
    serial: str = ""


# ----------------------------------------------------------------- use cases, as the edges see them


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
class FabricFacts(ServerFacts):
    """A registered VMM server as operators see it."""

    last_contact_at: datetime | None
    connected: bool
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
    primary: FabricFacts
    recovery: FabricFacts
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

    async def list(self, vault: Vault, after: JobPlace | None, limit: int) -> JobPage:
        """Return some of a vault, newest first, without those that a group of another runs."""

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


class EnrolmentUseCases(Protocol):
    """Providers on their way in, and their tokens."""

    async def registration_key(
        self, thumbprint: str, named_vault: str | None = None
    ) -> RegistrationKey:
        """Return the key behind a presented certificate; KeyRefusedError says why it is none."""

    async def enrol(self, key: RegistrationKey, request: bytes, address: str) -> IssuedPem:
        """Issue a management certificate for a new server; ApprovalPendingError for a known one."""

    async def renew(self, provider: Provider, thumbprint: str, request: bytes) -> IssuedPem:
        """Issue the next management certificate to the holder of the present one."""

    async def provider_of(self, thumbprint: str) -> Provider | None:
        """Return the provider that a management certificate belongs to, if it is not revoked."""

    async def refusal_of(self, thumbprint: str) -> str:
        """Return in words why a certificate is good for nothing here."""

    async def token(
        self, provider: Provider, certificate_pem: str, address: str
    ) -> tuple[str, int]:
        """Return an encrypted token and its life in seconds."""

    async def register(self, provider: Provider, registration: Registration) -> RegistrationAnswer:
        """Take the server into the vault."""

    async def issue_host(self, provider: Provider, host: str, request: bytes) -> IssuedPem:
        """Issue a host certificate for a host of this provider's inventory."""


class Connections(Protocol):
    """The open connections of providers, over whichever transport."""

    def kick(self, provider_id: str) -> None:
        """End all of one provider's connections now; nothing happens when there is none."""


class CertificateUseCases(Protocol):
    """What operators decide about the certificates of servers."""

    async def revoke_server(self, vault_id: str, provider_id: str, principal: str) -> int:
        """Revoke all certificates of a server at once; return how many. NotFoundError."""

    async def alerts(self, vault_id: str) -> list[Alert]:
        """Return what was raised about the servers of a vault, oldest first."""


class ApprovalUseCases(Protocol):
    """Known servers that come back with a new key."""

    async def list(self, vault_id: str) -> list[PendingApproval]:
        """Return all of a vault, oldest first."""

    async def approve(self, vault_id: str, approval_id: str, principal: str) -> PendingApproval:
        """Let the new key take the server over; NotFoundError, ConflictError when decided."""

    async def reject(self, vault_id: str, approval_id: str, principal: str) -> PendingApproval:
        """Refuse the new key for good; NotFoundError, ConflictError when decided."""


class ProviderUseCases(Protocol):
    """What registered providers say."""

    async def session(self, provider: Provider, request: SessionRequest) -> SessionAnswer:
        """Begin a session: stream, and which copies may run."""

    async def heartbeat(self, provider: Provider, beat: Heartbeat) -> HeartbeatAnswer:
        """Renew the lease."""

    async def echo(self, provider: Provider) -> EchoAnswer:
        """Put a refresh into the provider's stream; ConflictError where enough waits there."""

    async def inventory(self, provider: Provider, view: InventoryView) -> None:
        """Replace what is known of a fabric."""

    async def reports(self, provider: Provider, batch: ReportBatch) -> ReportAnswer:
        """Take reports in; durable when it returns."""

    async def stream(self, provider: Provider) -> ProviderStream:
        """Return the present numbering."""


class OperatorTokens(Protocol):
    """Checks the bearer tokens of operators."""

    async def verify(self, token: str, now: datetime) -> OperatorIdentity:
        """Return the holder; UnauthenticatedError says why not."""


class ProviderTokens(Protocol):
    """Checks the tokens of providers, which are bound to their certificates (RFC 8705)."""

    def verify(self, token: str, certificate_pem: str, now: datetime) -> str:
        """Return the provider id; UnauthenticatedError says why not."""


class PresenceSink(Protocol):
    """Hears what brokers say about who is there; a suspicion, never proof."""

    async def presence(self, provider_id: str, presence: Presence) -> None:
        """Note it."""


class Resigner(Protocol):
    """Signs an event again that a provider could not verify."""

    def sign_anew(self, provider_id: str, seq: int) -> None:
        """Forget the signature that was refused; the next sending makes a new one."""


class EventSource(Protocol):
    """Signed events for one provider, over whichever transport."""

    async def signed_after(
        self, provider_id: str, seq: int, limit: int
    ) -> tuple[ProviderStream, list[tuple[int, str]]]:
        """Return the stream and (seq, compact JWS) above `seq`, in order."""

    async def signed(self, events: Sequence[NumberedEvent]) -> list[str]:
        """Return the compact JWS of each event, in the same order; nothing is read."""

    async def signed_waiting(
        self, provider_ids: Sequence[str], limit: int
    ) -> Mapping[str, tuple[ProviderStream, list[tuple[int, str]]]]:
        """Return for each provider its stream and what it has not acknowledged, in one read.

        Who has no stream, or had to be left out since all were too large together, is missing.
        """

    async def signed_when_there(
        self, provider_id: str, stream: str, seq: int, limit: int, seconds: float
    ) -> tuple[ProviderStream, list[tuple[int, str]]]:
        """Return as signed_after does, once there is an event or a stream other than `stream`.

        At the latest when the time is over.
        """
