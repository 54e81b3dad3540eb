import asyncio
import contextlib
import io
import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service_shell.errors import ProgramError
from tests.support.simulator_estate import CLOUD, MACHINE, Estate, RunningSite, make_estate
from vmm_simulator.problems import Code
from wire_contract import paths
from wire_contract.vmm_fabric import FabricView, JobsView
from wire_contract.vocabulary import Verb

TOKYO = CLOUD["tokyo"]
HOST = "host1.tokyo.example"
CSV_CLUSTER = "cluster.tokyo.example"
SUBNETS = [{"name": "front", "address_list": ["10.1.0.0/24"]}]
POOL = {
    "name": "pool",
    "network": "vlan",
    "subnet": "front",
    "first": "10.1.0.5",
    "last": "10.1.0.6",
}


@pytest.fixture
def estate(tmp_path: Path) -> Estate:
    return make_estate(tmp_path, running=False)


async def put(site: RunningSite, path: str, body: Any = None, method: str = "PUT") -> Any:
    """Do what has to succeed."""
    status, answer = await site.manage(method, path, {} if body is None else body)
    assert status == 200, (path, answer)
    return answer


async def refused(site: RunningSite, path: str, body: Any, method: str = "PUT") -> tuple[int, str]:
    """Ask for what has to be refused: its code and words; the message is one line."""
    status, answer = await site.manage(method, path, body)
    assert status in (400, 404, 409, 503), (path, answer)
    assert "\n" not in answer["message"]
    return answer["code"], answer["message"]


async def fabric(site: RunningSite) -> FabricView:
    return FabricView.model_validate_json(json.dumps(await site.get(paths.VMM_FABRIC)))


async def with_pool(site: RunningSite) -> None:
    network = {"name": "vlan", "type": "VLANNetwork", "logical_network": "logical"}
    await put(site, "/networks/vlan", {**network, "subnets": SUBNETS})
    await put(site, "/ip-pools/pool", POOL)


async def test_the_console_adds_changes_and_removes_what_vmm_manages(estate: Estate) -> None:
    async with estate.running("tokyo") as tokyo:
        await with_pool(tokyo)
        await put(tokyo, "/classifications/gold", {"name": "Gold"})
        await put(tokyo, f"/clusters/{CSV_CLUSTER}", {"addressing": "Static"})
        store = {"name": "CSV", "kind": "CSV", "folder": "/csv", "capacity_bytes": 1000}
        await put(tokyo, "/stores/csv", {**store, "cluster": CSV_CLUSTER, "classification": "gold"})
        await put(tokyo, "/stores/csv/free-bytes", {"free_bytes": 7})
        share = {"folder": "/srv/export", "server": "files.example"}
        await put(tokyo, "/file-shares/%5C%5Cfiles%5Cexport", share)
        await put(tokyo, f"/clusters/{CSV_CLUSTER}/broker", {"name": "broker.tokyo.example"})
    async with estate.running("tokyo") as tokyo:
        seen = await fabric(tokyo)
        assert [(each.store_id, each.free_bytes) for each in seen.stores] == [("csv", 7)]
        assert [each.pool_id for each in seen.address_pools] == ["pool"]
        (cluster,) = seen.clusters
        assert (cluster.addressing, cluster.broker) == ("Static", "broker.tokyo.example")
        (offline,) = seen.file_shares
        assert (offline.unc, offline.ready) == ("\\\\files\\export", False)
        assert any("full control (NTFS)" in each for each in offline.missing)
        code, words = await refused(tokyo, "/classifications/gold", None, "DELETE")
        assert (code, words) == (
            Code.RULE_BROKEN,
            "store CSV: there is no storage classification gold",
        )
        for path in ("stores/csv", "classifications/gold", f"clusters/{CSV_CLUSTER}"):
            await put(tokyo, f"/{path}", method="DELETE")
        gone = await fabric(tokyo)
        assert (gone.stores, gone.classifications, gone.clusters) == ((), (), ())
        assert (await refused(tokyo, "/stores/csv", None, "DELETE"))[0] == Code.NOT_FOUND


