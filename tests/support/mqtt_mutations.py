"""Conversations that no client would have, over real TLS, and what they cost the listener."""

import asyncio
import contextlib
import os
import random
import ssl
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import mqtt5

from service_hub.channel.limits import EndpointLimits
from tests.support.channel_world import OSAKA, TOKYO, ChannelWorld
from tests.support.mqtt_peer import RawPeer, presence_bytes, will
from wire_contract.topics import event_topic, presence_topic

PARALLEL: Final = 32
SEED: Final = 2_026
GROWTH_MAX: Final = 2.0
"""Memory after the attack ÷ before it."""

HANG_SECONDS_MAX: Final = 30.0
"""Longest one conversation may take to be answered or ended; far beyond what it needs."""

LIMITS_OF_AN_ATTACK: Final = EndpointLimits(
    held_off_seconds=0.0,
    connections_per_certificate=PARALLEL * 8,
    connect_seconds=0.2,
)
"""The attacker's certificate is served again at once, and who says nothing is dropped at once."""


def conversation(token: str) -> bytes:
    """Return all that an ordinary provider would send."""
    packets: list[mqtt5.Packet] = [
        mqtt5.ConnectPacket(TOKYO, password=token.encode(), keep_alive=30, will=will(TOKYO)),
        mqtt5.SubscribePacket(1, [mqtt5.TopicFilter(event_topic(TOKYO))]),
        mqtt5.PublishPacket(
            presence_topic(TOKYO), presence_bytes(), qos=mqtt5.QoS.AT_LEAST_ONCE, packet_id=2
        ),
        mqtt5.PubAckPacket(1),
        mqtt5.PingReqPacket(),
    ]
    return b"".join(packet.write() for packet in packets)


def mutated(chance: random.Random, ordinary: bytes) -> bytes:
    """Change, cut out, repeat or insert bytes; half of the time behind the CONNECT."""
    data = bytearray(ordinary)
    first = chance.choice([0, ordinary.index(b"hub/ev")])
    for _ in range(chance.randint(1, 3)):
        place = chance.randrange(first, len(data))
        match chance.randrange(4):
            case 0:
                data[place] = chance.randrange(256)
            case 1:
                del data[place : place + chance.randrange(1, 9)]
            case 2:
                data[place:place] = data[place : place + chance.randrange(1, 30)]
            case _:
                data[place:place] = chance.randbytes(chance.randrange(1, 9))
        if place >= len(data):
            break
    return bytes(data)


async def attack(world: ChannelWorld, *, rounds: int, per_round: int) -> float:
    """Hold mutated conversations; return by which factor the process has grown.

    A neighbour is served after each round, and in the end the attacked provider itself.
    """
    attacked = world.provider(TOKYO)
    tls = attacked.tls(world.trust.chain.root_pem)
    ordinary = conversation(world.token(attacked, TOKYO))
    chance = random.Random(SEED)  # noqa: S311 -- a seeded test, no secret
    neighbour = await RawPeer.admitted(world, world.provider(OSAKA), OSAKA)
    before = 0
    for _ in range(rounds):
        with _panics_dropped():
            await _hold(world, tls, [mutated(chance, ordinary) for _ in range(per_round)])
        await world.until(lambda: set(world.endpoint.connections()) == {OSAKA})
        neighbour.send(mqtt5.PingReqPacket())
        assert isinstance(await neighbour.receive(), mqtt5.PingRespPacket)
        # What a listener needs at all is not growth: it is counted from the first round on.
        before = before or resident_bytes()
    assert {provider_id for provider_id, _ in world.presence.heard} <= {TOKYO}
    await RawPeer.admitted(world, attacked, TOKYO)
    assert set(world.endpoint.connections()) == {OSAKA, TOKYO}
    return resident_bytes() / before


@contextlib.contextmanager
def _panics_dropped() -> Iterator[None]:
    """Drop what the codec's panics leave behind, and nothing else.

    pytest would keep each with its frames, and so all that its connection held.
    """
    kept = sys.unraisablehook

    def hook(unraisable: "sys.UnraisableHookArgs") -> None:
        if not isinstance(unraisable.exc_value, UnicodeDecodeError):
            kept(unraisable)

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = kept


async def _hold(world: ChannelWorld, tls: ssl.SSLContext, inputs: list[bytes]) -> None:
    """Hold conversations with these bytes, some at a time; each is answered or ended in time."""
    waiting = iter(inputs)

    async def some() -> None:
        for data in waiting:
            async with asyncio.timeout(HANG_SECONDS_MAX):
                reader, writer = await asyncio.open_connection(
                    "127.0.0.1", world.port, ssl=tls, server_hostname="127.0.0.1"
                )
                writer.write(data)
                with contextlib.suppress(ConnectionError):
                    await reader.read(4)
                writer.transport.abort()

    async with asyncio.TaskGroup() as group:
        for _ in range(PARALLEL):
            group.create_task(some())


def resident_bytes() -> int:
    """Return the memory that this process has now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
