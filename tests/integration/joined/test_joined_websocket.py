"""A real agent on the hub's real channel, over raw TLS and over WebSocket."""

from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from certs.profiles import Profile
from service_hub.channel.limits import EndpointLimits
from tests.integration.agent_fakes.waiting import until
from tests.support.joined_world import JoinedWorld, joined_world
from wire_contract import paths
from wire_contract.vocabulary import Verb


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[JoinedWorld]:
    async with joined_world(tmp_path) as opened:
        yield opened


@pytest.mark.parametrize("transport", ["tls", "websocket"])
async def test_events_are_delivered_and_done(world: JoinedWorld, transport: str) -> None:
    world.mqtt = {"transport": transport}
    async with world.agent():
        assert world.endpoint.connected(world.provider.id) is not None
        for number in range(1, 31):
            await world.assign(f"job-{number}")
        await world.acknowledged(30)
        await until(
            lambda: world.vmm.effect_count(Verb.SHUT_DOWN, "machine-1") == 30, "all are done"
        )
    await until(lambda: world.endpoint.connected(world.provider.id) is None, "it has gone")


async def test_websocket_is_taken_when_the_mqtt_port_cannot_be_reached(world: JoinedWorld) -> None:
    world.mqtt = {"transport": "auto"}
    # A port of loopback on which nobody listens.
    world.mqtt_port = 1
    async with world.agent():
        assert world.endpoint.connected(world.provider.id) is not None
        await world.assign("job")
        await world.acknowledged(1)


async def test_the_hub_ends_websockets_when_it_stops(world: JoinedWorld) -> None:
    world.mqtt = {"transport": "websocket"}
    async with world.agent():
        world.endpoint.stop()
        await until(lambda: world.endpoint.connected(world.provider.id) is None, "it was ended")


async def test_a_revoked_provider_loses_its_websocket(world: JoinedWorld) -> None:
    world.mqtt = {"transport": "websocket"}
    async with world.agent():
        number = world.endpoint.connected(world.provider.id)
        world.endpoint.kick(world.provider.id)
        await until(
            lambda: world.endpoint.connected(world.provider.id) not in {None, number},
            "it was ended, and came again since it is not revoked in the database",
        )


async def test_what_is_no_mqtt_over_websocket_is_refused(world: JoinedWorld) -> None:
    holder = world.trust.holder(Profile.PROVIDER_MANAGEMENT, "stranger")
    tls = holder.tls(world.trust.chain.root_pem)
    url = world.url + paths.MQTT_WEBSOCKET
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await session.ws_connect(url, protocols=("mqtt",), ssl=tls)
        assert refused.value.status == 403
        async with session.get(url, ssl=tls) as answer:
            assert answer.status == 403


async def test_a_flood_of_what_is_no_mqtt_leaves_nothing_behind(world: JoinedWorld) -> None:
    """Each is ended while the hub reads nothing more of it; its place must be free again."""
    tls = world.holder.tls(world.trust.chain.root_pem)
    async with aiohttp.ClientSession() as session:
        for _ in range(EndpointLimits().connections_per_certificate + 1):
            url = world.url + paths.MQTT_WEBSOCKET
            async with session.ws_connect(url, protocols=("mqtt",), ssl=tls) as peer:
                await peer.send_bytes(b"\xff" * 60_000)
                ended = await peer.receive(10)
                assert ended.type in {aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED}
            await until(lambda: not world.endpoint._registry._open, "its place is free")


async def test_one_websocket_too_many_is_ended_and_the_others_stay(world: JoinedWorld) -> None:
    tls = world.holder.tls(world.trust.chain.root_pem)
    url = world.url + paths.MQTT_WEBSOCKET
    most = EndpointLimits().connections_per_certificate
    async with aiohttp.ClientSession() as session:
        open_ones = [
            await session.ws_connect(url, protocols=("mqtt",), ssl=tls) for _ in range(most)
        ]
        await until(lambda: len(world.endpoint._registry._open) == most, "all are there")
        further = await session.ws_connect(url, protocols=("mqtt",), ssl=tls)
        ended = await further.receive(10)
        assert ended.type in {
            aiohttp.WSMsgType.CLOSE,
            aiohttp.WSMsgType.CLOSED,
            aiohttp.WSMsgType.ERROR,
        }
        assert len(world.endpoint._registry._open) == most
        for each in open_ones:
            await each.close()
    await until(lambda: not world.endpoint._registry._open, "all places are free")
