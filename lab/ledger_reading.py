"""The ledger as the lab alone reads it: entries per machine, and what they contradict.

Format: one JSON object per line (vmm_simulator.guest.frames). A line without its end was never
acknowledged (the ledger was killed while it wrote) and does not count.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from service_shell.errors import ProgramError
from vmm_simulator.guest.frames import FrameError, LedgerEntry, parse_entry


class LedgerDamagedError(ProgramError):
    """The ledger holds a line that no guest wrote."""


def parse_ledger(content: bytes) -> Mapping[str, Sequence[LedgerEntry]]:
    """Return the entries per machine in order of their arrival, each entry once.

    An entry may stand twice: a guest sends it again when the acknowledgement was lost.
    """
    entries: dict[str, dict[LedgerEntry, None]] = {}
    lines = content.split(b"\n")
    for number, line in enumerate(lines[:-1], start=1):
        try:
            entry = parse_entry(line)
        except FrameError as error:
            raise LedgerDamagedError(f"line {number} of the ledger is damaged: {error}") from None
        entries.setdefault(entry.machine_id, {})[entry] = None
    return {machine_id: tuple(found) for machine_id, found in entries.items()}


def read_ledger(path: Path) -> Mapping[str, Sequence[LedgerEntry]]:
    """Return the entries per machine (its hyperv id); none where no ledger was begun."""
    try:
        return parse_ledger(path.read_bytes())
    except FileNotFoundError:
        return {}
