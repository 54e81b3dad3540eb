"""Backup, restore and check of each database, and of one into the other."""

import sqlite3
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest
import sqlalchemy as sa

from service_hub.database_settings import DatabaseSettings
from service_hub.domain.job_log import encode_first
from service_hub.domain.jobs import Job, JobState
from service_hub.domain.records import ProviderStream, Vault
from service_hub.ports.changes import NEW, Change, Lease, LogEntry, Message, Save
from service_hub.store import backup as file_backup
from service_hub.store import postgres_backup
from service_hub.store.checking import findings
from service_hub.store.database import open_store
from service_hub.store.errors import DatabaseInUseError, DatabaseUnusableError
from service_hub.store.postgres_connections import address
from service_hub.store.postgres_database import open_postgres_store, reading_engine
from service_hub.store.record_store import RecordStore
from service_hub.store.restoring import FENCE_STEP
from tests.support.postgres_server import PostgresServer
from tests.support.store_world import BOTH, NOW, event, job, receipt, stream, vault


@dataclass
class Database:
    """A database of either kind, with the commands that an operator has."""

    folder: Path
    settings: DatabaseSettings | None

    @property
    def file(self) -> Path:
        """The file of kind sqlite."""
        return self.folder / "hub.db"

    @asynccontextmanager
    async def open(self) -> AsyncIterator[RecordStore]:
        """Run a hub's store."""
        if self.settings is None:
            with file_backup.exclusive(self.file):
                async with open_store(self.file) as store:
                    yield store
        else:
            async with open_postgres_store(self.settings, lease_seconds=15) as shared:
                await shared.apply([Change()])
                yield shared

    async def backup(self, output: Path) -> None:
        """Write a copy."""
        if self.settings is None:
            file_backup.backup(self.file, output)
        else:
            await postgres_backup.backup(self.settings, output)

    async def restore(self, source: Path) -> int:
        """Put a copy in its place."""
        ids = (f"new-stream-{number}" for number in count())
        if self.settings is None:
            return file_backup.restore(self.file, source, lambda: next(ids))
        staged = self.folder / "restoring.db"
        restored = await postgres_backup.restore(self.settings, source, staged, lambda: next(ids))
        assert not staged.exists()
        return restored

    async def findings(self) -> list[str]:
        """Check it."""
        if self.settings is None:
            return file_backup.check(self.file)
        return await postgres_backup.check(self.settings)

    async def findings_after(self, statements: Iterable[str]) -> list[list[str]]:
        """Return what is found after each statement, which is undone again."""

        def look(connection: sa.Connection) -> list[list[str]]:
            found = []
            for statement in statements:
                connection.exec_driver_sql(statement)
                found.append(list(findings(connection)))
                connection.rollback()
            return found

        if self.settings is None:
            engine = sa.create_engine(f"sqlite:///{self.file}")
            try:
                with engine.connect() as connection:
                    return look(connection)
            finally:
                engine.dispose()
        shared = reading_engine(address(self.settings, 60))
        try:
            async with shared.connect() as line:
                return await line.run_sync(look)
        finally:
            await shared.dispose()


def made(request: pytest.FixtureRequest, kind: str, folder: Path) -> Database:
    if kind == "sqlite":
        return Database(folder, None)
    server: PostgresServer = request.getfixturevalue("postgres_server")
    told = server.settings(server.emptied_database(), folder / "password")
    return Database(folder, DatabaseSettings.model_validate(told))


@pytest.fixture(params=BOTH)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Database:
    return made(request, request.param, tmp_path)


async def fill(store: RecordStore) -> None:
    """Have two servers with events, a job that runs and one that has ended."""
    begun = job("running")
    await store.apply(
        [
            Change(saves=[Save(vault("Ä vault"), NEW)]),
            Change(saves=[Save(stream(name), NEW) for name in ("a", "B")]),
            Change(
                saves=[Save(begun, NEW), Save(job("over", JobState.SUCCEEDED, NOW), NEW)],
                begins=[Lease("running", "hub-1", 3)],
                log=[LogEntry("running", 0, NOW, encode_first(begun))],
                events=[event("a", "e1"), event("a", "e2"), event("B", "e3")],
                messages=[Message("m", "running", "{}")],
            ),
            Change(receipts=[receipt("a", 1)]),
        ]
    )


async def test_a_backup_of_a_running_hub_is_restored(database: Database, tmp_path: Path) -> None:
    output = tmp_path / "backup.db"
    async with database.open() as store:
        await fill(store)
        await database.backup(output)
        before = await store.last_number()
        await store.apply([Change(saves=[Save(job("later", JobState.FAILED, NOW), NEW)])])
    assert output.stat().st_mode & 0o777 == 0o600
    assert await database.findings() == []
    assert await database.restore(output) == 2
    assert await database.findings() == []
    async with database.open() as store:
        await found_again(store, before)


