"""How a daemon runs and ends: event loop, signals, exit codes, and its command line."""

import asyncio
import gc
import resource
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

import structlog
import typer
from typer.core import TyperGroup

from service_shell.configuration import LogSettings, Settings, load_configuration
from service_shell.errors import (
    INTERNAL_ERROR_EXIT_CODE,
    INTERRUPTED_EXIT_CODE,
    ProgramError,
    first_cause,
    program_error_in,
)
from service_shell.logs import configure_logging, flush_logs, is_configured, log_file
from service_shell.readiness import keep_watchdog
from service_shell.redaction import redact_text

STOP_SECONDS_MAX: Final = 30.0
"""Longest a program may take to end after it was asked to; then it is cancelled."""

log = structlog.get_logger(__name__)

COLLECTED_AFTER: Final = (50_000, 20, 100)
"""How many new objects, and rounds over the young ones, before older ones are looked through.

A hub keeps a hundred thousand objects that are no garbage; with Python's own figures it spends a
seventh of its time on looking through them.
"""

SettingsT = TypeVar("SettingsT", bound=Settings)
LoopFactory = Callable[[], asyncio.AbstractEventLoop]


def run_program(
    main: Callable[[asyncio.Event], Awaitable[None]],
    *,
    require_uvloop: bool,
    stop_seconds_max: float = STOP_SECONDS_MAX,
) -> int:
    """Run `main` until it returns and give back the exit code; SIGTERM and SIGINT set its event.

    A ProgramError becomes its one line on standard error; anything else one line that names the
    log, where the traceback is. A second signal, or `stop_seconds_max` after the first, cancels.
    """
    _allow_many_connections()
    gc.freeze()  # what was imported stays
    gc.set_threshold(*COLLECTED_AFTER)
    try:
        with asyncio.Runner(loop_factory=_loop_factory(require_uvloop=require_uvloop)) as runner:
            return runner.run(_supervise(main, stop_seconds_max))
    except SystemExit:
        raise
    except KeyboardInterrupt:  # Ctrl-C before the signal handlers stood, or while the loop closes
        return INTERRUPTED_EXIT_CODE
    except BaseException as error:  # noqa: BLE001 -- the outermost edge: every error ends here
        return report_failure(error)
    finally:
        flush_logs()


def report_failure(error: BaseException) -> int:
    """Print the one line that an operator gets for `error` and return the exit code."""
    known = program_error_in(error)
    file = log_file()
    if known is not None:
        if file is not None:
            # On a console the line below says it all; in a file it would be missing.
            log.error("program_failed", cause=str(known))
            flush_logs()
        _print_line(f"error: {known}")
        return known.exit_code
    if not is_configured():
        # Before a configuration was read there is no file that could take the traceback.
        configure_logging(LogSettings(), "program")
    log.critical("program_crashed", exc_info=error)
    flush_logs()
    cause = first_cause(error)
    text = redact_text(f"{type(cause).__name__}: {cause}")
    _print_line(f"internal error: {' '.join(text.split())}; see {file or 'the log above'}")
    return INTERNAL_ERROR_EXIT_CODE


def build_cli(
    name: str,
    version: str,
    summary: str,
    configuration: type[SettingsT],
    run: Callable[[SettingsT], int],
) -> typer.Typer:
    """Return `run`, `config check` and `--version`; the program adds commands of its own to it.

    Every command, also an added one, may raise ProgramError: it becomes one line and an exit code.
    """
    application = typer.Typer(
        name=name,
        help=summary,
        cls=_ReportingGroup,
        add_completion=False,
        no_args_is_help=True,
        rich_markup_mode=None,
        # Typer's own tracebacks would print local variables, which may hold keys.
        pretty_exceptions_enable=False,
    )
    checks = typer.Typer(help="Look at a configuration file.", no_args_is_help=True)
    application.add_typer(checks, name="config")

    def show_version(*, wanted: bool) -> None:
        if wanted:
            typer.echo(f"{name} {version}")
            raise typer.Exit

    @application.callback()
    def options(
        *,
        version: Annotated[
            bool,
            typer.Option(
                "--version", is_eager=True, callback=show_version, help="Print it and exit."
            ),
        ] = False,
    ) -> None:
        del version  # its callback has done all there is to do

    options.__doc__ = summary

    @application.command("run")
    def run_command(config: Annotated[Path, typer.Option(help="The configuration file.")]) -> None:
        """Run until SIGTERM or Ctrl-C."""
        raise typer.Exit(run(load_configuration(config, configuration)))

    @checks.command("check")
    def check_command(file: Annotated[Path, typer.Argument(help="The file to check.")]) -> None:
        """Say whether the file is a valid configuration, and what is wrong with it."""
        load_configuration(file, configuration)
        typer.echo(f"{file}: valid")

    return application


class _ReportingGroup(TyperGroup):
    """The commands of a program; an error of any of them becomes one line and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (typer.Exit, typer.Abort, typer.TyperException):
            raise
        except Exception as error:
            raise typer.Exit(report_failure(error)) from error


async def _supervise(
    main: Callable[[asyncio.Event], Awaitable[None]], stop_seconds_max: float
) -> int:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        watchdog = group.create_task(keep_watchdog())
        work = group.create_task(_await(main(stop)))

        def ask_to_stop(number: signal.Signals) -> None:
            if stop.is_set():
                log.warning("program_stop_forced", signal=number.name)
                work.cancel()
                return
            log.info("program_stop_asked", signal=number.name)
            stop.set()
            loop.call_later(stop_seconds_max, give_up)

        def give_up() -> None:
            if not work.done():
                log.error("program_stop_overdue", seconds=stop_seconds_max)
                work.cancel()

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, ask_to_stop, number)
        try:
            await asyncio.wait([work])
        finally:
            watchdog.cancel()
    if work.cancelled():
        raise ProgramError("stopped by force; what was open is taken up at the next start")
    return 0


def _allow_many_connections() -> None:
    """Raise the limit of open files to what this process may take; 1,024 is usual, and too few."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


async def _await(main: Awaitable[None]) -> None:
    await main


def _loop_factory(*, require_uvloop: bool) -> LoopFactory:
    try:
        import uvloop  # noqa: PLC0415 -- the one place that may do without it
    except ImportError as error:
        if require_uvloop:
            raise ProgramError(
                "uvloop is missing; install it into this environment: pip install uvloop"
            ) from error
        return asyncio.new_event_loop
    return uvloop.new_event_loop


def _print_line(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()
