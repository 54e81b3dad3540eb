"""One child process of a script: a time limit, bounded output, and nothing left of it."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Final

OUTPUT_BYTES_MAX: Final = 16 * 1024 * 1024
"""What a script may write in all, on both streams; who writes more is ended."""

OUTPUT_BYTES_KEPT: Final = 8 * 1024
"""Of each end of a stream's output: its beginning and its end are reported."""

TERM_SECONDS: Final = 2.0
"""How long a script whose time is over has to end by itself."""

DRAIN_SECONDS_MAX: Final = 5.0
"""How long streams of an ended script may stay open: who left its group may hold them."""

_LAUNCHER: Final = Path(__file__).with_name("script_launcher.py")


class ScriptEnd(Enum):
    """How a script's process ended."""

    BY_ITSELF = "by itself"
    TIMED_OUT = "timed out"
    WROTE_TOO_MUCH = "wrote too much"


@dataclass(slots=True)
class Captured:
    """What a stream said: all of it is counted, its beginning and its end are kept."""

    head: bytearray = field(default_factory=bytearray)
    tail: bytearray = field(default_factory=bytearray)
    size: int = 0

    def add(self, chunk: bytes) -> None:
        """Note what was read."""
        self.size += len(chunk)
        room = OUTPUT_BYTES_KEPT - len(self.head)
        self.head += chunk[:room]
        self.tail += chunk[max(room, 0) :]
        del self.tail[:-OUTPUT_BYTES_KEPT]

    def text(self) -> str:
        """Return it as text that can be shown; says how much was left out in the middle."""
        left_out = self.size - len(self.head) - len(self.tail)
        middle = f"\n[... {left_out} bytes left out ...]\n" if left_out else ""
        head, tail = (_shown(bytes(part)) for part in (self.head, self.tail))
        return f"{head}{middle}{tail}"


@dataclass(frozen=True, slots=True)
class Ended:
    """A script that has ended; `exit_code` is negative for the signal that ended it."""

    how: ScriptEnd
    exit_code: int
    output: Captured
    errors: Captured


class _Heard(asyncio.SubprocessProtocol):
    """What a script's process does: its output, its end, and when nobody holds its streams."""

    def __init__(self) -> None:
        self.output, self.errors = Captured(), Captured()
        self.over, self.exited, self.drained = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._open = {1, 2}

    @property
    def is_too_much(self) -> bool:
        """Whether it wrote more than it may."""
        return self.output.size + self.errors.size > OUTPUT_BYTES_MAX

    def pipe_data_received(self, fd: int, data: bytes | str) -> None:
        """Keep what it wrote."""
        assert isinstance(data, bytes), "the streams are read as bytes"
        (self.output if fd == 1 else self.errors).add(data)
        if self.is_too_much:
            self.over.set()

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        """Note that nobody can write to a stream any more."""
        del exc
        self._open.discard(fd)
        if not self._open:
            self.drained.set()

    def process_exited(self) -> None:
        """Note the end, also while something that it started holds its streams."""
        self.over.set()
        self.exited.set()


async def run_process(
    script: Path, *, folder: Path, environment: Mapping[str, str], seconds: float
) -> Ended:
    """Run a script to its end, at most so long; whatever it started in its group ends with it.

    OSError where no process can be made. The script gets this environment and no other, the folder
    as working directory, and nothing to read.
    """
    transport, heard = await asyncio.get_running_loop().subprocess_exec(
        _Heard,
        *(sys.executable, "-I", "-S", str(_LAUNCHER), str(os.getpid()), str(script)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=str(folder),
        env=dict(environment),
        start_new_session=True,
    )
    how = ScriptEnd.BY_ITSELF
    try:
        if not await _within(seconds, heard.over):
            how = ScriptEnd.TIMED_OUT
            _signal_group(transport.get_pid(), signal.SIGTERM)
            await _within(TERM_SECONDS, heard.exited)
        elif heard.is_too_much:
            how = ScriptEnd.WROTE_TOO_MUCH
    finally:
        _signal_group(transport.get_pid(), signal.SIGKILL)
        await heard.exited.wait()
        await _within(DRAIN_SECONDS_MAX, heard.drained)
        transport.close()
    exit_code = transport.get_returncode()
    assert exit_code is not None, "it was waited for"
    return Ended(how, exit_code, heard.output, heard.errors)


async def _within(seconds: float, event: asyncio.Event) -> bool:
    """Return whether it happened in time."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
    return event.is_set()


def _signal_group(pid: int, number: signal.Signals) -> None:
    # The number stays taken while the group has a member; an empty group is no error.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, number)


def _shown(part: bytes) -> str:
    text = part.decode(errors="replace")
    return "".join(each if each.isprintable() or each in "\n\t" else "\ufffd" for each in text)
