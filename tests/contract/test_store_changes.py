"""Changes in a batch: each whole or not at all, in order, seen by those after it."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydantic import JsonValue

from service_hub.domain.errors import LeaseLostError, RefusedChangeError, StaleVersionError
from service_hub.domain.jobs import Job, JobState
from service_hub.domain.records import OutboxEvent, ProviderStream, Vault
from service_hub.ports.changes import NEW, Change, Delete, Guard, Lease, Message, Save
from service_hub.store.record_store import RecordStore
from tests.support.store_world import (
    BOTH,
    VAULT_ID,
    began,
    entry,
    event,
    job,
    opened_store,
    receipt,
    stream,
    vault,
)

HUB = "hub-1"


@pytest.fixture(params=BOTH)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[RecordStore]:
    async with opened_store(request, tmp_path) as opened:
        await opened.apply([Change(saves=[Save(stream(name), NEW) for name in ("a", "B")])])
        yield opened


async def sequence(store: RecordStore, provider_id: str) -> list[tuple[int, str]]:
    """Return number and id of what waits for a provider."""
    return [(each.seq, each.id) for each in await store.events_after(provider_id, 0, 1000)]


async def versions(store: RecordStore, *names: str) -> dict[str, int]:
    found = await store.get_many(Job, names)
    return {name: each.version for name, each in found.items()}


async def test_of_a_hundred_changes_the_stale_one_alone_is_undone(store: RecordStore) -> None:
    names = [f"job-{number}" for number in range(100)]
    await store.apply([Change(saves=[Save(job(name), NEW) for name in names])])

    def changed(number: int) -> Change:
        expected = 7 if number == 37 else 1
        return Change(
            saves=[Save(job(names[number], JobState.SUCCEEDED), expected)],
            events=[event("a", f"event-{number}")],
            log=[entry(names[number], 1)],
        )

    outcomes = await store.apply([changed(number) for number in range(100)])
    assert type(outcomes[37]) is StaleVersionError
    assert [each for each in outcomes if isinstance(each, int)] == list(range(3, 102))
    assert await store.last_number() == 101
    assert await versions(store, *names) == {name: 1 if name == "job-37" else 2 for name in names}
    written = await sequence(store, "a")
    assert [seq for seq, _ in written] == list(range(1, 100))
    assert [name for _, name in written] == [f"event-{n}" for n in range(100) if n != 37]
    assert not await store.log_of("job-37")
    assert [each.number for each in await store.log_of("job-38")] == [1]


async def test_changes_of_one_batch_see_each_other_in_order(store: RecordStore) -> None:
    outcomes = await store.apply(
        [
            Change(saves=[Save(job("one"), NEW)]),
            Change(saves=[Save(job("one", JobState.SUCCEEDED), 1)]),
            Change(saves=[Save(job("one", JobState.FAILED), 1)]),
            Change(deletes=[Delete(Job, "one")]),
            Change(saves=[Save(job("one"), 2)]),
            Change(saves=[Save(job("one"), NEW)], events=[event("a", "e1"), event("B", "e2")]),
            Change(saves=[Save(job("one", JobState.CANCELLED), None)], events=[event("a", "e3")]),
        ]
    )
    kinds = [int, int, StaleVersionError, int, StaleVersionError, int, int]
    assert [type(each) for each in outcomes] == kinds
    found = await store.get(Job, "one")
    assert found is not None
    assert (found.record.state, found.version) == (JobState.CANCELLED, 2)
    assert await sequence(store, "a") == [(1, "e1"), (2, "e3")]
    assert await sequence(store, "b") == [(1, "e2")]


async def test_what_a_stale_change_did_before_its_stale_part_is_undone(store: RecordStore) -> None:
    await store.apply([began(["held"])])
    stale = Change(
        saves=[Save(job("other"), NEW), Save(stream("a").model_copy(update={"stream": "x"}), 1)],
        deletes=[Delete(Job, "held")],
        events=[event("a", "lost"), event("nobody", "gone")],
    )
    outcomes = await store.apply([stale, Change(events=[event("a", "kept")])])
    assert [type(each) for each in outcomes] == [StaleVersionError, int]
    assert await versions(store, "other", "held") == {"held": 1}
    (kept,) = await store.events_after("a", 0, 10)
    assert (kept.id, kept.seq, kept.stream) == ("kept", 1, "stream-of-a")
    guarded = Change(guards=[Guard("held", 1)])
    assert await store.apply([guarded]) == [4]


async def test_an_event_that_exists_undoes_its_change_alone(store: RecordStore) -> None:
    await store.apply([Change(events=[event("a", "same")])])
    again = Change(events=[event("a", "other"), event("B", "same")], saves=[Save(job("j"), NEW)])
    after = Change(events=[event("a", "next")], saves=[Save(job("k"), NEW)])
    outcomes = await store.apply([after, again, Change(saves=[Save(job("k"), 1)])])
    assert [type(each) for each in outcomes] == [int, RefusedChangeError, int]
    assert await sequence(store, "a") == [(1, "same"), (2, "next")]
    assert not await sequence(store, "b")
    assert await versions(store, "j", "k") == {"k": 2}
    assert await store.last_number() == 4


async def test_a_log_is_appended_to_and_never_changed(store: RecordStore) -> None:
    words = json.dumps({"v": 1, "type": "Begun", "text": "Ω\0'\""})
    await store.apply([Change(log=[entry("j", 0), entry("j", 1, words)])])
    outcomes = await store.apply(
        [
            Change(log=[entry("j", 1, "other")]),
            Change(log=[entry("j", 2)]),
            Change(log=[entry("j", 2, "twice in one batch")]),
        ]
    )
    assert [isinstance(each, int) for each in outcomes] == [False, True, False]
    log = await store.log_of("j")
    assert log == [entry("j", 0), entry("j", 1, words), entry("j", 2)]
    assert [each.at for each in log] == [entry("j", n).at for n in range(3)]


async def test_a_change_is_stored_only_under_its_lease(store: RecordStore) -> None:
    assert await store.apply([began(["j", "k"])]) == [2]
    outcomes = await store.apply(
        [
            Change(guards=[Guard("j", 1)], saves=[Save(job("j"), 1)]),
            Change(guards=[Guard("j", 2)], saves=[Save(job("j"), 2)]),
            Change(guards=[Guard("k", 0)], saves=[Save(job("k"), 1)]),
            Change(guards=[Guard("nobody", 1)], saves=[Save(job("x"), NEW)]),
            Change(guards=[Guard("j", 1)], saves=[Save(job("j"), 2)], ends=["j"]),
            Change(guards=[Guard("j", 1)], saves=[Save(job("j"), 3)]),
            Change(begins=[Lease("k", HUB, 5)]),
            Change(begins=[Lease("j", HUB, 3)], guards=[]),
            Change(guards=[Guard("j", 3)], saves=[Save(job("j"), 3)]),
        ]
    )
    lost, stale = LeaseLostError, StaleVersionError
    kinds = [int, lost, lost, lost, int, lost, stale, int, int]
    assert [type(each) for each in outcomes] == kinds
    assert await versions(store, "j", "k", "x") == {"j": 4, "k": 1}


async def test_messages_wait_for_the_holder_until_they_are_taken(store: RecordStore) -> None:
    await store.apply([began(["j", "k"])])
    await store.apply(
        [
            Change(messages=[Message("m1", "j", "first"), Message("m2", "k", "second")]),
            Change(messages=[Message("m3", "j", "third"), Message("m0", "j", "fourth")]),
        ]
    )
    again = await store.apply([Change(messages=[Message("m1", "j", "told twice")])])
    assert isinstance(again[0], int)
    waiting = await store.messages(["j", "unknown"])
    assert [each.event for each in waiting] == ["first", "third", "fourth"]
    await store.apply([Change(taken=["m1", "m3", "never there"])])
    assert await store.messages(["j", "k"]) == [
        Message("m2", "k", "second"),
        Message("m0", "j", "fourth"),
    ]
    # The end of a job ends its inbox; what comes later is for nobody.
    await store.apply([Change(ends=["j"]), Change(messages=[Message("late", "j", "late")])])
    assert await store.messages(["j"]) == []


async def test_a_deleted_job_takes_its_log_lease_and_inbox_along(store: RecordStore) -> None:
    await store.apply([began(["j"]), Change(messages=[Message("m", "j", "told")])])
    await store.apply([Change(deletes=[Delete(Job, "j"), Delete(Job, "never there")])])
    assert await store.log_of("j") == []
    assert await store.messages(["j"]) == []
    (lost,) = await store.apply([Change(guards=[Guard("j", 1)])])
    assert isinstance(lost, LeaseLostError)


async def test_receipts_and_events_of_one_batch(store: RecordStore) -> None:
    await store.apply([Change(events=[event("B", f"e{n}") for n in range(1, 6)])])
    outcomes = await store.apply(
        [
            Change(receipts=[receipt("B", 2)]),
            Change(receipts=[receipt("B", 1), receipt("B", 4)]),
            Change(events=[event("B", "e6")]),
            Change(receipts=[receipt("B", 6), receipt("B", 77)]),
        ]
    )
    assert all(isinstance(each, int) for each in outcomes)
    waiting = await store.events_after("B", 0, 10)
    assert [(each.seq, each.receipt) for each in waiting] == [
        (3, None),
        (4, "accepted"),
        (5, None),
        (6, "accepted"),
    ]
    await store.apply([Change(receipts=[receipt("B", 5)])])
    await store.apply([Change(receipts=[receipt("B", 3)], events=[event("B", "e7")])])
    assert await sequence(store, "b") == [(7, "e7")]
    found = await store.get(ProviderStream, "B")
    assert found is not None
    assert (found.record.acknowledged_seq, found.record.next_seq) == (6, 8)


async def test_an_event_that_is_saved_again_keeps_its_early_receipt(store: RecordStore) -> None:
    await store.apply([Change(events=[event("a", "e1"), event("a", "e2")])])
    await store.apply([Change(receipts=[receipt("a", 2)])])
    found = await store.get(OutboxEvent, "e2")
    assert found is not None
    reported = found.record.model_copy(update={"unverifiable_reports": ("r",)})
    await store.apply([Change(saves=[Save(reported, found.version)])])
    await store.apply([Change(receipts=[receipt("a", 1)])])
    assert not await sequence(store, "a")


async def test_an_event_is_kept_as_it_was_given(store: RecordStore) -> None:
    body: dict[str, JsonValue] = {"text": 'Ω"\0', "deep": {"list": [1, 2.5, None, True]}}
    given = replace(event("B", "e"), body=body, issued_at=datetime(2026, 1, 1, 1, 2, 3, 4, UTC))
    await store.apply([Change(events=[given])])
    (read,) = await store.events_after("B", 0, 10)
    assert read == OutboxEvent(
        id="e",
        vault_id=given.vault_id,
        provider_id="B",
        stream="stream-of-B",
        seq=1,
        type=given.type,
        issued_at=given.issued_at,
        expires_at=given.expires_at,
        body=body,
    )


async def test_a_server_that_is_deleted_takes_no_events(store: RecordStore) -> None:
    outcomes = await store.apply(
        [
            Change(deletes=[Delete(ProviderStream, "a")]),
            Change(events=[event("a", "x")]),
            Change(receipts=[receipt("a", 1)]),
            Change(saves=[Save(stream("a"), NEW)], events=[event("a", "y")]),
        ]
    )
    assert [type(each) for each in outcomes] == [int, StaleVersionError, StaleVersionError, int]
    assert await sequence(store, "a") == [(1, "y")]


async def test_records_are_found_without_case_in_the_order_of_their_making(
    store: RecordStore,
) -> None:
    names = ["zulu", "Alpha", "mike"]
    ids = {name: f"{VAULT_ID}-{name}" for name in names}
    for name in names:
        await store.apply([Change(saves=[Save(vault(name, ids[name]), NEW)])])
    await store.apply([Change(saves=[Save(vault("zulu", ids["zulu"]), 1)])])
    found = await store.find(Vault, subscription_id="SUBSCRIPTION")
    assert [each.record.name for each in found] == names
    assert [each.version for each in found] == [2, 1, 1]
    (alone,) = await store.find(Vault, subscription_id="subscription", name="ALPHA")
    assert alone.record.id == ids["Alpha"]
    assert await store.find(Vault, name="nobody\0") == []
    assert await store.get(Vault, "nobody\0") is None


async def test_an_empty_batch_and_an_empty_change(store: RecordStore) -> None:
    assert await store.apply([]) == []
    assert await store.apply([Change()]) == [2]


async def test_what_a_batch_does_to_outboxes_is_told_as_it_is_stored(store: RecordStore) -> None:
    await store.apply([Change(events=[event("a", "a1")])])
    applied = await store.apply(
        [
            Change(events=[event("B", "b1"), event("a", "a2"), event("B", "b2")]),
            Change(events=[event("a", "never")], guards=[Guard("no job", 1)]),
            Change(receipts=[receipt("a", 1), receipt("B", 1)]),
            Change(events=[event("a", "a3")]),
        ]
    )
    # The first of B was acknowledged in the same transaction: nobody has to send it.
    told = [
        (each.event.provider_id, each.seq, each.event.event_id) for each in applied.stored.events
    ]
    assert sorted(told) == [("B", 2, "b2"), ("a", 2, "a2"), ("a", 3, "a3")]
    pages = await store.pages({"a": 0, "B": 0}, 10)
    streams = {each.id: each for each in applied.stored.streams}
    assert streams == {name: page.stream for name, page in pages.items()}
    for each in applied.stored.events:
        (there,) = [
            page_event
            for page_event in pages[each.event.provider_id].events
            if page_event.seq == each.seq
        ]
        assert (there.id, there.stream) == (each.event.event_id, each.stream)
