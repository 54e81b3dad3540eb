"""The first tables: one per kind of record, and the change counter."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

SEARCHED = {
    "vault": ("subscription_id", "resource_group", "name"),
    "registration_key": ("vault_id",),
    "provider": ("vault_id", "vmm_id", "fabric_name"),
    "management_certificate": ("provider_id",),
    "provider_stream": (),
    "provider_contact": (),
    "fabric_inventory": ("vault_id",),
    "machine_observation": ("provider_id",),
    "replication_policy": ("vault_id", "name"),
    "container_mapping": ("vault_id", "primary_cloud_id", "recovery_cloud_id"),
    "protected_item": ("vault_id", "primary_provider_id", "recovery_provider_id"),
    "job": ("vault_id", "state", "item_id"),
    "outbox_event": ("provider_id",),
    "request_key": (),
}


def upgrade() -> None:
    for name, searched in SEARCHED.items():
        sequence = [sa.Column("seq", sa.Integer, nullable=False)] if name == "outbox_event" else []
        op.create_table(
            name,
            sa.Column("id", sa.Text, primary_key=True),
            *[sa.Column(column, sa.Text, nullable=False) for column in searched],
            *sequence,
            sa.Column("version", sa.Integer, nullable=False),
            sa.Column("change", sa.BigInteger, nullable=False),
            sa.Column("document", sa.Text, nullable=False),
        )
        for column in searched:
            op.create_index(f"ix_{name}_{column}", name, [column])
    op.create_index(
        "ix_outbox_event_provider_seq", "outbox_event", ["provider_id", "seq"], unique=True
    )
    op.create_table(
        "change_counter",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("number", sa.BigInteger, nullable=False),
    )
    op.execute("INSERT INTO change_counter (id, number) VALUES (1, 0)")
