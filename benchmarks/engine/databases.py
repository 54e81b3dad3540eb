"""The databases of a run: new SQLite files, and new databases of a PostgreSQL of the run's own."""

import itertools
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final

from benchmarks.channel.processes import NotMeasuredError
from service_hub.database_settings import DatabaseSettings
from service_hub.store.database import open_store
from service_hub.store.postgres_database import open_postgres_store
from service_hub.store.record_store import RecordStore
from tests.support.postgres_server import ROLE, PostgresServer, binaries, running_server

SQLITE: Final = "SQLite"
POSTGRESQL: Final = "PostgreSQL"


@asynccontextmanager
async def opened(
    database: dict[str, Any], *, lease_seconds: float, frees_leases: bool
) -> AsyncIterator[RecordStore]:
    """Open the store as the hub does."""
    if "file" in database:
        async with open_store(
            Path(database["file"]), lease_seconds=lease_seconds, frees_leases=frees_leases
        ) as store:
            yield store
        return
    settings = DatabaseSettings.model_validate(database)
    async with open_postgres_store(settings, lease_seconds=lease_seconds) as shared:
        yield shared


class Databases:
    """Gives every measurement a new database, as an order names it or as a URL."""

    def __init__(self, folder: Path, server: PostgresServer | None) -> None:
        self._folder = folder
        self._server = server
        self._numbers = itertools.count(1)

    def new(self, kind: str) -> dict[str, Any]:
        """Return a new database of the hub's."""
        if kind == SQLITE:
            return {"file": str(self._file())}
        server = self._running()
        return server.settings(server.create_database(), self._folder / "password")

    def new_url(self, kind: str) -> str:
        """Return the URL of a new database of anybody's."""
        if kind == SQLITE:
            return f"sqlite:///{self._file()}"
        server = self._running()
        name = server.create_database()
        return f"postgresql://{ROLE}:{server.password}@127.0.0.1:{server.port}/{name}"

    @property
    def server_version(self) -> str:
        """What the PostgreSQL calls itself, and how it is set."""
        server = self._running()
        version = server.run("SHOW server_version").split()[0]
        return f"PostgreSQL {version}, fsync=on, synchronous_commit=on"

    def _file(self) -> Path:
        return self._folder / f"database-{next(self._numbers)}.sqlite"

    def _running(self) -> PostgresServer:
        if self._server is None:
            raise NotMeasuredError("PostgreSQL is not installed: apt-get install postgresql")
        return self._server


@contextmanager
def databases(folder: Path) -> Iterator[Databases]:
    """Run what gives databases."""
    if binaries() is None:
        yield Databases(folder, None)
        return
    with running_server() as server:
        yield Databases(folder, server)
