"""A real agent that is told to come again, and one whose connection ends with its certificate."""

from pathlib import Path

import aiohttp
import pytest

from service_hub.channel.admission import Admission
from service_hub.config import AcceptSettings
from tests.integration.agent_fakes.waiting import until
from tests.support.joined_world import JoinedWorld, joined_world
from tests.support.mqtt_peer import presence_bytes
from wire_contract import paths

ONE_A_SECOND = AcceptSettings(per_second=1.0, burst=1)


async def session_status(world: JoinedWorld) -> tuple[int, str | None]:
    """Begin a session as somebody else of this name would; return status and Retry-After."""
    root_pem = world.trust.chain.root_pem
    token = world.trust.token(world.provider.id, world.holder.certificate)
    async with (
        aiohttp.ClientSession() as client,
        client.post(
            world.url + paths.SESSION,
            data=presence_bytes(),
            headers={"Authorization": f"Bearer {token}"},
            ssl=world.holder.tls(root_pem),
        ) as answer,
    ):
        return answer.status, answer.headers.get("Retry-After")


@pytest.mark.parametrize("transport", ["tls", "websocket"])
async def test_an_agent_that_is_told_to_wait_comes_again_and_misses_nothing(
    tmp_path: Path, transport: str
) -> None:
    async with joined_world(tmp_path, accept=ONE_A_SECOND) as world:
        world.mqtt = {"transport": transport}
        # Somebody has just taken the only place, in both queues.
        assert await session_status(world) == (400, None)
        assert await session_status(world) == (503, "1")
        await world.assign("while it waits")
        async with world.agent():
            await world.acknowledged(1)
            world.endpoint.kick(world.provider.id)
            await world.assign("while it is away")
            await world.acknowledged(2)
            await until(
                lambda: world.endpoint.connected(world.provider.id) is not None, "it came again"
            )


async def test_an_agent_whose_certificate_ends_comes_again_and_misses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service_hub.channel.connection.EXPIRY_LOOK_SECONDS_MAX", 0.05)
    async with joined_world(tmp_path) as world, world.agent():
        first = world.endpoint.connected(world.provider.id)
        assert first is not None
        with monkeypatch.context() as ended:
            ended.setattr(Admission, "seconds_left", lambda *_: 0.0)
            await until(
                lambda: world.endpoint.connected(world.provider.id) != first, "it was ended"
            )
            await world.assign("while its certificate has ended")
        await world.acknowledged(1)
        await until(
            lambda: world.endpoint.connected(world.provider.id) not in {None, first}, "it is back"
        )
        await world.assign("afterwards")
        await world.acknowledged(2)
