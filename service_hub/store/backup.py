"""Backup of a running hub's database, and restoring one into a hub that is stopped.

A restored hub cannot know what it said after the backup: every provider gets a new stream, and is
asked again for what was open (design: channel, after a restore).
"""

import fcntl
import itertools
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from pydantic import ValidationError

from service_hub.store.checking import FINDINGS_MAX, findings
from service_hub.store.database import check_and_upgrade
from service_hub.store.errors import DatabaseInUseError, DatabaseUnusableError
from service_hub.store.restoring import begin_anew

SIDE_FILES: Final = ("-wal", "-shm")
PAGES_PER_STEP: Final = 1024


@contextmanager
def exclusive(database: Path) -> Iterator[None]:
    """Hold the database for one process while the block runs.

    Raises DatabaseInUseError, or DatabaseUnusableError where its folder cannot be written in.
    """
    descriptor = _open_private(database.with_suffix(".lock"))
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DatabaseInUseError(
                f"a service-hub has the database {database} open: stop it first"
            ) from error
        yield
    finally:
        os.close(descriptor)


def make_private(database: Path) -> None:
    """Let nobody but its owner read the database, which is made when it is missing.

    SQLite gives its side files the same mode. Raises DatabaseUnusableError.
    """
    descriptor = _open_private(database)
    try:
        os.fchmod(descriptor, 0o600)
    finally:
        os.close(descriptor)


def _open_private(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise DatabaseUnusableError(
            f"cannot write {path} ({error.strerror}): make room on its disk and see that it and"
            " its folder are writable for this user"
        ) from error


def backup(database: Path, output: Path) -> None:
    """Write a whole copy of the database, also while a hub uses it; the file is new and 0600."""
    if not database.exists():
        raise DatabaseUnusableError(
            f"there is no database {database}: check data_directory in the configuration"
        )
    if output.exists():
        raise DatabaseUnusableError(f"{output} exists: name a file that does not")
    try:
        _copy(database, output)
    except (sqlite3.Error, OSError) as error:
        output.unlink(missing_ok=True)
        raise DatabaseUnusableError(
            f"cannot back up {database} to {output}: {error}; check the disk and the folder"
        ) from error


def _unsafe_but_quick(connection: Any, _record: object) -> None:
    # One transaction and one fsync at its end: what is torn in between is removed.
    connection.isolation_level = None
    connection.execute("PRAGMA journal_mode=MEMORY")
    connection.execute("PRAGMA synchronous=OFF")


@contextmanager
def new_backup(output: Path) -> Iterator[sa.Connection]:
    """Open a new database file (0600) to be filled; it is on disk at the end, or gone again."""
    if output.exists():
        raise DatabaseUnusableError(f"{output} exists: name a file that does not")
    engine = sa.create_engine(f"sqlite:///{output}")
    sa.event.listen(engine, "connect", _unsafe_but_quick)
    sa.event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
    try:
        try:
            make_private(output)
            with engine.begin() as connection:
                yield connection
            sync(output)
        except (sa.exc.OperationalError, OSError) as error:
            raise DatabaseUnusableError(
                f"cannot write the backup {output}: {error}; check the disk and the folder"
            ) from error
    except BaseException:
        output.unlink(missing_ok=True)
        raise
    finally:
        engine.dispose()


def restore(database: Path, source: Path, new_id: Callable[[], str]) -> int:
    """Put a backup in the database's place; return how many providers got a new stream.

    The former database stays beside it as `hub.db.replaced`. Nothing is changed when this raises
    (DatabaseUnusableError, DatabaseInUseError).
    """
    with exclusive(database):
        staged = database.with_name(f"{database.name}.restoring")
        with staged_copy(source, staged, new_id) as count:
            _swap(database, staged)
        return count


@contextmanager
def staged_copy(source: Path, staged: Path, new_id: Callable[[], str]) -> Iterator[int]:
    """Copy a backup, bring it up to date and begin its streams; the copy is gone at the end.

    Yields how many providers got a new stream; DatabaseUnusableError when it is no whole backup.
    """
    if not source.exists():
        raise DatabaseUnusableError(f"there is no backup {source}: check --input")
    _remove(staged)
    try:
        try:
            _copy(source, staged)
            check_and_upgrade(staged)
            count = _begin_anew(staged, new_id)
        except (sqlite3.Error, OSError, ValidationError) as error:
            raise DatabaseUnusableError(
                f"the backup {source} cannot be used ({error}): is it a whole backup of this hub?"
            ) from error
        yield count
    finally:
        _remove(staged)


def _copy(source: Path, target: Path) -> None:
    os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    with (
        closing(sqlite3.connect(f"file:{source}?mode=ro", uri=True)) as present,
        closing(sqlite3.connect(target)) as copy,
    ):
        present.backup(copy, pages=PAGES_PER_STEP)
    sync(target)


def _begin_anew(database: Path, new_id: Callable[[], str]) -> int:
    engine = sa.create_engine(f"sqlite:///{database}")
    try:
        with engine.begin() as connection:
            return begin_anew(connection, new_id)
    except sa.exc.DatabaseError as error:
        raise DatabaseUnusableError(f"the backup cannot be used ({error.orig})") from error
    finally:
        engine.dispose()


def _swap(database: Path, staged: Path) -> None:
    with closing(sqlite3.connect(staged)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.execute("PRAGMA journal_mode=DELETE")
    sync(staged)
    replaced = database.with_name(f"{database.name}.replaced")
    _remove(replaced)
    for suffix in ("", *SIDE_FILES):
        part = database.with_name(database.name + suffix)
        if part.exists():
            part.rename(replaced.with_name(replaced.name + suffix))
    staged.rename(database)
    sync(database.parent)


def _remove(database: Path) -> None:
    for suffix in ("", *SIDE_FILES):
        database.with_name(database.name + suffix).unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Have a file, or what a folder lists, written to the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def check(database: Path) -> list[str]:
    """Return what is wrong with a database, also while a hub uses it; nothing when it is whole."""
    if not database.exists():
        raise DatabaseUnusableError(
            f"there is no database {database}: check data_directory in the configuration"
        )
    engine = sa.create_engine(f"sqlite:///file:{database}?mode=ro&uri=true")
    try:
        with engine.connect() as connection:
            return list(itertools.islice(findings(connection), FINDINGS_MAX))
    except sa.exc.DatabaseError as error:
        return [f"file: {error.orig}"]
    finally:
        engine.dispose()
