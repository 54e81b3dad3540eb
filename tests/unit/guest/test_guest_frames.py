import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmm_simulator.guest.frames import (
    FRAME_BYTES_MAX,
    Frame,
    FrameDecoder,
    FrameError,
    Kind,
    LedgerEntry,
    Write,
    encode_entry,
    encode_frame,
    encode_number,
    encode_object,
    encode_write,
    parse_entry,
    parse_number,
    parse_object,
    parse_write,
)
from vmm_simulator.guest.process import parse_spec

ENTRY = LedgerEntry("vm-1", 2, 7, "ab" * 32, 1_700_000_000_000_000)
SPEC: dict[str, Any] = {
    "machine_id": "vm-1",
    "epoch": 1,
    "disks": ["/disk"],
    "records_per_second": 5.0,
    "ledger_socket": None,
}


@given(st.lists(st.tuples(st.sampled_from(Kind), st.binary(max_size=50))), st.integers(1, 30))
def test_frames_survive_any_cutting_of_the_stream(
    messages: list[tuple[Kind, bytes]], step: int
) -> None:
    stream = b"".join(encode_frame(kind, body) for kind, body in messages)
    decoder = FrameDecoder()
    found = [
        frame
        for at in range(0, len(stream), step)
        for frame in decoder.feed(stream[at : at + step])
    ]
    assert found == [Frame(kind, body) for kind, body in messages]
    assert decoder.pending_bytes == 0


@pytest.mark.parametrize("length", [0, FRAME_BYTES_MAX + 1, 2**32 - 1])
def test_a_frame_of_impossible_length_is_refused_before_its_body_comes(length: int) -> None:
    with pytest.raises(FrameError, match="bytes"):
        list(FrameDecoder().feed(length.to_bytes(4, "big")))


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(FrameError, match="kind 99"):
        list(FrameDecoder().feed(b"\0\0\0\x01\x63"))


@given(st.binary(max_size=200))
def test_foreign_bytes_are_frames_or_refused(data: bytes) -> None:
    decoder = FrameDecoder(limit_bytes=100)
    try:
        for frame in decoder.feed(data):
            assert frame.kind in Kind
    except FrameError as error:
        assert str(error)  # noqa: PT017 -- four bytes may also happen to be a length
    assert decoder.pending_bytes <= len(data)


def test_writes_and_numbers_are_read_back() -> None:
    write = Write(1, 4096, 12, b"data")
    (frame,) = FrameDecoder().feed(encode_write(write))
    assert parse_write(frame.body) == write
    (frame,) = FrameDecoder().feed(encode_number(Kind.FLUSH, 2**40))
    assert parse_number(frame.body) == 2**40


@given(st.binary(max_size=18))
def test_a_write_without_data_is_refused(body: bytes) -> None:
    with pytest.raises(FrameError):
        parse_write(body)


@given(st.binary(max_size=20).filter(lambda body: len(body) != 8))
def test_a_number_of_another_size_is_refused(body: bytes) -> None:
    with pytest.raises(FrameError):
        parse_number(body)


def test_an_entry_is_one_line_and_is_read_back() -> None:
    line = encode_entry(ENTRY)
    assert line.count(b"\n") == 1
    assert parse_entry(line) == ENTRY


@pytest.mark.parametrize(
    "fields",
    [
        {"machine_id": ""},
        {"machine_id": "a" * 65},
        {"machine_id": "../x\n"},
        {"machine_id": 5},
        {"number": 0},
        {"number": True},
        {"number": 2**63},
        {"number": 1.0},
        {"epoch": -1},
        {"hash": "AB" * 32},
        {"hash": "ab"},
        {"time_microseconds": None},
        {"more": 1},
    ],
)
def test_an_entry_with_a_wrong_field_is_refused(fields: dict[str, Any]) -> None:
    document = json.loads(encode_entry(ENTRY)) | fields
    with pytest.raises(FrameError):
        parse_entry(json.dumps(document).encode())


@given(st.binary(max_size=300))
def test_foreign_bytes_are_no_entry_and_no_spec(data: bytes) -> None:
    for parse in (parse_entry, parse_spec):
        with pytest.raises(FrameError):
            parse(data)


def test_deep_and_wrong_json_is_refused() -> None:
    for body in (b"[" * 100_000, b"[1]", b"", b"9" * 5000):
        with pytest.raises(FrameError):
            parse_object(body)
    (frame,) = FrameDecoder().feed(encode_object(Kind.SPEC, SPEC))
    assert parse_spec(frame.body) == SPEC


@pytest.mark.parametrize(
    "fields",
    [
        {"machine_id": ""},
        {"epoch": -1},
        {"epoch": True},
        {"disks": []},
        {"disks": ["relative"]},
        {"disks": "/disk"},
        {"records_per_second": -1},
        {"records_per_second": float("inf")},
        {"records_per_second": float("nan")},
        {"ledger_socket": "relative"},
        {"extra": 1},
    ],
)
def test_a_wrong_field_of_a_spec_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(FrameError):
        parse_spec(json.dumps(SPEC | fields).encode())
