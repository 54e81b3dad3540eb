"""The files of a root's replacement: each step is one rename, so that a crash harms nothing.

Part of the composition root. Below `trust/`: without a folder `next` there is one chain;
with it both are trusted and the present one is shown; with `next/finished` the new chain alone
holds, also before its files have taken the places of the former ones (`settle` does that, and does
it again after a crash).
"""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Final

from certs.chain import DamagedTrustError, TrustChain
from certs.roots import RootsRefusedError, verify_roots
from certs.trusted_chains import TrustedChains
from service_shell.errors import ProgramError
from service_shell.secret_files import read_secret, write_secret

SECRET_BYTES_MAX: Final = 65_536

NEXT_FOLDER: Final = "next"
ANNOUNCEMENT_FILE: Final = "announcement.jws"
RETIREMENT_FILE: Final = "retirement.jws"
FINISHED_FILE: Final = "finished"
STATEMENT_FILE: Final = "roots.jws"
ROOTS_FILE: Final = "roots.pem"
_ROOT_KEY_FILE: Final = "root-key.pem"
_STAGED_FOLDER: Final = "next.new"
_SETTLED_FOLDER: Final = "next.settled"
_LOCK_FILE: Final = "rotation.lock"


@contextmanager
def rotation_lock(directory: Path) -> Iterator[None]:
    """Hold the one rotation lock while the block runs; ProgramError when somebody else does."""
    owner = directory.stat().st_uid
    if owner != os.geteuid():
        # What is written now must be readable for the hub, or it would not start any more.
        raise ProgramError(
            f"{directory} belongs to uid {owner}: give this command as the user that the hub runs"
            f" as, for example: setpriv --reuid {owner} --clear-groups service-hub trust ..."
        )
    descriptor = os.open(directory / _LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ProgramError(
                f"another command changes the trust in {directory} now: try again when it is done"
            ) from error
        yield
    finally:
        os.close(descriptor)


def folder_files(directory: Path) -> dict[str, bytes]:
    """Return the files of a trust folder; ProgramError when others may read one."""
    return {
        path.name: read_secret(path, SECRET_BYTES_MAX)
        for path in directory.iterdir()
        if path.is_file() and path.name != _LOCK_FILE
    }


def is_rotating(directory: Path) -> bool:
    """Return whether the root is being replaced."""
    return (directory / NEXT_FOLDER).is_dir()


def is_finished(directory: Path) -> bool:
    """Return whether trust in the former root was ended and is not settled yet."""
    return (directory / NEXT_FOLDER / FINISHED_FILE).exists()


def stamp(directory: Path) -> tuple[bool, bool, int]:
    """Return something that changes with each step of a rotation."""
    changed_at = (directory / "root.pem").stat().st_mtime_ns
    return is_rotating(directory), is_finished(directory), changed_at


def read_chains(directory: Path, password: bytes, now: datetime) -> TrustedChains:
    """Return the chains that hold now; DamagedTrustError names the file that is wrong."""
    following = directory / NEXT_FOLDER
    if is_finished(directory):
        files = folder_files(following)
        return _sole(files, password, now, statement_file=RETIREMENT_FILE)
    files = folder_files(directory)
    if not is_rotating(directory):
        return _sole(files, password, now, statement_file=STATEMENT_FILE)
    present = TrustChain.from_files(files, password)
    next_files = folder_files(following)
    try:
        successor = TrustChain.from_files(next_files, password)
        chains = TrustedChains(present, successor)
        return _stated(chains, next_files.get(ANNOUNCEMENT_FILE), ANNOUNCEMENT_FILE, now)
    except DamagedTrustError as error:
        raise DamagedTrustError(f"{NEXT_FOLDER}/: {error}") from error


def _sole(
    files: dict[str, bytes], password: bytes, now: datetime, *, statement_file: str
) -> TrustedChains:
    chains = TrustedChains(TrustChain.from_files(files, password))
    if statement_file not in files:
        return chains
    return _stated(chains, files[statement_file], statement_file, now)


def _stated(
    chains: TrustedChains, statement: bytes | None, name: str, now: datetime
) -> TrustedChains:
    """Return the chains with the statement on them, checked as a provider will check it."""
    text = (statement or b"").decode("ascii", errors="replace").strip()
    try:
        roots = verify_roots(text, chains.present.root_pem, now)
    except RootsRefusedError as error:
        raise DamagedTrustError(f"{name} cannot be used: {error}") from error
    if roots.pem != chains.roots_pem:
        raise DamagedTrustError(f"{name} speaks of other roots than those beside it")
    return TrustedChains(chains.present, chains.successor, statement=text, serial=roots.serial)


def announce(directory: Path, password: bytes, now: datetime, organization: str) -> TrustedChains:
    """Make the next chain and have the present root sign it; both are trusted from then on.

    The caller holds the rotation lock. ProgramError when a rotation is under way.
    """
    if is_rotating(directory):
        raise ProgramError(
            "the root is being replaced already: see `service-hub trust status`, and end it with "
            "`service-hub trust finish-rotation`"
        )
    before = read_chains(directory, password, now)
    serial = before.serial + 1
    generation = (serial + 1) // 2 + 1
    successor = TrustChain.create(now, organization, generation)
    files = successor.to_files(password)
    files[ANNOUNCEMENT_FILE] = before.present.state_roots(serial, successor).encode()
    files[RETIREMENT_FILE] = successor.state_roots(serial + 1).encode()
    staged = directory / _STAGED_FOLDER
    _discard(staged)
    for name, content in files.items():
        write_secret(staged / name, content)
    # For operators' clients: before the switch, so that nobody finds one root where there are two.
    write_secret(
        directory / ROOTS_FILE, (before.present.root_pem + successor.root_pem).encode("ascii")
    )
    staged.rename(directory / NEXT_FOLDER)
    _sync(directory)
    return read_chains(directory, password, now)


def finish(directory: Path) -> None:
    """End trust in the former root; the caller holds the lock and has decided."""
    write_secret(directory / NEXT_FOLDER / FINISHED_FILE, b"finished\n")


def settle(directory: Path) -> bool:
    """Put the files of a finished rotation in the places of the former; true when it was due.

    Until the folder is renamed, `finished` says which files hold: killed in between, the next call
    does it all again.
    """
    _discard(directory / _SETTLED_FOLDER)
    if not is_finished(directory):
        return False
    with rotation_lock(directory):
        files = folder_files(directory / NEXT_FOLDER)
        if _ROOT_KEY_FILE not in files:
            (directory / _ROOT_KEY_FILE).unlink(missing_ok=True)  # the former root's
        for name, content in files.items():
            if name not in {FINISHED_FILE, ANNOUNCEMENT_FILE}:
                place = STATEMENT_FILE if name == RETIREMENT_FILE else name
                write_secret(directory / place, content)
        write_secret(directory / ROOTS_FILE, files["root.pem"])
        (directory / NEXT_FOLDER).rename(directory / _SETTLED_FOLDER)
        _sync(directory)
        _discard(directory / _SETTLED_FOLDER)
    return True


def _discard(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)


def _sync(folder: Path) -> None:
    # Without this the rename itself may be lost (fsync(2)).
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
