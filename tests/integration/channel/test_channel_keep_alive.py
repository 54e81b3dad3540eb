"""The keep-alive of MQTT connections: every packet counts, also one that wakes no task."""

import asyncio

import mqtt5

from service_hub.channel.limits import EndpointLimits
from tests.support.channel_world import TOKYO, channel_world
from tests.support.mqtt_peer import RawPeer


async def test_who_only_acknowledges_is_heard() -> None:
    """Acknowledgements are packets too; repeated where this machine itself was silent too long."""
    limits = EndpointLimits(keep_alive_seconds=1, keep_alive_factor=0.5)
    loop = asyncio.get_running_loop()
    async with channel_world(limits) as world:
        holder = world.provider(TOKYO)
        for _ in range(10):
            peer = await RawPeer.admitted(world, holder, TOKYO)
            began = last = loop.time()
            longest = 0.0
            while last - began < 3 * limits.keep_alive_factor:
                peer.send(mqtt5.PubAckPacket(7).write())
                await asyncio.sleep(0.02)
                longest, last = max(longest, loop.time() - last), loop.time()
            if longest < limits.keep_alive_factor / 2:
                break
        peer.send(mqtt5.PingReqPacket().write())
        answers = await peer.ended()
    assert [type(each) for each in answers] == [mqtt5.PingRespPacket, mqtt5.DisconnectPacket]
