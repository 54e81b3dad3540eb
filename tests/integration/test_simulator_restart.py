import asyncio
from pathlib import Path

import pytest

from service_shell.errors import ProgramError
from tests.support.simulator_estate import MACHINE, REPLICA, Estate, make_estate
from tests.support.simulator_steps import digest, pair, place, protect
from vmm_simulator.verbs import machine as machine_verbs
from vmm_simulator.vmm.fitness import Status
from wire_contract.vocabulary import Verb

UNPLANNED = {"planned": False, "expected_cut": None, "recovery_point": None}


@pytest.fixture
def estate(tmp_path: Path) -> Estate:
    return make_estate(tmp_path)


def confirmation(*, authoritative: bool) -> dict[str, object]:
    return {"authoritative": authoritative, "item": MACHINE}


async def test_protected_machine_waits_for_its_epoch_and_then_runs_as_before(
    estate: Estate,
) -> None:
    async with estate.running("osaka") as osaka:
        async with estate.running("tokyo") as tokyo:
            await protect(estate, tokyo, osaka)
            before = await tokyo.machine(MACHINE)
        async with estate.running("tokyo") as tokyo:
            after = await tokyo.machine(MACHINE)
            assert (before["run_state"], after["run_state"]) == ("Running", "Off")
            assert after["start_blocked_by"] == "the epoch was not confirmed since the host started"
            # Replication goes on meanwhile: the replica judges the epoch itself.
            held = (await osaka.machine(REPLICA))["replication"]["last_cut"]
            await osaka.until(REPLICA, lambda each: each["replication"]["last_cut"] > held)
            command = "confirm/1/1"
            await tokyo.done(
                Verb.CONFIRM_EPOCH, MACHINE, confirmation(authoritative=True), id=command
            )
            assert (await tokyo.machine(MACHINE))["run_state"] == "Running"
        async with estate.running("tokyo") as tokyo:
            # The same command after another start confirms anew: memory is what it is about.
            await tokyo.done(
                Verb.CONFIRM_EPOCH, MACHINE, confirmation(authoritative=True), id=command
            )
            assert (await tokyo.machine(MACHINE))["run_state"] == "Running"


async def test_a_replica_that_is_only_placed_is_not_fenced_by_the_hubs_word(
    estate: Estate,
) -> None:
    """Found by the kill matrix: an agent began a session between placing and enabling."""
    async with estate.both() as (tokyo, osaka):
        await pair(estate, tokyo, osaka)
        await place(estate, osaka, await tokyo.machine(MACHINE))
        await osaka.done(Verb.CONFIRM_EPOCH, REPLICA, confirmation(authoritative=False))
        assert not (await osaka.machine(REPLICA))["fenced"]


async def test_copy_that_is_not_the_active_one_is_fenced_and_stays_so(estate: Estate) -> None:
    async with estate.both() as (tokyo, osaka):
        await protect(estate, tokyo, osaka)
        no = confirmation(authoritative=False)
        await tokyo.done(Verb.CONFIRM_EPOCH, MACHINE, no, epoch=2)
        await osaka.done(Verb.CONFIRM_EPOCH, REPLICA, no, epoch=2)
        assert not (await osaka.machine(REPLICA))["fenced"]
    async with estate.running("tokyo") as tokyo:
        machine = await tokyo.machine(MACHINE)
        assert (machine["run_state"], machine["fenced"], machine["epoch"]) == ("Off", True, 2)
        yes = confirmation(authoritative=True)
        late = await tokyo.verb(Verb.CONFIRM_EPOCH, MACHINE, yes, epoch=2)
        assert (late[0], late[1]["code"]) == (409, 91004)
        assert (await tokyo.verb(Verb.START, MACHINE, epoch=3))[1]["code"] == 91004
        # Only a newer word than the one that fenced it makes it the active copy again.
        await tokyo.done(Verb.CONFIRM_EPOCH, MACHINE, yes, epoch=3)
        await tokyo.done(Verb.START, MACHINE, epoch=3)


