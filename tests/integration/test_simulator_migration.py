import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.clustered_sites import both, clustered, move, replicates_on
from tests.support.simulator_estate import (
    CLOUD,
    MACHINE,
    REPLICA,
    Estate,
    RunningSite,
    make_estate,
)
from tests.support.simulator_steps import digest, fail_over_planned, place, protect
from vmm_simulator.journal import Journal
from vmm_simulator.problems import Code
from vmm_simulator.store import InventoryStore
from wire_contract import paths
from wire_contract.vocabulary import Verb


@pytest.fixture
def estate(tmp_path: Path) -> Estate:
    return make_estate(tmp_path)


@contextlib.asynccontextmanager
async def writing(site: RunningSite) -> AsyncIterator[list[int]]:
    """Have the machine's guest write one record after the other; gives those acknowledged."""
    guest, written = site.guests[MACHINE], [0]

    async def work() -> None:
        for number in itertools.count(1):
            offset = (number % 4) * 65_536
            data = number.to_bytes(64, "big")
            await guest.write(number % 2, offset, data, number)
            written[0] = number
            await asyncio.sleep(0)

    task = asyncio.create_task(work())
    try:
        yield written
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def more_written(written: list[int]) -> None:
    wanted = written[0] + 20
    async with asyncio.timeout(30):
        while written[0] < wanted:
            await asyncio.sleep(0.005)


async def test_a_primary_moves_under_writes_and_its_replica_follows(estate: Estate) -> None:
    one, two = estate.fqdns("tokyo")
    async with both(estate) as (tokyo, osaka):
        await protect(estate, tokyo, osaka)
        guest = tokyo.guests[MACHINE]
        counted = (await tokyo.machine(MACHINE))["replication"]["statistics"]
        async with writing(tokyo) as written:
            for host in (two, one, two):
                await more_written(written)
                await move(tokyo, MACHINE, host)
                await more_written(written)
                await replicates_on(tokyo, osaka)
        assert tokyo.guests[MACHINE] is guest
        assert (await tokyo.machine(MACHINE))["run_state"] == "Running"
        assert (await osaka.machine(REPLICA))["replication"]["peer_host"] == two
        await tokyo.done(Verb.SYNCHRONIZE, MACHINE)
        assert digest(osaka.disks(REPLICA)) == digest(tokyo.disks(MACHINE))
        # Its figures travel along, and are counted on.
        figures = (await tokyo.machine(MACHINE))["replication"]["statistics"]
        assert figures["begins_at"] == counted["begins_at"]
        assert figures["success_count"] > counted["success_count"] > 0
        # Where nothing was written there is nothing to send: no copy, and nothing compared.
        sent = (await tokyo.machine(MACHINE))["replication"]["transferred_bytes"]
        for host in (one, two):
            await move(tokyo, MACHINE, host)
            await replicates_on(tokyo, osaka)
        assert (await tokyo.machine(MACHINE))["replication"]["transferred_bytes"] == sent
        folder = estate.folder / "tokyo/vmm/hosts"
        assert not (folder / one / "replication" / MACHINE).exists()
        assert (folder / two / "replication" / MACHINE).is_dir()
        _, jobs = await tokyo.manage("GET", "/jobs")
        moves = [each for each in jobs["jobs"] if each["name"] == "Live migrate virtual machine"]
        assert [each["status"] for each in moves] == ["Completed"] * 5


async def test_the_primary_asks_the_broker_for_a_replica_that_moved(estate: Estate) -> None:
    _, two = estate.fqdns("osaka")
    async with both(estate) as (tokyo, osaka):
        await protect(estate, tokyo, osaka)
        placed = await osaka.machine(REPLICA)
        assert all(str(estate.folder / "csv") in disk["path"] for disk in placed["disks"])
        async with writing(tokyo) as written:
            await more_written(written)
            await move(osaka, REPLICA, two)
            await replicates_on(tokyo, osaka)
        assert (await tokyo.machine(MACHINE))["replication"]["peer_host"] == two
        await fail_over_planned(tokyo, osaka)
        assert digest(osaka.disks(REPLICA)) == digest(tokyo.disks(MACHINE))
        await osaka.done(Verb.START, REPLICA, epoch=2)
        assert (await osaka.machine(REPLICA))["host"] == two


