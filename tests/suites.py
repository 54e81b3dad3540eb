"""Runs everything that must hold, two suites at a time, and prints the time of each.

    suites.py [NAME...]     only these; without names: all but `long`
    CI=true suites.py       nothing may be skipped

Suites begin in the order of the table, cheap ones first; what fails says so at once, and shows
its output.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

ROOT: Final = Path(__file__).resolve().parent.parent
BIN: Final = Path(sys.executable).parent
SLOTS: Final = 2
"""Suites at a time: mypy beside the tests makes use of a second core."""

POLL_SECONDS: Final = 0.05
INTERRUPTED: Final = 130


@dataclass(frozen=True)
class Suite:
    """A command that must succeed within a bound."""

    name: str
    command: tuple[str, ...]
    seconds_max: int


def _pytest(kind: str, seconds_max: int) -> Suite:
    command = (str(BIN / "python"), "-m", "pytest", "-q", "-rs", f"tests/{kind}")
    return Suite(kind, command, seconds_max)


SUITES: Final = (
    Suite("format", (str(BIN / "ruff"), "format", "--check", "--quiet", "."), 60),
    Suite("lint", (str(BIN / "ruff"), "check", "--quiet", "."), 60),
    Suite("types", (str(BIN / "mypy"),), 480),
    Suite("imports", (str(BIN / "lint-imports"),), 60),
    _pytest("tidy", 180),
    _pytest("unit", 240),
    _pytest("model", 240),
    _pytest("simulation", 1500),
    _pytest("contract", 480),
    _pytest("integration", 900),
    _pytest("e2e", 900),
)
LONG_SUITES: Final = (_pytest("long", 10_800),)


@dataclass
class Running:
    """A suite at work; its output goes to a file, so that no pipe can fill up."""

    suite: Suite
    process: subprocess.Popen[bytes]
    output: IO[bytes]
    started: float

    def overdue(self) -> bool:
        """Whether the suite has had its time."""
        return time.monotonic() - self.started > self.suite.seconds_max


def main(names: Sequence[str]) -> int:
    """Run the named suites, or all; return the exit code."""
    known = {suite.name: suite for suite in (*SUITES, *LONG_SUITES)}
    unknown = [name for name in names if name not in known]
    if unknown:
        _say(f"there is no suite {unknown[0]}; there is {', '.join(known)}")
        return 2
    chosen = [known[name] for name in names] if names else list(SUITES)
    chosen = [suite for suite in chosen if _has_tests(suite)]
    started = time.monotonic()
    failed = _run(chosen)
    seconds = time.monotonic() - started
    if failed:
        _say(f"FAILED in {seconds:.1f} s: {', '.join(failed)}")
        return 1
    _say(f"Everything holds ({len(chosen)} suites, {seconds:.1f} s).")
    return 0


def _has_tests(suite: Suite) -> bool:
    """A kind of test without a file yet is no suite."""
    folder = ROOT / suite.command[-1]
    return "pytest" not in suite.command or any(folder.rglob("test_*.py"))


def _run(suites: Sequence[Suite]) -> list[str]:
    waiting = list(suites)
    running: list[Running] = []
    failed: list[str] = []
    try:
        while waiting or running:
            while waiting and len(running) < SLOTS:
                running.append(_start(waiting.pop(0)))
            for each in list(running):
                code = each.process.poll()
                if code is None and each.overdue():
                    _end(each)
                    code = -signal.SIGKILL
                if code is not None:
                    running.remove(each)
                    if not _tell(each, code):
                        failed.append(each.suite.name)
            time.sleep(POLL_SECONDS)
    finally:
        for each in running:
            _end(each)
    return failed


def _start(suite: Suite) -> Running:
    output = tempfile.TemporaryFile()  # noqa: SIM115 -- closed when the suite has ended
    process = subprocess.Popen(
        suite.command,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    return Running(suite, process, output, time.monotonic())


def _end(running: Running) -> None:
    """End a suite with all that it started; SIGINT lets pytest take down its fixtures."""
    if running.process.poll() is None:
        os.killpg(running.process.pid, signal.SIGINT)
        try:
            running.process.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(running.process.pid, signal.SIGKILL)
            running.process.wait()


def _tell(running: Running, code: int) -> bool:
    """Print how a suite ended; whole output on failure, else its summary and what was skipped."""
    seconds = time.monotonic() - running.started
    running.output.seek(0)
    text = running.output.read().decode(errors="replace").rstrip()
    running.output.close()
    lines = text.splitlines()
    skipped = [line for line in lines if line.startswith("SKIPPED")]
    if not code and skipped and os.environ.get("CI") == "true":
        code = 1
        lines.append("with CI=true nothing may be skipped")
    if code:
        reason = f"took longer than {running.suite.seconds_max} s" if code < 0 else f"exit {code}"
        _say("\n".join(lines))
        _say(f"{running.suite.name:12} FAILED {seconds:7.1f} s  ({reason})")
        return False
    summary = lines[-1].strip("= ") if lines and "pytest" in running.suite.command else ""
    _say(f"{running.suite.name:12} ok     {seconds:7.1f} s  {summary}")
    for line in (*skipped, *(each for each in lines if each.startswith("FIGURES "))):
        _say(f"  {line}")
    return True


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _raise_interrupt(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _raise_interrupt)
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        _say("interrupted")
        sys.exit(INTERRUPTED)
