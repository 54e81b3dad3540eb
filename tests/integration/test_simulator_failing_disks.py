"""A replica whose disks are full or fail shows it, and goes on when they do not any more."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.simulator_estate import (
    DISK_BYTES,
    MACHINE,
    REPLICA,
    Estate,
    RunningSite,
    make_estate,
)
from tests.support.simulator_steps import protect
from tests.support.small_disk import SmallDisk, small_disk
from vmm_simulator.hyperv import digests
from wire_contract.vocabulary import Health, Verb

REPLICATING, CRITICAL, COMPARING = 3, 8, 10
BLOCK = 65_536


@pytest.fixture
def estate(tmp_path: Path) -> Estate:
    return make_estate(tmp_path)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "small", 2 * sum(DISK_BYTES) // 1024) as disk:
        yield disk


def on_small_disk(estate: Estate, small: SmallDisk) -> dict[str, Any]:
    """Return osaka's inventory with the disks of its replicas on the small disk."""
    inventory: dict[str, Any] = estate.configuration("osaka")["inventory"]
    hosts = [
        {**host, "disks_directory": str(small.folder / host["fqdn"])} for host in inventory["hosts"]
    ]
    return {**inventory, "hosts": hosts}


async def failed(osaka: RunningSite, words: str) -> None:
    """Return once the replica says that it stands still for this."""
    view = await osaka.until(REPLICA, lambda each: each["replication"]["state"] == CRITICAL)
    assert words in view["replication"]["last_error"]
    assert view["replication"]["health"] == Health.CRITICAL
    assert "67501" in str(view["replication"])


async def equal(tokyo: RunningSite, osaka: RunningSite) -> None:
    """Return once the replica holds what the primary's guest wrote last."""
    await tokyo.guests[MACHINE].write(0, 0, b"the last word", 99)
    await osaka.until(REPLICA, lambda each: each["replication"]["last_cut_record"] == 99)
    view = await osaka.until(REPLICA, lambda each: each["replication"]["state"] == REPLICATING)
    assert view["replication"]["last_error"] is None
    await tokyo.done(Verb.PAUSE_REPLICATION, MACHINE)
    backend = osaka.site.fabric.hosts[osaka.site.fabric.store.machine(REPLICA).host].backend
    await backend.apply_committed(REPLICA)
    assert osaka.disks(REPLICA) == tokyo.disks(MACHINE)


async def test_a_full_disk_of_the_replica_is_state_8_until_there_is_room(
    estate: Estate, small: SmallDisk
) -> None:
    async with (
        estate.running("tokyo") as tokyo,
        estate.running("osaka", inventory=on_small_disk(estate, small)) as osaka,
    ):
        await protect(estate, tokyo, osaka)
        small.fill()
        # Its second half is a hole of the replica's disk: taking it needs room.
        await tokyo.guests[MACHINE].write(0, DISK_BYTES[0] - 4 * BLOCK, b"x" * 4 * BLOCK, 1)
        await failed(osaka, "No space left")
        # What was acknowledged is held, and nothing more is taken: the primary says so too.
        await tokyo.guests[MACHINE].write(0, 0, b"more", 2)
        view = await tokyo.until(
            MACHINE, lambda each: each["replication"]["health"] == Health.CRITICAL
        )
        assert "No space left" in view["replication"]["last_error"]
        assert view["replication"]["state"] == REPLICATING
        small.make_room()
        await equal(tokyo, osaka)


async def test_a_disk_that_cannot_be_read_is_state_8_and_the_comparison_goes_on_afterwards(
    estate: Estate, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with estate.running("tokyo") as tokyo, estate.running("osaka") as osaka:
        await protect(estate, tokyo, osaka)

        def unreadable(*_: object) -> None:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        await tokyo.done(Verb.PAUSE_REPLICATION, MACHINE)
        with monkeypatch.context() as patch:
            patch.setattr(digests, "read_exactly", unreadable)
            await tokyo.done(Verb.RESYNCHRONIZE, MACHINE)
            await failed(osaka, "Input/output error")
            view = await tokyo.until(
                MACHINE, lambda each: "Input/output error" in str(each["replication"]["last_error"])
            )
            assert view["replication"]["state"] == COMPARING
        await tokyo.until(MACHINE, lambda each: each["replication"]["state"] == REPLICATING)
        await equal(tokyo, osaka)
