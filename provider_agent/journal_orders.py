"""The journal's table of operators' signatures: which job each was first used for."""

import sqlite3
from datetime import datetime
from typing import Final

from provider_agent.journal import Journal

# Made when first needed: a journal of a server that insists on nothing has no such table.
_TABLE: Final = """
CREATE TABLE IF NOT EXISTS operator_order (request_id TEXT PRIMARY KEY, job TEXT NOT NULL,
                                           not_after TEXT NOT NULL) WITHOUT ROWID
"""


async def claim_order(
    journal: Journal, request_id: str, job: str, not_after: datetime, now: datetime
) -> bool:
    """Bind a signature to the job that uses it first, for good; false for any other job.

    Signatures that have expired are forgotten: they are refused without being remembered.
    """

    def claim(connection: sqlite3.Connection) -> bool:
        connection.execute(_TABLE)
        connection.execute("DELETE FROM operator_order WHERE not_after <= ?", (now.isoformat(),))
        connection.execute(
            "INSERT OR IGNORE INTO operator_order VALUES (?, ?, ?)",
            (request_id, job, not_after.isoformat()),
        )
        row = connection.execute(
            "SELECT job FROM operator_order WHERE request_id = ?", (request_id,)
        ).fetchone()
        return bool(row[0] == job)

    return await journal.run(claim)
