"""A thousand connections that send what no client sends: the listener stays, others are served."""

import asyncio
import contextlib
import random
from collections import Counter
from typing import Any

import mqtt5
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from certs.peers import PeerCertificate, PeerCertificates
from certs.profiles import Profile
from service_hub.channel.admission import Admission
from service_hub.channel.connection import Connection, Surroundings
from service_hub.channel.limits import EndpointLimits
from service_hub.channel.registry import ConnectionRegistry
from service_hub.channel.wakeups import Wakeups
from tests.support.channel_world import (
    TOKYO,
    CheckedTokens,
    KnownServers,
    PresenceLog,
    SystemTime,
    Trust,
    channel_world,
    provider_record,
)
from tests.support.mqtt_mutations import (
    GROWTH_MAX,
    LIMITS_OF_AN_ATTACK,
    SEED,
    attack,
    conversation,
    mutated,
)
from tests.support.mqtt_peer import RawPeer, will

CONNECTIONS = 1_500
CONNECTIONS_OVER_TLS = 300
"""As many as fit into some seconds; `make test-long` has ten thousand."""

# What the codec's panic was about goes to sys.unraisablehook, which pytest makes an error.
pytestmark = [
    pytest.mark.filterwarnings(
        "ignore:Exception ignored in:pytest.PytestUnraisableExceptionWarning"
    ),
    pytest.mark.asyncio(loop_factories=["uvloop"]),
]


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


class OnePeer(PeerCertificates):
    """Whoever connects shows this certificate."""

    def __init__(self, certificate: x509.Certificate) -> None:
        super().__init__()
        self._der = certificate.public_bytes(serialization.Encoding.DER)

    def of(self, connection: object) -> PeerCertificate | None:
        """Return it."""
        del connection
        return self.read(self._der)


async def test_a_thousand_mutated_conversations_are_answered_or_ended() -> None:
    trust, servers, presence = Trust.create(), KnownServers(), PresenceLog()
    holder = trust.holder(Profile.PROVIDER_MANAGEMENT, TOKYO)
    servers.by_thumbprint[holder.thumbprint] = provider_record(TOKYO)
    certificate = holder.certificate
    limits = EndpointLimits(held_off_seconds=0.0)
    registry: ConnectionRegistry[Connection] = ConnectionRegistry(limits, lambda: 0.0)
    ordinary = conversation(trust.token(TOKYO, certificate))
    chance = random.Random(SEED)  # noqa: S311 -- a seeded test, no secret
    first_answers: Counter[str] = Counter()
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        around = Surroundings(
            Admission(servers, CheckedTokens(trust), SystemTime()),
            OnePeer(certificate),
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
    async with channel_world(LIMITS_OF_AN_ATTACK) as world:
        grown = await attack(world, rounds=4, per_round=CONNECTIONS_OVER_TLS // 4)
    assert grown < GROWTH_MAX


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