async def test_a_host_that_is_added_later_is_there_and_not_prepared(estate: Estate) -> None:
    late = "late.tokyo.example"
    body = {"host_group": "group", "disks_directory": str(estate.folder / "late")}
    async with estate.running("tokyo") as tokyo:
        code, words = await refused(tokyo, f"/hosts/{late}", body)
        assert (code, "no address for host late" in words) == (Code.NOT_FOUND, True)
        with (estate.folder / "hosts").open("a") as hosts:
            hosts.write(f"{estate.prefix}.77 {late}\n")
        await put(tokyo, f"/hosts/{late}", body)
        await put(tokyo, f"/hosts/{late}", {**body, "memory_megabytes": 4096})
        view = await tokyo.get(paths.VMM_INVENTORY)
        (host,) = [each for each in view["hosts"] if each["fqdn"] == late]
        assert (host["replica_enabled"], host["cloud_ids"]) == (False, [TOKYO])
        (group,) = view["host_groups"]
        assert (group["host_count"], group["machine_count"]) == (3, 1)
        # The cloud's certificates are asked of it like of the others.
        path = paths.VMM_HOST_REQUESTS.format(cloud_id=TOKYO)
        assert late in {each["host"] for each in (await tokyo.get(path))["requests"]}
    async with estate.running("tokyo") as tokyo:
        assert late in tokyo.site.fabric.hosts
        await put(tokyo, f"/hosts/{late}", method="DELETE")
        assert late not in tokyo.site.fabric.hosts
        code, words = await refused(tokyo, f"/hosts/{HOST}", None, "DELETE")
        assert (code, words) == (Code.RULE_BROKEN, f"machine SQL-01: there is no host {HOST}")


async def test_a_machine_is_created_with_empty_disks_and_removed(estate: Estate) -> None:
    new: dict[str, Any] = {
        "name": "NEW",
        "host": HOST,
        "cloud": TOKYO,
        "disks": [{"id": "os", "name": "os", "size_bytes": 65_536}],
        "nics": [{"id": "nic-2", "network": "vlan", "subnet": "front", "address_type": "Static"}],
    }
    async with estate.running("tokyo") as tokyo:
        await with_pool(tokyo)
        view = await put(tokyo, "/machines/new", new)
        assert (view["run_state"], view["nics"][0]["address_type"]) == ("Off", "Static")
        image = Path(view["disks"][0]["path"])
        assert await asyncio.to_thread(image.read_bytes) == bytes(65_536)
        code, words = await refused(tokyo, "/machines/new", new)
        assert (code, words) == (Code.IN_USE, "there is a machine new already")
        (grant,) = (await fabric(tokyo)).address_pools[0].grants
        assert (grant.address, grant.nic_id) == ("10.1.0.5", "nic-2")
        await put(tokyo, "/machines/new", method="DELETE")
        assert await asyncio.to_thread(image.exists)
        assert (await fabric(tokyo)).address_pools[0].grants == ()
        other = {**new, "disks": [{"id": "os", "name": "os", "path": str(image)}]}
        await put(tokyo, "/machines/again", {**other, "running": True})
        await put(tokyo, "/machines/again/state", {"state": "PowerOff"})
        code, _ = await refused(tokyo, "/machines/third", new)
        assert code == Code.RULE_BROKEN, "its adapter is another machine's"
        third = image.parent.with_name("third")
        assert await asyncio.to_thread(lambda: list(third.glob("*"))) == []


async def test_a_machine_is_started_saved_and_turned_off(estate: Estate) -> None:
    async with estate.running("tokyo") as tokyo:
        for state, run_state in (("Running", "Running"), ("Saved", "Off"), ("PowerOff", "Off")):
            view = await put(tokyo, f"/machines/{MACHINE}/state", {"state": state})
            assert view["run_state"] == run_state
            (hardware,) = (await fabric(tokyo)).machines
            assert hardware.status == state
        code, words = await refused(tokyo, f"/machines/{MACHINE}/state", {"state": "Saved"})
        assert (code, words) == (Code.INVALID_STATE, "machine SQL-01 is off")
        await put(tokyo, f"/machines/{MACHINE}/state", {"state": "Running"})
        code, words = await refused(tokyo, f"/machines/{MACHINE}", None, "DELETE")
        assert (code, words) == (Code.INVALID_STATE, "machine SQL-01 runs")


