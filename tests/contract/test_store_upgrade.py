"""A database of an earlier schema is brought up to date with what is in it, and then serves."""

import asyncio
import sqlite3
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command

from service_hub.database_settings import DatabaseSettings
from service_hub.domain.jobs import Job
from service_hub.domain.records import OutboxEvent, ProviderStream, Record, Vault
from service_hub.ports.changes import NEW, Change, EventReceipt, Save
from service_hub.ports.stores import Changed
from service_hub.store import schema
from service_hub.store.checking import findings
from service_hub.store.database import open_store
from service_hub.store.postgres_connections import address
from service_hub.store.postgres_database import open_postgres_store, reading_engine
from service_hub.store.record_store import RecordStore
from service_hub.store.tables import CHANGE_COUNTER, JOB_LEASE, TABLES, searched_values
from tests.support.postgres_server import PostgresServer
from tests.support.store_world import NOW, VAULT_ID, job, vault
from wire_contract.vocabulary import EventType

BEFORE = "0005"
NUMBER = 4

RECORDS: tuple[Record, ...] = (
    vault("Ä vault"),
    ProviderStream(id="P1", vault_id=VAULT_ID, stream="stream-of-P1", next_seq=2),
    OutboxEvent(
        id="e1",
        vault_id=VAULT_ID,
        provider_id="P1",
        stream="stream-of-P1",
        seq=1,
        type=EventType.REFRESH,
        issued_at=NOW,
        expires_at=NOW,
        body={},
    ),
    job("running"),
)


def lay_down(connection: sa.Connection) -> None:
    """Make the tables as they were, and fill them as the writers of that time did."""
    config = schema._configuration()
    config.attributes["connection"] = connection
    command.upgrade(config, BEFORE)
    for number, record in enumerate(RECORDS, 1):
        table = TABLES[type(record)]
        numbered = {"seq": record.seq, "received": 0} if isinstance(record, OutboxEvent) else {}
        searched = [name.name for name in table.c][1 : 1 + len(searched_values(record))]
        connection.execute(
            sa.insert(table).values(
                id=record.id,
                **dict(zip(searched, searched_values(record), strict=True)),
                **numbered,
                version=1,
                created=number,
                change=number,
                document=record.model_dump_json(),
            )
        )
    connection.execute(sa.update(CHANGE_COUNTER).values(number=NUMBER))
    connection.execute(
        sa.insert(JOB_LEASE).values(job_id="running", owner="", fence=1, held_until=0)
    )


async def serves(store: RecordStore) -> None:
    found = await store.get(Job, "running")
    assert found is not None
    assert (found.record, found.version) == (job("running"), 1)
    assert [each.record for each in await store.find(Vault)] == [RECORDS[0]]
    told = await store.changes_since(VAULT_ID, 0, 10)
    assert told == [
        Changed("vault", VAULT_ID, 1, deleted=False),
        Changed("job", "running", 4, deleted=False),
    ]
    touched = found.record.model_copy(update={"epoch": 7})
    outcomes = await store.apply(
        [
            Change(saves=[Save(touched, 1)]),
            Change(saves=[Save(job("new"), NEW)]),
            Change(receipts=[EventReceipt("P1", "stream-of-P1", 1, "accepted")]),
        ]
    )
    assert outcomes == [5, 6, 7]
    assert await store.changes_since(VAULT_ID, 4, 10) == [
        Changed("job", "running", 5, deleted=False),
        Changed("job", "new", 6, deleted=False),
    ]
    assert await store.find(OutboxEvent) == []
    (page,) = (await store.pages({"P1": 0}, 10)).values()
    assert page.stream.acknowledged_seq == 1


async def test_an_sqlite_database_of_the_earlier_schema(tmp_path: Path) -> None:
    file = tmp_path / "hub.db"
    engine = sa.create_engine(f"sqlite:///{file}")
    with engine.begin() as connection:
        lay_down(connection)
    engine.dispose()
    async with open_store(file) as store:
        await serves(store)
    with sqlite3.connect(file) as line:
        plan = line.execute(
            "EXPLAIN QUERY PLAN SELECT 1 FROM outbox_event WHERE provider_id = 'p1' AND seq > 1"
        ).fetchall()
    line.close()
    assert "ix_outbox_event_provider_seq" in plan[0][-1]


@pytest.mark.needs("postgresql")
async def test_a_postgresql_database_of_the_earlier_schema(
    postgres_server: PostgresServer, tmp_path: Path
) -> None:
    name = postgres_server.create_database()
    told = postgres_server.settings(name, tmp_path / "password")
    settings = DatabaseSettings.model_validate(told)
    engine = reading_engine(address(settings, lease_seconds=15.0))
    async with engine.begin() as connection:
        await connection.run_sync(lay_down)
    async with asyncio.timeout(30), open_postgres_store(settings, lease_seconds=15.0) as store:
        await serves(store)
    async with engine.connect() as connection:
        wrong = await connection.run_sync(lambda line: list(findings(line)))
    await engine.dispose()
    # The new job has no lease and was given none.
    assert wrong == ["job new: it has not ended, and nobody can claim it"]
    postgres_server.drop_database(name)


@pytest.mark.needs("postgresql")
async def test_a_change_that_is_noted_wrongly_is_found(
    postgres_server: PostgresServer, tmp_path: Path
) -> None:
    name = postgres_server.create_database()
    told = postgres_server.settings(name, tmp_path / "password")
    settings = DatabaseSettings.model_validate(told)
    async with open_postgres_store(settings, lease_seconds=15.0) as store:
        await store.apply([Change(saves=[Save(vault("v"), NEW)])])
    engine = reading_engine(address(settings, lease_seconds=15.0))
    async with engine.begin() as connection:
        assert await connection.run_sync(lambda line: list(findings(line))) == []
        await connection.execute(sa.text("UPDATE changed_record SET change = 99"))
        wrong = await connection.run_sync(lambda line: list(findings(line)))
    await engine.dispose()
    assert wrong == [f"vault {VAULT_ID}: its last change is noted wrongly"]
    postgres_server.drop_database(name)
