"""Which processes are ours: told by pid and start time, and by a mark in their environment.

A pid alone may belong to a stranger tomorrow; with its start time (and the boot it counts from) it
cannot. Guests are started by simulators, so they are found by the mark that all descendants carry.
"""

import os
import signal
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict

MARK: Final = "SITE_RECOVERY_LAB"
PROC: Final = Path("/proc")
ENVIRONMENT_BYTES_MAX: Final = 262_144


class ProcessRecord(BaseModel):
    """One process as it was started; `command` starts it again."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    pid: int
    start_ticks: int
    boot_id: str
    command: tuple[str, ...]
    config: str
    log: str
    ready_file: str

    @property
    def alive(self) -> bool:
        """Whether exactly this process still runs; a zombie does not."""
        facts = process_facts(self.pid)
        return (
            facts is not None
            and facts.start_ticks == self.start_ticks
            and facts.state not in ("Z", "X")
            and boot_id() == self.boot_id
        )


@dataclass(frozen=True, slots=True)
class ProcessFacts:
    """What /proc/PID/stat says."""

    pid: int
    state: str
    parent: int
    session: int
    start_ticks: int


def boot_id() -> str:
    """Return the id of this boot; start times count from it."""
    return (PROC / "sys/kernel/random/boot_id").read_text().strip()


def process_facts(pid: int) -> ProcessFacts | None:
    """Return the facts of a process, None when there is none of that number."""
    try:
        text = (PROC / str(pid) / "stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The second field is the name in parentheses and may hold anything; the rest is plain.
    fields = text[text.rindex(")") + 2 :].split()
    return ProcessFacts(
        pid=pid,
        state=fields[0],
        parent=int(fields[1]),
        session=int(fields[3]),
        start_ticks=int(fields[19]),
    )


def all_processes() -> Iterator[ProcessFacts]:
    """Yield every process of the machine."""
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            facts = process_facts(int(entry.name))
            if facts is not None:
                yield facts


def living_processes() -> list[ProcessFacts]:
    """Return every process of the machine that has not ended (a zombie has)."""
    return [facts for facts in all_processes() if facts.state not in ("Z", "X")]


def family(pid: int) -> list[ProcessFacts]:
    """Return the living processes of a daemon: itself, its session, and all descendants."""
    living = living_processes()
    found = {facts.pid for facts in living if pid in (facts.pid, facts.session)}
    grown = True
    while grown:
        further = {facts.pid for facts in living if facts.parent in found or facts.session in found}
        grown = not further <= found
        found |= further
    return [facts for facts in living if facts.pid in found]


def still_living(processes: Iterable[ProcessFacts]) -> list[int]:
    """Return the pids of those that have not ended; a successor of the same number is another."""
    wanted = {(facts.pid, facts.start_ticks) for facts in processes}
    return [facts.pid for facts in living_processes() if (facts.pid, facts.start_ticks) in wanted]


def marked_processes(root: Path) -> list[int]:
    """Return the living processes that were started, by whomever, for the lab in `root`."""
    wanted = f"{MARK}={root}".encode()
    found = []
    for facts in all_processes():
        if facts.state in ("Z", "X") or facts.pid == os.getpid():
            continue
        try:
            with (PROC / str(facts.pid) / "environ").open("rb") as stream:
                environment = stream.read(ENVIRONMENT_BYTES_MAX)
        except OSError:
            continue  # another user's process, or one that has just ended: not ours to touch
        if wanted in environment.split(b"\0"):
            found.append(facts.pid)
    return found


def send(pids: Iterable[int], number: signal.Signals) -> None:
    """Signal processes; one that has ended meanwhile is what we wanted."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue
