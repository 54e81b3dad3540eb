"""Approvals of servers that come back with a new key, and alerts about servers."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0001"

TABLES = ("pending_approval", "alert")
SEARCHED = ("vault_id", "provider_id")


def upgrade() -> None:
    for name in TABLES:
        op.create_table(
            name,
            sa.Column("id", sa.Text, primary_key=True),
            *[sa.Column(column, sa.Text, nullable=False) for column in SEARCHED],
            sa.Column("version", sa.Integer, nullable=False),
            sa.Column("change", sa.BigInteger, nullable=False),
            sa.Column("document", sa.Text, nullable=False),
        )
        for column in SEARCHED:
            op.create_index(f"ix_{name}_{column}", name, [column])
