"""Tells a database that cannot be used at this moment from a fault of the program.

A full or read-only disk, a database server that restarts, a connection that broke: nothing of what
was asked is stored, and the same may be asked again. Everything else is raised as it is.
"""

import sqlite3
from typing import Final

import sqlalchemy as sa

from service_hub.domain.errors import StorageUnavailableError

_PRIMARY_CODE: Final = 0xFF
_SQLITE_CODES: Final = frozenset(
    {
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_CANTOPEN,
    }
)
"""Primary result codes that say nothing of the file itself (sqlite.org/rescode.html)."""

_SQLITE_DAMAGED: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})

_SQLSTATE_CLASSES: Final = ("08", "53", "57P", "58")
"""Connection, resources (disk full among them), shutdown, system (postgresql.org, appendix A)."""

_SQLSTATES: Final = frozenset({"25006", "25P03", "25P04"})
"""Read-only transaction; a transaction that the server ended because it idled."""

_DISK_REMEDY: Final = "make room on its disk and see that it is writable"
_SERVER_REMEDY: Final = "see that the database server runs and can be reached"
_DAMAGED_REMEDY: Final = "stop the hub and restore a backup (service-hub database restore)"


def unavailable(error: BaseException) -> StorageUnavailableError | None:
    """Return the typed error when the database cannot be used now, else None."""
    code = getattr(error, "sqlite_errorcode", None)
    if code is not None:
        primary = code & _PRIMARY_CODE
        if primary in _SQLITE_CODES:
            return _told(error, _DISK_REMEDY)
        return _told(error, _DAMAGED_REMEDY) if primary in _SQLITE_DAMAGED else None
    state = getattr(error, "sqlstate", None)
    if state is not None:
        is_of_the_server = state.startswith(_SQLSTATE_CLASSES) or state in _SQLSTATES
        return _told(error, _SERVER_REMEDY) if is_of_the_server else None
    return _told(error, _SERVER_REMEDY) if isinstance(error, OSError) else None


def tell_unavailable(engine: sa.Engine) -> None:
    """Have the engine raise StorageUnavailableError wherever `unavailable` recognises one."""

    def handle(context: sa.engine.ExceptionContext) -> BaseException | None:
        found = unavailable(context.original_exception)
        if found is None and context.is_disconnect:
            return _told(context.original_exception, _SERVER_REMEDY)
        return found

    sa.event.listen(engine, "handle_error", handle, retval=True)


def _told(error: BaseException, remedy: str) -> StorageUnavailableError:
    cause = " ".join(str(error).split()) or type(error).__name__
    return StorageUnavailableError(cause, remedy)
