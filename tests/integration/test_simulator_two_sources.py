"""Two sources that claim one replica: a site and a clone of it, by turns."""

import asyncio
import shutil
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from tests.support.simulator_estate import MACHINE, REPLICA, Estate, RunningSite, make_estate
from tests.support.simulator_steps import protect
from wire_contract.vocabulary import Health, Verb

REPLICATING, CRITICAL = 3, 8

Source = Callable[[Path], AbstractAsyncContextManager[RunningSite]]


@pytest.fixture
def estate(tmp_path: Path) -> Estate:
    return make_estate(tmp_path)


async def written(tokyo: RunningSite, osaka: RunningSite, text: bytes, record: int) -> None:
    """Return once the replica holds what the guest writes now."""
    await tokyo.guests[MACHINE].write(0, 0, text, record)
    await osaka.until(REPLICA, lambda each: each["replication"]["last_cut_record"] == record)


async def refused(tokyo: RunningSite) -> None:
    """Return once the source stands still because of the other one."""
    view = await tokyo.until(MACHINE, lambda each: each["replication"]["state"] == CRITICAL)
    assert "another source claims the same replica" in view["replication"]["last_error"]
    assert view["replication"]["health"] == Health.CRITICAL


async def started(tokyo: RunningSite) -> None:
    await tokyo.done(Verb.CONFIRM_EPOCH, MACHINE, {"authoritative": True, "item": "item-1"})
    await tokyo.done(Verb.START, MACHINE)


def places(estate: Estate, tmp_path: Path) -> tuple[Path, Path, Source]:
    """Return where the source is, where its clone will be, and what runs one of them."""

    def source(folder: Path) -> AbstractAsyncContextManager[RunningSite]:
        return estate.running("tokyo", data_directory=str(folder))

    return tmp_path / "tokyo" / "vmm", tmp_path / "clone", source


async def test_the_second_of_two_sources_is_refused_until_it_is_chosen(
    estate: Estate, tmp_path: Path
) -> None:
    place, clone, source = places(estate, tmp_path)
    async with estate.running("osaka") as osaka:
        async with source(place) as tokyo:
            await protect(estate, tokyo, osaka)
            await written(tokyo, osaka, b"of the one", 1)
        shutil.copytree(place, clone)
        async with source(place) as tokyo:
            await started(tokyo)
            await written(tokyo, osaka, b"the one goes on", 2)
        async with source(clone) as copied:
            await started(copied)
            await copied.guests[MACHINE].write(0, 4096, b"of the clone", 3)
            await refused(copied)
            # Trying again is no choice.
            await copied.done(Verb.RESUME_REPLICATION, MACHINE)
            await refused(copied)
            held = (await osaka.machine(REPLICA))["replication"]
            assert (held["state"], held["last_cut_record"]) == (REPLICATING, 2)
            # An administrator chooses the clone: it is compared, and goes on.
            await copied.done(Verb.RESYNCHRONIZE, MACHINE)
            await copied.until(MACHINE, lambda each: each["replication"]["state"] == REPLICATING)
            await written(copied, osaka, b"the clone goes on", 4)
        async with source(place) as tokyo:
            await started(tokyo)
            await refused(tokyo)
            assert (await osaka.machine(REPLICA))["replication"]["last_cut_record"] == 4


async def test_a_clone_made_during_a_transfer_that_arrived_is_told_apart(
    estate: Estate, tmp_path: Path
) -> None:
    place, clone, source = places(estate, tmp_path)
    async with estate.running("osaka") as osaka:
        async with source(place) as tokyo:
            await protect(estate, tokyo, osaka)
            backend = tokyo.site.fabric.hosts[estate.fqdns("tokyo")[0]].backend
            send = backend.send

            async def copied_on_the_way(*arguments: Any) -> Any:
                if not clone.exists():
                    await asyncio.to_thread(shutil.copytree, place, clone)
                return await send(*arguments)

            backend.send = copied_on_the_way  # type: ignore[method-assign, assignment]
            await written(tokyo, osaka, b"on its way", 1)
        async with source(clone) as copied:
            await started(copied)
            await copied.guests[MACHINE].write(0, 4096, b"of the clone", 2)
            await refused(copied)
            assert (await osaka.machine(REPLICA))["replication"]["last_cut_record"] == 1
        async with source(place) as tokyo:
            await started(tokyo)
            await written(tokyo, osaka, b"the one goes on", 3)


async def test_a_clone_that_is_first_to_send_is_refused_all_the_same(
    estate: Estate, tmp_path: Path
) -> None:
    place, clone, source = places(estate, tmp_path)
    async with estate.running("osaka") as osaka:
        async with source(place) as tokyo:
            await protect(estate, tokyo, osaka)
            await written(tokyo, osaka, b"of the one", 1)
        shutil.copytree(place, clone)
        async with source(clone) as copied:
            await started(copied)
            await copied.guests[MACHINE].write(0, 4096, b"of the clone", 2)
            await refused(copied)
            await copied.done(Verb.RESYNCHRONIZE, MACHINE)
            await copied.until(MACHINE, lambda each: each["replication"]["state"] == REPLICATING)
            await written(copied, osaka, b"the clone was chosen", 3)