@pytest.mark.parametrize("folder_moved", [False, True])
async def test_a_kill_during_a_migration_leaves_the_machine_where_its_folder_is(
    estate: Estate, *, folder_moved: bool
) -> None:
    one, two = estate.fqdns("tokyo")
    inventory = clustered(estate, "tokyo")
    async with estate.running("osaka", inventory=clustered(estate, "osaka")) as osaka:
        async with estate.running("tokyo", inventory=inventory) as tokyo:
            await protect(estate, tokyo, osaka)
            await tokyo.guests[MACHINE].write(0, 0, b"before the kill", 1)
        vmm = estate.folder / "tokyo/vmm"
        async with Journal(vmm / "journal.sqlite") as journal:
            store = InventoryStore(journal)
            assert await store.load()
            await store.change_machine(
                MACHINE, lambda each: each.model_copy(update={"migrating_to": two})
            )
        if folder_moved:
            target = vmm / "hosts" / two / "replication" / MACHINE
            await asyncio.to_thread(target.parent.mkdir, parents=True, exist_ok=True)
            source = vmm / "hosts" / one / "replication" / MACHINE
            await asyncio.to_thread(source.rename, target)
        async with estate.running("tokyo", inventory=inventory) as tokyo:
            view = await tokyo.machine(MACHINE)
            assert view["host"] == (two if folder_moved else one)
            confirmed = {"authoritative": True, "item": MACHINE}
            await tokyo.done(Verb.CONFIRM_EPOCH, MACHINE, confirmed)
            await tokyo.guests[MACHINE].write(1, 0, b"after the kill", 2)
            await replicates_on(tokyo, osaka)
            await tokyo.done(Verb.SYNCHRONIZE, MACHINE)
            assert digest(osaka.disks(REPLICA)) == digest(tokyo.disks(MACHINE))
            await move(tokyo, MACHINE, one)
            await replicates_on(tokyo, osaka)


async def test_a_move_that_fails_leaves_guest_and_replication_where_they_were(
    estate: Estate,
) -> None:
    one, two = estate.fqdns("tokyo")
    async with both(estate) as (tokyo, osaka):
        await protect(estate, tokyo, osaka)
        obstacle = estate.folder / "tokyo/vmm/hosts" / two / "replication" / MACHINE / "obstacle"
        await asyncio.to_thread(obstacle.mkdir, parents=True)
        path = f"/machines/{MACHINE}/migration"
        async with writing(tokyo) as written:
            await more_written(written)
            status, problem = await tokyo.manage("POST", path, {"host": two})
            assert (status, problem["code"]) == (409, Code.FAILED)
            assert "could not be moved" in problem["message"]
            await more_written(written)
            await replicates_on(tokyo, osaka)
        assert (await tokyo.machine(MACHINE))["host"] == one
        await asyncio.to_thread(obstacle.rmdir)
        await asyncio.to_thread(obstacle.parent.rmdir)
        await move(tokyo, MACHINE, two)
        await replicates_on(tokyo, osaka)
        await tokyo.done(Verb.SYNCHRONIZE, MACHINE)
        assert digest(osaka.disks(REPLICA)) == digest(tokyo.disks(MACHINE))


async def test_looks_and_transfers_during_moves_find_nothing_in_between(estate: Estate) -> None:
    async with both(estate) as (tokyo, osaka):
        await protect(estate, tokyo, osaka)

        async def look() -> None:
            while True:
                for site in (tokyo, osaka):
                    await site.get(paths.VMM_INVENTORY)
                    await asyncio.sleep(0.01)

        looking = asyncio.create_task(look())
        async with writing(tokyo) as written:
            for turn in range(2):
                await more_written(written)
                await move(osaka, REPLICA, estate.fqdns("osaka")[1 - turn % 2])
                await move(tokyo, MACHINE, estate.fqdns("tokyo")[1 - turn % 2])
                await replicates_on(tokyo, osaka)
        assert not looking.done()
        looking.cancel()
        await tokyo.done(Verb.SYNCHRONIZE, MACHINE)
        assert digest(osaka.disks(REPLICA)) == digest(tokyo.disks(MACHINE))


