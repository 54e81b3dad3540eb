"""Reversing where the old disks are there: changes move, and no other copy.

After an unplanned failover the two are compared: what crosses the wire is counted in front of the
former primary's replication port. What a comparison that is broken off moves again is measured in
tests/contract/test_replication_comparisons.py.
"""

from pathlib import Path
from typing import Any

import pytest

from tests.support.relay import Relay
from tests.support.simulator_estate import (
    DISK_BYTES,
    MACHINE,
    PORT,
    REPLICA,
    Estate,
    RunningSite,
)
from tests.support.simulator_estate import make_estate as made
from tests.support.simulator_steps import digest, fail_over_planned, protect, reverse
from wire_contract.vocabulary import Verb

BLOCK = 65_536
CHANGES_BYTES_MAX = 4 * BLOCK
"""Of one changed block: what a cycle sends beside it is small."""

FULL_BYTES = sum(DISK_BYTES) // 4
"""Far less than a first copy, whose random half does not shrink, and far more than a change."""


@pytest.fixture
def estate(tmp_path: Path) -> Estate:
    return made(tmp_path)


async def moved_by_a_block(site: RunningSite, machine: str, record: int) -> int:
    """Change one block at the primary; the bytes that it had sent of it once that is there."""
    await site.guests[MACHINE].write(0, 2 * BLOCK, b"one block", record)
    view = await site.until(
        machine,
        lambda view: (
            view["replication"]["state"] == 3 and view["replication"]["last_cut_record"] >= record
        ),
    )
    return int(view["replication"]["transferred_bytes"])


async def sent(site: RunningSite, machine: str) -> int:
    """Return how many bytes a copy has sent, in all relationships of its life."""
    return int((await site.machine(machine))["replication"]["transferred_bytes"])


async def host_of(site: RunningSite, machine: str) -> str:
    """Return where a copy lies."""
    return str((await site.machine(machine))["host"])


async def test_there_and_back_again_moves_changes_alone(estate: Estate) -> None:
    assert CHANGES_BYTES_MAX < FULL_BYTES
    async with estate.both() as (tokyo, osaka):
        await protect(estate, tokyo, osaka)
        assert await sent(tokyo, MACHINE) > FULL_BYTES, "the first copy was a whole one"
        await fail_over_planned(tokyo, osaka)
        await osaka.done(Verb.START, REPLICA, epoch=2)
        before = await sent(osaka, REPLICA)
        await reverse(
            (osaka, REPLICA),
            (tokyo, MACHINE),
            primary_host=await host_of(osaka, REPLICA),
            resynchronize=False,
            epoch=2,
        )
        moved = await moved_by_a_block(osaka, REPLICA, 500) - before
        assert 0 < moved < CHANGES_BYTES_MAX, "reversed: changes alone"

        # The failback: planned, in the other direction.
        await osaka.done(Verb.SHUT_DOWN, REPLICA, {"seconds": 30}, epoch=2)
        prepared = await osaka.done(Verb.PREPARE_FAILOVER, REPLICA, epoch=2)
        back = {"planned": True, "expected_cut": prepared["last_cut"], "recovery_point": None}
        await tokyo.done(Verb.FAIL_OVER, MACHINE, back, epoch=3)
        assert digest(tokyo.disks(MACHINE)) == digest(osaka.disks(REPLICA))
        await tokyo.done(Verb.START, MACHINE, epoch=3)
        before = await sent(tokyo, MACHINE)
        await reverse(
            (tokyo, MACHINE),
            (osaka, REPLICA),
            primary_host=await host_of(tokyo, MACHINE),
            resynchronize=False,
            epoch=3,
            relationship_id="relationship-3",
        )
        moved = await moved_by_a_block(tokyo, MACHINE, 900) - before
        assert 0 < moved < CHANGES_BYTES_MAX, "reversed again: changes alone"
        await tokyo.done(Verb.SHUT_DOWN, MACHINE, {"seconds": 30}, epoch=3)
        await tokyo.done(Verb.PREPARE_FAILOVER, MACHINE, epoch=3)
        assert digest(tokyo.disks(MACHINE)) == digest(osaka.disks(REPLICA))


