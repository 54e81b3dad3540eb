"""Service accounts and revoked tokens."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    for table in ("service_account", "revoked_token"):
        op.create_table(
            table,
            sa.Column("id", sa.Text, primary_key=True),
            sa.Column("version", sa.Integer, nullable=False),
            sa.Column("created", sa.BigInteger, nullable=False),
            sa.Column("change", sa.BigInteger, nullable=False),
            sa.Column("document", sa.Text, nullable=False),
        )
