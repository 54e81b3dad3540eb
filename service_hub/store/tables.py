"""The tables: one per kind of record, its document beside the columns that are searched by."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from sqlalchemy import BigInteger, Column, Index, Integer, MetaData, Table, Text

from service_hub.domain.jobs import Job
from service_hub.domain.records import (
    Alert,
    ContainerMapping,
    FabricInventory,
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

METADATA: Final = MetaData()

Columns = Mapping[str, Callable[[Any], str]]

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
    ManagementCertificate: {"provider_id": lambda record: record.provider_id},
    PendingApproval: {
        "vault_id": lambda record: record.vault_id,
        "provider_id": lambda record: record.provider_id,
    },
    Alert: {
        "vault_id": lambda record: record.vault_id,
        "provider_id": lambda record: record.provider_id,
    },
    ProviderStream: {},
    ProviderContact: {},
    FabricInventory: {"vault_id": lambda record: record.vault_id},
    MachineObservation: {"provider_id": lambda record: record.provider_id},
    ReplicationPolicy: {
        "vault_id": lambda record: record.vault_id,
        "name": lambda record: record.name,
    },
    ContainerMapping: {
        "vault_id": lambda record: record.vault_id,
        "primary_cloud_id": lambda record: record.primary_cloud_id,
        "recovery_cloud_id": lambda record: record.recovery_cloud_id,
    },
    ProtectedItem: {
        "vault_id": lambda record: record.vault_id,
        "primary_provider_id": lambda record: record.primary_provider_id,
        "recovery_provider_id": lambda record: record.recovery_provider_id,
    },
    Job: {
        "vault_id": lambda record: record.vault_id,
        "state": lambda record: record.state.value,
        "item_id": lambda record: record.item_id or "",
    },
    OutboxEvent: {"provider_id": lambda record: record.provider_id},
    RequestKey: {},
}
"""Which columns a kind is found by. Values are kept and compared in lower case, as ARM does."""


def _table(kind: type[Record]) -> Table:
    searched = [Column(name, Text, nullable=False) for name in SEARCHED_BY[kind]]
    sequence = [Column("seq", Integer, nullable=False)] if kind is OutboxEvent else []
    table = Table(
        kind.kind,
        METADATA,
        Column("id", Text, primary_key=True),
        *searched,
        *sequence,
        Column("version", Integer, nullable=False),
        Column("change", BigInteger, nullable=False),
        Column("document", Text, nullable=False),
    )
    for column in SEARCHED_BY[kind]:
        Index(f"ix_{kind.kind}_{column}", table.c[column])
    if kind is OutboxEvent:
        Index("ix_outbox_event_provider_seq", table.c.provider_id, table.c.seq, unique=True)
    return table


TABLES: Final[Mapping[type[Record], Table]] = {kind: _table(kind) for kind in SEARCHED_BY}

CHANGE_COUNTER: Final = Table(
    "change_counter",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("number", BigInteger, nullable=False),
)
"""One row: the number of the last committed change."""


def searched_values(record: Record) -> dict[str, Any]:
    """Return the searched columns of a record, in lower case, and an event's number."""
    values: dict[str, Any] = {
        name: extract(record).lower() for name, extract in SEARCHED_BY[type(record)].items()
    }
    if isinstance(record, OutboxEvent):
        values["seq"] = record.seq
    return values
