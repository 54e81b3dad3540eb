"""A free /24 of 127.0.0.0/8 for one estate, and free ports in it.

Estates of all users of a machine share one folder of lock files. The lock is held by a process that
lives as long as the estate, so the kernel frees it in every case, also after kill -9.
"""

import contextlib
import errno
import fcntl
import os
import socket
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from service_shell.errors import ProgramError

COMMON_FOLDERS: Final = (Path("/run/lock"), Path("/tmp"))  # noqa: S108 -- common to all users on purpose
FIRST_OCTET: Final = 127
SECOND_OCTETS: Final = range(64, 68)
THIRD_OCTETS: Final = range(256)
REPLICATION_PORTS: Final = (8084,)


@dataclass(slots=True)
class ClaimedNetwork:
    """A /24 that is ours for as long as anybody holds `descriptor` (or a copy of it) open."""

    prefix: str
    descriptor: int

    @property
    def hub_address(self) -> str:
        """The address of everything that is not a Hyper-V host."""
        return f"{self.prefix}.1"

    def release(self) -> None:
        """Let go of our copy; the network is free when the last copy is closed."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


def common_folder(candidates: Iterable[Path] = COMMON_FOLDERS) -> Path:
    """Return the first folder in which every user of the machine may make files."""
    for folder in candidates:
        with contextlib.suppress(OSError):
            mode = folder.stat().st_mode
            if stat.S_ISDIR(mode) and mode & stat.S_IWOTH:
                return folder
    raise ProgramError("neither /run/lock nor /tmp is writable for all; one of them must be")


def claim_network(folder: Path | None = None) -> ClaimedNetwork:
    """Return a /24 that nobody else uses; ProgramError when all are taken."""
    place = folder or common_folder()
    for prefix in _prefixes():
        descriptor = _lock(place / f"site-recovery-lab-{prefix}.0")
        if descriptor is None:
            continue
        if _replication_ports_are_free(prefix):
            return ClaimedNetwork(prefix, descriptor)
        os.close(descriptor)
    raise ProgramError(
        f"every network from {FIRST_OCTET}.{SECOND_OCTETS[0]}.0.0/24 on is taken by another lab"
        f" (lock files in {place}); stop one with: make lab-down"
    )


def free_ports(host: str, count: int) -> list[int]:
    """Return ports that are free on `host` now, found by binding; all different."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind((host, 0))
        return [int(each.getsockname()[1]) for each in sockets]


def _prefixes() -> Iterator[str]:
    for second in SECOND_OCTETS:
        for third in THIRD_OCTETS:
            yield f"{FIRST_OCTET}.{second}.{third}"


def _lock(path: Path) -> int | None:
    """Return a descriptor that holds the lock, or None when another estate holds it."""
    try:
        descriptor = _open(path)
    except PermissionError:
        return None  # another user's file that we may not even read: leave it to that user
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if error.errno == errno.EWOULDBLOCK:
            return None
        raise
    return descriptor


def _open(path: Path) -> int:
    # fs.protected_regular refuses O_CREAT on another user's file in a sticky folder, to root too:
    # open what is there, and create only what is not. A read-only descriptor can hold a lock.
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
    for _ in range(2):
        try:
            return os.open(path, flags)
        except FileNotFoundError:
            with contextlib.suppress(FileExistsError):
                descriptor = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o644)
                os.fchmod(descriptor, 0o644)
                return descriptor
    return os.open(path, flags)


def _replication_ports_are_free(prefix: str) -> bool:
    """Look whether a program that knows nothing of our locks listens where hosts will."""
    for port in REPLICATION_PORTS:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((f"{prefix}.10", port))
            except OSError:
                return False
    return True
