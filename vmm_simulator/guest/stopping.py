"""A guest process that the kernel holds: asked of the kernel, never remembered."""

import array
import asyncio
import fcntl
import termios
from pathlib import Path
from typing import Final

STOP_SECONDS_MAX: Final = 5.0
"""Longest the kernel may take to stop a process that only reads its disks and a socket."""

_POLL_SECONDS: Final = 0.005
_STOPPED: Final = "T"
_DEAD: Final = "X"
_GONE: Final = frozenset({"Z", _DEAD})


def is_stopped(process: int) -> bool:
    """Return whether the process stands still."""
    return _state_of(process) == _STOPPED


async def wait_stopped(process: int, descriptor: int) -> None:
    """Return when the process stands still and nothing that it sent is left in the socket.

    TimeoutError after STOP_SECONDS_MAX, or at once when the process is gone.
    """
    async with asyncio.timeout(STOP_SECONDS_MAX):
        while not is_stopped(process) or _unread_bytes(descriptor):
            if _state_of(process) in _GONE:
                raise TimeoutError("the guest ended before it could be paused")
            await asyncio.sleep(_POLL_SECONDS)
    # What was read is handed to whoever serves the guest in this loop's next turn.
    await asyncio.sleep(_POLL_SECONDS)


def _state_of(process: int) -> str:
    """Return the kernel's letter for its state (proc(5), the third field of `stat`)."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return _DEAD
    # The second field is the program's name in brackets, and may itself hold brackets.
    return fields.rpartition(")")[2].split()[0]


def _unread_bytes(descriptor: int) -> int:
    waiting = array.array("i", [0])
    fcntl.ioctl(descriptor, termios.FIONREAD, waiting)
    return waiting[0]
