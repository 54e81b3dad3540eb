import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from provider_agent import VERSION
from provider_agent.cluster import run_provider
from provider_agent.config import AgentSettings
from provider_agent.directory_lock import DirectoryInUseError, lock_directory
from provider_agent.register_command import Dialogue, RegisterOptions, run_registration
from service_shell.clock import Clock, SystemClock
from service_shell.errors import ProgramError
from tests.integration.agent_fakes.fake_hub import FakeHub
from tests.integration.agent_fakes.trust import Trust
from tests.integration.agent_fakes.waiting import HastyClock, until
from tests.support.setup_world import NODES, ROLE, SetupWorld, setup_world, vault_credentials
from tests.support.simulator_estate import make_estate, trust

CLUSTER = {"cluster": {"role": ROLE, "nodes": list(NODES)}}


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[SetupWorld]:
    async with setup_world(make_estate(tmp_path), **CLUSTER) as made:
        yield made


def node_settings(world: SetupWorld, node: str) -> AgentSettings:
    """Settings of one node; only the ready file is its own."""
    ready = str(world.folder / f"{node}.ready")
    return world.settings(node=node, ready_file=ready, watch_seconds=0.05)


async def move_role(world: SetupWorld, node: str) -> None:
    status, _ = await world.tokyo.manage("PUT", "/service/active-node", {"node": node})
    assert status == 200


@contextlib.asynccontextmanager
async def both_nodes(world: SetupWorld) -> AsyncIterator[None]:
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for node in NODES:
            group.create_task(run_provider(node_settings(world, node), HastyClock(), stop))
        try:
            yield
        finally:
            stop.set()


async def test_the_role_moves_and_the_provider_follows_with_the_same_identity(
    world: SetupWorld,
) -> None:
    hub = FakeHub(Trust(trust()))
    async with hub.serve():
        world.credentials.write_bytes(vault_credentials(hub.url))
        options = RegisterOptions(world.credentials, ROLE, yes=True)
        settings = node_settings(world, NODES[0])
        dialogue = Dialogue(world.lines.append, lambda _: False)
        facts = await run_registration(settings, options, dialogue, SystemClock())
        first, second = (node_settings(world, node).ready_file for node in NODES)
        assert first is not None
        assert second is not None
        async with both_nodes(world):
            await until(first.exists, "the active node's provider works")
            assert not second.exists()
            await move_role(world, NODES[1])
            await until(second.exists, "the provider follows the role")
            assert not first.exists()
            await move_role(world, NODES[0])
            await until(first.exists, "the provider comes back")
        boots = [session.boot_id for session in hub.sessions]
        numbers = [session.session for session in hub.sessions]
        journals = {session.journal_id for session in hub.sessions}
        assert len(dict.fromkeys(boots)) == 3
        assert numbers == sorted(numbers)
        assert len(set(numbers)) == len(numbers)
        assert len(journals) == 1
        assert hub.provider_id == facts.provider_id
        assert len(hub.registrations) == 1


async def test_never_two_nodes_at_a_time(world: SetupWorld) -> None:
    running: list[str] = []
    most: list[int] = []

    async def agent(settings: AgentSettings, _: Clock, stop: asyncio.Event) -> None:
        assert settings.node is not None
        running.append(settings.node)
        most.append(len(running))
        await stop.wait()
        await asyncio.sleep(0.1)  # a node that lets go slowly
        running.remove(settings.node)

    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for node in NODES:
            group.create_task(run_provider(node_settings(world, node), HastyClock(), stop, agent))
        for node in (NODES[0], NODES[1], NODES[0]):
            await move_role(world, node)
            await until(lambda node=node: running == [node], f"{node} works alone")  # type: ignore[misc]
        stop.set()
    assert max(most) == 1
    assert running == []


async def test_a_stopped_service_moves_nothing(world: SetupWorld) -> None:
    ended = False

    async def agent(_: AgentSettings, __: Clock, stop: asyncio.Event) -> None:
        nonlocal ended
        await world.tokyo.manage("PUT", "/service", {"running": False})
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), 0.3)
            ended = True

    await run_provider(node_settings(world, NODES[0]), HastyClock(), asyncio.Event(), agent)
    assert not ended


async def test_nodes_of_another_version_are_refused_with_their_list(world: SetupWorld) -> None:
    for node, version in zip(NODES, (VERSION, "0.0.9"), strict=True):
        path = f"/service/nodes/{node}/provider"
        await world.tokyo.manage("PUT", path, {"provider_version": version})
    with pytest.raises(ProgramError, match=rf"all nodes must have .*{NODES[1]} has 0\.0\.9"):
        await run_provider(node_settings(world, NODES[0]), HastyClock(), asyncio.Event())


async def test_a_node_that_vmm_does_not_have_is_refused(world: SetupWorld) -> None:
    with pytest.raises(ProgramError, match="`node` in the configuration is stranger"):
        await run_provider(node_settings(world, "stranger"), HastyClock(), asyncio.Event())


def test_a_data_directory_has_one_provider(tmp_path: Path) -> None:
    with (
        lock_directory(tmp_path / "new"),
        pytest.raises(DirectoryInUseError, match="stop it first"),
        lock_directory(tmp_path / "new"),
    ):
        pass
    with lock_directory(tmp_path / "new"):
        pass
