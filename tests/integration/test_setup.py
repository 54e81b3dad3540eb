import stat
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from provider_agent import VERSION
from provider_agent.proxy import custom_proxy
from provider_agent.setup.package import ADDRESSES, MANIFEST, UNIT
from provider_agent.setup.record import load_record
from service_shell.errors import ProgramError
from tests.support.setup_world import NODES, ROLE, SetupWorld, setup_world, vault_credentials
from tests.support.simulator_estate import make_estate

CLUSTER = {"cluster": {"role": ROLE, "nodes": list(NODES)}}


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[SetupWorld]:
    async with setup_world(make_estate(tmp_path)) as made:
        yield made


async def test_set_up_checks_asks_stops_installs_and_starts_again(world: SetupWorld) -> None:
    await world.set_up(auto_update=True)
    (question,) = world.questions
    assert "has to stop the VMM service of vmm.tokyo.example" in question
    service = await world.service()
    assert service["running"]
    assert service["nodes"][0]["provider_version"] == VERSION
    order = [
        "passed  VMM version",
        "passed  VMM service account",
        "passed  disk space",
        "passed  hub reachable",
        "passed  clock",
        "passed  provider version on all nodes",
        "host1.tokyo.example  ->  every host of the partner cloud:8084",
        "the VMM service is stopped",
        "provider-agent run --config",
        "the VMM service is started",
        f"provider {VERSION} is installed on {ROLE}",
    ]
    places = [world.said().index(words) for words in order]
    assert places == sorted(places)
    record = load_record(world.settings().data_directory, ROLE)
    assert record is not None
    assert (record.auto_update, record.version) == (True, VERSION)


async def test_the_update_policy_stays_when_nothing_else_is_said(world: SetupWorld) -> None:
    folder = world.settings().data_directory
    for chosen, expected in ((None, False), (True, True), (None, True), (False, False)):
        await world.set_up(auto_update=chosen, yes=True)
        record = load_record(folder, ROLE)
        assert record is not None
        assert record.auto_update is expected
    (file,) = (folder / "setup").iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


async def test_without_leave_nothing_happens(world: SetupWorld) -> None:
    world.says_yes = False
    with pytest.raises(ProgramError, match="may not stop the VMM service"):
        await world.set_up()
    service = await world.service()
    assert (service["running"], service["nodes"][0]["provider_version"]) == (True, None)
    assert not (world.folder / "agent").exists()


async def test_yes_asks_nothing_and_a_stopped_service_is_started(world: SetupWorld) -> None:
    await world.tokyo.manage("PUT", "/service", {"running": False})
    await world.set_up()
    assert (await world.service())["running"]
    await world.set_up(yes=True)
    assert not world.questions


@pytest.mark.parametrize(
    ("vmm", "message"),
    [
        ({"version": "3.0.6005.0"}, "VMM version: 3.0.6005.0"),
        ({"update_rollup": 0}, "install the latest update rollup"),
        ({"service_account": " "}, "VMM service account: unknown"),
        ({"free_disk_bytes": 1000}, "disk space: 0 MiB free"),
    ],
)
async def test_a_missing_prerequisite_leaves_everything_as_it_was(
    tmp_path: Path, vmm: dict[str, Any], message: str
) -> None:
    async with setup_world(make_estate(tmp_path), **vmm) as world:
        with pytest.raises(ProgramError, match=f"has changed nothing.*{message}"):
            await world.set_up(yes=True)
        assert "FAILED" in world.said()
        assert "is stopped" not in world.said()
        assert (await world.service())["running"]


@pytest.mark.parametrize("ahead", [timedelta(hours=1), timedelta(hours=-1)])
async def test_a_wrong_clock_is_told_with_its_direction(
    world: SetupWorld, ahead: timedelta
) -> None:
    world.hub.ahead = ahead
    direction = "behind" if ahead > timedelta() else "ahead of"
    with pytest.raises(ProgramError, match=rf"clock: 3[56]\d\d s {direction} the hub's"):
        await world.set_up(yes=True)


async def test_a_hub_that_cannot_be_reached_is_told(world: SetupWorld) -> None:
    world.credentials.write_bytes(vault_credentials("https://127.0.0.1:1"))
    with pytest.raises(ProgramError, match=r"hub reachable: .*127\.0\.0\.1:1 cannot be reached"):
        await world.set_up(yes=True)
    assert (await world.service())["running"]


async def test_who_does_not_know_the_hub_is_asked_for_the_key(world: SetupWorld) -> None:
    with pytest.raises(ProgramError, match="give the vault's registration key"):
        await world.set_up(credentials=None)


async def test_a_vmm_server_that_is_away_is_named(world: SetupWorld) -> None:
    vmm = {**world.configuration()["vmm"], "url": "https://127.0.0.1:1"}
    with pytest.raises(ProgramError, match=r"VMM server cannot be asked.*check vmm\.url"):
        await world.set_up(world.settings(vmm=vmm), yes=True)


