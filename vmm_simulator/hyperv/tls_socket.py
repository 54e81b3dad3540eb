"""TLS whose records go from the caller's buffer straight into the socket: for whoever sends much.

The event loop's own TLS lets OpenSSL write into memory, takes that out as new bytes, and hands them
to the socket: two copies of everything that is sent. Here OpenSSL has the socket. Sending 1.25 GB
costs 0.7 s of processor instead of 1.15 (docs/benchmarks.md). Receiving is the other way round: one
large read of the loop's TLS saves two calls of the kernel for each record, so ports keep it.
"""

import asyncio
import socket
import ssl
from collections import deque
from collections.abc import Callable
from typing import Any, Final

WRITE_BYTES_MAX: Final = 262_144
"""Encrypted in one go; others on the loop wait meanwhile."""

TURN_WRITES_MAX: Final = 8
TURN_READS_MAX: Final = 16


async def connect_tls(
    protocol: asyncio.BufferedProtocol,
    sock: socket.socket,
    context: ssl.SSLContext,
    server_hostname: str,
) -> None:
    """Have the protocol speak TLS over a connected socket, which is the transport's from now on.

    Raises an OSError (ssl.SSLError is one) when the peer is not who it should be, or does not take
    us; the socket is closed then. The caller sets a bound of time.
    """
    sock.setblocking(False)  # noqa: FBT003 -- the socket module's signature
    secured = context.wrap_socket(
        sock, server_hostname=server_hostname, do_handshake_on_connect=False
    )
    try:
        await _shake_hands(secured)
    except BaseException:
        secured.close()
        raise
    protocol.connection_made(TlsSocket(secured, protocol))


async def _shake_hands(secured: ssl.SSLSocket) -> None:
    loop = asyncio.get_running_loop()
    while True:
        try:
            secured.do_handshake()
        except ssl.SSLWantReadError:
            await _once(loop.add_reader, loop.remove_reader, secured.fileno())
        except ssl.SSLWantWriteError:
            await _once(loop.add_writer, loop.remove_writer, secured.fileno())
        else:
            return


async def _once(add: Callable[..., None], remove: Callable[[int], object], descriptor: int) -> None:
    ready = asyncio.get_running_loop().create_future()

    def tell() -> None:
        if not ready.done():
            ready.set_result(None)

    add(descriptor, tell)
    try:
        await ready
    finally:
        remove(descriptor)


class TlsSocket(asyncio.Transport):
    """An established connection; what a BufferedProtocol asks of a transport.

    A writer is paused until the socket has taken all that was written: its buffers are then free.
    """

    def __init__(self, secured: ssl.SSLSocket, protocol: asyncio.BufferedProtocol) -> None:
        super().__init__()
        self._loop = asyncio.get_running_loop()
        self._socket = secured
        self._descriptor = secured.fileno()
        self._protocol = protocol
        self._waiting: deque[memoryview] = deque()
        self._writer_added = False
        self._reading_paused = False
        self._closing = False
        self._lost = False
        self._loop.add_reader(self._descriptor, self._read)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return the peer's certificate or the TLS object, as the loop's transports tell them."""
        if self._lost:
            return default
        if name == "peercert":
            return self._socket.getpeercert()
        return self._socket if name == "ssl_object" else default

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Take no note: nothing is copied that would have to be limited."""

    # Sending.

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send; what the socket does not take yet is sent from this buffer later."""
        if self._closing or not data:
            return
        view = memoryview(data)
        for start in range(0, len(view), WRITE_BYTES_MAX):
            self._waiting.append(view[start : start + WRITE_BYTES_MAX])
        if not self._writer_added:
            self._write()

    def _write(self) -> None:
        waiting = self._waiting
        try:
            for _ in range(TURN_WRITES_MAX):
                if not waiting:
                    break
                # After a refusal OpenSSL wants the same bytes again, which is what it gets.
                sent = self._socket.send(waiting[0])
                if sent < len(waiting[0]):
                    waiting[0] = waiting[0][sent:]
                else:
                    waiting.popleft()
        except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
            pass
        except OSError as error:
            self._lose(error)
            return
        self._wait_to_write()

    def _wait_to_write(self) -> None:
        if self._waiting and not self._writer_added:
            self._writer_added = True
            self._loop.add_writer(self._descriptor, self._write)
            self._protocol.pause_writing()
        elif not self._waiting and self._writer_added:
            self._writer_added = False
            self._loop.remove_writer(self._descriptor)
            self._protocol.resume_writing()
        if self._closing and not self._waiting:
            self._shut()

    # Receiving.

    def pause_reading(self) -> None:
        """Leave what comes in the socket."""
        if not self._reading_paused and not self._closing:
            self._reading_paused = True
            self._loop.remove_reader(self._descriptor)

    def resume_reading(self) -> None:
        """Hand over what comes; some of it may be decrypted already, and wakes no reader."""
        if self._reading_paused and not self._closing:
            self._reading_paused = False
            self._loop.add_reader(self._descriptor, self._read)
            self._loop.call_soon(self._read)

    def _read(self) -> None:
        try:
            for _ in range(TURN_READS_MAX):
                if self._reading_paused or self._closing:
                    return
                view = memoryview(self._protocol.get_buffer(-1))
                if not view:
                    return
                count = self._socket.recv_into(view)
                if not count:
                    self._protocol.eof_received()
                    self.close()
                    return
                self._protocol.buffer_updated(count)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return
        except OSError as error:
            self._lose(error)
            return
        # More may be decrypted already.
        self._loop.call_soon(self._read)

    # The end.

    def is_closing(self) -> bool:
        """Whether it is closed, or about to be."""
        return self._closing

    def close(self) -> None:
        """Send what waits, then say goodbye; ends when the peer has said it too, or by `abort`."""
        if self._closing:
            return
        self._loop.remove_reader(self._descriptor)
        self._closing = True
        if not self._waiting:
            self._shut()

    def _shut(self) -> None:
        if self._lost:
            return
        try:
            self._socket.unwrap()
        except ssl.SSLWantReadError:
            self._loop.add_reader(self._descriptor, self._shut)
        except ssl.SSLWantWriteError:
            self._loop.add_writer(self._descriptor, self._shut)
        except (OSError, ValueError):
            # The peer is gone, or sends on: nothing more is said to it either way.
            self._lose(None)
        else:
            self._lose(None)

    def abort(self) -> None:
        """End the connection now; what waits is not sent."""
        self._lose(None)

    def _lose(self, error: OSError | None) -> None:
        if self._lost:
            return
        self._lost = self._closing = True
        self._waiting.clear()
        self._loop.remove_reader(self._descriptor)
        self._loop.remove_writer(self._descriptor)
        self._socket.close()
        self._loop.call_soon(self._protocol.connection_lost, error)
