"""Listening sockets, opened before a program says that it is ready."""

import errno
import socket
from typing import Final

from service_shell.errors import ProgramError

BACKLOG: Final = 1024
"""Connections that may wait; the kernel caps it at net.core.somaxconn."""


def open_listener(host: str, port: int) -> socket.socket:
    """Return a bound, listening, non-blocking TCP socket; port 0 takes a free one."""
    try:
        found = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except (socket.gaierror, UnicodeError) as error:
        raise ProgramError(
            f"cannot listen on {host}:{port}: the address is unknown ({error});"
            " correct the host in the configuration"
        ) from error
    family, kind, protocol, _, address = found[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
        listener.settimeout(0)  # never blocks
    except OSError as error:
        listener.close()
        raise ProgramError(f"cannot listen on {host}:{port}: {_cause_and_remedy(error)}") from error
    return listener


def _cause_and_remedy(error: OSError) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return "the port is in use; stop the other program or choose another port"
        case errno.EACCES | errno.EPERM:
            return "not permitted; choose a port above 1023 or grant CAP_NET_BIND_SERVICE"
        case errno.EADDRNOTAVAIL:
            return "this machine does not have the address; correct the host"
        case _:
            return f"{error.strerror}; correct host and port in the configuration"
