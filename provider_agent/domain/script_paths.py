r"""Where a script of a recovery plan lies in the library, as its plan names it; pure.

Plans name scripts as the original does (behaviour.md, 2.7): a path below the library share, such as
`\RPScripts\check.py`, or one that begins with the share itself, `\\vmm\MSCVMMLibrary\...`.
Slashes of both kinds are the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

SEGMENTS_MAX: Final = 32


class ScriptPathError(ValueError):
    """The text names no file of a library share; the message says why."""


@dataclass(frozen=True, slots=True)
class ScriptPlace:
    """A file of the library: `share` is the one that the path begins with, None for any."""

    share: str | None
    path: PurePosixPath


def script_place(text: str, shares: Sequence[str]) -> ScriptPlace:
    """Return the file that a plan's path means; `shares` are the UNC names of the library's.

    ScriptPathError for what is empty, leaves the share, or lies on no share of this library.
    """
    if not text.isprintable():
        raise ScriptPathError("it holds characters that cannot be printed")
    slashed = text.replace("\\", "/").strip()
    share = None
    if slashed.startswith("//"):
        share = _share_of(slashed, shares)
        slashed = slashed[len(share) :]
    segments = [part for part in slashed.split("/") if part]
    if not segments:
        raise ScriptPathError("it names no file")
    if len(segments) > SEGMENTS_MAX:
        raise ScriptPathError(f"it is deeper than {SEGMENTS_MAX} folders")
    if any(part in {".", ".."} for part in segments):
        raise ScriptPathError("it leaves the library share ('..'): name a file below the share")
    if ":" in segments[0]:
        raise ScriptPathError("it names a drive: name a file below the library share")
    return ScriptPlace(share, PurePosixPath(*segments))


def _share_of(slashed: str, shares: Sequence[str]) -> str:
    for share in shares:
        name = share.replace("\\", "/").rstrip("/")
        if slashed.lower().startswith(f"{name.lower()}/"):
            return name
    known = ", ".join(shares) or "none"
    raise ScriptPathError(f"it lies on no share of this server's library (there is: {known})")


def same_share(unc: str, share: str | None) -> bool:
    """Return whether a library share is the one that a path begins with, or it names none."""
    return share is None or unc.replace("\\", "/").rstrip("/").lower() == share.lower()
