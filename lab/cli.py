"""The lab's command line; `make` offers the same words."""

import asyncio
import os
import signal
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from lab import VERSION
from lab.commands import (
    kill_process,
    lower_estate,
    show_status,
    signal_named,
    start_process,
)
from lab.estate import load_estate
from lab.layout import Layout
from lab.line_control import change_line
from lab.line_orders import Carried, LineDoes, LineOrder
from lab.process_table import process_facts
from service_shell.configuration import LogSettings
from service_shell.errors import ProgramError
from service_shell.logs import configure_logging, flush_logs
from service_shell.program import report_failure

LAB_FOLDER: Final = Path(".lab")
DEFAULT_ESTATE: Final = Path("deploy/lab/tokyo-osaka.yaml")
ANCESTORS_MAX: Final = 64
RED_EXIT_CODE: Final = 1

application = typer.Typer(
    name="site-recovery-lab",
    help="Build an estate of sites on this machine and run guided disasters on it.",
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
estates = typer.Typer(help="Look at an estate file.", no_args_is_help=True)
application.add_typer(estates, name="config")

FolderOption = Annotated[Path, typer.Option("--lab", help="Folder of the lab.")]
EstateOption = Annotated[Path, typer.Option("--estate", help="The estate file.")]
DiskOption = Annotated[
    Path | None, typer.Option("--disk", help="A raw image of your own to protect a copy of.")
]
ProcessArgument = Annotated[str, typer.Argument(help="hub, relay, SITE/agent or SITE/vmm.")]


def main() -> None:
    """Run the command line."""
    application()


@application.callback(invoke_without_command=True)
def options(
    *, version: Annotated[bool, typer.Option("--version", help="Print it and exit.")] = False
) -> None:
    """Build an estate of sites on this machine and run guided disasters on it."""
    if version:
        typer.echo(f"site-recovery-lab {VERSION}")
        raise typer.Exit


@application.command("run")
def run_command(
    estate: EstateOption = DEFAULT_ESTATE,
    disk: DiskOption = None,
    lab: FolderOption = LAB_FOLDER,
    ends_with: Annotated[
        int | None, typer.Option(help="End when this ancestor process ends.")
    ] = None,
) -> None:
    """Build the estate, tell the story, write the report, stop everything."""
    # The SDK takes a second to import: commands that do without it are quick.
    from lab.story_commands import run_story  # noqa: PLC0415 -- as the comment says

    green = _run(lab, run_story(Layout.at(lab), estate.absolute(), disk), ends_with)
    raise typer.Exit(0 if green else RED_EXIT_CODE)


@application.command("up")
def up_command(
    *,
    estate: EstateOption = DEFAULT_ESTATE,
    disk: DiskOption = None,
    protect: Annotated[
        bool, typer.Option("--protect", help="Protect the machines of the first pairing too.")
    ] = False,
    lab: FolderOption = LAB_FOLDER,
) -> None:
    """Build the estate and leave it running once every provider is connected."""
    from lab.story_commands import raise_estate  # noqa: PLC0415 -- as in `run`

    _run(lab, raise_estate(Layout.at(lab), estate.absolute(), disk, protects=protect))


@application.command("down")
def down_command(lab: FolderOption = LAB_FOLDER) -> None:
    """Stop the estate."""
    _run(lab, lower_estate(Layout.at(lab)))


@application.command("status")
def status_command(lab: FolderOption = LAB_FOLDER) -> None:
    """Show what runs; exit 1 when something does not."""

    async def show() -> bool:
        return show_status(Layout.at(lab))

    raise typer.Exit(0 if _run(lab, show()) else RED_EXIT_CODE)


@application.command("kill")
def kill_command(
    process: ProcessArgument,
    number: Annotated[str, typer.Option("--signal", help="Number or name.")] = "9",
    lab: FolderOption = LAB_FOLDER,
) -> None:
    """Signal one process; 9 takes all that it started with it."""

    async def kill() -> None:
        await kill_process(Layout.at(lab), process, signal_named(number))

    _run(lab, kill())


@application.command("start")
def start_command(process: ProcessArgument, lab: FolderOption = LAB_FOLDER) -> None:
    """Start one process again."""
    _run(lab, start_process(Layout.at(lab), process))


@application.command("line")
def line_command(
    site: Annotated[str, typer.Argument(help="Name of a site of the estate, or all.")],
    does: Annotated[LineDoes, typer.Argument(help="cut or heal.")],
    carries: Annotated[
        list[Carried] | None,
        typer.Option("--carries", help="https or mqtt alone; both without it."),
    ] = None,
    lab: FolderOption = LAB_FOLDER,
) -> None:
    """Cut a site off from its hub, or heal its line; an estate with `lines: relayed` can."""
    order = LineOrder(site=site, does=does, carries=frozenset(carries or Carried))
    _run(lab, change_line(Layout.at(lab), order))


@estates.command("check")
def check_command(file: Annotated[Path, typer.Argument(help="The estate file.")]) -> None:
    """Say whether an estate file is valid, and what is wrong with it."""
    try:
        estate = load_estate(file)
    except ProgramError as error:
        raise typer.Exit(report_failure(error)) from error
    machines = sum(len(site.machines) for site in estate.sites)
    typer.echo(f"{file}: valid ({len(estate.sites)} sites, {machines} machines)")


def _run(lab: Path, work: Coroutine[Any, Any, Any], ends_with: int | None = None) -> Any:
    """Run a command to its end; a signal, or the end of an ancestor, cancels and unwinds it."""
    configure_logging(LogSettings(file=Layout.at(lab).log_of_lab, level="warning"), "lab")
    received: list[signal.Signals] = []
    try:
        with asyncio.Runner() as runner:
            return runner.run(_cancellable(work, ends_with, received))
    except asyncio.CancelledError:
        raise typer.Exit(128 + (received or [signal.SIGTERM])[0]) from None
    except (Exception, BaseExceptionGroup) as error:
        raise typer.Exit(report_failure(error)) from error
    finally:
        flush_logs()


async def _cancellable(
    work: Coroutine[Any, Any, Any], ends_with: int | None, received: list[signal.Signals]
) -> Any:
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    if task is None:
        raise ProgramError("the lab runs in no task; start it by its command line")

    def cancel(number: signal.Signals) -> None:
        received.append(number)
        task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, cancel, number)
    if ends_with is None:
        return await work
    try:
        descriptor = _descriptor_of_ancestor(ends_with)
    except ProgramError:
        work.close()
        raise

    def ancestor_ended() -> None:
        loop.remove_reader(descriptor)
        cancel(signal.SIGTERM)

    loop.add_reader(descriptor, ancestor_ended)
    try:
        return await work
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


def _descriptor_of_ancestor(pid: int) -> int:
    """Return a descriptor that becomes readable when the ancestor ends, however it ends."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        raise ProgramError(f"the process {pid} that this lab ends with has ended") from None
    # The number may have gone to a stranger meanwhile: only an ancestor is the one meant.
    ancestor = os.getpid()
    for _ in range(ANCESTORS_MAX):
        facts = process_facts(ancestor)
        if facts is None or facts.parent == 0:
            break
        if facts.parent == pid:
            return descriptor
        ancestor = facts.parent
    os.close(descriptor)
    raise ProgramError(f"process {pid} is no ancestor of this lab; start it through make")
