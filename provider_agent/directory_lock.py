"""One provider at a time per data directory, also where the nodes of a cluster share it."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from service_shell.errors import ProgramError

LOCK_FILE: Final = "provider.lock"


class DirectoryInUseError(ProgramError):
    """Another provider works with the data directory."""


@contextlib.contextmanager
def lock_directory(data_directory: Path) -> Iterator[None]:
    """Hold the directory for the block; the kernel lets go of it also when a provider is killed."""
    path = data_directory / LOCK_FILE
    try:
        data_directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ProgramError(
            f"cannot open {path}: {error.strerror}; make the data directory this user's own"
        ) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DirectoryInUseError(
                f"another provider works with {data_directory}; stop it first"
            ) from error
        yield
    finally:
        os.close(descriptor)
