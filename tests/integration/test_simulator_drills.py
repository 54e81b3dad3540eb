"""What a test failover makes for itself on a site, and that nothing of it is left."""

from pathlib import Path
from typing import Any

import pytest

from tests.support.simulator_estate import CLOUD, MACHINE, REPLICA, Estate, RunningSite, make_estate
from tests.support.simulator_steps import digest, protect
from wire_contract.vocabulary import Verb

TEST = "test-1"
MADE: dict[str, Any] = {
    "logical_network_id": "logical-test",
    "cloud_id": CLOUD["osaka"],
    "test_machine_id": TEST,
    "networks": [
        {
            "network_id": "network-test-1",
            "name": "network - Test",
            "like": "WindowsNetworkVirtualization",
            "dynamic_addresses": False,
            "subnets": [{"name": "web", "address_list": ["10.9.0.0/24"]}],
        }
    ],
}


@pytest.fixture
def estate(tmp_path: Path) -> Estate:
    return make_estate(tmp_path, running=False)


async def whole(site: RunningSite) -> tuple[Any, ...]:
    """Return all that a site has: inventory, object model, files of its hosts."""
    inventory, fabric = await site.get("/vmm/v1/inventory"), await site.get("/vmm/v1/fabric")
    machines = [
        (each["machine_id"], each["run_state"], each["nics"], each["disks"])
        for each in inventory["machines"]
    ]
    folder = Path(site.site.fabric.store.hosts[f"host1.{site.name}.example"].disks_directory).parent
    # Of the replica, files come and go with each cycle: what a test leaves carries its name.
    files = [path.relative_to(folder) for path in folder.rglob("*")]
    images = sorted(str(path) for path in files if TEST in str(path))
    kinds = ("networks", "logical_networks", "address_pools", "stores", "hosts")
    return machines, inventory["networks"], *(fabric[kind] for kind in kinds), images


async def test_a_drill_with_networks_of_its_own_leaves_nothing(estate: Estate) -> None:
    async with estate.both() as (tokyo, osaka):
        await protect(estate, tokyo, osaka)
        before = await whole(osaka)
        await osaka.done(Verb.CREATE_TEST_NETWORKS, "vmm-osaka", MADE)
        copy = {"replica_machine_id": REPLICA, "name": "SQL-01 - Test", "recovery_point": None}
        await osaka.done(Verb.CREATE_TEST_MACHINE, TEST, copy)
        own = {"network_ids": ["network-test-1"]}
        await osaka.done(Verb.PREPARE_TEST_MACHINE, TEST, own)
        await osaka.done(Verb.START, TEST)
        during = await osaka.machine(TEST)
        assert during["nics"][0]["network_name"] == "network - Test"
        assert (during["host"], during["cloud_id"]) == (
            (await osaka.machine(REPLICA))["host"],
            CLOUD["osaka"],
        )
        status, problem = await osaka.verb(
            Verb.REMOVE_TEST_NETWORKS, "vmm-osaka", {"test_machine_id": TEST}
        )
        assert (status, problem["code"]) == (409, 32774)
        assert await whole(osaka) != before
        await osaka.done(Verb.REMOVE_TEST_MACHINE, TEST)
        await osaka.done(Verb.REMOVE_TEST_NETWORKS, "vmm-osaka", {"test_machine_id": TEST})
        assert await whole(osaka) == before


async def test_a_test_machine_whose_copy_broke_off_leaves_nothing(estate: Estate) -> None:
    async with estate.both() as (tokyo, osaka):
        await protect(estate, tokyo, osaka)
        before = await whole(osaka)
        await osaka.faults({"verb": "create_test_machine", "kind": "partial", "times": 1})
        copy = {"replica_machine_id": REPLICA, "name": "SQL-01 - Test", "recovery_point": None}
        assert (await osaka.verb(Verb.CREATE_TEST_MACHINE, TEST, copy))[0] == 409
        assert await whole(osaka) != before, "its disks are there"
        await osaka.done(Verb.REMOVE_TEST_MACHINE, TEST)
        assert await whole(osaka) == before
        await osaka.done(Verb.CREATE_TEST_MACHINE, TEST, copy)
        await osaka.done(Verb.REMOVE_TEST_MACHINE, TEST)
        assert await whole(osaka) == before


async def test_a_copy_is_set_aside_byte_for_byte_and_survives_the_reversal(estate: Estate) -> None:
    async with estate.both() as (tokyo, osaka):
        await protect(estate, tokyo, osaka)
        before = digest(tokyo.disks(MACHINE))
        kept = {"machine_id": MACHINE, "name": "SQL-01 - Kept"}
        await tokyo.done(Verb.KEEP_COPY, "kept-1", kept)
        view = await tokyo.machine("kept-1")
        assert (view["run_state"], view["kept_of"], view["replication"]) == ("Off", MACHINE, None)
        assert digest(tokyo.disks("kept-1")) == before
        await tokyo.done(Verb.START, MACHINE, epoch=1)
        status, problem = await tokyo.verb(Verb.KEEP_COPY, "kept-2", kept)
        assert (status, problem["code"]) == (409, 32775)
        status, _ = await tokyo.verb(Verb.KEEP_COPY, MACHINE, kept)
        assert status == 400
