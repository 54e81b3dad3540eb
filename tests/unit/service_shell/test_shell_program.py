"""How programs run and end; signals are sent to this very process, inside the loop's handlers."""

import asyncio
import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog
import typer
import uvloop
from typer.testing import CliRunner

from service_shell import logs
from service_shell.configuration import LogSettings, Settings
from service_shell.errors import ProgramError
from service_shell.logs import configure_logging
from service_shell.program import build_cli, run_program

COMPACT_JWS = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhbm4ifQ.c2lnbmF0dXJlLXZhbHVl"


class Example(Settings):
    """A configuration."""

    name: str
    port: int = 1


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Path]:
    """A log file, and the former logging afterwards."""
    root = logging.getLogger()
    level = root.level
    file = tmp_path / "program.log"
    configure_logging(LogSettings(file=file), "example")
    yield file
    for handler in root.handlers[:]:
        if handler.name == logs._HANDLER_NAME:
            root.removeHandler(handler)
            handler.close()
    root.setLevel(level)
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()


def _events(log: Path) -> list[str]:
    return [json.loads(line)["event"] for line in log.read_text().splitlines()]


@pytest.mark.usefixtures("log")
def test_a_program_that_returns_ends_with_zero() -> None:
    async def main(_stop: asyncio.Event) -> None:
        assert isinstance(asyncio.get_running_loop(), uvloop.Loop)

    assert run_program(main, require_uvloop=True) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("with_uvloop", [True, False])
def test_a_signal_sets_the_event_and_the_program_ends_in_order(
    log: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, with_uvloop: bool
) -> None:
    if not with_uvloop:
        monkeypatch.setitem(sys.modules, "uvloop", None)
    ended: list[str] = []

    async def main(stop: asyncio.Event) -> None:
        os.kill(os.getpid(), number)
        await stop.wait()
        ended.append("in order")

    assert run_program(main, require_uvloop=with_uvloop) == 0
    assert ended == ["in order"]
    assert _events(log) == ["program_stop_asked"]


def test_a_missing_uvloop_is_named_where_it_is_needed(
    log: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "uvloop", None)

    async def main(_stop: asyncio.Event) -> None:
        pytest.fail("must not run")

    assert run_program(main, require_uvloop=True) == 1
    assert "uvloop is missing" in capsys.readouterr().err
    assert _events(log) == ["program_failed"]


