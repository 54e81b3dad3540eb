"""Opening the database: durable settings, migrations, and clear words when it cannot be used."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa

from service_hub.domain.errors import StorageUnavailableError
from service_hub.ports.surroundings import NO_FAULTS, FaultPoints
from service_hub.store.errors import DatabaseUnusableError
from service_hub.store.record_store import RecordStore
from service_hub.store.schema import bring_up_to_date, newer_schema
from service_hub.store.sqlite_store import READERS_MAX, SqliteStore
from service_hub.store.unavailable import tell_unavailable

BUSY_SECONDS_MAX: Final = 30
"""Longest a connection waits for the database's lock."""

LEASE_SECONDS: Final = 15.0
"""Default life of a job's lease (configuration: jobs.lease_seconds)."""


def _configured(connection: Any, _record: object) -> None:
    # SQLAlchemy's own transaction handling of sqlite3 would make savepoints silently useless: we
    # say BEGIN ourselves (design: engine).
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    # A plan writes the same pages again and again: with 32 MB of log instead of 4 they are brought
    # into the file less often, and 16 MB of them stay at hand.
    cursor.execute("PRAGMA wal_autocheckpoint=8000")
    cursor.execute("PRAGMA cache_size=-16384")
    cursor.execute(f"PRAGMA busy_timeout={BUSY_SECONDS_MAX * 1000}")
    cursor.close()


def _begin_writing(connection: sa.Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _begin_reading(connection: sa.Connection) -> None:
    connection.exec_driver_sql("BEGIN")


def _thread_engine(
    path: Path, connections: int, begin: Callable[[sa.Connection], None]
) -> sa.Engine:
    """Return an engine for threads of our own."""
    engine = sa.create_engine(
        f"sqlite:///{path}",
        pool_size=connections,
        max_overflow=0,
        poolclass=sa.pool.QueuePool,
        connect_args={"check_same_thread": False},
    )
    sa.event.listen(engine, "connect", _configured)
    sa.event.listen(engine, "begin", begin)
    tell_unavailable(engine)
    return engine


def check_and_upgrade(path: Path) -> None:
    """Refuse a damaged or newer database; bring an older one up to date, in one transaction."""
    engine = sa.create_engine(f"sqlite:///{path}")
    sa.event.listen(engine, "connect", _configured)
    sa.event.listen(engine, "begin", _begin_writing)
    try:
        with engine.begin() as connection:
            verdict = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar()
            if verdict != "ok":
                raise DatabaseUnusableError(_damaged(path, str(verdict)))
            newer = newer_schema(connection)
            if newer is not None:
                raise DatabaseUnusableError(
                    f"the database {path} was made by a newer version (schema {newer}): "
                    "run that version of service-hub, or restore a backup made by this one"
                )
            bring_up_to_date(connection)
    except sa.exc.DatabaseError as error:
        raise DatabaseUnusableError(_damaged(path, str(error.orig))) from error
    finally:
        engine.dispose()


def _damaged(path: Path, detail: str) -> str:
    return (
        f"the database {path} cannot be used ({detail}): check the disk and the file's owner, "
        "or restore a backup"
    )


def _store(path: Path, lease_seconds: float, faults: FaultPoints) -> SqliteStore:
    return SqliteStore(
        writer=_thread_engine(path, 1, _begin_writing),
        reader=_thread_engine(path, READERS_MAX + 1, _begin_reading),
        lease_seconds=lease_seconds,
        faults=faults,
    )


@asynccontextmanager
async def open_readers(path: Path) -> AsyncIterator[RecordStore]:
    """Open a database for reading, also while a hub uses it; raises DatabaseUnusableError.

    Its tables are taken as they are: the hub brings them up to date when it starts.
    """
    store = _store(path, LEASE_SECONDS, NO_FAULTS)
    try:
        yield store
    except sa.exc.DatabaseError as error:
        raise DatabaseUnusableError(_damaged(path, str(error.orig))) from error
    except StorageUnavailableError as error:
        raise DatabaseUnusableError(_damaged(path, error.cause)) from error
    finally:
        await store.close()


@asynccontextmanager
async def open_store(
    path: Path,
    faults: FaultPoints = NO_FAULTS,
    *,
    lease_seconds: float = LEASE_SECONDS,
    frees_leases: bool = False,
) -> AsyncIterator[SqliteStore]:
    """Open the store, its tables up to date; raises DatabaseUnusableError.

    `lease_seconds` is the life of a new job's lease. `frees_leases`: nobody else has the database
    open, so whoever held leases has ended.
    """
    await asyncio.to_thread(check_and_upgrade, path)
    store = _store(path, lease_seconds, faults)
    try:
        if frees_leases:
            await store.free_all()
        yield store
    finally:
        await store.close()