async def test_a_move_that_would_end_the_protection_is_refused_before_anything(
    estate: Estate,
) -> None:
    one, _ = estate.fqdns("tokyo")
    late = "late.tokyo.example"
    async with both(estate) as (tokyo, osaka):
        await protect(estate, tokyo, osaka)
        with (estate.folder / "hosts").open("a") as hosts:
            hosts.write(f"{estate.prefix}.77 {late}\n")
        body = {"host_group": "group", "disks_directory": str(estate.folder / "late")}
        cluster = {"cluster": "cluster.tokyo.example"}
        assert (await tokyo.manage("PUT", f"/hosts/{late}", {**body, **cluster}))[0] == 200
        path = f"/machines/{MACHINE}/migration"
        status, problem = await tokyo.manage("POST", path, {"host": late})
        assert (status, problem["code"]) == (409, Code.MIGRATION_BREAKS_PROTECTION)
        view = await tokyo.machine(MACHINE)
        assert (view["host"], view["run_state"]) == (one, "Running")
        status, problem = await tokyo.manage("POST", path, {"host": "gone.example"})
        assert (status, problem["code"]) == (404, Code.NOT_FOUND)


async def test_a_cluster_with_static_addresses_waits_for_a_broker_made_by_hand(
    estate: Estate,
) -> None:
    static = clustered(estate, "osaka", addressing="Static")
    async with (
        estate.running("tokyo", inventory=clustered(estate, "tokyo")) as tokyo,
        estate.running("osaka", inventory=static) as osaka,
    ):
        with pytest.raises(AssertionError, match="create the broker by hand"):
            await protect(estate, tokyo, osaka)
        views = [await site.get(paths.VMM_INVENTORY) for site in (tokyo, osaka)]
        brokers = [each["clusters"][0]["broker"] for each in views]
        assert brokers == ["cluster-broker.tokyo.example", None]
        status, _ = await osaka.manage("PUT", "/clusters/cluster.osaka.example/broker", {})
        assert status == 200
        # The nodes' certificates are of before: they do not stand for the broker (behaviour 1.4).
        with pytest.raises(AssertionError, match="does not name the Hyper-V Replica Broker"):
            await place(estate, osaka, await tokyo.machine(MACHINE))
        await protect(estate, tokyo, osaka)


async def test_a_host_that_restarts_waits_for_epochs_and_replication_goes_on(
    estate: Estate,
) -> None:
    one, two = estate.fqdns("tokyo")
    async with estate.both() as (tokyo, osaka):
        await protect(estate, tokyo, osaka)
        status, _ = await tokyo.manage("POST", f"/hosts/{one}/restart")
        assert status == 200
        view = await tokyo.machine(MACHINE)
        assert (view["run_state"], view["epoch_confirmed"]) == ("Off", False)
        await replicates_on(tokyo, osaka)
        confirmed = {"authoritative": True, "item": MACHINE}
        await tokyo.done(Verb.CONFIRM_EPOCH, MACHINE, confirmed)
        assert (await tokyo.machine(MACHINE))["run_state"] == "Running"
        host = (await osaka.machine(REPLICA))["host"]
        assert (await osaka.manage("POST", f"/hosts/{host}/restart"))[0] == 200
        await tokyo.guests[MACHINE].write(0, 0, b"after both restarts", 9)
        await replicates_on(tokyo, osaka)
        assert (await tokyo.manage("POST", f"/hosts/{two}/restart"))[0] == 200
        assert (await tokyo.manage("POST", "/hosts/gone.example/restart"))[0] == 404


async def test_an_unprotected_machine_runs_again_after_its_host_restarted(
    estate: Estate,
) -> None:
    async with estate.running("tokyo") as tokyo:
        await tokyo.until(MACHINE, lambda view: bool(view["run_state"] == "Running"))
        first = tokyo.guests[MACHINE]
        host = (await tokyo.machine(MACHINE))["host"]
        assert (await tokyo.manage("POST", f"/hosts/{host}/restart"))[0] == 200
        assert (await tokyo.machine(MACHINE))["run_state"] == "Running"
        assert tokyo.guests[MACHINE] is not first
        assert not first.running
        assert CLOUD["tokyo"] == (await tokyo.machine(MACHINE))["cloud_id"]
