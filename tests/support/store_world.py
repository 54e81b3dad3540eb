"""The hub's store in whichever database, empty, and what tests put into it."""

import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import pytest

from service_hub.database_settings import DatabaseSettings
from service_hub.domain.jobs import Job, JobState
from service_hub.domain.records import ProviderStream, RequestKey, Vault
from service_hub.ports.changes import NEW, Change, EventReceipt, Lease, LogEntry, NewEvent, Save
from service_hub.store.database import check_and_upgrade, open_store
from service_hub.store.postgres_database import open_postgres_store
from service_hub.store.record_store import RecordStore
from tests.support.postgres_server import PostgresServer
from wire_contract.vocabulary import EventType

NOW: Final = datetime(2026, 1, 1, tzinfo=UTC)
VAULT_ID: Final = "0F0F0F0F-0000-4000-8000-000000000001"

BOTH: Final = ("sqlite", pytest.param("postgresql", marks=pytest.mark.needs("postgresql")))
"""Parameters of a fixture: each database that the hub can use."""


@cache
def empty_database() -> bytes:
    """Return the file of an empty database, its tables made: quicker than making them each time."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / "hub.db"
        check_and_upgrade(file)
        with closing(sqlite3.connect(file)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return file.read_bytes()


@asynccontextmanager
async def opened_store(
    request: pytest.FixtureRequest, folder: Path, lease_seconds: float = 15.0
) -> AsyncIterator[RecordStore]:
    """Open an empty store of the kind that the fixture's parameter names."""
    if request.param == "sqlite":
        (folder / "hub.db").write_bytes(empty_database())
        async with open_store(folder / "hub.db", lease_seconds=lease_seconds) as store:
            yield store
        return
    server: PostgresServer = request.getfixturevalue("postgres_server")
    told = server.settings(server.emptied_database(), folder / "password")
    settings = DatabaseSettings.model_validate(told)
    async with open_postgres_store(settings, lease_seconds=lease_seconds) as opened:
        yield opened


def stream(name: str) -> ProviderStream:
    """Return a new stream of a provider."""
    return ProviderStream(id=name, vault_id=VAULT_ID, stream=f"stream-of-{name}")


def event(provider_id: str, name: str, filling: str = "") -> NewEvent:
    """Return an event for a provider."""
    return NewEvent(
        event_id=name,
        vault_id=VAULT_ID,
        provider_id=provider_id,
        type=EventType.REFRESH,
        issued_at=NOW,
        expires_at=NOW + timedelta(hours=1),
        body={"filling": filling},
    )


def receipt(provider_id: str, seq: int) -> EventReceipt:
    """Return a provider's receipt."""
    return EventReceipt(provider_id, f"stream-of-{provider_id}", seq, "accepted")


def vault(name: str = "vault", vault_id: str = VAULT_ID) -> Vault:
    """Return a vault."""
    return Vault(
        id=vault_id,
        vault_id=vault_id,
        subscription_id="Subscription",
        resource_group="Group",
        name=name,
        location="local",
        resource_number=1,
        created_at=NOW,
    )


def job(name: str, state: JobState = JobState.IN_PROGRESS, ended_at: datetime | None = None) -> Job:
    """Return a job without tasks."""
    return Job(
        id=name,
        vault_id=VAULT_ID,
        scenario_key="commit",
        operation=None,
        state=state,
        target_object_id="machine",
        target_object_name="machine",
        activity_id="activity",
        tasks=(),
        created_at=NOW,
        ended_at=ended_at,
    )


def request_key(name: str, created_at: datetime) -> RequestKey:
    """Return a request key."""
    return RequestKey(
        id=name, vault_id=VAULT_ID, body_digest="", job_id="job", created_at=created_at
    )


def entry(job_id: str, number: int, words: str = "{}") -> LogEntry:
    """Return an entry of a job's log."""
    return LogEntry(job_id, number, NOW + timedelta(seconds=number), words)


def began(names: Sequence[str], owner: str = "hub-1") -> Change:
    """Return the change that makes jobs, with their leases and logs."""
    return Change(
        saves=[Save(job(name), NEW) for name in names],
        begins=[Lease(name, owner, 1) for name in names],
        log=[entry(name, 0) for name in names],
    )
