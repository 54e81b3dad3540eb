"""The guest program and the process that starts it, with no disks in play."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from vmm_simulator.guest.frames import Kind, encode_frame, encode_object
from vmm_simulator.guest.interface import GuestExit

BOUND_SECONDS = 30.0


@contextmanager
def guest(parent: int) -> Iterator[tuple[subprocess.Popen[bytes], socket.socket]]:
    """Start the program as a host does and yield it with the host's end of the socket."""
    own, other = socket.socketpair()
    with own, other:
        arguments = ["--socket", str(other.fileno()), "--parent", str(parent), "--machine", "web"]
        with subprocess.Popen(
            [sys.executable, "-P", "-m", "vmm_simulator.guest.process", *arguments],
            stderr=subprocess.DEVNULL,
            pass_fds=[other.fileno()],
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        ) as process:
            other.close()
            yield process, own


def test_a_guest_whose_parent_is_gone_ends_before_it_touches_anything() -> None:
    with guest(parent=1) as (process, _):
        assert process.wait(BOUND_SECONDS) == GuestExit.HOST_GONE


def test_a_guest_whose_host_says_nothing_and_closes_ends() -> None:
    with guest(parent=os.getpid()) as (process, connection):
        connection.close()
        assert process.wait(BOUND_SECONDS) == GuestExit.HOST_GONE


@pytest.mark.parametrize(
    "sent",
    [
        b"\xff" * 100,
        encode_frame(Kind.STOP),
        encode_object(Kind.SPEC, {"disks": []}),
        encode_frame(Kind.SPEC, b"not JSON"),
    ],
)
def test_a_guest_that_is_told_nonsense_says_so_and_ends(sent: bytes) -> None:
    with guest(parent=os.getpid()) as (process, connection):
        connection.sendall(sent)
        assert process.wait(BOUND_SECONDS) == GuestExit.PROTOCOL
        assert b"reason" in connection.recv(4096)


def test_a_guest_without_its_disks_says_so_and_ends(tmp_path: Path) -> None:
    spec = {
        "machine_id": "vm-1",
        "epoch": 1,
        "disks": [str(tmp_path / "none.raw")],
        "records_per_second": 1.0,
        "ledger_socket": None,
    }
    with guest(parent=os.getpid()) as (process, connection):
        connection.sendall(encode_object(Kind.SPEC, spec))
        assert process.wait(BOUND_SECONDS) == GuestExit.UNREADABLE
        assert b"none.raw" in connection.recv(4096)
