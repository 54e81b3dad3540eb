"""Backup of a running hub's database, and restoring one into a hub that is stopped.

A restored hub cannot know what it said after the backup: every provider gets a new stream, and is
asked again for what was open (design: channel, after a restore).
"""

import fcntl
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from service_hub.domain.records import OutboxEvent, ProviderStream
from service_hub.store.database import check_and_upgrade
from service_hub.store.errors import DatabaseInUseError, DatabaseUnusableError
from service_hub.store.tables import TABLES

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


def restore(database: Path, source: Path, new_id: Callable[[], str]) -> int:
    """Put a backup in the database's place; return how many providers got a new stream.

    The former database stays beside it as `hub.db.replaced`. Nothing is changed when this raises
    (DatabaseUnusableError, DatabaseInUseError).
    """
    if not source.exists():
        raise DatabaseUnusableError(f"there is no backup {source}: check --input")
    with exclusive(database):
        staged = database.with_name(f"{database.name}.restoring")
        _remove(staged)
        try:
            _copy(source, staged)
            check_and_upgrade(staged)
            count = _begin_streams(staged, new_id)
        except (sqlite3.Error, OSError) as error:
            _remove(staged)
            raise DatabaseUnusableError(
                f"the backup {source} cannot be used ({error}): is it a whole backup of this hub?"
            ) from error
        except DatabaseUnusableError:
            _remove(staged)
            raise
        _swap(database, staged)
        return count


def _copy(source: Path, target: Path) -> None:
    os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    with (
        closing(sqlite3.connect(f"file:{source}?mode=ro", uri=True)) as present,
        closing(sqlite3.connect(target)) as copy,
    ):
        present.backup(copy, pages=PAGES_PER_STEP)
    _sync(target)


def _begin_streams(database: Path, new_id: Callable[[], str]) -> int:
    """Give every provider a stream that begins now; what waited in the old ones is asked again."""
    engine = sa.create_engine(f"sqlite:///{database}")
    streams = TABLES[ProviderStream]
    try:
        with engine.begin() as connection:
            connection.execute(sa.delete(TABLES[OutboxEvent]))
            rows = connection.execute(sa.select(streams.c.id, streams.c.document)).all()
            for row in rows:
                stream = ProviderStream.model_validate_json(row.document)
                begun = stream.model_copy(
                    update={
                        "stream": new_id(),
                        "next_seq": 1,
                        "acknowledged_seq": 0,
                        "asks_again": True,
                    }
                )
                connection.execute(
                    sa.update(streams)
                    .where(streams.c.id == row.id)
                    .values(document=begun.model_dump_json(), version=streams.c.version + 1)
                )
        return len(rows)
    except sa.exc.DatabaseError as error:
        raise DatabaseUnusableError(f"the backup cannot be used ({error.orig})") from error
    finally:
        engine.dispose()


def _swap(database: Path, staged: Path) -> None:
    with closing(sqlite3.connect(staged)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.execute("PRAGMA journal_mode=DELETE")
    _sync(staged)
    replaced = database.with_name(f"{database.name}.replaced")
    _remove(replaced)
    for suffix in ("", *SIDE_FILES):
        part = database.with_name(database.name + suffix)
        if part.exists():
            part.rename(replaced.with_name(replaced.name + suffix))
    staged.rename(database)
    _sync(database.parent)


def _remove(database: Path) -> None:
    for suffix in ("", *SIDE_FILES):
        database.with_name(database.name + suffix).unlink(missing_ok=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
