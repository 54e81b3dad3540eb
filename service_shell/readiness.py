"""How a daemon says that it is ready, to a file and to systemd."""

import asyncio
import contextlib
import json
import os
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import structlog

from service_shell.atomic_files import write_atomically
from service_shell.errors import ProgramError

READY_FILE_BYTES_MAX: Final = 65_536

log = structlog.get_logger(__name__)


@contextlib.contextmanager
def ready(path: Path | None, facts: Mapping[str, object]) -> Iterator[None]:
    """Say "ready" for as long as the block runs: `{"pid": n, **facts}` in `path`, and systemd."""
    if path is not None:
        _write(path, facts)
    notify("READY=1")
    try:
        yield
    finally:
        notify("STOPPING=1")
        if path is not None:
            _remove(path)


def _write(path: Path, facts: Mapping[str, object]) -> None:
    text = json.dumps({"pid": os.getpid(), **facts}, indent=2, default=str)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, f"{text}\n".encode())
    except OSError as error:
        raise ProgramError(
            f"cannot write the ready file {path}: {error.strerror}; correct ready_file"
        ) from error


def _remove(path: Path) -> None:
    """Remove the file if it is still ours: a successor may have written its own meanwhile."""
    try:
        with path.open("rb") as stream:
            owner = json.loads(stream.read(READY_FILE_BYTES_MAX))
        if isinstance(owner, dict) and owner.get("pid") == os.getpid():
            path.unlink()
    except FileNotFoundError:
        return
    except (OSError, ValueError, RecursionError) as error:
        log.warning("ready_file_not_removed", path=str(path), cause=str(error))


def notify(state: str) -> None:
    """Tell systemd `state` (sd_notify(3)); without systemd nothing happens."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        address = f"\0{address[1:]}"  # the abstract namespace, as sd_notify(3) spells it
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.settimeout(0)  # never blocks
            sender.sendto(state.encode(), address)
    except OSError as error:
        log.warning("service_manager_not_notified", state=state, cause=str(error))


def watchdog_interval_seconds() -> float | None:
    """Return how often systemd wants a sign of life (half its limit), None where it wants none."""
    limit = os.environ.get("WATCHDOG_USEC", "")
    owner = os.environ.get("WATCHDOG_PID", str(os.getpid()))
    if not limit.isascii() or not limit.isdigit() or int(limit) == 0 or owner != str(os.getpid()):
        return None
    return int(limit) / 1_000_000 / 2


async def keep_watchdog() -> None:
    """Give systemd a sign of life for as long as the event loop turns; returns if none is due."""
    interval = watchdog_interval_seconds()
    while interval is not None:
        notify("WATCHDOG=1")
        await asyncio.sleep(interval)
