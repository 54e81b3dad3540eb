"""Frames between a guest and its host, and between a guest and the lab's ledger.

Pure: bytes in, values out. A frame is its length (4 bytes, big-endian, of what follows), a kind
(1 byte) and a body. Lengths are foreign: a frame longer than the limit ends the connection.
"""

import json
import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from enum import IntEnum
from typing import Any, Final

FRAME_BYTES_MAX: Final = 64 << 10
LEDGER_FRAME_BYTES_MAX: Final = 512

_LENGTH: Final = struct.Struct("!I")
_WRITE: Final = struct.Struct("!HQQ")
_NUMBER: Final = struct.Struct("!Q")
_MACHINE_ID: Final = re.compile(r"[A-Za-z0-9._:-]{1,64}", re.ASCII)
_HASH: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
_NUMBER_MAX: Final = 2**62


class FrameError(ValueError):
    """The other end sent what no frame of this protocol is."""


class Kind(IntEnum):
    """What a frame says; below 32 from the guest, from 32 to the guest, from 64 the ledger's."""

    READY = 1
    WRITE = 2
    FLUSH = 3
    ANSWER = 4
    FAILED = 5
    FROZEN = 6
    THAWED = 7
    SPEC = 32
    FLUSHED = 33
    REFUSED = 34
    BROKEN = 35
    CHALLENGE = 36
    STOP = 37
    FREEZE = 38
    THAW = 39
    APPEND = 64
    APPENDED = 65


@dataclass(frozen=True, slots=True)
class Frame:
    """One message."""

    kind: Kind
    body: bytes


@dataclass(frozen=True, slots=True)
class Write:
    """A guest's write on its way to its host."""

    disk_index: int
    offset: int
    record: int
    data: bytes


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """An acknowledged record as the lab's ledger keeps it; `machine_id` is the same on all sites.

    `hash` is the record's own checksum, which the next record names as its predecessor.
    """

    machine_id: str
    epoch: int
    number: int
    hash: str
    time_microseconds: int


class FrameDecoder:
    """Cuts a stream of bytes into frames, never holding more than one frame and one read."""

    def __init__(self, limit_bytes: int = FRAME_BYTES_MAX) -> None:
        self._limit_bytes = limit_bytes
        self._buffer = bytearray()

    @property
    def pending_bytes(self) -> int:
        """How much of an unfinished frame is held."""
        return len(self._buffer)

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Yield the frames that are complete now; FrameError ends the connection."""
        self._buffer += data
        while len(self._buffer) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._buffer)
            if not 1 <= length <= self._limit_bytes:
                raise FrameError(f"a frame of {length} bytes; allowed are 1 to {self._limit_bytes}")
            if len(self._buffer) < _LENGTH.size + length:
                return
            body = bytes(self._buffer[_LENGTH.size : _LENGTH.size + length])
            del self._buffer[: _LENGTH.size + length]
            try:
                kind = Kind(body[0])
            except ValueError:
                raise FrameError(f"no frame has kind {body[0]}") from None
            yield Frame(kind, body[1:])


def encode_frame(kind: Kind, body: bytes = b"") -> bytes:
    """Return the bytes of a frame."""
    return _LENGTH.pack(len(body) + 1) + bytes([kind]) + body


def encode_write(write: Write) -> bytes:
    """Return a WRITE frame."""
    head = _WRITE.pack(write.disk_index, write.offset, write.record)
    return encode_frame(Kind.WRITE, head + write.data)


def parse_write(body: bytes) -> Write:
    """Return the write in a WRITE frame."""
    if len(body) <= _WRITE.size:
        raise FrameError("a write without data")
    disk_index, offset, record = _WRITE.unpack_from(body)
    return Write(disk_index, offset, record, body[_WRITE.size :])


def encode_number(kind: Kind, number: int) -> bytes:
    """Return a frame whose body is a number."""
    return encode_frame(kind, _NUMBER.pack(number))


def parse_number(body: bytes) -> int:
    """Return the number in such a frame."""
    if len(body) != _NUMBER.size:
        raise FrameError(f"a number has {_NUMBER.size} bytes, not {len(body)}")
    (number,) = _NUMBER.unpack(body)
    return int(number)


def encode_object(kind: Kind, fields: Mapping[str, Any]) -> bytes:
    """Return a frame whose body is a JSON object."""
    return encode_frame(kind, json.dumps(fields).encode())


def parse_object(body: bytes) -> Mapping[str, Any]:
    """Return the JSON object in such a frame."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise FrameError(f"not JSON: {error}") from None
    if not isinstance(value, dict):
        raise FrameError("not a JSON object")
    return value


def encode_entry(entry: LedgerEntry) -> bytes:
    """Return one line of the ledger: JSON and a line end."""
    return json.dumps(asdict(entry), separators=(",", ":")).encode() + b"\n"


def parse_entry(data: bytes) -> LedgerEntry:
    """Return the entry of a ledger line or an APPEND frame; FrameError for all else."""
    fields = parse_object(data)
    if set(fields) != {"machine_id", "epoch", "number", "hash", "time_microseconds"}:
        raise FrameError("a ledger entry has exactly its five fields")
    machine_id, digest = fields["machine_id"], fields["hash"]
    if not isinstance(machine_id, str) or not _MACHINE_ID.fullmatch(machine_id):
        raise FrameError("a ledger entry's machine_id is up to 64 plain characters")
    if not isinstance(digest, str) or not _HASH.fullmatch(digest):
        raise FrameError("a ledger entry's hash has 64 hexadecimal digits")
    return LedgerEntry(
        machine_id=machine_id,
        epoch=_whole(fields, "epoch", 0),
        number=_whole(fields, "number", 1),
        hash=digest,
        time_microseconds=_whole(fields, "time_microseconds", 0),
    )


def _whole(fields: Mapping[str, Any], name: str, low: int) -> int:
    value = fields[name]
    if type(value) is not int or not low <= value <= _NUMBER_MAX:
        raise FrameError(f"a ledger entry's {name} is a whole number from {low}")
    return value
