"""Starts, watches and ends the processes of an estate; every wait has a bound and a culprit."""

import asyncio
import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from lab import bound_process
from lab.layout import Layout
from lab.process_table import (
    MARK,
    ProcessRecord,
    boot_id,
    family,
    marked_processes,
    process_facts,
    send,
    still_living,
)
from service_shell.errors import ProgramError

READY_SECONDS_MAX: Final = 60.0
STOP_SECONDS_MAX: Final = 10.0
KILL_SECONDS_MAX: Final = 10.0
POLL_SECONDS: Final = 0.05
TAIL_LINES: Final = 20
TAIL_BYTES: Final = 16_384
OUTPUT_BYTES_MAX: Final = 65_536


@dataclass(frozen=True, slots=True)
class ProcessPlan:
    """How a process is started."""

    name: str
    command: tuple[str, ...]
    config: Path
    ready_file: Path
    inherited: tuple[int, ...] = ()


@dataclass(slots=True)
class Launcher:
    """Starts processes for one lab; `bound` ones cannot outlive this process."""

    layout: Layout
    bound: bool
    _children: dict[int, subprocess.Popen[bytes]] = field(default_factory=dict)
    _shown: set[int] = field(default_factory=set)

    def start(self, plan: ProcessPlan) -> ProcessRecord:
        """Start a process in a session of its own; it need not be ready yet."""
        self.layout.logs.mkdir(parents=True, exist_ok=True)
        plan.ready_file.unlink(missing_ok=True)
        command = list(plan.command)
        if self.bound:
            command = [sys.executable, "-I", "-S", bound_process.__file__, str(os.getpid())]
            command.extend(plan.command)
        with self.layout.output(plan.name).open("ab") as output:
            child = subprocess.Popen(  # noqa: S603 -- our own programs, with paths of our own
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment(self.layout),
                start_new_session=True,
                pass_fds=plan.inherited,
            )
        self._children[child.pid] = child
        facts = process_facts(child.pid)
        if facts is None:
            raise ProgramError(f"{plan.name} ended at once; see {self.layout.output(plan.name)}")
        return ProcessRecord(
            name=plan.name,
            pid=child.pid,
            start_ticks=facts.start_ticks,
            boot_id=boot_id(),
            command=plan.command,
            config=str(plan.config),
            log=str(self.layout.log(plan.name)),
            ready_file=str(plan.ready_file),
        )

    def reap(self) -> None:
        """Take note of children that have ended, so that they do not stay as zombies."""
        for child in list(self._children.values()):
            if child.poll() is not None:
                del self._children[child.pid]

    async def wait_ready(
        self, record: ProcessRecord, seconds: float = READY_SECONDS_MAX
    ) -> Mapping[str, object]:
        """Return what the ready file says, or raise with the culprit's last lines."""
        path = Path(record.ready_file)
        deadline = asyncio.get_running_loop().time() + seconds
        while asyncio.get_running_loop().time() < deadline:
            self.reap()
            facts = _ready_facts(path)
            if facts.get("pid") == record.pid:
                return facts
            if not record.alive:
                raise ProgramError(f"{record.name} ended before it was ready: {self.tail(record)}")
            await asyncio.sleep(POLL_SECONDS)
        raise ProgramError(f"{record.name} was not ready in {seconds:g} s: {self.tail(record)}")

    def tail(self, record: ProcessRecord) -> str:
        """Return the last line of what a process said, and print the last ones, once."""
        lines = last_lines(self.layout.output(record.name)) or last_lines(Path(record.log))
        if record.pid not in self._shown:
            self._shown.add(record.pid)
            show_tail(record.name, lines)
        last = lines[-1] if lines else "it said nothing"
        return f"{last} (log: {record.log})"

    async def end(self, records: Sequence[ProcessRecord]) -> None:
        """Ask the processes to end, together; what does not within the bound is killed."""
        living = [record for record in records if record.alive]
        send([record.pid for record in living], signal.SIGTERM)
        # A stopped process (SIGSTOP) takes the request only when it goes on.
        send([record.pid for record in living], signal.SIGCONT)
        await self._gone([record.pid for record in living], STOP_SECONDS_MAX)
        for record in living:
            await self.kill(record.pid)

    async def kill(self, pid: int) -> None:
        """Kill a daemon and all that it started; return when they are gone."""
        deadline = asyncio.get_running_loop().time() + KILL_SECONDS_MAX
        doomed = family(pid)
        while members := still_living(doomed):
            send(members, signal.SIGKILL)
            self.reap()
            if asyncio.get_running_loop().time() > deadline:
                raise ProgramError(f"processes {members} do not end after SIGKILL; look at them")
            await asyncio.sleep(POLL_SECONDS)
        self.reap()

    async def end_leftovers(self) -> list[int]:
        """Kill whatever still carries this lab's mark; return what there was."""
        found: list[int] = []
        deadline = asyncio.get_running_loop().time() + KILL_SECONDS_MAX
        while members := marked_processes(self.layout.root):
            found.extend(pid for pid in members if pid not in found)
            send(members, signal.SIGKILL)
            self.reap()
            if asyncio.get_running_loop().time() > deadline:
                raise ProgramError(f"processes {members} do not end after SIGKILL; look at them")
            await asyncio.sleep(POLL_SECONDS)
        self.reap()
        return found

    async def _gone(self, pids: Sequence[int], seconds: float) -> bool:
        deadline = asyncio.get_running_loop().time() + seconds
        while asyncio.get_running_loop().time() < deadline:
            self.reap()
            if not any(_lives(pid) for pid in pids):
                return True
            await asyncio.sleep(POLL_SECONDS)
        return False


