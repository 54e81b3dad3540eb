import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from provider_agent.cluster import run_provider
from provider_agent.credentials import is_registered
from provider_agent.directory_lock import lock_directory
from provider_agent.register_command import Dialogue, RegisterOptions, run_registration
from provider_agent.unregister import run_unregistration
from service_shell.clock import SystemClock
from service_shell.errors import ProgramError
from tests.integration.agent_fakes.estate import Estate, estate
from tests.integration.agent_fakes.fake_hub import FakeHub
from tests.integration.agent_fakes.trust import Trust
from tests.integration.agent_fakes.waiting import HastyClock, until
from tests.support.setup_world import SetupWorld, setup_world, vault_credentials
from tests.support.simulator_estate import make_estate, trust
from wire_contract import paths


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Estate]:
    async with estate(tmp_path) as made:
        made.register()
        yield made


async def unregister(site: Estate, **limits: Any) -> list[str]:
    lines: list[str] = []
    await run_unregistration(site.settings(), lines.append, SystemClock(), **limits)
    return lines


async def test_without_a_running_provider_nobody_would_clean_up(site: Estate) -> None:
    with pytest.raises(ProgramError, match=r"does not run.*start it"):
        await unregister(site)
    assert ("POST", paths.UNREGISTRATION) not in site.hub.requests
    assert is_registered(site.settings().data_directory)


async def test_who_does_not_say_yes_stays_and_the_hub_is_not_asked(site: Estate) -> None:
    questions: list[str] = []

    def no(question: str) -> bool:
        questions.append(question)
        return False

    with (
        lock_directory(site.settings().data_directory),
        pytest.raises(ProgramError, match="nobody said yes; --yes asks nothing"),
    ):
        await unregister(site, ask=no)
    assert len(questions) == 1
    assert questions[0].startswith("Take this server out of the vault")
    assert ("POST", paths.UNREGISTRATION) not in site.hub.requests
    assert is_registered(site.settings().data_directory)


async def test_what_is_still_in_use_is_named_and_the_server_stays(site: Estate) -> None:
    site.hub.refuse[paths.UNREGISTRATION] = 409
    with (
        lock_directory(site.settings().data_directory),
        pytest.raises(ProgramError, match=r"the server stays in its vault: (?!nobody)"),
    ):
        await unregister(site, ask=lambda _: True)
    assert is_registered(site.settings().data_directory)


async def test_a_hub_that_is_away_is_named_with_the_way_out(site: Estate) -> None:
    await site.hub.stop()
    with (
        lock_directory(site.settings().data_directory),
        pytest.raises(ProgramError, match=r"cannot be asked.*provider-agent cleanup"),
    ):
        await unregister(site)


async def test_an_unregistered_server_is_told_so(site: Estate, tmp_path: Path) -> None:
    folder = tmp_path / "other"
    settings = site.settings().model_copy(update={"data_directory": folder})
    with lock_directory(folder), pytest.raises(ProgramError, match="is not registered"):
        await run_unregistration(settings, print, SystemClock())


async def test_the_running_provider_cleans_up_and_the_server_has_left(tmp_path: Path) -> None:
    hub = FakeHub(Trust(trust()))
    async with setup_world(make_estate(tmp_path)) as world, hub.serve():
        world.credentials.write_bytes(vault_credentials(hub.url))
        options = RegisterOptions(world.credentials, "Tokyo VMM", yes=True)
        dialogue = Dialogue(world.lines.append, lambda _: False)
        settings = world.settings(watch_seconds=0.05)
        await run_registration(settings, options, dialogue, SystemClock())
        credential = {"user_name": "user", "password": "secret"}
        await world.tokyo.manage("PUT", "/run-as-accounts/DRAProxyAccount", credential)
        ready = world.folder / "agent.ready"
        lines: list[str] = []
        async with asyncio.TaskGroup() as group:
            provider = group.create_task(run_provider(settings, HastyClock(), asyncio.Event()))
            await until(lambda: ready.exists() or provider.done(), "the provider is ready")
            await run_unregistration(settings, lines.append, SystemClock(), seconds_max=20)
        assert lines[-1] == "this server has left the vault Contoso vault"
        assert not is_registered(settings.data_directory)
        outcome = hub.outcome("leaving")
        assert outcome is not None
        assert outcome.succeeded
        assert (await world.tokyo.get(paths.VMM_RUN_AS_ACCOUNTS))["accounts"] == []


async def test_a_server_that_an_operator_deletes_leaves_nothing_in_vmm(tmp_path: Path) -> None:
    hub = FakeHub(Trust(trust()))
    async with setup_world(make_estate(tmp_path)) as world, hub.serve():
        world.credentials.write_bytes(vault_credentials(hub.url))
        options = RegisterOptions(world.credentials, "Tokyo VMM", yes=True)
        dialogue = Dialogue(world.lines.append, lambda _: False)
        settings = world.settings(watch_seconds=0.05)
        await run_registration(settings, options, dialogue, SystemClock())
        credential = {"user_name": "user", "password": "secret"}
        await world.tokyo.manage("PUT", "/run-as-accounts/DRAProxyAccount", credential)
        assert await synchronized(world) == {True}
        ready = world.folder / "agent.ready"
        async with asyncio.TaskGroup() as group:
            provider = group.create_task(run_provider(settings, HastyClock(), asyncio.Event()))
            await until(lambda: ready.exists() or provider.done(), "the provider is ready")
            hub.assign("clean_up", hub.registrations[-1].vmm_id, "deleted", epoch=0)
            await until(provider.done, "the provider has ended by itself")
        assert (await world.tokyo.get(paths.VMM_RUN_AS_ACCOUNTS))["accounts"] == []
        assert await synchronized(world) == {False}
        assert not is_registered(settings.data_directory)


async def synchronized(world: SetupWorld) -> set[bool]:
    clouds = (await world.tokyo.get(paths.VMM_INVENTORY))["clouds"]
    return {cloud["synchronized"] for cloud in clouds}


async def test_a_provider_that_does_not_clean_up_is_told(tmp_path: Path) -> None:
    hub = FakeHub(Trust(trust()))
    async with setup_world(make_estate(tmp_path)) as world, hub.serve():
        world.credentials.write_bytes(vault_credentials(hub.url))
        options = RegisterOptions(world.credentials, "Tokyo VMM", yes=True)
        dialogue = Dialogue(world.lines.append, lambda _: False)
        settings = world.settings()
        await run_registration(settings, options, dialogue, SystemClock())
        with (
            lock_directory(settings.data_directory),
            pytest.raises(
                ProgramError, match=r"has not cleaned up within 0 s; look at job leaving"
            ),
        ):
            await run_unregistration(settings, print, SystemClock(), seconds_max=0.3)
        assert is_registered(settings.data_directory)
