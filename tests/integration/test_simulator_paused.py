"""A paused machine: held where it stands, replicated on, and off after its host went down."""

from pathlib import Path
from typing import Any

import pytest

from tests.support.simulator_estate import MACHINE, Estate, RunningSite, make_estate
from tests.support.simulator_steps import protect
from vmm_simulator.problems import Code
from wire_contract import paths
from wire_contract.vocabulary import Verb

BLOCK = 65_536


@pytest.fixture
def estate(tmp_path: Path) -> Estate:
    return make_estate(tmp_path)


async def put_state(site: RunningSite, state: str) -> dict[str, Any]:
    status, view = await site.manage("PUT", f"/machines/{MACHINE}/state", {"state": state})
    assert status == 200, view
    return dict(view)


async def status_of(site: RunningSite) -> str:
    (hardware,) = (await site.get(paths.VMM_FABRIC))["machines"]
    return str(hardware["status"])


async def test_a_machine_is_paused_goes_on_and_ends_from_its_pause(estate: Estate) -> None:
    async with estate.running("tokyo") as tokyo:
        assert (await put_state(tokyo, "Paused"))["run_state"] == "Paused"
        assert await status_of(tokyo) == "Paused"
        await put_state(tokyo, "Paused")
        guest = tokyo.guests[MACHINE]
        assert (guest.running, guest.paused) == (True, True)
        assert (await put_state(tokyo, "Running"))["run_state"] == "Running"
        assert (tokyo.guests[MACHINE] is guest, guest.paused) == (True, False)
        # A guest that is held cannot end by itself: nobody waits for it.
        guest.refuses_to_stop = True
        for off in ("Saved", "PowerOff"):
            await put_state(tokyo, "Paused")
            assert (await put_state(tokyo, off))["run_state"] == "Off"
            assert await status_of(tokyo) == off
            status, problem = await tokyo.manage(
                "PUT", f"/machines/{MACHINE}/state", {"state": "Paused"}
            )
            assert (status, problem["code"]) == (409, Code.INVALID_STATE)
            await put_state(tokyo, "Running")
        jobs = [job["name"] for job in (await tokyo.get(paths.VMM_JOBS))["jobs"]]
        assert "Pause virtual machine" in jobs


async def test_after_its_host_went_down_a_paused_machine_is_off(estate: Estate) -> None:
    async with estate.running("tokyo") as tokyo:
        await put_state(tokyo, "Paused")
    async with estate.running("tokyo") as tokyo:
        assert await status_of(tokyo) == "PowerOff"
        _, view = await tokyo.manage("GET", f"/machines/{MACHINE}")
        assert view["desired_running"] is False


async def test_verbs_and_replication_with_a_paused_machine(estate: Estate) -> None:
    async with estate.running("tokyo") as tokyo, estate.running("osaka") as osaka:
        await protect(estate, tokyo, osaka)
        guest = tokyo.guests[MACHINE]
        await guest.write(0, 5 * BLOCK, b"before the pause", 21)
        await put_state(tokyo, "Paused")
        status, problem = await tokyo.verb(Verb.SHUT_DOWN, MACHINE, {"seconds": 5})
        assert (status, problem["code"]) == (409, Code.INVALID_STATE)
        assert problem["recommended_action"] == "resume it or turn it off"
        await tokyo.until(MACHINE, lambda view: view["replication"]["last_cut_record"] == 21)
        cut = (await tokyo.machine(MACHINE))["replication"]["last_replication_at"]
        await tokyo.until(MACHINE, lambda view: view["replication"]["last_replication_at"] > cut)
        status, problem = await tokyo.verb(Verb.PREPARE_FAILOVER, MACHINE)
        assert (status, problem["code"]) == (409, Code.INVALID_STATE)
        await tokyo.done(Verb.START, MACHINE)
        assert (guest.running, guest.paused) == (True, False)
        await tokyo.done(Verb.SHUT_DOWN, MACHINE, {"seconds": 5})
        assert not guest.running


async def test_a_paused_guest_holds_nothing_still_for_its_applications(estate: Estate) -> None:
    async with estate.running("tokyo") as tokyo:
        guests = tokyo.site.fabric.host_of(tokyo.site.fabric.store.machine(MACHINE)).guests
        assert await guests.freeze(MACHINE)
        await put_state(tokyo, "Paused")
        # It went into the pause on its way through a cut: that cut cannot be vouched for.
        assert not await guests.thaw(MACHINE)
        assert not await guests.freeze(MACHINE)
        assert await guests.challenge(MACHINE, "ab" * 16) is None
        assert tokyo.guests[MACHINE].freezes == 1
