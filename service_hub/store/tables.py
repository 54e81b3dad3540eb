"""The tables: one per kind of record, its document beside the columns that are searched by.

Documents are text, not jsonb: pydantic writes and checks them, nothing is asked inside them, and
text takes what jsonb refuses (the character NUL, escaped) in fewer bytes and without a parser.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import BigInteger, Column, Index, Integer, MetaData, Table, Text

from service_hub.domain.alert_mails import AlertMail, AlertSettings
from service_hub.domain.injections import Injection
from service_hub.domain.jobs import Job
from service_hub.domain.looker_records import (
    ArchiveTurn,
    FigureChunk,
    LearningPlace,
    TaskReceipt,
    UsualDuration,
)
from service_hub.domain.mapping_records import NetworkMapping, StorageMapping
from service_hub.domain.records import (
    Alert,
    ContainerMapping,
    FabricInventory,
    FormerItem,
    MachineObservation,
    ManagementCertificate,
    OutboxEvent,
    PendingApproval,
    ProtectedItem,
    Provider,
    ProviderContact,
    ProviderStream,
    Record,
    RegistrationKey,
    ReplicationPolicy,
    RequestKey,
    Vault,
)
from service_hub.domain.recovery_plans import RecoveryPlan
from service_hub.domain.replication_events import ReplicationEvent
from service_hub.domain.service_accounts import RevokedToken, ServiceAccount

METADATA: Final = MetaData()

Columns = Mapping[str, Callable[[Any], str]]


def sortable(moment: datetime | None) -> str:
    """Return a moment as text that sorts by time; nothing for none."""
    if moment is None:
        return ""
    at = moment if moment.tzinfo is UTC else moment.astimezone(UTC)
    return at.isoformat(timespec="microseconds").lower()


SEARCHED_BY: Final[Mapping[type[Record], Columns]] = {
    Vault: {
        "subscription_id": lambda record: record.subscription_id,
        "resource_group": lambda record: record.resource_group,
        "name": lambda record: record.name,
    },
    RegistrationKey: {"vault_id": lambda record: record.vault_id},
    Provider: {
        "vault_id": lambda record: record.vault_id,
        "vmm_id": lambda record: record.vmm_id,
        "fabric_name": lambda record: record.fabric_name,
    },
    ManagementCertificate: {
        "vault_id": lambda record: record.vault_id,
        "provider_id": lambda record: record.provider_id,
    },
    PendingApproval: {
        "vault_id": lambda record: record.vault_id,
        "provider_id": lambda record: record.provider_id,
    },
    Alert: {
        "vault_id": lambda record: record.vault_id,
        "provider_id": lambda record: record.provider_id,
    },
    ProviderStream: {},
    ProviderContact: {"vault_id": lambda record: record.vault_id},
    FabricInventory: {"vault_id": lambda record: record.vault_id},
    MachineObservation: {
        "vault_id": lambda record: record.vault_id,
        "provider_id": lambda record: record.provider_id,
    },
    ReplicationPolicy: {
        "vault_id": lambda record: record.vault_id,
        "name": lambda record: record.name,
    },
    ContainerMapping: {
        "vault_id": lambda record: record.vault_id,
        "primary_cloud_id": lambda record: record.primary_cloud_id,
        "recovery_cloud_id": lambda record: record.recovery_cloud_id,
    },
    NetworkMapping: {
        "vault_id": lambda record: record.vault_id,
        "primary_provider_id": lambda record: record.primary_provider_id,
        "recovery_provider_id": lambda record: record.recovery_provider_id,
    },
    StorageMapping: {
        "vault_id": lambda record: record.vault_id,
        "primary_provider_id": lambda record: record.primary_provider_id,
        "recovery_provider_id": lambda record: record.recovery_provider_id,
    },
    ProtectedItem: {
        "vault_id": lambda record: record.vault_id,
        "primary_provider_id": lambda record: record.primary_provider_id,
        "recovery_provider_id": lambda record: record.recovery_provider_id,
    },
    RecoveryPlan: {
        "vault_id": lambda record: record.vault_id,
        "name": lambda record: record.name,
    },
    Job: {
        "vault_id": lambda record: record.vault_id,
        "state": lambda record: record.state.value,
        "item_id": lambda record: record.item_id or "",
        "parent_id": lambda record: record.parent_id or "",
        "parent_task": lambda record: record.parent_task or "",
        "ended_at": lambda record: sortable(record.ended_at),
    },
    FormerItem: {},
    OutboxEvent: {"provider_id": lambda record: record.provider_id},
    Injection: {
        "vault_id": lambda record: record.vault_id,
        "state": lambda record: record.state.value,
    },
    ReplicationEvent: {
        "vault_id": lambda record: record.vault_id,
        "code": lambda record: record.code,
        "event_type": lambda record: record.event_type,
        "severity": lambda record: record.severity,
        "provider_id": lambda record: record.provider_id,
        "affected_id": lambda record: record.affected_id,
        "affected_name": lambda record: record.affected_name,
        "occurred_at": lambda record: sortable(record.occurred_at),
    },
    RequestKey: {"created_at": lambda record: sortable(record.created_at)},
    TaskReceipt: {"job_id": lambda record: record.job_id},
    FigureChunk: {"series": lambda record: record.series},
    UsualDuration: {},
    LearningPlace: {},
    ArchiveTurn: {},
    ServiceAccount: {},
    RevokedToken: {},
    AlertSettings: {},
    AlertMail: {"of_vault": lambda record: record.vault_id, "state": lambda record: record.state},
}
"""Which columns a kind is found by. Values are kept and compared in lower case, as ARM does."""


def _job_columns(job: Job) -> tuple[str, ...]:
    """Return what SEARCHED_BY says of a job, in half the time: each decision asks it."""
    return (
        job.vault_id.lower(),
        job.state.value.lower(),
        job.item_id.lower() if job.item_id else "",
        job.parent_id.lower() if job.parent_id else "",
        job.parent_task.lower() if job.parent_task else "",
        sortable(job.ended_at),
    )


_EXTRACTS: Final = {kind: tuple(columns.values()) for kind, columns in SEARCHED_BY.items()}

SHOWN: Final = frozenset(kind for kind in SEARCHED_BY if "vault_id" in SEARCHED_BY[kind]) | {Vault}
"""What a view of a vault can ask changes of; the rest is the hub's own book-keeping."""

