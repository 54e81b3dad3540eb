"""Files with keys and tokens: only their owner may read them."""

import os
import stat
from pathlib import Path
from typing import Final

from service_shell.atomic_files import write_atomically
from service_shell.errors import ProgramError

SECRET_MODE: Final = 0o600
SECRET_FOLDER_MODE: Final = 0o700
GROUP_AND_OTHERS: Final = 0o077
ROOT_USER: Final = 0


def write_secret(path: Path, data: bytes) -> None:
    """Replace the file by `data`, readable by its owner alone; it is on disk when this returns."""
    try:
        _make_folder(path.parent)
        write_atomically(path, data, mode=SECRET_MODE)
    except OSError as error:
        raise ProgramError(
            f"cannot write {path}: {error.strerror}; make its folder writable for this user"
        ) from error


def _make_folder(folder: Path) -> None:
    """Make a folder, and those above it that are missing, for their owner alone."""
    if not folder.is_dir():
        # mkdir(parents=True) would give those above it the mode of the umask.
        _make_folder(folder.parent)
        folder.mkdir(mode=SECRET_FOLDER_MODE, exist_ok=True)


def read_secret(path: Path, max_bytes: int) -> bytes:
    """Return the whole file; refuse one that others may read, or that is larger than allowed.

    It must belong to the user that this program runs as, or to root: another owner could put a key
    of his own in its place, and read it whatever its mode says.
    """
    try:
        # O_NONBLOCK: a named pipe in this place must not hold the program for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            _check(path, os.fstat(descriptor), max_bytes)
            # Only now: open() of a folder's descriptor would fail and leave it open.
            with open(descriptor, "rb", closefd=False) as stream:
                data = stream.read(max_bytes + 1)
        finally:
            os.close(descriptor)
    except FileNotFoundError as error:
        raise ProgramError(
            f"{path} is missing; create it or name the right file in the configuration"
        ) from error
    except OSError as error:
        raise ProgramError(
            f"cannot read {path}: {error.strerror}; it must be a file of this user"
        ) from error
    if len(data) > max_bytes:
        raise _too_large(path, max_bytes)
    return data


def _check(path: Path, facts: os.stat_result, max_bytes: int) -> None:
    if not stat.S_ISREG(facts.st_mode):
        raise ProgramError(f"{path} is not a regular file; name the file that holds the secret")
    if stat.S_IMODE(facts.st_mode) & GROUP_AND_OTHERS:
        raise ProgramError(
            f"{path} holds a secret but others may read it"
            f" (mode {stat.S_IMODE(facts.st_mode):04o}); run: chmod 600 {path}"
        )
    if facts.st_uid not in {os.geteuid(), ROOT_USER}:
        raise ProgramError(
            f"{path} holds a secret but belongs to another user (uid {facts.st_uid}; this program"
            f" runs as uid {os.geteuid()}); run: chown {os.geteuid()} {path}"
        )
    if facts.st_size > max_bytes:
        raise _too_large(path, max_bytes)


def _too_large(path: Path, max_bytes: int) -> ProgramError:
    return ProgramError(f"{path} is larger than {max_bytes} bytes; is it the right file?")
