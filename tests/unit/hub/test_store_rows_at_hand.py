"""Single rows of SQLite read in the loop's thread: as committed now, and in nobody's way."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from service_hub.domain.errors import StorageUnavailableError
from service_hub.domain.records import Vault
from service_hub.ports.changes import NEW, Change, Save
from service_hub.store.database import open_store
from service_hub.store.sqlite_store import SqliteStore
from tests.support.store_world import vault


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    async with open_store(tmp_path / "hub.db") as opened:
        await opened.apply([Change(saves=[Save(vault("one", "1"), NEW)])])
        yield opened


def no_thread(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: object) -> None:
        raise AssertionError("a thread was visited")

    monkeypatch.setattr(store, "_read", fail)
    monkeypatch.setattr(store._rows, "_ask", fail)


async def test_a_row_is_read_without_a_thread_as_the_last_commit_left_it(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_thread(store, monkeypatch)
    for version in range(1, 4):
        found = await store.get(Vault, "1")
        assert found is not None
        assert found.version == version
        renamed = found.record.model_copy(update={"location": f"place {version}"})
        await store.apply([Change(saves=[Save(renamed, version)])])
        again = await store.get(Vault, "1")
        assert again is not None
        assert again.record == renamed
    assert await store.get(Vault, "2") is None


@pytest.mark.parametrize("strange", ["\0", "a\0b", "\ud800", "'", "", "x" * 100_000])
async def test_what_can_be_nobodys_id_finds_nothing(store: SqliteStore, strange: str) -> None:
    assert await store.get(Vault, strange) is None


async def test_reading_keeps_no_moment_of_the_database(store: SqliteStore, tmp_path: Path) -> None:
    """A reader that did would let the log grow for ever: it could not be brought into the file."""
    await store.get(Vault, "1")
    await store.apply([Change(saves=[Save(vault("two", "2"), NEW)])])
    with sqlite3.connect(tmp_path / "hub.db", timeout=0) as other:
        busy, _, _ = other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    other.close()
    assert busy == 0


@pytest.mark.parametrize(
    "trouble",
    [sqlite3.OperationalError("database is locked"), StorageUnavailableError("disk", "wait")],
)
async def test_what_stands_in_the_way_is_left_to_a_thread(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch, trouble: Exception
) -> None:
    def fail(*_: object) -> None:
        raise trouble

    monkeypatch.setattr(store._at_hand, "row", fail)
    found = await store.get(Vault, "1")
    assert found is not None
    assert found.record.name == "one"


async def test_others_have_their_turn_while_one_reads_again_and_again(store: SqliteStore) -> None:
    """Who waits for a record by asking for it must not keep away who is about to store it."""

    async def store_it() -> None:
        await store.apply([Change(saves=[Save(vault("two", "2"), NEW)])])

    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        group.create_task(store_it())
        while await store.get(Vault, "2") is None:
            continue
