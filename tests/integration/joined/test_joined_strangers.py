"""Who may not: over raw TLS and over WebSocket alike, and a good connection after each attempt."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import mqtt5
import pytest
from mqtt5 import ConnAckReasonCode, PubAckReasonCode, SubAckReasonCode

from certs.profiles import Profile
from service_hub.channel.packets import PacketReader
from tests.support.channel_world import OSAKA, Holder, Trust, provider_record
from tests.support.joined_world import JoinedWorld, joined_world
from tests.support.mqtt_peer import presence_bytes, will
from wire_contract import paths
from wire_contract.topics import event_topic, presence_topic

ANSWER_SECONDS_MAX = 10.0


class Line:
    """Bytes to and from the hub, whichever way they take; None when the hub has ended it."""

    async def send(self, data: bytes) -> None:
        """Send bytes."""
        raise NotImplementedError

    async def receive(self) -> bytes | None:
        """Return what comes next."""
        raise NotImplementedError


@dataclass
class TlsLine(Line):
    """Raw TLS."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, data: bytes) -> None:
        """Send bytes."""
        self.writer.write(data)

    async def receive(self) -> bytes | None:
        """Return what comes next."""
        return await self.reader.read(65_536) or None


@dataclass
class WebSocketLine(Line):
    """Binary messages of a WebSocket."""

    socket: aiohttp.ClientWebSocketResponse

    async def send(self, data: bytes) -> None:
        """Send bytes."""
        await self.socket.send_bytes(data)

    async def receive(self) -> bytes | None:
        """Return what comes next."""
        message = await self.socket.receive()
        return message.data if message.type is aiohttp.WSMsgType.BINARY else None


class Caller:
    """Speaks MQTT on a line."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._packets = PacketReader(1_000_000)

    async def ask(self, *packets: Any) -> Any:
        """Send packets and return the next one that comes, None when the hub has ended it."""
        await self._line.send(b"".join(packet.write() for packet in packets))
        return await self.next_packet()

    async def next_packet(self) -> Any:
        """Return the next packet, None when the hub has ended the connection."""
        async with asyncio.timeout(ANSWER_SECONDS_MAX):
            while (packet := self._packets.next_packet()) is None:
                data = await self._line.receive()
                if data is None:
                    return None
                self._packets.feed(data)
        return packet


@asynccontextmanager
async def calling(world: JoinedWorld, way: str, holder: Holder) -> AsyncIterator[Caller]:
    """Connect with this certificate and say nothing yet."""
    tls = holder.tls(world.trust.chain.root_pem)
    async with AsyncExitStack() as stack:
        if way == "tls":
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", world.mqtt_port, ssl=tls, server_hostname="127.0.0.1"
            )
            stack.callback(writer.transport.abort)
            yield Caller(TlsLine(reader, writer))
            return
        session = await stack.enter_async_context(aiohttp.ClientSession())
        url = world.url + paths.MQTT_WEBSOCKET
        socket = session.ws_connect(url, protocols=("mqtt",), ssl=tls)
        yield Caller(WebSocketLine(await stack.enter_async_context(socket)))


def connect(world: JoinedWorld, holder: Holder, **other: Any) -> mqtt5.ConnectPacket:
    """Return the CONNECT of the world's provider with this certificate."""
    token = world.trust.token(world.provider.id, holder.certificate).encode()
    fields = {"client_id": world.provider.id, "password": token, "keep_alive": 30, **other}
    return mqtt5.ConnectPacket(**fields)


async def assert_served(world: JoinedWorld, way: str) -> None:
    """Connect as the provider itself and be given an event."""
    provider_id = world.provider.id
    async with calling(world, way, world.holder) as caller:
        answer = await caller.ask(connect(world, world.holder))
        assert answer.reason_code == ConnAckReasonCode.SUCCESS
        topic = mqtt5.TopicFilter(event_topic(provider_id), max_qos=mqtt5.QoS.AT_LEAST_ONCE)
        answer = await caller.ask(mqtt5.SubscribePacket(1, [topic]))
        assert answer.reason_codes == [SubAckReasonCode.GRANTED_QOS_AT_LEAST_ONCE]
        world.endpoint.publish(provider_id, b"an event")
        assert (await caller.next_packet()).payload == b"an event"


