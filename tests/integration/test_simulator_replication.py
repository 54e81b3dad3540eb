from pathlib import Path
from typing import Any

import pytest

from tests.support.simulator_estate import MACHINE, REPLICA, Estate, make_estate
from tests.support.simulator_steps import digest, fail_over_planned, protect, reverse
from wire_contract.vocabulary import Verb


@pytest.fixture
def estate(tmp_path: Path) -> Estate:
    return make_estate(tmp_path)


def state(machine: dict[str, Any]) -> tuple[str, int]:
    return machine["replication"]["mode"], machine["replication"]["state"]


async def test_planned_failover_and_reversal_carry_every_byte(estate: Estate) -> None:
    async with estate.both() as (tokyo, osaka):
        await protect(estate, tokyo, osaka)
        guest = tokyo.guests[MACHINE]
        await guest.write(0, 70_000, b"written after the copy", 7)
        await guest.write(1, 5, b"and on the other disk", 8)
        held = await osaka.until(REPLICA, lambda each: each["replication"]["last_cut_record"] == 8)
        assert state(held) == ("Replica", 3)
        await guest.write(0, 300_000, b"last words", 9)

        failed_over = await fail_over_planned(tokyo, osaka)

        assert failed_over["last_cut_record"] == 9
        prepared = await tokyo.machine(MACHINE)
        assert state(prepared) == ("Primary", 4)
        assert prepared["replication"]["pending_bytes"] == 0
        assert digest(tokyo.disks(MACHINE)) == digest(osaka.disks(REPLICA))
        await osaka.done(Verb.START, REPLICA, epoch=2)
        running = await osaka.machine(REPLICA, nonce="0123456789abcdef")
        assert running["run_state"] == "Running"
        assert running["guest"]["verified"]
        assert running["guest"]["epoch"] == 2
        await osaka.done(Verb.COMMIT, REPLICA, epoch=2)
        assert state(await osaka.machine(REPLICA)) == ("Replica", 6)

        await osaka.guests[MACHINE].write(1, 100_000, b"written at osaka", 10)
        await reverse(
            (osaka, REPLICA),
            (tokyo, MACHINE),
            primary_host=(await osaka.machine(REPLICA))["host"],
            resynchronize=False,
            epoch=2,
        )
        assert state(await osaka.machine(REPLICA)) == ("Primary", 3)
        await tokyo.until(MACHINE, lambda each: each["replication"]["last_cut_record"] == 10)
        assert state(await tokyo.machine(MACHINE)) == ("Replica", 3)

        await osaka.done(Verb.SHUT_DOWN, REPLICA, {"seconds": 30}, epoch=2)
        cut = await osaka.done(Verb.PREPARE_FAILOVER, REPLICA, epoch=2)
        back = {"planned": True, "expected_cut": cut["last_cut"], "recovery_point": None}
        await tokyo.done(Verb.FAIL_OVER, MACHINE, back, epoch=3)
        assert digest(tokyo.disks(MACHINE)) == digest(osaka.disks(REPLICA))
        await tokyo.done(Verb.START, MACHINE, epoch=3)


