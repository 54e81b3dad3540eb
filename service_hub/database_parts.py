"""Part of the composition root: the database that the configuration names."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from service_hub.config import HubSettings
from service_hub.database_settings import DatabaseKind
from service_hub.store.backup import DatabaseInUseError, exclusive, make_private
from service_hub.store.database import DatabaseUnusableError, open_store
from service_hub.store.record_store import RecordStore
from service_shell.errors import ProgramError
from service_shell.failpoints import Failpoints


def is_shared(settings: HubSettings) -> bool:
    """Whether other hubs may use the database at the same time."""
    return settings.database.kind is DatabaseKind.POSTGRESQL


@asynccontextmanager
async def open_database(settings: HubSettings, faults: Failpoints) -> AsyncIterator[RecordStore]:
    """Open the store for this hub, its tables up to date; ProgramError names what is wrong."""
    settings.data_directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if is_shared(settings):
        raise ProgramError("database: kind postgresql is not part of this version; use kind sqlite")
    path = settings.database_file
    try:
        with exclusive(path):
            make_private(path)
            lease_seconds = settings.jobs.lease_seconds
            # Who held jobs in this file has ended: the lock on it says so.
            async with open_store(
                path, faults, lease_seconds=lease_seconds, frees_leases=True
            ) as store:
                yield store
    except (DatabaseUnusableError, DatabaseInUseError) as error:
        raise ProgramError(str(error)) from error
