"""Secret files, atomic files and listeners: what the operating system lends a daemon."""

import os
import socket
import stat
import tempfile
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from service_shell.atomic_files import write_atomically
from service_shell.clock import SystemClock
from service_shell.errors import ProgramError, program_error_in
from service_shell.listener import open_listener
from service_shell.secret_files import read_secret, write_secret

NOBODY = 65_534


def test_a_secret_survives_and_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "new" / "key.pem"
    former = os.umask(0)
    try:
        write_secret(path, b"one")
        write_secret(path, b"two")
    finally:
        os.umask(former)
    assert read_secret(path, 3) == b"two"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [each.name for each in path.parent.iterdir()] == ["key.pem"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666])
def test_a_secret_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "key.pem"
    write_secret(path, b"x")
    path.chmod(mode)
    with pytest.raises(ProgramError, match=f"chmod 600 {path}"):
        read_secret(path, 10)


def test_a_missing_large_or_foreign_secret_is_named(tmp_path: Path) -> None:
    with pytest.raises(ProgramError, match="is missing"):
        read_secret(tmp_path / "nothing", 10)
    write_secret(tmp_path / "large", b"x" * 11)
    with pytest.raises(ProgramError, match="larger than 10"):
        read_secret(tmp_path / "large", 10)
    with pytest.raises(ProgramError, match="not a regular file"):
        read_secret(tmp_path, 10)


def test_a_pipe_in_the_place_of_a_secret_does_not_hold_the_program(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(ProgramError, match="not a regular file"):
        read_secret(tmp_path / "pipe", 10)


def test_a_secret_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ProgramError, match="cannot write"):
        write_secret(tmp_path / "file" / "key.pem", b"x")


def test_a_write_that_fails_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "state"
    write_atomically(path, b"old")

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_listener_listens_on_the_port_it_was_given(free_port: Callable[[], int]) -> None:
    port = free_port()
    with (
        open_listener("127.0.0.1", port) as listener,
        socket.create_connection(("127.0.0.1", port), timeout=10),
    ):
        assert listener.getblocking() is False
        assert listener.getsockname() == ("127.0.0.1", port)


def test_port_zero_takes_a_free_one() -> None:
    with open_listener("127.0.0.1", 0) as listener:
        assert listener.getsockname()[1] > 0


def test_a_port_in_use_is_named() -> None:
    with open_listener("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(ProgramError, match=f"127.0.0.1:{port}: the port is in use"):
            open_listener("127.0.0.1", port)


@pytest.mark.parametrize(
    ("host", "complaint"),
    [
        ("192.0.2.1", "does not have the address"),
        ("x" * 300, "the address is unknown"),
    ],
)
def test_an_address_that_is_not_ours_is_named(host: str, complaint: str) -> None:
    with pytest.raises(ProgramError, match=complaint):
        open_listener(host, 0)


def test_the_clock_gives_moments_ids_nonces_and_chance() -> None:
    clock = SystemClock()
    assert clock.now().tzinfo is not None
    assert clock.now() <= clock.now()
    assert len({clock.new_id() for _ in range(100)}) == 100
    for each in (clock.new_id() for _ in range(100)):
        assert str(uuid.UUID(each)) == each
        assert (uuid.UUID(each).version, uuid.UUID(each).variant) == (4, uuid.RFC_4122)
    assert len(clock.new_nonce()) == 32
    assert int(clock.new_nonce(), 16) >= 0
    assert all(1.0 <= clock.jitter(1.0, 2.0) <= 2.0 for _ in range(100))


def test_a_program_error_is_one_line() -> None:
    assert str(ProgramError("a\nb\r\n  c")) == "a b c"


def test_a_group_is_explained_only_by_program_errors_alone() -> None:
    known = ProgramError("port in use")
    assert program_error_in(ExceptionGroup("g", [ExceptionGroup("h", [known])])) is known
    assert program_error_in(ExceptionGroup("g", [known, ValueError("x")])) is None
    assert program_error_in(ValueError("x")) is None


@pytest.fixture
def another_user(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Give a file to another user; without root's power this program becomes the other one."""

    def give(path: Path) -> None:
        if os.geteuid() == 0:
            os.chown(path, NOBODY, NOBODY)
        else:
            present = os.geteuid()
            monkeypatch.setattr(os, "geteuid", lambda: present + 1)

    return give


def test_a_secret_of_another_user_is_refused_by_name(
    tmp_path: Path, another_user: Callable[[Path], None]
) -> None:
    path = tmp_path / "secret"
    write_secret(path, b"key")
    another_user(path)
    with pytest.raises(ProgramError, match=r"belongs to another user \(uid \d+; .* run: chown "):
        read_secret(path, 100)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to a user and be one")
def test_a_daemon_reads_its_own_users_file_and_no_other() -> None:
    outcomes = []
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)  # that of a test is root's alone
        for owner in (NOBODY, NOBODY - 1):
            path = Path(folder) / str(owner)
            write_secret(path, b"key")
            os.chown(path, owner, owner)
            outcomes.append(_as_nobody(path))
    assert outcomes == ["key", "cannot read"]


def _as_nobody(path: Path) -> str:
    """Read a secret in a child that has become another user."""
    receiving, sending = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.setgroups([])
            os.setresuid(NOBODY, NOBODY, NOBODY)
            try:
                said = read_secret(path, 100).decode()
            except ProgramError as error:
                said = str(error)[: len("cannot read")]
            os.write(sending, said.encode())
            status = 0
        finally:
            os._exit(status)  # whatever happens, the child is no second run of the tests
    os.close(sending)
    with os.fdopen(receiving) as stream:
        said = stream.read()
    assert os.waitpid(child, 0)[1] == 0
    return said


def test_folders_that_a_secret_makes_are_its_owners_alone(tmp_path: Path) -> None:
    former = os.umask(0)
    try:
        write_secret(tmp_path / "hub" / "trust" / "token.key", b"key")
    finally:
        os.umask(former)
    for folder in (tmp_path / "hub", tmp_path / "hub" / "trust"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
