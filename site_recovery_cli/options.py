"""Options that several commands share, spelt once."""

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

import typer

from site_recovery_cli.output import Format

PROFILE_VARIABLE: Final = "SITE_RECOVERY_PROFILE"
WAIT_SECONDS: Final = 3600.0

ResultT = TypeVar("ResultT")

ProfileName = Annotated[
    str | None,
    typer.Option(
        "--profile", "-p", envvar=PROFILE_VARIABLE, help="Which hub; by default 'default'."
    ),
]
VaultName = Annotated[
    str | None, typer.Option("--vault", "-v", help="The vault; by default the profile's.")
]
OutputFormat = Annotated[Format, typer.Option("--output", "-o", help="How to print the result.")]
Wait = Annotated[bool, typer.Option("--wait", help="Follow the job to its end, showing each task.")]
WaitSeconds = Annotated[
    float, typer.Option("--wait-seconds", min=1.0, help="Longest that --wait waits.")
]
JobArgument = Annotated[str, typer.Argument(help="The job's id.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
FileOption = Annotated[Path, typer.Option(dir_okay=False)]


def run(work: Coroutine[Any, Any, ResultT]) -> ResultT:
    """Run a command's work to its end."""
    return asyncio.run(work)


def confirm(question: str, *, yes: bool) -> None:
    """Ask before something is taken away; --yes answers."""
    if not yes:
        typer.confirm(question, abort=True, err=True)
