"""Disks of a test's own: one that is small and can be filled, one that can break.

Mounting needs root, or sudo without a password; root ignores modes, so that nothing less than a
file system shows what a full or read-only disk does.
"""

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

COMMAND_SECONDS_MAX: Final = 20
CHUNK_BYTES: Final = 64 * 1024
FILLING: Final = "filling"


def as_root(*words: str | Path) -> None:
    """Give a command that only root may give; the test is skipped where nobody may."""
    command: Sequence[str | Path] = words if os.geteuid() == 0 else ("sudo", "-n", *words)
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=COMMAND_SECONDS_MAX, check=False
    )
    if done.returncode != 0:
        pytest.skip(f"{words[0]} is not allowed here: {done.stderr.strip()}")


@dataclass(frozen=True)
class SmallDisk:
    """A tmpfs of a few megabytes."""

    folder: Path

    def fill(self) -> None:
        """Take the last byte."""
        with (self.folder / FILLING).open("ab", buffering=0) as filling:
            for size in (CHUNK_BYTES, 4096, 1):
                try:
                    while filling.write(bytes(size)) == size:
                        pass
                except OSError:
                    continue

    def make_room(self) -> None:
        """Give back what `fill` has taken."""
        (self.folder / FILLING).unlink()

    def forbid_writing(self) -> None:
        """Make it read-only; nobody may have a file open for writing."""
        as_root("mount", "-o", "remount,ro", self.folder)

    def allow_writing(self) -> None:
        """Make it writable again."""
        as_root("mount", "-o", "remount,rw", self.folder)


@contextmanager
def small_disk(folder: Path, kibibytes: int) -> Iterator[SmallDisk]:
    """Give a disk of that size; whatever the test does, it is gone afterwards."""
    folder.mkdir()
    as_root("mount", "-t", "tmpfs", "-o", f"size={kibibytes}k,mode=0777", "small-disk", folder)
    try:
        yield SmallDisk(folder)
    finally:
        # Lazily: what a failed test has left open must not keep it.
        as_root("umount", "--lazy", folder)


@dataclass(frozen=True)
class BreakingDisk:
    """An ext4 file system that becomes read-only while it is in use, as after an error."""

    folder: Path
    image: Path

    def break_down(self) -> None:
        """Behave as after an error of the medium: what is open stays open, no write succeeds."""
        as_root("mount", "-o", "remount,abort", self.folder)

    def mend(self) -> None:
        """Mount it anew; nobody may have a file open. The file system recovers by its journal."""
        as_root("umount", self.folder)
        as_root("mount", "-o", "loop", self.image, self.folder)


@contextmanager
def breaking_disk(place: Path) -> Iterator[BreakingDisk]:
    """Give such a disk below a folder; gone afterwards."""
    image, folder = place / "disk.img", place / "disk"
    folder.mkdir()
    with image.open("wb") as file:
        file.truncate(16 * 1024 * 1024)
    subprocess.run(
        ("mkfs.ext4", "-q", "-F", image),
        check=True,
        capture_output=True,
        timeout=COMMAND_SECONDS_MAX,
    )
    as_root("mount", "-o", "loop", image, folder)
    try:
        as_root("chmod", "0777", folder)
        yield BreakingDisk(folder, image)
    finally:
        as_root("umount", "--lazy", folder)