async def test_adapters_get_and_give_back_addresses(estate: Estate) -> None:
    path = f"/machines/{MACHINE}/nics/nic"
    static = {"network": "vlan", "subnet": "front", "address_type": "Static"}
    async with estate.running("tokyo") as tokyo:
        await with_pool(tokyo)
        await put(tokyo, path, {**static, "address": "10.1.0.6"})
        code, words = await refused(
            tokyo, f"/machines/{MACHINE}/nics/nic-2", {**static, "address": "10.1.0.6"}
        )
        assert (code, words) == (
            Code.NO_FREE_ADDRESS,
            "address 10.1.0.6 is not free in IP pool pool",
        )
        pool = (await fabric(tokyo)).address_pools[0]
        assert ([each.address for each in pool.grants], pool.free_count) == (["10.1.0.6"], 1)
        await put(tokyo, path, method="DELETE")
        assert (await tokyo.machine(MACHINE))["nics"] == []
        assert (await fabric(tokyo)).address_pools[0].grants == ()
        await put(tokyo, path, {"network": "network"})
        await put(tokyo, "/ip-pools/pool/grants/nic", {"address": None})
        assert (await fabric(tokyo)).address_pools[0].free_count == 1
        await put(tokyo, "/ip-pools/pool/grants/nic", method="DELETE")


async def test_jobs_of_the_console_and_of_the_provider_are_in_one_history(
    estate: Estate,
) -> None:
    async with estate.running("tokyo") as tokyo:
        await put(tokyo, "/classifications/gold", {"name": "Gold"})
        await refused(tokyo, "/classifications/silver", {"name": "GOLD"})
        await tokyo.done(Verb.START, MACHINE, epoch=0)
        jobs = JobsView.model_validate_json(json.dumps(await tokyo.get(paths.VMM_JOBS))).jobs
        assert [(each.name, each.status, each.owner) for each in jobs] == [
            ("Provider: start", "Completed", "vmm-service"),
            ("Add or change storage classification", "Failed", "administrator"),
            ("Add or change storage classification", "Completed", "administrator"),
        ]
        assert "gold is there 2 times" in (jobs[1].error or "")
        assert (await tokyo.manage("GET", "/jobs"))[1] == await tokyo.get(paths.VMM_JOBS)


async def test_changes_are_announced_to_who_waits_and_survive_a_restart(estate: Estate) -> None:
    async with estate.running("tokyo") as tokyo:
        first = (await tokyo.get(paths.VMM_CHANGES))["change_number"]
        waiting = asyncio.create_task(tokyo.get(paths.VMM_CHANGES, after=str(first), seconds="30"))
        unheard = await tokyo.get(paths.VMM_CHANGES, after=str(first), seconds="0.05")
        assert unheard["change_number"] == first
        assert not waiting.done()
        await put(tokyo, "/classifications/gold", {"name": "Gold"})
        assert (await waiting)["change_number"] == first + 1
        # What is written and changes nothing is no news.
        await put(tokyo, "/classifications/gold", {"name": "Gold"})
        assert (await tokyo.get(paths.VMM_CHANGES))["change_number"] == first + 1
    async with estate.running("tokyo") as tokyo:
        assert (await tokyo.get(paths.VMM_CHANGES))["change_number"] == first + 2
        for bad in ({"after": "x"}, {"after": "1", "seconds": "31"}, {"after": "-1"}):
            url = f"https://127.0.0.1:{tokyo.vmm_port}{paths.VMM_CHANGES}"
            async with tokyo.session.get(url, params=bad) as answer:
                assert answer.status == 400


async def test_a_first_inventory_that_breaks_rules_is_refused_with_all_of_them(
    estate: Estate,
) -> None:
    inventory = estate.configuration("tokyo")["inventory"]
    second = {"id": "n2", "name": "n2", "logical_network": "logical"}
    share = {"unc": "files", "folder": "/f", "server": "files.example"}
    broken = {
        **inventory,
        "networks": [*inventory["networks"], second],
        "file_shares": [share],
    }
    with pytest.raises(ProgramError) as refusal:
        async with estate.running("tokyo", inventory=broken):
            pass
    text = str(refusal.value)
    assert "logical network logical has 2 VM networks without isolation; it can have one" in text
    assert "file share files: it is named" in text
    # Nothing was kept of it: the corrected file is the first inventory.
    async with estate.running("tokyo") as tokyo:
        assert (await tokyo.machine(MACHINE))["name"] == "SQL-01"


