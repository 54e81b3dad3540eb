"""MQTT clients for tests: they say exactly what a test tells them, also what no client would."""

import asyncio
import contextlib
import socket
from collections.abc import Mapping
from typing import Any

import mqtt5

from service_hub.channel.packets import PacketReader
from tests.support.channel_world import WAIT_SECONDS_MAX, ChannelWorld, Holder
from wire_contract.topics import HINT_TOPIC, event_topic, presence_topic


class RawPeer:
    """An MQTT client that does exactly what a test tells it, also what no client would."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer
        self._packets = PacketReader(10_000_000)

    @classmethod
    async def connect(
        cls, world: ChannelWorld, holder: Holder, receive_bytes: int | None = None
    ) -> "RawPeer":
        """Open a TLS connection and say nothing."""
        raw = socket.socket()
        try:
            if receive_bytes is not None:
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
            raw.settimeout(0)
            await asyncio.get_running_loop().sock_connect(raw, ("127.0.0.1", world.port))
            reader, writer = await asyncio.open_connection(
                sock=raw,
                ssl=holder.tls(world.trust.chain.root_pem),
                server_hostname="127.0.0.1",
                limit=1024,
            )
        except BaseException:
            raw.close()
            raise
        peer = cls(reader, writer)
        world.peers.append(peer)
        return peer

    @classmethod
    async def admitted(
        cls,
        world: ChannelWorld,
        holder: Holder,
        provider_id: str,
        receive_bytes: int | None = None,
        **connect: Any,
    ) -> "RawPeer":
        """Connect as the provider and subscribe to everything that it may have."""
        peer = await cls.connect(world, holder, receive_bytes)
        peer.send(connect_packet(world, holder, provider_id, **connect))
        answer = await peer.receive()
        assert isinstance(answer, mqtt5.ConnAckPacket)
        assert answer.reason_code == mqtt5.ConnAckReasonCode.SUCCESS
        filters = [
            mqtt5.TopicFilter(topic, max_qos=mqtt5.QoS.AT_LEAST_ONCE)
            for topic in (event_topic(provider_id), HINT_TOPIC)
        ]
        peer.send(mqtt5.SubscribePacket(1, filters))
        assert isinstance(await peer.receive(), mqtt5.SubAckPacket)
        return peer

    def send(self, packet: Any) -> None:
        """Send a packet, or bytes as they are."""
        self.writer.write(packet if isinstance(packet, bytes) else packet.write())

    async def receive(self) -> mqtt5.Packet | None:
        """Return the next packet, None when the hub has ended the connection."""
        async with asyncio.timeout(WAIT_SECONDS_MAX):
            while True:
                packet = self._packets.next_packet()
                if packet is not None:
                    return packet
                try:
                    data = await self._reader.read(65_536)
                except ConnectionError:
                    return None
                if not data:
                    return None
                self._packets.feed(data)

    async def ended(self) -> list[mqtt5.Packet]:
        """Return all that still comes until the hub has ended the connection."""
        packets = []
        while (packet := await self.receive()) is not None:
            packets.append(packet)
        return packets

    async def close(self) -> None:
        """Be gone, and wait until the transport is."""
        self.cut()
        with contextlib.suppress(OSError):
            async with asyncio.timeout(WAIT_SECONDS_MAX):
                await self.writer.wait_closed()

    def cut(self) -> None:
        """Be gone without a word."""
        self.writer.transport.abort()


def connect_packet(
    world: ChannelWorld, holder: Holder, provider_id: str, **other: Any
) -> mqtt5.ConnectPacket:
    fields: Mapping[str, Any] = {
        "password": world.token(holder, provider_id).encode(),
        "keep_alive": 30,
        **other,
    }
    return mqtt5.ConnectPacket(provider_id, **fields)


def presence_bytes(state: str = "online") -> bytes:
    return f'{{"state":"{state}","boot_id":"b","session":1}}'.encode()


def will(provider_id: str) -> mqtt5.Will:
    return mqtt5.Will(
        presence_topic(provider_id),
        payload=presence_bytes("offline"),
        qos=mqtt5.QoS.AT_LEAST_ONCE,
        retain=True,
    )
