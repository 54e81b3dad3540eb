import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from provider_agent.config import AgentSettings
from provider_agent.credentials import is_registered
from provider_agent.register_command import Dialogue, RegisterOptions, run_registration
from service_shell.clock import SystemClock
from service_shell.errors import ProgramError
from tests.integration.agent_fakes.fake_hub import FakeHub
from tests.integration.agent_fakes.trust import Trust
from tests.support.setup_world import NODES, ROLE, SetupWorld, setup_world, vault_credentials
from tests.support.simulator_estate import CLOUD, make_estate, trust
from wire_contract import paths

CLUSTER = {"cluster": {"role": ROLE, "nodes": list(NODES)}}


@dataclass
class Desk:
    """A server that is to be registered, and the operator in front of it."""

    world: SetupWorld
    hub: FakeHub
    answers: list[bool] = field(default_factory=list)
    questions: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)

    async def register(self, settings: AgentSettings | None = None, **options: Any) -> None:
        """Register this server."""
        values = {
            "credentials": self.world.credentials,
            "friendly_name": "Tokyo VMM",
            "yes": True,
            **options,
        }
        dialogue = Dialogue(self.lines.append, self.answer)
        await run_registration(
            settings or self.world.settings(), RegisterOptions(**values), dialogue, SystemClock()
        )

    def answer(self, question: str) -> bool:
        """Answer as the test has said."""
        self.questions.append(question)
        return self.answers.pop(0)

    def said(self) -> str:
        """Return all that was said."""
        return "\n".join(self.lines)

    async def synchronized(self) -> bool:
        """Return the property of the cloud."""
        cloud = await self.world.tokyo.get(paths.VMM_CLOUD.format(cloud_id=CLOUD["tokyo"]))
        return bool(cloud["synchronized"])

    @property
    def registered(self) -> bool:
        """Whether there is an identity."""
        return is_registered(self.world.settings().data_directory)


@contextlib.asynccontextmanager
async def desk_of(folder: Path, **vmm: Any) -> AsyncIterator[Desk]:
    hub = FakeHub(Trust(trust()))
    async with setup_world(make_estate(folder), **vmm) as world, hub.serve():
        world.credentials.write_bytes(vault_credentials(hub.url))
        yield Desk(world, hub)


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with desk_of(tmp_path) as made:
        yield made


async def test_the_vaults_name_is_shown_before_anything_is_sent(desk: Desk) -> None:
    desk.answers = [False]
    with pytest.raises(ProgramError, match="not registered with the vault Contoso vault"):
        await desk.register(yes=False)
    assert "vault: Contoso vault" in desk.said()
    assert desk.hub.requests == []
    assert not desk.registered


async def test_all_clouds_are_synchronised_once_and_the_key_is_offered_for_shredding(
    desk: Desk,
) -> None:
    desk.answers = [True, True]
    await desk.register(yes=False)
    assert desk.registered
    assert await desk.synchronized()
    assert "Shred it?" in desk.questions[1]
    assert not desk.world.credentials.exists()


async def test_cloud_by_cloud_leaves_the_clouds_property_alone(desk: Desk) -> None:
    await desk.register(sync_all_clouds=False)
    assert desk.registered
    assert not await desk.synchronized()
    assert desk.world.credentials.exists()
    assert "it holds a private key" in desk.said()


async def test_the_encryption_file_is_accepted_and_unused(desk: Desk) -> None:
    with pytest.raises(ProgramError, match=r"must end in \.pfx"):
        await desk.register(encryption_file="certificate.pem")
    assert not desk.registered
    file = desk.world.folder / "certificate.pfx"
    await desk.register(encryption_file=str(file), shred=True)
    assert "is not used" in desk.said()
    assert not file.exists()
    assert not desk.world.credentials.exists()


async def test_a_stopped_vmm_service_is_named_or_started(desk: Desk) -> None:
    await desk.world.tokyo.manage("PUT", "/service", {"running": False})
    with pytest.raises(ProgramError, match="VMM service is stopped"):
        await desk.register()
    await desk.register(start_vmm_service=True)
    assert desk.registered


async def test_a_cluster_is_registered_once_under_its_roles_name(tmp_path: Path) -> None:
    async with desk_of(tmp_path, **CLUSTER) as desk:
        active = desk.world.settings(node=NODES[0])
        passive = desk.world.settings(node=NODES[1])
        with pytest.raises(ProgramError, match=f"registered under the name of its role, {ROLE}"):
            await desk.register(active)
        with pytest.raises(ProgramError, match=f"registered once, on its active node {NODES[0]}"):
            await desk.register(passive, friendly_name=ROLE)
        path = f"/service/nodes/{NODES[1]}/provider"
        await desk.world.tokyo.manage("PUT", path, {"provider_version": "0.0.9"})
        with pytest.raises(ProgramError, match=rf"{NODES[1]} has 0\.0\.9"):
            await desk.register(active, friendly_name=ROLE)
        assert desk.hub.registrations == []
        await desk.world.tokyo.manage("PUT", path, {"provider_version": None})
        await desk.register(active, friendly_name=ROLE)
        (registration,) = desk.hub.registrations
        assert (registration.friendly_name, registration.vmm_id) == (ROLE, "vmm-tokyo")


async def test_registering_twice_asks_nothing_and_is_refused(desk: Desk) -> None:
    await desk.register()
    with pytest.raises(ProgramError, match="already registered as Tokyo VMM"):
        await desk.register(yes=False)
    assert desk.questions == []
    assert len(desk.hub.registrations) == 1


async def test_a_clock_that_went_back_is_told_by_the_file(desk: Desk) -> None:
    class Yesterday(SystemClock):
        def now(self) -> datetime:
            return datetime(2020, 1, 1, tzinfo=UTC)

    options = RegisterOptions(desk.world.credentials, "Tokyo VMM", yes=True)
    with pytest.raises(ProgramError, match="set this server's clock"):
        await run_registration(
            desk.world.settings(), options, Dialogue(desk.lines.append, desk.answer), Yesterday()
        )
