"""Part of the composition root: the database that the configuration names."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from service_hub.config import HubSettings
from service_hub.database_settings import DatabaseKind
from service_hub.store.backup import exclusive, make_private
from service_hub.store.database import open_readers, open_store
from service_hub.store.errors import DatabaseInUseError, DatabaseUnusableError
from service_hub.store.postgres_database import open_postgres_readers, open_postgres_store
from service_hub.store.record_store import RecordStore
from service_shell.errors import ProgramError
from service_shell.failpoints import Failpoints


def is_shared(settings: HubSettings) -> bool:
    """Whether other hubs may use the database at the same time."""
    return settings.database.kind is DatabaseKind.POSTGRESQL


def database_place(settings: HubSettings) -> str:
    """The database in words, without secrets."""
    return f"the {settings.database.place}" if is_shared(settings) else str(settings.database_file)


def database_exists(settings: HubSettings) -> bool:
    """Whether a hub has run here: without one, there is no file."""
    return is_shared(settings) or settings.database_file.exists()


@asynccontextmanager
async def open_database(settings: HubSettings, faults: Failpoints) -> AsyncIterator[RecordStore]:
    """Open the store for this hub, its tables up to date; ProgramError names what is wrong."""
    settings.data_directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    lease_seconds = settings.jobs.lease_seconds
    path = settings.database_file
    try:
        if is_shared(settings):
            async with open_postgres_store(
                settings.database, lease_seconds=lease_seconds, faults=faults
            ) as shared:
                yield shared
            return
        with exclusive(path):
            make_private(path)
            # Who held jobs in this file has ended: the lock on it says so.
            async with open_store(
                path, faults, lease_seconds=lease_seconds, frees_leases=True
            ) as store:
                yield store
    except (DatabaseUnusableError, DatabaseInUseError) as error:
        raise ProgramError(str(error)) from error


@asynccontextmanager
async def open_database_readers(settings: HubSettings) -> AsyncIterator[RecordStore]:
    """Open the database for reading, also while hubs use it; ProgramError names what is wrong."""
    try:
        if is_shared(settings):
            async with open_postgres_readers(settings.database) as shared:
                yield shared
            return
        async with open_readers(settings.database_file) as store:
            yield store
    except DatabaseUnusableError as error:
        raise ProgramError(str(error)) from error
