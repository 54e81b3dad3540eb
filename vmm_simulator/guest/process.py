"""The guest program: `python -m vmm_simulator.guest.process`, started by its host alone.

It holds an exclusive lock on every image for as long as it lives, finds the file system and its
last record by reading the images, and goes on from there. It never writes an image itself: its
writes go to the host over the inherited socket. It ends with its host, at once (PR_SET_PDEATHSIG).
Imports are few on purpose: a machine must start fast.
"""

import argparse
import ctypes
import json
import math
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from service_shell.clock import Clock, SystemClock
from vmm_simulator.guest.filesystem import FileSystemError
from vmm_simulator.guest.frames import Frame, FrameError, Kind, encode_object, parse_object
from vmm_simulator.guest.interface import GuestExit
from vmm_simulator.guest.layout import find_layout
from vmm_simulator.guest.ledger_client import LedgerClient
from vmm_simulator.guest.locks import ImageLockedError, lock_images
from vmm_simulator.guest.manifest import ManifestError
from vmm_simulator.guest.workload import (
    HOST_SECONDS_MAX,
    HostGoneError,
    HostLink,
    StorageFailedError,
    Work,
    Workload,
    WriteRefusedError,
)

SPEC_SECONDS_MAX: Final = 10.0
FAULTS_TOLD_MAX: Final = 5
_PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h
_MICROSECOND: Final = timedelta(microseconds=1)
_EPOCH_BEGIN: Final = datetime(1970, 1, 1, tzinfo=UTC)

_EXITS: Final[Mapping[type[Exception], GuestExit]] = {
    HostGoneError: GuestExit.HOST_GONE,
    WriteRefusedError: GuestExit.WRITE_REFUSED,
    ImageLockedError: GuestExit.LOCKED,
    FileSystemError: GuestExit.UNREADABLE,
    ManifestError: GuestExit.UNREADABLE,
    OSError: GuestExit.UNREADABLE,
    StorageFailedError: GuestExit.STORAGE_FAILED,
    FrameError: GuestExit.PROTOCOL,
}


def main(arguments: Sequence[str]) -> int:
    """Run one guest to its end and return its exit code (see GuestExit)."""
    parser = argparse.ArgumentParser(prog="guest", description="A guest; its host starts it.")
    parser.add_argument("--socket", type=int, required=True, help="inherited descriptor")
    parser.add_argument("--parent", type=int, required=True, help="process id of the host")
    parser.add_argument("--machine", required=True, help="the name shown in a process list")
    options = parser.parse_args(arguments)
    clock = SystemClock()
    if not _end_with_parent(options.parent):
        return GuestExit.HOST_GONE
    host = HostLink(socket.socket(fileno=options.socket))
    try:
        _run(host, clock)
    except tuple(_EXITS) as error:
        code = next(code for kind, code in _EXITS.items() if isinstance(error, kind))
        _log(clock, "guest_failed", exit=code.name, reason=str(error))
        _tell(host, code, str(error), clock)
        return code
    _log(clock, "guest_stopped")
    return GuestExit.STOPPED


def _run(host: HostLink, clock: Clock) -> None:
    spec = _receive_spec(host)
    paths = [Path(path) for path in spec["disks"]]
    images = [os.open(path, os.O_RDONLY | os.O_CLOEXEC) for path in paths]
    lock_images(images, paths)
    layout = find_layout(paths, images)
    window = layout.read_records(images)
    for fault in window.faults[:FAULTS_TOLD_MAX]:
        # A machine boots from a damaged disk too; whether it is one is for others to judge.
        _log(clock, "guest_found_damage", kind=fault.kind, detail=fault.detail)
    facts = {
        "file_system_uuid": layout.file_system_uuid,
        "last_record": window.top_number,
        "faults": len(window.faults),
    }
    _log(clock, "guest_started", machine_id=spec["machine_id"], epoch=spec["epoch"], **facts)
    host.send(encode_object(Kind.READY, facts))
    work = Work(
        machine_id=spec["machine_id"],
        epoch=spec["epoch"],
        records_per_second=spec["records_per_second"],
        layout=layout,
        images=images,
        now_microseconds=lambda: (clock.now() - _EPOCH_BEGIN) // _MICROSECOND,
    )
    ledger = None if spec["ledger_socket"] is None else LedgerClient(Path(spec["ledger_socket"]))
    Workload(work, window.top, host, ledger).run()


def _receive_spec(host: HostLink) -> Mapping[str, Any]:
    host.socket.settimeout(SPEC_SECONDS_MAX)
    frames: list[Frame] = []
    deadline = time.monotonic() + SPEC_SECONDS_MAX
    while not frames:
        if time.monotonic() > deadline:
            raise HostGoneError(f"the host sent no spec within {SPEC_SECONDS_MAX:.0f} s")
        frames = host.receive()
    host.socket.settimeout(HOST_SECONDS_MAX)
    if len(frames) != 1 or frames[0].kind is not Kind.SPEC:
        raise FrameError("the host's first frame is the spec, and it waits for the answer")
    return parse_spec(frames[0].body)


def parse_spec(body: bytes) -> Mapping[str, Any]:
    """Return what the host tells a guest; FrameError names a field that is wrong."""
    spec = parse_object(body)
    checks: Mapping[str, Callable[[Any], object]] = {
        "machine_id": lambda value: isinstance(value, str) and value,
        "epoch": lambda value: type(value) is int and value >= 0,
        "disks": lambda value: (
            isinstance(value, list)
            and value
            and all(isinstance(path, str) and path.startswith("/") for path in value)
        ),
        "records_per_second": lambda value: (
            type(value) in (int, float) and math.isfinite(value) and value >= 0
        ),
        "ledger_socket": lambda value: (
            value is None or (isinstance(value, str) and value.startswith("/"))
        ),
    }
    if set(spec) != set(checks):
        raise FrameError(f"a spec has exactly the fields {', '.join(sorted(checks))}")
    for name, check in checks.items():
        if not check(spec[name]):
            raise FrameError(f"the spec's {name} cannot be used: {spec[name]!r}")
    return spec


def _end_with_parent(parent: int) -> bool:
    """Have the kernel end this process with its host; False when the host is gone already.

    Set first and asked afterwards: a host that died in between has left us to another parent.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    library = ctypes.CDLL(None, use_errno=True)
    if library.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    return os.getppid() == parent


def _tell(host: HostLink, code: GuestExit, reason: str, clock: Clock) -> None:
    try:
        host.send(encode_object(Kind.FAILED, {"exit": int(code), "reason": reason[:1000]}))
    except HostGoneError as error:
        _log(clock, "guest_reason_not_told", reason=str(error))


def _log(clock: Clock, event: str, **fields: object) -> None:
    line = {"timestamp": clock.now().isoformat(), "event": event, "pid": os.getpid(), **fields}
    sys.stderr.write(json.dumps(line) + "\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
