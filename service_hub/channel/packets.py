"""MQTT 5 packets out of a byte stream that nobody can be trusted with.

The codec is `mqtt5`; framing and its limit are ours, so that the codec only ever sees one whole
packet of bounded size.
"""

from typing import Final

import mqtt5

PACKET_BYTES_MAX: Final = 16_384
"""Largest packet a provider may send: CONNECT with a token and a will, or a presence."""

_LENGTH_BYTES_MAX: Final = 4
_LENGTH_BITS_PER_BYTE: Final = 7
_CONTINUATION: Final = 0x80

_SHORT_PUBACK: Final = b"\x40\x02"
_SHORT_PUBACK_BYTES: Final = 4


class MalformedPacketError(Exception):
    """The bytes are no packet of MQTT 5; after it nothing in the stream can be trusted."""


class PacketTooLargeError(MalformedPacketError):
    """The packet says that it is larger than what was allowed in CONNACK."""


def frame_bytes(buffer: bytes | bytearray) -> int | None:
    """Return the length of the first packet with its header, None while that is not known.

    Remaining length is a variable byte integer of at most four bytes (MQTT 5.0, 2.1.4).
    """
    remaining = 0
    for index, byte in enumerate(buffer[1 : 1 + _LENGTH_BYTES_MAX]):
        remaining |= (byte & ~_CONTINUATION) << (_LENGTH_BITS_PER_BYTE * index)
        if not byte & _CONTINUATION:
            return 2 + index + remaining
    if len(buffer) > _LENGTH_BYTES_MAX:
        raise MalformedPacketError("the remaining length has more than four bytes")
    return None


def read_packet(frame: bytes) -> mqtt5.Packet:
    """Return the one packet that fills `frame`; MalformedPacketError for everything else."""
    try:
        packet, length = mqtt5.read(memoryview(frame))
    except (IndexError, ValueError) as error:
        # IndexError means "more bytes needed"; a whole frame that needs more contradicts itself.
        raise MalformedPacketError(str(error)) from error
    except BaseException as error:
        # mqtt5 0.8.0 panics on invalid UTF-8: a pyo3 PanicException, which is no Exception.
        if type(error).__name__ != "PanicException":
            raise
        raise MalformedPacketError("a string is not UTF-8") from error
    if length != len(frame):
        raise MalformedPacketError(f"{len(frame) - length} bytes follow the packet's end")
    return packet


class PacketReader:
    """Collects bytes and gives back whole packets; never holds more than one packet and a read."""

    def __init__(self, packet_bytes_max: int = PACKET_BYTES_MAX) -> None:
        self._packet_bytes_max = packet_bytes_max
        self._buffer = bytearray()

    @property
    def is_full(self) -> bool:
        """Whether enough is buffered for any packet: the transport should pause."""
        return len(self._buffer) >= self._packet_bytes_max

    def feed(self, data: bytes) -> None:
        """Take in what the transport received."""
        self._buffer += data

    @property
    def is_empty(self) -> bool:
        """Whether nothing is buffered."""
        return not self._buffer

    def next_short_acknowledgement(self) -> int | None:
        """Return the packet number of a PUBACK in its short form, if that is what comes next.

        Success without properties may leave out all but the number (MQTT 5.0, 3.4.2.1): such is
        nearly all that providers send, and it needs no codec.
        """
        if not self._buffer.startswith(_SHORT_PUBACK) or len(self._buffer) < _SHORT_PUBACK_BYTES:
            return None
        number = int.from_bytes(self._buffer[2:_SHORT_PUBACK_BYTES], "big")
        if number == 0:
            return None
        del self._buffer[:_SHORT_PUBACK_BYTES]
        return number

    def next_packet(self) -> mqtt5.Packet | None:
        """Return the next whole packet, None while bytes are missing; MalformedPacketError."""
        length = frame_bytes(self._buffer)
        if length is None:
            return None
        if length > self._packet_bytes_max:
            raise PacketTooLargeError(f"a packet of {length} bytes is announced")
        if len(self._buffer) < length:
            return None
        frame = bytes(self._buffer[:length])
        del self._buffer[:length]
        return read_packet(frame)
