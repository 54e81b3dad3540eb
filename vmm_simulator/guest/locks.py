"""The exclusive lock that a running guest holds on each of its images."""

import fcntl
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

# A probe holds a shared lock for a moment; a guest that starts then must not take it for a guest.
LOCK_SECONDS_MAX: Final = 0.5
_PAUSE_SECONDS: Final = 0.02


class ImageLockedError(Exception):
    """Another guest holds the image."""


def lock_images(images: Sequence[int], paths: Sequence[Path]) -> None:
    """Take the exclusive lock on every open image; ImageLockedError names one that is held."""
    deadline = time.monotonic() + LOCK_SECONDS_MAX
    for image, path in zip(images, paths, strict=True):
        while not _try_lock(image, fcntl.LOCK_EX):
            if time.monotonic() >= deadline:
                raise ImageLockedError(f"{path} is locked: another guest runs on it")
            time.sleep(_PAUSE_SECONDS)


def images_locked(paths: Sequence[Path]) -> bool:
    """Return whether a guest runs on any of these images; a file that is missing holds none.

    Asks for a shared lock, which an exclusive one excludes: two that ask at the same time do not
    take each other for a guest.
    """
    for path in paths:
        try:
            image = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        try:
            if not _try_lock(image, fcntl.LOCK_SH):
                return True
        finally:
            os.close(image)
    return False


def _try_lock(image: int, operation: int) -> bool:
    try:
        fcntl.flock(image, operation | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
