"""A file layer that remembers what is written and what is synced: kills and power cuts for tests.

It stands before the system calls that the back end uses (`os`, fallocate, the flush of a map) and
lets them through, except that nothing waits for a real disk. A kill makes every later change fail,
as if the process were gone. After a power cut only what was synced is sure: the rest of the bytes
is dropped, kept or torn by sectors, names that were not synced are those of any earlier moment.
"""

import ctypes
import errno
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch

import xxhash

from vmm_simulator.hyperv import disks
from vmm_simulator.hyperv.backend import DiskFile
from vmm_simulator.hyperv.change_map import ChangeMap
from vmm_simulator.hyperv.replica_record import FileGuard

SECTOR = 512


@dataclass(frozen=True)
class Change:
    """Bytes of one file: written (None: punched) at an offset, or its size set."""

    file: int
    offset: int
    data: bytes | None
    length: int
    resizes: bool = False


@dataclass(frozen=True)
class Named:
    """A name that appears, moves or goes."""

    name: str
    file: int | None
    before: str | None = None


@dataclass(frozen=True)
class Synced:
    """A file, or the names of a folder, are durable."""

    file: int | None
    folder: str | None = None


Step = Change | Named | Synced


@dataclass
class File:
    """What a file holds."""

    data: bytearray = field(default_factory=bytearray)

    def apply(self, change: Change) -> None:
        """Do what was done."""
        end = change.offset + change.length
        if change.resizes:
            del self.data[change.length :]
            self.data.extend(bytes(change.length - len(self.data)))
            return
        if len(self.data) < end:
            self.data.extend(bytes(end - len(self.data)))
        self.data[change.offset : end] = change.data or bytes(change.length)


class KilledError(OSError):
    """The process is gone: it changes nothing any more."""