def test_a_second_signal_ends_a_program_that_hangs(
    log: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def main(stop: asyncio.Event) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        await stop.wait()
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.Event().wait()

    assert run_program(main, require_uvloop=True) == 1
    assert "stopped by force" in capsys.readouterr().err
    assert _events(log) == ["program_stop_asked", "program_stop_forced", "program_failed"]


def test_a_program_that_does_not_end_is_cancelled(
    log: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def main(_stop: asyncio.Event) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.Event().wait()

    assert run_program(main, require_uvloop=True, stop_seconds_max=0.05) == 1
    assert "stopped by force" in capsys.readouterr().err
    assert "program_stop_overdue" in _events(log)


async def _fail_in_a_group(_stop: asyncio.Event) -> None:
    async def fail() -> None:
        raise ProgramError("port in use; choose another", exit_code=3)

    async with asyncio.TaskGroup() as group:
        group.create_task(fail())


@pytest.mark.usefixtures("log")
def test_a_program_error_is_one_line_also_out_of_task_groups(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run_program(_fail_in_a_group, require_uvloop=True) == 3
    assert capsys.readouterr().err == "error: port in use; choose another\n"


def test_an_unexpected_error_is_one_line_and_its_traceback_is_in_the_log(
    log: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def main(_stop: asyncio.Event) -> None:
        raise ValueError(f"two\nlines with {COMPACT_JWS}")

    assert run_program(main, require_uvloop=True) == 70
    shown = capsys.readouterr().err
    assert shown == f"internal error: ValueError: two lines with [redacted]; see {log}\n"
    text = log.read_text()
    assert "program_crashed" in text
    assert "Traceback" in text
    assert COMPACT_JWS not in text


def test_an_error_that_is_no_exception_is_reported_too(
    log: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class PanicError(BaseException):
        """What an extension module written in Rust may raise."""

    async def main(_stop: asyncio.Event) -> None:
        raise PanicError("rust")

    assert run_program(main, require_uvloop=True) == 70
    assert capsys.readouterr().err.startswith("internal error: PanicError: rust")
    assert "program_crashed" in _events(log)


def _application(run: Callable[[Example], int]) -> typer.Typer:
    application = build_cli("example", "1.2.3", "An example.", Example, run)

    @application.command()
    def fail(*, known: bool = False) -> None:
        """Fail."""
        if known:
            raise ProgramError("disk full; make room", exit_code=4)
        raise ValueError("oops")

    @application.command()
    def echo(word: str) -> None:
        """Repeat a word."""
        typer.echo(word)

    return application


def _file(folder: Path, text: str) -> str:
    file = folder / "example.yaml"
    file.write_text(text)
    return str(file)


def test_the_version_and_the_help_are_shown() -> None:
    application = _application(lambda _: 0)
    shown = CliRunner().invoke(application, ["--version"])
    assert (shown.exit_code, shown.output) == (0, "example 1.2.3\n")
    shown = CliRunner().invoke(application, ["--help"])
    assert shown.exit_code == 0
    for word in ("An example.", "run", "config", "fail", "echo"):
        assert word in shown.output


def test_run_passes_the_configuration_and_gives_back_the_exit_code(tmp_path: Path) -> None:
    seen: list[Example] = []

    def run(configuration: Example) -> int:
        seen.append(configuration)
        return 5

    file = _file(tmp_path, "name: hub\n")
    shown = CliRunner().invoke(_application(run), ["run", "--config", file])
    assert shown.exit_code == 5
    assert seen == [Example(name="hub")]


@pytest.mark.parametrize("command", [["run", "--config"], ["config", "check"]])
@pytest.mark.usefixtures("log")
def test_a_wrong_configuration_is_one_line(tmp_path: Path, command: list[str]) -> None:
    file = _file(tmp_path, "name: hub\nprot: 1\n")
    shown = CliRunner().invoke(_application(lambda _: 0), [*command, file])
    assert shown.exit_code == 1
    assert shown.stderr == f"error: {file}:2: prot: unknown key; did you mean port?\n"
    assert shown.stdout == ""


def test_a_right_configuration_is_called_valid(tmp_path: Path) -> None:
    file = _file(tmp_path, "name: hub\n")
    shown = CliRunner().invoke(_application(lambda _: 0), ["config", "check", file])
    assert (shown.exit_code, shown.output) == (0, f"{file}: valid\n")


@pytest.mark.usefixtures("log")
def test_added_commands_report_their_errors_the_same_way() -> None:
    application = _application(lambda _: 0)
    shown = CliRunner().invoke(application, ["fail", "--known"])
    assert (shown.exit_code, shown.stderr) == (4, "error: disk full; make room\n")
    shown = CliRunner().invoke(application, ["fail"])
    assert shown.exit_code == 70
    assert shown.stderr.startswith("internal error: ValueError: oops; see ")
    assert CliRunner().invoke(application, ["echo", "hello"]).output == "hello\n"


@pytest.mark.parametrize("arguments", [["run"], ["run", "--confg", "x"], ["nothing"]])
def test_wrong_usage_ends_with_two(arguments: list[str]) -> None:
    assert CliRunner().invoke(_application(lambda _: 0), arguments).exit_code == 2


CRASH = """
import asyncio
from pathlib import Path
from service_shell.configuration import LogSettings, Settings
from service_shell.logs import configure_logging
from service_shell.program import build_cli, run_program
from service_shell.readiness import ready
class Example(Settings):
    log: LogSettings
    ready_file: Path
    crash: bool
def run(example):
    configure_logging(example.log, "example")
    async def main(stop):
        if example.crash:
            raise RuntimeError("oops")
        with ready(example.ready_file, {}):
            await stop.wait()
    return run_program(main, require_uvloop=True)
build_cli("example", "1", "An example.", Example, run)()
"""


def _process(folder: Path, *, crash: bool) -> subprocess.Popen[str]:
    text = f"log: {{file: x.log}}\nready_file: ready.json\ncrash: {str(crash).lower()}\n"
    return subprocess.Popen(
        [sys.executable, "-c", CRASH, "run", "--config", _file(folder, text)],
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[3],
    )


def test_a_crash_of_a_real_process_shows_one_line(tmp_path: Path) -> None:
    process = _process(tmp_path, crash=True)
    _, shown = process.communicate(timeout=60)
    assert process.returncode == 70
    assert shown == f"internal error: RuntimeError: oops; see {tmp_path / 'x.log'}\n"
    assert "Traceback" in (tmp_path / "x.log").read_text()


async def test_a_real_process_ends_in_order_at_a_signal(tmp_path: Path) -> None:
    process = _process(tmp_path, crash=False)
    try:
        async with asyncio.timeout(60):
            while not (tmp_path / "ready.json").exists():
                assert process.poll() is None
                await asyncio.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        _, shown = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (process.returncode, shown) == (0, "")
    assert not (tmp_path / "ready.json").exists()