async def found_again(store: RecordStore, number: int) -> None:
    """Look for what was filled in, as a restored hub must find it."""
    assert await store.last_number() - number in {0, 1}
    assert await store.get(Job, "later") is None
    (there,) = await store.find(Vault)
    assert there.record.name == "Ä vault"
    assert [each.number for each in await store.log_of("running")] == [0]
    assert await store.messages(["running"]) == []
    streams = {each.record.id: each.record for each in await store.find(ProviderStream)}
    assert {each.stream for each in streams.values()} == {"new-stream-0", "new-stream-1"}
    assert all(each.next_seq == 1 and each.asks_again for each in streams.values())
    assert await store.events_after("a", 0, 10) == []
    assert await store.claim("hub-2", 10, 10) == [Lease("running", "hub-2", 3 + FENCE_STEP + 1)]
    outcomes = await store.apply([Change(events=[event("a", "e1")])])
    assert all(isinstance(each, int) for each in outcomes)


@pytest.mark.needs("postgresql")
@pytest.mark.parametrize(("source", "target"), [("sqlite", "postgresql"), ("postgresql", "sqlite")])
async def test_a_backup_of_one_kind_is_restored_into_the_other(
    request: pytest.FixtureRequest, tmp_path: Path, source: str, target: str
) -> None:
    output = tmp_path / "backup.db"
    (tmp_path / "target").mkdir()
    one, other = made(request, source, tmp_path), made(request, target, tmp_path / "target")
    async with one.open() as store:
        await fill(store)
        before = await store.last_number()
    await one.backup(output)
    assert await other.restore(output) == 2
    assert await other.findings() == []
    async with other.open() as store:
        await found_again(store, before)


async def test_nothing_is_restored_while_a_hub_runs(database: Database, tmp_path: Path) -> None:
    output = tmp_path / "backup.db"
    async with database.open() as store:
        await fill(store)
        await database.backup(output)
        await store.apply([Change(saves=[Save(job("later", JobState.FAILED, NOW), NEW)])])
        with pytest.raises(DatabaseInUseError, match="stop"):
            await database.restore(output)
        assert await store.get(Job, "later") is not None


async def test_what_is_no_backup_changes_nothing(database: Database, tmp_path: Path) -> None:
    async with database.open() as store:
        await fill(store)
    whole, damaged, torn = tmp_path / "whole", tmp_path / "damaged", tmp_path / "torn"
    await database.backup(whole)
    with pytest.raises(DatabaseUnusableError, match="exists"):
        await database.backup(whole)
    damaged.write_bytes(b"no database at all" * 1000)
    data = whole.read_bytes()
    torn.write_bytes(data[: len(data) // 2])
    with closing(sqlite3.connect(whole)) as connection:
        connection.execute("UPDATE provider_stream SET document = '{'")
        connection.commit()
    for unfit in (damaged, torn, whole, tmp_path / "nothing"):
        with pytest.raises(DatabaseUnusableError, match=r"backup|cannot be used"):
            await database.restore(unfit)
    assert await database.findings() == []
    async with database.open() as store:
        assert len(await store.events_after("a", 0, 10)) == 1


DAMAGE = {
    "UPDATE job SET document = '{\"id\": 1}' WHERE id = 'over'": "job over: its document",
    "UPDATE job SET state = 'failed' WHERE id = 'over'": "job over: its columns",
    "UPDATE job SET change = 999 WHERE id = 'over'": "job over: version 1, change 999",
    "DELETE FROM outbox_event WHERE id = 'e3'": "outbox of B: 0 events",
    "DELETE FROM provider_stream WHERE id = 'a'": "outbox of a: events without a stream",
    "UPDATE job_log SET number = 1": "log of job running: entry 0 is missing",
    "UPDATE job_log SET event = 'x'": "log of job running, entry 0",
    "DELETE FROM job_lease": "job running: it has not ended",
    "UPDATE job_lease SET job_id = 'over'": "lease of job over",
    "DELETE FROM change_counter": "change_counter",
    "UPDATE alembic_version SET version_num = '0003'": "database upgrade",
    "UPDATE alembic_version SET version_num = '9999'": "newer version",
}


async def test_damage_is_found(database: Database) -> None:
    async with database.open() as store:
        await fill(store)
    assert await database.findings() == []
    told = await database.findings_after(DAMAGE)
    for (statement, words), found in zip(DAMAGE.items(), told, strict=True):
        assert any(words in each for each in found), (statement, found)
    assert await database.findings() == []


async def test_a_torn_file_is_found(tmp_path: Path) -> None:
    file = tmp_path / "hub.db"
    async with open_store(file) as store:
        await fill(store)
    size = file.stat().st_size
    with file.open("r+b") as stream_of_bytes:
        stream_of_bytes.seek(size // 2)
        stream_of_bytes.write(b"\xa5" * 4096)
    assert any(each.startswith("file:") for each in file_backup.check(file))
    with pytest.raises(DatabaseUnusableError, match="there is no database"):
        file_backup.check(tmp_path / "other.db")
