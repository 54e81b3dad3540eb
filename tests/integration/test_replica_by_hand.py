"""What administrators did by hand at a replica's site."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.support.simulator_estate import (
    CLOUD,
    MACHINE,
    PORT,
    REPLICA,
    Estate,
    RunningSite,
    make_estate,
)
from tests.support.simulator_steps import POLICY, digest, pair, protect
from vmm_simulator.hyperv.backend import AppliedCut
from vmm_simulator.hyperv.incoming import Incoming
from wire_contract.vocabulary import Verb


@pytest.fixture
def estate(tmp_path: Path) -> Estate:
    return make_estate(tmp_path)


async def test_what_was_removed_by_hand_has_no_relationship_left_to_remove(
    estate: Estate,
) -> None:
    async with estate.both() as (tokyo, osaka):
        await protect(estate, tokyo, osaka)
        await osaka.done(Verb.DISABLE_REPLICATION, REPLICA)
        await osaka.done(Verb.UPDATE_PROTECTION, REPLICA, {"item": None})
        assert (await osaka.manage("DELETE", f"/machines/{REPLICA}"))[0] == 200
        # A hub that knows nothing of it asks for its end, and for that of the property.
        await osaka.done(Verb.DISABLE_REPLICATION, REPLICA)
        await osaka.done(Verb.UPDATE_PROTECTION, REPLICA, {"item": None})
        status, problem = await osaka.verb(Verb.UPDATE_PROTECTION, REPLICA, {"item": MACHINE})
        assert (status, problem["code"]) == (404, 32779)
        await tokyo.done(Verb.DISABLE_REPLICATION, MACHINE)
        assert (await tokyo.machine(MACHINE))["replication"] is None


BLOCK = 65_536
CHANGED = 3


def restored(estate: Estate, folder: Path) -> list[dict[str, str]]:
    """Bring the machine's disks back from a backup; a few of their blocks are older."""
    folder.mkdir()
    disks = []
    for index, image in enumerate(estate.images):
        copy = folder / f"restored-{index}.img"
        data = bytearray(image.read_bytes())
        for block in range(CHANGED if index == 0 else 0):
            data[block * BLOCK] ^= 0xFF
        copy.write_bytes(data)
        disks.append({"id": f"disk-{index}", "name": f"disk-{index}", "path": str(copy)})
    return disks


async def existing(estate: Estate, osaka: RunningSite, folder: Path, **changes: Any) -> None:
    """Have the machine at the other site too, of the same id."""
    disks = await asyncio.to_thread(restored, estate, folder)
    machine = {"name": "SQL-01", "host": estate.fqdns("osaka")[0], "cloud": CLOUD["osaka"]}
    body = {**machine, "disks": disks, "nics": [{"id": "nic", "network": "network"}], **changes}
    assert (await osaka.manage("PUT", f"/machines/{MACHINE}", body))[0] == 200


async def enabled(estate: Estate, tokyo: RunningSite) -> tuple[int, dict[str, Any]]:
    """Enable the replication to the machine that is there; status and answer."""
    arguments = {
        **POLICY,
        "relationship_id": "relationship-1",
        "replica_host": estate.fqdns("osaka")[0],
        "replica_port": PORT,
        "replica_machine_id": MACHINE,
        "item": MACHINE,
    }
    return await tokyo.verb(Verb.ENABLE_REPLICATION, MACHINE, arguments)


def spool_bytes(folder: Path) -> list[int]:
    """Return how much a comparison has brought that is under way."""
    spools = folder.glob(f"osaka/vmm/hosts/*/replication/{MACHINE}/comparison.spool")
    return [path.stat().st_size for path in spools]


async def taken(osaka: RunningSite) -> int:
    """Have the machine's host take it as a replica; the status."""
    return int((await osaka.manage("PUT", f"/machines/{MACHINE}/as-replica"))[0])


