import asyncio
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from service_shell.errors import ProgramError
from service_shell.readiness import keep_watchdog, ready, watchdog_interval_seconds


@pytest.fixture
def service_manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A socket in the place of systemd's."""
    address = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(address))
        receiver.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", str(address))
        yield receiver


def test_the_ready_file_stands_for_as_long_as_the_daemon_is_ready(tmp_path: Path) -> None:
    path = tmp_path / "run" / "hub.json"
    with ready(path, {"port": 8443, "config": tmp_path}):
        assert json.loads(path.read_text()) == {
            "pid": os.getpid(),
            "port": 8443,
            "config": str(tmp_path),
        }
    assert not path.exists()


def test_the_ready_file_goes_also_after_an_error(tmp_path: Path) -> None:
    path = tmp_path / "hub.json"
    with pytest.raises(ValueError, match="crash"), ready(path, {}):
        raise ValueError("crash")
    assert not path.exists()


def test_a_successors_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "hub.json"
    with ready(path, {}):
        path.write_text('{"pid": 1}')
    assert path.read_text() == '{"pid": 1}'


@pytest.mark.parametrize("content", ["", "[]", "{", '{"pid": "x"}'])
def test_a_damaged_file_is_left_and_harms_nothing(tmp_path: Path, content: str) -> None:
    path = tmp_path / "hub.json"
    with ready(path, {}):
        path.write_text(content)
    assert path.read_text() == content


def test_a_file_that_is_gone_harms_nothing(tmp_path: Path) -> None:
    path = tmp_path / "hub.json"
    with ready(path, {}):
        path.unlink()
    assert not path.exists()


def test_a_ready_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ProgramError, match="ready_file"), ready(tmp_path / "file" / "x", {}):
        pytest.fail("the block must not run")


def test_systemd_hears_of_the_beginning_and_the_end(service_manager: socket.socket) -> None:
    with ready(None, {}):
        assert service_manager.recv(100) == b"READY=1"
    assert service_manager.recv(100) == b"STOPPING=1"


def test_a_dead_service_manager_harms_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody"))
    with ready(None, {}):
        pass


@pytest.mark.parametrize(
    ("limit", "owner", "expected"),
    [
        ("3000000", None, 1.5),
        ("3000000", str(os.getpid()), 1.5),
        ("3000000", "1", None),
        ("", None, None),
        ("0", None, None),
        ("soon", None, None),
    ],
)
def test_the_watchdog_is_fed_twice_as_often_as_it_asks(
    monkeypatch: pytest.MonkeyPatch, limit: str, owner: str | None, expected: float | None
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", limit)
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    if owner is not None:
        monkeypatch.setenv("WATCHDOG_PID", owner)
    assert watchdog_interval_seconds() == expected


async def test_the_watchdog_is_fed_again_and_again(
    service_manager: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "2000")
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    service_manager.setblocking(False)  # noqa: FBT003 -- the socket's own parameter
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        feeding = group.create_task(keep_watchdog())
        for _ in range(3):
            assert await loop.sock_recv(service_manager, 100) == b"WATCHDOG=1"
        feeding.cancel()
