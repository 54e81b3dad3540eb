"""A source that reaches neither hub nor replica stops its guest process by itself."""

import asyncio
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.support.guest_disks import make_guest_disks
from tests.support.simulator_estate import CLOUD, MACHINE, PORT, Estate, RunningSite, make_estate
from tests.support.simulator_steps import protect
from vmm_simulator.site import GuestPrograms
from wire_contract import paths
from wire_contract.vocabulary import Verb

SETTINGS = {
    "interval_seconds": 30,
    "recovery_points": 0,
    "application_consistent_hours": 0,
    "compression": False,
    "authentication": "certificate",
    "replica_port": PORT,
}


@pytest.fixture
def estate(tmp_path: Path) -> Estate:
    estate = make_estate(tmp_path, records_per_second=20)
    (tmp_path / "made").mkdir()
    for image, made in zip(estate.images, make_guest_disks(tmp_path / "made"), strict=True):
        shutil.copy(made, image)
    return estate


async def pid_of(site: RunningSite) -> int | None:
    _, view = await site.manage("GET", f"/machines/{MACHINE}")
    pid: int | None = view["guest_pid"]
    return pid


def lives(pid: int) -> bool:
    """Whether there is such a process; one that has ended and is not yet fetched is none."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


async def confirmed(site: RunningSite, epoch: int = 1) -> None:
    word = {"authoritative": True, "item": MACHINE}
    await site.done(Verb.CONFIRM_EPOCH, MACHINE, word, epoch=epoch)


async def test_cut_off_it_stops_and_runs_again_once_the_hub_confirms_it(estate: Estate) -> None:
    async with estate.running("tokyo", programs=GuestPrograms()) as tokyo:
        async with estate.running("osaka") as osaka:
            await protect(estate, tokyo, osaka)
            await tokyo.done(
                Verb.UPDATE_REPLICATION, CLOUD["tokyo"], {**SETTINGS, "self_fence_seconds": 2}
            )
            before = await pid_of(tokyo)
            assert before is not None
            assert lives(before)
            view = await tokyo.machine(MACHINE)
            assert view["replication"]["settings"]["self_fence_seconds"] == 2
        # The replica's site is gone, and no provider tells of the hub.
        stopped: dict[str, Any] = await tokyo.until(
            MACHINE, lambda each: each["run_state"] == "Off"
        )
        assert not lives(before)
        assert stopped["start_blocked_by"] == "the epoch was not confirmed since the host started"
        # It is no former source: nobody has said so, and its disks may go on.
        assert (stopped["fenced"], stopped["epoch"]) == (False, 1)
        status, problem = await tokyo.verb(Verb.START, MACHINE)
        assert (status, problem["code"]) == (503, 91005)
        await confirmed(tokyo)
        again = await pid_of(tokyo)
        assert again is not None
        assert again != before
        assert lives(again)
        answer = (await tokyo.machine(MACHINE, nonce="fresh"))["guest"]
        assert (answer["verified"], answer["epoch"], answer["pid"]) == (True, 1, again)


async def test_without_the_setting_it_runs_on(estate: Estate) -> None:
    async with estate.running("tokyo") as tokyo:
        async with estate.running("osaka") as osaka:
            await protect(estate, tokyo, osaka)
        view = await tokyo.until(
            MACHINE, lambda each: each["replication"]["statistics"]["network_failure_count"] > 1
        )
        assert view["run_state"] == "Running"


async def test_what_the_provider_hears_is_taken(estate: Estate) -> None:
    async with estate.running("tokyo") as tokyo:
        url = f"https://127.0.0.1:{tokyo.vmm_port}{paths.VMM_HUB_CONTACT}"
        async with asyncio.timeout(20), tokyo.session.put(url, json={}) as answer:
            assert answer.status == 200
