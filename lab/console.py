"""What a person sees: steps, tasks, progress bars and the final table."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from azure.mgmt.recoveryservicessiterecovery import models
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn
from rich.table import Table

from lab.operator_client import TaskListener, task_seconds
from lab.report import OperationFigures

MARKS: Final = {"Succeeded": "[green]✓[/green]", "Failed": "[red]✗[/red]", "Other": "[dim]-[/dim]"}
NAME_WIDTH: Final = 8
TASK_WIDTH: Final = 52


class StoryConsole:
    """Prints the story as it happens."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False, soft_wrap=True)

    def step(self, number: int, title: str) -> None:
        """Begin a step of the story."""
        self.console.print(f"\n[bold cyan]{number:2}. {title}[/bold cyan]")

    def say(self, text: str) -> None:
        """Tell something that happened."""
        self.console.print(f"    {text}")

    def wait(self, text: str) -> None:
        """Tell what is waited for, before the wait."""
        self.console.print(f"    [dim]… waiting: {text}[/dim]")

    def problem(self, text: str) -> None:
        """Tell what went wrong."""
        self.console.print(f"    [bold red]✗ {text}[/bold red]")

    def tasks_of(self, subject: str) -> TaskListener:
        """Return a listener that prints one line per job task, with its time."""

        def tell(task: models.ASRTask) -> None:
            mark = MARKS.get(task.state or "", "?")
            seconds = task_seconds(task)
            time = "skipped" if task.state == "Other" else ""
            if seconds is not None:
                time = f"{seconds:7.2f} s"
            name = task.friendly_name or task.name or ""
            self.console.print(f"    {mark} {subject:{NAME_WIDTH}} {name:{TASK_WIDTH}} {time}")

        return tell

    @contextmanager
    def progress(self, names: Sequence[str]) -> Iterator["ReplicationBars"]:
        """Show one bar per machine for as long as the block runs."""
        columns = (
            TextColumn("    {task.description:8}"),
            BarColumn(bar_width=36),
            TaskProgressColumn(),
            TextColumn("{task.fields[state]}"),
        )
        with Progress(*columns, console=self.console, refresh_per_second=5) as bars:
            yield ReplicationBars(bars, names)

    def table(self, operations: Sequence[OperationFigures]) -> None:
        """Print the figures of all operations."""
        table = Table(title="What was measured", title_justify="left")
        for heading in ("operation", "VM", "seconds", "lost", "newest", "bytes"):
            table.add_column(heading, justify="left" if heading in ("operation", "VM") else "right")
        table.add_column("files", justify="right")
        for each in operations:
            age = each.newest_record_age_s
            table.add_row(
                each.operation.replace("_", " "),
                each.vm,
                f"{each.seconds:.2f}",
                _shown(each.records_lost),
                "-" if age is None else f"{age:.2f} s old",
                _verdict(each.bytes_equal, "equal", "DIFFER"),
                _verdict(each.filesystem_clean, "clean", "DAMAGED"),
            )
        self.console.print()
        self.console.print(table)


class ReplicationBars:
    """Progress of initial replication, one bar per machine."""

    def __init__(self, bars: Progress, names: Sequence[str]) -> None:
        self._bars = bars
        self._ids: dict[str, TaskID] = {
            name: bars.add_task(name, total=100.0, state="waiting") for name in names
        }

    def show(self, name: str, percent: float, state: str) -> None:
        """Set one machine's bar."""
        self._bars.update(self._ids[name], completed=percent, state=state)


def _shown(value: object) -> str:
    return "-" if value is None else str(value)


def _verdict(value: bool | None, good: str, bad: str) -> str:  # noqa: FBT001 -- the value is the datum
    if value is None:
        return "-"
    return f"[green]{good}[/green]" if value else f"[bold red]{bad}[/bold red]"
