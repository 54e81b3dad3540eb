"""Events in the real database: numbered, read and acknowledged for many providers at once."""

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from service_hub.domain.errors import StaleVersionError
from service_hub.domain.records import ProviderStream
from service_hub.ports.changes import NEW, Change, EventReceipt, NewEvent, Save
from service_hub.store import outbox_reads
from service_hub.store.database import open_store
from service_hub.store.sqlite_store import SqliteStore
from wire_contract.vocabulary import EventType

NOW = datetime(2026, 1, 1, tzinfo=UTC)
NAMES = [f"Site-{number:03}" for number in range(600)]
"""More than one question of ids takes; capital letters: events are found by lower case."""


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    async with open_store(tmp_path / "hub.db") as opened:
        streams = [
            ProviderStream(id=name, vault_id="v", stream=f"stream-of-{name}") for name in NAMES
        ]
        await opened.apply([Change(saves=[Save(stream, NEW) for stream in streams])])
        yield opened


def event(provider_id: str, name: str, filling: str = "") -> NewEvent:
    return NewEvent(
        event_id=name,
        vault_id="v",
        provider_id=provider_id,
        type=EventType.REFRESH,
        issued_at=NOW,
        expires_at=NOW + timedelta(hours=1),
        body={"filling": filling},
    )


def three_each(names: Sequence[str], filling: str = "") -> Change:
    return Change(
        events=[event(name, f"{name}/{seq}", filling) for seq in (1, 2, 3) for name in names]
    )


async def numbers(store: SqliteStore, after: dict[str, int], limit: int) -> dict[str, list[int]]:
    """Return which numbers are read of whom."""
    pages = await store.pages(after, limit)
    return {name: [event.seq for event in page.events] for name, page in pages.items()}


async def test_many_events_of_one_change_are_numbered_without_gaps(store: SqliteStore) -> None:
    assert await store.apply([three_each(NAMES)]) == [2]
    assert await numbers(store, dict.fromkeys(NAMES, 0), 10) == {name: [1, 2, 3] for name in NAMES}
    pages = await store.pages({NAMES[7]: 1}, 1)
    (read,) = pages[NAMES[7]].events
    assert (read.id, read.stream) == (f"{NAMES[7]}/2", f"stream-of-{NAMES[7]}")
    assert pages[NAMES[7]].stream.next_seq == 4


async def test_places_that_differ_are_read_together(store: SqliteStore) -> None:
    await store.apply([three_each(NAMES[:4])])
    wanted = {NAMES[0]: 0, NAMES[1]: 2, NAMES[2]: 3, NAMES[3]: 99, NAMES[4]: 0, "nobody": 0}
    assert await numbers(store, wanted, 2) == {
        NAMES[0]: [1, 2],
        NAMES[1]: [3],
        NAMES[2]: [],
        NAMES[3]: [],
        NAMES[4]: [],
    }
    assert await numbers(store, wanted, 0) == {name: [] for name in NAMES[:5]}


async def test_an_event_for_a_server_that_is_gone_undoes_its_change_alone(
    store: SqliteStore,
) -> None:
    bad = Change(events=[event(NAMES[0], "x"), event("nobody", "y")])
    twice = Change(events=[event(NAMES[0], "same"), event(NAMES[1], "same")])
    outcomes = await store.apply([bad, twice, three_each(NAMES[:1])])
    assert [type(each) for each in outcomes] == [StaleVersionError, StaleVersionError, int]
    assert await numbers(store, {NAMES[0]: 0}, 10) == {NAMES[0]: [1, 2, 3]}


async def test_receipts_out_of_order_and_in_one_change_are_acknowledged(
    store: SqliteStore,
) -> None:
    names = NAMES[:3]
    await store.apply([three_each(names)])

    def receipts(*told: tuple[str, int]) -> Change:
        return Change(
            receipts=[
                EventReceipt(name, f"stream-of-{name}", seq, "accepted") for name, seq in told
            ]
        )

    first, second, third = names
    await store.apply([receipts((first, 3), (second, 2), (second, 1), (third, 77))])
    foreign = EventReceipt(third, "another stream", 1, "accepted")
    await store.apply([Change(receipts=[foreign])])
    places = {
        name: page.stream.acknowledged_seq
        for name, page in (await store.pages(dict.fromkeys(names, 0), 0)).items()
    }
    assert places == {first: 0, second: 2, third: 0}
    # The third has its receipt already, and goes with the others.
    await store.apply([receipts((first, 1)), receipts((first, 2), (second, 2))])
    pages = await store.pages(dict.fromkeys(names, 0), 10)
    assert pages[first].stream.acknowledged_seq == 3
    assert {name: [each.seq for each in page.events] for name, page in pages.items()} == {
        first: [],
        second: [3],
        third: [1, 2, 3],
    }


async def test_what_is_too_much_for_one_read_is_left_out_whole(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.apply([three_each(NAMES[:5], "x" * 1_000)])
    monkeypatch.setattr(outbox_reads, "READ_BYTES_MAX", 10_000)
    asked, rounds = dict.fromkeys(NAMES[:6], 0), 0
    while asked:
        found = await numbers(store, asked, 10)
        rounds += 1
        assert all(each in ([1, 2, 3], []) for each in found.values())
        asked = {name: 0 for name in asked if name not in found}
        assert rounds <= 6
    assert rounds > 1
    # One provider alone is always served, with what fits.
    monkeypatch.setattr(outbox_reads, "READ_BYTES_MAX", 2_000)
    assert await numbers(store, {NAMES[0]: 0}, 10) == {NAMES[0]: [1]}


async def test_statements_do_not_grow_with_the_providers(store: SqliteStore) -> None:
    counts = []
    for number, names in enumerate((NAMES[:1], NAMES[:400])):
        told: list[str] = []

        def note(*arguments: object, told: list[str] = told) -> None:
            told.append(str(arguments[2]))

        for engine in (store._writer, store._reader):
            sa.event.listen(engine, "before_cursor_execute", note)
        await store.apply([Change(events=[event(name, f"{name}/{number}") for name in names])])
        await store.pages(dict.fromkeys(names, 0), 10)
        for engine in (store._writer, store._reader):
            sa.event.remove(engine, "before_cursor_execute", note)
        counts.append(len(told))
    assert counts[0] == counts[1]