async def test_the_service_is_started_again_when_installing_fails(world: SetupWorld) -> None:
    world.use_systemd('echo "no such bus" >&2; exit 1')
    with pytest.raises(ProgramError, match=r"daemon-reload failed: no such bus"):
        await world.set_up(yes=True)
    service = await world.service()
    assert (service["running"], service["nodes"][0]["provider_version"]) == (True, None)
    assert load_record(world.settings().data_directory, ROLE) is None


async def test_the_service_is_started_again_when_the_unit_cannot_be_written(
    world: SetupWorld,
) -> None:
    units = world.use_systemd("exit 0")
    units.rmdir()
    with pytest.raises(ProgramError, match="run set-up as root"):
        await world.set_up(yes=True)
    assert (await world.service())["running"]


async def test_the_service_is_started_again_when_the_record_cannot_be_kept(
    world: SetupWorld,
) -> None:
    (world.folder / "agent").write_text("in the way")
    with pytest.raises(ProgramError, match="cannot write"):
        await world.set_up(yes=True)
    assert (await world.service())["running"]


async def test_where_systemd_runs_the_unit_is_installed_and_enabled(world: SetupWorld) -> None:
    units = world.use_systemd(f'echo "$@" >> {world.folder}/calls')
    for _ in range(2):
        await world.set_up(yes=True)
    unit = (units / "provider-agent.service").read_text()
    assert f"run --config {world.config}" in unit
    calls = (world.folder / "calls").read_text().splitlines()
    assert calls == ["daemon-reload", "enable provider-agent.service"] * 2


async def test_the_unattended_form_extracts_and_then_installs(world: SetupWorld) -> None:
    folder = world.folder / "ASR"
    await world.set_up(extract=folder)
    assert sorted(path.name for path in folder.iterdir()) == sorted([MANIFEST, UNIT, ADDRESSES])
    assert "8084" in (folder / ADDRESSES).read_text()
    assert (await world.service())["nodes"][0]["provider_version"] is None
    # As the seed has it: the operator stops the service himself, set-up starts it again.
    with pytest.raises(ProgramError, match="stop it first, or give --yes"):
        await world.set_up(extract=folder, install=True)
    await world.tokyo.manage("PUT", "/service", {"running": False})
    await world.set_up(extract=folder, install=True)
    service = await world.service()
    assert (service["running"], service["nodes"][0]["provider_version"]) == (True, VERSION)
    assert not world.questions


async def test_a_package_that_was_changed_is_not_installed(world: SetupWorld) -> None:
    folder = world.folder / "ASR"
    await world.set_up(extract=folder)
    (folder / UNIT).write_text("[Service]\nExecStart=/bin/evil\n")
    with pytest.raises(ProgramError, match="was changed since it was extracted"):
        await world.set_up(extract=folder, install=True, yes=True)
    assert (await world.service())["running"]


async def test_install_without_a_package_is_refused(world: SetupWorld) -> None:
    with pytest.raises(ProgramError, match="give its folder with --extract"):
        await world.set_up(install=True)


async def test_a_cluster_asks_for_its_role_and_each_node_is_set_up(tmp_path: Path) -> None:
    async with setup_world(make_estate(tmp_path), **CLUSTER) as world:
        await world.set_up(world.settings(node=NODES[0]))
        assert f"stop the cluster role {ROLE}" in world.questions[0]
        await world.set_up(world.settings(node=NODES[1]))
        assert f"passive node: registration is done once, on {NODES[0]}" in world.said()
        versions = [node["provider_version"] for node in (await world.service())["nodes"]]
        assert versions == [VERSION, VERSION]


async def test_nodes_of_another_version_are_refused_with_their_list(tmp_path: Path) -> None:
    async with setup_world(make_estate(tmp_path), **CLUSTER) as world:
        path = f"/service/nodes/{NODES[1]}/provider"
        await world.tokyo.manage("PUT", path, {"provider_version": "0.0.9"})
        settings = world.settings(node=NODES[0])
        with pytest.raises(ProgramError, match=rf"{NODES[1]} has 0\.0\.9"):
            await world.set_up(settings, yes=True)
        await world.set_up(settings, yes=True, upgrade=True)
        assert (await world.service())["nodes"][0]["provider_version"] == VERSION


async def test_a_server_that_is_no_node_is_refused(tmp_path: Path) -> None:
    async with setup_world(make_estate(tmp_path), **CLUSTER) as world:
        with pytest.raises(ProgramError, match=f"is no node of the VMM server.*{NODES[0]}"):
            await world.set_up(world.settings(node="stranger.example"), yes=True)


async def test_a_custom_proxy_is_tested_before_anything_is_installed(world: SetupWorld) -> None:
    proxy = custom_proxy("127.0.0.1", 1, None, None)
    with pytest.raises(ProgramError, match=r"hub reachable: the proxy 127\.0\.0\.1:1 cannot be"):
        await world.set_up(yes=True, proxy=proxy)
    assert world.hub.asked == 0
    assert (await world.service())["nodes"][0]["provider_version"] is None
    assert not (world.folder / "agent").exists()
