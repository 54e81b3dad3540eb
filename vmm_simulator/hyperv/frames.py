"""The frames of a transfer: what carries disk bytes between hosts, and lies in a redo log.

A frame is a header of 32 bytes and a payload: magic, kind, disk, sequence, length, offset, xxh3 of
the header before it and of the payload. DATA carries bytes, PACKED carries them compressed
(packing; length is that of the payload), ZERO says that a range reads as zeros
(skipping these is the classic bug: the replica would keep old bytes), IDLE says only that the
sender is alive, COMPARED that all before a place is equal or was sent, END carries the totals.
RESUMED stands in logs alone (comparison): after it a stream begins anew, whose frames count before
those of the former ones. Frames are in order of disk and offset, never overlap, and
lie on boundaries of 4096 bytes, so a peer cannot make a log larger than the disks.
"""

import struct
from collections.abc import Iterator, Sequence
from enum import IntEnum
from typing import Final, NamedTuple

import xxhash

from vmm_simulator.hyperv.packing import PackedError, Unpacker

MAGIC: Final = b"SRF1"
ALIGNMENT_BYTES: Final = 4_096
PAYLOAD_BYTES_MAX: Final = 1_048_576
ZERO_BYTES_MAX: Final = 1_073_741_824
DISKS_MAX: Final = 64
IDLE_FRAMES_MAX: Final = 1_048_576

_PREFIX: Final = struct.Struct("<4sBBHIIQ")
_CHECKSUM: Final = struct.Struct("<Q")
_TOTALS: Final = struct.Struct("<IQQ")
HEADER_BYTES: Final = _PREFIX.size + _CHECKSUM.size
FRAME_BYTES_MAX: Final = HEADER_BYTES + PAYLOAD_BYTES_MAX


class FrameKind(IntEnum):
    """What a frame says."""

    DATA = 1
    ZERO = 2
    IDLE = 3
    END = 4
    PACKED = 5
    COMPARED = 6
    RESUMED = 7


_CARRIES: Final = frozenset({FrameKind.DATA, FrameKind.END, FrameKind.PACKED})
"""Kinds with a payload."""

_SAYS: Final = frozenset({FrameKind.IDLE, FrameKind.COMPARED, FrameKind.RESUMED})
"""Kinds that change no disk and end nothing."""


class FrameError(Exception):
    """The stream of frames is damaged or out of rule; nothing of it may be applied."""


class Frame(NamedTuple):
    """A verified change of one disk; the payload is empty for zeros."""

    kind: FrameKind
    disk: int
    offset: int
    length: int
    payload: memoryview


