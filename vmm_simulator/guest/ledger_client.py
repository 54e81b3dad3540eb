"""A guest's way to the lab's ledger: one entry at a time, counted only when acknowledged."""

import socket
from pathlib import Path
from typing import Final

from vmm_simulator.guest.frames import (
    LEDGER_FRAME_BYTES_MAX,
    FrameDecoder,
    FrameError,
    Kind,
    LedgerEntry,
    encode_entry,
    encode_frame,
    parse_number,
)
from vmm_simulator.guest.unix_address import unix_address

SEND_SECONDS_MAX: Final = 1.0


class LedgerClient:
    """One connection at a time; what fails is told by a result, since the guest goes on trying."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._socket: socket.socket | None = None
        self._decoder = FrameDecoder(LEDGER_FRAME_BYTES_MAX)

    @property
    def socket(self) -> socket.socket | None:
        """The open connection, to be waited on, or None."""
        return self._socket

    def send(self, entry: LedgerEntry) -> bool:
        """Hand an entry over, connecting first where needed; False when that failed."""
        try:
            if self._socket is None:
                self._connect()
            assert self._socket is not None
            self._socket.sendall(encode_frame(Kind.APPEND, encode_entry(entry).rstrip()))
        except OSError:
            self.close()
            return False
        return True

    def receive(self) -> int | None:
        """Read what has arrived; return the number acknowledged last, or None."""
        if self._socket is None:
            return None
        try:
            data = self._socket.recv(4096)
            frames = list(self._decoder.feed(data))
            numbers = [parse_number(f.body) for f in frames if f.kind is Kind.APPENDED]
        except (OSError, FrameError):
            self.close()
            return None
        if not data or len(numbers) != len(frames):
            self.close()  # The ledger has gone, or it is none: a ledger only acknowledges.
            return None
        return numbers[-1] if numbers else None

    def close(self) -> None:
        """Drop the connection; the next entry opens another."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _connect(self) -> None:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            connection.settimeout(SEND_SECONDS_MAX)
            with unix_address(self._path) as address:
                connection.connect(address)
        except OSError:
            connection.close()
            raise
        self._socket = connection
        self._decoder = FrameDecoder(LEDGER_FRAME_BYTES_MAX)