async def test_the_first_inventory_has_addresses_folders_and_brokers(tmp_path: Path) -> None:
    static = {"network": "vlan", "subnet": "front", "address_type": "Static"}
    estate = make_estate(tmp_path, running=False, nics=[{"id": "nic", **static}])
    inventory = estate.configuration("tokyo")["inventory"]
    vlan = {"id": "vlan", "name": "vlan", "type": "VLANNetwork", "logical_network": "logical"}
    library = {"unc": "\\\\vmm\\Library", "folder": str(tmp_path / "library")}
    whole = {
        **inventory,
        "networks": [*inventory["networks"], {**vlan, "subnets": SUBNETS}],
        "ip_pools": [{"id": "pool", **POOL, "reserved": ["10.1.0.5"]}],
        "library_shares": ["\\\\vmm\\Other", library],
        "clusters": [{"name": CSV_CLUSTER, "broker": "broker.tokyo.example"}],
    }
    async with estate.running("tokyo", inventory=whole) as tokyo:
        seen = await fabric(tokyo)
        (pool,) = seen.address_pools
        assert [each.address for each in pool.grants] == ["10.1.0.6"]
        assert [each.folder for each in seen.library_shares] == [None, str(tmp_path / "library")]
        assert await asyncio.to_thread((tmp_path / "library").is_dir)
        assert [each.broker for each in seen.clusters] == ["broker.tokyo.example"]
        (machine,) = seen.machines
        assert machine.nics[0].address == "10.1.0.6"


async def test_nothing_is_changed_while_the_service_is_stopped(estate: Estate) -> None:
    async with estate.running("tokyo") as tokyo:
        await put(tokyo, "/service", {"running": False})
        status, answer = await tokyo.manage("PUT", "/classifications/gold", {"name": "Gold"})
        assert (status, "service is stopped" in answer["message"]) == (503, True)


async def test_nobody_changes_anything_without_the_token(estate: Estate) -> None:
    async with estate.running("tokyo") as tokyo:
        before = await fabric(tokyo)
        for method, path in (
            ("PUT", "/classifications/gold"),
            ("DELETE", f"/machines/{MACHINE}"),
            ("POST", f"/hosts/{HOST}/restart"),
        ):
            url = f"https://127.0.0.1:{tokyo.management_port}{path}"
            headers = {"Authorization": "Bearer another"}
            async with tokyo.session.request(method, url, headers=headers, json={}) as answer:
                assert answer.status == 401
        assert await fabric(tokyo) == before


PATHS = st.sampled_from(
    [
        "/host-groups/x",
        "/clusters/x.example",
        "/clusters/x.example/broker",
        "/logical-networks/x",
        "/networks/x",
        "/ip-pools/x",
        "/ip-pools/x/grants/nic",
        "/classifications/x",
        "/stores/x",
        "/stores/x/free-bytes",
        "/library-shares/x",
        "/file-shares/x",
        "/hosts/x.example",
        "/clouds/x",
        "/machines/x",
        f"/machines/{MACHINE}/state",
        f"/machines/{MACHINE}/as-replica",
        f"/machines/{MACHINE}/disks/x",
        f"/machines/{MACHINE}/nics/x",
        "/planets/x",
    ]
)
KEYS = ("name", "folder", "kind", "state", "size_bytes", "network", "first", "last", "disks", "id")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=10) | st.sampled_from(KEYS),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(KEYS), inner),
    max_leaves=5,
)
BODIES = st.one_of(
    st.binary(max_size=60),
    st.sampled_from([b"[" * 50_000, b'{"name":' * 10_000, b'{"name": "\xff"}', b"{}"]),
    JSON.map(lambda value: json.dumps(value).encode()),
    st.dictionaries(st.sampled_from(KEYS), JSON, max_size=4).map(
        lambda value: json.dumps(value).encode()
    ),
)


async def test_any_body_is_done_or_refused_and_the_site_goes_on(estate: Estate) -> None:
    async with estate.running("tokyo") as tokyo:
        loop = asyncio.get_running_loop()
        base = f"https://127.0.0.1:{tokyo.management_port}"

        async def send(path: str, body: bytes | io.BytesIO) -> int:
            async with tokyo.session.put(f"{base}{path}", data=body) as answer:
                await answer.read()
                return answer.status

        @settings(
            max_examples=60,
            deadline=None,
            suppress_health_check=[HealthCheck.function_scoped_fixture],
        )
        @given(PATHS, BODIES)
        def try_it(path: str, body: bytes) -> None:
            status = asyncio.run_coroutine_threadsafe(send(path, body), loop).result(30)
            assert status in (200, 400, 404, 409, 503)

        await asyncio.to_thread(try_it)
        assert (await tokyo.machine(MACHINE))["machine_id"] == MACHINE
        too_long = io.BytesIO(b'{"name": "' + b"x" * 2_000_000 + b'"}')
        # It may be refused before all of it was sent.
        with contextlib.suppress(aiohttp.ClientConnectionError):
            assert await send("/networks/x", too_long) == 413