async def test_who_takes_an_epoch_that_another_copy_holds_is_fenced_with_it(
    estate: Estate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found by a walk: both copies ran under the newest epoch until the second was ended."""

    async def breaks_off(*_: object) -> None:
        raise OSError("here the site is killed")

    monkeypatch.setattr(machine_verbs, "fence", breaks_off)
    async with estate.both() as (tokyo, osaka):
        await protect(estate, tokyo, osaka)
        no = confirmation(authoritative=False)
        assert (await tokyo.verb(Verb.CONFIRM_EPOCH, MACHINE, no, epoch=2))[0] >= 400
        machine = await tokyo.machine(MACHINE)
        assert (machine["epoch"], machine["fenced"]) == (2, True)


async def test_returning_primary_learns_from_the_replica_that_it_was_passed_by(
    estate: Estate,
) -> None:
    async with estate.running("osaka") as osaka:
        async with estate.running("tokyo") as tokyo:
            await protect(estate, tokyo, osaka)
        await osaka.done(Verb.FAIL_OVER, REPLICA, UNPLANNED, epoch=2)
        async with estate.running("tokyo") as tokyo:
            fenced = await tokyo.until(MACHINE, lambda each: bool(each["fenced"]))
            assert fenced["run_state"] == "Off"


async def test_a_refused_failover_does_not_end_the_primary(estate: Estate) -> None:
    async with estate.both() as (tokyo, osaka):
        await protect(estate, tokyo, osaka)
        behind = {"planned": True, "expected_cut": 10_000, "recovery_point": None}
        assert (await osaka.verb(Verb.FAIL_OVER, REPLICA, behind, epoch=2))[0] == 409
        assert (await osaka.verb(Verb.START, REPLICA, epoch=2))[0] == 409
        assert (await osaka.machine(REPLICA))["epoch"] == 1
        held = (await osaka.machine(REPLICA))["replication"]["last_cut"]
        await osaka.until(REPLICA, lambda each: each["replication"]["last_cut"] > held)
        assert not (await tokyo.machine(MACHINE))["fenced"]


async def test_ports_and_failed_over_state_survive_a_restart(estate: Estate) -> None:
    async with estate.both() as (tokyo, osaka):
        await protect(estate, tokyo, osaka)
        await osaka.done(Verb.FAIL_OVER, REPLICA, UNPLANNED, epoch=2)
        await osaka.done(Verb.START, REPLICA, epoch=2)
        await osaka.guests[MACHINE].write(0, 0, b"after the failover", 5)
        bytes_before = digest(osaka.disks(REPLICA))
    async with estate.running("osaka") as osaka:
        machine = await osaka.machine(REPLICA)
        assert (machine["replication"]["state"], machine["epoch"]) == (5, 2)
        assert machine["run_state"] == "Off"
        host = osaka.site.fabric.hosts[machine["host"]]
        reader, writer = await asyncio.open_connection(host.address_of(machine["host"]), 8084)
        writer.close()
        del reader
        await osaka.done(Verb.CONFIRM_EPOCH, REPLICA, confirmation(authoritative=True), epoch=2)
        assert (await osaka.machine(REPLICA))["run_state"] == "Running"
        assert digest(osaka.disks(REPLICA)) == bytes_before


async def test_the_journal_is_the_truth_after_the_first_start(estate: Estate) -> None:
    async with estate.running("tokyo") as tokyo:
        await tokyo.done(Verb.SHUT_DOWN, MACHINE, {"seconds": 5}, epoch=0)
    changed = estate.configuration("tokyo")["inventory"]
    changed["machines"] = []
    async with estate.running("tokyo", inventory=changed) as tokyo:
        assert (await tokyo.machine(MACHINE))["run_state"] == "Off"


async def test_one_data_directory_has_one_simulator(estate: Estate) -> None:
    async with estate.running("tokyo"):
        with pytest.raises(ProgramError, match="in use by another vmm-simulator"):
            async with estate.running("tokyo"):
                pass


async def test_a_failover_makes_active_again_what_another_copys_word_had_fenced(
    estate: Estate,
) -> None:
    """Found by a walk: after an override the failed-over copy could not be failed over to again."""
    async with estate.both() as (tokyo, osaka):
        await protect(estate, tokyo, osaka)
        await osaka.done(Verb.FAIL_OVER, REPLICA, UNPLANNED, epoch=2)
        await osaka.done(Verb.START, REPLICA, epoch=2)
        no = confirmation(authoritative=False)
        await osaka.done(Verb.CONFIRM_EPOCH, REPLICA, no, epoch=3)
        fenced = await osaka.machine(REPLICA)
        assert (fenced["fenced"], fenced["run_state"]) == (True, "Off")
        await osaka.done(Verb.FAIL_OVER, REPLICA, UNPLANNED, epoch=4)
        await osaka.done(Verb.START, REPLICA, epoch=4)
        again = await osaka.machine(REPLICA)
        assert (again["fenced"], again["run_state"]) == (False, "Running")


async def test_a_fence_ends_with_the_protection_and_the_sites_own_operator_starts_the_copy(
    estate: Estate,
) -> None:
    cleared = {"item": None, "role": None, "active": False}
    async with estate.both() as (tokyo, osaka):
        await protect(estate, tokyo, osaka)
        no = confirmation(authoritative=False)
        await tokyo.done(Verb.CONFIRM_EPOCH, MACHINE, no, epoch=2)
        # What still replicates is fenced still: the word of a removal that broke off is not enough.
        await tokyo.done(Verb.UPDATE_PROTECTION, MACHINE, cleared, epoch=2)
        assert (await tokyo.machine(MACHINE))["fenced"]
        await tokyo.done(Verb.DISABLE_REPLICATION, MACHINE, {"delete_replica": False}, epoch=2)
        assert (await tokyo.machine(MACHINE))["fenced"]
        await tokyo.done(Verb.UPDATE_PROTECTION, MACHINE, cleared, epoch=2)
        free = await tokyo.machine(MACHINE)
        assert (free["fenced"], free["run_state"]) == (False, "Off")
    async with estate.running("tokyo") as tokyo:
        # A site that comes back starts by itself nothing that was fenced.
        assert (await tokyo.machine(MACHINE))["run_state"] == "Off"
        await tokyo.site.control.set_state(MACHINE, Status.RUNNING)
        assert (await tokyo.machine(MACHINE))["run_state"] == "Running"
