"""What the lab's quick commands do: look at an estate, signal and start its processes, end it."""

import contextlib
import os
import signal
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

from lab.estate_record import load_record, need_record, save_record
from lab.layout import Layout
from lab.operator_file import load_operator_file, save_operator_file
from lab.process_table import ProcessRecord, family, send
from lab.processes import STOP_SECONDS_MAX, Launcher, ProcessPlan, exclusive
from lab.teardown import end_estate, remove_disks
from lab.waiting import wait_for
from service_shell.errors import ProgramError

WHOLE_SESSION: Final = frozenset({signal.SIGKILL, signal.SIGSTOP, signal.SIGCONT})
"""Signals that must reach a simulator's guests too, as when the machine itself fails."""

ENDING: Final = frozenset({signal.SIGKILL, signal.SIGTERM, signal.SIGINT})


async def lower_estate(layout: Layout) -> None:
    """Stop the estate that runs here, if one does."""
    with exclusive(layout):
        count = await end_estate(layout, Launcher(layout, bound=False), load_record(layout))
        remove_disks(layout)
    _say(f"stopped {count} processes" if count else "no estate was running")


def show_status(layout: Layout) -> bool:
    """Print the processes of the estate; True when all of them run."""
    record = need_record(layout)
    table = Table(title=f"{record.phase}: {record.estate_file}, network {record.prefix}.0/24")
    for heading in ("process", "pid", "state", "with it", "log"):
        table.add_column(heading, overflow="fold")
    for process in record.processes.values():
        with_it = len(family(process.pid)) - 1 if process.alive else 0
        table.add_row(
            process.name, str(process.pid), _state(process), str(max(0, with_it)), process.log
        )
    Console().print(table)
    return all(process.alive for process in record.processes.values())


async def kill_process(layout: Layout, name: str, number: signal.Signals) -> None:
    """Signal one process of the estate; return when it has ended, where the signal ends it."""
    with exclusive(layout):
        process = need_record(layout).process(name)
        if not process.alive:
            raise ProgramError(f"{name} does not run; start it with: make lab-start PROCESS={name}")
        if number is signal.SIGKILL:
            await Launcher(layout, bound=False).kill(process.pid)
        else:
            members = [facts.pid for facts in family(process.pid)]
            send(members if number in WHOLE_SESSION else [process.pid], number)
        if number in ENDING:

            async def ended() -> bool | None:
                return None if process.alive else True

            await wait_for(f"{name} to end after {number.name}", ended, 3 * STOP_SECONDS_MAX)
    _say(f"{name} (pid {process.pid}): {number.name} sent")


async def start_process(layout: Layout, name: str) -> None:
    """Start a process of the estate again and write its new pid where others read it."""
    with exclusive(layout):
        record = need_record(layout)
        old = record.process(name)
        if old.alive:
            raise ProgramError(f"{name} runs already (pid {old.pid})")
        if name == "keeper":
            raise ProgramError(
                "the keeper holds the estate's network and cannot be started alone;"
                " start anew with: make lab-down lab-up"
            )
        launcher = Launcher(layout, bound=False)
        plan = ProcessPlan(name, old.command, Path(old.config), Path(old.ready_file))
        process = launcher.start(plan)
        save_record(layout, record.with_process(process))
        await launcher.wait_ready(process)
        if layout.operator_file.exists():
            content = load_operator_file(layout.operator_file)
            save_operator_file(layout, content.with_process(process))
    _say(f"{name} runs (pid {process.pid})")


def signal_named(text: str) -> signal.Signals:
    """Return the signal of a number or a name, as kill(1) takes them."""
    with contextlib.suppress(ValueError):
        return signal.Signals(int(text))
    with contextlib.suppress(KeyError):
        return signal.Signals[f"SIG{text.upper().removeprefix('SIG')}"]
    raise ProgramError(f"there is no signal {text!r}; name one like 9, KILL or TERM")


def _say(text: str) -> None:
    Console(highlight=False).print(f"    {text}")


def _state(process: ProcessRecord) -> str:
    if not process.alive:
        return "ended"
    return "ready" if os.path.exists(process.ready_file) else "not ready"  # noqa: PTH110 -- one look