class FrameWriter:
    """Numbers frames, sums them up, and writes them into buffers of the caller."""

    def __init__(self) -> None:
        self._sequence = 0
        self._data_bytes = 0
        self._zero_bytes = 0

    def data(
        self, buffer: memoryview, position: int, *, disk: int, offset: int, length: int
    ) -> int:
        """Put a header before a payload that is already in place; return where the frame ends."""
        self._data_bytes += length
        payload = buffer[position + HEADER_BYTES : position + HEADER_BYTES + length]
        frame = Frame(FrameKind.DATA, disk, offset, length, payload)
        return self._put(buffer, position, frame)

    def packed(
        self, buffer: memoryview, position: int, payload: bytes, *, disk: int, offset: int, of: int
    ) -> int:
        """Put a compressed payload, `of` bytes when unpacked; return where the frame ends."""
        self._data_bytes += of
        start = position + HEADER_BYTES
        view = buffer[start : start + len(payload)]
        view[:] = payload
        return self._put(
            buffer, position, Frame(FrameKind.PACKED, disk, offset, len(payload), view)
        )

    def zero(
        self, buffer: memoryview, position: int, *, disk: int, offset: int, length: int
    ) -> int:
        """Say that a range reads as zeros; return where the frame ends."""
        self._zero_bytes += length
        frame = Frame(FrameKind.ZERO, disk, offset, length, buffer[:0])
        return self._put(buffer, position, frame)

    def idle(self, buffer: memoryview, position: int) -> int:
        """Say that the sender is alive; return where the frame ends."""
        return self._put(buffer, position, Frame(FrameKind.IDLE, 0, 0, 0, buffer[:0]))

    def compared(self, buffer: memoryview, position: int, *, disk: int, offset: int) -> int:
        """Say that all before a place is equal or was sent; return where the frame ends."""
        return self._put(buffer, position, Frame(FrameKind.COMPARED, disk, offset, 0, buffer[:0]))

    def end(self) -> bytes:
        """Return the frame that closes the stream."""
        totals = _TOTALS.pack(self._sequence, self._data_bytes, self._zero_bytes)
        buffer = memoryview(bytearray(HEADER_BYTES + _TOTALS.size))
        buffer[HEADER_BYTES:] = totals
        self._put(buffer, 0, Frame(FrameKind.END, 0, 0, _TOTALS.size, buffer[HEADER_BYTES:]))
        return bytes(buffer)

    @classmethod
    def resumed(cls) -> bytes:
        """Return the frame after which a log goes on with another stream."""
        buffer = memoryview(bytearray(HEADER_BYTES))
        writer = cls()
        writer._put(buffer, 0, Frame(FrameKind.RESUMED, 0, 0, 0, buffer[:0]))
        return bytes(buffer)

    def _put(self, buffer: memoryview, position: int, frame: Frame) -> int:
        kind, disk, offset, length, payload = frame
        _PREFIX.pack_into(buffer, position, MAGIC, kind, 0, disk, self._sequence, length, offset)
        self._sequence += 1
        checksum = xxhash.xxh3_64(buffer[position : position + _PREFIX.size])
        checksum.update(payload)
        _CHECKSUM.pack_into(buffer, position + _PREFIX.size, checksum.intdigest())
        return position + HEADER_BYTES + len(payload)


