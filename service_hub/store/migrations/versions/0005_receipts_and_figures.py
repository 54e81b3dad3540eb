"""Receipts of tasks, figures over time, usual durations, and whose turn it is to archive."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

SEARCHED = {
    "task_receipt": ("job_id",),
    "figure_chunk": ("series",),
    "usual_duration": (),
    "learning_place": (),
    "archive_turn": (),
}


def upgrade() -> None:
    for name, searched in SEARCHED.items():
        op.create_table(
            name,
            sa.Column("id", sa.Text, primary_key=True),
            *[sa.Column(column, sa.Text, nullable=False) for column in searched],
            sa.Column("version", sa.Integer, nullable=False),
            sa.Column("created", sa.BigInteger, nullable=False),
            sa.Column("change", sa.BigInteger, nullable=False),
            sa.Column("document", sa.Text, nullable=False),
        )
        for column in searched:
            op.create_index(f"ix_{name}_{column}", name, [column])