class RecordedFiles:
    """The files below `root`; `kill_at` is the number of steps after which nothing is changed."""

    def __init__(self, root: Path, kill_at: int | None = None) -> None:
        self.root = str(root)
        self.kill_at = kill_at
        self.steps: list[Step] = []
        self._opened: dict[int, int | str] = {}
        self._names: dict[str, int] = {}
        self._files: dict[int, bytes] = {}
        self._lock = threading.RLock()
        self._numbers = count(1)
        for path in sorted(root.rglob("*")):
            if path.is_file():
                file = self._names[str(path)] = next(self._numbers)
                self._files[file] = path.read_bytes()
        self._first_names = dict(self._names)

    def _watches(self, path: Any) -> bool:
        return isinstance(path, (str, os.PathLike)) and str(path).startswith(self.root)

    def _note(self, step: Step) -> None:
        if self.kill_at is not None and len(self.steps) >= self.kill_at:
            raise KilledError(errno.EIO, "killed")
        self.steps.append(step)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Record while inside; guards go by content, as copies of files have other times."""
        with ExitStack() as stack:
            replace: Callable[[Any, str, Any], Any] = patch.object
            for name in ("open", "close", "dup", "pwrite", "write", "ftruncate"):
                stack.enter_context(replace(os, name, getattr(self, f"_{name}")))
            for name in ("fsync", "fdatasync"):
                stack.enter_context(replace(os, name, self._sync))
            for name in ("rename", "unlink", "copy_file_range"):
                stack.enter_context(replace(os, name, getattr(self, f"_{name}")))
            stack.enter_context(replace(disks, "_libc", self))
            flush = ChangeMap.flush
            stack.enter_context(
                replace(ChangeMap, "flush", lambda bits: self._flush_map(bits, flush))
            )
            stack.enter_context(replace(FileGuard, "of", by_content))
            yield

    def _open(self, path: Any, flags: int, mode: int = 0o777, **more: Any) -> int:
        with self._lock:
            name = str(path)
            if not self._watches(path):
                return _os_open(path, flags, mode, **more)
            exists = name in self._names
            if not exists and flags & os.O_CREAT and not flags & os.O_DIRECTORY:
                file = next(self._numbers)
                self._note(Named(name, file))
                self._names[name] = file
            if exists and flags & os.O_TRUNC:
                self._note(Change(self._names[name], 0, None, 0, resizes=True))
            descriptor = _os_open(path, flags, mode, **more)
            self._opened[descriptor] = (
                name if flags & os.O_DIRECTORY else self._names.get(name, name)
            )
            return descriptor

    def _close(self, descriptor: int) -> None:
        with self._lock:
            self._opened.pop(descriptor, None)
            _os_close(descriptor)

    def _dup(self, descriptor: int) -> int:
        with self._lock:
            copy = _os_dup(descriptor)
            if descriptor in self._opened:
                self._opened[copy] = self._opened[descriptor]
            return copy

    def _changed(self, descriptor: int, offset: int, data: bytes | None, length: int) -> None:
        file = self._opened.get(descriptor)
        if isinstance(file, int):
            self._note(Change(file, offset, data, length))

    def _pwrite(self, descriptor: int, data: Any, offset: int) -> int:
        with self._lock:
            self._changed(descriptor, offset, bytes(data), len(data))
            return _os_pwrite(descriptor, data, offset)

    def _write(self, descriptor: int, data: Any) -> int:
        with self._lock:
            if descriptor in self._opened:
                offset = os.lseek(descriptor, 0, os.SEEK_CUR)
                self._changed(descriptor, offset, bytes(data), len(data))
            return _os_write(descriptor, data)

    def _ftruncate(self, descriptor: int, length: int) -> None:
        with self._lock:
            file = self._opened.get(descriptor)
            if isinstance(file, int):
                self._note(Change(file, 0, None, length, resizes=True))
            _os_ftruncate(descriptor, length)

    def _copy_file_range(self, *_: int) -> int:
        raise OSError(errno.EXDEV, "copied piece by piece, so that the bytes are seen")

    def fallocate(self, descriptor: int, mode: int, offset: int, length: int) -> int:
        """Stand before the C library's."""
        with self._lock:
            self._changed(descriptor, offset, None, length)
            return int(_libc.fallocate(descriptor, mode, offset, length))

    def mmap(self, *wanted: int) -> int:
        """Map as asked: what is written through a map is noted when it is flushed."""
        return int(_libc.mmap(*wanted))

    def sync_file_range(self, *_: int) -> int:
        """Stand before the C library's: it promises nothing."""
        return 0

    def _sync(self, descriptor: int) -> None:
        with self._lock:
            file = self._opened.get(descriptor)
            if isinstance(file, int):
                self._note(Synced(file))
            elif file is not None:
                self._note(Synced(None, file))

    def _flush_map(self, bits: ChangeMap, flush: Callable[[ChangeMap], None]) -> None:
        with self._lock:
            file = self._names.get(str(bits.path))
            if file is not None:
                data = bits.snapshot()
                self._note(Change(file, 0, data, len(data)))
                self._note(Synced(file))
            flush(bits)

    def _rename(self, old: Any, new: Any, **more: Any) -> None:
        with self._lock:
            if self._watches(new):
                self._note(Named(str(new), self._names[str(old)], str(old)))
                self._names[str(new)] = self._names.pop(str(old))
            _os_rename(old, new, **more)

    def _unlink(self, path: Any, **more: Any) -> None:
        with self._lock:
            if self._watches(path) and str(path) in self._names:
                self._note(Named(str(path), None))
                del self._names[str(path)]
            _os_unlink(path, **more)

    def after_power_cut(self, steps: int, chance: Random, target: Path) -> None:
        """Make the files in another folder that a power cut after so many steps may leave."""
        done = self.steps[:steps]
        names = self._names_left(done, chance)
        for name, file in names.items():
            path = target / Path(name).relative_to(self.root)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self._bytes_left(file, done, chance))

    def _names_left(self, done: list[Step], chance: Random) -> dict[str, int]:
        # Of each folder: all up to its last sync, then some more, in order.
        sure: dict[str, int] = {}
        for index, step in enumerate(done):
            if isinstance(step, Synced) and step.folder is not None:
                sure[step.folder] = index
        folders = {str(Path(step.name).parent) for step in done if isinstance(step, Named)}
        last = {each: chance.randint(sure.get(each, -1), len(done)) for each in sorted(folders)}
        names = dict(self._first_names)
        for index, step in enumerate(done):
            if isinstance(step, Named) and index <= last[str(Path(step.name).parent)]:
                if step.before is not None:
                    names.pop(step.before, None)
                if step.file is None:
                    names.pop(step.name, None)
                else:
                    names[step.name] = step.file
        return names

    def _bytes_left(self, file: int, done: list[Step], chance: Random) -> bytes:
        found = File(bytearray(self._files.get(file, b"")))
        synced = max(
            (i for i, step in enumerate(done) if isinstance(step, Synced) and step.file == file),
            default=-1,
        )
        for index, step in enumerate(done):
            if not isinstance(step, Change) or step.file != file:
                continue
            fate = "kept" if index < synced else chance.choice(("kept", "dropped", "torn"))
            if fate == "kept" or (fate == "torn" and step.resizes):
                found.apply(step)
            elif fate == "torn":
                _tear(found, step, chance)
        return bytes(found.data)


def _tear(found: File, change: Change, chance: Random) -> None:
    for start in range(0, change.length, SECTOR):
        length = min(SECTOR, change.length - start)
        if chance.random() < 0.5:
            data = None if change.data is None else change.data[start : start + length]
            found.apply(Change(change.file, change.offset + start, data, length))


def by_content(disk: DiskFile) -> FileGuard:
    """A guard that a copy of the file has too."""
    data = disk.path.read_bytes() if disk.path.exists() else b""
    return FileGuard(0, len(data), xxhash.xxh3_64_intdigest(data), 0)


_os_open, _os_close, _os_dup = os.open, os.close, os.dup
_os_pwrite, _os_write, _os_ftruncate = os.pwrite, os.write, os.ftruncate
_os_rename, _os_unlink = os.rename, os.unlink
_libc: ctypes.CDLL = disks._libc
