"""What a connected provider may do, packet by packet."""

import mqtt5
import pytest
from mqtt5 import DisconnectReasonCode as Disconnect
from mqtt5 import PubAckReasonCode, QoS, SubAckReasonCode

from service_hub.channel.admission import check_connect
from service_hub.channel.delivery import Publication
from service_hub.channel.packets import read_packet
from service_hub.channel.session import (
    OFFENCES_MAX,
    UNACKNOWLEDGED_PACKETS_MAX,
    ProviderSession,
    read_presence,
)

ONLINE = b'{"state":"online","boot_id":"b","session":1}'
# The codec reads these, but does not write them.
NO_TOPICS = read_packet(b"\x82\x03\x00\x01\x00")
NO_PATTERNS = read_packet(b"\xa2\x03\x00\x01\x00")
OWN_EVENTS, OWN_PRESENCE, HINT = "hub/ev/p1", "prov/p1/presence", "hub/all"


def session(**connect: object) -> ProviderSession:
    return ProviderSession("p1", mqtt5.ConnectPacket("p1", **connect))  # type: ignore[arg-type]


def subscribed(quality: QoS = QoS.AT_LEAST_ONCE, **connect: object) -> ProviderSession:
    opened = session(**connect)
    filters = [mqtt5.TopicFilter(topic, max_qos=quality) for topic in (OWN_EVENTS, HINT)]
    assert opened.handle(mqtt5.SubscribePacket(1, filters)).takes_events
    return opened


def published(topic: str, payload: bytes = ONLINE) -> mqtt5.PublishPacket:
    return mqtt5.PublishPacket(topic, payload, qos=QoS.AT_LEAST_ONCE, packet_id=9)


@pytest.mark.parametrize(
    ("pattern", "code"),
    [
        (OWN_EVENTS, SubAckReasonCode.GRANTED_QOS_AT_LEAST_ONCE),
        (HINT, SubAckReasonCode.GRANTED_QOS_AT_LEAST_ONCE),
        ("hub/ev/p2", SubAckReasonCode.NOT_AUTHORIZED),
        ("hub/ev/p1/", SubAckReasonCode.NOT_AUTHORIZED),
        (OWN_PRESENCE, SubAckReasonCode.NOT_AUTHORIZED),
        ("$SYS/broker", SubAckReasonCode.NOT_AUTHORIZED),
        ("hub/ev/+", SubAckReasonCode.WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED),
        ("#", SubAckReasonCode.WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED),
        ("$share/g/hub/ev/p1", SubAckReasonCode.SHARED_SUBSCRIPTIONS_NOT_SUPPORTED),
    ],
)
def test_only_the_own_events_and_the_hint_are_granted(pattern: str, code: SubAckReasonCode) -> None:
    opened = session()
    outcome = opened.handle(mqtt5.SubscribePacket(1, [mqtt5.TopicFilter(pattern)]))
    (reply,) = outcome.replies
    assert isinstance(reply, mqtt5.SubAckPacket)
    assert reply.reason_codes == [code]
    assert opened.takes_events == (pattern == OWN_EVENTS)


def test_a_refused_topic_does_not_spoil_the_granted_one_beside_it() -> None:
    opened = session()
    filters = [mqtt5.TopicFilter("hub/ev/p2"), mqtt5.TopicFilter(OWN_EVENTS)]
    outcome = opened.handle(mqtt5.SubscribePacket(1, filters))
    assert outcome.takes_events
    assert outcome.refused is not None
    assert isinstance(opened.event(b"e"), mqtt5.PublishPacket)


@pytest.mark.parametrize(
    ("packet", "code"),
    [
        (published(OWN_PRESENCE), PubAckReasonCode.SUCCESS),
        (published("prov/p2/presence"), PubAckReasonCode.NOT_AUTHORIZED),
        (published(OWN_EVENTS), PubAckReasonCode.NOT_AUTHORIZED),
        (published(HINT), PubAckReasonCode.NOT_AUTHORIZED),
        (published(OWN_PRESENCE, b"nonsense"), PubAckReasonCode.PAYLOAD_FORMAT_INVALID),
        (published(OWN_PRESENCE, ONLINE + b" " * 2000), PubAckReasonCode.PAYLOAD_FORMAT_INVALID),
    ],
)
def test_only_the_own_presence_may_be_published(
    packet: mqtt5.PublishPacket, code: PubAckReasonCode
) -> None:
    outcome = session().handle(packet)
    (reply,) = outcome.replies
    assert isinstance(reply, mqtt5.PubAckPacket)
    assert reply.reason_code == code
    assert (outcome.presence is not None) == (code == PubAckReasonCode.SUCCESS)


def test_repeated_offences_end_the_connection() -> None:
    opened = session()
    for _ in range(OFFENCES_MAX - 1):
        assert opened.handle(published("prov/p2/presence")).end is None
    end = opened.handle(published("prov/p2/presence")).end
    assert end is not None
    assert end.reason == Disconnect.NOT_AUTHORIZED


