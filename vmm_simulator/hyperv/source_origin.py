"""By what a source is known to its replica: a name in a file that knows its own number.

A copy of the file (a clone, or a machine brought back from a backup) has another inode. Who finds
such a file is another source than the one that it was written for, and takes a name of its own:
also where it was copied while a transfer was under way, of which both then know.
"""

import os
import re
from pathlib import Path
from typing import Final

from vmm_simulator.hyperv.disks import append_fully, sync_folder

ORIGIN_FILE: Final = "origin"

_BYTES_MAX: Final = 256
_CONTENT: Final = re.compile(rb"([A-Za-z0-9._-]{1,128}) ([0-9]{1,20})\n")


def origin_in(folder: Path, fresh: str) -> str:
    """Return the source's name, durably noted; `fresh` where there is none yet (blocks).

    A file that was copied here, or is damaged, counts for nothing.
    """
    path = folder / ORIGIN_FILE
    return _read(path) or _write(path, fresh)


def _read(path: Path) -> str | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        found = _CONTENT.fullmatch(os.read(descriptor, _BYTES_MAX))
        inode = os.fstat(descriptor).st_ino
    finally:
        os.close(descriptor)
    if found is None or int(found[2]) != inode:
        return None
    return found[1].decode("ascii")


def _write(path: Path, fresh: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not over a file that is there: it would keep its number, and with it a copy's claim.
    unfinished = path.with_name(path.name + ".tmp")
    unfinished.unlink(missing_ok=True)
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        append_fully(descriptor, f"{fresh} {os.fstat(descriptor).st_ino}\n".encode("ascii"))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    unfinished.rename(path)
    sync_folder(path.parent)
    return fresh
