"""What becomes of a backup before a hub may go on with it: nothing it said since is known to it."""

from collections.abc import Callable
from typing import Final

import sqlalchemy as sa

from service_hub.domain.records import OutboxEvent, ProviderStream
from service_hub.store.tables import JOB_INBOX, JOB_LEASE, TABLES

FENCE_STEP: Final = 1_000
"""Raised by this much, a fence is above all that were given after the backup."""


def begin_anew(connection: sa.Connection, new_id: Callable[[], str]) -> int:
    """Give every provider a stream that begins now; return how many there are.

    What waited in the old ones is asked again when the provider comes. Leases are free, and what
    lay in inboxes is told again with the answers.
    """
    connection.execute(sa.delete(TABLES[OutboxEvent]))
    connection.execute(sa.delete(JOB_INBOX))
    freed = {"owner": "", "held_until": 0, "fence": JOB_LEASE.c.fence + FENCE_STEP}
    connection.execute(sa.update(JOB_LEASE).values(freed))
    streams = TABLES[ProviderStream]
    rows = connection.execute(sa.select(streams.c.id, streams.c.document)).all()
    for row in rows:
        stream = ProviderStream.model_validate_json(row.document)
        begun = stream.model_copy(
            update={
                "stream": new_id(),
                "next_seq": 1,
                "acknowledged_seq": 0,
                "asks_again": True,
            }
        )
        connection.execute(
            sa.update(streams)
            .where(streams.c.id == row.id)
            .values(document=begun.model_dump_json(), version=streams.c.version + 1)
        )
    return len(rows)
