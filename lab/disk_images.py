"""Raw images as wholes: copied with their holes, digested without what may differ.

A hole and a block of zeros are the same content: a replica may have either.
"""

import errno
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from blake3 import blake3

CHUNK_BYTES: Final = 1 << 20
_ZEROS: Final = bytes(CHUNK_BYTES)


def copy_sparse(source: Path, target: Path) -> None:
    """Copy an image with its holes; `target` appears only when it is whole."""
    unfinished = target.with_name(f".{target.name}.unfinished")
    try:
        with source.open("rb") as reading, unfinished.open("wb") as writing:
            size = os.fstat(reading.fileno()).st_size
            os.truncate(writing.fileno(), size)
            for begin, end in data_ranges(reading.fileno(), size):
                _copy_range(reading.fileno(), writing.fileno(), begin, end)
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)


def data_ranges(image: int, size: int) -> Iterator[tuple[int, int]]:
    """Yield begin and end of all that is not a hole, rising."""
    offset = 0
    while offset < size:
        try:
            begin = os.lseek(image, offset, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return  # Nothing but a hole from here to the end (lseek(2)).
            raise
        offset = os.lseek(image, begin, os.SEEK_HOLE)
        yield begin, min(offset, size)


def image_digest(path: Path, masked: Sequence[tuple[int, int]] = ()) -> str:
    """Return a blake3 of an image's content; `masked` (offset, length, rising) counts as zeros."""
    digest = blake3()
    with path.open("rb") as image:
        size = os.fstat(image.fileno()).st_size
        digest.update(size.to_bytes(8, "little"))
        done = 0
        for begin, end in data_ranges(image.fileno(), size):
            first = max(begin // CHUNK_BYTES * CHUNK_BYTES, done)
            for offset in range(first, end, CHUNK_BYTES):
                length = min(CHUNK_BYTES, size - offset)
                chunk = _mask(os.pread(image.fileno(), length, offset), offset, masked)
                if len(chunk) != length:
                    raise OSError(f"{path} became shorter while it was read")
                if chunk != _ZEROS[:length]:
                    digest.update(offset.to_bytes(8, "little"))
                    digest.update(chunk)
                done = offset + length
    return digest.hexdigest()


def image_digests(paths: Sequence[Path]) -> Sequence[str]:
    """Return the digests of several images, read at the same time."""
    with ThreadPoolExecutor(max_workers=max(len(paths), 1)) as pool:
        return list(pool.map(image_digest, paths))


def _mask(chunk: bytes, offset: int, masked: Sequence[tuple[int, int]]) -> bytes:
    changed: bytearray | None = None
    for begin, length in masked:
        first, last = max(begin, offset), min(begin + length, offset + len(chunk))
        if first < last:
            changed = bytearray(chunk) if changed is None else changed
            changed[first - offset : last - offset] = bytes(last - first)
    return chunk if changed is None else bytes(changed)


def _copy_range(source: int, target: int, begin: int, end: int) -> None:
    offset = begin
    while offset < end:
        try:
            copied = os.copy_file_range(source, target, end - offset, offset, offset)
        except OSError as error:
            # Two file systems, or one that cannot (copy_file_range(2)): through memory then.
            if error.errno not in (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
                raise
            part = os.pread(source, min(CHUNK_BYTES, end - offset), offset)
            copied = os.pwrite(target, part, offset) if part else 0
        if copied == 0:
            raise OSError("the image became shorter while it was copied")
        offset += copied
