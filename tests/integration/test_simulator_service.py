import json
import stat
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from service_shell.errors import ProgramError
from tests.support.simulator_estate import CLOUD, MACHINE, RunningSite, make_estate
from wire_contract import paths
from wire_contract.vocabulary import Verb

NODES = ["vmm-a.tokyo.example", "vmm-b.tokyo.example"]
CLUSTER: dict[str, Any] = {
    "vmm": {
        "id": "vmm-tokyo",
        "fqdn": "vmm.tokyo.example",
        "cluster": {"role": "vmm.tokyo.example", "nodes": NODES},
    }
}
ACCOUNT = paths.VMM_RUN_AS_ACCOUNT.format(name="DRAProxyAccount")
CREDENTIAL = paths.VMM_RUN_AS_CREDENTIAL.format(name="DRAProxyAccount")


async def ask(
    site: RunningSite, method: str, path: str, body: Any = None
) -> tuple[int, dict[str, Any]]:
    url = f"https://127.0.0.1:{site.vmm_port}{path}"
    async with site.session.request(method, url, json=body) as answer:
        return answer.status, dict(await answer.json())


async def set_service(site: RunningSite, *, running: bool) -> None:
    status, answer = await ask(site, "PUT", paths.VMM_SERVICE, {"running": running})
    assert (status, answer["running"]) == (200, running)


async def test_a_stopped_service_answers_503_and_the_guests_go_on(tmp_path: Path) -> None:
    estate = make_estate(tmp_path)
    async with estate.running("tokyo") as tokyo:
        await tokyo.until(MACHINE, lambda view: bool(view["run_state"] == "Running"))
        pid = (await tokyo.manage("GET", f"/machines/{MACHINE}"))[1]["guest_pid"]
        await set_service(tokyo, running=False)
        for path in (paths.VMM_INVENTORY, paths.VMM_MACHINES, paths.VMM_RUN_AS_ACCOUNTS):
            status, problem = await ask(tokyo, "GET", path)
            assert status == 503
            assert "VMM service is stopped" in problem["message"]
        status, _ = await tokyo.verb(Verb.SHUT_DOWN, MACHINE)
        assert status == 503
        _, seen = await tokyo.manage("GET", f"/machines/{MACHINE}")
        assert (seen["guest_pid"], seen["run_state"]) == (pid, "Running")
        await set_service(tokyo, running=True)
        assert (await ask(tokyo, "GET", paths.VMM_INVENTORY))[0] == 200
        _, effects = await tokyo.manage("GET", "/effects")
        assert effects["effects"] == []


async def test_a_stopped_service_stays_stopped_over_a_restart(tmp_path: Path) -> None:
    estate = make_estate(tmp_path)
    async with estate.running("tokyo") as tokyo:
        await set_service(tokyo, running=False)
        await set_service(tokyo, running=False)
    async with estate.running("tokyo") as tokyo:
        assert (await ask(tokyo, "GET", paths.VMM_INVENTORY))[0] == 503


async def test_a_server_without_cluster_is_its_only_node(tmp_path: Path) -> None:
    async with make_estate(tmp_path).running("tokyo") as tokyo:
        view = await tokyo.get(paths.VMM_SERVICE)
        assert view["cluster_role"] is None
        (node,) = view["nodes"]
        assert node == {"fqdn": "vmm.tokyo.example", "active": True, "provider_version": None}


async def test_the_role_moves_and_the_providers_versions_stay(tmp_path: Path) -> None:
    estate = make_estate(tmp_path)
    async with estate.running("tokyo", **CLUSTER) as tokyo:
        path = paths.VMM_NODE_PROVIDER.format(node=NODES[1])
        assert (await ask(tokyo, "PUT", path, {"provider_version": "0.1.0"}))[0] == 200
        status, view = await tokyo.manage("PUT", "/service/active-node", {"node": NODES[1]})
        assert status == 200
        assert [node["active"] for node in view["nodes"]] == [False, True]
    async with estate.running("tokyo", **CLUSTER) as tokyo:
        view = await tokyo.get(paths.VMM_SERVICE)
        assert view["cluster_role"] == "vmm.tokyo.example"
        assert view["nodes"][1] == {"fqdn": NODES[1], "active": True, "provider_version": "0.1.0"}
        status, problem = await tokyo.manage("PUT", "/service/active-node", {"node": "stranger"})
        assert (status, problem["code"]) == (404, 32779)


