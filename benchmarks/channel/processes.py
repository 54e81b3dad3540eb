"""The processes of a run: started, led, measured, and ended whatever happens."""

import contextlib
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from benchmarks.channel.provision import HOST, Ground

ANSWER_SECONDS_MAX: Final = 90.0
START_SECONDS_MAX: Final = 60.0
STOP_SECONDS_MAX: Final = 10.0
POLL_SECONDS: Final = 0.05


class NotMeasuredError(Exception):
    """A figure could not be measured; says why."""


def wait_until(condition: Callable[[], object], what: str, seconds: float) -> None:
    """Return once the condition holds; NotMeasuredError when it does not within the bound."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise NotMeasuredError(f"{what}: not within {seconds:g} s")
        time.sleep(POLL_SECONDS)


def free_ports(count: int) -> list[int]:
    """Return ports that are free now."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind((HOST, 0))
        return [int(probe.getsockname()[1]) for probe in probes]


def start_module(module: str, *arguments: str, log: Path) -> "subprocess.Popen[str]":
    """Start one of our programs with pipes for its orders and answers."""
    command = (sys.executable, "-m", f"benchmarks.channel.{module}", *arguments)
    with log.open("ab") as file:
        return subprocess.Popen(  # noqa: S603 -- our own programs
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=file, text=True
        )


