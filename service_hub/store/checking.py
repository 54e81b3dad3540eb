"""Looks whether all that a database holds can be read and fits together; changes nothing."""

from collections.abc import Iterator
from typing import Any, Final

import sqlalchemy as sa
from pydantic import ValidationError

from service_hub.domain.errors import DamagedLogError
from service_hub.domain.job_log import decode, decode_first
from service_hub.domain.jobs import Job
from service_hub.domain.records import OutboxEvent, ProviderStream, Record
from service_hub.store.changed_records import wrongly_noted
from service_hub.store.schema import newer_schema, newest_schema, present_schema
from service_hub.store.tables import (
    CHANGE_COUNTER,
    JOB_LEASE,
    JOB_LOG,
    TABLES,
    searched_values,
    written_columns,
)

FINDINGS_MAX: Final = 100
"""More would say nothing new: the remedy is a backup."""

_FETCHED_AT_ONCE: Final = 500


def findings(connection: sa.Connection) -> Iterator[str]:
    """Yield what is wrong, each in a line; nothing when the database is whole."""
    present, newest = present_schema(connection), newest_schema()
    if newer_schema(connection) is not None:
        yield f"schema {present} is of a newer version: run that version of service-hub"
        return
    if present != newest:
        yield f"schema {present} is older than {newest}: run service-hub database upgrade"
        return
    if connection.dialect.name == "sqlite":
        for row in connection.exec_driver_sql(f"PRAGMA integrity_check({FINDINGS_MAX})"):
            if row[0] != "ok":
                yield f"file: {row[0]}"
    counter = connection.execute(sa.select(CHANGE_COUNTER.c.number)).scalar_one_or_none()
    if counter is None:
        yield "change_counter: its row is missing"
        return
    for kind in TABLES:
        yield from _records(connection, kind, counter)
    if connection.dialect.name == "postgresql":
        yield from wrongly_noted(connection)
    yield from _streams(connection)
    yield from _logs(connection)
    yield from _leases(connection)


def _rows(connection: sa.Connection, query: sa.Select[Any]) -> Iterator[Any]:
    yield from connection.execute(query, execution_options={"yield_per": _FETCHED_AT_ONCE})


def _records(connection: sa.Connection, kind: type[Record], counter: int) -> Iterator[str]:
    table = TABLES[kind]
    for row in _rows(connection, sa.select(*(table.c[name] for name in written_columns(kind)))):
        place = f"{kind.kind} {row.id}"
        if row.version < 1 or not 0 < row.change <= counter:
            yield f"{place}: version {row.version}, change {row.change} of {counter}"
        try:
            record = kind.model_validate_json(row.document)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            yield f"{place}: its document cannot be read ({where}: {first['msg']})"
            continue
        numbered = (record.seq,) if isinstance(record, OutboxEvent) else ()
        expected = (record.id, *searched_values(record), *numbered)
        if tuple(row[: len(expected)]) != expected:
            yield f"{place}: its columns do not say what its document says"


def _streams(connection: sa.Connection) -> Iterator[str]:
    """Numbers have no gap from what is acknowledged to the next one."""
    events, streams = TABLES[OutboxEvent], TABLES[ProviderStream]
    waiting: dict[str, list[int]] = {}
    query = sa.select(events.c.provider_id, events.c.seq)
    for row in _rows(connection, query.order_by(events.c.provider_id, events.c.seq)):
        waiting.setdefault(row.provider_id, []).append(row.seq)
    for row in _rows(connection, sa.select(streams.c.id, streams.c.document)):
        found = waiting.pop(row.id.lower(), [])
        try:
            stream = ProviderStream.model_validate_json(row.document)
        except ValidationError:
            continue  # Said among the records.
        if found != list(range(stream.acknowledged_seq + 1, stream.next_seq)):
            yield (
                f"outbox of {row.id}: {len(found)} events do not fill the numbers from"
                f" {stream.acknowledged_seq + 1} to {stream.next_seq - 1}"
            )
    for provider_id in waiting:
        yield f"outbox of {provider_id}: events without a stream"


def _logs(connection: sa.Connection) -> Iterator[str]:
    query = sa.select(JOB_LOG.c.job_id, JOB_LOG.c.number, JOB_LOG.c.event)
    job_id, following = "", 0
    for row in _rows(connection, query.order_by(JOB_LOG.c.job_id, JOB_LOG.c.number)):
        if row.job_id != job_id:
            job_id, following = row.job_id, 0
        if row.number != following:
            yield f"log of job {job_id}: entry {following} is missing"
        following = row.number + 1
        try:
            if row.number:
                decode(row.event)
            else:
                decode_first(row.event)
        except DamagedLogError as error:
            yield f"log of job {job_id}, entry {row.number}: {error}"


def _leases(connection: sa.Connection) -> Iterator[str]:
    """Every job that has not ended can be claimed; nothing else can."""
    jobs = TABLES[Job]
    over = jobs.c.state.in_(["succeeded", "failed", "cancelled"])
    query = (
        sa.select(jobs.c.id)
        .outerjoin(JOB_LEASE, JOB_LEASE.c.job_id == jobs.c.id)
        .where(~over, JOB_LEASE.c.job_id.is_(None))
    )
    for row in _rows(connection, query):
        yield f"job {row.id}: it has not ended, and nobody can claim it"
    query = (
        sa.select(JOB_LEASE.c.job_id)
        .outerjoin(jobs, JOB_LEASE.c.job_id == jobs.c.id)
        .where(jobs.c.id.is_(None) | over)
    )
    for row in _rows(connection, query):
        yield f"lease of job {row.job_id}: the job is over or gone"
