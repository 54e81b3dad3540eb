from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from provider_agent.cleanup import run_cleanup, unpair_cloud, unprotect_machine
from provider_agent.credentials import is_registered
from provider_agent.directory_lock import DirectoryInUseError, lock_directory
from provider_agent.register_command import Dialogue, RegisterOptions, run_registration
from provider_agent.setup.record import load_record
from service_shell.clock import SystemClock
from service_shell.errors import ProgramError
from tests.integration.agent_fakes.fake_hub import FakeHub
from tests.integration.agent_fakes.trust import Trust
from tests.support.setup_world import NODES, ROLE, SetupWorld, setup_world, vault_credentials
from tests.support.simulator_estate import CLOUD, MACHINE, make_estate, trust
from wire_contract import paths
from wire_contract.vocabulary import Verb

CLUSTER = {"cluster": {"role": ROLE, "nodes": list(NODES)}}
ACCOUNT = "/run-as-accounts/DRAProxyAccount"


@pytest.fixture
async def hub() -> AsyncIterator[FakeHub]:
    made = FakeHub(Trust(trust()))
    async with made.serve():
        yield made


@pytest.fixture
async def world(tmp_path: Path, hub: FakeHub) -> AsyncIterator[SetupWorld]:
    """A cluster that was set up on both nodes, registered and paired."""
    async with setup_world(make_estate(tmp_path), **CLUSTER) as made:
        for node in NODES:
            await made.set_up(made.settings(node=node), yes=True)
        made.credentials.write_bytes(vault_credentials(hub.url))
        options = RegisterOptions(made.credentials, ROLE, yes=True)
        dialogue = Dialogue(made.lines.append, lambda _: False)
        settings = made.settings(node=NODES[0])
        await run_registration(settings, options, dialogue, SystemClock())
        cloud = CLOUD["tokyo"]
        arguments = {"role": "Primary", "partner_cloud_id": "cloud-osaka"}
        await made.tokyo.done(Verb.PAIR_CLOUD, cloud, arguments)
        credential = {"user_name": "user", "password": "secret"}
        await made.tokyo.manage("PUT", ACCOUNT, credential)
        yield made


async def clean(world: SetupWorld) -> None:
    await run_cleanup(world.settings(node=NODES[0]), world.lines.append, SystemClock())


async def test_what_the_hub_still_knows_is_not_cleaned_up(world: SetupWorld) -> None:
    with pytest.raises(ProgramError, match=f"still knows this server as {ROLE}"):
        await clean(world)
    assert is_registered(world.settings().data_directory)
    assert (await world.tokyo.get(paths.VMM_RUN_AS_ACCOUNTS))["accounts"]


@pytest.mark.parametrize("away", [True, False])
async def test_a_forgotten_server_is_tidied_with_all_its_nodes(
    world: SetupWorld, hub: FakeHub, away: bool
) -> None:
    if away:
        await hub.stop()
    else:
        hub.refuse[paths.TOKEN] = 403
    for _ in range(2):
        await clean(world)
        folder = world.settings().data_directory
        assert not is_registered(folder)
        cloud = await world.tokyo.get(paths.VMM_CLOUD.format(cloud_id=CLOUD["tokyo"]))
        assert (cloud["paired_role"], cloud["partner_cloud_id"]) == ("", None)
        assert cloud["synchronized"] is False
        assert (await world.tokyo.get(paths.VMM_RUN_AS_ACCOUNTS))["accounts"] == []
        nodes = (await world.service())["nodes"]
        assert [node["provider_version"] for node in nodes] == [None, None]
        assert [load_record(folder, node) for node in NODES] == [None, None]


async def test_one_cloud_is_unpaired_beside_the_running_provider(world: SetupWorld) -> None:
    settings = world.settings(node=NODES[0])
    with pytest.raises(ProgramError, match="there is no cloud nowhere here; there is: "):
        await unpair_cloud(settings, "nowhere", world.lines.append, SystemClock())
    item = {"item": MACHINE, "role": "Primary", "active": True}
    await world.tokyo.done(Verb.UPDATE_PROTECTION, MACHINE, item)
    with pytest.raises(ProgramError, match=r"stays as it is.*still protected: SQL-01"):
        await unpair_cloud(settings, CLOUD["tokyo"], world.lines.append, SystemClock())
    await world.tokyo.done(Verb.UPDATE_PROTECTION, MACHINE, {**item, "item": None})
    with lock_directory(settings.data_directory):
        for _ in range(2):
            await unpair_cloud(settings, CLOUD["tokyo"].upper(), world.lines.append, SystemClock())
    cloud = await world.tokyo.get(paths.VMM_CLOUD.format(cloud_id=CLOUD["tokyo"]))
    assert (cloud["paired_role"], cloud["partner_cloud_id"]) == ("", None)
    hosts = (await world.tokyo.get(paths.VMM_INVENTORY))["hosts"]
    assert not any(host["replica_enabled"] for host in hosts if host["fqdn"] in cloud["host_fqdns"])
    assert is_registered(settings.data_directory), "the server itself stays in its vault"
    assert (await world.tokyo.get(paths.VMM_RUN_AS_ACCOUNTS))["accounts"]


async def test_one_machine_is_freed_of_what_a_removal_by_force_has_left(world: SetupWorld) -> None:
    settings, tell, clock = world.settings(node=NODES[0]), world.lines.append, SystemClock()
    item = {"item": MACHINE, "role": "Primary", "active": True}
    await world.tokyo.done(Verb.UPDATE_PROTECTION, MACHINE, item, epoch=7)
    with pytest.raises(ProgramError, match="there is no machine nobody here"):
        await unprotect_machine(settings, "nobody", tell, clock, ask=None)
    with pytest.raises(ProgramError, match="nothing was changed; disable its protection"):
        await unprotect_machine(settings, MACHINE, tell, clock, ask=lambda _: False)
    assert (await world.tokyo.machine(MACHINE))["protected_item"] == MACHINE
    with lock_directory(settings.data_directory):
        for _ in range(2):
            await unprotect_machine(settings, MACHINE, tell, clock, ask=None)
    view = await world.tokyo.machine(MACHINE)
    assert (view["protected_item"], view["replication"], view["epoch"]) == (None, None, 7)
    assert world.lines[-2:] == [
        f"machine {view['name']} is protected no longer; its disks are as they were",
        f"machine {view['name']} is not protected: nothing is to be done",
    ]


async def test_a_running_provider_is_not_cleaned_up_under_its_feet(world: SetupWorld) -> None:
    with (
        lock_directory(world.settings().data_directory),
        pytest.raises(DirectoryInUseError, match="stop it first"),
    ):
        await clean(world)


async def test_with_protected_machines_nothing_is_forgotten(
    world: SetupWorld, hub: FakeHub
) -> None:
    await hub.stop()
    item = {"item": MACHINE, "role": "Primary", "active": True}
    await world.tokyo.done(Verb.UPDATE_PROTECTION, MACHINE, item)
    with pytest.raises(ProgramError, match=r"still protected: SQL-01.*nothing was forgotten"):
        await clean(world)
    assert is_registered(world.settings().data_directory)


async def test_a_stopped_vmm_service_is_named_and_nothing_is_forgotten(
    world: SetupWorld, hub: FakeHub
) -> None:
    await hub.stop()
    await world.tokyo.manage("PUT", "/service", {"running": False})
    with pytest.raises(ProgramError, match="VMM service is stopped"):
        await clean(world)
    assert is_registered(world.settings().data_directory)