_FOUND_WITH: Final[Mapping[tuple[type[Record], str], tuple[str, ...]]] = {
    (Job, "parent_id"): ("parent_id", "parent_task"),
}
"""Indices of more than one column."""

_NOT_INDEXED: Final = frozenset(
    {
        (Job, "parent_task"),
        (OutboxEvent, "provider_id"),
        # Asked together with the vault alone, whose events are gone through newest first.
        *(
            (ReplicationEvent, column)
            for column in ("code", "event_type", "severity", "provider_id", "affected_id")
        ),
        (ReplicationEvent, "affected_name"),
    }
)
"""What another index begins with, or is never asked alone."""


def _table(kind: type[Record]) -> Table:
    searched = [Column(name, Text, nullable=False) for name in SEARCHED_BY[kind]]
    numbered = []
    if kind is OutboxEvent:
        numbered = [
            Column("seq", BigInteger, nullable=False),
            Column("received", Integer, nullable=False),
        ]
    table = Table(
        kind.kind,
        METADATA,
        Column("id", Text, primary_key=True),
        *searched,
        *numbered,
        Column("version", Integer, nullable=False),
        Column("created", BigInteger, nullable=False),
        Column("change", BigInteger, nullable=False),
        Column("document", Text, nullable=False),
    )
    for column in SEARCHED_BY[kind]:
        if column == "vault_id":
            # In PostgreSQL CHANGED_RECORD answers the same questions.
            changed = Index(f"ix_{kind.kind}_vault_change", table.c.vault_id, table.c.change)
            changed.ddl_if(dialect="sqlite")
        elif (kind, column) not in _NOT_INDEXED:
            names = _FOUND_WITH.get((kind, column), (column,))
            Index(f"ix_{kind.kind}_{column}", *(table.c[name] for name in names))
    if kind is Job:
        # Lists of what an operator asked for, the newest first.
        Index("ix_job_listed", table.c.vault_id, table.c.parent_id, table.c.created, table.c.id)
    if kind is ReplicationEvent:
        Index("ix_replication_event_listed", table.c.vault_id, table.c.created, table.c.id)
    if kind is OutboxEvent:
        Index("ix_outbox_event_provider_seq", table.c.provider_id, table.c.seq, unique=True)
        early = table.c.received == 1
        Index(
            "ix_outbox_event_early",
            table.c.provider_id,
            table.c.seq,
            sqlite_where=early,
            postgresql_where=early,
        )
    return table


