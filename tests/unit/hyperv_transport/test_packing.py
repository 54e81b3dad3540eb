"""Compressed payloads: as small as promised, and never more than they say."""

import contextlib
import os

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from vmm_simulator.hyperv.frames import (
    HEADER_BYTES,
    PAYLOAD_BYTES_MAX,
    FrameError,
    FrameVerifier,
    FrameWriter,
)
from vmm_simulator.hyperv.packing import PackedError, Packer, Unpacker

PAGE = 4_096
TEXT = b"replicated bytes " * 4 * PAGE


def stream(payload: bytes, of: int) -> memoryview:
    """Return one PACKED frame and the END."""
    writer = FrameWriter()
    buffer = memoryview(bytearray(HEADER_BYTES + len(payload)))
    writer.packed(buffer, 0, payload, disk=0, offset=PAGE, of=of)
    return memoryview(bytes(buffer) + writer.end())


def claim(length: int, content: bytes) -> bytes:
    """Return a payload that claims a length of its own."""
    return length.to_bytes(4, "little") + content


def test_what_was_packed_comes_out_again_as_data() -> None:
    packed = Packer().pack(memoryview(TEXT[: 16 * PAGE]))
    assert packed is not None
    assert len(packed) < PAGE
    verifier = FrameVerifier([64 * PAGE])
    frames = list(verifier.frames(stream(packed, 16 * PAGE)))
    assert verifier.ended
    (frame,) = frames
    assert (frame.kind.name, frame.disk, frame.offset, frame.length) == ("DATA", 0, PAGE, 16 * PAGE)
    assert bytes(frame.payload) == TEXT[: 16 * PAGE]


def test_what_does_not_become_smaller_is_not_packed() -> None:
    assert Packer().pack(memoryview(os.urandom(64 * 1024))) is None


def test_a_bomb_is_refused_before_it_is_unpacked() -> None:
    bomb = zstandard.ZstdCompressor(level=1).compress(bytes(2**28))
    assert len(bomb) < 64 * 1024
    for length in (2**28, 64 * 1024):
        with pytest.raises(PackedError, match=r"at most|contradicts"):
            Unpacker().unpack(memoryview(claim(length, bomb)), PAYLOAD_BYTES_MAX)
    # Without the size in its own header a frame could grow while it is unpacked.
    unsized = zstandard.ZstdCompressor(level=1, write_content_size=False).compress(bytes(PAGE))
    with pytest.raises(PackedError, match="contradicts"):
        Unpacker().unpack(memoryview(claim(PAGE, unsized)), PAYLOAD_BYTES_MAX)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\x01\x00",
        claim(0, zstandard.ZstdCompressor().compress(b"")),
        claim(PAGE, b""),
        claim(PAGE, b"no zstd at all"),
        claim(PAGE, zstandard.ZstdCompressor().compress(bytes(PAGE))[:-1]),
        claim(PAGE, zstandard.ZstdCompressor().compress(bytes(PAGE)) + b"more"),
        claim(2 * PAGE, zstandard.ZstdCompressor().compress(bytes(PAGE))),
    ],
)
def test_a_damaged_payload_is_a_damaged_frame(payload: bytes) -> None:
    with pytest.raises(FrameError):
        list(FrameVerifier([64 * PAGE]).frames(stream(payload, PAGE)))


@given(st.binary(max_size=400), st.integers(0, 2**32 - 1))
def test_no_bytes_raise_anything_else(content: bytes, length: int) -> None:
    for payload in (content, claim(length, content)):
        with contextlib.suppress(PackedError):
            assert len(Unpacker().unpack(memoryview(payload), PAGE)) <= PAGE


@given(st.integers(0, 2**31), st.integers(0, 255))
def test_a_changed_byte_of_what_was_packed_is_noticed_or_changes_only_bytes(
    place: int, value: int
) -> None:
    packed = bytearray(Packer().pack(memoryview(TEXT[:PAGE])) or b"")
    packed[place % len(packed)] = value
    with contextlib.suppress(PackedError):
        assert len(Unpacker().unpack(memoryview(bytes(packed)), PAGE)) <= PAGE
