"""Recovery plans."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.create_table(
        "recovery_plan",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("vault_id", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("created", sa.BigInteger, nullable=False),
        sa.Column("change", sa.BigInteger, nullable=False),
        sa.Column("document", sa.Text, nullable=False),
    )
    op.create_index("ix_recovery_plan_name", "recovery_plan", ["name"])
    if op.get_bind().dialect.name == "sqlite":
        # In PostgreSQL changed_record answers what changed last.
        op.create_index("ix_recovery_plan_vault_change", "recovery_plan", ["vault_id", "change"])
