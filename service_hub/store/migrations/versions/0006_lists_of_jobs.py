"""Lists of jobs page by page; what no question needs goes, since each event pays for it.

In PostgreSQL what changed last is noted beside the records: a row whose indexed columns stay can be
changed in its place, without touching any of its indices (tables: CHANGED_RECORD).
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

SHOWN = (
    "registration_key",
    "provider",
    "management_certificate",
    "pending_approval",
    "alert",
    "provider_contact",
    "fabric_inventory",
    "machine_observation",
    "replication_policy",
    "container_mapping",
    "protected_item",
    "job",
)


def upgrade() -> None:
    op.create_index("ix_job_listed", "job", ["vault_id", "parent_id", "created", "id"])
    # The index of provider and number answers the same questions.
    op.drop_index("ix_outbox_event_provider_id", "outbox_event")
    if op.get_bind().dialect.name == "postgresql":
        _note_changes_beside()


def _note_changes_beside() -> None:
    op.create_table(
        "changed_record",
        sa.Column("kind", sa.Text, primary_key=True),
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("vault_id", sa.Text, nullable=False),
        sa.Column("change", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_changed_record_vault_change", "changed_record", ["vault_id", "change"])
    op.execute("INSERT INTO changed_record SELECT 'vault', id, lower(id), change FROM vault")
    for name in SHOWN:
        op.execute(
            f"INSERT INTO changed_record SELECT '{name}', id, vault_id, change FROM {name}"  # noqa: S608 -- names of our own tables
        )
        op.drop_index(f"ix_{name}_vault_change", name)
    # Room for a job's next version on its own page; its text is not compressed for that.
    op.execute("ALTER TABLE job SET (fillfactor = 45, toast_tuple_target = 8160)")
