import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.support.simulator_estate import MACHINE, REPLICA, Estate, RunningSite, make_estate
from tests.support.simulator_steps import digest, protect
from vmm_simulator.problems import Code
from wire_contract.vocabulary import Verb

REPLICATING = 3
CRITICAL = 8
LARGER = 32 * 65_536


@pytest.fixture
def estate(tmp_path: Path) -> Estate:
    return make_estate(tmp_path)


async def change(site: RunningSite, machine_id: str, disk_id: str, **body: Any) -> dict[str, Any]:
    status, answer = await site.manage("PUT", f"/machines/{machine_id}/disks/{disk_id}", body)
    assert status == 200, answer
    return dict(answer)


async def test_a_running_machine_gets_a_larger_and_another_disk(estate: Estate) -> None:
    async with estate.running("tokyo") as tokyo:
        await tokyo.until(MACHINE, lambda view: bool(view["run_state"] == "Running"))
        view = await change(tokyo, MACHINE, "disk-1", size_bytes=LARGER)
        assert [disk["size_bytes"] for disk in view["disks"]] == [24 * 65_536, LARGER]
        await tokyo.guests[MACHINE].write(1, LARGER - 512, b"x" * 512, 1)
        assert tokyo.disks(MACHINE)[1].endswith(b"x" * 512)
        view = await change(tokyo, MACHINE, "more", size_bytes=65_536, name="more")
        added = Path(view["disks"][2]["path"])
        assert await asyncio.to_thread(added.read_bytes) == bytes(65_536)
        for disk_id, body, words in (
            ("disk-1", {"size_bytes": LARGER - 1}, "it only grows"),
            ("nameless", {"size_bytes": 1}, "give the name of the disk to add"),
        ):
            path = f"/machines/{MACHINE}/disks/{disk_id}"
            status, problem = await tokyo.manage("PUT", path, body)
            assert (status, words in problem["message"]) == (400, True)
    async with estate.running("tokyo") as tokyo:
        sizes = [disk["size_bytes"] for disk in (await tokyo.machine(MACHINE))["disks"]]
        assert sizes == [24 * 65_536, LARGER, 65_536]


async def test_a_machine_that_is_off_gets_larger_and_can_be_removed(tmp_path: Path) -> None:
    estate = make_estate(tmp_path, running=False)
    async with estate.running("tokyo") as tokyo:
        await change(tokyo, MACHINE, "disk-0", size_bytes=LARGER)
        assert len(tokyo.disks(MACHINE)[0]) == LARGER
        assert (await tokyo.manage("DELETE", f"/machines/{MACHINE}"))[0] == 200


async def test_both_ends_become_larger_and_nothing_is_copied_anew(estate: Estate) -> None:
    async with estate.both() as (tokyo, osaka):
        await protect(estate, tokyo, osaka)
        await change(tokyo, MACHINE, "disk-1", size_bytes=LARGER)
        await tokyo.guests[MACHINE].write(1, LARGER - 64, b"y" * 64, 7)
        # An administrator has to make the replica's disk larger, then resume: no resynchronization.
        await tokyo.until(MACHINE, lambda view: bool(view["replication"]["state"] == CRITICAL))
        await change(osaka, REPLICA, "disk-1", size_bytes=LARGER)
        await tokyo.done(Verb.RESUME_REPLICATION, MACHINE)
        await osaka.until(REPLICA, lambda view: view["replication"]["last_cut_record"] == 7)
        await tokyo.done(Verb.SYNCHRONIZE, MACHINE)
        assert digest(osaka.disks(REPLICA)) == digest(tokyo.disks(MACHINE))
        assert (await tokyo.machine(MACHINE))["replication"]["state"] == REPLICATING


async def test_a_full_store_takes_no_more(estate: Estate) -> None:
    hosts = estate.fqdns("tokyo")
    store = {"name": "s", "kind": "SMB", "folder": str(estate.folder), "hosts": hosts}
    async with estate.running("tokyo") as tokyo:
        capacity = {"capacity_bytes": 2**30}
        assert (await tokyo.manage("PUT", "/stores/s", {**store, **capacity}))[0] == 200
        assert (await tokyo.manage("PUT", "/stores/s/free-bytes", {"free_bytes": 10}))[0] == 200
        path = f"/machines/{MACHINE}/disks/disk-1"
        status, problem = await tokyo.manage("PUT", path, {"size_bytes": LARGER})
        assert (status, problem["code"]) == (503, Code.NOT_AVAILABLE)
        assert "store s has 10 bytes free" in problem["message"]
        assert len(tokyo.disks(MACHINE)[1]) == 16 * 65_536