async def connected(world: JoinedWorld, way: str, holder: Holder) -> None:
    """Return when CONNECT has any answer; EOFError when the hub ends it without one."""
    async with calling(world, way, holder) as caller:
        if await caller.ask(connect(world, holder)) is None:
            raise EOFError


async def refused_connects(world: JoinedWorld, way: str, cases: Sequence[Any]) -> None:
    for holder, packet, reason in cases:
        async with calling(world, way, holder) as caller:
            answer = await caller.ask(packet)
            assert answer.reason_code == reason
            assert answer.reason_str, "why is said"
            assert await caller.next_packet() is None, "and the connection ended"
        await assert_served(world, way)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[JoinedWorld]:
    async with joined_world(tmp_path) as opened:
        yield opened


@pytest.mark.parametrize("way", ["tls", "websocket"])
async def test_foreign_topics_are_refused(world: JoinedWorld, way: str) -> None:
    for packet, code in [
        (mqtt5.SubscribePacket(1, [mqtt5.TopicFilter(event_topic(OSAKA))]), "subscribe"),
        (mqtt5.SubscribePacket(1, [mqtt5.TopicFilter("#")]), "wildcard"),
        (_publish(presence_topic(OSAKA), presence_bytes("offline")), "publish"),
        (_publish(event_topic(OSAKA), b"forged"), "publish"),
    ]:
        async with calling(world, way, world.holder) as caller:
            assert (await caller.ask(connect(world, world.holder))).reason_code == 0
            answer = await caller.ask(packet)
            match code:
                case "subscribe":
                    assert answer.reason_codes == [SubAckReasonCode.NOT_AUTHORIZED]
                case "wildcard":
                    assert answer.reason_codes == [
                        SubAckReasonCode.WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED
                    ]
                case _:
                    assert answer.reason_code == PubAckReasonCode.NOT_AUTHORIZED
        await assert_served(world, way)


@pytest.mark.parametrize("way", ["tls", "websocket"])
async def test_another_name_or_another_will_is_refused(world: JoinedWorld, way: str) -> None:
    own = world.holder
    cases = [
        (own, connect(world, own, client_id=OSAKA), ConnAckReasonCode.CLIENT_ID_NOT_VALID),
        (own, connect(world, own, will=will(OSAKA)), ConnAckReasonCode.NOT_AUTHORIZED),
        (own, connect(world, own, password=b"x"), ConnAckReasonCode.BAD_USER_NAME_OR_PASSWORD),
    ]
    await refused_connects(world, way, cases)


@pytest.mark.parametrize("way", ["tls", "websocket"])
async def test_who_is_enrolled_but_not_registered_is_refused(world: JoinedWorld, way: str) -> None:
    enrolled = world.trust.holder(Profile.PROVIDER_MANAGEMENT, world.provider.id)
    record = provider_record(world.provider.id, registered=False)
    world.servers.by_thumbprint[enrolled.thumbprint] = record
    refusal = (enrolled, connect(world, enrolled), ConnAckReasonCode.NOT_AUTHORIZED)
    await refused_connects(world, way, [refusal])


@pytest.mark.parametrize("way", ["tls", "websocket"])
async def test_a_revoked_certificate_is_refused(world: JoinedWorld, way: str) -> None:
    revoked = world.trust.holder(Profile.PROVIDER_MANAGEMENT, world.provider.id)
    if way == "tls":
        refusal = (revoked, connect(world, revoked), ConnAckReasonCode.NOT_AUTHORIZED)
        await refused_connects(world, way, [refusal])
        return
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await connected(world, way, revoked)
    assert refused.value.status == 403
    await assert_served(world, way)


@pytest.mark.parametrize("way", ["tls", "websocket"])
async def test_a_certificate_of_a_foreign_authority_is_refused(
    world: JoinedWorld, way: str
) -> None:
    foreign = Trust.create().holder(Profile.PROVIDER_MANAGEMENT, world.provider.id)
    world.servers.by_thumbprint[foreign.thumbprint] = world.provider
    # With TLS 1.3 the client learns of the refusal only when it reads.
    with pytest.raises((ssl.SSLError, OSError, aiohttp.ClientError, EOFError)):
        await connected(world, way, foreign)
    await assert_served(world, way)


def _publish(topic: str, payload: bytes) -> mqtt5.PublishPacket:
    return mqtt5.PublishPacket(topic, payload, qos=mqtt5.QoS.AT_LEAST_ONCE, packet_id=2)
