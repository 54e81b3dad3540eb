"""Agent and doctor against the hub's real channel, both transports through a real proxy."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from provider_agent.config import AgentSettings
from provider_agent.doctor.command import examine
from provider_agent.doctor.report import line_of
from provider_agent.doctor.walk import State
from service_shell.secret_files import write_secret
from tests.integration import proxy_servers
from tests.integration.agent_fakes.waiting import until
from tests.integration.proxy_servers import PASSWORD, USER
from tests.support.joined_world import JoinedWorld, joined_world
from wire_contract.vocabulary import Verb


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[JoinedWorld]:
    async with joined_world(tmp_path) as opened:
        yield opened


@pytest.mark.needs("squid", "openssl")
@pytest.mark.parametrize("transport", ["tls", "websocket"])
async def test_a_task_and_the_doctor_through_squid(
    world: JoinedWorld,
    transport: str,
    free_port: Callable[[], int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world.mqtt = {"transport": transport}
    password = world.folder / "proxy.password"
    write_secret(password, PASSWORD.encode())
    direct = world.settings()
    with proxy_servers.squid(free_port()) as proxy:
        section = {
            "mode": "custom",
            "address": "127.0.0.1",
            "port": proxy.port,
            "username": USER,
            "password_file": password,
        }
        settings = AgentSettings.model_validate({**direct.model_dump(), "proxy": section})
        monkeypatch.setattr(world, "settings", lambda: settings)
        async with world.agent():
            await world.assign("job-1")
            await world.acknowledged(1)
            await until(lambda: world.vmm.effect_count(Verb.SHUT_DOWN, "machine-1") == 1, "done")
            await healthy(settings)  # beside the running provider
        await healthy(settings)
        await until(lambda: proxy.asked_for(world.url.removeprefix("https://")), "HTTPS is logged")
        asked_for_mqtt = proxy.asked_for(f"127.0.0.1:{world.mqtt_port}")
        assert asked_for_mqtt is (transport == "tls")


async def healthy(settings: AgentSettings) -> None:
    results = [result async for result in examine(settings)]
    lines = "\n".join(line_of(each) for each in results)
    assert {each.state for each in results} == {State.PASSED}, lines