@pytest.mark.parametrize(
    ("packet", "reason"),
    [
        (mqtt5.ConnectPacket("p1"), Disconnect.PROTOCOL_ERROR),
        (mqtt5.ConnAckPacket(), Disconnect.PROTOCOL_ERROR),
        (mqtt5.PubRelPacket(1), Disconnect.PROTOCOL_ERROR),
        (mqtt5.AuthPacket(), Disconnect.PROTOCOL_ERROR),
        (NO_TOPICS, Disconnect.PROTOCOL_ERROR),
        (NO_PATTERNS, Disconnect.PROTOCOL_ERROR),
        (
            mqtt5.SubscribePacket(1, [mqtt5.TopicFilter(HINT)], subscription_id=4),
            Disconnect.SUBSCRIPTION_IDS_NOT_SUPPORTED,
        ),
        (
            mqtt5.PublishPacket(OWN_PRESENCE, ONLINE, qos=QoS.EXACTLY_ONCE, packet_id=1),
            Disconnect.QOS_NOT_SUPPORTED,
        ),
        (
            mqtt5.PublishPacket(OWN_PRESENCE, ONLINE, topic_alias=1),
            Disconnect.TOPIC_ALIAS_INVALID,
        ),
    ],
)
def test_what_was_not_offered_ends_the_connection(packet: mqtt5.Packet, reason: Disconnect) -> None:
    end = session().handle(packet).end
    assert end is not None
    assert end.reason == reason
    assert end.with_will


def test_goodbye_takes_the_will_back_unless_it_asks_for_it() -> None:
    normal = session().handle(mqtt5.DisconnectPacket()).end
    assert normal is not None
    assert not normal.with_will
    wanted = mqtt5.DisconnectPacket(reason_code=Disconnect.DISCONNECT_WITH_WILL_MESSAGE)
    other = session().handle(wanted).end
    assert other is not None
    assert other.with_will


def test_ping_is_answered() -> None:
    (reply,) = session().handle(mqtt5.PingReqPacket()).replies
    assert isinstance(reply, mqtt5.PingRespPacket)


def test_nothing_is_delivered_before_and_after_a_subscription() -> None:
    opened = session()
    assert opened.event(b"e") is Publication.ABSENT
    assert opened.hint() is None
    opened = subscribed()
    assert isinstance(opened.event(b"e"), mqtt5.PublishPacket)
    assert opened.hint() is not None
    opened.handle(mqtt5.UnsubscribePacket(2, [OWN_EVENTS, HINT, "never/asked"]))
    assert opened.event(b"e") is Publication.ABSENT
    assert opened.hint() is None


@pytest.mark.parametrize(("receive_max", "window"), [(3, 3), (65_535, UNACKNOWLEDGED_PACKETS_MAX)])
def test_no_more_is_on_the_wire_than_the_peer_takes(receive_max: int, window: int) -> None:
    opened = subscribed(receive_max=receive_max)
    sent = [opened.event(b"e") for _ in range(window)]
    numbers = [each.packet_id for each in sent if isinstance(each, mqtt5.PublishPacket)]
    assert len(set(numbers)) == window
    assert opened.event(b"e") is Publication.BUSY
    opened.handle(mqtt5.PubAckPacket(60_000))
    assert opened.event(b"e") is Publication.BUSY
    assert numbers[0] is not None
    opened.handle(mqtt5.PubAckPacket(numbers[0]))
    assert isinstance(opened.event(b"e"), mqtt5.PublishPacket)


def test_packet_numbers_go_round_and_none_in_use_is_taken() -> None:
    opened = subscribed()
    first = opened.event(b"e")
    assert isinstance(first, mqtt5.PublishPacket)
    for _ in range(70_000):
        packet = opened.event(b"e")
        assert isinstance(packet, mqtt5.PublishPacket)
        assert packet.packet_id not in {None, 0, first.packet_id}
        opened.handle(mqtt5.PubAckPacket(packet.packet_id or 0))


def test_a_packet_larger_than_the_peer_takes_is_not_sent() -> None:
    opened = subscribed(max_packet_size=100)
    assert opened.event(b"e" * 100) is Publication.TOO_LARGE
    small = opened.event(b"e" * 50)
    assert isinstance(small, mqtt5.PublishPacket)
    assert len(small.write()) <= 100


def test_a_subscription_at_most_once_gets_no_numbers() -> None:
    packet = subscribed(QoS.AT_MOST_ONCE).event(b"e")
    assert isinstance(packet, mqtt5.PublishPacket)
    assert packet.packet_id is None


@pytest.mark.parametrize(
    "payload", [None, b"", b"[]", b'{"state":"away","boot_id":"b","session":1}', b"\xff\xfe"]
)
def test_what_is_no_presence_is_none(payload: bytes | None) -> None:
    assert read_presence(payload) is None


@pytest.mark.parametrize(
    ("identity", "connect", "words"),
    [
        ("p1", mqtt5.ConnectPacket("p2", password=b"t"), "client id"),
        ("", mqtt5.ConnectPacket("", password=b"t"), "client id"),
        ("p1", mqtt5.ConnectPacket("p1"), "password"),
        ("p1", mqtt5.ConnectPacket("p1", password=b""), "password"),
        (
            "p1",
            mqtt5.ConnectPacket("p1", password=b"t", authentication_method="SCRAM"),
            "authentication",
        ),
        (
            "p1",
            mqtt5.ConnectPacket(
                "p1", password=b"t", will=mqtt5.Will("prov/p2/presence", payload=ONLINE)
            ),
            "topic",
        ),
        (
            "p1",
            mqtt5.ConnectPacket("p1", password=b"t", will=mqtt5.Will(OWN_PRESENCE, payload=b"x")),
            "no presence",
        ),
        (
            "p1",
            mqtt5.ConnectPacket(
                "p1",
                password=b"t",
                will=mqtt5.Will(OWN_PRESENCE, payload=ONLINE, qos=QoS.EXACTLY_ONCE),
            ),
            "QoS 2",
        ),
    ],
)
def test_a_connect_that_contradicts_its_certificate_is_refused(
    identity: str, connect: mqtt5.ConnectPacket, words: str
) -> None:
    refusal = check_connect(identity, connect)
    assert refusal is not None
    assert words in refusal.words
