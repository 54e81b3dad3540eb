"""The ledger of acknowledged records: `python -m lab.ledger --socket S --file F`.

A process of its own, outside all sites. Guests append over a unix socket; the only answer is the
number of an entry that is durable. Nothing can be read here: the lab reads the file.
"""

import argparse
import asyncio
import fcntl
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import structlog

from lab.ledger_reading import read_ledger
from lab.owned_socket import listening_for_owner
from service_shell.errors import ProgramError
from service_shell.program import run_program
from vmm_simulator.guest.frames import (
    LEDGER_FRAME_BYTES_MAX,
    FrameDecoder,
    FrameError,
    Kind,
    encode_entry,
    encode_number,
    parse_entry,
)

__all__ = ["LedgerFile", "LedgerServer", "main", "read_ledger", "serve_ledger"]

CONNECTIONS_MAX: Final = 256
READ_BYTES: Final = 4096
# From the first to the last byte of one frame: a guest sends it in one piece.
FRAME_SECONDS_MAX: Final = 10.0
TAIL_BYTES: Final = 4096

log = structlog.get_logger(__name__)


class LedgerFile:
    """The file, opened by one process alone; what was cut off by a kill is gone at the start."""

    def __init__(self, path: Path) -> None:
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ProgramError(f"the ledger {path} cannot be opened: {error.strerror}") from None
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._file)
            raise ProgramError(f"another ledger process writes {path}; end it first") from None
        self._drop_unfinished_line()

    def append(self, lines: bytes) -> None:
        """Return when the lines are durable."""
        left = memoryview(lines)
        while left:
            left = left[os.write(self._file, left) :]
        os.fdatasync(self._file)

    def close(self) -> None:
        """Give the file to the next process."""
        os.close(self._file)

    def _drop_unfinished_line(self) -> None:
        end = os.fstat(self._file).st_size
        while end:
            begin = max(end - TAIL_BYTES, 0)
            found = os.pread(self._file, end - begin, begin).rfind(b"\n")
            if found >= 0:
                end = begin + found + 1
                break
            end = begin
        os.ftruncate(self._file, end)


@dataclass(slots=True)
class _Batch:
    lines: bytearray = field(default_factory=bytearray)
    durable: asyncio.Event = field(default_factory=asyncio.Event)


class LedgerServer:
    """Takes entries from guests and makes them durable in groups."""

    def __init__(self, file: LedgerFile) -> None:
        self._file = file
        self._batch = _Batch()
        self._waiting = asyncio.Event()
        self._guests: set[asyncio.StreamWriter] = set()
        self._finishing = False

    async def write_batches(self) -> None:
        """Write what has gathered, one group after the other, until `finish` is called."""
        while not self._finishing:
            await self._waiting.wait()
            self._waiting.clear()
            batch, self._batch = self._batch, _Batch()
            await asyncio.to_thread(self._file.append, bytes(batch.lines))
            batch.durable.set()

    def finish(self) -> None:
        """Have the writing end with the group that has gathered now, and close the connections."""
        self._finishing = True
        self._waiting.set()
        for writer in self._guests:
            writer.close()

    async def serve_guest(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection; garbage ends it without an answer."""
        self._guests.add(writer)
        try:
            if len(self._guests) > CONNECTIONS_MAX:
                log.warning("ledger_connection_refused", connections_max=CONNECTIONS_MAX)
                return
            await self._serve(reader, writer)
        except (FrameError, TimeoutError) as error:
            log.warning("ledger_garbage_refused", cause=str(error) or "an unfinished frame")
        except ConnectionError as error:
            log.info("ledger_connection_lost", cause=str(error))
        finally:
            self._guests.discard(writer)
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        decoder = FrameDecoder(LEDGER_FRAME_BYTES_MAX)
        while True:
            bound = FRAME_SECONDS_MAX if decoder.pending_bytes else None
            async with asyncio.timeout(bound):
                data = await reader.read(READ_BYTES)
            if not data:
                return
            for frame in decoder.feed(data):
                if frame.kind is not Kind.APPEND:
                    raise FrameError(f"a ledger takes entries only, not {frame.kind.name}")
                entry = parse_entry(frame.body)
                if self._finishing:
                    return
                batch = self._batch
                batch.lines += encode_entry(entry)
                self._waiting.set()
                await batch.durable.wait()
                writer.write(encode_number(Kind.APPENDED, entry.number))
            await writer.drain()


async def serve_ledger(socket_path: Path, file: LedgerFile, stop: asyncio.Event) -> None:
    """Serve on the socket until `stop`; what was taken until then is durable at the return.

    The caller holds the file's lock, so a socket that is found there belongs to nobody alive.
    """
    server = LedgerServer(file)
    with listening_for_owner(socket_path, "ledger") as listening:
        async with asyncio.TaskGroup() as group:
            group.create_task(server.write_batches())
            listener = await asyncio.start_unix_server(server.serve_guest, sock=listening)
            log.info("ledger_listening", socket=str(socket_path))
            await stop.wait()
            listener.close()
            server.finish()


def main(arguments: Sequence[str]) -> int:
    """Run the ledger until it is told to end."""
    parser = argparse.ArgumentParser(prog="lab.ledger", description="Ledger of records.")
    parser.add_argument("--socket", type=Path, required=True, help="unix socket to listen on")
    parser.add_argument("--file", type=Path, required=True, help="file to append to")
    options = parser.parse_args(arguments)

    async def run(stop: asyncio.Event) -> None:
        file = LedgerFile(options.file)
        try:
            await serve_ledger(options.socket, file, stop)
        finally:
            file.close()

    return run_program(run, require_uvloop=False)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