def end(process: "subprocess.Popen[str]") -> None:
    """End a process of ours."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with contextlib.suppress(BrokenPipeError):  # it was killed with an order on its way
                stream.close()


@dataclass(slots=True)
class Crowd:
    """Several processes of simulated providers, led as one."""

    processes: list["subprocess.Popen[str]"]

    def ask(self, do: str, **more: Any) -> list[dict[str, Any]]:
        """Give all the same order at the same time and return their answers."""
        line = json.dumps({"do": do, **more}) + "\n"
        for process in self.processes:
            _pipe(process.stdin).write(line)
            _pipe(process.stdin).flush()
        return [self._answer(process) for process in self.processes]

    def span(self, do: str, **more: Any) -> float:
        """Return the seconds from the first beginning to the last end of an order."""
        spans = [each["span"] for each in self.ask(do, **more)]
        return max(float(last) for _, last in spans) - min(float(first) for first, _ in spans)

    def count(self, what: str) -> int:
        """Return the sum of a count."""
        return sum(int(each[what]) for each in self.ask("counts"))

    def journal(self) -> dict[str, dict[int, float]]:
        """Return when each provider wrote down which number."""
        return {
            name: {int(seq): moment for seq, moment in lines.items()}
            for told in self.ask("journal")
            for name, lines in told["journal"].items()
        }

    def _answer(self, process: "subprocess.Popen[str]") -> dict[str, Any]:
        line = _pipe(process.stdout).readline()
        if not line:
            raise NotMeasuredError(f"providers' process {process.pid} has ended; see its log")
        told: dict[str, Any] = json.loads(line)
        if "error" in told:
            raise NotMeasuredError(str(told["error"]))
        return told


@contextlib.contextmanager
def crowd(
    ground_file: Path, shares: Sequence[tuple[int, int]], port: int | None = None
) -> Iterator[Crowd]:
    """Run processes of simulated providers, each with its share (first, count)."""
    log = ground_file.parent / "providers.log"
    processes: list[subprocess.Popen[str]] = []
    try:
        for first, count in shares:
            arguments = [str(ground_file), str(first), str(count)]
            if port is not None:
                arguments.append(str(port))
            processes.append(start_module("provider_process", *arguments, log=log))
        for process in processes:
            if not _pipe(process.stdout).readline():
                raise NotMeasuredError(f"the providers' process did not start; see {log}")
        yield Crowd(processes)
    finally:
        for process in processes:
            end(process)


class Hub:
    """The hub under test."""

    def __init__(self, config: Path) -> None:
        self._config = config
        self._folder = config.parent
        self._socket_path = self._folder / "control"
        self._process: subprocess.Popen[str] | None = None
        self._control: socket.socket | None = None
        self._answers: IO[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it is ready."""
        ready = self._folder / "ready.json"
        ready.unlink(missing_ok=True)
        self._process = start_module(
            "hub_process", str(self._config), str(self._socket_path), log=self._folder / "hub.err"
        )
        process, errors = self._process, self._folder / "hub.err"
        wait_until(
            lambda: ready.exists() or process.poll() is not None,
            "the hub is ready",
            START_SECONDS_MAX,
        )
        if not ready.exists():
            last = errors.read_text().strip().rpartition("\n")[2]
            raise NotMeasuredError(f"the hub has ended with {process.poll()}: {last}")
        self._control = socket.socket(socket.AF_UNIX)
        self._control.settimeout(ANSWER_SECONDS_MAX)
        self._control.connect(str(self._socket_path))
        self._answers = self._control.makefile("rb")

    def commit(self, ground: Ground, providers: Sequence[str]) -> float:
        """Commit one event for each provider, in one transaction; return when that began."""
        asked = {"vault_id": ground.vault_id, "providers": list(providers)}
        return float(self._ask(asked)["before"])

    def first_publication(self) -> float:
        """Return when it first published an event over MQTT since the last commit began."""
        moment = self._ask({})["published"]
        if moment is None:
            raise NotMeasuredError("the hub has published nothing since the last commit")
        return float(moment)

    def _ask(self, asked: dict[str, Any]) -> dict[str, Any]:
        assert self._control is not None
        assert self._answers is not None
        self._control.sendall(json.dumps(asked).encode() + b"\n")
        told: dict[str, Any] = json.loads(self._answers.readline())
        return told

    def memory_bytes(self) -> int:
        """Return the resident memory of its process."""
        assert self._process is not None
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
        return int(line.split()[1]) * 1024

    def kill(self) -> None:
        """Kill it with SIGKILL."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        self.close()

    def close(self) -> None:
        """End it."""
        if self._answers is not None:
            self._answers.close()
        if self._control is not None:
            self._control.close()
        if self._process is not None:
            end(self._process)


@contextlib.contextmanager
def mosquitto(folder: Path, ground: Ground) -> Iterator[tuple[int, str]]:
    """Run mosquitto with the same trust; give its port and what it is."""
    program = shutil.which("mosquitto", path="/usr/sbin:/usr/bin:/usr/local/sbin")
    if program is None:
        raise NotMeasuredError("mosquitto is not installed: apt-get install mosquitto")
    (port,) = free_ports(1)
    files = {
        "server.pem": ground.server_chain_pem,
        "server.key": ground.server_key_pem,
        "clients.pem": ground.management_ca_pem + ground.root_pem,
    }
    for name, content in files.items():
        (folder / name).write_text(content)
    configuration = folder / "mosquitto.conf"
    configuration.write_text(
        f"user {_user()}\nper_listener_settings false\nallow_anonymous true\n"
        f"max_queued_messages 10000\nlistener {port} {HOST}\n"
        f"certfile {folder}/server.pem\nkeyfile {folder}/server.key\n"
        f"cafile {folder}/clients.pem\nrequire_certificate true\n"
        "use_identity_as_username true\n"
    )
    version = subprocess.run([program, "-h"], capture_output=True, text=True, check=False)  # noqa: S603 -- found in system folders
    with (folder / "mosquitto.log").open("wb") as log:
        process = subprocess.Popen(  # noqa: S603 -- found in system folders
            [program, "-c", str(configuration)], stdout=log, stderr=log, text=True
        )
    try:
        wait_until(lambda: _answers(port), "mosquitto listens", START_SECONDS_MAX)
        yield port, f"{version.stdout.splitlines()[0]}; {program} -c mosquitto.conf"
    finally:
        end(process)


@contextlib.contextmanager
def bare_server(ground_file: Path) -> Iterator[int]:
    """Run the bare TLS server; give its port."""
    process = start_module("bare_server", str(ground_file), log=ground_file.parent / "bare.log")
    try:
        yield int(_pipe(process.stdout).readline())
    finally:
        end(process)


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex((HOST, port)) == 0


def _user() -> str:
    return pwd.getpwuid(os.getuid()).pw_name


def _pipe(stream: IO[str] | None) -> IO[str]:
    assert stream is not None
    return stream
