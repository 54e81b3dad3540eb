"""A TLS connection without copies: bytes are read straight into the buffers of whoever waits.

Backpressure on both sides: while no one waits, no more than one staging buffer is read; a writer
waits until the transport has sent. Every wait ends after `idle_seconds` without a byte.
"""

import asyncio
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Final, cast

from vmm_simulator.hyperv.http1 import CHUNK_LINE_BYTES_MAX, NO_HEADERS, HttpError, chunk_size

STAGING_BYTES: Final = 65_536
WRITE_BUFFER_BYTES_MAX: Final = 1_048_576


class Connection(asyncio.BufferedProtocol):
    """One end of a connection; used by one task at a time.

    `proof` are headers that every message sent on it carries: who we are, where TLS does not say;
    `check_proof` looks at those of the peer.
    """

    def __init__(self, idle_seconds: float) -> None:
        self.idle_seconds = idle_seconds
        self.proof: Mapping[str, str] = NO_HEADERS
        self.check_proof: Callable[[int, Mapping[str, str]], None] | None = None
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._staging = memoryview(bytearray(STAGING_BYTES))
        self._start = 0
        self._end = 0
        self._target: memoryview | None = None
        self._filled = 0
        self._reading_paused = False
        self._ended = False
        self._error: BaseException | None = None
        self._readable: asyncio.Future[None] | None = None
        self._writable: asyncio.Future[None] | None = None
        self._closed: asyncio.Future[None] = self._loop.create_future()

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES_MAX)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 -- the protocol's signature
        """Offer what a reader waits for, else the staging buffer."""
        if self._target is not None:
            return self._target[self._filled :]
        if self._end == STAGING_BYTES and self._start:
            kept = self._end - self._start
            self._staging[:kept] = bytes(self._staging[self._start : self._end])
            self._start, self._end = 0, kept
        return self._staging[self._end :]

    def buffer_updated(self, nbytes: int) -> None:
        """Take note of what came, and stop reading when no one wants more."""
        if self._target is not None:
            self._filled += nbytes
            if self._filled < len(self._target):
                return
            self._target = None
        else:
            self._end += nbytes
            if self._end - self._start == STAGING_BYTES:
                self._pause()
        self._wake()

    def eof_received(self) -> None:
        """Note the peer's end; TLS has no half-closed connections."""
        self._ended = True
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wake whoever waits."""
        self._ended = True
        self._error = self._error or exc
        if not self._closed.done():
            self._closed.set_result(None)
        self._wake()
        self.resume_writing()

    def pause_writing(self) -> None:
        """Make the next writer wait."""
        if self._writable is None:
            self._writable = self._loop.create_future()

    def resume_writing(self) -> None:
        """Let a writer go on."""
        writable, self._writable = self._writable, None
        if writable is not None and not writable.done():
            writable.set_result(None)

    def _wake(self) -> None:
        readable, self._readable = self._readable, None
        if readable is not None and not readable.done():
            readable.set_result(None)

    def _pause(self) -> None:
        if not self._reading_paused and self._transport is not None:
            self._reading_paused = True
            self._transport.pause_reading()

    def _resume(self) -> None:
        if self._reading_paused and self._transport is not None and not self._ended:
            self._reading_paused = False
            self._transport.resume_reading()

    # What readers and writers call.

    @property
    def transport(self) -> asyncio.Transport:
        """The transport of an established connection."""
        if self._transport is None:
            raise ConnectionError("the connection is not established")
        return self._transport

    @property
    def has_input(self) -> bool:
        """Whether bytes came that no one has read, or the peer is gone."""
        return self._end > self._start or self._ended

    async def read_until(self, delimiter: bytes, bytes_max: int) -> bytes:
        """Return what comes up to and with the delimiter; HttpError when it is too long."""
        while True:
            data = bytes(self._staging[self._start : min(self._end, self._start + bytes_max)])
            found = data.find(delimiter)
            if found >= 0:
                self._start += found + len(delimiter)
                return data[: found + len(delimiter)]
            if len(data) >= bytes_max:
                raise HttpError(
                    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"a head is over {bytes_max} bytes"
                )
            await self._more()

    async def read_exactly(self, view: memoryview) -> None:
        """Fill the view, straight from the connection where nothing is staged."""
        staged = min(len(view), self._end - self._start)
        view[:staged] = self._staging[self._start : self._start + staged]
        self._start += staged
        if self._start == self._end:
            self._start = self._end = 0
        if staged == len(view):
            return
        self._target, self._filled = view[staged:], 0
        try:
            while self._target is not None:
                await self._more()
        finally:
            self._target = None

    async def _more(self) -> None:
        if self._ended:
            raise self._error or ConnectionResetError("the peer closed the connection too early")
        self._resume()
        readable = self._readable = self._loop.create_future()
        seen = self._filled
        while True:
            try:
                async with asyncio.timeout(self.idle_seconds):
                    await asyncio.shield(readable)
            except TimeoutError:
                # A large target wakes its reader at the end only: silence is what counts.
                if self._target is not None and self._filled > seen:
                    seen = self._filled
                    continue
                raise TimeoutError(f"the peer was silent for {self.idle_seconds} s") from None
            return

    async def write(self, *parts: bytes | memoryview) -> None:
        """Hand the parts to the transport and wait until it has room again.

        The transport has encrypted or copied the parts when the call begins to wait: their buffers
        may be used again afterwards.
        """
        if self._ended:
            raise self._error or ConnectionResetError("the peer closed the connection")
        for part in parts:
            self.transport.write(part)
        if self._writable is not None:
            async with asyncio.timeout(self.idle_seconds):
                await asyncio.shield(self._writable)
            if self._ended:
                raise self._error or ConnectionResetError("the peer closed the connection")

    async def discard_input(self, seconds: float) -> None:
        """Read to the peer's end and throw away, for at most so long.

        Closing with unread bytes would reset the connection, and the peer might lose the answer.
        """
        try:
            async with asyncio.timeout(seconds):
                while not self._ended:
                    self._start = self._end = 0
                    await self._more()
        except OSError:
            # Silence, or a broken connection: the answer was given, nothing more is owed.
            return

    async def close(self, seconds: float) -> None:
        """Close properly, or abort when the peer does not answer within the bound."""
        if self._transport is None:
            return
        self._transport.close()
        try:
            async with asyncio.timeout(seconds):
                await asyncio.shield(self._closed)
        except TimeoutError:
            self._transport.abort()

    def abort(self) -> None:
        """End the connection now."""
        if self._transport is not None:
            self._transport.abort()


class ConnectionBody:
    """The body of a message: with a length, or in chunks (length None)."""

    def __init__(self, connection: Connection, length: int | None) -> None:
        self._connection = connection
        self._chunked = length is None
        self._left = length or 0
        self._ended = length == 0
        self._between_chunks = False

    async def read_into(self, view: memoryview) -> int:
        """Fill the view; less than its length is returned at the end of the body only."""
        filled = 0
        while filled < len(view) and not self._ended:
            if self._left == 0:
                await self._next_chunk()
                continue
            count = min(self._left, len(view) - filled)
            await self._connection.read_exactly(view[filled : filled + count])
            filled += count
            self._left -= count
            if self._left == 0 and not self._chunked:
                self._ended = True
        return filled

    async def read_piece(self, view: memoryview) -> int:
        """Read to the end of a chunk, or fill the view; 0 is returned at the end of the body only.

        What a sender writes at once arrives at once, however little it is.
        """
        if self._left == 0 and not self._ended:
            await self._next_chunk()
        if self._ended:
            return 0
        return await self.read_into(view[: self._left])

    async def _next_chunk(self) -> None:
        if self._between_chunks:
            await self._expect_line_end()
        line = await self._connection.read_until(b"\r\n", CHUNK_LINE_BYTES_MAX)
        self._left = chunk_size(line[:-2])
        self._between_chunks = True
        if self._left == 0:
            await self._expect_line_end()  # no trailers
            self._ended = True

    async def _expect_line_end(self) -> None:
        end = memoryview(bytearray(2))
        await self._connection.read_exactly(end)
        if bytes(end) != b"\r\n":
            raise HttpError(HTTPStatus.BAD_REQUEST, "a chunk does not end where it should")
