"""The databases of a run: new SQLite files, and new databases of a PostgreSQL of the run's own."""

import itertools
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.channel.processes import NotMeasuredError
from service_hub.store.database import open_store
from service_hub.store.record_store import RecordStore


@dataclass(frozen=True, slots=True)
class Database:
    """Where one measurement stores what it stores."""

    kind: str
    path: str


@asynccontextmanager
async def opened(database: Database) -> AsyncIterator[RecordStore]:
    """Open the store as the hub does."""
    async with open_store(Path(database.path)) as store:
        yield store


class Databases:
    """Gives every measurement a new database."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers = itertools.count(1)

    def new(self, kind: str) -> dict[str, Any]:
        """Return a new database of the hub's, as an order names it."""
        return asdict(Database(kind, str(self._file(kind))))

    def new_url(self, kind: str) -> str:
        """Return the URL of a new database of anybody's."""
        return f"sqlite:///{self._file(kind)}"

    def _file(self, kind: str) -> Path:
        if kind != "SQLite":
            raise NotMeasuredError(f"no {kind} runs here")
        return self._folder / f"database-{next(self._numbers)}.sqlite"


@contextmanager
def databases(folder: Path) -> Iterator[Databases]:
    """Run what gives databases."""
    yield Databases(folder)
