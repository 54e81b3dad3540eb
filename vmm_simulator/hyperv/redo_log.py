"""Redo logs: a whole change set in one file, durable under its name before it is acknowledged."""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from vmm_simulator.hyperv.backend import TransferHeader
from vmm_simulator.hyperv.frame_log import FrameLog, FrameLogWriter, log_head

_MAGIC: Final = b"SRHREDO1"
REDO_HEAD_BYTES: Final = 8_192
"""Room for the head of a log whose head is written last: transfer header and sizes fit in."""

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
        super().__init__(redo_path(folder, header.cut), _MAGIC, header, sizes)


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


def cut_of(path: Path) -> int:
    """Return the number of the change set that a committed log holds."""
    match = _NAME.fullmatch(path.name)
    if match is None:
        raise ValueError(f"{path} is no committed log")
    return int(match[1])
