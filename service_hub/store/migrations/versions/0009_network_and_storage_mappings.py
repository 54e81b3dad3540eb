"""What operators mapped: networks and storage classifications of one server to another's."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"

KINDS = ("network_mapping", "storage_mapping")
SEARCHED = ("vault_id", "primary_provider_id", "recovery_provider_id")


def upgrade() -> None:
    for name in KINDS:
        op.create_table(
            name,
            sa.Column("id", sa.Text, primary_key=True),
            *[sa.Column(column, sa.Text, nullable=False) for column in SEARCHED],
            sa.Column("version", sa.Integer, nullable=False),
            sa.Column("created", sa.BigInteger, nullable=False),
            sa.Column("change", sa.BigInteger, nullable=False),
            sa.Column("document", sa.Text, nullable=False),
        )
        for column in SEARCHED[1:]:
            op.create_index(f"ix_{name}_{column}", name, [column])
        if op.get_bind().dialect.name == "sqlite":
            op.create_index(f"ix_{name}_vault_change", name, ["vault_id", "change"])
