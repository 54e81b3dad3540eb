"""What a connected provider may do over MQTT, packet by packet; pure.

The hub is the MQTT server of its providers and no broker: each may subscribe to its own events
and to the hint, and publish its own presence (design: channel, back ends). Rules are those of
MQTT 5.0 unless another source is named. The codec's enumerations are no real IntEnum, whatever its
stubs say: they have neither order nor hash, and are compared by value here.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import mqtt5
from mqtt5 import DisconnectReasonCode as Disconnect
from mqtt5 import PubAckReasonCode, QoS, SubAckReasonCode, UnsubAckReasonCode
from pydantic import ValidationError

from service_hub.channel.delivery import Publication
from wire_contract.events import Presence
from wire_contract.topics import HINT_TOPIC, event_topic, presence_topic

PRESENCE_BYTES_MAX: Final = 1024
OFFENCES_MAX: Final = 10
"""After so many refused publishes and subscriptions the connection ends."""

UNACKNOWLEDGED_PACKETS_MAX: Final = 64
"""Events on the wire without a PUBACK: the window of 20 and its repetitions."""

_PACKET_IDS: Final = 65_535
_PUBLISH_OVERHEAD_BYTES_MAX: Final = 16
_SHARED_PREFIX: Final = "$share/"
_FAILURE_CODES: Final = 0x80
"""Reason codes from here on are failures (2.4)."""
_WILDCARDS: Final = ("+", "#")

Reply = mqtt5.PubAckPacket | mqtt5.SubAckPacket | mqtt5.UnsubAckPacket | mqtt5.PingRespPacket


@dataclass(frozen=True, slots=True)
class End:
    """The connection ends; `reason` is told to the peer, None when the peer said goodbye."""

    words: str
    reason: Disconnect | None
    with_will: bool = True


@dataclass(frozen=True, slots=True)
class Outcome:
    """What follows from a packet: first note the presence, then send the replies, then end."""

    replies: Sequence[Reply] = ()
    presence: Presence | None = None
    takes_events: bool = False
    refused: str | None = None
    end: End | None = None


def read_presence(payload: bytes | None) -> Presence | None:
    """Return the presence in a payload, None when it is none."""
    if payload is None or len(payload) > PRESENCE_BYTES_MAX:
        return None
    try:
        return Presence.model_validate_json(payload)
    except ValidationError:
        return None


class ProviderSession:
    """One admitted connection: what it subscribed to, and what it has not acknowledged."""

    def __init__(self, provider_id: str, connect: mqtt5.ConnectPacket) -> None:
        self._event_topic = event_topic(provider_id)
        self._presence_topic = presence_topic(provider_id)
        self._granted: dict[str, QoS] = {}
        self._unacknowledged: set[int] = set()
        self._unacknowledged_max = min(connect.receive_max, UNACKNOWLEDGED_PACKETS_MAX)
        self._packet_bytes_max = connect.max_packet_size
        self._last_packet_id = 0
        self._offences = 0
        self.will = read_presence(connect.will.payload) if connect.will is not None else None

    @property
    def takes_events(self) -> bool:
        """Whether the provider has subscribed to its events."""
        return self._event_topic in self._granted

    def event(self, payload: bytes) -> mqtt5.PublishPacket | Publication:
        """Return the packet that carries a signed event, or why there can be none now."""
        quality = self._granted.get(self._event_topic)
        if quality is None:
            return Publication.ABSENT
        size = len(payload) + len(self._event_topic) + _PUBLISH_OVERHEAD_BYTES_MAX
        if self._packet_bytes_max is not None and size > self._packet_bytes_max:
            return Publication.TOO_LARGE
        if quality == QoS.AT_MOST_ONCE:
            return mqtt5.PublishPacket(self._event_topic, payload)
        if len(self._unacknowledged) >= self._unacknowledged_max:
            return Publication.BUSY
        return mqtt5.PublishPacket(
            self._event_topic, payload, qos=QoS.AT_LEAST_ONCE, packet_id=self._next_packet_id()
        )

    def hint(self) -> mqtt5.PublishPacket | None:
        """Return the packet that says "pull", None when the provider did not ask for it.

        At most once, whatever was granted: it is repeated anyway, and must not wait for PUBACKs.
        """
        if HINT_TOPIC not in self._granted:
            return None
        return mqtt5.PublishPacket(HINT_TOPIC, b"")

    def acknowledged(self, packet_id: int) -> None:
        """Note that the peer has a packet; an unknown number is no offence: it may come twice."""
        self._unacknowledged.discard(packet_id)

    def handle(self, packet: mqtt5.Packet) -> Outcome:
        """Return what follows from a packet of the peer."""
        outcome = Outcome()
        match packet:
            case mqtt5.PublishPacket():
                outcome = self._publish(packet)
            case mqtt5.PubAckPacket():
                self.acknowledged(packet.packet_id)
            case mqtt5.SubscribePacket():
                outcome = self._subscribe(packet)
            case mqtt5.UnsubscribePacket():
                outcome = self._unsubscribe(packet)
            case mqtt5.PingReqPacket():
                outcome = Outcome(replies=(mqtt5.PingRespPacket(),))
            case mqtt5.DisconnectPacket():
                normal = packet.reason_code == Disconnect.NORMAL_DISCONNECTION
                outcome = Outcome(end=End("the provider said goodbye", None, with_will=not normal))
            case _:
                name = type(packet).__name__
                outcome = _ended(f"{name} has no place here", Disconnect.PROTOCOL_ERROR)
        return outcome

    def _publish(self, packet: mqtt5.PublishPacket) -> Outcome:
        if packet.qos == QoS.EXACTLY_ONCE:
            return _ended("QoS 2 was not offered", Disconnect.QOS_NOT_SUPPORTED)
        if packet.topic_alias is not None:
            return _ended("topic aliases were not offered", Disconnect.TOPIC_ALIAS_INVALID)
        if packet.topic != self._presence_topic:
            return self._offence(
                "published to a topic that is not its own",
                _acknowledgement(packet, PubAckReasonCode.NOT_AUTHORIZED),
            )
        presence = read_presence(packet.payload)
        if presence is None:
            return self._offence(
                "published what is no presence",
                _acknowledgement(packet, PubAckReasonCode.PAYLOAD_FORMAT_INVALID),
            )
        return Outcome(
            replies=_acknowledgement(packet, PubAckReasonCode.SUCCESS), presence=presence
        )

    def _subscribe(self, packet: mqtt5.SubscribePacket) -> Outcome:
        if packet.packet_id == 0 or not packet.topic_filters:
            return _ended("a SUBSCRIBE without number or topics", Disconnect.PROTOCOL_ERROR)
        if packet.subscription_id is not None:
            return _ended(
                "subscription identifiers were not offered",
                Disconnect.SUBSCRIPTION_IDS_NOT_SUPPORTED,
            )
        codes = [self._grant(each) for each in packet.topic_filters]
        replies = (mqtt5.SubAckPacket(packet.packet_id, codes),)
        if all(int(code) < _FAILURE_CODES for code in codes):
            return Outcome(replies=replies, takes_events=self.takes_events)
        refused = self._offence("subscribed to a topic that is not its own", replies)
        return replace(refused, takes_events=self.takes_events)

    def _grant(self, wanted: mqtt5.TopicFilter) -> SubAckReasonCode:
        if wanted.pattern in {self._event_topic, HINT_TOPIC}:
            if wanted.max_qos == QoS.AT_MOST_ONCE:
                self._granted[wanted.pattern] = QoS.AT_MOST_ONCE
                return SubAckReasonCode.GRANTED_QOS_AT_MOST_ONCE
            self._granted[wanted.pattern] = QoS.AT_LEAST_ONCE
            return SubAckReasonCode.GRANTED_QOS_AT_LEAST_ONCE
        if wanted.pattern.startswith(_SHARED_PREFIX):
            return SubAckReasonCode.SHARED_SUBSCRIPTIONS_NOT_SUPPORTED
        if any(sign in wanted.pattern for sign in _WILDCARDS):
            return SubAckReasonCode.WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED
        return SubAckReasonCode.NOT_AUTHORIZED

    def _unsubscribe(self, packet: mqtt5.UnsubscribePacket) -> Outcome:
        if packet.packet_id == 0 or not packet.patterns:
            return _ended("an UNSUBSCRIBE without number or topics", Disconnect.PROTOCOL_ERROR)
        codes = [
            UnsubAckReasonCode.SUCCESS
            if self._granted.pop(pattern, None) is not None
            else UnsubAckReasonCode.NO_SUBSCRIPTION_EXISTED
            for pattern in packet.patterns
        ]
        return Outcome(replies=(mqtt5.UnsubAckPacket(packet.packet_id, codes),))

    def _offence(self, words: str, replies: Sequence[Reply]) -> Outcome:
        self._offences += 1
        if self._offences < OFFENCES_MAX:
            return Outcome(replies=replies, refused=words)
        return _ended(f"{words}, once too often", Disconnect.NOT_AUTHORIZED)

    def _next_packet_id(self) -> int:
        # Fewer are unacknowledged than there are numbers, so a free one is found.
        while True:
            self._last_packet_id = self._last_packet_id % _PACKET_IDS + 1
            if self._last_packet_id not in self._unacknowledged:
                self._unacknowledged.add(self._last_packet_id)
                return self._last_packet_id


def _acknowledgement(
    packet: mqtt5.PublishPacket, code: PubAckReasonCode
) -> tuple[mqtt5.PubAckPacket, ...]:
    if packet.packet_id is None:
        return ()
    return (mqtt5.PubAckPacket(packet.packet_id, reason_code=code),)


def _ended(words: str, reason: Disconnect) -> Outcome:
    return Outcome(end=End(words, reason))
