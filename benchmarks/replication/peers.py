"""What else would copy a disk: nbdcopy over TLS, a bare TLS pump in C, rsync, QEMU's backup.

Each is given what favours it: warm pages, an empty target, loopback; each ends when its copy is
durable, but for the pump, which has none. rsync has no encryption.
"""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.channel.processes import NotMeasuredError, end, free_ports, wait_until
from benchmarks.replication.ground import HOST, PRIMARY, Ground

CONNECTIONS: Final = 4
SECONDS_MAX: Final = 300.0
START_SECONDS_MAX: Final = 20.0
PUMP_SOURCE: Final = Path(__file__).with_name("mtls_pump.c")
GRANULARITY_BYTES: Final = 65_536


def run(*command: str, given: str | None = None) -> str:
    """Return what a program prints, or NotMeasuredError with what it complains of."""
    try:
        ended = subprocess.run(  # noqa: S603 -- the programs that are measured
            command, input=given, capture_output=True, text=True, check=False, timeout=SECONDS_MAX
        )
    except FileNotFoundError as error:
        raise NotMeasuredError(f"{command[0]} is not installed") from error
    except subprocess.TimeoutExpired as error:
        raise NotMeasuredError(f"{command[0]}: not within {SECONDS_MAX:g} s") from error
    if ended.returncode != 0:
        raise NotMeasuredError(f"{command[0]} ended with {ended.returncode}: {ended.stderr[-500:]}")
    return ended.stdout


@contextlib.contextmanager
def server(command: Sequence[str], port: int, log: Path) -> Iterator[None]:
    """Run a server until the block is left; it answers at the port when the block begins."""
    with log.open("ab") as file:
        try:
            process = subprocess.Popen(command, stdout=file, stderr=file, text=True)  # noqa: S603 -- as above
        except FileNotFoundError as error:
            raise NotMeasuredError(f"{command[0]} is not installed") from error
    try:
        wait_until(lambda: _answers(port), f"{command[0]} at port {port}", START_SECONDS_MAX)
        yield
    finally:
        end(process)


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


def nbdcopy_seconds(ground: Ground) -> float:
    """Copy the disk with nbdcopy to nbdkit over mutual TLS, flushed; seconds."""
    target = ground.fresh("nbdcopy") / "target.raw"
    with target.open("wb") as file:
        file.truncate(ground.disk_bytes)
    (port,) = free_ports(1)
    command = (
        *("nbdkit", "--foreground", "--ipaddr", HOST, "--port", str(port), "--tls=require"),
        *(f"--tls-certificates={ground.certificates}", "--tls-verify-peer", "--exit-with-parent"),
        *("file", str(target)),
    )
    with server(command, port, ground.folder / "nbdkit.log"):
        url = f"nbds://{PRIMARY}:{port}/?tls-certificates={ground.certificates}"
        began = time.perf_counter()
        run(
            *("nbdcopy", f"--connections={CONNECTIONS}", "--flush", "--destination-is-zero"),
            *(str(ground.source), url),
        )
        seconds = time.perf_counter() - began
    require_equal(ground.source, target)
    return seconds


def build_pump(folder: Path) -> Path:
    """Compile the pump."""
    program = folder / "mtls_pump"
    run(
        *("gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-o", str(program), str(PUMP_SOURCE)),
        *("-lssl", "-lcrypto", "-lpthread"),
    )
    return program


def pump_seconds(ground: Ground, program: Path) -> float:
    """Send the disk's data through the pump; seconds."""
    told = run(str(program), str(ground.certificates), str(ground.source))
    return float(told.split()[1])


class Rsync:
    """rsync to a daemon of its own, over TCP as it is."""

    def __init__(self, ground: Ground, port: int, target: Path) -> None:
        self._ground = ground
        self._target = target
        self._url = f"rsync://{HOST}:{port}/target/"

    @classmethod
    @contextlib.contextmanager
    def opened(cls, ground: Ground) -> Iterator["Rsync"]:
        """Run the daemon over an empty folder."""
        folder = ground.fresh("rsync")
        target = folder / "target"
        target.mkdir()
        (port,) = free_ports(1)
        settings = folder / "rsyncd.conf"
        settings.write_text(
            f"address = {HOST}\nport = {port}\nuse chroot = no\nuid = root\ngid = root\n"
            f"[target]\npath = {target}\nread only = no\n"
        )
        command = ("rsync", "--daemon", "--no-detach", f"--config={settings}")
        with server(command, port, folder / "rsync.log"):
            yield cls(ground, port, target)

    def full_seconds(self) -> float:
        """Copy the whole disk, holes as holes, durably; seconds."""
        for each in self._target.iterdir():
            each.unlink()
        return self._seconds("--whole-file", "--sparse")

    def delta_seconds(self) -> float:
        """Bring what has changed into the target, in place, durably; seconds."""
        return self._seconds("--no-whole-file", "--inplace", f"--block-size={GRANULARITY_BYTES}")

    def _seconds(self, *options: str) -> float:
        began = time.perf_counter()
        run("rsync", *options, "--fsync", "--ignore-times", str(self._ground.source), self._url)
        seconds = time.perf_counter() - began
        require_equal(self._ground.source, self._target / self._ground.source.name)
        return seconds


