"""What a relationship goes through beside failovers: pauses, errors, points, its end."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support.moved_clock import MovedClock
from tests.support.simulator_estate import (
    INTERVAL,
    MACHINE,
    REPLICA,
    SHARE,
    WAIT_SECONDS,
    Estate,
    RunningSite,
    make_estate,
)
from tests.support.simulator_steps import POLICY, digest, enable, fail_over_planned, protect
from wire_contract.vocabulary import Verb

BLOCK = 65_536
BUSY = {67518}
"""A machine that is busy misses cycles of a fifth of a second: that is another test's matter."""

UNPLANNED = {"planned": False, "expected_cut": None, "recovery_point": None}


@pytest.fixture
def estate(tmp_path: Path) -> Estate:
    return make_estate(tmp_path)


def state(view: dict[str, Any]) -> int:
    return int(view["replication"]["state"])


def codes(view: dict[str, Any]) -> set[int]:
    return {code["code"] for code in view["replication"]["health_codes"]}


def is_in(wanted: int) -> Callable[[dict[str, Any]], bool]:
    return lambda view: state(view) == wanted


def holds(record: int) -> Callable[[dict[str, Any]], bool]:
    return lambda view: view["replication"]["last_cut_record"] == record


async def refused(site: RunningSite, verb: Verb, target: str, arguments: Any, **more: Any) -> str:
    status, problem = await site.verb(verb, target, arguments, **more)
    assert (status, problem["code"]) == (409, 32775), problem
    return str(problem["message"])


async def test_a_paused_primary_notes_what_is_written_and_sends_it_when_it_goes_on(
    estate: Estate,
) -> None:
    async with estate.both() as (tokyo, osaka):
        await protect(estate, tokyo, osaka)
        await tokyo.done(Verb.PAUSE_REPLICATION, MACHINE)
        await tokyo.guests[MACHINE].write(0, 5 * BLOCK, b"while paused", 21)
        paused = await tokyo.machine(MACHINE)
        assert (state(paused), paused["replication"]["health"]) == (7, "Warning")
        assert codes(paused) - BUSY == {67502}
        assert paused["replication"]["tracked_bytes"] == BLOCK
        await refused(tokyo, Verb.SYNCHRONIZE, MACHINE, {})
        await refused(tokyo, Verb.PREPARE_FAILOVER, MACHINE, {})
        assert (await osaka.machine(REPLICA))["replication"]["last_cut_record"] != 21
        await tokyo.done(Verb.RESUME_REPLICATION, MACHINE)
        await osaka.until(REPLICA, holds(21))
        assert not codes(await tokyo.machine(MACHINE)) - BUSY


async def test_a_paused_replica_refuses_and_both_ends_are_critical(estate: Estate) -> None:
    async with estate.both() as (tokyo, osaka):
        await protect(estate, tokyo, osaka)
        await osaka.done(Verb.PAUSE_REPLICATION, REPLICA)
        paused = await osaka.machine(REPLICA)
        assert (state(paused), paused["replication"]["health"]) == (7, "Critical")
        assert codes(paused) - BUSY == {67501, 67502}
        await tokyo.guests[MACHINE].write(0, 5 * BLOCK, b"not taken", 22)
        failing = await tokyo.until(
            MACHINE, lambda view: view["replication"]["health"] == "Critical"
        )
        # The other end's pause is no error of this one: it goes on trying.
        assert state(failing) == 3
        assert failing["replication"]["statistics"]["failure_count"] >= 1
        test = {"replica_machine_id": REPLICA, "name": "Test", "recovery_point": None}
        await refused(osaka, Verb.CREATE_TEST_MACHINE, "test-1", test)
        await osaka.done(Verb.RESUME_REPLICATION, REPLICA)
        await osaka.until(REPLICA, holds(22))
        await tokyo.until(MACHINE, lambda view: view["replication"]["health"] != "Critical")


async def test_a_failover_of_a_paused_replica_can_be_cancelled_into_the_pause(
    estate: Estate,
) -> None:
    async with estate.both() as (tokyo, osaka):
        await protect(estate, tokyo, osaka)
        await osaka.done(Verb.PAUSE_REPLICATION, REPLICA)
        await osaka.done(Verb.FAIL_OVER, REPLICA, UNPLANNED, epoch=2)
        await osaka.done(Verb.CANCEL_FAILOVER, REPLICA, epoch=2)
        assert state(await osaka.machine(REPLICA)) == 7


