"""Events for operators."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"

_SEARCHED = (
    "vault_id",
    "code",
    "event_type",
    "severity",
    "provider_id",
    "affected_id",
    "affected_name",
    "occurred_at",
)


def upgrade() -> None:
    op.create_table(
        "replication_event",
        sa.Column("id", sa.Text, primary_key=True),
        *(sa.Column(name, sa.Text, nullable=False) for name in _SEARCHED),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("created", sa.BigInteger, nullable=False),
        sa.Column("change", sa.BigInteger, nullable=False),
        sa.Column("document", sa.Text, nullable=False),
    )
    listed = ["vault_id", "created", "id"]
    op.create_index("ix_replication_event_listed", "replication_event", listed)
    op.create_index("ix_replication_event_occurred_at", "replication_event", ["occurred_at"])
    if op.get_bind().dialect.name == "sqlite":
        # In PostgreSQL changed_record answers what changed last.
        changed = ["vault_id", "change"]
        op.create_index("ix_replication_event_vault_change", "replication_event", changed)
