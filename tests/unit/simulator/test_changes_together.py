"""Changes of machines that are asked for at a moment are written together, each for itself."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import pytest

from tests.unit.simulator.test_simulator_journal import CLOUD, FABRIC, host, machine
from vmm_simulator.journal import Change, Journal
from vmm_simulator.problems import RefusedError, unknown
from vmm_simulator.store import InventoryStore
from vmm_simulator.vmm.records import MachineRecord

MACHINES = 100


class CountedJournal(Journal):
    """Counts its transactions; each waits until it may be written."""

    saves = 0
    gate: asyncio.Event

    async def save(self, changes: Sequence[Change]) -> None:
        """Save once the gate is open."""
        self.saves += 1
        await self.gate.wait()
        await super().save(changes)


def named(name: str) -> Callable[[MachineRecord], MachineRecord]:
    return lambda each: each.model_copy(update={"name": name})


def longer(each: MachineRecord) -> MachineRecord:
    return each.model_copy(update={"name": each.name + "x"})


def refused(each: MachineRecord) -> MachineRecord:
    raise unknown("adapter of machine", each.machine_id)


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[CountedJournal]:
    async with CountedJournal(tmp_path / "journal.sqlite") as opened:
        opened.gate = asyncio.Event()
        opened.gate.set()
        yield opened


@pytest.fixture
async def store(journal: CountedJournal) -> InventoryStore:
    made = InventoryStore(journal)
    machines = [machine(number, host(1)) for number in range(MACHINES)]
    await made.seed(FABRIC, [CLOUD], [host(1)], machines)
    journal.saves = 0
    return made


async def test_a_hundred_machines_take_two_transactions(
    store: InventoryStore, journal: CountedJournal
) -> None:
    changes = (store.change_machine(f"m{n}", named(f"new{n}")) for n in range(MACHINES))
    changed = await asyncio.gather(*changes)
    assert [each.name for each in changed] == [f"new{n}" for n in range(MACHINES)]
    assert journal.saves <= 2
    again = InventoryStore(journal)
    assert await again.load()
    assert again.machines == store.machines
    assert {each.name for each in again.machines.values()} == {each.name for each in changed}


async def test_what_is_refused_or_unknown_fails_alone(store: InventoryStore) -> None:
    found = await asyncio.gather(
        store.change_machine("m0", refused),
        store.change_machine("m1", named("one")),
        store.change_machine("nobody", named("two")),
        store.change_machine("m2", named("three")),
        return_exceptions=True,
    )
    assert [isinstance(each, RefusedError) for each in found] == [True, False, True, False]
    assert [store.machines[f"m{n}"].name for n in range(3)] == ["m0", "one", "three"]


async def test_changes_of_one_machine_follow_one_another(
    store: InventoryStore, journal: CountedJournal
) -> None:
    found = await asyncio.gather(*(store.change_machine("m0", longer) for _ in range(5)))
    assert [each.name for each in found] == ["m0" + "x" * n for n in range(1, 6)]
    assert journal.saves == 5


async def test_a_change_given_up_before_its_turn_never_happens(
    store: InventoryStore, journal: CountedJournal
) -> None:
    journal.gate.clear()
    first = asyncio.create_task(store.change_machine("m0", longer))
    await asyncio.sleep(0)
    waits = asyncio.create_task(store.change_machine("m0", longer))
    await asyncio.sleep(0)
    waits.cancel()
    await asyncio.wait([waits])
    journal.gate.set()
    assert (await first).name == "m0x"
    assert waits.cancelled()
    assert (await store.change_machine("m0", longer)).name == "m0xx"


async def test_a_change_given_up_while_it_is_written_has_happened_when_it_ends(
    store: InventoryStore, journal: CountedJournal
) -> None:
    journal.gate.clear()
    holder = asyncio.create_task(store.change_machine("m0", longer))
    await asyncio.sleep(0)
    asked = [asyncio.create_task(store.change_machine(f"m{n}", longer)) for n in (1, 2)]
    await asyncio.sleep(0)
    journal.gate.set()
    await holder
    journal.gate.clear()
    async with asyncio.timeout(10):
        while journal.saves < 2:
            await asyncio.sleep(0)
    asked[1].cancel()
    for _ in range(3):
        await asyncio.sleep(0)
    assert not asked[1].done()
    journal.gate.set()
    await asyncio.wait(asked)
    assert asked[1].cancelled()
    assert [store.machines[f"m{n}"].name for n in (1, 2)] == ["m1x", "m2x"]
