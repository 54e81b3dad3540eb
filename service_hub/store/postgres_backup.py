"""Backup of a PostgreSQL database while hubs use it, and restoring one when they are stopped.

A backup is the same file as that of a hub with a database of its own: an SQLite database with the
same tables, copied row by row out of one moment (REPEATABLE READ). Not pg_dump: its file needs
tools of the server's version on the hub's machine, cannot be looked into without a server, and
ties a backup to the kind of database; this one restores into either.
"""

import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from service_hub.database_settings import DatabaseSettings
from service_hub.store.backup import new_backup, staged_copy
from service_hub.store.changed_records import note_all
from service_hub.store.checking import FINDINGS_MAX, findings
from service_hub.store.errors import DatabaseInUseError, DatabaseUnusableError
from service_hub.store.postgres_connections import address, explained, first_connection
from service_hub.store.postgres_database import (
    UPGRADE_LOCK,
    cause_of,
    check_and_upgrade,
    reading_engine,
)
from service_hub.store.schema import bring_up_to_date, newest_schema, present_schema
from service_hub.store.tables import METADATA

ROWS_AT_ONCE: Final = 500
STATEMENT_SECONDS_MAX: Final = 3600.0
IDLE_SECONDS_MAX: Final = 600.0
"""How long our own disk may hold the copying up before the server gives up on us."""

_HUBS: Final = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database()
      AND application_name IN ('service-hub bell', 'service-hub writer')
"""


@asynccontextmanager
async def _one_moment(settings: DatabaseSettings) -> AsyncIterator[AsyncConnection]:
    where = address(settings, lease_seconds=3 * IDLE_SECONDS_MAX)
    await (await first_connection(where)).close()
    engine = reading_engine(where, seconds_max=STATEMENT_SECONDS_MAX)
    try:
        async with engine.connect() as connection:
            yield connection
    except sa.exc.DBAPIError as error:
        raise DatabaseUnusableError(explained(settings, cause_of(error))) from error
    finally:
        await engine.dispose()


async def check(settings: DatabaseSettings) -> list[str]:
    """Return what is wrong with the database; nothing when it is whole."""

    def look(connection: sa.Connection) -> list[str]:
        return list(itertools.islice(findings(connection), FINDINGS_MAX))

    async with _one_moment(settings) as connection:
        return await connection.run_sync(look)


async def backup(settings: DatabaseSettings, output: Path) -> None:
    """Write a whole copy of the database, also while hubs use it; the file is new and 0600."""
    async with _one_moment(settings) as connection:
        present = await connection.run_sync(present_schema)
        if present != newest_schema():
            raise DatabaseUnusableError(
                f"the {settings.place} has schema {present}, this program writes"
                f" {newest_schema()}: run service-hub database upgrade first"
            )
        with new_backup(output) as file:
            bring_up_to_date(file)
            _empty(file)
            await connection.run_sync(lambda source: _copy(source, file))


async def restore(
    settings: DatabaseSettings, source: Path, staged: Path, new_id: Callable[[], str]
) -> int:
    """Put a backup in the place of all tables; return how many providers got a new stream.

    All of it in one transaction: nothing is changed when this raises (DatabaseUnusableError,
    DatabaseInUseError).
    """
    with staged_copy(source, staged, new_id) as count:
        where = await check_and_upgrade(settings, lease_seconds=3 * IDLE_SECONDS_MAX)
        engine = reading_engine(where, seconds_max=STATEMENT_SECONDS_MAX)
        file_engine = sa.create_engine(f"sqlite:///{staged}")
        try:
            async with engine.begin() as connection:
                await _alone(connection, settings)
                with file_engine.connect() as file:
                    await connection.run_sync(lambda target: _replace(file, target))
        except sa.exc.DBAPIError as error:
            raise DatabaseUnusableError(explained(settings, cause_of(error))) from error
        finally:
            file_engine.dispose()
            await engine.dispose()
        return count


async def _alone(connection: AsyncConnection, settings: DatabaseSettings) -> None:
    """Hold the lock that hubs take when they start; DatabaseInUseError while one runs."""
    await connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": UPGRADE_LOCK})
    hubs = (await connection.execute(sa.text(_HUBS))).scalar_one()
    if hubs:
        raise DatabaseInUseError(
            f"a service-hub has the {settings.place} open ({hubs} connections): stop every hub of"
            " this database first"
        )


def _replace(source: sa.Connection, target: sa.Connection) -> None:
    _empty(target)
    _copy(source, target)
    note_all(target)


def _empty(target: sa.Connection) -> None:
    for table in METADATA.sorted_tables:
        target.execute(sa.delete(table))


def _copy(source: sa.Connection, target: sa.Connection) -> None:
    """Copy all rows of all tables."""
    options = {"yield_per": ROWS_AT_ONCE}
    for table in METADATA.sorted_tables:
        for rows in source.execute(sa.select(table), execution_options=options).partitions():
            target.execute(sa.insert(table), [row._asdict() for row in rows])