class FrameVerifier:
    """Checks a stream of frames, piece by piece; FrameError ends it.

    `resumes`: several streams may follow one another, as in a log; no peer may send that, for it
    could make a log larger than the disks. `compared` is the place that COMPARED named last.
    """

    def __init__(self, disk_sizes: Sequence[int], *, resumes: bool = False) -> None:
        self._sizes = tuple(disk_sizes)
        self._resumes = resumes
        self._begin_stream()
        # Made when a packed frame comes: most streams have none, and thousands of logs are read.
        self._unpacker: Unpacker | None = None
        self.ended = False

    def _begin_stream(self) -> None:
        self._sequence = 0
        self._idle_frames = 0
        self._data_bytes = 0
        self._zero_bytes = 0
        self._place = (0, 0)
        self.compared = (0, 0)

    def whole_frames(self, view: memoryview) -> int:
        """Return how many bytes at the start of the view are complete frames."""
        position = 0
        while len(view) - position >= HEADER_BYTES:
            magic, kind, _, _, _, length, _ = _PREFIX.unpack_from(view, position)
            if magic != MAGIC:
                raise FrameError("a frame does not begin with its magic")
            payload = length if kind in _CARRIES else 0
            if payload > PAYLOAD_BYTES_MAX:
                raise FrameError(f"a frame of {payload} bytes is over {PAYLOAD_BYTES_MAX}")
            if len(view) - position < HEADER_BYTES + payload:
                break
            position += HEADER_BYTES + payload
        return position

    def frames(self, view: memoryview) -> Iterator[Frame]:
        """Yield the verified DATA and ZERO frames of a view that holds complete frames only."""
        position = 0
        while position < len(view):
            frame, position = self._next(view, position)
            if frame is not None:
                yield frame

    def _next(self, view: memoryview, position: int) -> tuple[Frame | None, int]:
        if self.ended:
            raise FrameError("bytes follow the END frame")
        _, number, reserved, disk, sequence, length, offset = _PREFIX.unpack_from(view, position)
        try:
            kind = FrameKind(number)
        except ValueError:
            raise FrameError(f"a frame of the unknown kind {number}") from None
        start = position + HEADER_BYTES
        end = start + (length if kind in _CARRIES else 0)
        payload = view[start:end]
        checksum = xxhash.xxh3_64(view[position : position + _PREFIX.size])
        checksum.update(payload)
        (expected,) = _CHECKSUM.unpack_from(view, position + _PREFIX.size)
        if checksum.intdigest() != expected:
            raise FrameError(f"frame {self._sequence} does not match its checksum")
        numbered = kind is not FrameKind.RESUMED
        if (numbered and sequence != self._sequence) or reserved:
            raise FrameError(f"frame {sequence} where frame {self._sequence} was due")
        frame = None
        if kind is FrameKind.END:
            self._check_totals(payload)
        elif kind in _SAYS:
            self._heed(kind, disk, offset, length)
        else:
            if kind is FrameKind.PACKED:
                kind, payload = FrameKind.DATA, self._unpacked(payload)
                length = len(payload)
            self._check_place(kind, disk, offset, length)
            frame = Frame(kind, disk, offset, length, payload)
        self._sequence += 1
        return frame, end

    def _heed(self, kind: FrameKind, disk: int, offset: int, length: int) -> None:
        """Take what says something of the stream and changes no disk."""
        if kind is FrameKind.COMPARED:
            self._note_compared(disk, offset, length)
        elif length or offset:
            raise FrameError(f"a frame of the kind {kind.name} has content")
        elif kind is FrameKind.IDLE:
            self._idle_frames += 1
            if self._idle_frames > IDLE_FRAMES_MAX:
                raise FrameError("IDLE frames without end")
        elif not self._resumes:
            raise FrameError("a transfer is one stream: it is not resumed within itself")
        else:
            self._begin_stream()
            self._sequence = -1

    def _note_compared(self, disk: int, offset: int, length: int) -> None:
        on_disk = disk < len(self._sizes) and offset <= self._sizes[disk]
        on_boundary = on_disk and (not offset % ALIGNMENT_BYTES or offset == self._sizes[disk])
        # Each one further than the last: they cannot go on without end.
        if length or not on_boundary or not self.compared < (disk, offset) >= self._place:
            raise FrameError(f"a comparison is said to be at {offset} of disk {disk}")
        self.compared = (disk, offset)

    def _unpacked(self, payload: memoryview) -> memoryview:
        if self._unpacker is None:
            self._unpacker = Unpacker()
        try:
            return memoryview(self._unpacker.unpack(payload, PAYLOAD_BYTES_MAX))
        except PackedError as error:
            raise FrameError(f"frame {self._sequence}: {error}") from error

    def _check_totals(self, payload: memoryview) -> None:
        if len(payload) != _TOTALS.size:
            raise FrameError("the END frame has a wrong length")
        totals = (self._sequence, self._data_bytes, self._zero_bytes)
        if _TOTALS.unpack(payload) != totals:
            raise FrameError(f"the END frame's totals are not those of the stream, {totals}")
        self.ended = True

    def _check_place(self, kind: FrameKind, disk: int, offset: int, length: int) -> None:
        if disk >= len(self._sizes):
            raise FrameError(f"a frame for disk {disk} of {len(self._sizes)}")
        size, end = self._sizes[disk], offset + length
        if length == 0 or end > size:
            raise FrameError(f"a frame of disk {disk} ends at {end}, the disk at {size}")
        if kind is FrameKind.ZERO and length > ZERO_BYTES_MAX:
            raise FrameError(f"a ZERO frame of {length} bytes is over {ZERO_BYTES_MAX}")
        if offset % ALIGNMENT_BYTES or (end % ALIGNMENT_BYTES and end != size):
            raise FrameError(f"a frame at {offset} to {end} is not on a 4096-byte boundary")
        if (disk, offset) < self._place:
            raise FrameError(f"a frame at {offset} of disk {disk} overlaps or comes too late")
        self._place = (disk, end)
        if kind is FrameKind.DATA:
            self._data_bytes += length
        else:
            self._zero_bytes += length
