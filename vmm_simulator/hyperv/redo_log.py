"""Redo logs: a whole change set in one file, durable under its name before it is acknowledged."""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from vmm_simulator.hyperv.backend import TransferHeader
from vmm_simulator.hyperv.disks import sync_folder
from vmm_simulator.hyperv.frame_log import (
    UNFINISHED_SUFFIX,
    FrameLog,
    FrameLogWriter,
    log_head,
)

_MAGIC: Final = b"SRHREDO1"
REDO_HEAD_BYTES: Final = 8_192
"""Room for the head of a log whose head is written last: transfer header and sizes fit in."""

SPARE_BYTES_MAX: Final = 268_435_456
SPARE_SHARE: Final = 16
"""An applied log of no more than this share of the disks is kept as room for the next one."""

_RETIRED: Final = f"retired{UNFINISHED_SUFFIX}"
_SPARE: Final = f"spare{UNFINISHED_SUFFIX}"
_NAME: Final = re.compile(r"cut-(\d{19})\.redo")


def redo_path(folder: Path, cut: int) -> Path:
    """Return where the log of a change set lies once it is committed."""
    return folder / f"cut-{cut:019d}.redo"


def redo_head(header: TransferHeader, sizes: Sequence[int]) -> bytes:
    """Return the REDO_HEAD_BYTES that a log with this header begins with."""
    head = log_head(_MAGIC, header, sizes, length=REDO_HEAD_BYTES)
    assert len(head) == REDO_HEAD_BYTES
    return head


class RedoWriter(FrameLogWriter):
    """A change set that comes in; from its `commit` on it is going to be applied."""

    def __init__(self, folder: Path, header: TransferHeader, sizes: Sequence[int]) -> None:
        path = redo_path(folder, header.cut)
        super().__init__(path, _MAGIC, header, sizes, folder / _SPARE)


class RedoLog(FrameLog):
    """A committed change set."""

    resumes = True

    def __init__(self, path: Path) -> None:
        super().__init__(path, _MAGIC)


def committed_logs(folder: Path) -> list[Path]:
    """Return the committed logs, the oldest first."""
    if not folder.exists():
        return []
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if _NAME.fullmatch(entry.name)]
    return [folder / name for name in sorted(names)]


def drop_logs(folder: Path, paths: Sequence[Path], disk_bytes: int) -> None:
    """Return when these logs are durably gone; the last one may stay as room for the next log.

    A log that is written where one was needs no new blocks and no new pages of memory, and giving
    100 MB back takes the file system 25 ms (docs/benchmarks.md).
    """
    room = min(SPARE_BYTES_MAX, disk_bytes // SPARE_SHARE)
    spare = paths[-1] if paths and paths[-1].stat().st_size <= room else None
    for path in paths:
        if path == spare:
            path.rename(folder / _RETIRED)
        else:
            path.unlink()
    if not folder.exists():
        return
    sync_folder(folder)
    if spare is not None:
        # Not before: what is overwritten must not come back under the name of a committed log.
        (folder / _RETIRED).rename(folder / _SPARE)


def cut_of(path: Path) -> int:
    """Return the number of the change set that a committed log holds."""
    match = _NAME.fullmatch(path.name)
    if match is None:
        raise ValueError(f"{path} is no committed log")
    return int(match[1])