WROTE_ALONE = b"written while nobody listened"
"""What the former primary holds that its replica never heard of."""


def address_of(estate: Estate, fqdn: str) -> str:
    """Return where a host of the estate is."""
    lines = (estate.folder / "hosts").read_text().splitlines()
    return next(line.split()[0] for line in lines if line.endswith(f" {fqdn}"))


def hosts_with(estate: Estate, fqdn: str, address: str) -> Path:
    """Return a hosts file in which one host is elsewhere."""
    path = estate.folder / "hosts of osaka"
    path.write_text(f"{address} {fqdn}\n{(estate.folder / 'hosts').read_text()}")
    return path


async def failed_over_unplanned(tokyo: RunningSite, osaka: RunningSite) -> None:
    """Lose contact, let both write a block of their own, and fence the former primary."""
    await tokyo.site.fabric.cycles.stop(MACHINE)
    await tokyo.guests[MACHINE].write(0, 5 * BLOCK, WROTE_ALONE, 3)
    unplanned = {"planned": False, "expected_cut": None, "recovery_point": None}
    await osaka.done(Verb.FAIL_OVER, REPLICA, unplanned, epoch=2)
    await osaka.done(Verb.START, REPLICA, epoch=2)
    await osaka.guests[MACHINE].write(1, 2 * BLOCK, b"new life", 4)
    stale = {"authoritative": False, "item": MACHINE}
    await tokyo.done(Verb.CONFIRM_EPOCH, MACHINE, stale, epoch=2)
    await osaka.done(Verb.COMMIT, REPLICA, epoch=2)


@pytest.mark.parametrize("choice", ["Keep", "Discard"])
async def test_after_an_unplanned_failover_what_differs_crosses_the_wire(
    estate: Estate, choice: str
) -> None:
    fqdn = estate.fqdns("tokyo")[0]
    near, far = f"{estate.prefix}.201", address_of(estate, fqdn)
    elsewhere: dict[str, Any] = {"hosts_file": str(hosts_with(estate, fqdn, near))}
    async with (
        Relay.opened(PORT, at=(near, PORT), far=far) as wire,
        estate.running("tokyo") as tokyo,
        estate.running("osaka", **elsewhere) as osaka,
    ):
        await protect(estate, tokyo, osaka)
        await failed_over_unplanned(tokyo, osaka)
        alone = digest(tokyo.disks(MACHINE))
        if choice == "Keep":
            kept = {"machine_id": MACHINE, "name": "SQL-01 - Kept"}
            await tokyo.done(Verb.KEEP_COPY, "kept-1", kept)
        assert wire.passed_bytes == 0, "what is set aside is set aside where it lies"
        await reverse(
            (osaka, REPLICA),
            (tokyo, MACHINE),
            primary_host=await host_of(osaka, REPLICA),
            resynchronize=True,
            epoch=2,
        )
        await osaka.done(Verb.START_INITIAL_REPLICATION, REPLICA, {"resynchronize": True}, epoch=2)
        await osaka.done(Verb.COMPLETE_INITIAL_REPLICATION, REPLICA, epoch=2)
        moved = wire.passed_bytes
        # The block of either side at least; the digests of all others are small.
        assert 2 * BLOCK < moved < FULL_BYTES
        await osaka.done(Verb.SHUT_DOWN, REPLICA, {"seconds": 30}, epoch=2)
        await osaka.done(Verb.PREPARE_FAILOVER, REPLICA, epoch=2)
        assert digest(tokyo.disks(MACHINE)) == digest(osaka.disks(REPLICA)) != alone
        if choice == "Keep":
            assert digest(tokyo.disks("kept-1")) == alone
