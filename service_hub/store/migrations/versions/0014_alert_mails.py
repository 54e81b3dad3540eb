"""Alert settings of vaults, and the letters that follow from them."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    for table, searched in (("alert_settings", ()), ("alert_mail", ("of_vault", "state"))):
        op.create_table(
            table,
            sa.Column("id", sa.Text, primary_key=True),
            *(sa.Column(name, sa.Text, nullable=False) for name in searched),
            sa.Column("version", sa.Integer, nullable=False),
            sa.Column("created", sa.BigInteger, nullable=False),
            sa.Column("change", sa.BigInteger, nullable=False),
            sa.Column("document", sa.Text, nullable=False),
        )
        for name in searched:
            op.create_index(f"ix_{table}_{name}", table, [name])
