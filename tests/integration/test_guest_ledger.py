"""The ledger as a process of its own."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lab import ledger as ledger_program
from lab.ledger import LedgerFile, serve_ledger
from lab.ledger_reading import read_ledger
from vmm_simulator.guest.frames import (
    FrameDecoder,
    Kind,
    LedgerEntry,
    encode_entry,
    encode_frame,
    encode_number,
    parse_number,
)

BOUND_SECONDS = 30.0
ROOT = Path(__file__).parents[2]


def append(number: int, machine_id: str = "vm-1") -> bytes:
    entry = LedgerEntry(machine_id, 1, number, "ab" * 32, number)
    return encode_frame(Kind.APPEND, encode_entry(entry))


class Ledger:
    """A ledger process and connections to it."""

    def __init__(self, folder: Path) -> None:
        self.socket = folder / "ledger.socket"
        self.file = folder / "ledger"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "lab.ledger", "--socket", self.socket, "--file", self.file],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=ROOT,
        )  # fmt: skip

    def connect(self) -> socket.socket:
        """Return a connection as a guest has it."""
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(BOUND_SECONDS)
        try:
            connection.connect(str(self.socket))
        except OSError:
            connection.close()
            raise
        return connection

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and return the exit code."""
        self.process.send_signal(number)
        self.process.communicate(timeout=BOUND_SECONDS)
        return self.process.returncode


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[], Ledger]]:
    started: list[Ledger] = []

    def begin() -> Ledger:
        ledger = Ledger(tmp_path)
        started.append(ledger)
        for _ in range(int(BOUND_SECONDS * 100)):
            try:
                ledger.connect().close()
                break
            except OSError:
                assert ledger.process.poll() is None, "the ledger ended"
                signal.sigtimedwait([], 0.01)
        return ledger

    yield begin
    for ledger in started:
        if ledger.process.poll() is None:
            ledger.end(signal.SIGKILL)


def answers(connection: socket.socket, count: int) -> list[int]:
    decoder = FrameDecoder()
    found: list[int] = []
    while len(found) < count:
        data = connection.recv(4096)
        assert data, "the ledger closed the connection"
        for frame in decoder.feed(data):
            assert frame.kind is Kind.APPENDED
            found.append(parse_number(frame.body))
    return found


def test_what_is_acknowledged_is_in_the_file_whatever_happens_then(
    start: Callable[[], Ledger],
) -> None:
    ledger = start()
    with ledger.connect() as one, ledger.connect() as other:
        one.sendall(append(1) + append(2))
        other.sendall(append(1, "vm-2"))
        assert answers(one, 2) == [1, 2]
        assert answers(other, 1) == [1]
        assert ledger.end(signal.SIGKILL) == -signal.SIGKILL
    entries = read_ledger(ledger.file)
    assert [entry.number for entry in entries["vm-1"]] == [1, 2]
    again = start()
    with again.connect() as connection:
        connection.sendall(append(3))
        assert answers(connection, 1) == [3]
    assert again.end() == 0
    assert not again.socket.exists()
    assert [entry.number for entry in read_ledger(ledger.file)["vm-1"]] == [1, 2, 3]


def test_garbage_ends_its_connection_without_an_answer_and_no_other(
    start: Callable[[], Ledger],
) -> None:
    ledger = start()
    with ledger.connect() as good:
        for garbage in (
            b"GET / HTTP/1.1\r\n\r\n",
            b"\xff\xff\xff\xff",
            b"\0\0\x02\x01",
            encode_frame(Kind.APPEND, b"{}"),
            encode_frame(Kind.APPEND, b"[" * 400),
            encode_frame(Kind.READY),
            encode_number(Kind.APPENDED, 1),
            encode_frame(Kind.APPEND, os.urandom(300)),
        ):
            with ledger.connect() as bad:
                bad.sendall(garbage)
                assert bad.recv(100) == b"", garbage
        good.sendall(append(1))
        assert answers(good, 1) == [1]
    assert [entry.number for entry in read_ledger(ledger.file)["vm-1"]] == [1]


def test_a_second_process_for_the_same_file_is_refused_in_one_line(
    start: Callable[[], Ledger], tmp_path: Path
) -> None:
    first = start()
    second = Ledger(tmp_path)
    _, said = second.process.communicate(timeout=BOUND_SECONDS)
    assert second.process.returncode not in (0, None)
    assert b"another ledger process" in said
    assert b"Traceback" not in said
    with first.connect() as connection:
        connection.sendall(append(1))
        assert answers(connection, 1) == [1]


async def test_an_unfinished_frame_does_not_hold_a_connection_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_program, "FRAME_SECONDS_MAX", 0.1)
    file, stop = LedgerFile(tmp_path / "ledger"), asyncio.Event()
    path = tmp_path / "socket"
    async with asyncio.timeout(BOUND_SECONDS), asyncio.TaskGroup() as group:
        group.create_task(serve_ledger(path, file, stop))
        while not path.exists():
            await asyncio.sleep(0.01)
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(append(1)[:20])
        assert await reader.read() == b""
        writer.close()
        stop.set()
    file.close()
    assert read_ledger(tmp_path / "ledger") == {}


async def test_more_connections_than_the_limit_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_program, "CONNECTIONS_MAX", 2)
    file, stop = LedgerFile(tmp_path / "ledger"), asyncio.Event()
    path = tmp_path / "socket"
    async with asyncio.timeout(BOUND_SECONDS), asyncio.TaskGroup() as group:
        group.create_task(serve_ledger(path, file, stop))
        while not path.exists():
            await asyncio.sleep(0.01)
        writers = []
        for number in (1, 2):
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(append(number))
            assert await reader.readexactly(13)
            writers.append(writer)
        reader, writer = await asyncio.open_unix_connection(path)
        assert await reader.read() == b""
        for each in (*writers, writer):
            each.close()
        stop.set()
    file.close()
    assert len(read_ledger(tmp_path / "ledger")["vm-1"]) == 2