async def test_unplanned_failover_fences_the_old_primary_and_resynchronizes(
    estate: Estate,
) -> None:
    async with estate.both() as (tokyo, osaka):
        await protect(estate, tokyo, osaka)
        await tokyo.guests[MACHINE].write(0, 4096, b"replicated", 3)
        await osaka.until(REPLICA, lambda each: each["replication"]["last_cut_record"] == 3)

        unplanned = {"planned": False, "expected_cut": None, "recovery_point": None}
        result = await osaka.done(Verb.FAIL_OVER, REPLICA, unplanned, epoch=2)
        assert result["last_cut_record"] == 3
        await osaka.done(Verb.START, REPLICA, epoch=2)
        await osaka.guests[MACHINE].write(0, 200_000, b"new life", 4)

        # The old primary still runs; its next transfer tells it that it was passed by.
        fenced = await tokyo.until(MACHINE, lambda each: bool(each["fenced"]))
        assert fenced["run_state"] == "Off"
        assert fenced["replication"]["health"] == "Critical"
        status, problem = await tokyo.verb(Verb.START, MACHINE, epoch=2)
        assert (status, problem["code"]) == (409, 91004)
        with pytest.raises(PermissionError):
            await tokyo.guests[MACHINE].write(1, 0, b"lost", 5)

        await osaka.done(Verb.COMMIT, REPLICA, epoch=2)
        await reverse(
            (osaka, REPLICA),
            (tokyo, MACHINE),
            primary_host=(await osaka.machine(REPLICA))["host"],
            resynchronize=True,
            epoch=2,
        )
        assert state(await osaka.machine(REPLICA)) == ("Primary", 1)
        await osaka.done(Verb.START_INITIAL_REPLICATION, REPLICA, {"resynchronize": True}, epoch=2)
        await osaka.done(Verb.COMPLETE_INITIAL_REPLICATION, REPLICA, epoch=2)
        replica = await tokyo.until(
            MACHINE, lambda each: each["replication"]["last_cut_record"] == 4
        )
        assert state(replica) == ("Replica", 3)
        assert not replica["fenced"]
        await osaka.done(Verb.SHUT_DOWN, REPLICA, {"seconds": 30}, epoch=2)
        await osaka.done(Verb.PREPARE_FAILOVER, REPLICA, epoch=2)
        assert digest(tokyo.disks(MACHINE)) == digest(osaka.disks(REPLICA))


async def test_what_the_old_primary_wrote_into_a_hole_is_gone_after_the_resynchronization(
    estate: Estate,
) -> None:
    async with estate.both() as (tokyo, osaka):
        await protect(estate, tokyo, osaka)
        await tokyo.faults()
        await tokyo.site.fabric.cycles.stop(MACHINE)
        # The second half of each disk is a hole; osaka never hears of this write.
        await tokyo.guests[MACHINE].write(0, 20 * 65_536, b"diverged", 3)
        unplanned = {"planned": False, "expected_cut": None, "recovery_point": None}
        await osaka.done(Verb.FAIL_OVER, REPLICA, unplanned, epoch=2)
        await tokyo.done(
            Verb.CONFIRM_EPOCH, MACHINE, {"authoritative": False, "item": MACHINE}, epoch=2
        )
        await osaka.done(Verb.COMMIT, REPLICA, epoch=2)
        await reverse(
            (osaka, REPLICA),
            (tokyo, MACHINE),
            primary_host=(await osaka.machine(REPLICA))["host"],
            resynchronize=True,
            epoch=2,
        )
        await osaka.done(Verb.START_INITIAL_REPLICATION, REPLICA, {"resynchronize": True}, epoch=2)
        await osaka.done(Verb.COMPLETE_INITIAL_REPLICATION, REPLICA, epoch=2)
        await osaka.done(Verb.PREPARE_FAILOVER, REPLICA, epoch=2)
        assert digest(tokyo.disks(MACHINE)) == digest(osaka.disks(REPLICA))


async def test_cancelled_failover_goes_on_with_what_the_primary_has(estate: Estate) -> None:
    async with estate.both() as (tokyo, osaka):
        await protect(estate, tokyo, osaka)
        await fail_over_planned(tokyo, osaka)
        await osaka.done(Verb.START, REPLICA, epoch=2)
        await osaka.guests[MACHINE].write(0, 0, b"tried and thrown away", 99)

        await osaka.done(Verb.CANCEL_FAILOVER, REPLICA, epoch=2)
        await tokyo.done(Verb.CANCEL_FAILOVER, MACHINE, epoch=2)
        await tokyo.done(Verb.START, MACHINE, epoch=2)
        await tokyo.guests[MACHINE].write(1, 9_000, b"goes on", 12)

        await osaka.until(REPLICA, lambda each: each["replication"]["last_cut_record"] == 12)
        assert (await osaka.machine(REPLICA))["run_state"] == "Off"
        primary = await tokyo.until(MACHINE, lambda each: state(each) == ("Primary", 3))
        assert primary["replication"]["last_error"] is None
        await fail_over_planned(tokyo, osaka, epoch=3)
        assert digest(tokyo.disks(MACHINE)) == digest(osaka.disks(REPLICA))