async def test_a_log_over_half_of_the_disks_needs_a_comparison_in_its_window(
    estate: Estate,
) -> None:
    now = datetime.now(UTC)
    closed = {
        "begins": (now + timedelta(hours=2)).strftime("%H:%M:%S"),
        "ends": (now + timedelta(hours=3)).strftime("%H:%M:%S"),
    }
    async with estate.both() as (tokyo, osaka):
        await enable(estate, tokyo, osaka, policy={**POLICY, "window": closed})
        await tokyo.done(Verb.START_INITIAL_REPLICATION, MACHINE)
        await tokyo.done(Verb.COMPLETE_INITIAL_REPLICATION, MACHINE)
        await tokyo.done(Verb.PAUSE_REPLICATION, MACHINE)
        guest = tokyo.guests[MACHINE]
        for block in range(21):
            await guest.write(0, block * BLOCK, bytes([block + 1]) * BLOCK, 100 + block)
        required = await tokyo.until(MACHINE, is_in(9))
        assert required["replication"]["health"] == "Critical"
        assert required["replication"]["last_error"]
        due = datetime.fromisoformat(required["replication"]["resynchronize_at"])
        assert timedelta(hours=1) < due - now < timedelta(hours=3)
        # Tracking has stopped; nothing is lost by it, for everything will be compared.
        assert required["replication"]["tracked_bytes"] == 0
        await guest.write(1, 0, b"not even noted", 200)
        await refused(tokyo, Verb.PREPARE_FAILOVER, MACHINE, {})

        await tokyo.done(Verb.CANCEL_RESYNCHRONIZATION, MACHINE)
        cancelled = await tokyo.machine(MACHINE)
        assert (state(cancelled), cancelled["replication"]["resynchronize_at"]) == (9, None)
        await tokyo.done(Verb.RESYNCHRONIZE, MACHINE)
        await tokyo.until(MACHINE, is_in(3))
        await tokyo.until(MACHINE, holds(200))
        await fail_over_planned(tokyo, osaka)
        assert digest(tokyo.disks(MACHINE)) == digest(osaka.disks(REPLICA))


async def test_a_copy_begins_at_its_time(estate: Estate) -> None:
    async with estate.both() as (tokyo, osaka):
        await enable(estate, tokyo, osaka)
        late = {"start_at": (datetime.now(UTC) + timedelta(days=7, minutes=1)).isoformat()}
        status, problem = await tokyo.verb(Verb.START_INITIAL_REPLICATION, MACHINE, late)
        assert (status, problem["code"]) == (400, 32773)
        soon = {"start_at": (datetime.now(UTC) + timedelta(seconds=1)).isoformat()}
        await tokyo.done(Verb.START_INITIAL_REPLICATION, MACHINE, soon)
        await tokyo.until(MACHINE, is_in(3))
        begun = await tokyo.machine(MACHINE)
        assert begun["replication"]["scheduled_at"] is None
        assert datetime.now(UTC) >= datetime.fromisoformat(soon["start_at"])


async def test_an_error_that_does_not_pass_waits_for_an_administrator(estate: Estate) -> None:
    async with estate.both() as (tokyo, osaka):
        await protect(estate, tokyo, osaka)
        await osaka.done(Verb.UPDATE_PROTECTION, REPLICA, {"item": None})
        await osaka.done(Verb.DISABLE_REPLICATION, REPLICA)
        assert (await osaka.machine(REPLICA))["replication"] is None
        await tokyo.guests[MACHINE].write(0, 0, b"nobody takes it", 31)
        failed = await tokyo.until(MACHINE, is_in(8))
        assert failed["replication"]["health"] == "Critical"
        assert codes(failed) - BUSY == {67501}
        tried = failed["replication"]["statistics"]["failure_count"]
        assert tried == 5
        await tokyo.done(Verb.RESUME_REPLICATION, MACHINE)
        again = await tokyo.until(MACHINE, is_in(8))
        assert again["replication"]["statistics"]["failure_count"] == 2 * tried