async def test_only_what_differs_of_an_existing_machine_is_sent(
    estate: Estate, tmp_path: Path
) -> None:
    async with estate.both() as (tokyo, osaka):
        await pair(estate, tokyo, osaka)
        await existing(estate, osaka, tmp_path / "restored")
        assert await taken(osaka) == 200
        assert [each["network_id"] for each in (await osaka.machine(MACHINE))["nics"]] == [None]
        assert (await enabled(estate, tokyo))[0] == 200
        backend = osaka.site.fabric.hosts[estate.fqdns("osaka")[0]].backend
        commit, spooled = backend.commit_transfer, list[int]()

        async def measured(machine_id: str, incoming: Incoming) -> AppliedCut:
            spooled.extend(await asyncio.to_thread(spool_bytes, tmp_path))
            return await commit(machine_id, incoming)

        backend.commit_transfer = measured  # type: ignore[method-assign]
        await tokyo.done(Verb.START_INITIAL_REPLICATION, MACHINE, {"resynchronize": True})
        await tokyo.done(Verb.COMPLETE_INITIAL_REPLICATION, MACHINE)
        await osaka.done(Verb.COMPLETE_INITIAL_REPLICATION, MACHINE)
        assert CHANGED * BLOCK < spooled[0] < (CHANGED + 1) * BLOCK
        await tokyo.guests[MACHINE].write(1, 0, b"and changes follow", 7)
        await osaka.until(MACHINE, lambda each: each["replication"]["last_cut_record"] == 7)
        await tokyo.done(Verb.SYNCHRONIZE, MACHINE)
        await backend.apply_committed(MACHINE)
        assert digest(osaka.disks(MACHINE)) == digest(tokyo.disks(MACHINE))


async def test_an_existing_machine_is_no_replica_unless_it_is_meant_is_off_and_has_the_disks(
    estate: Estate, tmp_path: Path
) -> None:
    async with estate.both() as (tokyo, osaka):
        await pair(estate, tokyo, osaka)

        async def refused(words: str) -> None:
            status, problem = await enabled(estate, tokyo)
            assert status >= 400
            assert words in problem["message"]
            assert problem["recommended_action"]

        await refused("machine vm-1 is not known")
        await existing(estate, osaka, tmp_path / "restored", running=True)
        await refused("is a machine of its own")
        assert await taken(osaka) == 409
        off, on = {"state": "PowerOff"}, {"state": "Running"}
        await osaka.manage("PUT", f"/machines/{MACHINE}/state", off)
        assert await taken(osaka) == 200
        await osaka.manage("PUT", f"/machines/{MACHINE}/state", on)
        await refused("runs")
        await osaka.manage("PUT", f"/machines/{MACHINE}/state", off)
        disk = tmp_path / "restored" / "restored-1.img"
        moved = disk.rename(tmp_path / "elsewhere.img")
        await refused("is missing")
        moved.rename(disk)
        await osaka.manage("DELETE", f"/machines/{MACHINE}/as-replica")
        await refused("is a machine of its own")
        larger = {"size_bytes": disk.stat().st_size + BLOCK}
        assert (await osaka.manage("PUT", f"/machines/{MACHINE}/disks/disk-1", larger))[0] == 200
        await refused("is not the replica of what")
        assert (await osaka.machine(MACHINE))["replication"] is None


async def test_a_kill_while_an_existing_machine_is_compared_is_made_good(tmp_path: Path) -> None:
    estate = make_estate(tmp_path, running=False)
    async with estate.process("osaka") as far, estate.process("tokyo") as near:
        tokyo, osaka = await near.start(), await far.start()
        await pair(estate, tokyo, osaka)
        await existing(estate, osaka, tmp_path / "restored")
        assert await taken(osaka) == 200
        await far.kill()
        osaka = await far.start()
        assert (await enabled(estate, tokyo))[0] == 200
        await tokyo.done(Verb.START_INITIAL_REPLICATION, MACHINE, {"resynchronize": True})
        await far.kill()
        await near.kill()
        tokyo, osaka = await near.start(), await far.start()
        await tokyo.done(Verb.COMPLETE_INITIAL_REPLICATION, MACHINE)
        await osaka.done(Verb.COMPLETE_INITIAL_REPLICATION, MACHINE)
        restored = sorted((tmp_path / "restored").iterdir())
        assert digest([each.read_bytes() for each in restored]) == digest(
            [each.read_bytes() for each in estate.images]
        )
