"""Lists of jobs page by page; what no question needs goes, since each event pays for it."""

from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.create_index("ix_job_listed", "job", ["vault_id", "parent_id", "created", "id"])
    # The index of provider and number answers the same questions.
    op.drop_index("ix_outbox_event_provider_id", "outbox_event")
