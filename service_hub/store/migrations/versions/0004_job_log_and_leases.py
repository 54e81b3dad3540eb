"""Logs, leases and inboxes of jobs; what was deleted; the order in which records were made."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

RECORDS = (
    "vault",
    "registration_key",
    "provider",
    "management_certificate",
    "provider_stream",
    "provider_contact",
    "fabric_inventory",
    "machine_observation",
    "replication_policy",
    "container_mapping",
    "protected_item",
    "job",
    "outbox_event",
    "request_key",
    "pending_approval",
    "alert",
)
HAD_VAULT = (
    "registration_key",
    "provider",
    "fabric_inventory",
    "replication_policy",
    "container_mapping",
    "protected_item",
    "job",
    "pending_approval",
    "alert",
)
GIVEN_VAULT = ("management_certificate", "provider_contact", "machine_observation")
FINISHED = "('succeeded', 'failed', 'cancelled')"


def upgrade() -> None:
    for name in RECORDS:
        op.add_column(name, sa.Column("created", sa.BigInteger, nullable=False, server_default="0"))
        if op.get_bind().dialect.name == "sqlite":
            # What was there comes before everything that is made from now on. In PostgreSQL no
            # database is older than this.
            op.execute(
                f"UPDATE {name} SET created = rowid - (SELECT max(rowid) + 1 FROM {name})"  # noqa: S608 -- names of our own tables
            )
    for name in GIVEN_VAULT:
        _add_from_document(name, "vault_id", "vault_id")
    for name in HAD_VAULT:
        op.drop_index(f"ix_{name}_vault_id", name)
    for name in (*HAD_VAULT, *GIVEN_VAULT):
        op.create_index(f"ix_{name}_vault_change", name, ["vault_id", "change"])
    _add_from_document("job", "parent_id", "parent_id")
    _add_from_document("job", "parent_task", "parent_task")
    _add_from_document("job", "ended_at", "ended_at")
    op.create_index("ix_job_parent_id", "job", ["parent_id", "parent_task"])
    op.create_index("ix_job_ended_at", "job", ["ended_at"])
    _add_from_document("request_key", "created_at", "created_at")
    op.create_index("ix_request_key_created_at", "request_key", ["created_at"])
    _mark_early_receipts()
    _create_tables()
    op.execute(
        "INSERT INTO job_lease (job_id, owner, fence, held_until) "  # noqa: S608 -- our own words
        f"SELECT id, '', CAST({_field('fence')} AS bigint), 0 FROM job "
        f"WHERE state NOT IN {FINISHED}"
    )


def _field(name: str) -> str:
    if op.get_bind().dialect.name == "sqlite":
        return f"json_extract(document, '$.{name}')"
    return f"(document::json ->> '{name}')"


def _add_from_document(table: str, column: str, field: str) -> None:
    op.add_column(table, sa.Column(column, sa.Text, nullable=False, server_default=""))
    op.execute(f"UPDATE {table} SET {column} = lower(coalesce({_field(field)}, ''))")  # noqa: S608 -- names of our own tables


def _mark_early_receipts() -> None:
    op.add_column(
        "outbox_event", sa.Column("received", sa.Integer, nullable=False, server_default="0")
    )
    op.execute(f"UPDATE outbox_event SET received = 1 WHERE {_field('receipt')} IS NOT NULL")  # noqa: S608 -- as above
    early = sa.text("received = 1")
    op.create_index(
        "ix_outbox_event_early",
        "outbox_event",
        ["provider_id", "seq"],
        sqlite_where=early,
        postgresql_where=early,
    )


def _create_tables() -> None:
    op.create_table(
        "job_log",
        sa.Column("job_id", sa.Text, primary_key=True),
        sa.Column("number", sa.BigInteger, primary_key=True),
        sa.Column("at", sa.Text, nullable=False),
        sa.Column("change", sa.BigInteger, nullable=False),
        sa.Column("event", sa.Text, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "job_lease",
        sa.Column("job_id", sa.Text, primary_key=True),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("fence", sa.BigInteger, nullable=False),
        sa.Column("held_until", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_job_lease_held_until", "job_lease", ["held_until"])
    op.create_table(
        "job_inbox",
        sa.Column("message_id", sa.Text, primary_key=True),
        sa.Column("job_id", sa.Text, nullable=False),
        sa.Column("change", sa.BigInteger, nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("event", sa.Text, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_job_inbox_job_id", "job_inbox", ["job_id"])
    op.create_table(
        "deleted_record",
        sa.Column("kind", sa.Text, primary_key=True),
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("vault_id", sa.Text, nullable=False),
        sa.Column("change", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_deleted_record_change", "deleted_record", ["change"])
    op.create_index("ix_deleted_record_vault_change", "deleted_record", ["vault_id", "change"])
