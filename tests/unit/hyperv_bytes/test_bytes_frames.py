import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmm_simulator.hyperv.frames import (
    HEADER_BYTES,
    PAYLOAD_BYTES_MAX,
    FrameError,
    FrameKind,
    FrameVerifier,
    FrameWriter,
)

SIZES = (1_048_576, 8_192 + 512)
PAGE = b"p" * 4096


def stream(*changes: tuple[int, int, bytes | int]) -> bytes:
    """Return frames for (disk, offset, payload, or the length of a hole), without END."""
    writer = FrameWriter()
    return _frames(writer, *changes)


def ended(*changes: tuple[int, int, bytes | int]) -> bytes:
    writer = FrameWriter()
    return _frames(writer, *changes) + writer.end()


def _frames(writer: FrameWriter, *changes: tuple[int, int, bytes | int]) -> bytes:
    parts = []
    for disk, offset, what in changes:
        length = what if isinstance(what, int) else len(what)
        buffer = memoryview(bytearray(HEADER_BYTES + length))
        if isinstance(what, int):
            end = writer.zero(buffer, 0, disk=disk, offset=offset, length=length)
        else:
            buffer[HEADER_BYTES:] = what
            end = writer.data(buffer, 0, disk=disk, offset=offset, length=length)
        parts.append(bytes(buffer[:end]))
    return b"".join(parts)


def read(data: bytes) -> list[tuple[FrameKind, int, int, int, bytes]]:
    verifier = FrameVerifier(SIZES)
    view = memoryview(data)
    if verifier.whole_frames(view) != len(view):
        raise FrameError("incomplete")
    found = [(*frame[:4], bytes(frame.payload)) for frame in verifier.frames(view)]
    if not verifier.ended:
        raise FrameError("no end")
    return found


def test_what_is_written_is_read() -> None:
    assert read(ended((0, 0, PAGE), (0, 65_536, 131_072), (1, 8_192, b"x" * 512))) == [
        (FrameKind.DATA, 0, 0, 4096, PAGE),
        (FrameKind.ZERO, 0, 65_536, 131_072, b""),
        (FrameKind.DATA, 1, 8_192, 512, b"x" * 512),
    ]


def test_idle_frames_are_passed_over() -> None:
    writer = FrameWriter()
    buffer = memoryview(bytearray(HEADER_BYTES))
    writer.idle(buffer, 0)
    assert read(bytes(buffer) + writer.end()) == []


@given(st.integers(0, 2**32), st.integers(1, 255))
def test_any_changed_byte_is_noticed(place: int, change: int) -> None:
    data = bytearray(ended((0, 0, PAGE), (0, 4096, 8192)))
    data[place % len(data)] ^= change
    with pytest.raises(FrameError):
        read(bytes(data))


@given(st.binary(max_size=200))
def test_garbage_is_refused(data: bytes) -> None:
    with pytest.raises(FrameError):
        read(data)


@pytest.mark.parametrize(
    "changes",
    [
        [(2, 0, PAGE)],  # no such disk
        [(0, 1_048_576, PAGE)],  # behind the end
        [(1, 8_192, PAGE)],  # over the end
        [(0, 512, PAGE)],  # not on a boundary
        [(0, 0, b"x" * 512)],  # ends inside a page that is not the last
        [(0, 4096, PAGE), (0, 0, PAGE)],  # backwards
        [(0, 0, PAGE), (0, 0, PAGE)],  # twice
        [(1, 0, PAGE), (0, 0, PAGE)],  # disks backwards
        [(0, 0, 8192), (0, 4096, PAGE)],  # overlapping
        [(0, 0, b"")],  # nothing
    ],
)
def test_frames_out_of_rule_are_refused(changes: list[tuple[int, int, bytes | int]]) -> None:
    with pytest.raises(FrameError):
        read(ended(*changes))


def test_an_enormous_hole_is_refused() -> None:
    verifier = FrameVerifier((2**40,))
    buffer = memoryview(bytearray(HEADER_BYTES))
    FrameWriter().zero(buffer, 0, disk=0, offset=0, length=2**31)
    with pytest.raises(FrameError, match="over"):
        list(verifier.frames(buffer))


def test_a_payload_over_the_limit_is_refused_before_it_comes() -> None:
    head = ended((0, 0, b"x" * (PAYLOAD_BYTES_MAX + 4096)))[:HEADER_BYTES]
    with pytest.raises(FrameError, match="over"):
        FrameVerifier(SIZES).whole_frames(memoryview(head))


def test_a_missing_frame_is_noticed() -> None:
    first, both = stream((0, 0, PAGE)), ended((0, 0, PAGE), (0, 4096, PAGE))
    with pytest.raises(FrameError, match="was due"):
        read(both[len(first) :])
    with pytest.raises(FrameError):
        read(both[: len(first)] + both[2 * len(first) :])


def test_nothing_may_follow_the_end() -> None:
    with pytest.raises(FrameError, match="follow"):
        read(ended((0, 0, PAGE)) + stream((0, 0, PAGE)))


def test_a_partial_frame_is_left_for_later() -> None:
    data = stream((0, 0, PAGE), (0, 4096, PAGE))
    verifier = FrameVerifier(SIZES)
    assert verifier.whole_frames(memoryview(data[:-1])) == len(data) // 2
    assert verifier.whole_frames(memoryview(data[: HEADER_BYTES - 1])) == 0


def compared_at(*places: tuple[int, int]) -> bytes:
    """Return a stream that says these places in turn."""
    writer = FrameWriter()
    buffer = memoryview(bytearray(HEADER_BYTES))
    parts = []
    for disk, offset in places:
        writer.compared(buffer, 0, disk=disk, offset=offset)
        parts.append(bytes(buffer))
    return b"".join(parts) + writer.end()


def test_how_far_a_comparison_is_only_rises_and_stays_on_the_disks() -> None:
    verifier = FrameVerifier(SIZES)
    good = memoryview(compared_at((0, 65_536), (1, 0), (1, SIZES[1])))
    assert list(verifier.frames(good)) == []
    assert (verifier.compared, verifier.ended) == ((1, SIZES[1]), True)
    for places in (((0, 0),), ((0, 4096), (0, 4096)), ((0, 100),), ((1, 12_288),), ((2, 0),)):
        with pytest.raises(FrameError, match="comparison"):
            read(compared_at(*places))


def test_only_a_log_holds_several_streams_and_totals_are_of_the_last() -> None:
    both = stream((0, 65_536, PAGE)) + FrameWriter.resumed() + ended((0, 0, PAGE))
    with pytest.raises(FrameError, match="not resumed"):
        read(both)
    verifier = FrameVerifier(SIZES, resumes=True)
    assert [frame.offset for frame in verifier.frames(memoryview(both))] == [65_536, 0]
    assert verifier.ended