async def run_to_end(
    layout: Layout, command: Sequence[str], seconds: float, more: Mapping[str, str] | None = None
) -> str:
    """Run one short program and return its output; a failure shows what it said.

    `more`: variables of its environment beyond ours.
    """
    arguments = [sys.executable, "-I", "-S", bound_process.__file__, str(os.getpid()), *command]
    child = await asyncio.create_subprocess_exec(
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=environment(layout) | dict(more or {}),
    )
    try:
        async with asyncio.timeout(seconds):
            output, _ = await child.communicate()
    except TimeoutError as error:
        raise ProgramError(f"{' '.join(command)} took longer than {seconds:g} s") from error
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    text = output[-OUTPUT_BYTES_MAX:].decode(errors="replace").strip()
    if child.returncode != 0:
        raise ProgramError(f"{' '.join(command)} failed ({child.returncode}): {text}")
    return text


def environment(layout: Layout) -> dict[str, str]:
    """Return the environment of all processes of a lab: ours, and the mark they are found by."""
    return {**os.environ, MARK: str(layout.root), "PYTHONUNBUFFERED": "1"}


def program(name: str) -> str:
    """Return the path of one of our console scripts, beside the Python that runs this."""
    path = Path(sys.executable).parent / name
    if not path.exists():
        raise ProgramError(f"{path} is missing; install the programs with: make set-up")
    return str(path)


@contextlib.contextmanager
def exclusive(layout: Layout) -> Iterator[None]:
    """Hold this lab's lock; ProgramError names the command that holds it already."""
    layout.root.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(layout.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(descriptor, 200, 0).decode(errors="replace").strip()
            raise ProgramError(
                f"another lab command works in {layout.root} ({holder}); wait for it or stop it"
            ) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"pid {os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def last_lines(path: Path, count: int = TAIL_LINES) -> list[str]:
    """Return the last lines of a file; none when it is not there."""
    try:
        with path.open("rb") as stream:
            stream.seek(max(0, path.stat().st_size - TAIL_BYTES))
            return stream.read().decode(errors="replace").splitlines()[-count:]
    except FileNotFoundError:
        return []


def show_tail(name: str, lines: Sequence[str]) -> None:
    """Print what a failed process said last."""
    if lines:
        sys.stderr.write(f"--- last lines of {name} ---\n")
        sys.stderr.write("\n".join(lines) + "\n---\n")


def _ready_facts(path: Path) -> Mapping[str, object]:
    """Return what a ready file says; nothing when it is not there or of another make."""
    try:
        facts = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return facts if isinstance(facts, dict) else {}


def _lives(pid: int) -> bool:
    facts = process_facts(pid)
    return facts is not None and facts.state not in ("Z", "X")
