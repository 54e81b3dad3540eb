"""What is wrong with a journal, in words for the operator."""

from pathlib import Path

from service_shell.errors import ProgramError


class JournalError(ProgramError):
    """The journal cannot be used; the message names the file, the cause and the remedy."""


def unusable(path: Path, cause: str) -> JournalError:
    """Return the error for what the database library said about the file."""
    if "locked" in cause:
        return JournalError(
            f"the journal {path} is in use by another process; end the other provider-agent"
        )
    if "full" in cause or "disk I/O" in cause:
        return JournalError(f"cannot write the journal {path}: {cause}; free space on its disk")
    if "readonly" in cause or "unable to open" in cause:
        return JournalError(
            f"cannot write the journal {path}: {cause}; make its disk and folder writable"
        )
    return JournalError(
        f"the journal {path} is damaged ({cause}); move it away and start again:"
        " the hub then opens a new event stream and nothing is done twice"
    )