async def test_points_are_kept_by_the_hour_and_chosen_taken_back_and_committed(
    estate: Estate,
) -> None:
    clock = MovedClock()
    estate.clock = clock
    async with estate.both() as (tokyo, osaka):
        await protect(estate, tokyo, osaka, policy={**POLICY, "recovery_points": 2})
        guest = tokyo.guests[MACHINE]
        seen = []
        for hour in range(4):
            await guest.write(0, hour * BLOCK, bytes([hour + 1]) * 100, 40 + hour)
            await osaka.until(REPLICA, holds(40 + hour))
            seen.append(digest(tokyo.disks(MACHINE)))
            clock.ahead += timedelta(hours=1)
        await guest.write(1, 0, b"the newest", 50)
        await osaka.until(REPLICA, holds(50))
        # The newest state and two more, once the newest is no longer the hour's own point.
        view = await osaka.until(
            REPLICA, lambda each: len(each["replication"]["recovery_points"]) == 3
        )
        points = view["replication"]["recovery_points"]
        # Back to the time of the commands' deadlines; points do not mind.
        clock.ahead = timedelta(0)
        assert {point["kind"] for point in points} == {"standard"}

        chosen = points[-1]["point_id"]
        test = {"replica_machine_id": REPLICA, "name": "Test", "recovery_point": chosen}
        await osaka.done(Verb.CREATE_TEST_MACHINE, "test-1", test)
        at_point = digest(osaka.disks("test-1"))
        assert at_point in seen
        tested = await osaka.machine(REPLICA)
        assert tested["replication"]["statistics"]["test_failover_running"]
        assert tested["replication"]["statistics"]["last_test_failover_at"]
        await osaka.done(Verb.REMOVE_TEST_MACHINE, "test-1")

        status, problem = await osaka.verb(
            Verb.FAIL_OVER, REPLICA, {**UNPLANNED, "recovery_point": "no-such-point"}, epoch=2
        )
        assert (status, problem["code"]) == (404, 32779)
        await tokyo.done(Verb.SHUT_DOWN, MACHINE, {"seconds": 30})
        older = {**UNPLANNED, "recovery_point": chosen}
        result = await osaka.done(Verb.FAIL_OVER, REPLICA, older, epoch=2)
        assert (result["recovery_point"], digest(osaka.disks(REPLICA))) == (chosen, at_point)
        await osaka.done(Verb.START, REPLICA, epoch=2)
        await osaka.guests[MACHINE].write(0, 20 * BLOCK, b"thrown away", 60)
        changed = await osaka.done(Verb.CHANGE_RECOVERY_POINT, REPLICA, {}, epoch=2)
        assert changed["last_cut_record"] == 50
        newest = await osaka.machine(REPLICA)
        assert newest["run_state"] == "Off"
        assert digest(osaka.disks(REPLICA)) == digest(tokyo.disks(MACHINE))

        await osaka.done(Verb.CANCEL_FAILOVER, REPLICA, epoch=2)
        await tokyo.done(Verb.CANCEL_FAILOVER, MACHINE, epoch=3)
        await tokyo.done(Verb.START, MACHINE, epoch=3)
        await tokyo.guests[MACHINE].write(1, 7 * BLOCK, b"goes on without a comparison", 70)
        after = await osaka.until(REPLICA, holds(70))
        assert len(after["replication"]["recovery_points"]) >= 2
        await fail_over_planned(tokyo, osaka, epoch=4)
        (only,) = (await osaka.machine(REPLICA))["replication"]["recovery_points"]
        assert only["kind"] == "planned"
        await osaka.done(Verb.COMMIT, REPLICA, epoch=4)
        await refused(osaka, Verb.CHANGE_RECOVERY_POINT, REPLICA, {}, epoch=4)


