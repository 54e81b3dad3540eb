"""Unix sockets that the lab's own processes listen on: for their owner alone."""

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

from service_shell.errors import ProgramError
from vmm_simulator.guest.unix_address import unix_address


@contextlib.contextmanager
def listening_for_owner(path: Path, name: str) -> Iterator[socket.socket]:
    """Yield a socket bound to `path`, for its owner alone; the path is removed at the end.

    ProgramError names the process (`name`) that cannot listen, and why.
    """
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.unlink(missing_ok=True)
        with unix_address(path) as address:
            listening.bind(address)
        path.chmod(0o600)
    except OSError as error:
        listening.close()
        raise ProgramError(f"the {name} cannot listen on {path}: {error.strerror}") from None
    try:
        yield listening
    finally:
        listening.close()
        path.unlink(missing_ok=True)
