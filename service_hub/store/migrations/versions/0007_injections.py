"""Events that were injected, or will be."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.create_table(
        "injection",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("vault_id", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("created", sa.BigInteger, nullable=False),
        sa.Column("change", sa.BigInteger, nullable=False),
        sa.Column("document", sa.Text, nullable=False),
    )
    op.create_index("ix_injection_state", "injection", ["state"])
    if op.get_bind().dialect.name == "sqlite":
        op.create_index("ix_injection_vault_change", "injection", ["vault_id", "change"])
