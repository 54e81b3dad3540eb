"""Peers that say next to nothing on the MQTT port: each is let go, and a good one is served."""

import asyncio
import contextlib
import socket

import mqtt5
import pytest

from service_hub.channel.delivery import Publication
from service_hub.channel.limits import EndpointLimits
from tests.support.channel_world import OSAKA, TOKYO, channel_world
from tests.support.mqtt_peer import RawPeer, connect_packet, presence_bytes
from wire_contract.topics import presence_topic

pytestmark = pytest.mark.asyncio(loop_factories=["uvloop"])

STRANGERS = 30
IMPATIENT = EndpointLimits(
    handshake_seconds=1.5, connect_seconds=1.5, keep_alive_seconds=1, keep_alive_factor=1.5
)
BYTE_SECONDS = 0.1
"""A packet that arrives at this rate takes several times what IMPATIENT allows."""


async def dribble(peer: RawPeer, data: bytes) -> None:
    """Send one byte after the other until the hub has enough of it."""
    with contextlib.suppress(ConnectionError):
        for byte in data:
            if peer.writer.is_closing():
                return
            peer.send(bytes([byte]))
            await asyncio.sleep(BYTE_SECONDS)
    raise AssertionError("the hub waited for the whole packet")


async def test_slow_and_silent_peers_are_let_go_and_a_good_one_is_served() -> None:
    async with channel_world(IMPATIENT) as world, asyncio.TaskGroup() as group:
        loop = asyncio.get_running_loop()
        strangers = [socket.create_connection(("127.0.0.1", world.port)) for _ in range(STRANGERS)]
        for stranger in strangers:
            stranger.settimeout(0)
        slow = await RawPeer.connect(world, world.provider(TOKYO))
        connect = connect_packet(world, world.provider(TOKYO), TOKYO).write()
        group.create_task(dribble(slow, connect))
        other = world.provider(OSAKA)
        admitted = await RawPeer.admitted(world, other, OSAKA)
        presence = mqtt5.PublishPacket(
            presence_topic(OSAKA), presence_bytes(), qos=mqtt5.QoS.AT_LEAST_ONCE, packet_id=7
        )
        group.create_task(dribble(admitted, presence.write()))
        good = await RawPeer.admitted(world, world.provider(TOKYO), TOKYO)
        assert world.endpoint.publish(TOKYO, b"an event") is Publication.SENT
        assert isinstance(await good.receive(), mqtt5.PublishPacket)
        for stranger in strangers:
            async with asyncio.timeout(10):
                with contextlib.suppress(ConnectionResetError):
                    assert await loop.sock_recv(stranger, 100) == b""
            stranger.close()
        await slow.ended()
        await world.until(lambda: world.endpoint.connected(OSAKA) is None)
