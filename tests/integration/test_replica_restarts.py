"""A replica's site that goes down: what it holds, where it stands, and what was done meanwhile."""

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support.moved_clock import MovedClock
from tests.support.simulator_estate import (
    MACHINE,
    REPLICA,
    SHARE,
    WAIT_SECONDS,
    Estate,
    make_estate,
)
from tests.support.simulator_steps import POLICY, digest, enable, fail_over_planned, protect
from wire_contract.vocabulary import Verb

BLOCK = 65_536


@pytest.fixture
def estate(tmp_path: Path) -> Estate:
    return make_estate(tmp_path)


def restore(path: Path) -> None:
    """Write to a disk as a backup program does that knows nothing of replication."""
    with path.open("r+b") as disk:
        disk.seek(5 * BLOCK)
        disk.write(b"restored")


async def test_a_first_copy_that_is_paused_goes_on_with_what_was_written_meanwhile(
    estate: Estate,
) -> None:
    async with estate.both() as (tokyo, osaka):
        await enable(estate, tokyo, osaka)
        backend = tokyo.site.fabric.hosts[estate.fqdns("tokyo")[0]].backend
        send, begun = backend.send, asyncio.Event()

        async def on_its_way(*_: Any) -> Any:
            begun.set()
            await asyncio.Event().wait()

        backend.send = on_its_way  # type: ignore[method-assign, assignment]
        await tokyo.done(Verb.START_INITIAL_REPLICATION, MACHINE)
        async with asyncio.timeout(WAIT_SECONDS):
            await begun.wait()
        await tokyo.done(Verb.PAUSE_REPLICATION, MACHINE)
        assert (await tokyo.machine(MACHINE))["replication"]["state"] == 7
        assert (await osaka.machine(REPLICA))["replication"]["state"] == 2
        await tokyo.guests[MACHINE].write(1, BLOCK, b"while paused", 31)
        backend.send = send  # type: ignore[method-assign]
        await tokyo.done(Verb.RESUME_REPLICATION, MACHINE)
        await tokyo.done(Verb.COMPLETE_INITIAL_REPLICATION, MACHINE)
        await osaka.done(Verb.COMPLETE_INITIAL_REPLICATION, REPLICA)
        await tokyo.done(Verb.SYNCHRONIZE, MACHINE)
        held = (await osaka.machine(REPLICA))["replication"]["last_cut_record"]
        assert held == 31
        await osaka.site.fabric.hosts[estate.fqdns("osaka")[0]].backend.apply_committed(REPLICA)
        assert digest(osaka.disks(REPLICA)) == digest(tokyo.disks(MACHINE))


async def test_changes_that_await_their_import_complete_no_copy_by_a_restart(
    estate: Estate,
) -> None:
    estate.offline = True
    async with estate.running("tokyo") as tokyo:
        async with estate.running("osaka") as osaka:
            await enable(estate, tokyo, osaka)
            exported = await tokyo.done(Verb.EXPORT_INITIAL_REPLICATION, MACHINE, {"folder": SHARE})
            await tokyo.until(MACHINE, lambda view: bool(view["replication"]["exported"]))
            await tokyo.guests[MACHINE].write(0, 3 * BLOCK, b"held", 95)
            await tokyo.until(MACHINE, lambda view: view["replication"]["last_cut_record"] == 95)
        async with estate.running("osaka") as osaka:
            assert (await osaka.machine(REPLICA))["replication"]["state"] == 2
            folder = {"folder": exported["folder"]}
            await osaka.done(Verb.IMPORT_INITIAL_REPLICATION, REPLICA, folder)
            await tokyo.until(MACHINE, lambda view: view["replication"]["state"] == 3)
            assert digest(tokyo.disks(MACHINE)) == digest(osaka.disks(REPLICA))


async def test_a_copy_that_stands_at_an_older_point_still_stands_there_after_a_restart(
    estate: Estate,
) -> None:
    clock = MovedClock()
    estate.clock = clock
    async with estate.running("tokyo") as tokyo:
        async with estate.running("osaka") as osaka:
            await protect(estate, tokyo, osaka, policy={**POLICY, "recovery_points": 3})
            clock.ahead = timedelta(hours=1)
            await tokyo.guests[MACHINE].write(0, 0, b"newer", 51)
            view = await osaka.until(
                REPLICA, lambda each: each["replication"]["last_cut_record"] == 51
            )
            clock.ahead = timedelta(0)
            point = view["replication"]["recovery_points"][-1]["point_id"]
            await tokyo.done(Verb.SHUT_DOWN, MACHINE, {"seconds": 30})
            older = {"planned": False, "recovery_point": point}
            await osaka.done(Verb.FAIL_OVER, REPLICA, older, epoch=2)
            before = (await osaka.machine(REPLICA))["replication"]
            bytes_before = digest(osaka.disks(REPLICA))
        async with estate.running("osaka") as osaka:
            after = (await osaka.machine(REPLICA))["replication"]
            for key in ("state", "failed_over_to", "last_cut", "last_cut_record"):
                assert after[key] == before[key]
            assert after["failed_over_to"]["point_id"] == point
            assert digest(osaka.disks(REPLICA)) == bytes_before
            by_changes = {
                **POLICY,
                "relationship_id": "relationship-2",
                "replica_machine_id": MACHINE,
                "replica_host": estate.fqdns("tokyo")[0],
                "replica_port": 8084,
                "resynchronize": False,
            }
            status, problem = await osaka.verb(Verb.REVERSE_REPLICATE, REPLICA, by_changes, epoch=2)
            assert (status, problem["code"]) == (409, 32775)
            assert "older recovery point" in problem["message"]
            # Exact, also over a restart: the next changes are taken without a comparison.
            await osaka.done(Verb.CANCEL_FAILOVER, REPLICA, epoch=2)
            await tokyo.done(Verb.CANCEL_FAILOVER, MACHINE, epoch=3)
            await tokyo.done(Verb.START, MACHINE, epoch=3)
            await tokyo.guests[MACHINE].write(0, BLOCK, b"goes on", 52)
            await osaka.until(REPLICA, lambda each: each["replication"]["last_cut_record"] == 52)


async def test_a_replica_that_somebody_else_has_changed_waits_for_a_comparison(
    estate: Estate,
) -> None:
    async with estate.running("tokyo") as tokyo:
        async with estate.running("osaka") as osaka:
            await protect(estate, tokyo, osaka)
            path = Path(osaka.site.fabric.store.machine(REPLICA).disks[0].path)
            # Nothing on its way: what is half applied at the end could be anybody's.
            await tokyo.done(Verb.PAUSE_REPLICATION, MACHINE)
        restore(path)
        async with estate.running("osaka") as osaka:
            altered = (await osaka.machine(REPLICA))["replication"]
            assert (altered["state"], altered["health"]) == (8, "Critical")
            assert {each["code"] for each in altered["health_codes"]} >= {67501}
            await tokyo.done(Verb.RESUME_REPLICATION, MACHINE)
            await osaka.until(REPLICA, lambda each: each["replication"]["state"] == 3)
            await tokyo.until(MACHINE, lambda each: each["replication"]["state"] == 3)
            await fail_over_planned(tokyo, osaka)
            assert digest(tokyo.disks(MACHINE)) == digest(osaka.disks(REPLICA))
