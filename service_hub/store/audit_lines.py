"""The audit log's rows: how each gets its hash, and how they are read."""

from collections.abc import Iterable, Mapping
from typing import Final

import sqlalchemy as sa

from service_hub.domain.audit import AuditLine, AuditPlace
from service_hub.store.tables import AUDIT_LOG
from wire_contract.audit_chain import hash_of

LAST_HASH: Final = (
    "SELECT hash FROM audit_log WHERE vault_id = {} ORDER BY change DESC, position DESC LIMIT 1"
)
"""Of a vault; whoever asks holds the lock of all writers, so that no other line comes between."""

Row = tuple[int, int, str, str, str]


def chained(
    rows: Iterable[Row], last: Mapping[str, str | None]
) -> list[tuple[int, int, str, str, str, str]]:
    """Return the rows with their hashes; `last` has the hash of each vault's last line."""
    hashes = {vault: found or "" for vault, found in last.items()}
    made = []
    for row in rows:
        vault, text = row[2], row[4]
        hashes[vault] = hash_of(hashes[vault], text)
        made.append((*row, hashes[vault]))
    return made


def audit_lines(
    connection: sa.Connection, vault_id: str, after: AuditPlace | None, limit: int
) -> list[AuditLine]:
    """Return at most `limit` lines of a vault behind a place, oldest first."""
    table = AUDIT_LOG.c
    query = sa.select(AUDIT_LOG).where(table.vault_id == vault_id.lower())
    if after is not None:
        behind = sa.tuple_(table.change, table.position) > sa.tuple_(*after)
        query = query.where(behind)
    rows = connection.execute(query.order_by(table.change, table.position).limit(limit))
    return [
        AuditLine(AuditPlace(row.change, row.position), row.vault_id, row.entry, row.hash)
        for row in rows
    ]
