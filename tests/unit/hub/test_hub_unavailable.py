"""Which errors of a database pass, and which are the program's own."""

import sqlite3
from pathlib import Path

import asyncpg
import pytest

from service_hub.database_settings import DatabaseKind, DatabaseSettings
from service_hub.domain.errors import StorageUnavailableError
from service_hub.store.postgres_connections import told
from service_hub.store.unavailable import unavailable


def of_sqlite(code: int, words: str) -> sqlite3.Error:
    error = sqlite3.OperationalError(words)
    error.sqlite_errorcode = code
    return error


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (of_sqlite(sqlite3.SQLITE_FULL, "database or disk is full"), "make room on its disk"),
        (of_sqlite(sqlite3.SQLITE_IOERR_WRITE, "disk I/O error"), "make room on its disk"),
        (of_sqlite(sqlite3.SQLITE_READONLY_DBMOVED, "read-only"), "see that it is writable"),
        (of_sqlite(sqlite3.SQLITE_CANTOPEN, "unable to open"), "see that it is writable"),
        (of_sqlite(sqlite3.SQLITE_CORRUPT, "malformed"), "restore a backup"),
        (asyncpg.DiskFullError("could not extend file"), "the database server"),
        (asyncpg.AdminShutdownError("terminating connection"), "the database server"),
        (asyncpg.CannotConnectNowError("starting up"), "the database server"),
        (asyncpg.ReadOnlySQLTransactionError("read-only"), "the database server"),
        (ConnectionRefusedError(111, "Connection refused"), "the database server"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_what_passes_is_told_with_its_remedy(error: Exception, remedy: str) -> None:
    found = unavailable(error)
    assert found is not None
    assert remedy in found.remedy
    assert "nothing was stored" in str(found)


@pytest.mark.parametrize(
    "error",
    [
        of_sqlite(sqlite3.SQLITE_CONSTRAINT, "UNIQUE"),
        of_sqlite(sqlite3.SQLITE_MISUSE, "misuse"),
        asyncpg.UndefinedTableError("no such table"),
        asyncpg.UniqueViolationError("twice"),
        ValueError("ours"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_is_a_fault_of_ours_stays_one(error: Exception) -> None:
    assert unavailable(error) is None


@pytest.mark.parametrize("kind", [asyncpg.InterfaceError, asyncpg.InternalClientError])
def test_a_connection_that_ended_between_two_statements_is_an_outage(
    kind: type[Exception], tmp_path: Path
) -> None:
    settings = DatabaseSettings(
        kind=DatabaseKind.POSTGRESQL, socket_directory=tmp_path, name="hub", user="hub"
    )
    assert isinstance(told(settings, kind("cannot switch to state 12")), StorageUnavailableError)
