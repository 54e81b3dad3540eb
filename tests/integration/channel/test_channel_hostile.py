"""A thousand connections that send what no client sends: the listener stays, others are served."""

import asyncio
import contextlib
import random
from collections import Counter
from typing import Any

import mqtt5
import pytest

from certs.profiles import Profile
from service_hub.channel.admission import Admission
from service_hub.channel.connection import Connection, Surroundings
from service_hub.channel.limits import EndpointLimits
from service_hub.channel.registry import ConnectionRegistry
from service_hub.channel.wakeups import Wakeups
from tests.support.channel_world import (
    OSAKA,
    TOKYO,
    CheckedTokens,
    KnownServers,
    PresenceLog,
    SystemTime,
    Trust,
    channel_world,
    provider_record,
)
from tests.support.mqtt_peer import (
    RawPeer,
    presence_bytes,
    will,
)
from wire_contract.topics import event_topic, presence_topic

CONNECTIONS = 1_500
CONNECTIONS_OVER_TLS = 120
PARALLEL = 10
SEED = 2_026

# What the codec's panic was about goes to sys.unraisablehook, which pytest makes an error.
pytestmark = [
    pytest.mark.filterwarnings(
        "ignore:Exception ignored in:pytest.PytestUnraisableExceptionWarning"
    ),
    pytest.mark.asyncio(loop_factories=["uvloop"]),
]


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


class MemoryTransport(asyncio.Transport):
    """A connected peer without a network: what is written to it is kept."""

    def __init__(self, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self.written = bytearray()
        self._protocol = protocol
        self._is_closing = False

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Take everything at once."""

    def pause_reading(self) -> None:
        """Everything has been handed over already."""

    def resume_reading(self) -> None:
        """Everything has been handed over already."""

    def is_closing(self) -> bool:
        """Return whether the end has begun."""
        return self._is_closing

    def write(self, data: "bytes | bytearray | memoryview[Any]") -> None:
        """Keep the data."""
        assert not self._is_closing
        self.written += data

    def close(self) -> None:
        """Tell the protocol soon, once."""
        if not self._is_closing:
            self._is_closing = True
            asyncio.get_running_loop().call_soon(self._protocol.connection_lost, None)

    abort = close


async def test_a_thousand_mutated_conversations_are_answered_or_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trust, servers, presence = Trust.create(), KnownServers(), PresenceLog()
    holder = trust.holder(Profile.PROVIDER_MANAGEMENT, TOKYO)
    servers.by_thumbprint[holder.thumbprint] = provider_record(TOKYO)
    certificate = holder.certificate
    monkeypatch.setattr(
        "service_hub.channel.connection.peer_certificate", lambda _transport: certificate
    )
    limits = EndpointLimits(held_off_seconds=0.0)
    registry: ConnectionRegistry[Connection] = ConnectionRegistry(limits, lambda: 0.0)
    ordinary = conversation(trust.token(TOKYO, certificate))
    chance = random.Random(SEED)  # noqa: S311 -- a seeded test, no secret
    first_answers: Counter[str] = Counter()
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        around = Surroundings(
            Admission(servers, CheckedTokens(trust), SystemTime()),
            presence,
            Wakeups(),
            registry,
            limits,
            lambda coroutine: started.append(group.create_task(coroutine)),
        )
        for _ in range(CONNECTIONS):
            started: list[asyncio.Task[None]] = []
            connection = Connection(around)
            transport = MemoryTransport(connection)
            connection.connection_made(transport)
            for piece in pieces(chance, mutated(chance, ordinary)):
                connection.data_received(piece)
                await asyncio.sleep(0)
            transport.close()
            await started[0]
            assert started[0].exception() is None
            answer = mqtt5.read(memoryview(transport.written))[0] if transport.written else None
            first_answers[type(answer).__name__] += 1
    assert set(first_answers) <= {"ConnAckPacket", "NoneType"}
    assert first_answers["ConnAckPacket"] > CONNECTIONS // 2
    assert first_answers["NoneType"] > CONNECTIONS // 20
    assert registry.stop() == []
    assert {provider_id for provider_id, _ in presence.heard} == {TOKYO}


def pieces(chance: random.Random, data: bytes) -> list[bytes]:
    """Return the data as it might come from a network."""
    cut = chance.randrange(len(data) + 1)
    return [piece for piece in (data[:cut], data[cut:]) if piece]


async def test_mutated_conversations_over_tls_hurt_nobody() -> None:
    limits = EndpointLimits(
        held_off_seconds=0.0, connections_per_certificate=PARALLEL * 8, connect_seconds=0.2
    )
    async with channel_world(limits) as world:
        attacker = world.provider(TOKYO)
        tls = attacker.tls(world.trust.chain.root_pem)
        ordinary = conversation(world.token(attacker, TOKYO))
        chance = random.Random(SEED)  # noqa: S311 -- a seeded test, no secret
        inputs = iter([mutated(chance, ordinary) for _ in range(CONNECTIONS_OVER_TLS)])
        neighbour = await RawPeer.admitted(world, world.provider(OSAKA), OSAKA)

        async def attack() -> None:
            for data in inputs:
                reader, writer = await asyncio.open_connection(
                    "127.0.0.1", world.port, ssl=tls, server_hostname="127.0.0.1"
                )
                writer.write(data)
                with contextlib.suppress(ConnectionError):
                    await reader.read(4)
                writer.transport.abort()

        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            for _ in range(PARALLEL):
                group.create_task(attack())

        neighbour.send(mqtt5.PingReqPacket())
        assert isinstance(await neighbour.receive(), mqtt5.PingRespPacket)
        await world.until(lambda: set(world.endpoint.connections()) == {OSAKA})
        assert {provider_id for provider_id, _ in world.presence.heard} <= {TOKYO}


async def test_pings_without_end_and_without_reading_are_ended() -> None:
    limits = EndpointLimits(write_stalled_seconds=0.3, write_buffer_bytes=16_384)
    async with channel_world(limits) as world:
        peer = await RawPeer.admitted(
            world, world.provider(TOKYO), TOKYO, receive_bytes=4096, will=will(TOKYO)
        )
        peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
        pings = mqtt5.PingReqPacket().write() * 10_000

        async def flood() -> None:
            while not peer.writer.transport.is_closing():
                peer.send(pings)
                await asyncio.wait_for(peer.writer.drain(), 10)

        async with asyncio.timeout(30):
            with contextlib.suppress(ConnectionError, TimeoutError):
                await flood()
            await world.until(lambda: world.presence.heard == [(TOKYO, "offline")])
