"""Rows are read together, each after it was asked for."""

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa

from service_hub.domain.records import ProviderStream, Vault
from service_hub.ports.changes import NEW, Change, Save
from service_hub.store import gathered_reads
from service_hub.store.database import open_store
from service_hub.store.sqlite_store import SqliteStore


def stream(number: int, seq: int = 1) -> ProviderStream:
    return ProviderStream(id=f"p{number}", vault_id="v", stream="s", next_seq=seq)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    async with open_store(tmp_path / "hub.db") as opened:
        saves = tuple(Save(stream(number), NEW) for number in range(30))
        await opened.apply([Change(saves=saves)])
        yield opened


@pytest.fixture
def statements() -> list[str]:
    return []


def listened(store: SqliteStore, statements: list[str]) -> None:
    # How many reads there are is the matter here.
    engine = store._reader
    sa.event.listen(engine, "before_cursor_execute", lambda *call: statements.append(str(call[2])))


async def test_what_is_asked_together_is_read_together(
    store: SqliteStore, statements: list[str]
) -> None:
    listened(store, statements)
    asked = [store.get(ProviderStream, f"p{number}") for number in range(30)]
    found = await asyncio.gather(*asked, store.get(ProviderStream, "nobody"))
    assert [each and each.record.id for each in found] == [*(f"p{n}" for n in range(30)), None]
    assert sum(each.startswith("SELECT") for each in statements) <= 2


async def test_a_read_of_two_kinds_keeps_them_apart(store: SqliteStore) -> None:
    vault = Vault(
        id="p1",
        vault_id="p1",
        subscription_id="s",
        resource_group="g",
        name="n",
        location="l",
        resource_number=1,
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
    )
    await store.apply([Change(saves=(Save(vault, NEW),))])
    one, other = await asyncio.gather(store.get(Vault, "p1"), store.get(ProviderStream, "p1"))
    assert one is not None
    assert other is not None
    assert (one.record.name, other.record.stream) == ("n", "s")


async def test_what_was_committed_before_the_question_is_in_the_answer(store: SqliteStore) -> None:
    async def ask_always() -> None:
        while True:
            await store.get(ProviderStream, "p1")

    async with asyncio.TaskGroup() as group:
        readers = [group.create_task(ask_always()) for _ in range(5)]
        for seq in range(2, 30):
            await store.apply([Change(saves=(Save(stream(1, seq), None),))])
            found = await store.get(ProviderStream, "p1")
            assert found is not None
            assert found.record.next_seq == seq
        for reader in readers:
            reader.cancel()


async def test_who_gives_up_leaves_the_others_their_answer(store: SqliteStore) -> None:
    async with asyncio.TaskGroup() as group:
        asked = [group.create_task(store.get(ProviderStream, f"p{n}")) for n in range(3)]
        await asyncio.sleep(0)
        asked[0].cancel()
        async with asyncio.timeout(5):
            found = [await each for each in asked[1:]]
    assert [each and each.record.id for each in found] == ["p1", "p2"]


async def test_more_than_one_read_takes_are_still_all_answered(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gathered_reads, "IDS_MAX", 7)
    found = await asyncio.gather(*(store.get(ProviderStream, f"p{n}") for n in range(30)))
    assert all(each is not None for each in found)


async def test_a_database_that_fails_tells_everybody_who_asked_and_serves_again(
    store: SqliteStore, tmp_path: Path
) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / "hub.db")) as other:
        other.execute("ALTER TABLE provider_stream RENAME TO gone")
        answers = await asyncio.gather(
            *(store.get(ProviderStream, f"p{n}") for n in range(3)), return_exceptions=True
        )
        assert all(isinstance(each, sa.exc.OperationalError) for each in answers)
        other.execute("ALTER TABLE gone RENAME TO provider_stream")
    assert await store.get(ProviderStream, "p1") is not None
