"""Files of a root's replacement: killed at any step, the hub starts and the step is repeated."""

import os
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from certs.chain import DamagedTrustError, TrustChain
from service_hub import root_files
from service_hub.root_files import (
    announce,
    finish,
    is_rotating,
    read_chains,
    rotation_lock,
    settle,
    stamp,
)
from service_shell.errors import ProgramError
from service_shell.secret_files import write_secret

NOW = datetime(2026, 11, 1, tzinfo=UTC)
PASSWORD = b"password"
STEPS_MAX = 20


class KilledError(BaseException):
    """The process ends here."""


def trust_folder(folder: Path) -> Path:
    for name, content in TrustChain.create(NOW, "Tests").to_files(PASSWORD).items():
        write_secret(folder / name, content)
    return folder


def root(folder: Path) -> str:
    return read_chains(folder, PASSWORD, NOW).present.root_thumbprint


def killed_at(step: int, monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> bool:
    """Do something that is killed before its n-th change on disk; false when it was not."""
    left = step
    real_rename, real_rmtree = Path.rename, shutil.rmtree

    def count() -> None:
        nonlocal left
        if left == 0:
            raise KilledError
        left -= 1

    def write(path: Path, data: bytes) -> None:
        count()
        write_secret(path, data)

    def rename(self: Path, target: Path) -> Path:
        count()
        return real_rename(self, target)

    def rmtree(folder: Any) -> None:
        count()
        real_rmtree(folder)

    with monkeypatch.context() as patch:
        patch.setattr(root_files, "write_secret", write)
        patch.setattr(Path, "rename", rename)
        patch.setattr("shutil.rmtree", rmtree)
        try:
            act()
        except KilledError:
            return True
    return False


def test_an_announcement_that_is_killed_is_whole_or_absent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = trust_folder(tmp_path / "source")
    before = root(source)
    for step in range(STEPS_MAX):
        folder = shutil.copytree(source, tmp_path / str(step))
        act = partial(announce, folder, PASSWORD, NOW, "Tests")
        killed = killed_at(step, monkeypatch, act)
        chains = read_chains(folder, PASSWORD, NOW)
        assert chains.present.root_thumbprint == before
        if not is_rotating(folder):
            assert chains.successor is None
            chains = announce(folder, PASSWORD, NOW, "Tests")
        assert chains.successor is not None
        assert chains.serial == 1
        if not killed:
            assert step > 8
            return
    raise AssertionError("it never ended")


def test_an_end_that_is_killed_is_ended_by_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = trust_folder(tmp_path / "source")
    new = announce(source, PASSWORD, NOW, "Tests").newest.root_thumbprint
    finish(source)
    assert root(source) == new, "what is not settled yet holds already"
    for step in range(STEPS_MAX):
        folder = shutil.copytree(source, tmp_path / str(step))
        killed = killed_at(step, monkeypatch, partial(settle, folder))
        assert root(folder) == new
        settle(folder)
        chains = read_chains(folder, PASSWORD, NOW)
        assert (chains.present.root_thumbprint, chains.successor, chains.serial) == (new, None, 2)
        assert not is_rotating(folder)
        assert (folder / "roots.pem").read_text() == chains.present.root_pem
        assert not list(folder.glob("next*")), "nothing of the former is kept"
        if not killed:
            assert step > 8
            return
    raise AssertionError("it never ended")


def test_the_next_rotation_counts_on(tmp_path: Path) -> None:
    folder = trust_folder(tmp_path / "trust")
    seen = {stamp(folder), root(folder)}
    for serial in (1, 3):
        assert announce(folder, PASSWORD, NOW, "Tests").serial == serial
        seen.add(stamp(folder))
        finish(folder)
        seen.add(stamp(folder))
        assert settle(folder)
        assert not settle(folder)
        seen |= {stamp(folder), root(folder)}
        assert read_chains(folder, PASSWORD, NOW).serial == serial + 1
    # 3 roots; idle (3 times, each with another root.pem), announced, finished.
    assert len(seen) == 3 + 3 + 2 * 2


def test_a_root_key_that_is_kept_offline_comes_back_for_the_rotation_alone(
    tmp_path: Path,
) -> None:
    folder = trust_folder(tmp_path / "trust")
    (folder / "root-key.pem").rename(tmp_path / "offline.pem")
    with pytest.raises(DamagedTrustError, match="put the root's key back"):
        announce(folder, PASSWORD, NOW, "Tests")
    assert not is_rotating(folder)
    (tmp_path / "offline.pem").rename(folder / "root-key.pem")
    announce(folder, PASSWORD, NOW, "Tests")
    (folder / "next/root-key.pem").rename(tmp_path / "offline.pem")
    finish(folder)
    settle(folder)
    assert not (folder / "root-key.pem").exists(), "the former root's key is gone for good"
    assert not read_chains(folder, PASSWORD, NOW).present.has_root_key


@pytest.mark.parametrize(
    ("file", "content", "cause"),
    [
        ("next/announcement.jws", b"damaged", r"announcement\.jws cannot be used"),
        ("next/root.pem", b"damaged", r"next/: root\.pem is damaged"),
        ("next/management.pem", None, r"management\.pem is missing"),
    ],
)
def test_damaged_files_are_named(
    tmp_path: Path, file: str, content: bytes | None, cause: str
) -> None:
    folder = trust_folder(tmp_path / "trust")
    announce(folder, PASSWORD, NOW, "Tests")
    if content is None:
        (folder / file).unlink()
    else:
        write_secret(folder / file, content)
    with pytest.raises(DamagedTrustError, match=cause):
        read_chains(folder, PASSWORD, NOW)


def test_a_statement_of_other_roots_is_damage(tmp_path: Path) -> None:
    folder = trust_folder(tmp_path / "trust")
    chains = announce(folder, PASSWORD, NOW, "Tests")
    other = chains.present.state_roots(1, TrustChain.create(NOW, "Other"))
    write_secret(folder / "next/announcement.jws", other.encode())
    with pytest.raises(DamagedTrustError, match="other roots than those beside it"):
        read_chains(folder, PASSWORD, NOW)


def test_files_that_others_may_read_are_refused(tmp_path: Path) -> None:
    folder = trust_folder(tmp_path / "trust")
    announce(folder, PASSWORD, NOW, "Tests")
    (folder / "next/root-key.pem").chmod(0o644)
    with pytest.raises(ProgramError, match="chmod 600"):
        read_chains(folder, PASSWORD, NOW)


def test_only_the_hubs_own_user_may_change_its_trust(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = trust_folder(tmp_path / "trust")
    owner = folder.stat().st_uid
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    with (
        pytest.raises(ProgramError, match="as the user that the hub runs as"),
        rotation_lock(folder),
    ):
        pass