async def test_a_new_password_is_in_force_after_a_restart_of_the_service(tmp_path: Path) -> None:
    estate = make_estate(tmp_path)
    async with estate.running("tokyo") as tokyo:
        first = {"user_name": "proxy", "password": "first-secret"}
        second = {"user_name": "proxy", "password": "second-secret"}
        status, created = await ask(tokyo, "PUT", ACCOUNT, first)
        assert (status, created["accounts"][0]["restart_needed"]) == (200, False)
        # As an administrator does it in VMM's settings workspace:
        _, listed = await tokyo.manage("PUT", "/run-as-accounts/DRAProxyAccount", second)
        assert listed["accounts"] == [
            {"name": "DRAProxyAccount", "user_name": "proxy", "restart_needed": True}
        ]
        assert "secret" not in json.dumps(listed)
        assert (await ask(tokyo, "GET", CREDENTIAL))[1] == first
        await set_service(tokyo, running=False)
        await set_service(tokyo, running=True)
        assert (await ask(tokyo, "GET", CREDENTIAL))[1] == second
    file = tmp_path / "tokyo" / "vmm" / "run-as.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


async def test_accounts_survive_and_a_deleted_one_is_gone(tmp_path: Path) -> None:
    estate = make_estate(tmp_path)
    body = {"user_name": "proxy", "password": "secret"}
    async with estate.running("tokyo") as tokyo:
        await ask(tokyo, "PUT", ACCOUNT, body)
    async with estate.running("tokyo") as tokyo:
        assert (await ask(tokyo, "GET", CREDENTIAL))[1] == body
        for _ in range(2):
            assert (await ask(tokyo, "DELETE", ACCOUNT))[0] == 200
        assert (await ask(tokyo, "GET", CREDENTIAL))[0] == 404


async def test_damaged_accounts_are_named(tmp_path: Path) -> None:
    estate = make_estate(tmp_path)
    file = tmp_path / "tokyo" / "vmm" / "run-as.json"
    async with estate.running("tokyo") as tokyo:
        await ask(tokyo, "PUT", ACCOUNT, {"user_name": "proxy", "password": "secret"})
    file.write_text("{}x")
    with pytest.raises(ProgramError, match=r"run-as\.json are damaged"):
        async with estate.running("tokyo"):
            pass


async def test_a_cloud_is_synchronised_by_its_property(tmp_path: Path) -> None:
    estate = make_estate(tmp_path)
    path = paths.VMM_CLOUD_SYNCHRONIZATION.format(cloud_id=CLOUD["tokyo"])
    async with estate.running("tokyo") as tokyo:
        before = await tokyo.get(paths.VMM_CLOUD.format(cloud_id=CLOUD["tokyo"]))
        status, after = await ask(tokyo, "PUT", path, {"synchronize": True})
        assert (before["synchronized"], status, after["synchronized"]) == (False, 200, True)
        stranger = paths.VMM_CLOUD_SYNCHRONIZATION.format(cloud_id="stranger")
        assert (await ask(tokyo, "PUT", stranger, {"synchronize": True}))[0] == 404


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PUT", paths.VMM_SERVICE, {"running": "perhaps"}),
        ("PUT", paths.VMM_SERVICE, {}),
        ("PUT", paths.VMM_SERVICE, ["running"]),
        ("PUT", ACCOUNT, {"user_name": "", "password": "x"}),
        ("PUT", ACCOUNT, {"user_name": "proxy", "password": "x" * 1025}),
        ("PUT", paths.VMM_RUN_AS_ACCOUNT.format(name="%2e%2e%2fx"), {}),
        ("PUT", paths.VMM_RUN_AS_ACCOUNT.format(name="a" * 129), {}),
    ],
)
async def test_what_cannot_be_meant_is_refused(
    tmp_path: Path, method: str, path: str, body: Any
) -> None:
    async with make_estate(tmp_path).running("tokyo") as tokyo:
        status, problem = await ask(tokyo, method, path, body)
        assert status == 400 or (status, problem["message"]) == (404, "Not Found")
        assert (await tokyo.get(paths.VMM_SERVICE))["running"] is True
        assert (await tokyo.get(paths.VMM_RUN_AS_ACCOUNTS))["accounts"] == []


@pytest.mark.parametrize(
    ("cluster", "message"),
    [
        ({"role": "r.example", "nodes": ["a.example"]}, "at least 2"),
        ({"role": "r.example", "nodes": ["a.example", "a.example"]}, "stands twice"),
        (
            {"role": "r.example", "nodes": ["a.example", "b.example"], "active": "c.example"},
            "not listed under nodes",
        ),
    ],
)
def test_a_wrong_cluster_is_named(tmp_path: Path, cluster: dict[str, Any], message: str) -> None:
    vmm = {"id": "vmm", "fqdn": "vmm.example", "cluster": cluster}
    with pytest.raises(ValidationError, match=message):
        make_estate(tmp_path).settings("tokyo", vmm=vmm)
