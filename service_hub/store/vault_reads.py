"""Questions that go beyond one record: what changed, what is over, how a job came about."""

import json
from collections.abc import Callable, Sequence
from datetime import datetime

import sqlalchemy as sa

from service_hub.domain.jobs import Job, JobState
from service_hub.domain.records import RequestKey, Vault
from service_hub.ports.changes import LogEntry, Message
from service_hub.ports.stores import Changed, JobPage, JobPlace
from service_hub.store.gathered_reads import AMONG
from service_hub.store.tables import (
    CHANGE_COUNTER,
    CHANGED_RECORD,
    DELETED_RECORD,
    JOB_INBOX,
    JOB_LOG,
    SHOWN,
    TABLES,
    sortable,
)


def last_number(connection: sa.Connection) -> int:
    """Return the number of the last committed change."""
    return int(connection.execute(sa.select(CHANGE_COUNTER.c.number)).scalar_one())


def changes_since(
    connection: sa.Connection, vault_id: str, number: int, limit: int
) -> list[Changed]:
    """Return what changed above a number, in order; whole changes, about `limit` records."""
    rows = _changes(connection, vault_id, lambda change: change > number, limit + 1)
    if len(rows) > limit:
        # A change is told whole: who goes on from its number must not miss a part of it.
        last = rows[-1].number
        rows = [row for row in rows if row.number < last]
        if not rows:
            rows = _changes(connection, vault_id, lambda change: change == last, None)
    return rows


def _changes(
    connection: sa.Connection,
    vault_id: str,
    wanted: Callable[[sa.Column[int]], sa.ColumnElement[bool]],
    limit: int | None,
) -> list[Changed]:
    gone = DELETED_RECORD.c
    parts = [
        sa.select(gone.kind, gone.id, gone.change, sa.literal(1).label("deleted")).where(
            gone.vault_id == vault_id.lower(), wanted(gone.change)
        )
    ]
    parts += _present(connection.dialect.name, vault_id, wanted)
    query = sa.union_all(*parts).order_by("change", "kind", "id").limit(limit)
    rows = connection.execute(query)
    return [Changed(row.kind, row.id, row.change, bool(row.deleted)) for row in rows]


def _present(
    dialect: str, vault_id: str, wanted: Callable[[sa.Column[int]], sa.ColumnElement[bool]]
) -> list[sa.Select[tuple[str, str, int, int]]]:
    """Return the questions for records that are there, as (kind, id, change, deleted)."""
    is_there = sa.literal(0).label("deleted")
    if dialect == "postgresql":
        noted = CHANGED_RECORD.c
        query = sa.select(noted.kind, noted.id, noted.change, is_there)
        return [query.where(noted.vault_id == vault_id.lower(), wanted(noted.change))]
    parts = []
    for kind in sorted(SHOWN, key=lambda kind: kind.kind):
        there = TABLES[kind].c
        mine = there.id == vault_id if kind is Vault else there.vault_id == vault_id.lower()
        name = sa.literal(kind.kind, sa.Text).label("kind")
        query = sa.select(name, there.id, there.change, is_there)
        parts.append(query.where(mine, wanted(there.change)))
    return parts


def log_of(connection: sa.Connection, job_id: str) -> list[LogEntry]:
    """Return what a job decided on, from its making on."""
    query = sa.select(JOB_LOG).where(JOB_LOG.c.job_id == job_id).order_by(JOB_LOG.c.number)
    return [
        LogEntry(row.job_id, row.number, datetime.fromisoformat(row.at), row.event)
        for row in connection.execute(query)
    ]


def messages_for(connection: sa.Connection, job_ids: Sequence[str]) -> list[Message]:
    """Return what waits in these jobs' inboxes, oldest first."""
    statement = sa.text(
        f"SELECT message_id, job_id, event FROM {JOB_INBOX.name}"  # noqa: S608 -- our own words
        f" WHERE job_id IN {AMONG[connection.dialect.name]} ORDER BY change, position, message_id"
    )
    rows = connection.execute(statement, {"wanted": json.dumps(list(job_ids))})
    return [Message(row.message_id, row.job_id, row.event) for row in rows]


def listed_jobs(
    connection: sa.Connection,
    vault_id: str,
    after: JobPlace | None,
    limit: int,
    state: JobState | None = None,
) -> JobPage:
    """Return at most `limit` jobs that are no part of another, newest first."""
    table = TABLES[Job].c
    query = sa.select(table.created, table.id, table.document).where(
        table.vault_id == vault_id.lower(), table.parent_id == ""
    )
    if state is not None:
        query = query.where(table.state == state.value.lower())
    if after is not None:
        behind = sa.tuple_(table.created, table.id) < sa.tuple_(after.created, after.job_id)
        query = query.where(behind)
    newest_first = query.order_by(table.created.desc(), table.id.desc()).limit(limit + 1)
    rows = connection.execute(newest_first).all()
    shown = rows[:limit]
    last = JobPlace(shown[-1].created, shown[-1].id) if len(rows) > limit else None
    return JobPage([Job.model_validate_json(row.document) for row in shown], last)


def job_counts(connection: sa.Connection, vault_id: str) -> dict[JobState, int]:
    """Return how many jobs of a vault that are no part of another are in each state."""
    table = TABLES[Job].c
    return _states(connection, table.vault_id == vault_id.lower(), table.parent_id == "")


def finished_jobs(connection: sa.Connection, before: datetime, limit: int) -> list[str]:
    """Return ids of jobs that ended before a moment, oldest first."""
    ended = TABLES[Job].c.ended_at
    query = (
        sa.select(TABLES[Job].c.id)
        .where(ended > "", ended < sortable(before))
        .order_by(ended, TABLES[Job].c.id)
        .limit(limit)
    )
    return list(connection.execute(query).scalars())


def old_request_keys(connection: sa.Connection, before: datetime, limit: int) -> list[str]:
    """Return ids of request keys made before a moment, oldest first."""
    made = TABLES[RequestKey].c.created_at
    query = (
        sa.select(TABLES[RequestKey].c.id)
        .where(made < sortable(before))
        .order_by(made, TABLES[RequestKey].c.id)
        .limit(limit)
    )
    return list(connection.execute(query).scalars())


def child_counts(
    connection: sa.Connection, parent_id: str, parent_task: str
) -> dict[JobState, int]:
    """Return how many child jobs of a task are in which state."""
    table = TABLES[Job].c
    return _states(
        connection,
        table.parent_id == parent_id.lower(),
        table.parent_task == parent_task.lower(),
    )


def _states(connection: sa.Connection, *conditions: sa.ColumnElement[bool]) -> dict[JobState, int]:
    state = TABLES[Job].c.state
    query = sa.select(state, sa.func.count()).where(*conditions).group_by(state)
    counts = {str(name): int(count) for name, count in connection.execute(query)}
    return {each: counts[each.lower()] for each in JobState if each.lower() in counts}
