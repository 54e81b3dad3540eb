"""Copies of a process that go another way: what a kill leads to, without telling the story anew.

A copy has the memory that fork gives it, and the files below its folder as they are in that moment:
descriptors and mapped files are led to its own copies. What the first process goes on with is not
touched. Both need paths relative to the working directory, one thread, and no sockets.
"""

import asyncio
import ctypes
import fcntl
import gc
import json
import os
import re
import select
import shutil
import signal
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vmm_simulator.hyperv.source_origin import ORIGIN_FILE

SECONDS_MAX = 120
"""Longest a copy may take by the clock on the wall; most take a tenth of a second."""

MAP_SHARED, MAP_FIXED = 1, 16
MAP_FAILED = ctypes.c_void_p(-1).value

_MAPPED = re.compile(r"([0-9a-f]+)-([0-9a-f]+) (....) ([0-9a-f]+) \S+ (\d+) +(.+)")
_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.mmap.restype = ctypes.c_void_p
_LIBC.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]


@dataclass(frozen=True)
class Answer:
    """What a copy has come to."""

    picture: str
    failure: str


class Forks:
    """Makes copies of this process, one at a time; `folder` and the copies' are siblings."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._answers: int | None = None

    @property
    def is_copy(self) -> bool:
        """Whether this process is a copy, which has to answer."""
        return self._answers is not None

    def fork(self) -> Answer | None:
        """Return what a copy answers; in the copy, None."""
        reading, writing = os.pipe()
        kept = _kept(self._folder)
        loop = asyncio.get_running_loop()
        child = os.fork()
        if child:
            os.close(writing)
            try:
                return _heard(child, reading)
            finally:
                os.close(reading)
                shutil.rmtree(_home(self._folder, child), ignore_errors=True)
                _give_back(kept)
        gc.disable()
        asyncio._set_running_loop(loop)  # it is noted with the number of the process
        self._answers = writing
        os.close(reading)
        try:
            move_in(self._folder, _home(self._folder, os.getpid()))
        except BaseException:  # noqa: BLE001 -- a copy never returns into what the first one does
            self.answer("", traceback.format_exc())
        return None

    def answer(self, picture: str, failure: str = "") -> None:
        """End this copy with an answer."""
        assert self._answers is not None
        try:
            with os.fdopen(self._answers, "w") as answers:
                json.dump({"picture": picture, "failure": failure}, answers)
        finally:
            os._exit(0)


def _kept(folder: Path) -> dict[Path, Path]:
    """Return second names of the files that SQLite deletes by name when it closes a database.

    It would do so in a copy of this process, whose database is another, but not its name.
    """
    kept = {}
    for file in [each for each in folder.glob("*/*-*") if each.name.endswith(("-wal", "-shm"))]:
        kept[file] = folder.parent / f"kept-{file.parent.name}-{file.name}"
        kept[file].unlink(missing_ok=True)
        os.link(file, kept[file])
    return kept


def _give_back(kept: dict[Path, Path]) -> None:
    for file, second in kept.items():
        if not file.exists():
            os.link(second, file)
        second.unlink()


def _home(folder: Path, process: int) -> Path:
    return folder.absolute().parent / f"copy-{process}"


def _heard(child: int, reading: int) -> Answer:
    heard = b""
    while select.select([reading], [], [], SECONDS_MAX)[0]:
        part = os.read(reading, 1 << 20)
        heard += part
        if not part:
            break
    else:
        os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    try:
        return Answer(**json.loads(heard))
    except ValueError:
        return Answer("", f"the copy did not answer within {SECONDS_MAX} s, or ended by itself")


def move_in(folder: Path, home: Path) -> None:
    """Have this process work on its own copy of a folder; `home` is its working directory then."""
    old = folder.absolute()
    new = home / old.name
    _copy(old, new)
    files = {_identity(path): new / path.relative_to(old) for path in old.rglob("*")}
    locked = dict[Path, int]()
    for number in list(_opened(old)):
        _lead_to(number, _own_file(number, files, new), locked)
    for start, end, access, offset, inode in list(_mapped(old)):
        flags = MAP_SHARED | MAP_FIXED
        file = os.open(files[inode], os.O_RDWR)
        if _LIBC.mmap(start, end - start, access, flags, file, offset) == MAP_FAILED:
            raise OSError(ctypes.get_errno(), f"{files[inode]} cannot be mapped")
        os.close(file)
    os.chdir(home)


def _copy(old: Path, new: Path) -> None:
    """Copy a folder with little ado: there is no more in it than files and folders."""
    new.mkdir(parents=True)
    with os.scandir(old) as entries:
        for entry in entries:
            if entry.is_dir():
                _copy(old / entry.name, new / entry.name)
                continue
            content = (old / entry.name).read_bytes()
            descriptor = os.open(new / entry.name, os.O_WRONLY | os.O_CREAT, entry.stat().st_mode)
            os.write(descriptor, content)
            os.close(descriptor)
            if entry.name == ORIGIN_FILE:
                make_its_own(new / entry.name)


def make_its_own(origin: Path) -> None:
    """Have a copied source's name count in its new place: a world moved there, none was cloned."""
    name = origin.read_bytes().split()[0]
    origin.write_bytes(name + f" {_identity(origin)}\n".encode("ascii"))


def _identity(path: Path) -> int:
    return path.stat().st_ino


def _opened(folder: Path) -> Iterator[int]:
    for opened in list(Path("/proc/self/fd").iterdir()):
        try:
            path = str(opened.readlink())
        except FileNotFoundError:
            continue  # the listing's own
        if path.startswith(f"{folder}/"):
            yield int(opened.name)


def _own_file(number: int, files: dict[int, Path], new: Path) -> Path:
    """Return the copy of an open file; one without a name is copied from what is open."""
    inode = os.fstat(number).st_ino
    if inode not in files:
        files[inode] = new / f"nameless-{inode}"
        files[inode].write_bytes(Path(f"/proc/self/fd/{number}").read_bytes())
    return files[inode]


def _lead_to(number: int, path: Path, locked: dict[Path, int]) -> None:
    """Have a descriptor stand for another file: same way, same place, same lock."""
    flags = fcntl.fcntl(number, fcntl.F_GETFL) & (os.O_ACCMODE | os.O_APPEND)
    place = os.lseek(number, 0, os.SEEK_CUR)
    facts = Path(f"/proc/self/fdinfo/{number}").read_text()
    lock = re.search(r"FLOCK +ADVISORY +(READ|WRITE)", facts)
    if lock is not None and path in locked:
        # Nobody else can have it too: this is the same opening under a second number.
        os.dup2(locked[path], number, inheritable=False)
        return
    other = os.open(path, flags)
    os.lseek(other, place, os.SEEK_SET)
    os.dup2(other, number, inheritable=False)
    os.close(other)
    if lock is not None:
        exclusive = lock[1] == "WRITE"
        fcntl.flock(number, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        if exclusive:
            locked[path] = number


def _mapped(folder: Path) -> Iterator[tuple[int, int, int, int, int]]:
    lines = Path("/proc/self/maps").read_text().splitlines()
    for line in [each for each in lines if f"{folder}/" in each]:
        found = _MAPPED.fullmatch(line)
        assert found is not None, f"this is not understood: {line}"
        assert found[3][3] == "s", f"{found[6]} is mapped, but not shared"
        access = ("r" in found[3]) * 1 | ("w" in found[3]) * 2
        yield int(found[1], 16), int(found[2], 16), access, int(found[4], 16), int(found[5])
