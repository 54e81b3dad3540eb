"""A TCP relay on loopback whose far end a test may change, cut off, or make silent."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

HOST = "127.0.0.1"
CHUNK_BYTES = 65_536


class Relay:
    """Passes connections on to the port `target` of `far`; None refuses them.

    `passed_bytes` counts what it has passed on, in both directions.
    """

    def __init__(self, target: int | None, far: str = HOST) -> None:
        self.target = target
        self.port = 0
        self.passed_bytes = 0
        self._far = far
        self._open: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()

    @classmethod
    @asynccontextmanager
    async def opened(
        cls, target: int | None = None, *, at: tuple[str, int] = (HOST, 0), far: str = HOST
    ) -> AsyncIterator["Relay"]:
        """Listen on a free port, or at an address and port, until the block is left."""
        relay = cls(target, far)
        server = await asyncio.start_server(relay._serve, *at)
        relay.port = int(server.sockets[0].getsockname()[1])
        try:
            yield relay
        finally:
            server.close()
            relay.cut()
            for task in relay._tasks:
                task.cancel()
            await asyncio.gather(*relay._tasks, return_exceptions=True)

    def lead_to(self, target: int | None) -> None:
        """Lead to another port from now on; what is open is cut."""
        self.target = target
        self.cut()

    def cut(self) -> None:
        """Abort every open connection; new ones are taken as before."""
        for writer in self._open:
            writer.transport.abort()

    def silence(self) -> None:
        """Pass nothing on any more, and tell nobody: packets that are dropped."""
        self._flowing.clear()

    def speak(self) -> None:
        """Pass on again what came meanwhile."""
        self._flowing.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            with self._noted(writer):
                await self._pass_on(reader, writer)
        except (OSError, asyncio.CancelledError):
            writer.transport.abort()  # the near end learns of it as of a broken connection
        finally:
            self._tasks.discard(task)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.target is None:
            writer.transport.abort()
            return
        far_reader, far_writer = await asyncio.open_connection(self._far, self.target)
        with self._noted(far_writer):
            ways = {
                asyncio.ensure_future(self._pump(reader, far_writer)),
                asyncio.ensure_future(self._pump(far_reader, writer)),
            }
            try:
                await asyncio.wait(ways)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(CHUNK_BYTES):
                await self._flowing.wait()
                self.passed_bytes += len(data)
                writer.write(data)
                await writer.drain()
        if writer.can_write_eof() and not writer.is_closing():
            with contextlib.suppress(OSError):
                writer.write_eof()

    @contextlib.contextmanager
    def _noted(self, writer: asyncio.StreamWriter) -> Iterator[None]:
        self._open.add(writer)
        try:
            yield
        finally:
            self._open.discard(writer)
            writer.close()
