"""Compressed payloads (zstd, level 1: design replication), and what a receiver lets them become.

A payload begins with the length that it has when it is unpacked. A peer cannot make us allocate
more than one frame may hold: its length is checked before anything is unpacked, and what zstd's own
header claims must be the same.
"""

import struct
from typing import Final

import zstandard

LEVEL: Final = 1
_LENGTH: Final = struct.Struct("<I")
LENGTH_BYTES: Final = _LENGTH.size
WORTH: Final = 15 / 16
"""What is not at least that much smaller is sent as it is."""


class PackedError(Exception):
    """A compressed payload is damaged, or would become something else than it says."""


class Packer:
    """Compresses; one for each transfer, used by one thread at a time."""

    def __init__(self) -> None:
        self._compressor = zstandard.ZstdCompressor(level=LEVEL, write_checksum=False)

    def pack(self, view: memoryview) -> bytes | None:
        """Return the compressed payload, or None where that would not be worth it."""
        packed = self._compressor.compress(view)
        if len(packed) + LENGTH_BYTES > len(view) * WORTH:
            return None
        return _LENGTH.pack(len(view)) + packed


def unpacked_length(payload: memoryview, length_max: int) -> int:
    """Return how long a payload will be; PackedError when it is more than allowed, or unclear."""
    if len(payload) < LENGTH_BYTES:
        raise PackedError("a compressed payload without its length")
    (length,) = _LENGTH.unpack_from(payload)
    if not 0 < length <= length_max:
        raise PackedError(f"a compressed payload of {length} bytes, {length_max} at most")
    try:
        parameters = zstandard.get_frame_parameters(payload[LENGTH_BYTES:])
    except zstandard.ZstdError as error:
        raise PackedError(f"a compressed payload is damaged: {error}") from error
    if parameters.content_size != length:
        raise PackedError("a compressed payload contradicts its length")
    return int(length)


class Unpacker:
    """Decompresses; one for each stream, used by one thread at a time."""

    def __init__(self) -> None:
        self._decompressor = zstandard.ZstdDecompressor()

    def unpack(self, payload: memoryview, length_max: int) -> bytes:
        """Return the bytes of a payload; PackedError unless they are exactly what it says."""
        length = unpacked_length(payload, length_max)
        try:
            data: bytes = self._decompressor.decompress(
                payload[LENGTH_BYTES:], max_output_size=length, allow_extra_data=False
            )
        except zstandard.ZstdError as error:
            raise PackedError(f"a compressed payload is damaged: {error}") from error
        if len(data) != length:
            raise PackedError("a compressed payload contradicts its length")
        return data