async def test_an_application_consistent_point_needs_a_guest_that_holds_still(
    estate: Estate,
) -> None:
    clock = MovedClock()
    estate.clock = clock
    policy = {**POLICY, "recovery_points": 5, "application_consistent_hours": 1}
    async with estate.both() as (tokyo, osaka):
        await protect(estate, tokyo, osaka, policy=policy)

        def kinds(view: dict[str, Any]) -> list[str]:
            return [each["kind"] for each in view["replication"]["recovery_points"]]

        await osaka.until(REPLICA, lambda view: "application_consistent" in kinds(view))
        guest = tokyo.guests[MACHINE]
        assert guest.freezes == 1
        guest.refuses_to_freeze = True
        # Failures are counted from nine to nine: both of them are to lie within one interval.
        hours = (clock.now().hour - 9) % 12
        clock.ahead += timedelta(hours=12 - hours if hours > 8 else 1, seconds=1)
        await tokyo.until(MACHINE, lambda view: failed_points(view) == 1)
        guest.refuses_to_freeze = False
        guest.loses_its_freeze = True
        clock.ahead += timedelta(hours=1, seconds=1)
        await tokyo.until(MACHINE, lambda view: failed_points(view) == 2)
        await guest.write(0, 0, b"after the freeze that was lost", 80)
        view = await osaka.until(REPLICA, holds(80))
        assert kinds(view).count("application_consistent") == 1
        assert "standard" in kinds(view)


def failed_points(view: dict[str, Any]) -> int:
    return int(view["replication"]["statistics"]["application_consistent_failure_count"])


async def test_a_failover_that_asks_is_refused_while_the_primary_runs(estate: Estate) -> None:
    asking = {**UNPLANNED, "ask_primary": True}
    async with estate.running("osaka") as osaka:
        async with estate.running("tokyo") as tokyo:
            await protect(estate, tokyo, osaka)
            said = await refused(osaka, Verb.FAIL_OVER, REPLICA, asking, epoch=2)
            assert "runs on" in said
            # What is refused raises no epoch: the primary goes on.
            assert (await osaka.machine(REPLICA))["epoch"] == 1
            await tokyo.guests[MACHINE].write(0, 0, b"goes on", 90)
            await osaka.until(REPLICA, holds(90))
            await tokyo.done(Verb.SHUT_DOWN, MACHINE, {"seconds": 30})
            await osaka.done(Verb.FAIL_OVER, REPLICA, asking, epoch=2)
            await osaka.done(Verb.CANCEL_FAILOVER, REPLICA, epoch=2)
        # A primary that cannot be reached blocks nothing.
        await osaka.done(Verb.FAIL_OVER, REPLICA, asking, epoch=3)


async def test_what_waits_and_what_was_counted_survives_a_restart(estate: Estate) -> None:
    async with estate.running("osaka") as osaka:
        async with estate.running("tokyo") as tokyo:
            await protect(estate, tokyo, osaka)
            await tokyo.done(Verb.PAUSE_REPLICATION, MACHINE)
            later = {"start_at": (datetime.now(UTC) + timedelta(hours=1)).isoformat()}
            await tokyo.done(Verb.RESYNCHRONIZE, MACHINE, later)
            before = (await tokyo.machine(MACHINE))["replication"]
            settings = {"interval_seconds": 7200, "missed_share_max": 0.5, "begins": "10:30:00"}
            path = f"/hosts/{estate.fqdns('tokyo')[0]}/monitoring"
            assert (await tokyo.manage("PUT", path, settings))[0] == 200
            assert (await tokyo.manage("PUT", path, {"interval_seconds": 60}))[0] == 400
        async with estate.running("tokyo") as tokyo:
            after = (await tokyo.machine(MACHINE))["replication"]
            for key in ("state", "resynchronize_at", "last_cut"):
                assert after[key] == before[key]
            counted = ("success_count", "cycle_count", "size_bytes_max")
            assert [after["statistics"][each] for each in counted] == [
                before["statistics"][each] for each in counted
            ]
            shown = (await tokyo.manage("GET", path))[1]
            assert settings.items() <= shown.items()
            status, view = await tokyo.manage("DELETE", f"/machines/{MACHINE}/statistics")
            assert (status, view["replication"]["statistics"]["success_count"]) == (200, 0)
            await tokyo.done(Verb.RESUME_REPLICATION, MACHINE)
            await tokyo.until(MACHINE, is_in(3))


