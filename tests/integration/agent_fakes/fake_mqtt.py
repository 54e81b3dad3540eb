"""The hub's MQTT 5 listener, as small as a provider needs it: one client, QoS 1."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable

import mqtt5

from certs.identity import common_name
from certs.tls import peer_certificate
from wire_contract.events import Presence
from wire_contract.topics import HINT_TOPIC, event_topic, presence_topic

READ_BYTES = 65_536


class FakeMqtt:
    """Remembers presence and connections; `refuse` answers CONNECT with "not authorized"."""

    def __init__(self, provider_id: str, token_is_valid: Callable[[str], bool]) -> None:
        self._provider_id = provider_id
        self._token_is_valid = token_is_valid
        self._writer: asyncio.StreamWriter | None = None
        self._subscribed: set[str] = set()
        self._packet_id = 0
        self._server: asyncio.Server | None = None
        self.port = 0
        self.connects = 0
        self.refuse_connects = 0
        self.presence: list[Presence] = []
        self.will: Presence | None = None

    @property
    def online(self) -> bool:
        """Whether a provider is connected and has subscribed to its events."""
        return event_topic(self._provider_id) in self._subscribed

    @contextlib.asynccontextmanager
    async def serve(self, tls: ssl.SSLContext) -> AsyncIterator["FakeMqtt"]:
        """Listen on loopback."""
        server = await asyncio.start_server(self._converse, "127.0.0.1", self.port, ssl=tls)
        self.port = int(server.sockets[0].getsockname()[1])
        self._server = server
        try:
            yield self
        finally:
            server.close()
            self.drop()

    def stop(self) -> None:
        """End the listener and the connection."""
        assert self._server is not None
        self._server.close()
        self.drop()

    def deliver(self, payload: bytes) -> None:
        """Publish an event, if anybody listens."""
        self._publish(event_topic(self._provider_id), payload, mqtt5.QoS.AT_LEAST_ONCE)

    def hint(self) -> None:
        """Tell all to pull."""
        self._publish(HINT_TOPIC, b"", mqtt5.QoS.AT_MOST_ONCE)

    def drop(self) -> None:
        """Cut the connection, as a hub that is killed does."""
        self._subscribed.clear()
        if self._writer is not None:
            self._writer.transport.abort()
            self._writer = None

    def _publish(self, topic: str, payload: bytes, qos: mqtt5.QoS) -> None:
        if self._writer is None or topic not in self._subscribed:
            return
        self._packet_id = self._packet_id % 65_535 + 1
        packet_id = self._packet_id if qos is mqtt5.QoS.AT_LEAST_ONCE else None
        packet = mqtt5.PublishPacket(topic, payload, qos=qos, packet_id=packet_id)
        self._writer.write(packet.write())

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        buffer = b""
        certificate = peer_certificate(writer)
        assert certificate is not None
        try:
            while data := await reader.read(READ_BYTES):
                buffer += data
                while buffer:
                    try:
                        packet, length = mqtt5.read(memoryview(buffer))
                    except IndexError:
                        break
                    buffer = buffer[length:]
                    self._answer(packet, writer, common_name(certificate))
        except OSError:
            return  # dropped on purpose
        finally:
            if self._writer is writer:
                self.drop()
            writer.close()

    def _answer(self, packet: mqtt5.Packet, writer: asyncio.StreamWriter, name: str) -> None:
        match packet:
            case mqtt5.ConnectPacket():
                writer.write(self._admit(packet, name, writer).write())
            case mqtt5.SubscribePacket():
                self._subscribed |= {each.pattern for each in packet.topic_filters}
                granted = [mqtt5.SubAckReasonCode.GRANTED_QOS_AT_LEAST_ONCE]
                codes = granted * len(packet.topic_filters)
                writer.write(mqtt5.SubAckPacket(packet.packet_id, codes).write())
            case mqtt5.PublishPacket(packet_id=int(packet_id)):
                assert packet.topic == presence_topic(self._provider_id)
                assert packet.retain
                self.presence.append(Presence.model_validate_json(packet.payload))
                writer.write(mqtt5.PubAckPacket(packet_id).write())
            case mqtt5.PingReqPacket():
                writer.write(mqtt5.PingRespPacket().write())

    def _admit(
        self, packet: mqtt5.ConnectPacket, name: str, writer: asyncio.StreamWriter
    ) -> mqtt5.ConnAckPacket:
        self.connects += 1
        password = (packet.password or b"").decode()
        identity = packet.client_id == packet.username == name == self._provider_id
        if self.refuse_connects > 0 or not identity or not self._token_is_valid(password):
            self.refuse_connects -= 1
            refused = mqtt5.ConnAckReasonCode.NOT_AUTHORIZED
            return mqtt5.ConnAckPacket(reason_code=refused)
        if packet.will is not None:  # the doctor has none: it is nobody's presence
            assert packet.will.payload is not None
            self.will = Presence.model_validate_json(packet.will.payload)
        self._writer = writer
        return mqtt5.ConnAckPacket()
