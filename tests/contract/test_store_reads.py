"""What goes beyond one record: what changed, what is over, leases by the database's clock."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from service_hub.domain.jobs import Job, JobState
from service_hub.domain.records import (
    FabricInventory,
    MachineObservation,
    OutboxEvent,
    RequestKey,
    Vault,
)
from service_hub.ports.changes import NEW, Change, Delete, Guard, Lease, Save
from service_hub.ports.stores import Changed
from service_hub.store import postgres_writer, sqlite_writer
from service_hub.store.record_store import RecordStore
from tests.support.mapped_estate import SOURCE, furnished
from tests.support.store_world import (
    BOTH,
    NOW,
    VAULT_ID,
    began,
    event,
    job,
    opened_store,
    request_key,
    stream,
    vault,
)
from wire_contract.vmm_interface import MachineView

LEASE_SECONDS = 0.05


@pytest.fixture(params=BOTH)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[RecordStore]:
    async with opened_store(request, tmp_path, LEASE_SECONDS) as opened:
        yield opened


async def claimed(store: RecordStore, owner: str, limit: int) -> list[Lease]:
    """Claim until so many were there to be claimed."""
    got: list[Lease] = []
    async with asyncio.timeout(20):
        while len(got) < limit:
            got += await store.claim(owner, 60, limit - len(got))
            await asyncio.sleep(0.01)
    return by_job(got)


def by_job(leases: list[Lease]) -> list[Lease]:
    return sorted(leases, key=lambda lease: lease.job_id)


async def test_what_changed_since_a_number_is_told_in_order_and_once(store: RecordStore) -> None:
    await store.apply(
        [
            Change(saves=[Save(vault(), NEW), Save(vault("other", "another"), NEW)]),
            Change(saves=[Save(job("one"), NEW), Save(job("two"), NEW)]),
            Change(saves=[Save(stream("a"), NEW), Save(request_key("key", NOW), NEW)]),
            Change(saves=[Save(job("one", JobState.SUCCEEDED), 1)], events=[event("a", "e")]),
            Change(deletes=[Delete(Job, "two"), Delete(OutboxEvent, "e")]),
        ]
    )
    told = await store.changes_since(VAULT_ID, 0, 100)
    assert told == [
        Changed("vault", VAULT_ID, 1, deleted=False),
        Changed("job", "one", 4, deleted=False),
        Changed("job", "two", 5, deleted=True),
    ]
    assert await store.changes_since(VAULT_ID.lower(), 4, 100) == told[2:]
    assert await store.changes_since(VAULT_ID, 5, 100) == []
    await store.apply([Change(saves=[Save(job("two"), NEW)])])
    newest = {each.record_id: each for each in await store.changes_since(VAULT_ID, 4, 100)}
    assert newest["two"] == Changed("job", "two", 6, deleted=False)


async def test_deletions_are_not_remembered_for_ever(
    store: RecordStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for writer in (sqlite_writer, postgres_writer):
        monkeypatch.setattr(writer, "CHANGES_REMEMBERED", 3)
    await store.apply([Change(saves=[Save(job(f"j{n}"), NEW) for n in range(6)])])
    for number in range(6):
        await store.apply([Change(deletes=[Delete(Job, f"j{number}")])])
    told = await store.changes_since(VAULT_ID, 0, 100)
    assert [each.record_id for each in told] == ["j2", "j3", "j4", "j5"]


async def test_a_change_is_told_whole_whatever_the_limit(store: RecordStore) -> None:
    await store.apply(
        [
            Change(saves=[Save(job("first"), NEW)]),
            Change(saves=[Save(job(f"many-{number}"), NEW) for number in range(5)]),
            Change(saves=[Save(job("last"), NEW)]),
        ]
    )
    numbers: list[int] = []
    since = 0
    while told := await store.changes_since(VAULT_ID, since, 3):
        since = told[-1].number
        numbers += [each.number for each in told]
    assert numbers == [1, 2, 2, 2, 2, 2, 3]


async def test_jobs_that_are_over_and_old_request_keys_are_found(store: RecordStore) -> None:
    hours = [NOW + timedelta(hours=number) for number in range(4)]
    await store.apply(
        [
            Change(
                saves=[
                    *(Save(job(f"j{n}", JobState.FAILED, hours[n]), NEW) for n in (2, 0, 1)),
                    Save(job("running"), NEW),
                    *(Save(request_key(f"k{n}", hours[n]), NEW) for n in (3, 1, 0)),
                ]
            )
        ]
    )
    assert await store.finished_jobs(hours[2], 10) == ["j0", "j1"]
    assert await store.finished_jobs(hours[3], 1) == ["j0"]
    assert await store.old_request_keys(hours[3], 10) == ["k0", "k1"]
    await store.apply([Change(deletes=[Delete(RequestKey, "k0"), Delete(Job, "j0")])])
    assert await store.old_request_keys(hours[3], 10) == ["k1"]
    assert await store.finished_jobs(hours[3], 10) == ["j1", "j2"]


async def test_many_records_are_read_at_once(store: RecordStore) -> None:
    names = [f"job-{number}" for number in range(1200)]
    await store.apply([Change(saves=[Save(job(name), NEW) for name in names])])
    found = await store.get_many(Job, [*names, "nobody", "n\0"])
    assert sorted(found) == sorted(names)
    assert await store.get_many(Vault, []) == {}


async def test_a_few_records_read_together_are_as_they_were_committed(store: RecordStore) -> None:
    shown = SOURCE
    machines = [shown.model_copy(update={"machine_id": name}) for name in ("m1", "m2", "m3")]

    def seen(machine: MachineView, seconds: int) -> MachineObservation:
        return MachineObservation(
            id=f"provider/{machine.machine_id}",
            vault_id=VAULT_ID,
            provider_id="provider",
            observed_at=NOW + timedelta(seconds=seconds),
            machine=machine,
        )

    first = [seen(machine, 1) for machine in machines]
    await store.apply([Change(saves=[Save(each, NEW) for each in first])])
    names = [*(each.id for each in first), "provider/nobody"]
    for _ in range(2):  # What was parsed is kept, and is the same.
        found = await store.get_many(MachineObservation, names)
        assert {name: each.record for name, each in found.items()} == {e.id: e for e in first}
    later = seen(machines[0], 2)
    await store.apply(
        [Change(saves=[Save(later, 1)], deletes=[Delete(MachineObservation, names[1])])]
    )
    found = await store.get_many(MachineObservation, names)
    assert {name: each.version for name, each in found.items()} == {names[0]: 2, names[2]: 1}
    assert found[names[0]].record == later


async def test_a_lease_is_claimed_when_its_time_is_over_under_a_raised_fence(
    store: RecordStore,
) -> None:
    await store.apply([began(["j", "k"], "hub-1")])
    assert await claimed(store, "hub-2", 2) == [Lease("j", "hub-2", 2), Lease("k", "hub-2", 2)]
    assert await store.claim("hub-3", 60, 10) == []
    outcomes = await store.apply([Change(guards=[Guard("j", 1)]), Change(guards=[Guard("j", 2)])])
    assert [isinstance(each, int) for each in outcomes] == [False, True]


async def test_only_exactly_what_is_held_is_renewed_and_released(store: RecordStore) -> None:
    await store.apply([began(["a", "b", "c"], "hub-1")])
    held = await claimed(store, "hub-2", 2)
    assert by_job(await store.renew(held, 0.001)) == held
    # Not claimed by anybody since: still ours, though its time is over.
    await asyncio.sleep(0.02)
    assert by_job(await store.renew(held, 60)) == held
    forgotten = Lease(held[0].job_id, "hub-2", 1)
    foreign = Lease(held[1].job_id, "hub-1", 2)
    assert await store.renew([forgotten, foreign, Lease("nobody", "hub-2", 1)], 60) == []
    await store.release([forgotten, foreign])
    (third,) = await claimed(store, "hub-3", 1)
    assert third.job_id not in {each.job_id for each in held}
    await store.release(held[:1])
    assert await claimed(store, "hub-3", 1) == [Lease(held[0].job_id, "hub-3", 3)]
    assert await store.renew(held, 60) == held[1:]
    assert await store.renew([], 60) == []


async def test_claims_at_one_time_never_give_a_job_to_two(store: RecordStore) -> None:
    names = [f"job-{number}" for number in range(100)]
    await store.apply([began(names, "hub-0")])
    await asyncio.sleep(2 * LEASE_SECONDS)
    claims = await asyncio.gather(*(store.claim(f"hub-{n}", 60, 30) for n in range(1, 7)))
    given = [lease.job_id for claim in claims for lease in claim]
    assert sorted(given) == sorted(set(given))
    rest = await store.claim("hub-7", 60, 100)
    assert sorted([*given, *(lease.job_id for lease in rest)]) == sorted(names)
    assert all(len(claim) <= 30 for claim in claims)


async def test_children_are_counted_by_state(store: RecordStore) -> None:
    def child(name: str, task: str, state: JobState) -> Job:
        return job(name, state).model_copy(update={"parent_id": "Parent", "parent_task": task})

    states = [JobState.SUCCEEDED, JobState.SUCCEEDED, JobState.IN_PROGRESS]
    saves = [Save(child(f"c{n}", "Group", state), NEW) for n, state in enumerate(states)]
    other = Save(child("x", "Other", JobState.FAILED), NEW)
    await store.apply([Change(saves=[*saves, other])])
    assert await store.child_counts("parent", "group") == {
        JobState.SUCCEEDED: 2,
        JobState.IN_PROGRESS: 1,
    }
    assert await store.child_counts("nobody", "group") == {}


async def test_jobs_are_listed_newest_first_page_by_page(store: RecordStore) -> None:
    child = job("child").model_copy(update={"parent_id": "two", "parent_task": "g"})
    other = job("other").model_copy(update={"vault_id": "another"})
    await store.apply([Change(saves=[Save(job("one"), NEW)])])
    await store.apply([Change(saves=[Save(job(name), NEW) for name in ("two", "three", "four")])])
    await store.apply([Change(saves=[Save(child, NEW), Save(other, NEW), Save(job("five"), NEW)])])
    # What is saved again keeps its place.
    await store.apply([Change(saves=[Save(job("one", JobState.FAILED, NOW), 1)])])
    seen, after = [], None
    for _ in range(3):
        page = await store.listed_jobs(VAULT_ID.upper(), after, 2)
        seen.append([each.id for each in page.jobs])
        after = page.last
    assert after is None
    assert seen == [["five", "two"], ["three", "four"], ["one"]]
    assert await store.job_counts(VAULT_ID.upper()) == {
        JobState.IN_PROGRESS: 4,
        JobState.FAILED: 1,
    }
    assert await store.job_counts("nobody") == {}
    failed = await store.listed_jobs(VAULT_ID, None, 5, JobState.FAILED)
    assert [each.id for each in failed.jobs] == ["one"]
    first = await store.listed_jobs(VAULT_ID, None, 2)
    await store.apply([Change(deletes=[Delete(Job, "two")])])
    behind = await store.listed_jobs(VAULT_ID, first.last, 5)
    assert [each.id for each in behind.jobs] == ["three", "four", "one"]
    assert (await store.listed_jobs("nobody", None, 5)).jobs == []


async def test_a_record_that_is_parsed_once_is_read_anew_after_each_change(
    store: RecordStore,
) -> None:
    async def read() -> tuple[bool, int] | None:
        found = await store.get(FabricInventory, "provider")
        return None if found is None else (found.record == inventory(found.version), found.version)

    def inventory(number: int) -> FabricInventory:
        at = NOW + timedelta(seconds=number)
        return FabricInventory(
            id="provider", vault_id=VAULT_ID, observed_at=at, view=furnished("tokyo").view
        )

    assert await read() is None
    await store.apply([Change(saves=[Save(inventory(1), NEW)])])
    assert await read() == await read() == (True, 1)
    await store.apply([Change(saves=[Save(inventory(2), 1)])])
    assert await read() == (True, 2)
    await store.apply([Change(deletes=[Delete(FabricInventory, "provider")])])
    assert await read() is None
    # Made anew it has the version of the first one, and is another record.
    await store.apply([Change(saves=[Save(inventory(5), NEW)])])
    assert await read() == (False, 1)
    found = await store.get(FabricInventory, "provider")
    assert found is not None
    assert found.record == inventory(5)
