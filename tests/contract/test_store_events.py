"""Events are listed in pages by what is asked for, newest first, on both databases."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from service_hub.domain.replication_events import ReplicationEvent, Severity
from service_hub.ports.changes import NEW, Change, Delete, Save
from service_hub.ports.stores import EventPlace, WantedEvents
from service_hub.store.record_store import RecordStore
from tests.support.store_world import BOTH, NOW, VAULT_ID, opened_store


@pytest.fixture(params=BOTH)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[RecordStore]:
    async with opened_store(request, tmp_path) as opened:
        yield opened


def an_event(number: int, severity: Severity = "OK", provider: str = "tokyo") -> ReplicationEvent:
    return ReplicationEvent(
        id=f"e{number}",
        vault_id=VAULT_ID,
        code="SRSJobStatus",
        event_type="JobStatus",
        severity=severity,
        description="d",
        occurred_at=NOW + timedelta(hours=number),
        provider_id=provider,
        affected_name="Web01",
    )


async def listed(store: RecordStore, wanted: WantedEvents) -> list[str]:
    return [each.id for each in (await store.listed_events(wanted, None, 50)).events]


async def test_events_come_in_pages_and_by_what_is_asked(store: RecordStore) -> None:
    for number in range(5):
        severity: Severity = "Critical" if number % 2 else "OK"
        event = an_event(number, severity, "tokyo" if number < 3 else "osaka")
        await store.apply([Change(saves=[Save(event, NEW)])])
    everything, seen = WantedEvents(VAULT_ID.upper()), []
    after: EventPlace | None = None
    for _ in range(3):
        page = await store.listed_events(everything, after, 2)
        seen += [each.id for each in page.events]
        after = page.last
    assert (seen, after) == (["e4", "e3", "e2", "e1", "e0"], None)
    critical = WantedEvents(VAULT_ID, {"severity": "critical", "affected_name": "WEB01"})
    assert await listed(store, critical) == ["e3", "e1"]
    assert await listed(store, WantedEvents(VAULT_ID, provider_ids=("osaka",))) == ["e4", "e3"]
    assert await listed(store, WantedEvents(VAULT_ID, provider_ids=())) == []
    hours = [NOW + timedelta(hours=number) for number in range(5)]
    assert await listed(store, WantedEvents(VAULT_ID, begin=hours[1], end=hours[2])) == ["e2", "e1"]
    assert await listed(store, WantedEvents("another")) == []
    assert await store.old_events(hours[2], 10) == ["e0", "e1"]
    await store.apply([Change(deletes=[Delete(ReplicationEvent, "e0")])])
    assert await store.old_events(hours[2], 10) == ["e1"]
