"""Opening a PostgreSQL database: its version, its tables, clear words when it cannot be used."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import asyncpg
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from service_hub.database_settings import DatabaseSettings
from service_hub.ports.surroundings import NO_FAULTS, FaultPoints
from service_hub.store.errors import DatabaseUnusableError
from service_hub.store.postgres_connections import (
    Address,
    address,
    explained,
    first_connection,
)
from service_hub.store.postgres_store import PostgresStore
from service_hub.store.schema import bring_up_to_date, newer_schema
from service_hub.store.unavailable import tell_unavailable

READERS_MAX: Final = 4
UPGRADE_SECONDS_MAX: Final = 3600.0
UPGRADE_LOCK: Final = 0x5_1735_EC0
"""The advisory lock of migrations: hubs that start together bring the tables up to date once."""


def reading_engine(where: Address, *, seconds_max: float | None = None) -> AsyncEngine:
    """Return an engine whose transactions see one moment."""
    engine = create_async_engine(
        "postgresql+asyncpg://",
        async_creator=lambda: where.connect("reader", seconds_max=seconds_max),
        pool_size=READERS_MAX,
        max_overflow=0,
        isolation_level="REPEATABLE READ",
    )
    tell_unavailable(engine.sync_engine)
    return engine


async def check_and_upgrade(settings: DatabaseSettings, lease_seconds: float) -> Address:
    """Refuse an old server and a newer database; bring an older one up to date, once for all."""
    where = address(settings, lease_seconds)
    await (await first_connection(where)).close()
    engine = create_async_engine(
        "postgresql+asyncpg://",
        async_creator=lambda: where.connect("upgrade", seconds_max=UPGRADE_SECONDS_MAX),
        poolclass=sa.pool.NullPool,
    )
    try:
        async with engine.begin() as connection:
            await connection.execute(
                sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": UPGRADE_LOCK}
            )
            newer = await connection.run_sync(newer_schema)
            if newer is not None:
                raise DatabaseUnusableError(
                    f"the {settings.place} was made by a newer version (schema {newer}): "
                    "run that version of service-hub, or restore a backup made by this one"
                )
            await connection.run_sync(bring_up_to_date)
    except sa.exc.DBAPIError as error:
        raise DatabaseUnusableError(explained(settings, cause_of(error))) from error
    finally:
        await engine.dispose()
    return where


def cause_of(error: sa.exc.DBAPIError) -> BaseException:
    """Return asyncpg's own error below SQLAlchemy's two wrappings."""
    cause: BaseException | None = error.orig
    while cause is not None and not isinstance(cause, asyncpg.PostgresError):
        cause = cause.__cause__
    return cause or error


@asynccontextmanager
async def open_postgres_readers(settings: DatabaseSettings) -> AsyncIterator[PostgresStore]:
    """Open a database for reading, also while hubs use it; raises DatabaseUnusableError."""
    where = address(settings, lease_seconds=60.0)
    await (await first_connection(where)).close()
    store = PostgresStore(where=where, reader=reading_engine(where))
    try:
        yield store
    except sa.exc.DBAPIError as error:
        raise DatabaseUnusableError(explained(settings, cause_of(error))) from error
    finally:
        await store.close()


@asynccontextmanager
async def open_postgres_store(
    settings: DatabaseSettings, *, lease_seconds: float, faults: FaultPoints = NO_FAULTS
) -> AsyncIterator[PostgresStore]:
    """Open the store, its tables up to date, and hear hints; raises DatabaseUnusableError."""
    where = await check_and_upgrade(settings, lease_seconds)
    store = PostgresStore(where=where, reader=reading_engine(where), faults=faults)
    async with asyncio.TaskGroup() as group:
        hearing = group.create_task(store.hear())
        try:
            yield store
        finally:
            hearing.cancel()
            await store.close()
