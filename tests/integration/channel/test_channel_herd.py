"""Many at once, and connections that outlive their certificate."""

import asyncio
from datetime import timedelta
from typing import Any
from uuid import uuid4

import mqtt5
import pytest
from mqtt5 import ConnAckReasonCode, DisconnectReasonCode

from service_hub.domain.accept_rate import AcceptRate
from tests.support.channel_world import TOKYO, ChannelWorld, Holder, channel_world
from tests.support.mqtt_peer import RawPeer, connect_packet, will
from wire_contract.topics import RETRY_AFTER, event_topic

HERD = 40
PER_SECOND, BURST = 20.0, 20
LIFETIME = timedelta(minutes=10)


def busy_seconds(answer: Any) -> int | None:
    """Return when to come again, None for who was taken in."""
    assert isinstance(answer, mqtt5.ConnAckPacket)
    if answer.reason_code == ConnAckReasonCode.SUCCESS:
        return None
    assert answer.reason_code == ConnAckReasonCode.SERVER_BUSY
    assert answer.reason_str is not None
    assert "come again in" in answer.reason_str
    return int(dict(answer.user_properties)[RETRY_AFTER])


async def until_taken_in(
    world: ChannelWorld, holder: Holder, provider_id: str, peer: RawPeer
) -> int:
    """Come again when told, until the first event is there; return how often that was."""
    turned_away = 0
    while True:
        peer.send(connect_packet(world, holder, provider_id))
        seconds = busy_seconds(await peer.receive())
        if seconds is None:
            break
        assert await peer.ended() == []
        turned_away += 1
        await asyncio.sleep(seconds)
        peer = await RawPeer.connect(world, holder)
    filters = [mqtt5.TopicFilter(event_topic(provider_id), max_qos=mqtt5.QoS.AT_LEAST_ONCE)]
    peer.send(mqtt5.SubscribePacket(1, filters))
    assert isinstance(await peer.receive(), mqtt5.SubAckPacket)
    assert isinstance(await peer.receive(), mqtt5.PublishPacket)
    return turned_away


async def test_a_herd_is_told_when_to_come_and_nobody_is_lost() -> None:
    rate = AcceptRate(PER_SECOND, BURST)
    async with channel_world(pumping=True, rate=rate) as world:
        names = [str(uuid4()) for _ in range(HERD)]
        holders = {name: world.provider(name) for name in names}
        for provider_id in holders:
            world.outbox.add(provider_id)
        # All are there before the first one says who it is, so that they do come at one moment.
        peers = {name: await RawPeer.connect(world, holder) for name, holder in holders.items()}
        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(until_taken_in(world, holder, name, peers[name]))
                for name, holder in holders.items()
            ]
        turned_away = [task.result() for task in tasks]
        assert set(world.endpoint.connections()) == set(holders)
        assert 0 in turned_away
        assert sum(turned_away) > 0


async def test_who_is_refused_takes_nobodys_place() -> None:
    rate = AcceptRate(per_second=0.01, burst=1)
    async with channel_world(rate=rate) as world:
        tokyo = world.provider(TOKYO)
        wrong = mqtt5.ConnectPacket(TOKYO, password=b"nonsense")
        for _ in range(3):
            peer = await RawPeer.connect(world, tokyo)
            peer.send(wrong)
            (answer,) = await peer.ended()
            assert isinstance(answer, mqtt5.ConnAckPacket)
            assert answer.reason_code == ConnAckReasonCode.BAD_USER_NAME_OR_PASSWORD
        await RawPeer.admitted(world, tokyo, TOKYO)
        peer = await RawPeer.connect(world, tokyo)
        peer.send(connect_packet(world, tokyo, TOKYO))
        assert busy_seconds(await peer.receive()) == 100


async def test_a_connection_ends_with_its_certificate_and_the_next_one_misses_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("service_hub.channel.connection.EXPIRY_LOOK_SECONDS_MAX", 0.05)
    async with channel_world(pumping=True) as world:
        ending = world.provider(TOKYO, lifetime=LIFETIME)
        peer = await RawPeer.admitted(world, ending, TOKYO, will=will(TOKYO))
        peer.send(mqtt5.PingReqPacket())
        assert isinstance(await peer.receive(), mqtt5.PingRespPacket)
        # The end comes; the token of the test holds for an hour.
        world.clock.ahead = LIFETIME
        (goodbye,) = await peer.ended()
        assert isinstance(goodbye, mqtt5.DisconnectPacket)
        assert goodbye.reason_code == DisconnectReasonCode.NOT_AUTHORIZED
        await world.until(lambda: world.presence.heard == [(TOKYO, "offline")])
        world.outbox.add(TOKYO)
        renewed = await RawPeer.admitted(world, world.provider(TOKYO), TOKYO)
        assert isinstance(await renewed.receive(), mqtt5.PublishPacket)
