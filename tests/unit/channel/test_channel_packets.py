"""The byte stream of MQTT: framing, limits, and bytes that are none of it."""

import random

import mqtt5
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service_hub.channel.packets import (
    MalformedPacketError,
    PacketReader,
    PacketTooLargeError,
    frame_bytes,
    read_packet,
)

# What the codec's panic was about goes to sys.unraisablehook, which pytest makes an error.
codec_may_panic = pytest.mark.filterwarnings(
    "ignore:Exception ignored in:pytest.PytestUnraisableExceptionWarning"
)

CONNECT = mqtt5.ConnectPacket(
    "provider",
    password=b"token",
    keep_alive=30,
    will=mqtt5.Will("prov/provider/presence", payload=b"{}"),
).write()
SUBSCRIBE = mqtt5.SubscribePacket(7, [mqtt5.TopicFilter("hub/ev/provider")]).write()
PUBLISH = mqtt5.PublishPacket(
    "prov/provider/presence", b"{}", qos=mqtt5.QoS.AT_LEAST_ONCE, packet_id=3
).write()
INVALID_UTF8 = b"\x30\x05\x00\x02\xff\xfe\x00"


@given(cuts=st.lists(st.integers(min_value=1, max_value=40), max_size=30))
def test_packets_are_found_wherever_the_stream_is_cut(cuts: list[int]) -> None:
    stream, reader, found = CONNECT + SUBSCRIBE + PUBLISH, PacketReader(), []
    for cut in [*cuts, len(stream)]:
        reader.feed(stream[:cut])
        stream = stream[cut:]
        while (packet := reader.next_packet()) is not None:
            found.append(type(packet))
    assert found == [mqtt5.ConnectPacket, mqtt5.SubscribePacket, mqtt5.PublishPacket]


def test_a_large_packet_is_refused_before_it_is_collected() -> None:
    reader = PacketReader(packet_bytes_max=100)
    reader.feed(b"\x30\xff\xff\xff\x7f")
    with pytest.raises(PacketTooLargeError, match="268435460"):
        reader.next_packet()


def test_the_largest_allowed_packet_is_read() -> None:
    reader = PacketReader(packet_bytes_max=len(PUBLISH))
    reader.feed(PUBLISH)
    assert reader.is_full
    assert isinstance(reader.next_packet(), mqtt5.PublishPacket)
    assert not reader.is_full


@codec_may_panic
@pytest.mark.parametrize(
    "hostile",
    [
        b"\x30\xff\xff\xff\xff\x01",  # remaining length of five bytes
        b"\x00\x00",  # no such packet type
        INVALID_UTF8,  # the codec panics
        b"\x30\x03\x00\x09a",  # a topic longer than its packet
        b"\xc0\x01\x00",  # PINGREQ with content
        b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00",  # MQTT 3.1.1
        b"GET / HTTP/1.1\r\nHost: hub\r\n\r\n" + b"x" * 200,
    ],
)
def test_what_is_not_mqtt_is_malformed(hostile: bytes) -> None:
    reader = PacketReader()
    reader.feed(hostile)
    with pytest.raises(MalformedPacketError):
        reader.next_packet()


@codec_may_panic
def test_a_codec_panic_never_escapes_as_one() -> None:
    with pytest.raises(MalformedPacketError, match="UTF-8") as caught:
        read_packet(INVALID_UTF8)
    assert type(caught.value.__cause__).__name__ == "PanicException"


@codec_may_panic
def test_mutated_packets_are_read_or_malformed_and_nothing_else() -> None:
    chance = random.Random(20_26)  # noqa: S311 -- a seeded test, no secret
    refused = 0
    for _ in range(3_000):
        mutated = bytearray(chance.choice([CONNECT, SUBSCRIBE, PUBLISH]))
        for _ in range(chance.randint(1, 4)):
            mutated[chance.randrange(len(mutated))] = chance.randrange(256)
        reader = PacketReader()
        reader.feed(bytes(mutated))
        try:
            while reader.next_packet() is not None:
                pass
        except MalformedPacketError:
            refused += 1
    assert refused > 500


@given(st.binary(max_size=6))
def test_frame_length_is_known_or_refused_within_five_bytes(data: bytes) -> None:
    try:
        length = frame_bytes(data)
    except MalformedPacketError:
        assert len(data) >= 5
        return
    assert length is None or length >= 2
    if len(data) >= 5:
        assert length is not None


@given(
    numbers=st.lists(st.integers(min_value=1, max_value=65_535), max_size=5),
    cut=st.integers(min_value=0, max_value=30),
)
def test_short_acknowledgements_are_what_the_codec_says_they_are(
    numbers: list[int], cut: int
) -> None:
    stream = b"".join(mqtt5.PubAckPacket(number).write() for number in numbers)
    read = [read_packet(stream[at : at + 4]) for at in range(0, len(stream), 4)]
    assert [each.packet_id for each in read if isinstance(each, mqtt5.PubAckPacket)] == numbers
    reader, found = PacketReader(), []
    for part in (stream[:cut], stream[cut:]):
        reader.feed(part)
        while (number := reader.next_short_acknowledgement()) is not None:
            found.append(number)
    assert found == numbers
    assert reader.is_empty


@pytest.mark.parametrize(
    "other", [SUBSCRIBE, b"\x40\x02\x00\x00", b"\x40\x03\x00\x01\x10", b"\x42\x02\x00\x01"]
)
def test_what_is_no_short_acknowledgement_is_left_to_the_codec(other: bytes) -> None:
    reader = PacketReader()
    reader.feed(other)
    assert reader.next_short_acknowledgement() is None
    assert not reader.is_empty
