"""The one error that ends a program with a sentence instead of a traceback."""

from typing import Final

FAILURE_EXIT_CODE: Final = 1
INTERNAL_ERROR_EXIT_CODE: Final = 70
"""EX_SOFTWARE of sysexits.h: our own mistake, to be found in the log."""

INTERRUPTED_EXIT_CODE: Final = 130
"""What shells expect of a program that Ctrl-C ended: 128 + SIGINT."""


class ProgramError(Exception):
    """What an operator can mend: its message is one line that names the cause and the remedy."""

    def __init__(self, message: str, *, exit_code: int = FAILURE_EXIT_CODE) -> None:
        # Messages of the system and of parsers may hold line ends; the operator gets one line.
        super().__init__(" ".join(message.split()))
        self.exit_code = exit_code


def program_error_in(error: BaseException) -> ProgramError | None:
    """Return the ProgramError that alone explains `error`, also out of nested task groups.

    A group that also holds an unexpected error is not explained by its ProgramError.
    """
    if isinstance(error, ProgramError):
        return error
    if isinstance(error, BaseExceptionGroup) and error.exceptions:
        found = [program_error_in(each) for each in error.exceptions]
        return found[0] if all(each is not None for each in found) else None
    return None


def first_cause(error: BaseException) -> BaseException:
    """Return what a task group's error is about: the first error that is not itself a group."""
    while isinstance(error, BaseExceptionGroup) and error.exceptions:
        error = error.exceptions[0]
    return error