async def test_a_copy_by_medium_and_a_replica_that_is_deleted_with_its_relationship(
    estate: Estate,
) -> None:
    estate.offline = True
    async with estate.both() as (tokyo, osaka):
        await enable(estate, tokyo, osaka)
        nowhere = {"folder": r"\\files.example\elsewhere"}
        status, problem = await tokyo.verb(Verb.EXPORT_INITIAL_REPLICATION, MACHINE, nowhere)
        assert (status, problem["code"]) == (409, 91012)
        exported = await tokyo.done(Verb.EXPORT_INITIAL_REPLICATION, MACHINE, {"folder": SHARE})
        await tokyo.until(MACHINE, lambda view: bool(view["replication"]["exported"]))
        said = await refused(tokyo, Verb.CANCEL_INITIAL_REPLICATION, MACHINE, {})
        assert "cannot be cancelled" in said
        await tokyo.guests[MACHINE].write(0, 3 * BLOCK, b"held until the import", 95)
        await tokyo.until(MACHINE, holds(95))
        assert state(await osaka.machine(REPLICA)) == 2
        status, problem = await osaka.verb(
            Verb.IMPORT_INITIAL_REPLICATION, REPLICA, {"folder": SHARE}
        )
        assert (status, problem["code"]) == (400, 32773)
        folder = {"folder": exported["folder"]}
        await osaka.done(Verb.IMPORT_INITIAL_REPLICATION, REPLICA, folder)
        view = await osaka.machine(REPLICA)
        assert (state(view), view["replication"]["last_cut_record"]) == (3, 95)
        await tokyo.until(MACHINE, is_in(3))
        assert digest(tokyo.disks(MACHINE)) == digest(osaka.disks(REPLICA))

        await tokyo.done(Verb.DISABLE_REPLICATION, MACHINE)
        paths = [Path(disk.path) for disk in osaka.site.fabric.store.machine(REPLICA).disks]
        await osaka.done(Verb.DISABLE_REPLICATION, REPLICA, {"delete_replica": True})
        assert (await osaka.manage("GET", f"/machines/{REPLICA}"))[0] == 404
        assert not any(path.exists() for path in paths)
        # The primary goes on as an ordinary machine.
        left = await tokyo.machine(MACHINE)
        assert (left["replication"], left["run_state"]) == (None, "Running")
        await tokyo.guests[MACHINE].write(0, 0, b"free", 99)


async def test_a_replica_that_was_failed_over_is_never_deleted(estate: Estate) -> None:
    async with estate.both() as (tokyo, osaka):
        await protect(estate, tokyo, osaka)
        await refused(tokyo, Verb.DISABLE_REPLICATION, MACHINE, {"delete_replica": True})
        await osaka.done(Verb.FAIL_OVER, REPLICA, UNPLANNED, epoch=2)
        said = await refused(
            osaka, Verb.DISABLE_REPLICATION, REPLICA, {"delete_replica": True}, epoch=2
        )
        assert "is failed over" in said
        await osaka.done(Verb.DISABLE_REPLICATION, REPLICA, epoch=2)
        await osaka.done(Verb.START, REPLICA, epoch=2)
        kept = await osaka.machine(REPLICA)
        assert (kept["replication"], kept["run_state"]) == (None, "Running")


async def test_cycles_that_were_missed_make_a_warning_until_the_counters_begin_anew(
    estate: Estate,
) -> None:
    async with estate.both() as (tokyo, osaka):
        await protect(estate, tokyo, osaka)
        backend = tokyo.site.fabric.hosts[estate.fqdns("tokyo")[0]].backend
        send = backend.send

        async def slow_send(*arguments: Any) -> Any:
            await asyncio.sleep(5 * INTERVAL)
            return await send(*arguments)

        backend.send = slow_send  # type: ignore[method-assign, assignment]

        def is_late(view: dict[str, Any]) -> bool:
            figures = view["replication"]["statistics"]
            slow = figures["latency_seconds_max"] >= 5 * INTERVAL
            return slow and figures["miss_count"] >= 4 and 67518 in codes(view)

        warned = await tokyo.until(MACHINE, is_late)
        assert warned["replication"]["health"] == "Warning"
        backend.send = send  # type: ignore[method-assign]
        async with asyncio.timeout(WAIT_SECONDS):
            while 67518 in codes(await tokyo.machine(MACHINE)):
                await tokyo.manage("DELETE", f"/machines/{MACHINE}/statistics")
                await asyncio.sleep(INTERVAL)
