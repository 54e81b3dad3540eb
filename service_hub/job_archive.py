"""The archive of finished jobs: one file of JSON lines a month, for its owner's eyes alone.

What a job's row is deleted for is on the disk before. A kill in between leaves both: the next round
finds the line and doesn't write it again. A line that a kill cut off is cut away.
"""

import asyncio
import fcntl
import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final

from service_hub.looker_ports import ArchiveBusyError, ArchivedJob, ArchiveUnusableError

LOCK: Final = ".lock"
VERSION: Final = 1

_HEAD: Final = re.compile(
    rb'^\{"v": \d+, "job_id": "([^"\\]{1,200})", "ended_at": "([^"\\]{1,64})"'
)

Key = tuple[str, str]


@dataclass(slots=True)
class _Month:
    """What a file holds, as this process left it."""

    size: int = -1
    inode: int = -1
    keys: set[Key] = field(default_factory=set)


class FileArchive:
    """The JobArchive of the looker ports, in a folder of this machine or of a shared disk."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._months: dict[str, _Month] = {}

    async def append(self, jobs: Sequence[ArchivedJob]) -> None:
        """Write the jobs that are not there yet; durable when it returns."""
        await asyncio.to_thread(self._append, jobs)

    def _append(self, jobs: Sequence[ArchivedJob]) -> None:
        months: dict[str, list[ArchivedJob]] = {}
        for job in jobs:
            months.setdefault(f"{job.ended_at:%Y-%m}", []).append(job)
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            with _locked(self._directory):
                for month, found in sorted(months.items()):
                    self._append_month(month, found)
        except OSError as error:
            raise ArchiveUnusableError(
                f"cannot write the archive of jobs {self._directory} ({error}): make room or mend"
                " jobs.archive_directory; until then finished jobs stay in the database"
            ) from error

    def _append_month(self, month: str, jobs: Sequence[ArchivedJob]) -> None:
        path = self._directory / f"jobs-{month}.jsonl"
        is_new = not path.exists()
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "r+b") as file:
            os.fchmod(descriptor, 0o600)
            known = self._known(month, file)
            fresh = {_key(job): job for job in jobs if _key(job) not in known.keys}
            _write(file, [_line(job) for job in fresh.values()], known.size)
            known.keys |= set(fresh)
            known.size = os.fstat(descriptor).st_size
        if is_new:
            _sync(self._directory)

    def _known(self, month: str, file: BinaryIO) -> _Month:
        """Return what the file holds; read anew where another process was at it."""
        there = os.fstat(file.fileno())
        known = self._months.get(month)
        if known is not None and (known.size, known.inode) == (there.st_size, there.st_ino):
            return known
        known = _Month(0, there.st_ino)
        for line in file:
            if not line.endswith(b"\n"):
                break
            known.size += len(line)
            head = _HEAD.match(line)
            if head is not None:
                known.keys.add((head[1].decode(), head[2].decode()))
        file.truncate(known.size)
        self._months[month] = known
        return known


def _write(file: BinaryIO, lines: Sequence[bytes], size: int) -> None:
    file.seek(size)
    try:
        file.writelines(lines)
        file.flush()
        os.fsync(file.fileno())
    except OSError:
        # Half a line must not stand before the next one.
        os.ftruncate(file.fileno(), size)
        raise


def _key(job: ArchivedJob) -> Key:
    return job.job_id, job.ended_at.isoformat()


def _line(job: ArchivedJob) -> bytes:
    job_id, ended_at = _key(job)
    content = {"v": VERSION, "job_id": job_id, "ended_at": ended_at, **job.content}
    return json.dumps(content).encode() + b"\n"


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    descriptor = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ArchiveBusyError(f"another hub writes the archive {directory} now") from error
        yield
    finally:
        os.close(descriptor)


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
