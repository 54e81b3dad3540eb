"""The next caller of a port, lost to nobody."""

import asyncio
import socket


async def next_caller(listening: socket.socket) -> socket.socket:
    """Return the next connection of a non-blocking listening socket; OSError as `accept` has it.

    Cancelled, it has taken none: who called at that moment waits in the socket for the next wait,
    or is turned away when that is closed. `loop.sock_accept` would have taken a connection before
    its waiter is resumed, and a waiter that is cancelled in between never learns of it.
    """
    while True:
        await _readable(listening)
        try:
            accepted, _ = listening.accept()
        except BlockingIOError:
            continue  # the caller was gone again
        accepted.setblocking(False)  # noqa: FBT003 -- the socket module's signature
        return accepted


async def _readable(listening: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    somebody = loop.create_future()

    def note() -> None:
        if not somebody.done():
            somebody.set_result(None)

    loop.add_reader(listening, note)
    try:
        await somebody
    finally:
        loop.remove_reader(listening)