class Qemu:
    """A QEMU without a guest: it holds the disk, notes what changes, and backs that up over NBD."""

    def __init__(self, ground: Ground, folder: Path, monitor: socket.socket) -> None:
        self._ground = ground
        self._folder = folder
        self._stream = monitor.makefile("rwb")
        self.disk = folder / "disk.raw"
        self.target = folder / "target.raw"
        self._jobs = 0

    @classmethod
    @contextlib.contextmanager
    def opened(cls, ground: Ground) -> Iterator["Qemu"]:
        """Run QEMU on a copy of the disk, and a target that is equal to it, behind TLS."""
        folder = ground.fresh("qemu")
        disk, target = folder / "disk.raw", folder / "target.raw"
        for each in (disk, target):
            run("cp", "--sparse=always", str(ground.source), str(each))
        (port,) = free_ports(1)
        credentials = f"tls-creds-x509,id=tls0,dir={ground.certificates},sanity-check=off"
        nbd = (
            *("qemu-nbd", "--persistent", "--shared=4", "--bind", HOST, "--port", str(port)),
            *("--format=raw", "--cache=writeback", "--object", f"{credentials},endpoint=server"),
            *("--tls-creds=tls0", "--export-name=target", str(target)),
        )
        monitor_path, export_path = folder / "monitor", folder / "export"
        machine = (
            *("qemu-system-x86_64", "-machine", "none", "-nodefaults", "-display", "none"),
            *("-object", f"{credentials},endpoint=client"),
            *("-blockdev", f"driver=raw,node-name=disk,file.driver=file,file.filename={disk}"),
            *("-qmp", f"unix:{monitor_path},server=on,wait=off"),
        )
        with contextlib.ExitStack() as stack:
            stack.enter_context(server(nbd, port, folder / "qemu-nbd.log"))
            with (folder / "qemu.log").open("ab") as log:
                process = subprocess.Popen(machine, stdout=log, stderr=log, text=True)  # noqa: S603 -- as above
            stack.callback(end, process)
            wait_until(monitor_path.exists, "QEMU's monitor", START_SECONDS_MAX)
            monitor = stack.enter_context(socket.socket(socket.AF_UNIX))
            monitor.settimeout(SECONDS_MAX)
            monitor.connect(str(monitor_path))
            qemu = cls(ground, folder, monitor)
            qemu._begin(export_path, port)
            yield qemu

    def _begin(self, export_path: Path, port: int) -> None:
        self._read()  # the greeting
        self._ask("qmp_capabilities")
        self._ask(
            "block-dirty-bitmap-add", node="disk", name="changes", granularity=GRANULARITY_BYTES
        )
        address = {"type": "unix", "data": {"path": str(export_path)}}
        self._ask("nbd-server-start", addr=address)
        self._ask("block-export-add", id="disk", type="nbd", **{"node-name": "disk"}, writable=True)
        inet = {"type": "inet", "host": HOST, "port": str(port)}
        self._ask(
            "blockdev-add",
            driver="nbd",
            server=inet,
            export="target",
            **{"node-name": "target", "tls-creds": "tls0", "tls-hostname": PRIMARY},
        )

    def write(self, seed: int) -> None:
        """Write a change set through QEMU, as a guest would; not measured."""
        lines: list[str] = []
        for offset, data in self._ground.changes(seed):
            content = self._folder / f"change-{len(lines)}"
            content.write_bytes(data)
            lines.append(f"write -s {content} {offset} {len(data)}")
        url = f"nbd+unix:///disk?socket={self._folder / 'export'}"
        run("qemu-io", "-f", "raw", url, given="\n".join([*lines, "flush", "quit", ""]))
        for each in self._folder.glob("change*"):
            each.unlink()

    def incremental_seconds(self) -> float:
        """Back up what has changed; seconds until it is durable at the target."""
        self._jobs += 1
        job = f"backup-{self._jobs}"
        began = time.perf_counter()
        self._ask(
            "blockdev-backup",
            device="disk",
            target="target",
            sync="incremental",
            bitmap="changes",
            **{"job-id": job, "auto-finalize": True, "auto-dismiss": True},
        )
        while True:
            told = self._read()
            data = told.get("data", {})
            if told.get("event") == "BLOCK_JOB_COMPLETED" and data.get("device") == job:
                if "error" in data:
                    raise NotMeasuredError(f"QEMU's backup failed: {data['error']}")
                break
        with self.target.open("rb") as target:
            os.fsync(target.fileno())
        seconds = time.perf_counter() - began
        require_equal(self.disk, self.target)
        return seconds

    def _ask(self, command: str, **arguments: Any) -> None:
        line = json.dumps({"execute": command, "arguments": arguments}) + "\n"
        self._stream.write(line.encode())
        self._stream.flush()
        while True:
            told = self._read()
            if "error" in told:
                raise NotMeasuredError(f"QEMU refuses {command}: {told['error']['desc']}")
            if "return" in told:
                return

    def _read(self) -> dict[str, Any]:
        line = self._stream.readline()
        if not line:
            raise NotMeasuredError("QEMU has ended; see its log")
        told: dict[str, Any] = json.loads(line)
        return told


def require_equal(one: Path, other: Path) -> None:
    """Raise NotMeasuredError unless both files hold the same bytes: who copies less is faster."""
    if shutil.which("cmp") is None:
        raise NotMeasuredError("cmp is not installed")
    run("cmp", str(one), str(other))