TABLES: Final[Mapping[type[Record], Table]] = {kind: _table(kind) for kind in SEARCHED_BY}

CHANGE_COUNTER: Final = Table(
    "change_counter",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("number", BigInteger, nullable=False),
)
"""One row: the number of the last committed change."""

JOB_LOG: Final = Table(
    "job_log",
    METADATA,
    Column("job_id", Text, primary_key=True),
    Column("number", BigInteger, primary_key=True),
    Column("at", Text, nullable=False),
    Column("change", BigInteger, nullable=False),
    Column("event", Text, nullable=False),
    sqlite_with_rowid=False,
)
"""What each job decided on, in order; appended to, never changed."""

JOB_LEASE: Final = Table(
    "job_lease",
    METADATA,
    Column("job_id", Text, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("fence", BigInteger, nullable=False),
    Column("held_until", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
"""Who may decide on a job that has not ended; `held_until` is in ms of the database's clock."""

JOB_INBOX: Final = Table(
    "job_inbox",
    METADATA,
    Column("message_id", Text, primary_key=True),
    Column("job_id", Text, nullable=False),
    Column("change", BigInteger, nullable=False),
    Column("position", Integer, nullable=False),
    Column("event", Text, nullable=False),
    sqlite_with_rowid=False,
)
"""What waits for the holder of a job, in the order of change and position."""

DELETED_RECORD: Final = Table(
    "deleted_record",
    METADATA,
    Column("kind", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("vault_id", Text, nullable=False),
    Column("change", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
"""What a view that asks "what changed since" must forget."""

AUDIT_LOG: Final = Table(
    "audit_log",
    METADATA,
    Column("change", BigInteger, primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("vault_id", Text, nullable=False),
    Column("at", Text, nullable=False),
    Column("entry", Text, nullable=False),
    Column("hash", Text, nullable=False),
    sqlite_with_rowid=False,
)
"""Who asked for what; appended to, never changed: no statement of the hub updates or deletes."""

Index("ix_audit_log_vault", AUDIT_LOG.c.vault_id, AUDIT_LOG.c.change, AUDIT_LOG.c.position)

CHANGED_RECORD: Final = Table(
    "changed_record",
    MetaData(),
    Column("kind", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("vault_id", Text, nullable=False),
    Column("change", BigInteger, nullable=False),
)
"""Which change was the last of each record that is SHOWN; in PostgreSQL alone, and not copied:
it says nothing that the records do not.

Beside the records, since PostgreSQL writes into every index of a row when one indexed column of it
changes: a job's index of changes made all of its indices grow with each decision, for nine tenths
of what a decision took of the server. SQLite writes into the indices of changed columns alone.
"""

Index("ix_changed_record_vault_change", CHANGED_RECORD.c.vault_id, CHANGED_RECORD.c.change)
Index("ix_job_lease_held_until", JOB_LEASE.c.held_until)
Index("ix_job_inbox_job_id", JOB_INBOX.c.job_id)
Index("ix_deleted_record_change", DELETED_RECORD.c.change)
Index("ix_deleted_record_vault_change", DELETED_RECORD.c.vault_id, DELETED_RECORD.c.change)


def searched_values(record: Record) -> tuple[str, ...]:
    """Return the searched columns of a record, in their order, in lower case."""
    if isinstance(record, Job):
        return _job_columns(record)
    return tuple([extract(record).lower() for extract in _EXTRACTS[type(record)]])


def written_columns(kind: type[Record]) -> list[str]:
    """Return the columns that a save fills, the id first; a receipt is noted by itself."""
    return [column.name for column in TABLES[kind].c if column.name != "received"]
