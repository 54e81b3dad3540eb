"""Sparse raw files: what is allocated, holes, whole reads and writes, small files made durable."""

import ctypes
import errno
import mmap
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

COPY_BYTES: Final = 1_048_576
ZEROS: Final = bytes(COPY_BYTES)
_PUNCH_HOLE_KEEP_SIZE: Final = 0x02 | 0x01  # FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE
_CANNOT_PUNCH: Final = frozenset({errno.EOPNOTSUPP, errno.ENOSYS})

_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
_libc.fallocate.restype = ctypes.c_int
_libc.sync_file_range.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
_libc.sync_file_range.restype = ctypes.c_int
_SYNC_FILE_RANGE_WRITE: Final = 2
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (
    *(ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int),
    *(ctypes.c_int, ctypes.c_int, ctypes.c_int64),
)
_MAP_FIXED: Final = 0x10  # Of Linux's sys/mman.h; Python names it nowhere.


def punch_hole(descriptor: int, offset: int, length: int) -> None:
    """Make the range read as zeros, giving its space back where the file system can."""
    while _libc.fallocate(descriptor, _PUNCH_HOLE_KEEP_SIZE, offset, length) != 0:
        number = ctypes.get_errno()
        if number == errno.EINTR:
            continue
        if number not in _CANNOT_PUNCH:
            raise OSError(number, os.strerror(number))
        _write_zeros(descriptor, offset, length)
        return


def begin_writeback(descriptor: int, offset: int, length: int) -> None:
    """Have the kernel begin to bring a range onto the disk; promises nothing, fails silently.

    While more comes in over the network, the disk does not stand idle until the sync at the end.
    """
    _libc.sync_file_range(descriptor, offset, length, _SYNC_FILE_RANGE_WRITE)


def _write_zeros(descriptor: int, offset: int, length: int) -> None:
    end = offset + length
    while offset < end:
        offset += os.pwrite(descriptor, ZEROS[: min(COPY_BYTES, end - offset)], offset)


def allocated_extents(
    descriptor: int, size_bytes: int, position: int = 0
) -> Iterator[tuple[int, int]]:
    """Yield (start, end) of what is not a hole from the position on, in order."""
    while position < size_bytes:
        try:
            start = os.lseek(descriptor, position, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # no data behind this position
                return
            raise
        if start >= size_bytes:
            return
        end = min(os.lseek(descriptor, start, os.SEEK_HOLE), size_bytes)
        yield start, end
        position = end


def read_exactly(descriptor: int, view: memoryview, offset: int) -> None:
    """Fill the view; a file that ends before is an error."""
    done = 0
    while done < len(view):
        count = os.preadv(descriptor, [view[done:]], offset + done)
        if count == 0:
            raise OSError(errno.EIO, "the disk file ends too early; restore or copy it again")
        done += count


def write_fully(descriptor: int, data: bytes | memoryview, offset: int) -> None:
    """Write all of the data at the offset; not yet durable."""
    written = os.pwrite(descriptor, data, offset)
    while written < len(data):
        written += os.pwrite(descriptor, memoryview(data)[written:], offset + written)


def append_fully(descriptor: int, data: bytes | memoryview) -> None:
    """Write all of the data at the end; not yet durable."""
    written = os.write(descriptor, data)
    while written < len(data):
        written += os.write(descriptor, memoryview(data)[written:])


def sync_folder(folder: Path) -> None:
    """Return when names made, renamed or deleted in the folder are durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_durably(path: Path, data: bytes) -> None:
    """Replace a small file: afterwards it holds the old bytes or the new ones, never a mixture."""
    unfinished = path.with_name(path.name + ".tmp")
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        append_fully(descriptor, data)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    unfinished.rename(path)
    sync_folder(path.parent)


def map_file(path: Path, length: int) -> mmap.mmap:
    """Return a file as shared memory: what is stored there survives kill -9, not the machine."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        # A file that a kill left short is completed with zeros: nothing was marked in it. Its room
        # is taken now: where there is none, a store into the map would end the process.
        os.posix_fallocate(descriptor, 0, length)
        return _mapped(descriptor, length)
    finally:
        os.close(descriptor)


def sync_mapped(path: Path) -> None:
    """Return when what was stored into a mapped file is durable; one that was deleted needs none.

    Python's own flush of a map (msync(2)) holds all other threads up until the disk is done.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return  # Discarded meanwhile, in another thread: nobody will look for its marks.
    try:
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)


def _mapped(descriptor: int, length: int) -> mmap.mmap:
    """Return a file's bytes as shared memory that keeps no descriptor of the file.

    Python's own map of a file keeps one as long as it lives: a site of five thousand machines
    would need more than a process may have. So the file takes the place of anonymous memory of the
    same length, at the same address (mmap(2), MAP_FIXED).
    """
    memory = mmap.mmap(-1, length, mmap.MAP_SHARED)
    first = ctypes.c_char.from_buffer(memory)
    address = ctypes.addressof(first)
    del first  # Held any longer it would keep the map from being closed.
    protection = mmap.PROT_READ | mmap.PROT_WRITE
    flags = mmap.MAP_SHARED | _MAP_FIXED
    found = _libc.mmap(address, length, protection, flags, descriptor, 0)
    if found != address:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return memory


def make_empty(path: Path, size_bytes: int) -> None:
    """Make (or make again) a sparse file that reads as zeros."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        empty(descriptor, size_bytes)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    sync_folder(path.parent)


def empty(descriptor: int, size_bytes: int) -> None:
    """Drop all bytes of an open file, which has its size at any moment that it had it before."""
    if os.fstat(descriptor).st_size != size_bytes:
        os.ftruncate(descriptor, size_bytes)
    if size_bytes:
        punch_hole(descriptor, 0, size_bytes)


def copy_sparse(source: Path, target: Path, size_bytes: int) -> None:
    """Copy what is allocated; the target appears under its name only when it is whole."""
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(target.name + ".tmp")
    reading = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    try:
        flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        writing = os.open(unfinished, flags, 0o600)
        try:
            os.ftruncate(writing, size_bytes)
            for start, end in allocated_extents(reading, size_bytes):
                _copy_extent(reading, writing, start, end)
            os.fdatasync(writing)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise
        finally:
            os.close(writing)
    finally:
        os.close(reading)
    unfinished.rename(target)
    sync_folder(target.parent)


def _copy_extent(reading: int, writing: int, start: int, end: int) -> None:
    while start < end:
        try:
            count = os.copy_file_range(reading, writing, end - start, start, start)
        except OSError as error:
            # Older kernels cannot copy between file systems, some file systems not at all.
            if error.errno not in {errno.EXDEV, errno.EINVAL, *_CANNOT_PUNCH}:
                raise
            count = 0
        if count == 0:
            count = _copy_piece(reading, writing, start, end)
        start += count


def _copy_piece(reading: int, writing: int, start: int, end: int) -> int:
    data = os.pread(reading, min(COPY_BYTES, end - start), start)
    if not data:
        raise OSError(errno.EIO, "the disk file became shorter while it was copied")
    write_fully(writing, data, start)
    return len(data)


def delete_disks(machine_id: str, paths: Sequence[Path], beside: Path) -> None:
    """Delete the disks of a machine, what is kept beside them, and its own folder once empty."""
    for path in paths:
        path.unlink(missing_ok=True)
        if path.parent.is_dir():
            sync_folder(path.parent)
    for own in {path.parent for path in paths if path.parent.name == machine_id}:
        # Whatever else somebody has put there keeps it.
        if own.is_dir() and not any(own.iterdir()):
            own.rmdir()
    if beside.exists():
        shutil.rmtree(beside)
