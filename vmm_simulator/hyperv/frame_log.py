"""Logs of frames: a head and changes of disks in one file, durable under its name or not there.

Layout: magic, length and xxh3 of a JSON head (transfer header, disk sizes), the head, the frames. A
file whose name ends in .tmp is not committed.
"""

import json
import os
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar, Final

import xxhash

from vmm_simulator.hyperv.backend import TransferHeader
from vmm_simulator.hyperv.disks import append_fully, begin_writeback, sync_folder
from vmm_simulator.hyperv.frames import FRAME_BYTES_MAX, Frame, FrameError, FrameVerifier
from vmm_simulator.hyperv.transfer_header import decode_header, encode_header

UNFINISHED_SUFFIX: Final = ".tmp"
DAMAGED_SUFFIX: Final = ".damaged"
READ_BYTES: Final = 2 * FRAME_BYTES_MAX
WRITEBACK_BYTES: Final = 8 * 1_048_576
_START: Final = struct.Struct("<8sIQ")
_HEAD_BYTES_MAX: Final = 65_536


def log_head(
    magic: bytes, header: TransferHeader, sizes: Sequence[int], *, length: int = 0
) -> bytes:
    """Return what a log begins with, made as long as `length` where it is shorter."""
    head = json.dumps({"header": encode_header(header), "sizes": list(sizes)}).encode()
    head = head.ljust(length - _START.size)
    return _START.pack(magic, len(head), xxhash.xxh3_64_intdigest(head)) + head


class FrameLogWriter:
    """A log that is being written; it counts for nothing until `commit` has returned."""

    def __init__(
        self,
        path: Path,
        magic: bytes,
        header: TransferHeader,
        sizes: Sequence[int],
        spare: Path | None = None,
    ) -> None:
        """Begin a log; over the `spare` file, where there is one: its room is there already."""
        self.path = path
        self._unfinished = path.with_name(path.name + UNFINISHED_SUFFIX)
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC
        # One log of a machine is begun at a time: nobody else takes it.
        self._over_spare = spare is not None and spare.exists()
        if spare is not None and self._over_spare:
            spare.rename(self._unfinished)
        else:
            flags |= os.O_TRUNC
        self._descriptor = os.open(self._unfinished, flags, 0o600)
        self._length = 0
        self._begun_bytes = self._waiting_bytes = 0
        self._write(log_head(magic, header, sizes))

    def _write(self, data: bytes | memoryview) -> None:
        append_fully(self._descriptor, data)
        self._length += len(data)

    def append(self, frames: bytes | memoryview) -> None:
        """Write verified frames; not yet durable."""
        self._write(frames)
        self._waiting_bytes += len(frames)
        if self._waiting_bytes >= WRITEBACK_BYTES:
            begin_writeback(self._descriptor, self._begun_bytes, self._waiting_bytes)
            self._begun_bytes += self._waiting_bytes
            self._waiting_bytes = 0

    def commit(self) -> None:
        """Return when the log is durable under its name."""
        if self._over_spare:
            os.ftruncate(self._descriptor, self._length)
        os.fdatasync(self._descriptor)
        self._unfinished.rename(self.path)
        sync_folder(self.path.parent)

    def close(self) -> None:
        """Close the file; an uncommitted one is deleted."""
        os.close(self._descriptor)
        self._unfinished.unlink(missing_ok=True)


class FrameLog:
    """A committed log; FrameError when its head is damaged.

    `resumes`: it may hold several streams, of which later ones count before former ones.
    """

    resumes: ClassVar[bool] = False

    def __init__(self, path: Path, magic: bytes) -> None:
        self.path = path
        with path.open("rb", buffering=0) as file:
            start = file.read(_START.size)
            if len(start) < _START.size:
                raise FrameError(f"{path} ends within its first bytes")
            found, length, checksum = _START.unpack(start)
            if found != magic or length > _HEAD_BYTES_MAX:
                raise FrameError(f"{path} is no log of this kind")
            head = file.read(length)
        if xxhash.xxh3_64_intdigest(head) != checksum:
            raise FrameError(f"the head of {path} does not match its checksum")
        try:
            fields = json.loads(head)
            self.header = decode_header(fields["header"])
            self.sizes = tuple(int(size) for size in fields["sizes"])
        except (ValueError, KeyError, TypeError) as error:
            raise FrameError(f"the head of {path} is not understood: {error}") from error
        self._frames_at = _START.size + length

    def frames(self) -> Iterator[Frame]:
        """Yield all changes, verified; FrameError when the log is damaged or has no end.

        A frame's payload is valid until the next one is asked for.
        """
        verifier = FrameVerifier(self.sizes, resumes=self.resumes)
        kept = 0
        with self.path.open("rb", buffering=0) as file:
            # Many logs are small: room for the whole of one is soon made, and one byte to see that
            # nothing follows.
            length = os.fstat(file.fileno()).st_size - self._frames_at
            buffer = memoryview(bytearray(max(1, min(READ_BYTES, length + 1))))
            file.seek(self._frames_at)
            while count := file.readinto(buffer[kept:]):
                filled = kept + count
                whole = verifier.whole_frames(buffer[:filled])
                yield from verifier.frames(buffer[:whole])
                kept = filled - whole
                buffer[:kept] = bytes(buffer[whole:filled])
        if kept or not verifier.ended:
            raise FrameError(f"{self.path} has no end")


def set_aside(path: Path) -> None:
    """Take a damaged log out of use, for whoever wants to look at it."""
    path.rename(path.with_name(path.name + DAMAGED_SUFFIX))
