"""What every command that begins a job is given: where, for how long it waits, whether it asks.

A command takes them as one value; the options on the command line are spelt here alone.
"""

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from site_recovery_cli.options import (
    WAIT_SECONDS,
    ProfileName,
    VaultName,
    Wait,
    WaitSeconds,
    Yes,
    confirm,
)

Command = Callable[..., None]

GIVEN: Final = "given"
"""The parameter of a command that takes them."""


@dataclass(frozen=True, slots=True)
class JobOptions:
    """What was given on the command line; `wait_seconds` is None where it does not wait."""

    vault: str | None = None
    profile: str | None = None
    wait_seconds: float | None = None
    yes: bool = True

    def confirm(self, question: str) -> None:
        """Ask before something is taken away, unless --yes answers."""
        confirm(question, yes=self.yes)


def _given(
    *,
    vault: VaultName = None,
    wait: Wait = False,
    wait_seconds: WaitSeconds = WAIT_SECONDS,
    profile: ProfileName = None,
) -> JobOptions:
    return JobOptions(vault, profile, wait_seconds if wait else None)


def _given_asking(
    *,
    vault: VaultName = None,
    wait: Wait = False,
    wait_seconds: WaitSeconds = WAIT_SECONDS,
    yes: Yes = False,
    profile: ProfileName = None,
) -> JobOptions:
    return JobOptions(vault, profile, wait_seconds if wait else None, yes)


def with_job_options(command: Command) -> Command:
    """Have a command take --vault, --wait, --wait-seconds and --profile as `given`."""
    return _with(command, _given)


def asking_with_job_options(command: Command) -> Command:
    """Have a command take the same and --yes: it takes something away, and asks first."""
    return _with(command, _given_asking)


def _with(command: Command, options: Callable[..., JobOptions]) -> Command:
    own = inspect.signature(command)
    shared = inspect.signature(options).parameters

    @functools.wraps(command)
    def run(**arguments: Any) -> None:
        given = options(**{name: arguments.pop(name) for name in shared})
        command(**arguments, **{GIVEN: given})

    kept = [each for name, each in own.parameters.items() if name != GIVEN]
    assert len(kept) < len(own.parameters), f"{command.__name__} takes no {GIVEN}"
    # Typer makes the command line from the signature (PEP 362).
    signature = own.replace(parameters=[*kept, *shared.values()])
    vars(run)["__signature__"] = signature
    return run
