"""From the stored event to the provider: order, window, replay, repetition, over real MQTT."""

import asyncio
from collections.abc import AsyncIterator

import mqtt5
import pytest

from certs.signing import EventVerifier
from service_hub.channel.flight import IN_FLIGHT_MAX
from tests.support.channel_world import (
    OSAKA,
    TOKYO,
    ChannelWorld,
    SystemTime,
    channel_world,
)
from tests.support.mqtt_peer import (
    RawPeer,
)
from wire_contract.topics import EVENT_BYTES_MAX, HINT_TOPIC

# The event loop matters to the listener, whose tests run under both.
pytestmark = pytest.mark.asyncio(loop_factories=["uvloop"])


@pytest.fixture
async def world() -> AsyncIterator[ChannelWorld]:
    """Give an open listener and a running pump."""
    async with channel_world(pumping=True) as opened:
        yield opened


async def received(world: ChannelWorld, peer: RawPeer, count: int) -> list[object]:
    """Return what came: the number of each event, `hint` for a hint; PUBACKs are sent."""
    verifier = EventVerifier(world.trust.chain.root_pem)
    found: list[object] = []
    while len(found) < count:
        packet = await peer.receive()
        assert isinstance(packet, mqtt5.PublishPacket)
        if packet.topic == HINT_TOPIC:
            found.append("hint")
            continue
        assert packet.packet_id is not None
        peer.send(mqtt5.PubAckPacket(packet.packet_id))
        found.append(verifier.verify(packet.payload.decode(), SystemTime().now())["seq"])
    return found


async def quiet(peer: RawPeer) -> bool:
    """Whether a ping is answered before anything else comes."""
    peer.send(mqtt5.PingReqPacket())
    return isinstance(await peer.receive(), mqtt5.PingRespPacket)


async def test_a_committed_event_reaches_its_provider_and_nobody_else(
    world: ChannelWorld,
) -> None:
    tokyo = await RawPeer.admitted(world, world.provider(TOKYO), TOKYO)
    osaka = await RawPeer.admitted(world, world.provider(OSAKA), OSAKA)
    assert world.pump is not None
    world.outbox.add(TOKYO)
    world.pump.wake([TOKYO])
    assert await received(world, tokyo, 1) == [1]
    assert await quiet(tokyo)
    assert await quiet(osaka)


async def test_what_was_stored_before_comes_on_subscribe_and_again_on_each_connection(
    world: ChannelWorld,
) -> None:
    holder = world.provider(TOKYO)
    for _ in range(3):
        world.outbox.add(TOKYO)
    peer = await RawPeer.admitted(world, holder, TOKYO)
    assert await received(world, peer, 3) == [1, 2, 3]
    peer.cut()
    world.outbox.acknowledge(TOKYO, 1)
    peer = await RawPeer.admitted(world, holder, TOKYO)
    assert await received(world, peer, 2) == [2, 3]
    assert await quiet(peer)


async def test_twenty_are_in_flight_then_one_hint_and_acknowledging_moves_on(
    world: ChannelWorld,
) -> None:
    holder = world.provider(TOKYO)
    for _ in range(30):
        world.outbox.add(TOKYO)
    peer = await RawPeer.admitted(world, holder, TOKYO)
    first = await received(world, peer, IN_FLIGHT_MAX + 1)
    assert first == [*range(1, IN_FLIGHT_MAX + 1), "hint"]
    assert await quiet(peer)
    world.outbox.acknowledge(TOKYO, 15)
    world.wakeups.wake([TOKYO])
    assert await received(world, peer, 10) == list(range(21, 31))


async def test_what_the_provider_does_not_acknowledge_comes_again(world: ChannelWorld) -> None:
    peer = await RawPeer.admitted(world, world.provider(TOKYO), TOKYO)
    world.outbox.add(TOKYO)
    world.wakeups.wake([TOKYO])
    began = asyncio.get_running_loop().time()
    assert await received(world, peer, 2) == [1, 1]
    assert asyncio.get_running_loop().time() - began >= 1.9


async def test_without_a_wake_the_poll_finds_the_event(world: ChannelWorld) -> None:
    peer = await RawPeer.admitted(world, world.provider(TOKYO), TOKYO)
    world.outbox.add(TOKYO)
    assert await received(world, peer, 1) == [1]


async def test_a_large_event_is_announced_by_a_hint(world: ChannelWorld) -> None:
    peer = await RawPeer.admitted(world, world.provider(TOKYO), TOKYO)
    world.outbox.add(TOKYO, filling="x" * EVENT_BYTES_MAX)
    world.wakeups.wake([TOKYO])
    assert await received(world, peer, 1) == ["hint"]


async def test_a_new_stream_is_followed(world: ChannelWorld) -> None:
    peer = await RawPeer.admitted(world, world.provider(TOKYO), TOKYO)
    for stream in ("stream-1", "stream-2"):
        world.outbox.follow(TOKYO, stream)
        world.outbox.add(TOKYO)
        world.wakeups.wake([TOKYO])
        assert await received(world, peer, 1) == [1]
